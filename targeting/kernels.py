"""Compiled look-up of ids: open addressing with linear probing over 64-bit ids."""

from __future__ import annotations

import numpy as np
from numba import njit

FREE = np.int64(-1)
_LOW_HALF = np.uint64(0xFFFFFFFF)
_HALF_BITS = np.uint64(32)


@njit(cache=True, nogil=True)
def slot_of(viewer_id: np.uint64, size: int) -> int:
    """First slot to look at in a table of `size` (a power of two, at most 2**32) slots.

    The two halves of the id are mixed by multiplications that stay within 64 bits.
    """
    low = (viewer_id & _LOW_HALF) * np.uint64(0x9E3779B1)
    high = (viewer_id >> _HALF_BITS) * np.uint64(0x85EBCA77)
    mixed = (low ^ (low >> _HALF_BITS) ^ high ^ (high >> _HALF_BITS)) & _LOW_HALF
    mixed *= np.uint64(0xC2B2AE3D)
    return np.int64((mixed ^ (mixed >> _HALF_BITS)) & np.uint64(size - 1))


@njit(cache=True, nogil=True)
def find_rows(slot_ids: np.ndarray, slot_rows: np.ndarray, viewer_ids: np.ndarray, out_rows: np.ndarray) -> None:
    """Rows (i8[n], -1: not there) of viewer ids (u8[n]) in a table (u8[S], i8[S])."""
    size = slot_rows.shape[0]
    for i in range(viewer_ids.shape[0]):
        slot = slot_of(viewer_ids[i], size)
        row = FREE
        while slot_rows[slot] != FREE:
            if slot_ids[slot] == viewer_ids[i]:
                row = slot_rows[slot]
                break
            slot = (slot + 1) & (size - 1)
        out_rows[i] = row


@njit(cache=True, nogil=True)
def insert_rows(
    slot_ids: np.ndarray,
    slot_rows: np.ndarray,
    viewer_ids: np.ndarray,
    next_row: int,
    out_ids: np.ndarray,
    out_rows: np.ndarray,
) -> int:
    """Rows (i8[n]) of viewer ids (u8[n]), those that are not there being added from `next_row` on; the next free row.

    The table must have a free slot left after every insertion, and `out_ids` (u8[...], ids by row) a place. A slot's
    row is written last, so a reader on another thread sees a whole entry or none.
    """
    size = slot_rows.shape[0]
    for i in range(viewer_ids.shape[0]):
        slot = slot_of(viewer_ids[i], size)
        while slot_rows[slot] != FREE and slot_ids[slot] != viewer_ids[i]:
            slot = (slot + 1) & (size - 1)
        if slot_rows[slot] == FREE:
            slot_ids[slot] = viewer_ids[i]
            out_ids[next_row] = viewer_ids[i]
            slot_rows[slot] = next_row
            next_row += 1
        out_rows[i] = slot_rows[slot]
    return next_row
