"""Each viewer's segments: an immutable base, a small patch over it, and on top the few changes of the last moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from pyroaring import BitMap

from targeting.segments.kernels import append_segment, copy_lists, count_rows, locate_lists, merge_changes


class Lists(NamedTuple):
    """Whole lists of some rows.

    Attributes:
        rows: i8[p], ascending.
        ptr: i8[p + 1], offsets of their lists.
        segments: u4[ptr[p]], each list ascending.
    """

    rows: np.ndarray
    ptr: np.ndarray
    segments: np.ndarray


NO_LISTS = Lists(np.zeros(0, np.int64), np.zeros(1, np.int64), np.zeros(0, np.uint32))


@dataclass(frozen=True, slots=True)
class Memberships:
    """Each viewer's segments, ascending. Immutable; any thread may read.

    Attributes:
        ptr, segments: i8[R + 1], u4[...]: the lists of rows 0 to R - 1 when the base was built.
        patch: lists of rows that changed since.
        fresh: lists of rows that changed since the patch was made.
    """

    ptr: np.ndarray
    segments: np.ndarray
    patch: Lists = NO_LISTS
    fresh: Lists = NO_LISTS

    def of_rows(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The lists of some viewers, laid end to end.

        Args:
            rows: i8[n]; -1, or a row that is younger than this picture, has none.

        Returns:
            (i8[n + 1] offsets, u4[...] segments).
        """
        starts, ptr = np.empty(len(rows), np.int64), np.empty(len(rows) + 1, np.int64)
        patch, fresh = self.patch, self.fresh
        locate_lists(rows, self.ptr, patch.rows, patch.ptr, fresh.rows, fresh.ptr, starts, ptr)
        found = np.empty(ptr[-1], np.uint32)
        copy_lists(starts, self.segments, patch.segments, fresh.segments, ptr, found)
        return ptr, found

    @property
    def size(self) -> int:
        """Memberships in the base."""
        return len(self.segments)

    @property
    def patch_size(self) -> int:
        """Memberships in the patch."""
        return len(self.patch.segments)


NO_MEMBERSHIPS = Memberships(np.zeros(1, np.int64), np.zeros(0, np.uint32))


def build_memberships(members: Sequence[BitMap]) -> Memberships:
    """A new base from each segment's rows; position: the segment's number. Without a patch."""
    lists = [rows_array(bitmap) for bitmap in members]
    top = max((int(rows[-1]) + 1 for rows in lists if len(rows)), default=0)
    ptr = np.zeros(top + 1, np.int64)
    for rows in lists:
        if len(rows):
            count_rows(rows, ptr[1:])
    np.cumsum(ptr, out=ptr)
    segments = np.empty(int(ptr[-1]), np.uint32)
    cursors = ptr[:-1].copy()
    for segment, rows in enumerate(lists):  # in order, so that every list ascends
        if len(rows):
            append_segment(rows, segment, cursors, segments)
    return Memberships(ptr, segments)


def patched(base: Memberships, before: Mapping[int, BitMap], after: Mapping[int, BitMap]) -> Memberships:
    """The base with a patch for the segments that changed since it was built.

    Args:
        base: from `build_memberships`; a patch that it has is replaced.
        before: rows of each changed segment in the base, by number.
        after: its rows now.
    """
    changes = [np.zeros(0, np.uint64)]
    for segment, rows in after.items():
        changes.append(change_keys(rows - before[segment], segment, gained=True))
        changes.append(change_keys(before[segment] - rows, segment, gained=False))
    unpatched = Memberships(base.ptr, base.segments)
    return replace(unpatched, patch=_changed_lists(unpatched, np.sort(np.concatenate(changes))))


def with_more(
    ptr: np.ndarray, segments: np.ndarray, more: Sequence[tuple[int, np.ndarray]]
) -> tuple[np.ndarray, np.ndarray]:
    """Lists of n viewers (`ptr`, `segments`, as `of_rows` gives) with a segment more for some (positions, i8[k])."""
    keys = [(who.astype(np.uint64) << np.uint64(32)) | np.uint64(2 * idx + 1) for idx, who in more]
    if not keys:
        return ptr, segments
    changes = np.unique(np.concatenate(keys))
    n = len(ptr) - 1
    out_ptr, found = np.empty(n + 1, np.int64), np.empty(len(segments) + len(changes), np.uint32)
    merge_changes(np.arange(n, dtype=np.int64), ptr, segments, changes, out_ptr, found)
    return out_ptr, found[: out_ptr[-1]]


def freshened(memberships: Memberships, changes: np.ndarray) -> Memberships:
    """Memberships with these changes (u8[m], as `merge_changes` wants them) laid over base and patch."""
    settled = replace(memberships, fresh=NO_LISTS)
    return replace(settled, fresh=_changed_lists(settled, changes))


def _changed_lists(memberships: Memberships, changes: np.ndarray) -> Lists:
    """The lists of the rows that changed."""
    if not len(changes):
        return NO_LISTS
    rows = np.unique((changes >> np.uint64(32)).astype(np.int64))
    before_ptr, before = memberships.of_rows(rows)
    ptr, segments = np.empty(len(rows) + 1, np.int64), np.empty(len(before) + len(changes), np.uint32)
    merge_changes(rows, before_ptr, before, changes, ptr, segments)
    return Lists(rows, ptr, segments[: ptr[-1]].copy())


def rows_array(bitmap: BitMap) -> np.ndarray:
    """The rows of a bitmap, ascending (u4[n])."""
    return np.frombuffer(bitmap.to_array(), np.uint32)


def change_keys(rows: BitMap, segment: int, gained: bool) -> np.ndarray:
    """Changes as `patch_lists` wants them."""
    return (rows_array(rows).astype(np.uint64) << np.uint64(32)) | np.uint64(2 * segment + gained)
