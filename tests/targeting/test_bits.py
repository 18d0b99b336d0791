"""Loops over words of 64 bits, against sets of positions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from targeting.bits.kernels import (
    and_2_words,
    and_but_words,
    and_words,
    bit_count,
    but_words,
    clear_row_bits,
    clear_words,
    copy_words,
    count_bits,
    extract_bits,
    lowest_bit,
    or_2_words,
    or_words,
    set_row_bits,
    xor_words,
)
from targeting.bits.reference import positions, words_of

pytestmark = pytest.mark.kernels

WORD = 2**64
ROWS = st.lists(st.tuples(*(st.integers(0, WORD - 1) for _ in range(3))), max_size=9)


@given(ROWS)
def test_whole_rows_combine_like_sets(rows):
    out, a, b = (list(column) for column in zip(*rows, strict=True)) if rows else ([], [], [])
    was, one, two = set(positions(out)), set(positions(a)), set(positions(b))
    cases = [
        (lambda w: copy_words(w, of_a), one),
        (lambda w: clear_words(w), set()),
        (lambda w: or_words(w, of_a), was | one),
        (lambda w: or_2_words(w, of_a, of_b), was | one | two),
        (lambda w: xor_words(w, of_a), was ^ one),
        (lambda w: but_words(w, of_a), was - one),
        (lambda w: and_words(w, of_a), was & one),
        (lambda w: and_2_words(w, of_a, of_b), was & one & two),
        (lambda w: and_but_words(w, of_a, of_b), (was & one) - two),
    ]
    of_a, of_b = np.array(a, np.uint64), np.array(b, np.uint64)
    for combine, expected in cases:
        words = np.array(out, np.uint64)
        combine(words)
        assert words.tolist() == words_of(expected, len(out))
        assert count_bits(words) == len(expected)


@given(st.integers(0, WORD - 1))
def test_bits_of_a_word(x):
    word = np.uint64(x)
    assert bit_count(word) == x.bit_count()
    assert lowest_bit(word) == ((x & -x).bit_length() - 1 if x else 64)


@given(st.lists(st.integers(0, 127), max_size=9), st.lists(st.integers(0, 127), max_size=9))
def test_bits_are_set_and_cleared_in_rows(set_bits, cleared):
    rows = np.zeros((2, 2), np.uint64)
    set_row_bits(rows, np.ones(len(set_bits), np.int64), np.array(set_bits, np.int64))
    assert rows[1].tolist() == words_of(set_bits, 2)
    clear_row_bits(rows, np.ones(len(cleared), np.int64), np.array(cleared, np.int64))
    assert rows[1].tolist() == words_of(set(set_bits) - set(cleared), 2)
    assert not rows[0].any()


@given(st.lists(st.integers(0, WORD - 1), max_size=5), st.integers(0, 3))
def test_extraction(words, spare):
    expected = positions(words)
    assert words_of(expected, len(words)) == words
    out = np.full(len(expected) + spare, -7, np.int32)
    assert extract_bits(np.array(words, np.uint64), out) == len(expected)
    assert out[: len(expected)].tolist() == expected
