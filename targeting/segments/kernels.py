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
def _place_of(patched_rows: np.ndarray, row: int) -> int:
    """Place of `row` in ascending i8[p], or -1."""
    low = 0
    high = patched_rows.shape[0]
    while low < high:
        middle = (low + high) >> 1
        if patched_rows[middle] < row:
            low = middle + 1
        else:
            high = middle
    return low if low < patched_rows.shape[0] and patched_rows[low] == row else -1


@njit(cache=True, nogil=True)
def locate_lists(
    rows: np.ndarray,
    ptr: np.ndarray,
    patched_rows: np.ndarray,
    patch_ptr: np.ndarray,
    out_starts: np.ndarray,
    out_ptr: np.ndarray,
) -> None:
    """Find the lists of n rows, in the patch where there is one, else in the base.

    Args:
        rows: i8[n]; -1, and rows beyond the base that are not patched, have no segments.
        ptr: i8[R + 1], the base's offsets.
        patched_rows: i8[p], ascending.
        patch_ptr: i8[p + 1].
        out_starts: i8[n], where the list starts; -1 - start where that is in the patch.
        out_ptr: i8[n + 1], offsets of the lists once they are laid end to end.
    """
    out_ptr[0] = 0
    known = ptr.shape[0] - 1
    for i in range(rows.shape[0]):
        place = _place_of(patched_rows, rows[i])
        if place >= 0:
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
    starts: np.ndarray, segments: np.ndarray, patch_segments: np.ndarray, ptr: np.ndarray, out_segments: np.ndarray
) -> None:
    """Lay the lists that `locate_lists` found (i8[n], i8[n + 1]) end to end in `out_segments` (u4[ptr[n]])."""
    for i in range(starts.shape[0]):
        first = ptr[i]
        if starts[i] >= 0:
            for k in range(ptr[i + 1] - first):
                out_segments[first + k] = segments[starts[i] + k]
        else:
            start = -1 - starts[i]
            for k in range(ptr[i + 1] - first):
                out_segments[first + k] = patch_segments[start + k]


@njit(cache=True, nogil=True)
def patch_lists(
    ptr: np.ndarray,
    segments: np.ndarray,
    changes: np.ndarray,
    out_rows: np.ndarray,
    out_ptr: np.ndarray,
    out_segments: np.ndarray,
) -> int:
    """Lists of the rows that changed since the base was built.

    Args:
        ptr, segments: i8[R + 1], u4[...], the base; each list ascending.
        changes: u8[m], ascending: row << 32 | segment << 1 | 1 where the segment gained the row, 0 where it lost it. A
            gained row was not in the segment before, a lost one was; a segment's number is below 2**31.
        out_rows: i8[>= m], the rows that changed, ascending.
        out_ptr: i8[>= m + 1], offsets of their lists.
        out_segments: u4[>= m + the rows' base lists].

    Returns:
        How many rows changed.
    """
    known = ptr.shape[0] - 1
    patched, end, c = 0, 0, 0
    out_ptr[0] = 0
    while c < changes.shape[0]:
        row = np.int64(changes[c] >> np.uint64(32))
        base, base_end = np.int64(0), np.int64(0)
        if row < known:
            base, base_end = ptr[row], ptr[row + 1]
        while c < changes.shape[0] and np.int64(changes[c] >> np.uint64(32)) == row:
            segment = np.uint32((changes[c] >> np.uint64(1)) & np.uint64(0x7FFFFFFF))
            while base < base_end and segments[base] < segment:
                out_segments[end] = segments[base]
                base += 1
                end += 1
            if changes[c] & np.uint64(1):
                out_segments[end] = segment
                end += 1
            else:
                base += 1
            c += 1
        while base < base_end:
            out_segments[end] = segments[base]
            base += 1
            end += 1
        out_rows[patched] = row
        patched += 1
        out_ptr[patched] = end
    return patched
