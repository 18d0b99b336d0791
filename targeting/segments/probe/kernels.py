"""Compiled probes of one segment for a batch of rows: a bitset, a cuckoo table for sparse segments, or a few runs.

No loop branches on what it reads. Cuckoo table: Pagh and Rodler, "Cuckoo hashing", Journal of Algorithms 51 (2004): a
row is in one of two slots or nowhere.
"""

from __future__ import annotations

import numpy as np
from numba import njit

FREE_SLOT = np.uint32(2**32 - 2)
NOBODY = np.uint32(2**32 - 1)
"""A row to probe for that no viewer has."""
HEADER_SLOTS = 2
MOST_MOVES = 200
_BITSET_BYTES = 8192
_MOST_IN_ARRAY = 4096
_FEWEST_WITH_OFFSETS = 4
_COOKIE_WITH_RUNS = 12347
_LOW_HALF = np.uint64(2**32 - 1)
_HALF_BITS = np.uint64(32)
_FIVE = np.uint32(5)
_31 = np.uint32(31)
_ONE = np.uint8(1)


@njit(cache=True, nogil=True)
def _highest(rows: np.ndarray) -> np.uint32:
    highest = np.uint32(0)
    for i in range(rows.shape[0]):
        highest = max(highest, rows[i])
    return highest


@njit(cache=True, nogil=True)
def _bit(words: np.ndarray, row: np.uint32) -> np.uint8:
    return np.uint8(words[row >> _FIVE] >> (row & _31)) & _ONE


@njit(cache=True, nogil=True)
def mask_dense(words: np.ndarray, rows: np.ndarray, out_found: np.ndarray) -> None:
    """Which rows (u4[n]) are in a bitset (u4[>= 1], its last bit 0), as u1[n], 0 or 1; rows beyond it are not.

    Whether any is beyond is found out first, since not asking of each saves a quarter of the time.
    """
    last = np.uint32(words.shape[0] * 32 - 1)
    if _highest(rows) <= last:
        for i in range(rows.shape[0]):
            out_found[i] = _bit(words, rows[i])
    else:
        for i in range(rows.shape[0]):
            out_found[i] = _bit(words, min(rows[i], last))


@njit(cache=True, nogil=True)
def count_dense(words: np.ndarray, rows: np.ndarray) -> int:
    """How many of rows (u4[n]) are in a bitset (u4[>= 1], its last bit 0)."""
    last = np.uint32(words.shape[0] * 32 - 1)
    count = 0
    if _highest(rows) <= last:
        for i in range(rows.shape[0]):
            count += np.int64(_bit(words, rows[i]))
    else:
        for i in range(rows.shape[0]):
            count += np.int64(_bit(words, min(rows[i], last)))
    return count


@njit(cache=True, nogil=True)
def _slot(row: np.uint32, multiplier: np.uint32, slots: int) -> np.uint64:
    """Multiplicative hashing of a row to 0..slots - 1."""
    mixed = (np.uint64(row) * np.uint64(multiplier)) & _LOW_HALF
    return (mixed * np.uint64(slots)) >> _HALF_BITS


@njit(cache=True, nogil=True)
def mask_hashed(table: np.ndarray, rows: np.ndarray, out_found: np.ndarray) -> None:
    """Which rows (u4[n], none FREE_SLOT) are in a cuckoo table (see `place_members`), as u1[n], 0 or 1."""
    first, second = table[0], table[1]
    slots = (table.shape[0] - HEADER_SLOTS) // 2
    low, high = table[HEADER_SLOTS : HEADER_SLOTS + slots], table[HEADER_SLOTS + slots :]
    for i in range(rows.shape[0]):
        row = rows[i]
        out_found[i] = np.uint8((low[_slot(row, first, slots)] == row) | (high[_slot(row, second, slots)] == row))


@njit(cache=True, nogil=True)
def count_hashed(table: np.ndarray, rows: np.ndarray) -> int:
    """How many of rows (u4[n], none FREE_SLOT) are in a cuckoo table."""
    first, second = table[0], table[1]
    slots = (table.shape[0] - HEADER_SLOTS) // 2
    low, high = table[HEADER_SLOTS : HEADER_SLOTS + slots], table[HEADER_SLOTS + slots :]
    count = 0
    for i in range(rows.shape[0]):
        row = rows[i]
        count += np.int64((low[_slot(row, first, slots)] == row) | (high[_slot(row, second, slots)] == row))
    return count


@njit(cache=True, nogil=True)
def place_members(members: np.ndarray, first: np.uint32, second: np.uint32, out_table: np.ndarray) -> bool:
    """Fill a cuckoo table.

    Args:
        members: u4[m], distinct, below FREE_SLOT.
        first, second: odd multipliers of the two hash functions.
        out_table: u4[HEADER_SLOTS + 2 s], s >= 1: the multipliers, then s slots for each function.

    Returns:
        False: a member found no place within MOST_MOVES moves, and the table is of no use; try other multipliers.
    """
    slots = (out_table.shape[0] - HEADER_SLOTS) // 2
    out_table[0], out_table[1] = first, second
    low, high = out_table[HEADER_SLOTS : HEADER_SLOTS + slots], out_table[HEADER_SLOTS + slots :]
    for j in range(2 * slots):
        out_table[HEADER_SLOTS + j] = FREE_SLOT
    for k in range(members.shape[0]):
        row = members[k]
        for move in range(MOST_MOVES):
            if move & 1:
                slot = _slot(row, second, slots)
                moved = high[slot]
                high[slot] = row
            else:
                slot = _slot(row, first, slots)
                moved = low[slot]
                low[slot] = row
            row = moved
            if row == FREE_SLOT:
                break
        if row != FREE_SLOT:
            return False
    return True


@njit(cache=True, nogil=True)
def _mask_run(first: np.uint32, last: np.uint32, rows: np.ndarray, out_found: np.ndarray) -> None:
    for i in range(rows.shape[0]):
        out_found[i] |= np.uint8((rows[i] >= first) & (rows[i] <= last))


@njit(cache=True, nogil=True)
def mask_runs(runs: np.ndarray, rows: np.ndarray, out_found: np.ndarray) -> None:
    """Which rows (u4[n]) are in one of a few runs (u4[2 r], first and last row of each), as u1[n], 0 or 1."""
    for i in range(rows.shape[0]):
        out_found[i] = 0
    for r in range(0, runs.shape[0], 2):
        _mask_run(runs[r], runs[r + 1], rows, out_found)


@njit(cache=True, nogil=True)
def _count_run(first: np.uint32, last: np.uint32, rows: np.ndarray) -> int:
    count = 0
    for i in range(rows.shape[0]):
        count += np.int64((rows[i] >= first) & (rows[i] <= last))
    return count


@njit(cache=True, nogil=True)
def count_runs(runs: np.ndarray, rows: np.ndarray) -> int:
    """How many of rows (u4[n]) are in one of a few disjoint runs (u4[2 r], first and last row of each)."""
    count = 0
    for r in range(0, runs.shape[0], 2):
        count += _count_run(runs[r], runs[r + 1], rows)
    return count


@njit(cache=True, nogil=True)
def _u2(raw: np.ndarray, at: int) -> int:
    return np.int64(raw[at]) | np.int64(raw[at + 1]) << 8


@njit(cache=True, nogil=True)
def _header(raw: np.ndarray) -> tuple[int, int, int]:
    """(how many containers, where their keys are, where the first one is) of a portable bitmap."""
    with_runs = _u2(raw, 0) == _COOKIE_WITH_RUNS
    containers = _u2(raw, 2) + 1 if with_runs else _u2(raw, 4) | _u2(raw, 6) << 16
    keys = 4 + (containers + 7) // 8 if with_runs else 8
    at = keys + 4 * containers
    if not with_runs or containers >= _FEWEST_WITH_OFFSETS:
        at += 4 * containers
    return containers, keys, at


@njit(cache=True, nogil=True)
def _has_runs(raw: np.ndarray, container: int) -> bool:
    return _u2(raw, 0) == _COOKIE_WITH_RUNS and (raw[4 + (container >> 3)] >> (container & 7)) & 1 != 0


@njit(cache=True, nogil=True)
def _set_bits(out_bytes: np.ndarray, first: int, last: int) -> None:
    """Set the bits `first` to `last` of a bitset of bytes."""
    begin, end = first >> 3, last >> 3
    head, tail = (0xFF << (first & 7)) & 0xFF, 0xFF >> (7 - (last & 7))
    if begin == end:
        out_bytes[begin] |= np.uint8(head & tail)
        return
    out_bytes[begin] |= np.uint8(head)
    for k in range(begin + 1, end):
        out_bytes[k] = np.uint8(0xFF)
    out_bytes[end] |= np.uint8(tail)


@njit(cache=True, nogil=True)
def fill_bits(raw: np.ndarray, out_bytes: np.ndarray) -> None:
    """Set the bits of a bitmap in the portable Roaring format.

    Format: https://github.com/RoaringBitmap/RoaringFormatSpec.

    Args:
        raw: u1[...], sound: what a Roaring library wrote, or `bitmap_from_bytes` took.
        out_bytes: u1[...], zeros, with room for the highest row; bit k of byte j is row 8 j + k.
    """
    containers, keys, at = _header(raw)
    for c in range(containers):
        base = _u2(raw, keys + 4 * c) << 16
        count = _u2(raw, keys + 4 * c + 2) + 1
        if _has_runs(raw, c):
            runs = _u2(raw, at)
            at += 2
            for _ in range(runs):
                first = base + _u2(raw, at)
                _set_bits(out_bytes, first, first + _u2(raw, at + 2))
                at += 4
        elif count <= _MOST_IN_ARRAY:
            for _ in range(count):
                row = base + _u2(raw, at)
                out_bytes[row >> 3] |= np.uint8(1 << (row & 7))
                at += 2
        else:
            begin = base >> 3
            length = min(_BITSET_BYTES, out_bytes.shape[0] - begin)
            target, source = out_bytes[begin : begin + length], raw[at : at + length]
            for k in range(length):
                target[k] = source[k]
            at += _BITSET_BYTES


@njit(cache=True, nogil=True)
def find_runs(raw: np.ndarray, out_runs: np.ndarray) -> int:
    """The runs of neighbouring rows of a bitmap in the portable Roaring format, if they are few.

    Args:
        raw: u1[...], sound; a bitmap that was not optimized for runs has bitsets, which are taken for many runs.
        out_runs: u4[2 r], first and last row of each run.

    Returns:
        How many runs there are; -1 where they are more than r.
    """
    containers, keys, at = _header(raw)
    most = out_runs.shape[0] // 2
    found = 0
    last = np.int64(-2)
    for c in range(containers):
        base = _u2(raw, keys + 4 * c) << 16
        entries, width = _u2(raw, keys + 4 * c + 2) + 1, 2
        if _has_runs(raw, c):
            entries, width = _u2(raw, at), 4
            at += 2
        elif entries > _MOST_IN_ARRAY:
            return -1
        for _ in range(entries):
            first = base + _u2(raw, at)
            if first != last + 1:
                if found == most:
                    return -1
                out_runs[2 * found] = first
                found += 1
            last = first + _u2(raw, at + 2) if width == 4 else first
            out_runs[2 * found - 1] = last
            at += width
    return found
