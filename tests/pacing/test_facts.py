"""Layouts of tokens and ledger rows: packed, little-endian, and what other languages may count on."""

from __future__ import annotations

import sys
from itertools import pairwise

import numpy as np
import pytest

from pacing.facts import (
    DECISION,
    FEEDBACK,
    GOAL_OF_KIND,
    JUDGEMENT,
    OUTCOME,
    PACING_ACCOUNT,
    Goal,
    OutcomeKind,
    Verdict,
)
from pacing.ledger.rows import MONEY, claim_keys
from tests.pacing.rows import billables

LAYOUTS = [DECISION, OUTCOME, JUDGEMENT, FEEDBACK, PACING_ACCOUNT]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_are_packed_and_aligned_to_words(layout: np.dtype[np.void]) -> None:
    assert layout.fields is not None
    end = 0
    for name in layout.names or ():
        field, offset = layout.fields[name][:2]
        assert offset == end, f"{name}: no gaps"
        base = field.base if field.subdtype else field
        assert offset % (8 if field.fields else base.itemsize) == 0, f"{name}: aligned"
        assert base.byteorder in ("<", "|") or (base.byteorder == "=" and sys.byteorder == "little") or field.fields
        end += field.itemsize
    assert end == layout.itemsize
    assert end % 8 == 0


def test_sizes_that_files_and_tokens_depend_on() -> None:
    assert [layout.itemsize for layout in (DECISION, OUTCOME, JUDGEMENT)] == [192, 248, 56]
    assert DECISION.fields is not None and OUTCOME.fields is not None
    assert DECISION.fields["mac"][1] == 176
    assert OUTCOME.fields["decision"][1] == 56


def test_own_rows_share_the_places_of_sequence_kind_and_time() -> None:
    assert MONEY.fields is not None and OUTCOME.fields is not None
    for name in ("sequence", "kind", "recorded_at_ms"):
        assert MONEY.fields[name] == OUTCOME.fields[name]
    ends = sorted((offset, offset + field.itemsize) for field, offset in (f[:2] for f in MONEY.fields.values()))
    assert all(end <= start for (_, end), (start, _) in pairwise(ends)), "no overlap"


def test_verdicts_are_those_of_one_byte_and_in_two_groups() -> None:
    billable = {Verdict.CHARGED, Verdict.DUPLICATE, Verdict.CONFLICT, Verdict.OVER_DELIVERY}
    assert {v for v in Verdict if v <= 4} == billable
    assert len(Verdict) == 7 and max(Verdict) == 7


def test_every_goal_but_kept_fans_has_one_kind() -> None:
    assert sorted(GOAL_OF_KIND.values()) == sorted(set(Goal) - {Goal.KEPT_FANS})
    assert min(GOAL_OF_KIND) > OutcomeKind.CLICK


def test_keys_of_no_rows() -> None:
    assert len(claim_keys(billables([]))) == 0
