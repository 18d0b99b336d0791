"""Who follows whom, and the two segments that it makes of each creator: fans, and friends of fans (laotie)."""

from __future__ import annotations

import threading

import numpy as np
from pyroaring import BitMap

from targeting.expressions import fans_segment, laotie_segment
from targeting.segments.store import Change, SegmentStore
from targeting.viewers import ViewerTable


class FollowGraph:
    """Follow edges between viewers, and from viewers to creators. Any thread may call.

    A creator is watched from their first campaign on; only then are their segments kept. `refresh` brings the segments of
    watched creators up to date with what changed.
    """

    def __init__(self, viewers: ViewerTable, segments: SegmentStore) -> None:
        self._viewers = viewers
        self._segments = segments
        self._lock = threading.Lock()
        self._followers: dict[int, BitMap] = {}  # by followed id: rows of the followers
        self._following: dict[int, list[int]] = {}  # by follower's row: followed ids
        self._watched: set[int] = set()
        self._stale: dict[int, None] = {}  # a set that keeps its order, so that a seed reproduces a run
        self.size = 0

    def put(self, follower_ids: np.ndarray, followed_ids: np.ndarray) -> None:
        """Add edges (u8[n], u8[n]); those that are there already change nothing."""
        rows = self._viewers.ensure(np.ascontiguousarray(follower_ids, np.uint64))
        with self._lock:
            for row, followed in zip(rows.tolist(), followed_ids.tolist(), strict=True):
                followers = self._followers.setdefault(followed, BitMap())
                if row not in followers:
                    followers.add(row)
                    self._following.setdefault(row, []).append(followed)
                    self._touched(followed)
                    self.size += 1

    def remove(self, follower_ids: np.ndarray, followed_ids: np.ndarray) -> None:
        """Take edges (u8[n], u8[n]) away; those that are not there change nothing."""
        rows = self._viewers.rows_of(np.ascontiguousarray(follower_ids, np.uint64))
        with self._lock:
            for row, followed in zip(rows.tolist(), followed_ids.tolist(), strict=True):
                followers = self._followers.get(followed)
                if followers is not None and row in followers:
                    followers.remove(row)
                    self._following[row].remove(followed)
                    self._touched(followed)
                    self.size -= 1

    def watch(self, creator_id: int) -> None:
        """Keep this creator's segments from the next refresh on."""
        with self._lock:
            if creator_id not in self._watched:
                self._watched.add(creator_id)
                self._stale[creator_id] = None

    def fans_of(self, creator_id: int) -> BitMap:
        """Rows of the creator's followers."""
        with self._lock:
            return BitMap(self._followers.get(creator_id, BitMap()))

    def friends_of_fans(self, creator_id: int) -> BitMap:
        """Rows of viewers who follow a fan of the creator or are followed by one, and are no fans themselves."""
        with self._lock:
            return self._friends_of_fans(creator_id)

    def refresh(self) -> None:
        """Write the segments of watched creators whose fans changed."""
        with self._lock:
            stale, self._stale = self._stale, {}
            found = [
                (creator_id, BitMap(self._followers.get(creator_id, BitMap())), self._friends_of_fans(creator_id))
                for creator_id in stale
            ]
        for creator_id, fans, friends in found:
            self._segments.put(fans_segment(creator_id), fans.to_array(), Change.REPLACE)
            self._segments.put(laotie_segment(creator_id), friends.to_array(), Change.REPLACE)

    def _touched(self, followed_id: int) -> None:
        """Note whose segments an edge to `followed_id` made stale: that creator's, or those of the creators whom a fan follows."""
        if followed_id in self._watched:
            self._stale[followed_id] = None
            return
        row = int(self._viewers.rows_of(np.array([followed_id], np.uint64))[0])
        for creator_id in self._following.get(row, ()):
            if creator_id in self._watched:
                self._stale[creator_id] = None

    def _friends_of_fans(self, creator_id: int) -> BitMap:
        fans = self._followers.get(creator_id, BitMap())
        friends = BitMap()
        followed: set[int] = set()
        for row in fans:
            friends |= self._followers.get(int(self._viewers.ids[row]), BitMap())
            followed.update(self._following.get(row, ()))
        rows = self._viewers.rows_of(np.array(sorted(followed), np.uint64))
        friends |= BitMap(rows[rows >= 0].astype(np.uint32))
        return friends - fans
