"""Compiled loops that turn viewers by segment into segments by viewer, and look viewers up in the result."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def count_rows(rows: np.ndarray, out_counts: np.ndarray) -> None:
    """Add one at `out_counts[row]` (i8[R]) for each of a segment's rows (u4[m])."""
    for k in range(rows.shape[0]):
        out_counts[np.int64(rows[k])] += 1


@njit(cache=True, nogil=True)
def append_segment(rows: np.ndarray, segment: int, cursors: np.ndarray, out_segments: np.ndarray) -> None:
    """Append `segment` to the list of each of its rows (u4[m]).

    Args:
        rows: u4[m].
        segment: number of the segment.
        cursors: i8[R], the next place of each row's list; moved on.
        out_segments: u4[...].
    """
    for k in range(rows.shape[0]):
        row = np.int64(rows[k])
        out_segments[cursors[row]] = segment
        cursors[row] += 1


@njit(cache=True, nogil=True)
def _place_of(changed_rows: np.ndarray, row: int) -> int:
    """Place of `row` in ascending i8[p], or -1."""
    low = 0
    high = changed_rows.shape[0]
    while low < high:
        middle = (low + high) >> 1
        if changed_rows[middle] < row:
            low = middle + 1
        else:
            high = middle
    return low if low < changed_rows.shape[0] and changed_rows[low] == row else -1


@njit(cache=True, nogil=True)
def locate_lists(
    rows: np.ndarray,
    ptr: np.ndarray,
    patch_rows: np.ndarray,
    patch_ptr: np.ndarray,
    fresh_rows: np.ndarray,
    fresh_ptr: np.ndarray,
    out_starts: np.ndarray,
    out_ptr: np.ndarray,
) -> None:
    """Find the lists of n rows: among the fresh ones where there is one, else in the patch, else in the base.

    Args:
        rows: i8[n]; -1, and rows beyond the base that did not change, have no segments.
        ptr: i8[R + 1], the base's offsets.
        patch_rows, patch_ptr: i8[p], ascending, and i8[p + 1].
        fresh_rows, fresh_ptr: i8[f], ascending, and i8[f + 1].
        out_starts: i8[n], where the list starts; -1 - start where that is in the patch, or in the fresh lists, which
            are counted on from the patch's end.
        out_ptr: i8[n + 1], offsets of the lists once they are laid end to end.
    """
    out_ptr[0] = 0
    known = ptr.shape[0] - 1
    patch_end = patch_ptr[patch_rows.shape[0]]
    for i in range(rows.shape[0]):
        fresh = _place_of(fresh_rows, rows[i])
        place = -1 if fresh >= 0 else _place_of(patch_rows, rows[i])
        if fresh >= 0:
            out_starts[i] = -1 - (patch_end + fresh_ptr[fresh])
            out_ptr[i + 1] = out_ptr[i] + fresh_ptr[fresh + 1] - fresh_ptr[fresh]
        elif place >= 0:
            out_starts[i] = -1 - patch_ptr[place]
            out_ptr[i + 1] = out_ptr[i] + patch_ptr[place + 1] - patch_ptr[place]
        elif 0 <= rows[i] < known:
            out_starts[i] = ptr[rows[i]]
            out_ptr[i + 1] = out_ptr[i] + ptr[rows[i] + 1] - ptr[rows[i]]
        else:
            out_starts[i] = 0
            out_ptr[i + 1] = out_ptr[i]


@njit(cache=True, nogil=True)
def copy_lists(
    starts: np.ndarray,
    segments: np.ndarray,
    patch_segments: np.ndarray,
    fresh_segments: np.ndarray,
    ptr: np.ndarray,
    out_segments: np.ndarray,
) -> None:
    """Lay the lists that `locate_lists` found (i8[n], i8[n + 1]) end to end in `out_segments` (u4[ptr[n]])."""
    patch_end = patch_segments.shape[0]
    for i in range(starts.shape[0]):
        first, length = ptr[i], ptr[i + 1] - ptr[i]
        start = starts[i]
        if start >= 0:
            for k in range(length):
                out_segments[first + k] = segments[start + k]
        elif -1 - start < patch_end:
            for k in range(length):
                out_segments[first + k] = patch_segments[-1 - start + k]
        else:
            for k in range(length):
                out_segments[first + k] = fresh_segments[-1 - start - patch_end + k]


@njit(cache=True, nogil=True)
def merge_changes(
    rows: np.ndarray,
    ptr: np.ndarray,
    segments: np.ndarray,
    changes: np.ndarray,
    out_ptr: np.ndarray,
    out_segments: np.ndarray,
) -> None:
    """Lists of p rows after changes.

    Args:
        rows: i8[p], ascending.
        ptr, segments: i8[p + 1], u4[...]: their lists before; each ascending.
        changes: u8[m], ascending: row << 32 | segment << 1 | 1 where the row is in the segment from now on, 0 where it
            is not, whatever it was before; of each row and segment once, and only of these rows. A segment's number is
            below 2**31.
        out_ptr: i8[p + 1], offsets of their lists.
        out_segments: u4[>= m + ptr[p]].
    """
    out_ptr[0] = 0
    end, c = 0, 0
    for i in range(rows.shape[0]):
        before, before_end = ptr[i], ptr[i + 1]
        while c < changes.shape[0] and np.int64(changes[c] >> np.uint64(32)) == rows[i]:
            segment = np.uint32((changes[c] >> np.uint64(1)) & np.uint64(0x7FFFFFFF))
            while before < before_end and segments[before] < segment:
                out_segments[end] = segments[before]
                before += 1
                end += 1
            if before < before_end and segments[before] == segment:
                before += 1
            if changes[c] & np.uint64(1):
                out_segments[end] = segment
                end += 1
            c += 1
        while before < before_end:
            out_segments[end] = segments[before]
            before += 1
            end += 1
        out_ptr[i + 1] = end
