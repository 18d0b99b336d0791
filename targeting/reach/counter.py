"""How many known viewers an audience holds: counted when narrow, sampled when broad, told as a rounded range."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, replace

from targeting.attributes import STORED_DIMENSION_COUNT
from targeting.expressions import INTEREST_PREFIX, NO_ADS_SEGMENT, Clause, Expression, compile_clauses
from targeting.reach.exact import count_exactly
from targeting.reach.ranges import told_range
from targeting.reach.sample import Sample, TooManySegments
from targeting.segments.store import SegmentStore
from targeting.viewers import ViewerTable

EXACT_BELOW = 50_000
"""Audiences that the sample puts under this are counted one by one."""
ENOUGH = 14_000
"""Viewers found in a sample, after which it is precise enough: 3.5 standard errors are 3 %."""
SAMPLED_FROM = 400_000
"""With fewer viewers all audiences are counted one by one."""
STALE_SHARE = 256
"""A sample is drawn anew when one viewer in so many changed since."""


@dataclass(frozen=True, slots=True)
class Reach:
    """How many viewers an audience holds.

    Attributes:
        count: as far as is known.
        error: by how much it may be off, three standard errors; 0: it is exact.
    """

    count: int
    error: int

    def as_range(self, size: int) -> tuple[int, int]:
        """(low, high) as it is told, of `size` viewers: low <= viewers < high (`ranges.told_range`)."""
        return told_range(max(self.count - self.error, 0), min(self.count + self.error, size))


class ReachCounter:
    """Counts audiences among the viewers that are known. Any thread may call.

    A sample is kept beside the viewer table: at most 29 bytes a viewer, which is 2 and (599 + SEGMENT_ROWS) bits of one
    viewer in SAMPLE_STEP.
    """

    def __init__(self, viewers: ViewerTable, segments: SegmentStore) -> None:
        self._viewers = viewers
        self._segments = segments
        self._lock = threading.Lock()
        self._sample: Sample | None = None
        self._drawn_at = 0  # the table's revision

    def count(self, expression: Expression, creator_id: int, include_fans: bool) -> Reach:
        """How many viewers the audience holds in some context.

        What a request brings (content category, placement) is taken to suit: reach is about viewers. Those who bought
        "no ads" are not counted. Segments that nobody is in are not made known by being asked for.

        Raises:
            ValueError: the audience is too complex.
        """
        clauses = self._clauses(expression, creator_id, include_fans)
        if clauses and self._viewers.size >= SAMPLED_FROM:
            estimated = self._estimated(clauses)
            if estimated.count >= EXACT_BELOW:
                return estimated
        return Reach(count_exactly(clauses, self._viewers, self._segments), 0)

    def count_one_by_one(self, expression: Expression, creator_id: int, include_fans: bool) -> int:
        """The same without a sample, which no viewer moves by more than 1; raises as `count`."""
        return count_exactly(self._clauses(expression, creator_id, include_fans), self._viewers, self._segments)

    def range_of(self, expression: Expression, creator_id: int, include_fans: bool) -> tuple[int, int]:
        """A range of the number of viewers of an audience, low <= viewers < high; raises as `count`."""
        return self.count(expression, creator_id, include_fans).as_range(self._viewers.size)

    def _clauses(self, expression: Expression, creator_id: int, include_fans: bool) -> list[Clause]:
        """What is counted: the alternatives that anybody can satisfy."""
        compiled = compile_clauses(expression, creator_id, include_fans)
        sold = [replace(clause, excluded=clause.excluded | {NO_ADS_SEGMENT}) for clause in compiled]
        return [known for clause in sold if (known := _known(clause, self._segments))]

    def _estimated(self, clauses: list[Clause]) -> Reach:
        """From the sample; 0 where that cannot be done."""
        with self._lock:
            try:
                held, looked_at = self._present_sample().count(clauses, ENOUGH)
            except TooManySegments:
                return Reach(0, 0)
        size = self._viewers.size
        share = looked_at / size
        error = 3.0 * math.sqrt(held * (1.0 - share) * (1.0 - held / looked_at)) / share
        return Reach(round(held / share), math.ceil(error))

    def _present_sample(self) -> Sample:
        revision = self._viewers.revision
        if self._sample is None or (revision - self._drawn_at) * STALE_SHARE > self._sample.size:
            self._sample = None  # two of them would be too much
            self._sample = Sample(self._viewers, self._segments)
            self._drawn_at = revision
        return self._sample


def _known(clause: Clause, segments: SegmentStore) -> Clause | None:
    """The clause without context and without segments that nobody is in; None if that leaves nobody."""

    def has_members(name: str) -> bool:
        return name.startswith(INTEREST_PREFIX) or len(segments.members(name)) > 0

    groups = tuple(frozenset(filter(has_members, group)) for group in clause.groups)
    if not all(groups):
        return None
    stored = {dimension: codes for dimension, codes in clause.allowed.items() if dimension < STORED_DIMENSION_COUNT}
    return Clause(stored, groups, frozenset(filter(has_members, clause.excluded)))
