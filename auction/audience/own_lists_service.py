"""What a creator may do with lists of viewers: in names of their own, so many, so large, and so often."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Set
from typing import Protocol

import grpc
import numpy as np
from pyroaring import BitMap

from auction.campaigns.access import Forbidden, Principal, Role
from auction.campaigns.limits import RateLimited
from auction.status import Refused
from targeting.expressions import check_segment_name
from targeting.naming import creator_of, nameable
from targeting.own_lists import OWN_PREFIX, check_large_enough, is_too_small, own_prefix, own_segment, owner_of
from targeting.segments.store import Change, SegmentStore
from targeting.viewers import ViewerTable

MAX_LISTS = 50
"""Lists with members, lookalikes included, that a creator may have."""
MAX_NAMES = 1_000
"""Names that a creator may ever use: a segment's number is given for good."""
MAX_MEMBERS = 2_000_000
MAX_IDS_A_DAY = 20_000_000
"""Ids that a creator may put in a day: each is written to the journal."""
LEAST_IDS = 1_000
"""A change counts as so many ids at least."""
LOOKALIKE_IDS = 1_000_000
"""A lookalike counts as so many: one is made at a time, for all creators."""
_S_PER_DAY = 86_400.0


class OwnListStores(Protocol):
    """Where viewers and segments live."""

    viewers: ViewerTable
    segments: SegmentStore


class OwnLists:
    """Says what callers may do with creators' lists; operators may do anything. Any thread may call.

    A creator's lists are the segments `own:CREATOR_ID:NAME`; with a creator's token a plain NAME means that, too.
    """

    def __init__(
        self,
        stores: OwnListStores,
        clock_s: Callable[[], float] = time.monotonic,
        lookalikes: Set[str] = frozenset(),
        is_being_made: Callable[[str], bool] = lambda _: False,
    ) -> None:
        """Look after the lists in these stores.

        Args:
            lookalikes: names those segments that are some, now.
            is_being_made: whether a lookalike is being made that will replace the segment.
        """
        self._is_being_made = is_being_made
        self._stores = stores
        self._lookalikes = lookalikes
        self._clock_s = clock_s
        self._lock = threading.Lock()
        self._names: dict[int, set[str]] = {}
        self._full_at_s: dict[int, float] = {}

    def segment_for(self, principal: Principal, segment_id: str) -> str:
        """The segment that a caller means.

        Raises:
            ValueError: nothing can be called so.
            Forbidden: it is no list of this creator, whether there is such a segment or not.
        """
        check_segment_name(segment_id)
        if principal.role is not Role.CREATOR:
            if segment_id.startswith(OWN_PREFIX) and not owner_of(segment_id):
                raise ValueError(f"segment_id {segment_id!r}: must read {OWN_PREFIX}CREATOR_ID:NAME")
            return segment_id
        if ":" not in segment_id:
            return own_segment(principal.creator_id, segment_id)
        if owner_of(segment_id) != principal.creator_id:
            raise Forbidden(
                f"segment_id {segment_id!r}: a creator's token opens this creator's own lists only, which are called "
                f"by plain names or {own_prefix(principal.creator_id)}NAME"
            )
        return segment_id

    def seeds_for(self, principal: Principal, segment_id: str) -> str:
        """The segment whose members a caller wants to be seeds: a creator's own tiers, stages and members may be, too.

        Raises:
            ValueError: nothing can be called so.
            Forbidden: it is not of this creator, whether there is such a segment or not.
        """
        if principal.role is Role.CREATOR and ":" in segment_id:
            if creator_of(check_segment_name(segment_id)) != principal.creator_id:
                raise Forbidden(
                    f"seed_segment_id {segment_id!r}: a creator's token may name this creator's own, which are "
                    f"{nameable(principal.creator_id)}, or a list by its plain name"
                )
            return segment_id
        return self.segment_for(principal, segment_id)

    def note(self, segment_id: str) -> None:
        """Remember a segment that was put, if it is a creator's list."""
        creator_id = owner_of(segment_id)
        if creator_id:
            with self._lock:
                self._names.setdefault(creator_id, set()).add(segment_id)

    def names_of(self, creator_id: int) -> set[str]:
        """The segments of a creator's lists, emptied ones included."""
        with self._lock:
            return set(self._names.get(creator_id, ()))

    def check_room(self, principal: Principal, segment_id: str) -> None:
        """See to it that a creator may have this list.

        Raises:
            Refused: RESOURCE_EXHAUSTED: the creator has as many lists as one may have.
        """
        if principal.role is not Role.CREATOR or self._stores.segments.members(segment_id):
            return
        names = self.names_of(principal.creator_id)
        held = sum(1 for name in names if self._stores.segments.members(name))
        if held >= MAX_LISTS:
            raise _exhausted(f"segment_id {segment_id!r}: there are {held} lists; at most {MAX_LISTS}, empty one first")
        if segment_id not in names and len(names) >= MAX_NAMES:
            raise _exhausted(
                f"segment_id {segment_id!r}: {len(names)} names were used for lists; at most {MAX_NAMES}, use one again"
            )

    def admit(self, principal: Principal, segment_id: str, ids: np.ndarray, change: int) -> np.ndarray:
        """The ids (u8[n]) that a change puts: of a creator's, those of viewers who are known already.

        *Why:* whom a creator names becomes no viewer by that, or reach and memory would be anybody's to inflate. And a
        lookalike is changed as a whole only: adding one viewer would tell by the members whether it was one already.
        Nor may a list become small by what is taken out: campaigns that are aimed at it would go on for those few.

        Raises:
            ValueError: the list would be too large, or too small to be used, or a lookalike would be changed in part.
            Refused: FAILED_PRECONDITION: a lookalike is being made that will replace the segment, whoever asks.
                RESOURCE_EXHAUSTED: the creator has as many lists as one may have.
            RateLimited: the creator has put as many ids as one may put in a day.
        """
        if self._is_being_made(segment_id):
            message = f"segment_id {segment_id!r}: a lookalike is being made that will replace it; try again when it is"
            raise Refused(grpc.StatusCode.FAILED_PRECONDITION, message, "segment_id")
        if principal.role is not Role.CREATOR:
            return ids
        if change != Change.REPLACE and segment_id in self._lookalikes:
            raise ValueError(f"change {int(change)}: {segment_id!r} is a lookalike; a creator may only replace it (1)")
        self.check_room(principal, segment_id)
        rows = self._stores.viewers.rows_of(ids)
        added = BitMap(rows[rows >= 0].astype(np.uint32))
        before = self._stores.segments.members(segment_id)
        members = before.union_cardinality(added) if change == Change.ADD else len(added)
        if change != Change.REMOVE and max(members, len(ids)) > MAX_MEMBERS:
            raise ValueError(f"viewer_ids: {max(members, len(ids))} members of a list; at most {MAX_MEMBERS}")
        if change != Change.REMOVE and len(ids):
            check_large_enough("viewer_ids: nothing was taken into", segment_id, members)
        left = before.difference_cardinality(added)
        if change == Change.REMOVE and is_too_small(left) and left < len(before):
            raise ValueError(
                f"viewer_ids: {left} members of {segment_id!r} would be left, too few to be used; replace it (1), also "
                f"by nobody"
            )
        self.spend(principal, max(len(ids), LEAST_IDS))
        return np.asarray(ids[rows >= 0])

    def spend(self, principal: Principal, ids: int) -> None:
        """Count ids that a creator puts; negative: give them back.

        Raises:
            RateLimited: they are too many; they are not counted.
        """
        if principal.role is not Role.CREATOR:
            return
        now_s, needs_s = self._clock_s(), ids / MAX_IDS_A_DAY * _S_PER_DAY
        with self._lock:
            full_at_s = max(self._full_at_s.get(principal.creator_id, now_s), now_s) + needs_s
            wait_s = full_at_s - now_s - _S_PER_DAY
            if wait_s <= 0 or ids < 0:
                self._full_at_s[principal.creator_id] = full_at_s
                return
        raise RateLimited(
            f"viewer_ids: lists of creator {principal.creator_id} took {MAX_IDS_A_DAY} ids a day already, a change "
            f"counting as {LEAST_IDS} at least and a lookalike as {LOOKALIKE_IDS}; try again in "
            f"{math.ceil(wait_s)} seconds",
            wait_s,
        )


def _exhausted(message: str) -> Refused:
    return Refused(grpc.StatusCode.RESOURCE_EXHAUSTED, message, "segment_id")
