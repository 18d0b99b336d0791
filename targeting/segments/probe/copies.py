"""Probes of segments: copies made for it, the hottest of which are kept within a bound."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
from pyroaring import BitMap

from targeting.segments.memberships import rows_array
from targeting.segments.probe.kernels import (
    HEADER_SLOTS,
    count_dense,
    count_hashed,
    count_runs,
    fill_bits,
    find_runs,
    mask_dense,
    mask_hashed,
    mask_runs,
    place_members,
)

COPIES_BYTES = 256 * 2**20
"""What all copies together take at most."""
DENSE_FLOOR_BYTES = 2**17
"""A bitset that takes no more than this (a million rows) is made of the sparsest segment, too."""
HASHED_BYTES = 10
"""Bytes of a cuckoo table for each member, at 5 of 12 slots taken. Where a bitset takes no more, that is made."""
MOST_RUNS = 8
"""A segment of no more runs than this is probed as runs."""
_SLOTS_SHARE = 1.2
_MOST_TRIES = 20


class SegmentProbe:
    """Which of a batch's rows are in one segment, as it was when this was made. Any thread may call.

    Attributes:
        members: the segment's rows; not to be changed.
        form: "dense", a bitset; "hashed", a cuckoo table; "runs", first and last of each run; or "roaring", no copy.
        size_bytes: what the copy takes.
        mask: whether each row is a member: (rows u4[n], out_found u1[n]: 1 or 0). Rows are contiguous, in any order;
            NOBODY is no member.
        count: how many of the rows (u4[n]) are members; a row that comes twice counts twice.
    """

    __slots__ = ("count", "form", "mask", "members", "size_bytes")

    def __init__(self, members: BitMap, most_bytes: int = COPIES_BYTES) -> None:
        """Copy a segment; where the copy would take more than `most_bytes`, probe the bitmap itself."""
        copied = _copied(members, most_bytes)
        self.members = members
        self.size_bytes = 0 if copied is None else copied.words.nbytes
        self.form = "roaring" if copied is None else copied.form
        probed = members if copied is None else copied.words
        # Bound here: a method around the kernel would cost as much as probing two hundred rows.
        self.mask: Callable[[np.ndarray, np.ndarray], None] = partial(_MASKS[self.form], probed)
        self.count: Callable[[np.ndarray], int] = partial(_COUNTS[self.form], probed)


def _mask_roaring(members: BitMap, rows: np.ndarray, out_found: np.ndarray) -> None:
    out_found[:] = np.isin(rows, rows_array(BitMap(rows) & members))


def _count_roaring(members: BitMap, rows: np.ndarray) -> int:
    return int(np.isin(rows, rows_array(BitMap(rows) & members)).sum())


_MASKS = {"dense": mask_dense, "hashed": mask_hashed, "runs": mask_runs, "roaring": _mask_roaring}
_COUNTS = {"dense": count_dense, "hashed": count_hashed, "runs": count_runs, "roaring": _count_roaring}


class _Copy(NamedTuple):
    form: str
    words: np.ndarray


class ProbeCopies:
    """Probes by segment, the most recently asked for; their copies take COPIES_BYTES at most. Any thread may call."""

    def __init__(self, most_bytes: int = COPIES_BYTES) -> None:
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._probes: OrderedDict[int, SegmentProbe] = OrderedDict()
        self._size_bytes = 0

    @property
    def size_bytes(self) -> int:
        """What all copies take."""
        return self._size_bytes

    def of(self, segment: int, members: BitMap) -> SegmentProbe:
        """The probe of a segment, by number, with these members; made if there is none of just these."""
        with self._lock:
            probe = self._probes.get(segment)
            if probe is not None and probe.members is members:
                self._probes.move_to_end(segment)
                return probe
        made = SegmentProbe(members, self._most_bytes)
        with self._lock:
            self._drop(segment)
            self._probes[segment] = made
            self._size_bytes += made.size_bytes
            while self._size_bytes > self._most_bytes:
                self._drop(next(iter(self._probes)))
        return made

    def _drop(self, segment: int) -> None:
        probe = self._probes.pop(segment, None)
        if probe is not None:
            self._size_bytes -= probe.size_bytes


def dense_words(members: BitMap) -> np.ndarray:
    """A bitset of u4 words, bit k of word j row 32 j + k; the last word is empty."""
    words = np.zeros(_dense_bytes(members) // 4, np.uint32)
    fill_bits(np.frombuffer(members.serialize(), np.uint8), words.view(np.uint8))
    return words


def _copied(members: BitMap, most_bytes: int) -> _Copy | None:
    """The copy that takes less, but a bitset where that is small anyway; None where there is no room."""
    raw = np.frombuffer(members.serialize(), np.uint8)
    runs = np.empty(2 * MOST_RUNS, np.uint32)
    count = find_runs(raw, runs)
    if count >= 0 and runs.nbytes <= most_bytes:
        return _Copy("runs", runs[: 2 * count].copy())
    dense_bytes = _dense_bytes(members)
    hashed_bytes = HASHED_BYTES * len(members)
    if dense_bytes > max(DENSE_FLOOR_BYTES, hashed_bytes) and hashed_bytes <= most_bytes:
        table = hashed_members(members)
        if table is not None:
            return _Copy("hashed", table)
    return _Copy("dense", dense_words(members)) if dense_bytes <= most_bytes else None


def _dense_bytes(members: BitMap) -> int:
    """Size of the bitset: a spare word more; below DENSE_FLOOR_BYTES a power of two, since batches reach further."""
    size = 4 * ((members.max() if members else 0) // 32 + 2)
    return size if size >= DENSE_FLOOR_BYTES else min(DENSE_FLOOR_BYTES, 1 << (size - 1).bit_length())


def hashed_members(members: BitMap) -> np.ndarray | None:
    """A cuckoo table (u4[...]) of rows below FREE_SLOT; None if no multipliers gave every member a place."""
    rows = rows_array(members)
    table = np.empty(HEADER_SLOTS + 2 * (int(_SLOTS_SHARE * len(rows)) + 1), np.uint32)
    drawn = np.random.default_rng(len(rows)).integers(2**31, 2**32, (_MOST_TRIES, 2), np.uint32) | np.uint32(1)
    return table if any(place_members(rows, first, second, table) for first, second in drawn) else None
