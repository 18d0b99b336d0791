"""Compiled changes of a match index that is being made: clauses taken out of it and put into it, one bit each."""

from __future__ import annotations

import numpy as np
from numba import njit

from targeting.attributes import CARDINALITIES, DIMENSION_COUNT
from targeting.match.kernels import POSTINGS_AT_ONCE

_ONE = np.uint64(1)
_CARDINALITIES = np.array(CARDINALITIES, np.int64)
FIRST_CODES = np.concatenate([np.zeros(1, np.int64), np.cumsum(_CARDINALITIES)])
"""Where each dimension's codes begin when those of all are laid end to end."""


@njit(cache=True, nogil=True)
def clear_bits(out_rows: np.ndarray, bits: np.ndarray) -> None:
    """Clear bits (i8[n]) of every row of u8[R, W]."""
    for r in range(out_rows.shape[0]):
        for k in range(bits.shape[0]):
            out_rows[r, bits[k] >> 6] &= ~(_ONE << np.uint64(bits[k] & 63))


@njit(cache=True, nogil=True)
def allow_codes(tables: np.ndarray, bits: np.ndarray, allowed: np.ndarray, out_rows: np.ndarray) -> None:
    """Set the bits of clauses in the rows of the tables that they allow.

    Args:
        tables: i4[T, 1 + DIMENSION_COUNT], see `MatchIndex`.
        bits: i8[n], of the clauses.
        allowed: u1[n, codes of all dimensions], 1 where a clause allows a code.
        out_rows: u8[R, W].
    """
    for t in range(tables.shape[0]):
        size = np.int64(1)
        for d in range(DIMENSION_COUNT):
            if tables[t, 1 + d]:
                size *= _CARDINALITIES[d]
        for r in range(size):
            for k in range(bits.shape[0]):
                fits = True
                for d in range(DIMENSION_COUNT):
                    stride = np.int64(tables[t, 1 + d])
                    if stride and not allowed[k, FIRST_CODES[d] + r // stride % _CARDINALITIES[d]]:
                        fits = False
                if fits:
                    out_rows[tables[t, 0] + r, bits[k] >> 6] |= _ONE << np.uint64(bits[k] & 63)


@njit(cache=True, nogil=True)
def drop_postings(
    memberships: np.ndarray, bits: np.ndarray, gone: np.ndarray, words: int, further_words: np.ndarray
) -> int:
    """Drop what clauses that are gone had posted; answers with how many postings are left, moved to the front.

    Args:
        memberships, bits: i8[n], i8[n]: a membership, and the bit of the scratch that it sets.
        gone: u8[words], by clause.
        words, further_words: of the index.
    """
    kept = 0
    for k in range(bits.shape[0]):
        word, place = bits[k] >> 6, np.uint64(bits[k] & 63)
        clause_word = np.int64(further_words[word - 4 * words]) if word >= 4 * words else word % words
        if not gone[clause_word] >> place & _ONE:
            memberships[kept], bits[kept] = memberships[k], bits[k]
            kept += 1
    return kept


@njit(cache=True, nogil=True)
def fill_postings(memberships: np.ndarray, bits: np.ndarray, cursors: np.ndarray, out_postings: np.ndarray) -> None:
    """Write postings into their memberships' rows.

    Args:
        memberships, bits: i8[n], i8[n].
        cursors: i8[S], where each membership's next posting goes; moved on.
        out_postings: u4[P, POSTINGS_AT_ONCE].
    """
    for k in range(bits.shape[0]):
        at = cursors[memberships[k]]
        cursors[memberships[k]] += 1
        out_postings[at // POSTINGS_AT_ONCE, at % POSTINGS_AT_ONCE] = bits[k]
