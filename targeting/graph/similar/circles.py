"""Who follows creators similar to a creator: a segment of each creator for whom it is wanted."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

import numpy as np
from pyroaring import BitMap

from targeting.expressions import similar_segment
from targeting.graph.edges import EdgeTable
from targeting.graph.grouping import bitmap, grouped
from targeting.graph.similar.lists import FollowsCopy, Similar
from targeting.segments.fresh import FRESH_MOST
from targeting.segments.store import Change, SegmentStore
from targeting.viewers import ViewerTable

MOST_AT_ONCE = 64
"""Segments that one batch of follows changes at once; if it concerns more, they are changed at the next `refresh`."""


@dataclass(slots=True)
class _Waiting:
    """Rows of one creator's segment that are to be changed: that belong to it now, and of which this must be seen."""

    joined: BitMap = field(default_factory=BitMap)
    doubtful: BitMap = field(default_factory=BitMap)


class SimilarCreators:
    """Lists of similar creators, and the segments of their followers, beside a follow graph whose lock it shares.

    Two clocks: the lists are made anew now and then (`renew`), a creator's swapped whole with the segment; who follows
    a listed creator, or no longer any, is told edge by edge. Any thread may call; `gained` and `lost` under the lock.
    """

    def __init__(self, edges: EdgeTable, lock: threading.Lock, viewers: ViewerTable, segments: SegmentStore) -> None:
        self._edges = edges
        self._lock = lock
        self._viewers = viewers
        self._segments = segments
        self._wanted: dict[int, int] = {}  # ids by row, of creators for whom lists are kept
        self._lists: dict[int, tuple[Similar, ...]] = {}  # by row; from the first on, the segment is in the store
        self._listing: dict[int, set[int]] = {}  # rows of creators whose lists have this row
        self._listed = np.zeros(0, np.int64)  # its keys
        self._waiting: dict[int, _Waiting] = {}  # by row of the creator
        self._since: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}  # by search that goes on: edges that changed
        self._searches = 0
        self._changes = 0
        self._renewed_at = 0
        self._stopping = False

    def want(self, creator_id: int) -> None:
        """Keep this creator's list and segment from the next `renew` on; again and again is once."""
        row = int(self._viewers.ensure(np.array([creator_id], np.uint64))[0])
        with self._lock:
            self._wanted.setdefault(row, creator_id)

    def renew(self, only_new: bool) -> None:
        """Find the similar creators of all for whom they are wanted; or only of those who have no list yet.

        Follows are copied under the lock and counted without it. Does nothing where nothing changed; `stop` ends it
        early.
        """
        with self._lock:
            creators = [row for row in self._wanted if not only_new or row not in self._lists]
            changes = self._changes
            if not creators or (not only_new and changes == self._renewed_at):
                return
            search = self._searches = self._searches + 1
            self._since[search] = []
            followers, followed = self._edges.in_order()
        try:
            ids = self._viewers.ids[: self._viewers.size]  # after the follows: whoever is in one has a row
            copy = FollowsCopy(followers, followed, ids)
            for creator, found in copy.find_similar(creators):
                if self._stopping:
                    return
                with self._lock:
                    self._swap(creator, found, copy, self._since[search])
        finally:
            with self._lock:
                del self._since[search]
        if not only_new:
            self._renewed_at = changes

    def stop(self) -> None:
        """Have every `renew` end soon."""
        self._stopping = True

    def refresh(self) -> None:
        """Change the segments that too large a batch concerned."""
        with self._lock:
            waiting = list(self._waiting)
        for creator in waiting:
            with self._lock:
                self._settle(creator)

    def similar_to(self, creator_id: int) -> list[tuple[int, int]]:
        """(creator, fans in common) of the creator's similar creators, best first, as far as they were wanted."""
        with self._lock:
            return self._told(self._lists.get(self._row_of(creator_id), ()))

    def followed_by(self, creator_id: int, viewer_id: int) -> list[tuple[int, int]]:
        """Of the creator's similar creators those whom the viewer follows: through whom the viewer is one of theirs."""
        viewer = self._row_of(viewer_id)
        with self._lock:
            followed = set(self._edges.following(viewer).tolist())
            listed = self._lists.get(self._row_of(creator_id), ())
            return self._told(one for one in listed if one.row in followed)

    def gained(self, followers: np.ndarray, followed: np.ndarray) -> None:
        """Take in edges between rows (i8[n], i8[n]) that the table has now."""
        concerned = self._concerned(followers, followed)
        for creator, rows in concerned.items():
            waiting = self._waiting.setdefault(creator, _Waiting())
            waiting.joined |= rows
            waiting.doubtful -= rows
        self._settle_few(concerned, len(followers))

    def lost(self, followers: np.ndarray, followed: np.ndarray) -> None:
        """Take in edges between rows (i8[n], i8[n]) that the table has no more."""
        concerned = self._concerned(followers, followed)
        for creator, rows in concerned.items():
            waiting = self._waiting.setdefault(creator, _Waiting())
            waiting.doubtful |= rows
            waiting.joined -= rows
        self._settle_few(concerned, len(followers))

    def _concerned(self, followers: np.ndarray, followed: np.ndarray) -> dict[int, BitMap]:
        """The rows that follow, or followed, somebody listed, by creator whose list it is."""
        self._changes += len(followers)
        for changed in self._since.values():
            changed.append((followers, followed))
        among = np.isin(followed, self._listed)
        rows_of: dict[int, BitMap] = {}
        for similar, rows in grouped(followed[among], followers[among]):
            for creator in sorted(self._listing[similar]):
                rows_of[creator] = rows_of.get(creator, BitMap()) | rows
        return rows_of

    def _settle_few(self, concerned: Collection[int], edges: int) -> None:
        if len(concerned) <= MOST_AT_ONCE and edges <= FRESH_MOST:
            for creator in concerned:
                self._settle(creator)

    def _settle(self, creator: int) -> None:
        """Bring a creator's segment up to date."""
        waiting = self._waiting.pop(creator, None)
        if waiting is None:
            return
        similar = {one.row for one in self._lists[creator]}
        follow = [row for row in waiting.doubtful if not similar.isdisjoint(self._edges.following(row).tolist())]
        joined, name = waiting.joined | BitMap(follow), similar_segment(self._wanted[creator])
        joined.discard(creator)
        if joined:
            self._segments.put_members(name, joined, Change.ADD)
        if gone := waiting.doubtful - joined:
            self._segments.put_members(name, gone, Change.REMOVE)

    def _swap(
        self,
        creator: int,
        found: tuple[Similar, ...],
        copy: FollowsCopy,
        since: list[tuple[np.ndarray, np.ndarray]],
    ) -> None:
        """Put a new list in place, with the segment: who follows by the copy, seen again for what changed since."""
        before = {one.row for one in self._lists.get(creator, ())}
        after = {one.row for one in found}
        is_new = creator not in self._lists
        self._lists[creator] = found
        if before == after and not is_new:
            return
        for row in before - after:
            self._listing[row].discard(creator)
            if not self._listing[row]:
                del self._listing[row]
        for row in after - before:
            self._listing.setdefault(row, set()).add(creator)
        self._listed = np.fromiter(self._listing, np.int64, len(self._listing))
        members = copy.followers_of_any(found)
        members.discard(creator)
        self._segments.put_members(similar_segment(self._wanted[creator]), members, Change.REPLACE)
        listed = np.array(sorted(after), np.int64)
        changed = (bitmap(followers[np.isin(followed, listed)]) for followers, followed in since)
        self._waiting[creator] = _Waiting(doubtful=BitMap.union(BitMap(), *changed))
        self._settle(creator)

    def _told(self, similar: Iterable[Similar]) -> list[tuple[int, int]]:
        return [(int(self._viewers.ids[one.row]), one.common) for one in similar]

    def _row_of(self, account_id: int) -> int:
        return int(self._viewers.rows_of(np.array([account_id], np.uint64))[0])
