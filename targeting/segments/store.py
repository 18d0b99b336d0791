"""Segments: named sets of viewers, kept as Roaring bitmaps of rows, and turned round into each viewer's list of segments."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from pyroaring import BitMap

from targeting.attributes import INTEREST_COUNT
from targeting.expressions import interest_segment
from targeting.segments.kernels import copy_lists, count_members, fill_members

MAX_SEGMENTS = 1_000_000


class Change(IntEnum):
    """What to do with a segment's members; the numbers of `protos/audience.proto`."""

    REPLACE = 1
    ADD = 2
    REMOVE = 3


@dataclass(frozen=True, slots=True)
class Memberships:
    """Each viewer's segments, ascending. Immutable.

    Attributes:
        ptr: i8[rows + 1].
        segments: u4[ptr[-1]].
    """

    ptr: np.ndarray
    segments: np.ndarray

    def of_rows(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The lists of some viewers, one after the other.

        Args:
            rows: i8[n]; -1, or a row that is younger than this picture, has none.

        Returns:
            (i8[n + 1] offsets, u4[...] segments).
        """
        known = (rows >= 0) & (rows < len(self.ptr) - 1)
        safe = np.where(known, rows, 0)
        starts = np.where(known, self.ptr[safe], 0)
        counts = np.where(known, self.ptr[np.minimum(safe + 1, len(self.ptr) - 1)] - starts, 0)
        offsets = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(counts, out=offsets[1:])
        segments = np.empty(offsets[-1], np.uint32)
        copy_lists(starts, self.segments, offsets, segments)
        return offsets, segments


class SegmentStore:
    """Segments by name. Any thread may call; writers take turns, and what readers hold never changes.

    A segment has a dense number from 64 on, for good; 0 to 63 are the interests, whose members the viewer table keeps.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idx_of = {interest_segment(code): code for code in range(INTEREST_COUNT)}
        self._members: list[BitMap] = [BitMap() for _ in range(INTEREST_COUNT)]
        self._revision = 0
        self._published = -1
        self._memberships = Memberships(np.zeros(1, np.int64), np.zeros(0, np.uint32))

    @property
    def names(self) -> list[str]:
        """Names of all segments that are no interests, in order of their numbers."""
        return list(self._idx_of)[INTEREST_COUNT:]

    def segment_idx(self, name: str) -> int:
        """The segment's number; a name that is new gets one, with no members.

        Raises:
            ValueError: there are MAX_SEGMENTS already.
        """
        known = self._idx_of.get(name)
        if known is not None:
            return known
        with self._lock:
            return self._idx_for(name)

    def put(self, name: str, rows: np.ndarray, change: Change) -> None:
        """Change a segment's members.

        Args:
            rows: integers [n], viewers' rows.
        """
        changed = BitMap(np.ascontiguousarray(rows, np.uint32))
        with self._lock:
            idx = self._idx_for(name)
            if change == Change.REPLACE:
                after = changed
            elif change == Change.ADD:
                after = self._members[idx] | changed
            else:
                after = self._members[idx] - changed
            if after != self._members[idx]:
                self._members[idx] = after
                self._revision += 1

    def members(self, name: str) -> BitMap:
        """The segment's members (rows); none if there is no such segment. Not to be changed."""
        idx = self._idx_of.get(name)
        return BitMap() if idx is None else self._members[idx]

    def export_bytes(self, name: str) -> bytes:
        """The members in the portable Roaring format."""
        return bytes(self.members(name).serialize())

    def import_bytes(self, name: str, raw: bytes, change: Change) -> None:
        """Take members in the portable Roaring format.

        Raises:
            ValueError: the bytes are no such bitmap.
        """
        try:
            rows = BitMap.deserialize(raw)
        except Exception:
            raise ValueError(f"segment {name!r}: {len(raw)} bytes that are no portable Roaring bitmap") from None
        self.put(name, np.array(rows.to_array(), np.uint32), change)

    def memberships(self) -> Memberships:
        """Each viewer's segments as they are now; the same object while nothing changed."""
        with self._lock:
            if self._published != self._revision:
                self._memberships = _turned_round(self._members)
                self._published = self._revision
            return self._memberships

    def _idx_for(self, name: str) -> int:
        idx = self._idx_of.get(name)
        if idx is None:
            idx = len(self._members)
            if idx >= MAX_SEGMENTS:
                raise ValueError(f"segment {name!r}: there are {MAX_SEGMENTS} segments already")
            self._members.append(BitMap())
            self._idx_of[name] = idx
        return idx


def _turned_round(members: list[BitMap]) -> Memberships:
    """From viewers by segment to segments by viewer; ascending, since segments are taken in order."""
    lists = [np.array(bitmap.to_array(), np.uint32) for bitmap in members]
    sizes = np.array([len(rows) for rows in lists], np.int64)
    rows = np.concatenate(lists)
    segments = np.repeat(np.arange(len(lists), dtype=np.uint32), sizes)
    ptr = np.zeros((int(rows.max()) + 2) if len(rows) else 1, np.int64)
    count_members(rows, ptr)
    np.cumsum(ptr, out=ptr)
    by_viewer = np.empty(len(rows), np.uint32)
    fill_members(rows, segments, ptr[:-1].copy(), by_viewer)
    return Memberships(ptr, by_viewer)
