"""Events in: what fans did on the platform, pulled by cursor and appended to the ledger as facts."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt

from fanbridge.delivery import Delivery
from fanbridge.events import EVENT_KINDS, FanServicePort, Rows
from fanbridge.feed import checked_limit, pull_pages
from pacing.facts import OUTCOME, OutcomeKind

_log = logging.getLogger(__name__)


class FollowWriter(Protocol):
    """Where follows live."""

    def put(self, follower_ids: npt.NDArray[np.uint64], followed_ids: npt.NDArray[np.uint64]) -> object:
        """Add follows; known ones stay."""

    def remove(self, follower_ids: npt.NDArray[np.uint64], followed_ids: npt.NDArray[np.uint64]) -> object:
        """Remove follows; unknown ones are no error."""


AppendFacts = Callable[[Rows], int]
"""append(rows): make OUTCOME[n] durable, leaving out facts (viewer, creator, kind, instant) that were told before."""


class EventFeed:
    """Appends what fans did on the platform to the ledger. One thread ticks.

    The cursor moves once a page is durable. After a crash, or when the service repeats itself, events come again; the
    ledger keeps each fact once. Follows and unfollows go to `follows` as well, when there is one.
    """

    def __init__(
        self,
        service: FanServicePort,
        delivery: Delivery,
        append: AppendFacts,
        follows: FollowWriter | None = None,
        limit: int = 2_000,
    ) -> None:
        self._service = service
        self._delivery = delivery
        self._append = append
        self._follows = follows
        self._limit = checked_limit(limit)
        self._appended = 0

    @property
    def appended(self) -> int:
        """How many events were handed to the ledger since construction."""
        return self._appended

    def tick(self, now_ms: int, max_pages: int = 4) -> None:
        """Pull and append what is new, within bounds.

        Raises:
            FanServiceUnavailable, FanServiceRefused: what was pulled before is appended and saved.
        """
        for page in pull_pages(self._service.pull_events, self._delivery, "events", self._limit, max_pages):
            self._take(facts_of(page.rows[_known(page.rows)], now_ms))
            self._delivery.save_cursor("events", page.next_cursor)

    def _take(self, facts: Rows) -> None:
        if not len(facts):
            return
        self._append(facts)
        if self._follows is not None:
            write_follows(self._follows, facts)
        self._appended += len(facts)


def facts_of(events: Rows, now_ms: int) -> Rows:
    """FAN_EVENT[n] as OUTCOME[n] without tokens, recorded now."""
    facts = np.zeros(len(events), dtype=OUTCOME)
    for field in ("kind", "viewer_id", "creator_id", "occurred_at_ms"):
        facts[field] = events[field]
    facts["recorded_at_ms"] = now_ms
    return facts


def write_follows(follows: FollowWriter, facts: Rows) -> None:
    """Write the FOLLOW and UNFOLLOW rows among OUTCOME[n] into the graph; the last word on a pair counts."""
    told = facts[np.isin(facts["kind"], (OutcomeKind.FOLLOW, OutcomeKind.UNFOLLOW))]
    if not len(told):
        return
    _, last = np.unique(told[["viewer_id", "creator_id"]][::-1], return_index=True)
    told = told[np.sort(len(told) - 1 - last)]
    now_following = told["kind"] == OutcomeKind.FOLLOW
    for write, some in ((follows.put, told[now_following]), (follows.remove, told[~now_following])):
        if len(some):
            write(some["viewer_id"].copy(), some["creator_id"].copy())


def _known(events: Rows) -> npt.NDArray[np.bool_]:
    """Which events make sense as facts; what does not is passed over."""
    known: npt.NDArray[np.bool_] = (
        np.isin(events["kind"], sorted(EVENT_KINDS))
        & (events["viewer_id"] >= 1)
        & (events["creator_id"] >= 1)
        & (events["occurred_at_ms"] >= 1)
    )
    if not known.all():
        _log.warning("%d events make no sense and are passed over", int((~known).sum()))
    return known
