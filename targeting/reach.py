"""How many known viewers an audience holds: counted when narrow, sampled when broad, told as a rounded range."""

from __future__ import annotations

import numpy as np

from targeting.attributes import CARDINALITIES, STORED_DIMENSION_COUNT
from targeting.expressions import INTEREST_PREFIX, Clause, Expression, compile_clauses
from targeting.match.index import build_index
from targeting.match.kernels import count_matched
from targeting.segments.store import SegmentStore
from targeting.viewers import ViewerTable

SAMPLE_STEP = 16
EXACT_BELOW = 50_000
"""Audiences that the sample puts under this are counted one by one."""


def count_viewers(
    expression: Expression,
    creator_id: int,
    include_fans: bool,
    viewers: ViewerTable,
    segments: SegmentStore,
    step: int,
) -> int:
    """Viewers among every `step`-th row whom the audience holds in some context.

    What a request brings (content category, placement) is taken to suit: reach is about viewers. Segments that nobody
    is in are not made known by being asked for.
    """
    clauses = [
        known for clause in compile_clauses(expression, creator_id, include_fans) if (known := _known(clause, segments))
    ]
    index = build_index([clauses], segments.segment_idx)
    rows = np.arange(0, viewers.size, step, dtype=np.int64)
    dims = np.zeros((len(rows), len(CARDINALITIES)), np.int32)
    dims[:, :STORED_DIMENSION_COUNT] = viewers.attributes[rows]
    ptr, lists = segments.memberships().of_rows(rows)
    return int(count_matched(index, dims, viewers.interest_masks[rows], ptr, lists))


def estimate_reach(
    expression: Expression, creator_id: int, include_fans: bool, viewers: ViewerTable, segments: SegmentStore
) -> tuple[int, int]:
    """A range (low, high) that holds the number of known viewers of an audience.

    Exact (but for rounding) under EXACT_BELOW viewers; above, from every SAMPLE_STEP-th viewer, with three standard
    errors.
    """
    sampled = count_viewers(expression, creator_id, include_fans, viewers, segments, SAMPLE_STEP)
    if sampled * SAMPLE_STEP < EXACT_BELOW:
        exact = count_viewers(expression, creator_id, include_fans, viewers, segments, 1)
        return _rounded_down(exact), _rounded_up(exact)
    error = 3.0 * np.sqrt(sampled * (1.0 - 1.0 / SAMPLE_STEP)) * SAMPLE_STEP
    estimate = sampled * SAMPLE_STEP
    return _rounded_down(int(max(estimate - error, 0))), _rounded_up(int(min(estimate + error, viewers.size)))


def _known(clause: Clause, segments: SegmentStore) -> Clause | None:
    """The clause without context and without segments that nobody is in; None if that leaves nobody."""

    def has_members(name: str) -> bool:
        return name.startswith(INTEREST_PREFIX) or len(segments.members(name)) > 0

    groups = tuple(frozenset(filter(has_members, group)) for group in clause.groups)
    if not all(groups):
        return None
    stored = {dimension: codes for dimension, codes in clause.allowed.items() if dimension < STORED_DIMENSION_COUNT}
    return Clause(stored, groups, frozenset(filter(has_members, clause.excluded)))


def _grain(count: int) -> int:
    """The second significant digit's unit, so that a range never tells a small crowd apart: at least 10."""
    return max(10, 10 ** (len(str(count)) - 2))


def _rounded_down(count: int) -> int:
    return count // _grain(count) * _grain(count)


def _rounded_up(count: int) -> int:
    return -(-count // _grain(count)) * _grain(count)
