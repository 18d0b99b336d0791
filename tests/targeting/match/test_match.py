from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from targeting.attributes import CARDINALITIES, DIMENSION_COUNT, INTEREST_COUNT, Dimension
from targeting.expressions import (
    EVERYBODY,
    Clause,
    ViewerFacts,
    compile_clauses,
    interest_segment,
    matches,
    own_segments,
)
from targeting.expressions import fans_segment as fans
from targeting.match.hot.kernels import MOST_SEGMENTS, match_hot
from targeting.match.hot.reference import first_campaigns
from targeting.match.hot.rows import RowCache, make_row_cache
from targeting.match.index import build_index
from targeting.match.kernels import MatchIndex, count_matched, match_batch, match_row, match_viewer, static_row
from targeting.match.reference import matching_campaigns
from tests.targeting.audiences import CREATORS, NAMES, expressions, mask_of, viewers

pytestmark = pytest.mark.kernels

WORD = 2**64
NOTHING = Clause({}, (), frozenset())


class Names:
    """Numbers of names as the segment store gives them out."""

    def __init__(self) -> None:
        self.numbers = {interest_segment(code): code for code in range(INTEREST_COUNT)}

    def __call__(self, name: str) -> int:
        return self.numbers.setdefault(name, len(self.numbers))

    def sorted_numbers(self, names: object) -> np.ndarray:
        return np.array(sorted(self(name) for name in names), np.uint32)  # type: ignore[attr-defined]


def found(index: MatchIndex, names: Names, facts: ViewerFacts) -> list[int]:
    """What the kernels find, with an output no longer than it may need, and a scratch full of rubbish.

    The same from the viewer's static row, whole and from the front, and from a row that is kept.
    """
    campaigns = index.campaign_words * 64
    out = np.full(campaigns, -7, np.int32)
    scratch = np.full(index.scratch_words, WORD - 1, np.uint64)
    dims = np.array(facts.codes, np.int32)
    mask, segments = np.uint64(mask_of(facts)), names.sorted_numbers(facts.segments)
    matches_found = out[: match_viewer(index, dims, mask, segments, scratch, out)].tolist()
    row = np.full(index.rows.shape[1], WORD - 1, np.uint64)
    static_row(index, dims, mask, segments, scratch, row)
    for wanted in (0, 1, len(matches_found), campaigns):
        n = match_row(index, row, dims, wanted, scratch, out)
        assert n >= min(wanted, len(matches_found))
        assert out[:n].tolist() == matches_found[:n]
    cache = make_row_cache(index, 1)
    for wanted in (1, campaigns):  # made, then kept
        ptr, n = np.zeros(2, np.int64), len(segments)
        at = (np.array([9], np.uint64), dims[None, :], np.array([mask], np.uint64), np.uint64(1), np.array([0, n]))
        assert match_hot(index, cache, *at, segments, wanted, ptr, out) == ptr[1]
        assert out[: ptr[1]].tolist() == matches_found[:wanted]
    return matches_found


campaigns_strategy = st.lists(
    st.tuples(expressions(), st.sampled_from(CREATORS), st.booleans()), min_size=0, max_size=12
)


@settings(max_examples=60)
@given(campaigns_strategy, st.lists(viewers(), min_size=1, max_size=6))
def test_kernel_finds_what_reference_and_meaning_say(campaigns, audience):
    names = Names()
    clauses_of = [compile_clauses(*campaign) for campaign in campaigns]
    index = build_index(clauses_of, names)
    for facts in audience:
        meant = [
            c
            for c, (expression, creator_id, include_fans) in enumerate(campaigns)
            if matches(expression, facts, creator_id)
            and (include_fans or not own_segments(creator_id) & facts.segments)
        ]
        assert matching_campaigns(clauses_of, facts.codes, mask_of(facts), facts.segments) == meant
        assert found(index, names, facts) == meant


memberships = st.one_of(st.sampled_from(NAMES), st.integers(0, 5).map(interest_segment))
clauses = st.builds(
    Clause,
    st.dictionaries(st.sampled_from(Dimension), st.frozensets(st.integers(0, 3), min_size=1), max_size=3),
    st.lists(st.frozensets(memberships, min_size=1, max_size=3), max_size=5).map(tuple),
    st.frozensets(memberships, max_size=2),
)


@settings(max_examples=60)
@given(st.lists(st.lists(clauses, max_size=4), max_size=200), viewers(), st.randoms(use_true_random=False))
def test_many_clauses_of_many_groups(clauses_of, facts, random):
    clauses_of = clauses_of * random.choice((1, 1, 1, 40))
    random.shuffle(clauses_of)
    names = Names()
    index = build_index(clauses_of, names)
    expected = matching_campaigns(clauses_of, facts.codes, mask_of(facts), facts.segments)
    assert found(index, names, facts) == expected
    assert first_campaigns(clauses_of, facts.codes, mask_of(facts), facts.segments, 64) == expected[:64]


def test_no_campaign_and_no_clause():
    nobody = ViewerFacts((0,) * DIMENSION_COUNT, frozenset(), frozenset())
    names = Names()
    assert found(build_index([], names), names, nobody) == []
    assert found(build_index([()], names), names, nobody) == []
    assert found(build_index([(NOTHING,)], names), names, nobody) == [0]
    assert found(build_index([(), (NOTHING, NOTHING), ()], names), names, nobody) == [1]


@pytest.mark.parametrize("campaigns", [63, 64, 65, 1024, 1025])
def test_every_campaign_of_full_words(campaigns):
    names = Names()
    index = build_index([(NOTHING,)] * campaigns, names)
    out = np.empty(campaigns, np.int32)
    scratch = np.empty(index.scratch_words, np.uint64)
    n = match_viewer(index, np.zeros(8, np.int32), np.uint64(0), np.zeros(0, np.uint32), scratch, out)
    assert n == campaigns
    assert out.tolist() == list(range(campaigns))


def test_crowded_memberships_have_rows_of_their_own():
    names = Names()
    wants, shuns = Clause({}, (frozenset({"a"}),), frozenset()), Clause({}, (), frozenset({"a"}))
    interested = Clause({}, (frozenset({"b", "interest:3"}),), frozenset({"interest:4"}))
    clauses_of = [(wants,), (shuns,), (interested,), (NOTHING,)] * 100
    index = build_index(clauses_of, names)
    assert (index.dense_rows >= 0).any(axis=1).sum() == 4
    assert len(index.postings) == 0
    for interests in ({}, {3}, {4}, {3, 4}):
        for segments in ((), ("a",), ("b",), ("a", "b")):
            facts = ViewerFacts((0,) * 8, frozenset(interests), frozenset(segments))
            expected = matching_campaigns(clauses_of, facts.codes, mask_of(facts), facts.segments)
            assert found(index, names, facts) == expected


def test_segments_younger_than_the_index_are_passed_over():
    names = Names()
    index = build_index([compile_clauses(EVERYBODY, 1, False)], names)
    late = ViewerFacts((0,) * 8, frozenset(), frozenset({"made-later"}))
    fan = ViewerFacts((0,) * 8, frozenset(), frozenset({"made-later", fans(1)}))
    assert found(index, names, late) == [0]
    assert found(index, names, fan) == []


def test_every_code_of_every_dimension():
    names = Names()
    clauses_of = [
        (Clause({dimension: frozenset(chosen)}, (), frozenset()),)
        for dimension in Dimension
        for chosen in ({0}, {CARDINALITIES[dimension] - 1}, set(range(1, CARDINALITIES[dimension])))
    ]
    index = build_index(clauses_of, names)
    for dimension in Dimension:
        for code in range(CARDINALITIES[dimension]):
            codes = tuple(code if d == dimension else 1 for d in Dimension)
            facts = ViewerFacts(codes, frozenset(), frozenset())
            assert found(index, names, facts) == matching_campaigns(clauses_of, codes, 0, frozenset())


def test_a_batch_is_its_viewers_one_by_one():
    names = Names()
    clauses_of = [compile_clauses(EVERYBODY, creator_id, False) for creator_id in (1, 2)]
    index = build_index(clauses_of, names)
    dims, masks = np.zeros((4, 8), np.int32), np.zeros(4, np.uint64)
    rows = np.array([1, -1, 0, 99], np.int64)  # row 99 is younger than the memberships
    ptr = np.array([0, 1, 3], np.int64)
    segments = np.array([names(fans(1)), names(fans(1)), names(fans(2))], np.uint32)
    out_ptr, out = np.zeros(5, np.int64), np.empty(4 * 64, np.int32)
    assert match_batch(index, dims, masks, rows, ptr, segments, -1, out_ptr, out) == 5
    assert [out[a:b].tolist() for a, b in pairwise(out_ptr)] == [[], [0, 1], [1], [0, 1]]
    assert match_batch(index, dims, masks, rows, ptr, segments, 1, out_ptr, out) == 3
    assert [out[a:b].tolist() for a, b in pairwise(out_ptr)] == [[], [0], [1], [0]]
    assert match_batch(index, dims, masks, rows, ptr, segments, -1, out_ptr, out[:60]) == -1
    assert count_matched(index, dims, masks, np.array([0, 0, 1, 3, 3]), segments) == 3


def hot(
    index: MatchIndex, cache: RowCache, who: list[tuple[int, list[int], int, list[int]]], version: int
) -> list[int]:
    """Matches of viewers (id, dims, mask, segments), one after the other."""
    ptr = np.concatenate([[0], np.cumsum([len(segments) for *_, segments in who])]).astype(np.int64)
    out_ptr, out = np.zeros(len(who) + 1, np.int64), np.zeros(64 * index.campaign_words * len(who), np.int32)
    dims = np.array([dims for _, dims, _, _ in who], np.int32).reshape(-1, DIMENSION_COUNT)
    ids, masks = np.array([visit[0] for visit in who], np.uint64), np.array([visit[2] for visit in who], np.uint64)
    segments = np.array([s for *_, mine in who for s in mine], np.uint32)
    match_hot(index, cache, ids, dims, masks, np.uint64(version), ptr, segments, 64, out_ptr, out)
    return [out[a:b].tolist() for a, b in pairwise(out_ptr)]


def test_a_kept_row_counts_only_for_what_it_was_made_from():
    names = Names()
    old = Clause({Dimension.AGE_BAND: frozenset({3})}, (), frozenset())
    fond = Clause({}, (frozenset({"interest:5"}),), frozenset())
    member = Clause({}, (frozenset({"a"}),), frozenset())
    music = Clause({Dimension.CONTENT_CATEGORY: frozenset({2})}, (), frozenset())
    index = build_index([(old,), (fond,), (member,), (music,)], names)
    a, nobody = names("a"), [0] * DIMENSION_COUNT
    aged, listening = [*nobody], [*nobody]
    aged[Dimension.AGE_BAND], listening[Dimension.CONTENT_CATEGORY] = 3, 2
    cache = make_row_cache(index, 1)
    assert len(cache.keys) == 1
    visits = [
        ((1, nobody, 0, []), []), ((1, aged, 0, []), [0]), ((1, nobody, 1 << 5, []), [1]), ((1, listening, 0, []), [3]),
        ((1, listening, 0, [a]), [2, 3]), ((2, nobody, 0, [a]), [2]), ((2, nobody, 0, [a]), [2]),
    ]  # fmt: skip
    for once in (1, 2):
        for version, (who, expected) in enumerate(visits):
            assert hot(index, cache, [who] * once, version) == [expected] * once
    # With another version the segments are compared; the same version says that they are the same.
    other = names("other")
    assert hot(index, cache, [(3, nobody, 0, [a])], 1) == [[2]]
    assert hot(index, cache, [(3, nobody, 0, [other])], 2) == [[]]
    assert hot(index, cache, [(3, nobody, 0, [a])], 3) == [[2]]


def test_viewers_in_very_many_segments_are_not_kept():
    names = Names()
    index = build_index([(Clause({}, (frozenset({"a"}),), frozenset()),)], names)
    many = sorted([names("a"), *(names(f"s{k}") for k in range(MOST_SEGMENTS))])
    cache = make_row_cache(index, 1)
    for _ in range(2):
        assert hot(index, cache, [(4, [0] * 8, 0, many), (4, [0] * 8, 0, many[1:])], 1) == [[0], []]
    assert hot(index, cache, [], 1) == []
