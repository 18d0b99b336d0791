"""Who follows whom, and the two segments that it makes of each creator: fans, and friends of fans (laotie)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from pyroaring import BitMap

from targeting.expressions import fans_segment, laotie_segment
from targeting.graph.edges import EdgeTable
from targeting.graph.grouping import bitmap, grouped
from targeting.graph.similar.circles import SimilarCreators
from targeting.graph.similar.lists import STANDARDS, Standards
from targeting.segments.fresh import FRESH_MOST
from targeting.segments.memberships import rows_array
from targeting.segments.store import Change, SegmentStore
from targeting.viewers import ViewerTable


@dataclass(slots=True)
class _Circle:
    """What is kept of a watched creator.

    Attributes:
        creator_id: the creator.
        fans: rows of the followers.
        close: rows that follow a fan or are followed by one, but for what is in the next two.
        joined: rows that an edge brought close since.
        doubtful: rows that may no longer be close, since an edge went.
        is_written: its segments are in the store; from then on a few new fans are written there at once.
        is_kept: it is for good; else until the next but one `forget_asked` that nobody asks before.
    """

    creator_id: int
    fans: BitMap
    close: BitMap
    joined: BitMap = field(default_factory=BitMap)
    doubtful: BitMap = field(default_factory=BitMap)
    is_written: bool = False
    is_kept: bool = False


class FollowGraph:
    """Follow edges between accounts; creators are accounts like any other, and all of them have a viewer's row.

    Two accounts are friends if either follows the other. The laotie of a creator are the friends of their fans who are
    neither fans nor the creator. A creator is watched from their first campaign on: from then on their circle is kept,
    edge by edge, and `refresh` writes the segments of those that changed to the store. Who becomes a fan in a small
    batch is written there at once, so that the next request knows. One whom only a question asked for is let go again
    after a while. Any thread may call.

    Attributes:
        similar: similar creators, and who follows them, for creators for whom this is wanted.
    """

    def __init__(self, viewers: ViewerTable, segments: SegmentStore, standards: Standards = STANDARDS) -> None:
        """A graph without edges; `standards` are those of similar creators."""
        self._viewers = viewers
        self._segments = segments
        self._lock = threading.Lock()
        self._refresh_lock = threading.Lock()
        self._edges = EdgeTable()
        self.similar = SimilarCreators(self._edges, self._lock, viewers, segments, standards)
        self._circles: dict[int, _Circle] = {}  # by creator's row
        self._asked: set[int] = set()  # rows of creators that were asked for since the last `forget_asked`
        self._stale: dict[
            int, None
        ] = {}  # rows of creators; a set that keeps its order, so that a seed reproduces a run

    @property
    def size(self) -> int:
        """How many edges there are."""
        return self._edges.size

    def put(self, follower_ids: np.ndarray, followed_ids: np.ndarray) -> None:
        """Add edges (u8[n], u8[n]); those that are there already change nothing.

        Raises:
            ValueError: the columns differ in length, or there would be too many edges.
        """
        _check_lengths(follower_ids, followed_ids)
        followers = self._viewers.ensure(np.asarray(follower_ids, np.uint64))
        followed = self._viewers.ensure(np.asarray(followed_ids, np.uint64))
        with self._lock:
            for creators, rows in self._edges.add(followers, followed):
                for circle, told in self._told(creators, rows):
                    circle.joined |= told
            for circle, told in self._fans_among(followers, followed):
                circle.fans |= told
                if len(followers) <= FRESH_MOST and circle.is_written:
                    self._segments.put_members(fans_segment(circle.creator_id), BitMap(told), Change.ADD)
                    self._segments.put_members(laotie_segment(circle.creator_id), told, Change.REMOVE)
            self.similar.gained(followers, followed)

    def remove(self, follower_ids: np.ndarray, followed_ids: np.ndarray) -> None:
        """Take edges (u8[n], u8[n]) away; those that are not there change nothing.

        Raises:
            ValueError: the columns differ in length.
        """
        _check_lengths(follower_ids, followed_ids)
        followers = self._viewers.rows_of(np.asarray(follower_ids, np.uint64))
        followed = self._viewers.rows_of(np.asarray(followed_ids, np.uint64))
        known = (followers >= 0) & (followed >= 0)
        followers, followed = followers[known], followed[known]
        with self._lock:
            for creators, rows in self._edges.remove(followers, followed):
                for circle, told in self._told(creators, rows):
                    circle.doubtful |= told
            for circle, told in self._fans_among(followers, followed):
                circle.fans -= told
                if len(followers) <= FRESH_MOST and circle.is_written:
                    self._segments.put_members(fans_segment(circle.creator_id), told, Change.REMOVE)
            self.similar.lost(followers, followed)

    def watch(self, creator_id: int) -> None:
        """Keep this creator's segments from the next refresh on, for good; again and again is once."""
        row = int(self._viewers.ensure(np.array([creator_id], np.uint64))[0])
        with self._lock:
            self._have(row, creator_id).is_kept = True

    def ask(self, creator_id: int) -> None:
        """Have this creator's segments from the next refresh on, until `forget_asked` lets them go."""
        row = int(self._viewers.ensure(np.array([creator_id], np.uint64))[0])
        with self._lock:
            self._asked.add(row)
            self._have(row, creator_id)

    def forget_asked(self) -> None:
        """Let go of all creators who are not watched, but those who were asked for since the last call.

        Their segments are empty from then on.
        """
        with self._lock:
            kept, self._asked = self._asked, set()
            gone = [row for row, circle in self._circles.items() if not circle.is_kept and row not in kept]
            for row in gone:
                circle = self._circles.pop(row)
                self._edges.unwatch(row)
                self._stale.pop(row, None)
                for name in (fans_segment(circle.creator_id), laotie_segment(circle.creator_id)):
                    self._segments.put_members(name, BitMap(), Change.REPLACE)

    def fans_of(self, creator_id: int) -> BitMap:
        """Rows of the creator's followers."""
        row = self._row_of(creator_id)
        with self._lock:
            return bitmap(self._edges.followers(row))

    def laotie_of(self, creator_id: int) -> BitMap:
        """Rows of who follows a fan of the creator or is followed by one, and is neither a fan nor the creator."""
        row = self._row_of(creator_id)
        if row < 0:
            return BitMap()
        with self._lock:
            circle = self._circles.get(row)
            return self._laotie(row, self._circle_of(row, creator_id) if circle is None else circle)

    def friends_among_fans(self, creator_id: int, viewer_id: int) -> np.ndarray:
        """Ids (u8[n]) of the creator's fans who are the viewer's friends: whom a viewer is laotie through."""
        creator, viewer = self._row_of(creator_id), self._row_of(viewer_id)
        with self._lock:
            friends = bitmap(self._edges.followers(viewer)) | bitmap(self._edges.following(viewer))
            shared = friends & bitmap(self._edges.followers(creator))
        return self._viewers.ids[rows_array(shared)]

    def in_order(self) -> tuple[np.ndarray, np.ndarray]:
        """All edges by row, who follows and who is followed (i4[n], i4[n]), about in the order in which they came."""
        with self._lock:
            return self._edges.in_order()

    def refresh(self) -> None:
        """Write the segments of watched creators whose fans, or their friends, changed."""
        with self._refresh_lock:
            with self._lock:
                stale, self._stale = self._stale, {}
            for row in stale:
                with self._lock:  # also while writing: a new fan written meanwhile must not be taken back
                    circle = self._circles.get(row)
                    if circle is None:  # let go meanwhile
                        continue
                    laotie = self._laotie(row, circle)
                    self._segments.put_members(fans_segment(circle.creator_id), BitMap(circle.fans), Change.REPLACE)
                    self._segments.put_members(laotie_segment(circle.creator_id), laotie, Change.REPLACE)
                    circle.is_written = True
            self.similar.refresh()

    def _row_of(self, account_id: int) -> int:
        return int(self._viewers.rows_of(np.array([account_id], np.uint64))[0])

    def _have(self, row: int, creator_id: int) -> _Circle:
        circle = self._circles.get(row)
        if circle is None:
            self._edges.watch(row)
            circle = self._circles[row] = self._circle_of(row, creator_id)
            self._stale[row] = None
        return circle

    def _told(self, creators: np.ndarray, rows: np.ndarray) -> Iterator[tuple[_Circle, BitMap]]:
        """Rows by circle, whose creators become stale."""
        for creator, told in grouped(creators, rows):
            self._stale[creator] = None
            yield self._circles[creator], told

    def _fans_among(self, followers: np.ndarray, followed: np.ndarray) -> Iterator[tuple[_Circle, BitMap]]:
        """Of edges between rows, those to watched creators: who follows, by circle."""
        watched = self._edges.are_watched(followed)
        for creator, fans in grouped(followed[watched], followers[watched]):
            yield self._circles[creator], fans

    def _circle_of(self, row: int, creator_id: int) -> _Circle:
        """The circle from the edges as they are."""
        fans = self._edges.followers(row)
        return _Circle(creator_id, bitmap(fans), bitmap(self._edges.circle(fans)))

    def _laotie(self, row: int, circle: _Circle) -> BitMap:
        """Bring a circle up to date; answers with the laotie."""
        circle.close |= circle.joined
        if circle.doubtful:
            asked = rows_array(circle.doubtful).astype(np.int64)
            circle.close -= circle.doubtful
            circle.close |= bitmap(asked[self._edges.are_close(row, asked)])
        circle.joined, circle.doubtful = BitMap(), BitMap()
        laotie = circle.close - circle.fans
        laotie.discard(row)
        return laotie


def _check_lengths(follower_ids: np.ndarray, followed_ids: np.ndarray) -> None:
    if len(follower_ids) != len(followed_ids):
        raise ValueError(
            f"followed_ids: {len(followed_ids)} for {len(follower_ids)} follower_ids; must be equally many"
        )
