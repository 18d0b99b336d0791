"""Each viewer's segments: an immutable base, and a small patch over it for what changed since."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pyroaring import BitMap

from targeting.segments.kernels import append_segment, copy_lists, count_rows, locate_lists, patch_lists

_NO_ROWS = np.zeros(0, np.int64)
_NO_SEGMENTS = np.zeros(0, np.uint32)


@dataclass(frozen=True, slots=True)
class Memberships:
    """Each viewer's segments, ascending. Immutable; any thread may read.

    Attributes:
        ptr, segments: i8[R + 1], u4[...]: the lists of rows 0 to R - 1 when the base was built.
        patched_rows, patch_ptr, patch_segments: i8[p] ascending, i8[p + 1], u4[...]: changed rows and their lists.
    """

    ptr: np.ndarray
    segments: np.ndarray
    patched_rows: np.ndarray
    patch_ptr: np.ndarray
    patch_segments: np.ndarray

    def of_rows(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The lists of some viewers, laid end to end.

        Args:
            rows: i8[n]; -1, or a row that is younger than this picture, has none.

        Returns:
            (i8[n + 1] offsets, u4[...] segments).
        """
        starts, ptr = np.empty(len(rows), np.int64), np.empty(len(rows) + 1, np.int64)
        locate_lists(rows, self.ptr, self.patched_rows, self.patch_ptr, starts, ptr)
        found = np.empty(ptr[-1], np.uint32)
        copy_lists(starts, self.segments, self.patch_segments, ptr, found)
        return ptr, found

    @property
    def size(self) -> int:
        """Memberships in the base."""
        return len(self.segments)

    @property
    def patch_size(self) -> int:
        """Memberships in the patch."""
        return len(self.patch_segments)


NO_MEMBERSHIPS = Memberships(np.zeros(1, np.int64), _NO_SEGMENTS, _NO_ROWS, np.zeros(1, np.int64), _NO_SEGMENTS)


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
    return Memberships(ptr, segments, _NO_ROWS, np.zeros(1, np.int64), _NO_SEGMENTS)


def patched(base: Memberships, before: Mapping[int, BitMap], after: Mapping[int, BitMap]) -> Memberships:
    """The base with a patch for the segments that changed since it was built.

    Args:
        base: from `build_memberships`; a patch that it has is replaced.
        before: rows of each changed segment in the base, by number.
        after: its rows now.
    """
    changes = [np.zeros(0, np.uint64)]
    for segment, rows in after.items():
        changes.append(_keys(rows - before[segment], segment, gained=True))
        changes.append(_keys(before[segment] - rows, segment, gained=False))
    ordered = np.sort(np.concatenate(changes))
    if not len(ordered):
        return Memberships(base.ptr, base.segments, _NO_ROWS, np.zeros(1, np.int64), _NO_SEGMENTS)
    changed = np.unique((ordered >> np.uint64(32)).astype(np.int64))
    in_base = changed[changed < len(base.ptr) - 1]
    room = len(ordered) + int((base.ptr[in_base + 1] - base.ptr[in_base]).sum())
    patch_rows, patch_ptr = np.empty(len(changed), np.int64), np.empty(len(changed) + 1, np.int64)
    segments = np.empty(room, np.uint32)
    count = patch_lists(base.ptr, base.segments, ordered, patch_rows, patch_ptr, segments)
    return Memberships(base.ptr, base.segments, patch_rows[:count], patch_ptr, segments[: patch_ptr[count]].copy())


def rows_array(bitmap: BitMap) -> np.ndarray:
    """The rows of a bitmap, ascending (u4[n])."""
    return np.frombuffer(bitmap.to_array(), np.uint32)


def _keys(rows: BitMap, segment: int, gained: bool) -> np.ndarray:
    """Changes as `patch_lists` wants them."""
    return (rows_array(rows).astype(np.uint64) << np.uint64(32)) | np.uint64(2 * segment + gained)
