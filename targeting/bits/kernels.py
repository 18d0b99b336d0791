"""Compiled loops over words of 64 bits: whole rows of them, and the positions of their set bits."""

from __future__ import annotations

import numpy as np
from numba import njit

_ONE = np.uint64(1)
_ZERO = np.uint64(0)
_AT_ONCE = np.uint64(6)


@njit(cache=True, nogil=True)
def bit_count(x: np.uint64) -> int:
    """How many bits of a word are set; compiles to one instruction."""
    x = x - ((x >> np.uint64(1)) & np.uint64(0x5555555555555555))
    x = (x & np.uint64(0x3333333333333333)) + ((x >> np.uint64(2)) & np.uint64(0x3333333333333333))
    x = (x + (x >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((x * np.uint64(0x0101010101010101)) >> np.uint64(56))


@njit(cache=True, nogil=True)
def lowest_bit(x: np.uint64) -> int:
    """Position of the lowest set bit of a word; 64 without one. Compiles to one instruction."""
    return bit_count(~x & (x - _ONE))


@njit(cache=True, nogil=True)
def count_bits(words: np.ndarray) -> int:
    """How many bits of u8[n] are set."""
    count = np.int64(0)
    for i in range(words.shape[0]):
        count += bit_count(words[i])
    return count


@njit(cache=True, nogil=True)
def copy_words(out: np.ndarray, a: np.ndarray) -> None:
    """`out = a`, n words."""
    for i in range(out.shape[0]):
        out[i] = a[i]


@njit(cache=True, nogil=True)
def clear_words(out: np.ndarray) -> None:
    """`out = 0`, n words."""
    for i in range(out.shape[0]):
        out[i] = _ZERO


@njit(cache=True, nogil=True)
def or_words(out: np.ndarray, a: np.ndarray) -> None:
    """`out |= a`, n words."""
    for i in range(out.shape[0]):
        out[i] |= a[i]


@njit(cache=True, nogil=True)
def or_2_words(out: np.ndarray, a: np.ndarray, b: np.ndarray) -> None:
    """`out |= a | b`, n words."""
    for i in range(out.shape[0]):
        out[i] |= a[i] | b[i]


@njit(cache=True, nogil=True)
def xor_words(out: np.ndarray, a: np.ndarray) -> None:
    """`out ^= a`, n words."""
    for i in range(out.shape[0]):
        out[i] ^= a[i]


@njit(cache=True, nogil=True)
def but_words(out: np.ndarray, a: np.ndarray) -> None:
    """`out &= ~a`, n words."""
    for i in range(out.shape[0]):
        out[i] &= ~a[i]


@njit(cache=True, nogil=True)
def and_words(out: np.ndarray, a: np.ndarray) -> None:
    """`out &= a`, n words."""
    for i in range(out.shape[0]):
        out[i] &= a[i]


@njit(cache=True, nogil=True)
def and_2_words(out: np.ndarray, a: np.ndarray, b: np.ndarray) -> None:
    """`out &= a & b`, n words."""
    for i in range(out.shape[0]):
        out[i] &= a[i] & b[i]


@njit(cache=True, nogil=True)
def and_but_words(out: np.ndarray, a: np.ndarray, b: np.ndarray) -> None:
    """`out &= a & ~b`, n words."""
    for i in range(out.shape[0]):
        out[i] &= a[i] & ~b[i]


@njit(cache=True, nogil=True)
def _write_6_bits(x: np.uint64, base: np.int32, out: np.ndarray, n: np.uint64) -> np.uint64:
    """Write the positions of the six lowest bits of a word, those of missing bits included; the word without them."""
    for k in range(6):
        out[n + np.uint64(k)] = base + np.int32(lowest_bit(x))
        x &= x - _ONE  # of 0 that is 0 again
    return x


@njit(cache=True, nogil=True)
def append_bits(words: np.ndarray, begin: int, end: int, out: np.ndarray, count: int) -> int:
    """Append the positions of the set bits of some words, ascending, to the first `count` of `out` (i4[...]).

    Six at a time are written before it is known how many there are: a wrongly predicted branch costs more than the
    stores.

    Args:
        words: u8[n].
        begin, end: which of them, `end` exclusive; positions count from bit 0 of word 0.
        out: with room for all of them.
        count: how many are in it already.

    Returns:
        How many are in it now.
    """
    n, room = np.uint64(count), np.uint64(out.shape[0])
    for w in range(begin, end):
        x = words[w]
        base = np.int32(w << 6)
        after = n + np.uint64(bit_count(x))
        if after + _AT_ONCE <= room:
            x = _write_6_bits(x, base, out, n)
            n += _AT_ONCE
            while n < after:
                x = _write_6_bits(x, base, out, n)
                n += _AT_ONCE
        else:
            while n < after:
                out[n] = base + np.int32(lowest_bit(x))
                x &= x - _ONE
                n += _ONE
        n = after
    return np.int64(n)


@njit(cache=True, nogil=True)
def extract_bits(words: np.ndarray, out: np.ndarray) -> int:
    """Positions of the set bits of u8[n], ascending, into `out` (i4[...]), which has room for them; how many."""
    return append_bits(words, 0, words.shape[0], out, 0)


@njit(cache=True, nogil=True)
def set_row_bits(out_rows: np.ndarray, rows: np.ndarray, bits: np.ndarray) -> None:
    """Set bit `bits[i]` (i8[n]) of row `rows[i]` (i8[n]) of u8[R, W]."""
    for i in range(rows.shape[0]):
        out_rows[rows[i], bits[i] >> 6] |= _ONE << np.uint64(bits[i] & 63)


@njit(cache=True, nogil=True)
def clear_row_bits(out_rows: np.ndarray, rows: np.ndarray, bits: np.ndarray) -> None:
    """Clear bit `bits[i]` (i8[n]) of row `rows[i]` (i8[n]) of u8[R, W]."""
    for i in range(rows.shape[0]):
        out_rows[rows[i], bits[i] >> 6] &= ~(_ONE << np.uint64(bits[i] & 63))
