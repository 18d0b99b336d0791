"""An index that is edited finds what one that is built anew finds, whatever changes in which order."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from targeting.bits.reference import words_of
from targeting.expressions import ViewerFacts
from targeting.match.edits.editable import EditableIndex
from targeting.match.edits.kernels import drop_postings
from targeting.match.edits.reference import edited, postings_left
from targeting.match.reference import matching_campaigns
from tests.targeting.audiences import mask_of, viewers
from tests.targeting.match.test_match import NOTHING, Names, clauses, found

pytestmark = pytest.mark.kernels

alternatives = st.lists(clauses, max_size=4)


@settings(max_examples=40)
@given(
    st.lists(alternatives, max_size=30),
    st.lists(st.dictionaries(st.integers(0, 300), alternatives, max_size=8), max_size=4),
    viewers(),
)
def test_edits_are_as_good_as_a_new_index(first, rounds, facts):
    names, clauses_of = Names(), list(first)
    index = EditableIndex(clauses_of, names)
    for changes in ({}, *rounds):
        clauses_of = edited(clauses_of, changes)
        before, rows = index.present, index.present.rows.copy()
        present = index.edit(changes, partial(list, clauses_of))
        assert present is index.present
        assert np.array_equal(before.rows, rows)
        expected = matching_campaigns(clauses_of, facts.codes, mask_of(facts), facts.segments)
        assert found(present, names, facts) == expected


def test_small_changes_take_no_new_index():
    names = Names()
    clauses_of = [[NOTHING]] * 1_000
    index = EditableIndex(clauses_of, names)

    def not_asked():
        raise AssertionError("built anew")

    nobody = ViewerFacts((0,) * 8, frozenset(), frozenset())
    for campaign in (0, 999, 1_000, 1_100):
        assert campaign in found(index.edit({campaign: [NOTHING, NOTHING]}, not_asked), names, nobody)
        assert campaign not in found(index.edit({campaign: []}, not_asked), names, nobody)
    assert found(index.present, names, nobody) == list(range(1, 999))


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 8 * 64 + 191)), max_size=20), st.sets(st.integers(0, 127)))
def test_postings_of_clauses_that_are_gone_are_dropped(postings, gone):
    words, further_words = 2, np.array([1, 0, 1], np.int32)
    clause_of = {bit: bit % 128 for bit in range(4 * 128)}
    clause_of |= {8 * 64 + 64 * k + b: 64 * int(word) + b for k, word in enumerate(further_words) for b in range(64)}
    memberships = np.array([membership for membership, _ in postings], np.int64)
    bits = np.array([bit for _, bit in postings], np.int64)
    kept = drop_postings(memberships, bits, np.array(words_of(gone, words), np.uint64), words, further_words)
    left = list(zip(memberships[:kept].tolist(), bits[:kept].tolist(), strict=True))
    assert left == postings_left(postings, gone, clause_of)
