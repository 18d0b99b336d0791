"""Compiled loops that turn members by segment into segments by viewer."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def count_members(rows: np.ndarray, out_ptr: np.ndarray) -> None:
    """Count each row (u4[m]) at `out_ptr[row + 1]` (i8[R + 1], zeros)."""
    for k in range(rows.shape[0]):
        out_ptr[np.int64(rows[k]) + 1] += 1


@njit(cache=True, nogil=True)
def fill_members(rows: np.ndarray, segments: np.ndarray, cursors: np.ndarray, out_segments: np.ndarray) -> None:
    """Append each segment (u4[m]) to its row's list, whose next place is `cursors[row]` (i8[R], used up)."""
    for k in range(rows.shape[0]):
        row = np.int64(rows[k])
        out_segments[cursors[row]] = segments[k]
        cursors[row] += 1


@njit(cache=True, nogil=True)
def copy_lists(starts: np.ndarray, segments: np.ndarray, offsets: np.ndarray, out_segments: np.ndarray) -> None:
    """Copy n lists that start at `starts` (i8[n]) of `segments` to `offsets` (i8[n + 1]) of `out_segments`."""
    for i in range(starts.shape[0]):
        start = starts[i]
        first = offsets[i]
        for k in range(offsets[i + 1] - first):
            out_segments[first + k] = segments[start + k]
