"""Counting an audience one by one: from the segments that it asks for, or from all viewers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from pyroaring import BitMap

from targeting.expressions import INTEREST_PREFIX, Clause
from targeting.reach.kernels import CODES, filter_rows
from targeting.segments.memberships import rows_array
from targeting.segments.store import SegmentStore
from targeting.viewers import ViewerTable

_SCANNED_AT_A_TIME = 2**20


def count_exactly(clauses: Sequence[Clause], viewers: ViewerTable, segments: SegmentStore) -> int:
    """How many known viewers satisfy at least one clause; clauses of viewers' attributes and known segments only."""
    parts = [rows for clause in clauses for rows in _held(clause, viewers, segments)]
    if len(clauses) <= 1:
        return sum(map(len, parts))
    is_held = np.zeros(viewers.size, np.bool_)
    for rows in parts:
        is_held[rows] = True
    return int(np.count_nonzero(is_held))


def _held(clause: Clause, viewers: ViewerTable, segments: SegmentStore) -> Iterator[np.ndarray]:
    """Rows of the viewers that satisfy a clause, u4[...] each, no row twice."""
    wanted = [group for group in clause.groups if not _interests(group)]
    mixed = [group for group in clause.groups if 0 < len(_interests(group)) < len(group)]
    excluded = clause.excluded - _interests(clause.excluded)
    for rows in _candidates(wanted, viewers.size, segments):
        held = _filtered(rows, clause, viewers)
        if excluded:
            held = held[~_in_any(excluded, held, segments)]
        for group in mixed:
            has_interest = viewers.interest_masks[held] & interest_mask(_interests(group)) != 0
            held = held[has_interest | _in_any(group - _interests(group), held, segments)]
        yield held


def _candidates(wanted: Sequence[frozenset[str]], size: int, segments: SegmentStore) -> Iterator[np.ndarray]:
    """Rows that have a segment of each group, in pieces; all of them if there is no group."""
    if not wanted:
        for begin in range(0, size, _SCANNED_AT_A_TIME):
            yield np.arange(begin, min(begin + _SCANNED_AT_A_TIME, size), dtype=np.uint32)
        return
    within = [BitMap.union(*map(segments.members, group)) for group in wanted]
    yield rows_array(BitMap.intersection(*sorted(within, key=len)))


def _in_any(names: Iterable[str], rows: np.ndarray, segments: SegmentStore) -> np.ndarray:
    """Which rows (u4[m]) are in any of the segments (b1[m])."""
    found, one = np.zeros(len(rows), np.uint8), np.empty(len(rows), np.uint8)
    for name in names:
        segments.probe(name).mask(rows, one)
        found |= one
    return found.view(np.bool_)


def _filtered(rows: np.ndarray, clause: Clause, viewers: ViewerTable) -> np.ndarray:
    """Those of the rows (u4[m]) that the clause's attributes and its interests alone let pass."""
    allowed = np.zeros((len(clause.allowed), CODES), np.uint8)
    for place, codes in enumerate(clause.allowed.values()):
        allowed[place, list(codes)] = 1
    groups = [interest_mask(group) for group in clause.groups if len(_interests(group)) == len(group)]
    out = np.empty(len(rows), np.uint32)
    found = filter_rows(
        rows,
        viewers.attributes,
        viewers.interest_masks,
        np.array([int(dimension) for dimension in clause.allowed], np.int64),
        allowed,
        np.array(groups, np.uint64),
        interest_mask(_interests(clause.excluded)),
        out,
    )
    return out[:found]


def interest_mask(names: Iterable[str]) -> np.uint64:
    """The mask of interests by their segments' names."""
    return np.uint64(sum(1 << int(name.removeprefix(INTEREST_PREFIX)) for name in names))


def _interests(names: Iterable[str]) -> frozenset[str]:
    return frozenset(name for name in names if name.startswith(INTEREST_PREFIX))
