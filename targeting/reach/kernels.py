"""Compiled counting of audiences: bitsets over a sample of the viewers, and a filter of rows for exact counts."""

from __future__ import annotations

import numpy as np
from numba import njit

from targeting.attributes import STORED_DIMENSION_COUNT
from targeting.bits.kernels import and_words, but_words, clear_words, copy_words, count_bits, or_words, xor_words

BLOCK_WORDS = 512
EVERYBODY_ROW = 0
CODES = 512
"""Room for each dimension's codes in a table of those that are allowed."""

BEGIN_CLAUSE, END_CLAUSE, BEGIN_GROUP, END_GROUP, XOR_ROW, OR_ROW, BUT_ROW = range(7)
"""Instructions of a program; the last three have a row: into the group by XOR, by OR; out of the clause."""

_ONE = np.uint64(1)
_ZERO = np.uint64(0)


@njit(cache=True, nogil=True)
def set_one_hot(
    attributes: np.ndarray,
    interest_masks: np.ndarray,
    code_rows: np.ndarray,
    interest_row: int,
    out_bits: np.ndarray,
) -> None:
    """Set each sampled viewer's bits.

    Args:
        attributes: u2[n, STORED_DIMENSION_COUNT], codes of the viewer of each bit.
        interest_masks: u8[n].
        code_rows: i8[STORED_DIMENSION_COUNT + 1], where each dimension's rows begin; code c of a dimension has row
            begin + c, but the last code none.
        interest_row: row of interest 0; the others follow.
        out_bits: u8[R, W], zeros.
    """
    for p in range(attributes.shape[0]):
        word, bit = p >> 6, _ONE << np.uint64(p & 63)
        out_bits[EVERYBODY_ROW, word] |= bit
        for d in range(STORED_DIMENSION_COUNT):
            row = code_rows[d] + np.int64(attributes[p, d])
            if row < code_rows[d + 1]:
                out_bits[row, word] |= bit
        mask, interest = interest_masks[p], interest_row
        while mask != _ZERO:
            if mask & _ONE:
                out_bits[interest, word] |= bit
            mask >>= _ONE
            interest += 1


@njit(cache=True, nogil=True)
def _run_block(
    bits: np.ndarray, program: np.ndarray, begin: int, clause: np.ndarray, group: np.ndarray, out: np.ndarray
) -> None:
    """Put into `out` (u8[b]) what a program makes of the words from `begin` on."""
    end = begin + out.shape[0]
    clear_words(out)
    for i in range(0, program.shape[0], 2):
        instruction, row = program[i], program[i + 1]
        if instruction == XOR_ROW:
            xor_words(group, bits[row, begin:end])
        elif instruction == OR_ROW:
            or_words(group, bits[row, begin:end])
        elif instruction == BUT_ROW:
            but_words(clause, bits[row, begin:end])
        elif instruction == BEGIN_GROUP:
            clear_words(group)
        elif instruction == END_GROUP:
            and_words(clause, group)
        elif instruction == BEGIN_CLAUSE:
            copy_words(clause, bits[EVERYBODY_ROW, begin:end])
        else:
            or_words(out, clause)


@njit(cache=True, nogil=True)
def count_sampled(
    bits: np.ndarray, program: np.ndarray, enough: int, scratch: np.ndarray, out_words: np.ndarray
) -> int:
    """How many of a sample a program holds, block by block until they are enough.

    Args:
        bits: u8[R, W], row EVERYBODY_ROW: every position.
        program: i4[2 p], pairs of an instruction and its row.
        enough: after the block with which there are so many, the rest is left alone.
        scratch: u8[3, BLOCK_WORDS].
        out_words: i8[1], how many words were counted.
    """
    count, begin = 0, 0
    while begin < bits.shape[1] and count < enough:
        size = min(BLOCK_WORDS, bits.shape[1] - begin)
        held = scratch[2, :size]
        _run_block(bits, program, begin, scratch[0, :size], scratch[1, :size], held)
        count += count_bits(held)
        begin += size
    out_words[0] = begin
    return count


@njit(cache=True, nogil=True)
def set_members(
    members: np.ndarray, positions: np.ndarray, sampled: np.ndarray, step: int, out_words: np.ndarray
) -> None:
    """Set the bits of a segment's members that are in the sample.

    Args:
        members: u4[m], rows.
        positions: i4[g], bit of the row sampled of each `step` neighbours; rows from `step` g on are in no group.
        sampled: u4[g], the row of each bit.
        out_words: u8[W], zeros.
    """
    for k in range(members.shape[0]):
        row = members[k]
        neighbours = np.int64(row) // step
        if neighbours < positions.shape[0]:
            p = positions[neighbours]
            if sampled[p] == row:
                out_words[p >> 6] |= _ONE << np.uint64(p & 63)


@njit(cache=True, nogil=True)
def filter_rows(
    rows: np.ndarray,
    attributes: np.ndarray,
    interest_masks: np.ndarray,
    dimensions: np.ndarray,
    allowed: np.ndarray,
    interest_groups: np.ndarray,
    excluded_interests: np.uint64,
    out_rows: np.ndarray,
) -> int:
    """Rows that have an allowed code in each of some dimensions, an interest of every group, and no excluded one.

    Args:
        rows: u4[m].
        attributes: u2[>= rows, STORED_DIMENSION_COUNT].
        interest_masks: u8[>= rows].
        dimensions: i8[k].
        allowed: u1[k, CODES], 1: the code is allowed in the dimension.
        interest_groups: u8[g], masks.
        excluded_interests: mask.
        out_rows: u4[m].

    Returns:
        How many there are; they are in `out_rows`, in their order.
    """
    found = 0
    for k in range(rows.shape[0]):  # who does not fit is overwritten: a store costs less than a wrongly guessed branch
        row = np.int64(rows[k])
        fits = np.uint8(1)
        for d in range(dimensions.shape[0]):
            fits &= allowed[d, attributes[row, dimensions[d]]]
        out_rows[found] = rows[k]
        found += np.int64(fits)
    if interest_groups.shape[0] == 0 and excluded_interests == _ZERO:
        return found
    left = 0
    for k in range(found):
        mask = interest_masks[np.int64(out_rows[k])]
        fits = np.uint8(mask & excluded_interests == _ZERO)
        for g in range(interest_groups.shape[0]):
            fits &= np.uint8(mask & interest_groups[g] != _ZERO)
        out_rows[left] = out_rows[k]
        left += np.int64(fits)
    return left
