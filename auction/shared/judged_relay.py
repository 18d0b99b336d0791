"""Tells the judged rows of owners that are away - stopped, dead, or retired for good - from the copies of the others.

Of the servers that are there, the one whose copy goes furthest stands in for the owner, as far as anybody lacks rows;
among equals the one with the lowest id. Each works that out for itself from what all say of their copies. Where two
believe that it is them, or the owner comes back meanwhile, nothing is lost: all write the same rows, and an addition
to a stream that somebody else has just written to is refused.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping

import numpy as np

from auction.shared.judged_redis import JudgedPublisher, told_positions
from pacing.ledger.copies import Copies, JudgedCopy
from pacing.ledger.errors import LedgerDamaged
from pacing.redis_link import RedisLink

logger = logging.getLogger(__name__)


class JudgedRelay:
    """Passes on what this server has copied. One thread at a time."""

    def __init__(self, copies: Copies, link: RedisLink, owner_id: int, monotonic_ms: Callable[[], int]) -> None:
        self._copies = copies
        self._link = link
        self._owner_id = owner_id
        self._monotonic_ms = monotonic_ms
        self._damaged: set[int] = set()

    def step(self, present: Collection[int]) -> int:
        """Tell the next rows of owners that are not `present` to servers that are; answers how many were written.

        Raises:
            RedisUnavailable: any of it may have been written; the next step sees what was.
        """
        away = [origin_id for origin_id in self._copies.origins() if origin_id not in present]
        count = 0
        for origin_id, told in told_positions(self._link, away).items():
            positions = {consumer: position for consumer, position in told.items() if consumer in present}
            if self._stands_in(self._copies.of(origin_id).judged_sequence, positions):
                count += self._tell(origin_id, positions)
        return count

    def _stands_in(self, own_position: int, positions: Mapping[int, int]) -> bool:
        """Whether somebody lacks rows, and nobody is to tell them rather than this server."""
        own_rank = own_position, -self._owner_id
        is_first = all((position, -consumer) <= own_rank for consumer, position in positions.items())
        return is_first and any(position < own_position for position in positions.values())

    def _tell(self, origin_id: int, positions: Mapping[int, int]) -> int:
        copy = _AsItsOwner(self._copies.of(origin_id))
        try:
            return JudgedPublisher(copy, self._link, origin_id, self._monotonic_ms).tell(positions)
        except LedgerDamaged as damage:
            if origin_id not in self._damaged:
                logger.error("%s; not told to servers that lack these rows", damage)
            self._damaged.add(origin_id)
            return 0


class _AsItsOwner:
    """A copy, as the ledger that it is one of."""

    def __init__(self, copy: JudgedCopy) -> None:
        self._copy = copy

    @property
    def judged_sequence(self) -> int:
        """How far the copy goes."""
        return self._copy.judged_sequence

    def read_judged(self, after: int, limit: int) -> tuple[np.ndarray, np.ndarray]:
        """Up to `limit` rows behind sequence `after`, as OUTCOME[n] and JUDGEMENT[n], as the owner has them."""
        return self._copy.read_as_told(after, limit)
