"""A sample of the viewers as bitsets: one row of every few, in an order drawn once: any part of it is a sample, too."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from targeting.attributes import CARDINALITIES, INTEREST_COUNT, STORED_DIMENSION_COUNT
from targeting.bits.kernels import or_words
from targeting.expressions import INTEREST_PREFIX, Clause
from targeting.reach.kernels import (
    BEGIN_CLAUSE,
    BEGIN_GROUP,
    BLOCK_WORDS,
    BUT_ROW,
    END_CLAUSE,
    END_GROUP,
    EVERYBODY_ROW,
    OR_ROW,
    XOR_ROW,
    count_sampled,
    set_members,
    set_one_hot,
)
from targeting.segments.memberships import rows_array
from targeting.segments.store import SegmentStore
from targeting.viewers import ViewerTable

SAMPLE_STEP = 4
"""One row of so many neighbours is in the sample."""
SEGMENT_ROWS = 256
"""Segments whose bitsets are kept; the one asked for longest ago gives way."""
_SEED = 41

_CODE_ROWS = np.cumsum([EVERYBODY_ROW + 1, *(count - 1 for count in CARDINALITIES[:STORED_DIMENSION_COUNT])])
_INTEREST_ROW = int(_CODE_ROWS[-1])
_SEGMENT_ROW = _INTEREST_ROW + INTEREST_COUNT


class TooManySegments(Exception):
    """An audience names more than SEGMENT_ROWS segments."""


class Sample:
    """Bitsets over a sample: of codes below each code of each dimension, of interests, and of segments when asked for.

    The codes of a dimension that an audience allows are runs; the bitset of a run is that of codes below its end XOR
    that of codes below its begin, and runs are apart, so XOR joins them, too. (Range encoding: Chan and Ioannidis,
    "Bitmap index design and evaluation", SIGMOD 1998.) Callers take turns.

    Attributes:
        size: viewers that it stands for.
        positions: of the sample.
    """

    def __init__(self, viewers: ViewerTable, segments: SegmentStore) -> None:
        """Draw a sample of the viewers as they are; segments are looked at when they are asked for."""
        self._segments = segments
        self.size = viewers.size
        self.positions = self.size // SAMPLE_STEP
        rng = np.random.default_rng([_SEED, self.positions])
        groups = rng.permutation(self.positions).astype(np.uint32)  # by position
        self._rows = groups * np.uint32(SAMPLE_STEP) + rng.integers(0, SAMPLE_STEP, self.positions, np.uint32)
        self._position_of = np.empty(self.positions, np.int32)
        self._position_of[groups] = np.arange(self.positions, dtype=np.int32)
        words = -(-self.positions // 64)
        self._bits = np.zeros((_SEGMENT_ROW + SEGMENT_ROWS, words), np.uint64)
        set_one_hot(
            viewers.attributes[self._rows], viewers.interest_masks[self._rows], _CODE_ROWS, _INTEREST_ROW, self._bits
        )
        for begin, end in zip(_CODE_ROWS[:-1].tolist(), _CODE_ROWS[1:].tolist(), strict=True):
            for row in range(begin + 1, end):  # from each code's viewers to those of all codes up to it
                or_words(self._bits[row], self._bits[row - 1])
        self._kept: OrderedDict[str, tuple[int, object]] = OrderedDict()  # row and members, by segment
        self._scratch = np.empty((3, BLOCK_WORDS), np.uint64)
        self._counted = np.zeros(1, np.int64)

    def count(self, clauses: Sequence[Clause], enough: int) -> tuple[int, int]:
        """(positions that satisfy at least one clause, positions looked at): all, or until there are enough.

        Raises:
            TooManySegments: use an exact count.
        """
        program = self._program(clauses)
        count = count_sampled(self._bits, program, enough, self._scratch, self._counted)
        return int(count), min(64 * int(self._counted[0]), self.positions)

    def _program(self, clauses: Sequence[Clause]) -> np.ndarray:
        """The clauses as `count_sampled` wants them."""
        names = {name for clause in clauses for group in (*clause.groups, clause.excluded) for name in group}
        row_of = {name: self._row_of(name, len(names)) for name in names}
        steps: list[int] = []
        for clause in clauses:
            steps += (BEGIN_CLAUSE, 0)
            for dimension, codes in clause.allowed.items():
                steps += (BEGIN_GROUP, 0)
                for row in _boundary_rows(int(dimension), codes):
                    steps += (XOR_ROW, row)
                steps += (END_GROUP, 0)
            for group in clause.groups:
                steps += (BEGIN_GROUP, 0)
                for name in group:
                    steps += (OR_ROW, row_of[name])
                steps += (END_GROUP, 0)
            for name in clause.excluded:
                steps += (BUT_ROW, row_of[name])
            steps += (END_CLAUSE, 0)
        return np.array(steps, np.int32)

    def _row_of(self, name: str, wanted: int) -> int:
        """The row of an interest or a segment; a segment's is made anew if its members are others by now."""
        if name.startswith(INTEREST_PREFIX):
            return _INTEREST_ROW + int(name.removeprefix(INTEREST_PREFIX))
        if wanted > SEGMENT_ROWS:
            raise TooManySegments
        members = self._segments.members(name)
        kept = self._kept.get(name)
        if kept is None and len(self._kept) < SEGMENT_ROWS:
            row = _SEGMENT_ROW + len(self._kept)
        elif kept is None:
            row = self._kept.popitem(last=False)[1][0]
        else:
            row = kept[0]
            self._kept.move_to_end(name)
        if kept is None or kept[1] is not members:
            self._bits[row] = 0
            set_members(rows_array(members), self._position_of, self._rows, SAMPLE_STEP, self._bits[row])
            self._kept[name] = (row, members)
        return row


def _boundary_rows(dimension: int, codes: frozenset[int]) -> list[int]:
    """The rows whose XOR is the bitset of these codes."""
    begin, end = int(_CODE_ROWS[dimension]), int(_CODE_ROWS[dimension + 1])
    # Row begin + c: codes up to c. A run from a to b is "up to b" but for "up to a - 1"; "up to the last" is everybody.
    boundaries = codes.symmetric_difference(code - 1 for code in codes)
    return [begin + code if begin + code < end else EVERYBODY_ROW for code in boundaries if code >= 0]
