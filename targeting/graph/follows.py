"""Who follows whom, and the two segments that it makes of each creator: fans, and friends of fans (laotie)."""

from __future__ import annotations

import threading

import numpy as np
from pyroaring import BitMap

from targeting.expressions import fans_segment, laotie_segment
from targeting.segments.memberships import rows_array
from targeting.segments.store import Change, SegmentStore
from targeting.viewers import ViewerTable

_NOBODY = BitMap()


class FollowGraph:
    """Follow edges between accounts; creators are accounts like any other, and all of them have a viewer's row.

    Two accounts are friends if either follows the other. The laotie of a creator are the friends of their fans who are
    no fans themselves. A creator is watched from their first campaign on: from then on both segments are kept, edge by
    edge, and `refresh` writes those that changed to the store. Any thread may call.
    """

    def __init__(self, viewers: ViewerTable, segments: SegmentStore) -> None:
        self._viewers = viewers
        self._segments = segments
        self._lock = threading.Lock()
        self._refresh_lock = threading.Lock()
        self._followers: dict[int, BitMap] = {}  # by row: rows of who follows it
        self._following: dict[int, BitMap] = {}  # by row: rows of whom it follows
        self._watched: dict[int, int] = {}  # creator ids by row
        self._watched_rows = BitMap()
        self._friends: dict[int, BitMap] = {}  # by watched row: all friends of its fans
        self._stale: dict[int, None] = {}  # watched rows; a set that keeps its order, so that a seed reproduces a run
        self._size = 0

    @property
    def size(self) -> int:
        """How many edges there are."""
        return self._size

    def put(self, follower_ids: np.ndarray, followed_ids: np.ndarray) -> None:
        """Add edges (u8[n], u8[n]); those that are there already change nothing.

        Raises:
            ValueError: the columns differ in length.
        """
        _check_lengths(follower_ids, followed_ids)
        followers = self._viewers.ensure(np.asarray(follower_ids, np.uint64)).tolist()
        followed = self._viewers.ensure(np.asarray(followed_ids, np.uint64)).tolist()
        with self._lock:
            for x, y in zip(followers, followed, strict=True):
                self._add(x, y)

    def remove(self, follower_ids: np.ndarray, followed_ids: np.ndarray) -> None:
        """Take edges (u8[n], u8[n]) away; those that are not there change nothing.

        Raises:
            ValueError: the columns differ in length.
        """
        _check_lengths(follower_ids, followed_ids)
        followers = self._viewers.rows_of(np.asarray(follower_ids, np.uint64)).tolist()
        followed = self._viewers.rows_of(np.asarray(followed_ids, np.uint64)).tolist()
        with self._lock:
            for x, y in zip(followers, followed, strict=True):
                if x >= 0 and y >= 0:
                    self._remove(x, y)

    def watch(self, creator_id: int) -> None:
        """Keep this creator's segments from the next refresh on; again and again is once."""
        row = int(self._viewers.ensure(np.array([creator_id], np.uint64))[0])
        with self._lock:
            if row in self._watched:
                return
            self._watched[row] = creator_id
            self._watched_rows.add(row)
            self._friends[row] = self._friends_of_fans(row)
            self._stale[row] = None

    def fans_of(self, creator_id: int) -> BitMap:
        """Rows of the creator's followers."""
        row = self._row_of(creator_id)
        with self._lock:
            return BitMap(self._followers.get(row, _NOBODY))

    def laotie_of(self, creator_id: int) -> BitMap:
        """Rows of who follows a fan of the creator or is followed by one, and is neither a fan nor the creator."""
        row = self._row_of(creator_id)
        if row < 0:
            return BitMap()
        with self._lock:
            friends = self._friends.get(row)
            return self._without_fans(row, self._friends_of_fans(row) if friends is None else friends)

    def friends_among_fans(self, creator_id: int, viewer_id: int, limit: int) -> np.ndarray:
        """Ids (u8[<= limit]) of the creator's fans who are the viewer's friends: whom a viewer is laotie through."""
        creator, viewer = self._row_of(creator_id), self._row_of(viewer_id)
        with self._lock:
            shared = self._neighbours(viewer) & self._followers.get(creator, _NOBODY)
        return self._viewers.ids[rows_array(shared)[:limit]]

    def refresh(self) -> None:
        """Write the segments of watched creators whose fans, or their friends, changed."""
        with self._refresh_lock:
            with self._lock:
                stale, self._stale = self._stale, {}
                found = [
                    (self._watched[row], BitMap(self._followers.get(row, _NOBODY)), self._without_fans(row, friends))
                    for row in stale
                    for friends in (self._friends[row],)
                ]
            for creator_id, fans, laotie in found:
                self._segments.put_members(fans_segment(creator_id), fans, Change.REPLACE)
                self._segments.put_members(laotie_segment(creator_id), laotie, Change.REPLACE)

    def _row_of(self, account_id: int) -> int:
        return int(self._viewers.rows_of(np.array([account_id], np.uint64))[0])

    def _add(self, x: int, y: int) -> None:
        """Let x follow y."""
        followers = self._followers.setdefault(y, BitMap())
        if x in followers:
            return
        followers.add(x)
        self._following.setdefault(x, BitMap()).add(y)
        self._size += 1
        if y in self._watched:
            self._friends[y] |= self._neighbours(x)
            self._stale[y] = None
        for creator in self._watched_by_fan(y):
            self._friends[creator].add(x)
            self._stale[creator] = None
        for creator in self._watched_by_fan(x):
            self._friends[creator].add(y)
            self._stale[creator] = None

    def _remove(self, x: int, y: int) -> None:
        """Let x no longer follow y."""
        followers = self._followers.get(y, _NOBODY)
        if x not in followers:
            return
        followers.remove(x)
        self._following[x].remove(y)
        self._size -= 1
        if y in self._watched:
            for friend in self._neighbours(x):
                self._recheck(y, friend)
            self._stale[y] = None
        if x in self._following.get(y, _NOBODY):  # still friends
            return
        for creator in self._watched_by_fan(y):
            self._recheck(creator, x)
        for creator in self._watched_by_fan(x):
            self._recheck(creator, y)

    def _watched_by_fan(self, row: int) -> BitMap:
        """Rows of the watched creators whose fan this is."""
        return self._following.get(row, _NOBODY) & self._watched_rows

    def _recheck(self, creator: int, row: int) -> None:
        """Take `row` out of the friends of a watched creator's fans if it no longer is a friend of any."""
        if not self._neighbours(row).intersect(self._followers.get(creator, _NOBODY)):
            self._friends[creator].discard(row)
            self._stale[creator] = None

    def _neighbours(self, row: int) -> BitMap:
        """Rows of an account's friends."""
        return self._followers.get(row, _NOBODY) | self._following.get(row, _NOBODY)

    def _friends_of_fans(self, creator: int) -> BitMap:
        friends = BitMap()
        for fan in self._followers.get(creator, _NOBODY):
            friends |= self._followers.get(fan, _NOBODY)
            friends |= self._following.get(fan, _NOBODY)
        return friends

    def _without_fans(self, creator: int, friends: BitMap) -> BitMap:
        laotie = friends - self._followers.get(creator, _NOBODY)
        laotie.discard(creator)
        return laotie


def _check_lengths(follower_ids: np.ndarray, followed_ids: np.ndarray) -> None:
    if len(follower_ids) != len(followed_ids):
        raise ValueError(
            f"followed_ids: {len(followed_ids)} for {len(follower_ids)} follower_ids; must be equally many"
        )
