from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from targeting import reach
from targeting.attributes import STORED_DIMENSION_COUNT, Dimension
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
    fans_segment,
    matches,
)
from targeting.reach import SAMPLE_STEP, count_viewers, estimate_reach
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
    meant = [
        matches(expression, facts, creator_id) and (include_fans or fans_segment(creator_id) not in facts.segments)
        for facts in audience
    ]
    assert count_viewers(expression, creator_id, include_fans, table, segments, 1) == sum(meant)
    assert count_viewers(expression, creator_id, include_fans, table, segments, 3) == sum(meant[::3])
    low, high = estimate_reach(expression, creator_id, include_fans, table, segments)
    assert low <= sum(meant) <= high
    assert (low % 10, high % 10) == (0, 0)
    assert segments.names == names


def test_what_a_request_brings_is_taken_to_suit() -> None:
    table, segments = stored([ViewerFacts((k, 0, 0, 0, 0, 0, 0, 0), frozenset(), frozenset()) for k in range(20)])
    here = Attribute(Dimension.PLACEMENT, (3,))
    assert count_viewers(here, 1, True, table, segments, 1) == 20
    assert count_viewers(Not(here), 1, True, table, segments, 1) == 20
    assert count_viewers(All((here, Attribute(Dimension.REGION, (3, 4)))), 1, True, table, segments, 1) == 2


def test_nobody_known_and_segments_that_nobody_made() -> None:
    table, segments = ViewerTable(), SegmentStore()
    assert estimate_reach(EVERYBODY, 1, False, table, segments) == (0, 0)
    table.ensure(np.arange(30, dtype=np.uint64))
    assert estimate_reach(EVERYBODY, 1, False, table, segments) == (30, 30)
    assert estimate_reach(Segment("no"), 1, False, table, segments) == (0, 0)
    assert estimate_reach(Not(Segment("no")), 1, False, table, segments) == (30, 30)
    assert estimate_reach(Any((Segment("no"), Interests((1,)))), 1, False, table, segments) == (0, 0)
    assert segments.names == []


@pytest.mark.parametrize("share", [0.3, 0.9, 1.0])
def test_broad_audiences_are_sampled(monkeypatch: pytest.MonkeyPatch, share: float) -> None:
    monkeypatch.setattr(reach, "EXACT_BELOW", 2000)
    steps: list[int] = []
    counted = reach.count_viewers

    def noted(*args: object) -> int:
        steps.append(int(str(args[-1])))
        return counted(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(reach, "count_viewers", noted)
    table, segments = ViewerTable(), SegmentStore()
    size = 12_000
    rows = table.ensure(np.arange(1, size + 1, dtype=np.uint64))
    members = rows[np.random.default_rng(7).random(size) < share]
    segments.put("x", members, Change.REPLACE)
    low, high = estimate_reach(Segment("x"), 1, False, table, segments)
    assert steps == [SAMPLE_STEP]
    assert low <= len(members) <= high
    assert high - low < 0.4 * len(members)
    assert high <= size


def test_ranges_are_round() -> None:
    assert [(reach._rounded_down(n), reach._rounded_up(n)) for n in (0, 7, 10, 99, 101, 1234, 98_765, 1_234_567)] == [
        (0, 0),
        (0, 10),
        (10, 10),
        (90, 100),
        (100, 110),
        (1200, 1300),
        (98_000, 99_000),
        (1_200_000, 1_300_000),
    ]
