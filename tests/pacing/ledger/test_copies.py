"""A copy has its origin's judged rows in order, each once, and never beyond a gap; sequences tell whose row it is."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pacing.facts import OUTCOME
from pacing.ledger.copies import Copies, GapInRows, JudgedCopy, JudgedPart
from pacing.ledger.log import Ledger
from pacing.ledger.owners import Positions, as_seen_from, least, qualified
from tests.pacing.ledger.judging import judge, part_of

ORIGIN, OWN_ID = 65_535, 2
BASE = ORIGIN << 48


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    ledger = Ledger(None)
    judge(ledger, [1, 2, 3], money=2)  # rows 1..3, and 4..5 about money
    judge(ledger, [4, 5])  # rows 6, 7
    judge(ledger, [], money=1)  # row 8
    yield ledger
    ledger.close()


def test_rows_come_once_and_carry_their_owner(tmp_path: Path, ledger: Ledger) -> None:
    copy = JudgedCopy(tmp_path / "owner.sqlite", ORIGIN, OWN_ID)
    assert copy.take([part_of(ledger, 1, 2), part_of(ledger, 2, 6)]) == 4
    assert copy.take([part_of(ledger, 1, 4)]) == 0
    assert copy.take([part_of(ledger, 5, 7), part_of(ledger, 8, 8)]) == 1
    assert copy.judged_sequence == 8
    rows, judgements = copy.read_judged(0, 100)
    assert rows["sequence"].tolist() == [BASE + k for k in (1, 2, 3, 6, 7)]
    assert judgements["sequence"].tolist() == rows["sequence"].tolist() == judgements["billed_sequence"].tolist()
    assert copy.rows_at(np.array([2, 6], np.uint64))["decision"]["hold_seq"].tolist() == [2, 4]
    copy.close()
    again = JudgedCopy(tmp_path / "owner.sqlite", ORIGIN, OWN_ID)
    assert again.judged_sequence == 8
    assert again.read_judged(3, 1)[0]["sequence"].tolist() == [BASE + 6]
    again.close()


def test_a_gap_is_never_passed(tmp_path: Path, ledger: Ledger) -> None:
    copy = JudgedCopy(tmp_path / "owner.sqlite", ORIGIN, OWN_ID)
    with pytest.raises(GapInRows, match="ends at 2, and rows from 4 came"):
        copy.take([part_of(ledger, 1, 2), part_of(ledger, 4, 8), part_of(ledger, 3, 3)])
    assert copy.judged_sequence == 2
    assert len(copy.read_judged(0, 100)[0]) == 2
    copy.close()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda part: part._replace(rows=part.rows[:-1]), "judgements of other rows"),
        (lambda part: part._replace(last=2), "outside of that"),
        (lambda part: part._replace(rows=part.rows[::-1], judgements=part.judgements[::-1]), "not ascending"),
        (lambda part: part._replace(first=0), "judgements of other rows"),
        (lambda part: part._replace(rows=np.zeros(3, np.uint8)), "must be OUTCOME"),
    ],
)
def test_what_is_no_part_changes_nothing(tmp_path: Path, ledger: Ledger, change, text: str) -> None:  # type: ignore[no-untyped-def]
    copy = JudgedCopy(tmp_path / "owner.sqlite", ORIGIN, OWN_ID)
    with pytest.raises(ValueError, match=text):
        copy.take([change(part_of(ledger, 1, 3))])
    assert copy.judged_sequence == 0
    assert copy.take([part_of(ledger, 1, 3)]) == 3
    copy.close()


def test_a_damaged_copy_is_set_aside_and_begins_anew(tmp_path: Path, ledger: Ledger) -> None:
    copies = Copies(tmp_path, OWN_ID)
    copies.of(7).take([part_of(ledger, 1, 8)])
    copies.of(8).take([part_of(ledger, 1, 3)])
    copies.close()
    path = tmp_path / "owner-7.sqlite"
    db = sqlite3.connect(path)
    db.execute("DELETE FROM judgements WHERE last_sequence = 8")
    db.commit()
    db.close()
    copies = Copies(tmp_path, OWN_ID)
    assert copies.origins() == [7, 8]
    assert copies.of(7).judged_sequence == 0
    assert copies.of(8).judged_sequence == 3
    assert (tmp_path / "owner-7.sqlite.damaged").is_file()
    copies.close()


def test_a_sequence_is_named_as_its_reader_names_it() -> None:
    told = np.array([0, 5, qualified(2, 9), qualified(4, 9)], np.uint64)
    assert as_seen_from(2, 3, told).tolist() == [0, qualified(3, 5), 9, qualified(4, 9)]
    assert as_seen_from(65_535, 65_534, told).tolist() == [0, qualified(65_534, 5), qualified(2, 9), qualified(4, 9)]


def test_positions_stand_for_each_ledger_alone() -> None:
    rows = np.zeros(4, OUTCOME)
    rows["sequence"] = [3, qualified(65_535, 2), 4, qualified(65_535, 3)]
    positions = Positions({65_535: 2})
    assert positions.fresh(rows["sequence"]).tolist() == [True, False, True, True]
    positions.advance(rows["sequence"])
    assert (positions[0], positions[65_535], positions[9]) == (4, 3, 0)
    assert not positions.fresh(rows["sequence"]).any()
    assert Positions.unpacked(positions.packed()) == positions
    assert least([positions, Positions({0: 9})], 0) == 4
    positions.advance(rows["sequence"][:1])
    assert positions[0] == 4
    with pytest.raises(ValueError, match="shape"):
        Positions.unpacked(np.zeros(3, np.uint64))


def test_parts_without_rows_move_the_end(tmp_path: Path) -> None:
    copy = JudgedCopy(tmp_path / "owner.sqlite", 1, OWN_ID)
    empty = Ledger(None).read_judged(0, 1)
    assert copy.take([JudgedPart(1, 400, *empty), JudgedPart(401, 402, *empty)]) == 0
    assert copy.judged_sequence == 402
    copy.close()
