"""Who follows creators similar to a creator: a segment of each creator for whom it is wanted."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Set
from dataclasses import dataclass, field

import numpy as np
from pyroaring import BitMap

from targeting.expressions import similar_segment
from targeting.graph.edges import EdgeTable
from targeting.graph.grouping import bitmap, grouped
from targeting.graph.similar.lists import STANDARDS, FollowsCopy, Similar, SimilarCreator, Standards
from targeting.segments.fresh import FRESH_MOST
from targeting.segments.store import Change, SegmentStore
from targeting.viewers import ViewerTable

MOST_AT_ONCE = 64
"""Segments that one batch of follows changes at once; if it concerns more, they are changed at the next `refresh`."""
EARLY_PERIOD_MS = 5_000
"""Lists that may have to change are made again ahead of all others at most so often, since each time all follows are
copied; where there are very many of these, once in as many milliseconds as there are `_EDGES_PER_MS` of them."""
_EDGES_PER_MS = 5_000
FIRST_WAIT_MS = 5_000
MOST_WAIT_MS = 160_000
"""How long a list that may have to change stays as it is, doubled each time that nothing came of looking; after the
longest it waits until all are made again."""
GROWN_SHARE = 4
"""A creator whose fans became one in so many more or fewer may have another list."""


@dataclass(slots=True)
class _Wanted:
    """A creator for whom a list is kept.

    Attributes:
        creator_id: the creator.
        search: number of the search that the list comes from; 0: there is none yet.
        changes: edges that had changed by that search, ever.
        fans: how many there were.
        searched_at_ms, wait_ms: when that was, and how long it is left as it is if it may have to change.
    """

    creator_id: int
    search: int = 0
    changes: int = 0
    fans: int = 0
    searched_at_ms: int = 0
    wait_ms: int = FIRST_WAIT_MS


@dataclass(frozen=True, slots=True)
class _Search:
    """One search that goes on: its number, from 1 on in the order of the copies, and of what instant its copy is.

    Attributes:
        number: of the search.
        changes: edges that had changed by then, ever.
        since: edges that changed since, by batch.
        now_ms: when it began.
    """

    number: int
    changes: int
    since: list[tuple[np.ndarray, np.ndarray]]
    now_ms: int


@dataclass(slots=True)
class _Waiting:
    """Rows of one creator's segment that are to be changed: that belong to it now, and of which this must be seen."""

    joined: BitMap = field(default_factory=BitMap)
    doubtful: BitMap = field(default_factory=BitMap)


class SimilarCreators:
    """Lists of similar creators, and the segments of their followers, beside a follow graph whose lock it shares.

    Two clocks: the lists are made anew now and then (`renew`; `renew_due` for those that should not wait so long), a
    creator's swapped whole with the segment; who follows a listed creator, or no longer any, is told edge by edge. Any
    thread may call, several at once; `gained` and `lost` under the lock.
    """

    def __init__(
        self,
        edges: EdgeTable,
        lock: threading.Lock,
        viewers: ViewerTable,
        segments: SegmentStore,
        standards: Standards = STANDARDS,
    ) -> None:
        self._edges = edges
        self._lock = lock
        self._viewers = viewers
        self._segments = segments
        self._standards = standards
        self._wanted: dict[int, _Wanted] = {}  # by row
        self._asked: set[int] = set()  # ids of creators who were wanted since the last `forget_others`
        self._lists: dict[int, tuple[Similar, ...]] = {}  # by row; from the first on, the segment is in the store
        self._listing: dict[int, set[int]] = {}  # rows of creators whose lists have this row
        self._listed = np.zeros(0, np.int64)  # its keys
        self._waiting: dict[int, _Waiting] = {}  # by row of the creator
        self._searches: dict[int, _Search] = {}  # that go on, by number
        self._search_count = 0
        self._changes = 0
        self._renewed_at = 0
        self._early_at_ms: int | None = None
        self._stopping = False

    def want(self, creator_id: int) -> None:
        """Keep this creator's list and segment from the next `renew` or `renew_due` on; again and again is once."""
        row = int(self._viewers.ensure(np.array([creator_id], np.uint64))[0])
        with self._lock:
            self._asked.add(creator_id)
            if row not in self._wanted:
                self._wanted[row] = _Wanted(creator_id)

    def forget_others(self, creator_ids: Set[int]) -> None:
        """Let go of the lists of all but these creators, and of those who were wanted since the last call.

        Their segments are empty from then on.
        """
        with self._lock:
            kept, self._asked = creator_ids | self._asked, set()
            gone = [row for row, wanted in self._wanted.items() if wanted.creator_id not in kept]
            for creator in gone:
                wanted = self._wanted.pop(creator)
                self._waiting.pop(creator, None)
                if creator in self._lists:
                    self._unlist(creator, {one.row for one in self._lists.pop(creator)})
                    self._segments.put_members(similar_segment(wanted.creator_id), BitMap(), Change.REPLACE)
            self._listed = np.fromiter(self._listing, np.int64, len(self._listing))

    def renew(self, now_ms: int) -> None:
        """Find the similar creators of all for whom they are wanted, unless nothing changed; `stop` ends it early."""
        with self._lock:
            changes = self._changes
            creators = list(self._wanted)
            is_new = any(not wanted.search for wanted in self._wanted.values())
            if not creators or (changes == self._renewed_at and not is_new):
                return
        if self._search(creators, now_ms):
            self._renewed_at = changes

    def renew_due(self, now_ms: int) -> None:
        """Find the similar creators of those who have no list yet, and of those whose list should not wait for `renew`.

        These are, where any follow changed since, those of creators whose fans became many more or fewer, and empty
        ones, these less and less often while they stay empty. `now_ms` is of a clock that is never set.
        """
        with self._lock:
            new = [row for row, wanted in self._wanted.items() if not wanted.search]
            period_ms = max(EARLY_PERIOD_MS, self._edges.size // _EDGES_PER_MS)
            is_time = self._early_at_ms is None or now_ms >= self._early_at_ms + period_ms
            due = [row for row, wanted in self._wanted.items() if self._is_due(row, wanted, now_ms)] if is_time else []
            if due:
                self._early_at_ms = now_ms
        if new or due:
            self._search(new + due, now_ms)

    def _is_due(self, row: int, wanted: _Wanted, now_ms: int) -> bool:
        waited_ms = now_ms - wanted.searched_at_ms
        if not wanted.search or waited_ms < FIRST_WAIT_MS or wanted.changes == self._changes:
            return False
        if abs(self._edges.follower_count(row) - wanted.fans) * GROWN_SHARE >= max(wanted.fans, GROWN_SHARE):
            return True
        return not self._lists[row] and wanted.wait_ms <= min(waited_ms, MOST_WAIT_MS)

    def _search(self, creators: list[int], now_ms: int) -> bool:
        """Find and swap the lists of these (rows); False if it was stopped.

        Follows are copied under the lock and counted without it.
        """
        with self._lock:
            self._search_count += 1
            search = _Search(self._search_count, self._changes, [], now_ms)
            self._searches[search.number] = search
            followers, followed = self._edges.in_order()
        try:
            ids = self._viewers.ids[: self._viewers.size]  # after the follows: whoever is in one has a row
            copy = FollowsCopy(followers, followed, ids)
            for creator, found in copy.find_similar(creators, standards=self._standards):
                if self._stopping:
                    return False
                with self._lock:
                    self._swap(creator, found, copy, search)
        finally:
            with self._lock:
                del self._searches[search.number]
        return True

    def stop(self) -> None:
        """Have every search end soon."""
        self._stopping = True

    def refresh(self) -> None:
        """Change the segments that too large a batch concerned."""
        with self._lock:
            waiting = list(self._waiting)
        for creator in waiting:
            with self._lock:
                self._settle(creator)

    def similar_to(self, creator_id: int) -> list[SimilarCreator]:
        """The creator's similar creators, best first, as far as they were wanted; numbers as of their search."""
        with self._lock:
            return self._told(self._lists.get(self._row_of(creator_id), ()))

    def followed_by(self, creator_id: int, viewer_id: int) -> list[SimilarCreator]:
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
        for search in self._searches.values():
            search.since.append((followers, followed))
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
        joined, name = waiting.joined | BitMap(follow), similar_segment(self._wanted[creator].creator_id)
        joined.discard(creator)
        if joined:
            self._segments.put_members(name, joined, Change.ADD)
        if gone := waiting.doubtful - joined:
            self._segments.put_members(name, gone, Change.REMOVE)

    def _swap(self, creator: int, found: tuple[Similar, ...], copy: FollowsCopy, search: _Search) -> None:
        """Put a new list in place, with the segment: who follows by the copy, seen again for what changed since.

        Nothing is done for a creator who is no longer wanted, or whose list comes from a later copy.
        """
        wanted = self._wanted.get(creator)
        if wanted is None or wanted.search > search.number:
            return
        is_new = creator not in self._lists
        before, after = {one.row for one in self._lists.get(creator, ())}, {one.row for one in found}
        is_same = before == after and not is_new
        self._lists[creator] = found
        self._note_search(wanted, search, copy.follower_count(creator), is_same)
        if is_same:
            return
        self._unlist(creator, before - after)
        for row in after - before:
            self._listing.setdefault(row, set()).add(creator)
        self._listed = np.fromiter(self._listing, np.int64, len(self._listing))
        members = copy.followers_of_any(found)
        members.discard(creator)
        self._segments.put_members(similar_segment(wanted.creator_id), members, Change.REPLACE)
        listed = np.array(sorted(after), np.int64)
        changed = (bitmap(followers[np.isin(followed, listed)]) for followers, followed in search.since)
        self._waiting[creator] = _Waiting(doubtful=BitMap.union(BitMap(), *changed))
        self._settle(creator)

    def _note_search(self, wanted: _Wanted, search: _Search, fans: int, is_same: bool) -> None:
        wanted.search, wanted.changes, wanted.fans = search.number, search.changes, fans
        wanted.searched_at_ms = search.now_ms
        wanted.wait_ms = min(2 * wanted.wait_ms, 2 * MOST_WAIT_MS) if is_same else FIRST_WAIT_MS

    def _unlist(self, creator: int, similar: set[int]) -> None:
        """These rows are no longer in the creator's list."""
        for row in similar:
            self._listing[row].discard(creator)
            if not self._listing[row]:
                del self._listing[row]

    def _told(self, similar: Iterable[Similar]) -> list[SimilarCreator]:
        ids = self._viewers.ids
        return [SimilarCreator(int(ids[one.row]), one.common, one.fans, one.lift) for one in similar]

    def _row_of(self, account_id: int) -> int:
        return int(self._viewers.rows_of(np.array([account_id], np.uint64))[0])
