from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from targeting.attributes import CARDINALITIES, STORED_DIMENSION_COUNT, Dimension
from targeting.expressions import (
    EVERYBODY,
    All,
    Any,
    Attribute,
    Expression,
    Interests,
    Not,
    Segment,
    ViewerFacts,
    compile_clauses,
    interest_segment,
    matches,
    own_segments,
)
from targeting.reach import counter as counter_module
from targeting.reach import sample as sample_module
from targeting.reach.counter import Reach, ReachCounter
from targeting.reach.exact import count_exactly
from targeting.reach.ranges import LEAST_TOLD, told_range
from targeting.reach.reference import rows_held
from targeting.reach.sample import Sample, _boundary_rows
from targeting.segments.store import Change, SegmentStore
from targeting.viewers import ViewerTable
from tests.targeting.audiences import CREATORS, expressions, mask_of, viewers

pytestmark = pytest.mark.kernels

CONTEXT = (Dimension.CONTENT_CATEGORY, Dimension.PLACEMENT)


def stored(audience: list[ViewerFacts]) -> tuple[ViewerTable, SegmentStore]:
    table, segments = ViewerTable(), SegmentStore()
    n = len(audience)
    codes = np.array([facts.codes[:STORED_DIMENSION_COUNT] for facts in audience], np.uint16)
    masks = np.array([mask_of(facts) for facts in audience], np.uint64)
    rows = table.put(np.arange(1, n + 1, dtype=np.uint64), codes.reshape(n, STORED_DIMENSION_COUNT), masks)
    for row, facts in zip(rows.tolist(), audience, strict=True):
        for name in sorted(facts.segments):
            segments.put(name, np.array([row]), Change.ADD)
    return table, segments


def has_context(node: Expression) -> bool:
    match node:
        case All(of=of) | Any(of=of):
            return any(has_context(part) for part in of)
        case Not(of=part):
            return has_context(part)
        case Attribute(dimension=dimension):
            return dimension in CONTEXT
        case _:
            return False


CODES = st.sampled_from(range(STORED_DIMENSION_COUNT)).flatmap(
    lambda d: st.tuples(st.just(d), st.frozensets(st.integers(0, CARDINALITIES[d] - 1), min_size=1))
)


def meant_of(expression: Expression, audience: list[ViewerFacts], creator_id: int, include_fans: bool) -> list[bool]:
    return [
        matches(expression, facts, creator_id) and (include_fans or not own_segments(creator_id) & facts.segments)
        for facts in audience
    ]


@settings(max_examples=60)
@given(
    expressions().filter(lambda expression: not has_context(expression)),
    st.lists(viewers(), max_size=12),
    st.sampled_from(CREATORS),
    st.booleans(),
)
def test_narrow_audiences_are_counted(
    expression: Expression, audience: list[ViewerFacts], creator_id: int, include_fans: bool
) -> None:
    table, segments = stored(audience)
    names = segments.names
    meant = meant_of(expression, audience, creator_id, include_fans)
    counter = ReachCounter(table, segments)
    assert counter.count(expression, creator_id, include_fans) == Reach(sum(meant), 0)
    low, high = counter.range_of(expression, creator_id, include_fans)
    assert (low, high) == (0, 100)
    assert segments.names == names


@settings(max_examples=60)
@given(
    expressions().filter(lambda expression: not has_context(expression)),
    st.lists(viewers(), min_size=4, max_size=30),
    st.sampled_from(CREATORS),
    st.booleans(),
)
def test_a_sample_holds_what_its_viewers_are(
    expression: Expression, audience: list[ViewerFacts], creator_id: int, include_fans: bool
) -> None:
    table, segments = stored(audience)
    sample = Sample(table, segments)
    assert sorted(row // 4 for row in sample._rows.tolist()) == list(range(len(audience) // 4))
    sampled = set(sample._rows.tolist())
    clauses = compile_clauses(expression, creator_id, include_fans)
    names = [facts.segments | {interest_segment(code) for code in facts.interests} for facts in audience]
    held = rows_held(clauses, [facts.codes for facts in audience], names)
    assert len(held) == sum(meant_of(expression, audience, creator_id, include_fans))
    assert count_exactly(clauses, table, segments) == len(held)
    for _ in range(2):  # from what the first count kept, too
        assert sample.count(clauses, 10**9) == (len(sampled & set(held)), len(sampled))


@given(CODES)
def test_codes_from_the_rows_of_their_boundaries(chosen: tuple[int, frozenset[int]]) -> None:
    dimension, codes = chosen
    begin = int(sample_module._CODE_ROWS[dimension])
    rows = _boundary_rows(dimension, codes)
    for code in range(CARDINALITIES[dimension]):
        under = [row == 0 or code <= row - begin for row in rows]
        assert sum(under) % 2 == (code in codes)


def test_more_segments_than_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample_module, "SEGMENT_ROWS", 2)
    monkeypatch.setattr(counter_module, "SAMPLED_FROM", 1)
    monkeypatch.setattr(counter_module, "EXACT_BELOW", 1)
    table, segments = ViewerTable(), SegmentStore()
    table.ensure(np.arange(1, 401, dtype=np.uint64))
    for k in range(4):
        segments.put(f"s{k}", np.arange(100 * k, 400), Change.REPLACE)
    counter = ReachCounter(table, segments)
    for k in (0, 1, 2, 0, 3, 2, 1):
        assert counter.count(Segment(f"s{k}"), 1, True).count == 400 - 100 * k
    segments.put("s1", np.arange(4), Change.REMOVE)
    segments.put("s1", np.arange(200), Change.REMOVE)
    assert counter.count(Segment("s1"), 1, True).count == 200
    three = Any((Segment("s1"), Segment("s2"), Segment("s3")))
    assert counter.count(three, 1, True) == Reach(200, 0)


def test_what_a_request_brings_is_taken_to_suit() -> None:
    table, segments = stored([ViewerFacts((k, 0, 0, 0, 0, 0, 0, 0), frozenset(), frozenset()) for k in range(20)])
    counter = ReachCounter(table, segments)
    here = Attribute(Dimension.PLACEMENT, (3,))
    assert counter.count(here, 1, True) == Reach(20, 0)
    assert counter.count(Not(here), 1, True) == Reach(20, 0)
    assert counter.count(All((here, Attribute(Dimension.REGION, (3, 4)))), 1, True) == Reach(2, 0)


def test_nobody_known_and_segments_that_nobody_made() -> None:
    table, segments = ViewerTable(), SegmentStore()
    counter = ReachCounter(table, segments)
    assert counter.range_of(EVERYBODY, 1, False) == (0, 100)
    table.ensure(np.arange(130, dtype=np.uint64))
    assert counter.range_of(EVERYBODY, 1, False) == (100, 200)
    assert counter.range_of(Segment("no"), 1, False) == (0, 100)
    assert counter.range_of(Not(Segment("no")), 1, False) == (100, 200)
    assert counter.range_of(Any((Segment("no"), Interests((1,)))), 1, False) == (0, 100)
    assert segments.names == []


@pytest.mark.parametrize("share", [0.3, 0.9, 1.0])
def test_broad_audiences_are_sampled(monkeypatch: pytest.MonkeyPatch, share: float) -> None:
    monkeypatch.setattr(counter_module, "EXACT_BELOW", 2_000)
    monkeypatch.setattr(counter_module, "SAMPLED_FROM", 1_000)
    table, segments = ViewerTable(), SegmentStore()
    size = 12_000
    rows = table.ensure(np.arange(1, size + 1, dtype=np.uint64))
    members = rows[np.random.default_rng(7).random(size) < share]
    segments.put("x", members, Change.REPLACE)
    counter = ReachCounter(table, segments)
    reach = counter.count(Segment("x"), 1, True)
    assert (reach.error > 0) == (share < 1.0)
    assert abs(reach.count - len(members)) <= reach.error < 0.2 * len(members)
    low, high = counter.range_of(Segment("x"), 1, True)
    assert low <= len(members) < high <= size + 1_000
    assert counter.count(All((Segment("x"), Not(Segment("x")))), 1, True) == Reach(0, 0)


def test_a_sample_stops_when_it_has_found_enough() -> None:
    table, segments = ViewerTable(), SegmentStore()
    table.ensure(np.arange(1, 140_001, dtype=np.uint64))
    sample = Sample(table, segments)
    everybody = compile_clauses(EVERYBODY, 1, True)
    assert sample.count(everybody, 10**9) == (35_000, 35_000)
    assert sample.count(everybody, 1) == (64 * 512, 64 * 512)


def test_a_sample_follows_the_viewers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counter_module, "EXACT_BELOW", 1)
    monkeypatch.setattr(counter_module, "SAMPLED_FROM", 1)
    table, segments = ViewerTable(), SegmentStore()
    counter = ReachCounter(table, segments)
    ids = np.arange(1, 1_001, dtype=np.uint64)
    table.ensure(ids)
    known = Attribute(Dimension.GENDER, (1,))
    assert counter.count(Not(known), 1, True).count == 1_000
    attributes = np.zeros((1_000, STORED_DIMENSION_COUNT), np.uint16)
    attributes[:, Dimension.GENDER] = 1
    table.put(ids, attributes, np.zeros(1_000, np.uint64))
    assert counter.count(known, 1, True).count == 1_000
    table.ensure(np.arange(1_001, 2_001, dtype=np.uint64))
    reach = counter.count(known, 1, True)
    assert abs(reach.count - 1_000) <= reach.error


@given(st.integers(0, 10**10), st.integers(0, 10**9))
def test_a_range_is_true_and_never_a_number(least: int, more: int) -> None:
    low, high = told_range(least, least + more)
    assert low <= least and least + more < high
    assert low % LEAST_TOLD == 0 and high % LEAST_TOLD == 0
    assert low > 0.9 * least - LEAST_TOLD and high <= 1.1 * (least + more) + LEAST_TOLD


@pytest.mark.parametrize(
    ("count", "told"),
    [
        (0, (0, 100)), (1, (0, 100)), (60, (0, 100)), (99, (0, 100)), (100, (100, 200)), (999, (900, 1_000)),
        (1_000, (1_000, 1_100)), (12_000, (12_000, 13_000)), (12_999, (12_000, 13_000)), (99_999, (99_000, 100_000)),
    ],
)  # fmt: skip
def test_ranges_of_numbers(count: int, told: tuple[int, int]) -> None:
    assert told_range(count, count) == told
    assert Reach(count, 0).as_range(count) == told
