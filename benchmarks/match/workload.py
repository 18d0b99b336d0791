"""Campaigns and viewers for `fanbid bench match`: ten dimensions, thousands of segments, in the shipped forms.

The dimensions are the eight attributes, interests, and a fan tier, which is one of six segments that everybody is in
one of. A campaign has conditions on one to four of them; half of the campaigns ask for some of the other segments,
three in five are closed to one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.workload import Audience, draw_condition, draw_segments, make_audience, segment_name
from targeting.attributes import CARDINALITIES, DIMENSION_COUNT, STORED_DIMENSION_COUNT
from targeting.expressions import All, Any, Clause, Expression, Segment, compile_clauses
from targeting.segments.store import Change, SegmentStore

SEGMENTS = 5_000
TIERS = 6
MOST_TIERS = 3
_TIER = "tier"
_CONDITIONS = (
    "region", "age", "gender", "os", "network", "device", "content", "placement", "interests", _TIER,
)  # fmt: skip
_SHARES = np.array([0.2, 0.15, 0.15, 0.05, 0.05, 0.05, 0.1, 0.05, 0.15, 0.05])


@dataclass(frozen=True)
class Viewers:
    """V viewers, as the index takes them and as names.

    Attributes:
        dims: i4[V, DIMENSION_COUNT].
        interest_masks: u8[V].
        segment_ptr, segments: i8[V + 1], u4[...]: each viewer's segments by number, ascending.
        rows: i8[V], 0 to V - 1: the viewers' rows in the store that numbers their segments.
        names: names of the segments, by number less 64.
    """

    dims: np.ndarray
    interest_masks: np.ndarray
    segment_ptr: np.ndarray
    segments: np.ndarray
    rows: np.ndarray
    names: list[str]

    def names_of(self, i: int) -> frozenset[str]:
        """Viewer i's segments."""
        mine = self.segments[self.segment_ptr[i] : self.segment_ptr[i + 1]]
        return frozenset(self.names[number - 64] for number in mine.tolist())


def tier_name(tier: int) -> str:
    """The segment of a tier's viewers."""
    return f"tier:{tier}"


def make_viewers(count: int, store: SegmentStore, seed: int, segments: int = SEGMENTS) -> Viewers:
    """Draw viewers, put their segments into `store`, and a content category and a placement into their requests."""
    audience: Audience = make_audience(count, seed, segments)
    rng = np.random.default_rng([seed, 4])
    for number, rows in enumerate(audience.members):
        store.put(segment_name(number), rows, Change.REPLACE)
    tiers = rng.integers(0, TIERS, count)
    for tier in range(TIERS):
        store.put(tier_name(tier), np.flatnonzero(tiers == tier), Change.REPLACE)
    dims = np.empty((count, DIMENSION_COUNT), np.int32)
    dims[:, :STORED_DIMENSION_COUNT] = audience.attributes
    for dimension in range(STORED_DIMENSION_COUNT, DIMENSION_COUNT):
        dims[:, dimension] = rng.integers(1, CARDINALITIES[dimension], count)
    everybody = np.arange(count, dtype=np.int64)
    ptr, numbers = store.memberships().of_rows(everybody)
    return Viewers(dims, audience.interest_masks, ptr, numbers, everybody, store.names)


def draw_audiences(count: int, seed: int, segments: int = SEGMENTS) -> list[tuple[Clause, ...]]:
    """The compiled audiences of `count` campaigns, each of a creator of its own."""
    rng = np.random.default_rng([seed, 5])
    return [compile_clauses(draw_audience(rng, segments), creator_id, False) for creator_id in range(1, count + 1)]


def draw_audience(rng: np.random.Generator, segments: int = SEGMENTS) -> Expression:
    """One campaign's audience."""
    kinds = rng.choice(_CONDITIONS, int(rng.integers(1, 5)), replace=False, p=_SHARES).tolist()
    conditions = [_tiers(rng) if kind == _TIER else draw_condition(kind, rng) for kind in kinds]
    return All((*conditions, *draw_segments(rng, segments)))


def _tiers(rng: np.random.Generator) -> Expression:
    chosen = rng.choice(TIERS, int(rng.integers(1, MOST_TIERS + 1)), replace=False).tolist()
    return Any(tuple(Segment(tier_name(tier)) for tier in sorted(chosen)))
