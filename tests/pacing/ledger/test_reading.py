"""A ledger read beside its writer: never ahead of what was acknowledged, never in the writer's way."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from pacing.facts import FLAG_FLAT_WORTH, JUDGEMENT, AuctionType, OutcomeKind, Verdict
from pacing.ledger.errors import LedgerDamaged, LedgerInUse
from pacing.ledger.log import Ledger
from pacing.ledger.reading import JUDGED, ROWS, LedgerFile
from pacing.ledger.statement import explained, statement_page
from tests.pacing.rows import billables, seen


def judge_all(ledger: Ledger) -> None:
    rows = ledger.read(ledger.judged_sequence, 10_000)
    judgements = np.zeros(len(rows), JUDGEMENT)
    judgements["sequence"], judgements["verdict"] = rows["sequence"], Verdict.CHARGED
    ledger.append_judgements(ledger.last_sequence, rows, judgements)


def chained(ledger: LedgerFile) -> np.ndarray:
    return np.concatenate([batch.rows for batch in ledger.chain(ROWS)])


def test_a_reader_sees_what_was_acknowledged_when_it_opened(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = Ledger(path)
    for first in range(0, 900, 3):
        ledger.append(billables(range(first, first + 3)))
        if first == 450:
            judge_all(ledger)
    reader = LedgerFile(path)
    with pytest.raises(LedgerInUse):  # the writer's lock stands, and is nothing to the reader
        Ledger(path)
    ledger.append(billables(range(900, 903)))
    judge_all(ledger)
    assert (reader.last_sequence, reader.judged_sequence) == (900, 453)
    assert chained(reader).tobytes() == ledger.read(0, 900).tobytes()
    assert len(np.concatenate([batch.rows for batch in reader.chain(JUDGED)])) == 453
    assert reader.read(0, 10_000).tobytes() == ledger.read(0, 900).tobytes()
    assert len(reader.read_judged(0, 10_000)[0]) == 453
    assert statement_page(reader, 1).ledger_sequence == 453
    reader.close()
    ledger.close()
    after = LedgerFile(path)
    assert after.judged_sequence == 903
    after.close()
    again = Ledger(path)  # a reader leaves nothing behind that a start minds
    assert again.append(billables([2_000])) == 904
    again.close()


def test_writer_and_readers_at_once(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = Ledger(path)
    ledger.append(billables(range(5)))
    stop, failures = threading.Event(), []

    def keep_reading() -> None:
        try:
            while not stop.is_set():
                reader = LedgerFile(path)
                assert len(chained(reader)) == reader.last_sequence
                reader.close()
        except BaseException as error:
            failures.append(error)

    readers = [threading.Thread(target=keep_reading) for _ in range(2)]
    for thread in readers:
        thread.start()
    for k in range(60):
        assert ledger.append(billables(range(10 * k + 100, 10 * k + 110))) == 10 * k + 15
        if k % 10 == 9:
            judge_all(ledger)
            ledger.checkpoint()
    stop.set()
    for thread in readers:
        thread.join()
    assert failures == []
    ledger.close()


def test_what_cannot_be_read_says_so(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with pytest.raises(FileNotFoundError, match="no ledger here"):
        LedgerFile(path)
    ledger = Ledger(path)
    ledger.append(billables(range(5)))
    ledger.close()
    path.with_suffix(".anchor").rename(tmp_path / "elsewhere")
    with pytest.raises(LedgerDamaged, match="missing"):
        LedgerFile(path)
    (tmp_path / "elsewhere").rename(path.with_suffix(".anchor"))
    path.write_bytes(b"no database" * 1_000)
    with pytest.raises(LedgerDamaged):
        LedgerFile(path)


def test_rows_are_found_by_their_sequences(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    for first in range(0, 40, 4):
        ledger.append(billables(range(first, first + 4)))
    everything = ledger.read(0, 100)
    for wanted in ([1], [40], [3, 4, 5, 17, 40], list(range(1, 41)), []):
        found = ledger.rows_at(np.array(wanted, np.uint64))
        assert found.tobytes() == everything[np.array(wanted, np.int64) - 1].tobytes()
    for missing in ([41], [5, 99]):
        with pytest.raises(LedgerDamaged, match="missing"):
            ledger.rows_at(np.array(missing, np.uint64))
    ledger.close()


def test_a_statement_goes_on_as_it_was_and_says_why(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    rows = billables(range(6), price_micros=40)
    decisions = rows["decision"]
    decisions["at"] = [AuctionType.FIRST_PRICE, AuctionType.SECOND_PRICE] * 3
    decisions["bid_micros"], decisions["alpha_micros"], decisions["probability"] = 50, 400.0, 0.25
    decisions["flags"][5], decisions["viewer_id"] = FLAG_FLAT_WORTH, 77
    rows["viewer_id"] = 77
    ledger.append(rows[:4])
    ledger.append(seen(OutcomeKind.FOLLOW, 1, 2))
    judge_all(ledger)
    first = statement_page(ledger, 1, limit=3)
    ledger.append(rows[4:])
    judge_all(ledger)
    then = statement_page(ledger, 1, first.next_after, 3, first.ledger_sequence)
    assert (then.ledger_sequence, len(then.charges), then.next_after, then.charged_micros) == (5, 1, 0, 160)
    now = statement_page(ledger, 1)
    assert (now.ledger_sequence, now.charged_micros) == (7, 240)
    for wrong in (-1, 8):
        with pytest.raises(ValueError, match=f"ledger_sequence {wrong}: not in 0..7"):
            statement_page(ledger, 1, at_sequence=wrong)
    lines = explained(ledger, now.charges)
    assert lines["sequence"].tolist() == [1, 2, 3, 4, 6, 7] and set(lines["viewer_id"]) == {77}
    assert lines["value_micros"].tolist() == [100.0] * 5 + [400.0]
    assert lines["shade"].tolist() == [0.5, 0.0, 0.5, 0.0, 0.5, 0.0]
    assert lines["flat"].tolist() == [False] * 5 + [True]
    assert set(lines["verdict"]) == {Verdict.CHARGED} and lines["charged_micros"].tolist()[-1] == 240
    ledger.close()
