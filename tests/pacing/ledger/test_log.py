"""The ledger: what is appended is durable, once, in order, and read back as it was."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pacing.facts import JUDGEMENT, OUTCOME, OutcomeKind, Verdict
from pacing.ledger.errors import LedgerInUse, LedgerUnavailable
from pacing.ledger.log import Ledger
from pacing.ledger.rows import MONEY, MoneyKind, money_rows
from tests.pacing.rows import START_MS, billables, seen, told


@pytest.fixture(params=["file", "memory"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger.sqlite" if request.param == "file" else None)


def test_empty(ledger: Ledger) -> None:
    assert (ledger.last_sequence, ledger.judged_sequence) == (0, 0)
    assert len(ledger.read(0, 10)) == 0
    assert ledger.append(np.zeros(0, OUTCOME)) == 0
    assert ledger.load_snapshot() is None


def test_rows_come_back_as_they_were(ledger: Ledger) -> None:
    rows = billables(range(10))
    assert ledger.append(rows[:1]) == 1
    assert ledger.append(rows[1:]) == 10
    back = ledger.read(0, 100)
    assert back["sequence"].tolist() == list(range(1, 11))
    back["sequence"] = 0
    assert back.tobytes() == rows.tobytes()
    assert rows["sequence"].sum() == 0, "the caller's rows are left alone"


@pytest.mark.parametrize(("after", "limit"), [(0, 1), (3, 4), (9, 5), (10, 5), (0, 10)])
def test_reading_in_pages(ledger: Ledger, after: int, limit: int) -> None:
    for first in range(0, 10, 4):
        ledger.append(billables(range(first, min(first + 4, 10))))
    expected = list(range(after + 1, min(after + limit, 10) + 1))
    assert ledger.read(after, limit)["sequence"].tolist() == expected


def test_a_repeat_is_not_appended_again(ledger: Ledger) -> None:
    ledger.append(billables([1, 2], price_micros=7))
    again = ledger.append_claims(np.concatenate([billables([2], 9), billables([3, 3], 5)]))
    assert again.sequences.tolist() == [0, 3, 0]
    assert again.amounts_micros.tolist() == [7, 5, 5]
    assert again.last_sequence == ledger.last_sequence == 3
    assert ledger.find_claims(billables([1, 2, 3, 4])).tolist() == [7, 7, 5, -1]


@pytest.mark.parametrize("count", [0, 63, 64, 200])
def test_what_was_told_is_found_among_many(ledger: Ledger, count: int) -> None:
    asked = np.random.default_rng(count).permutation(count)
    ledger.append(billables(range(0, 100, 3), price_micros=5))
    ledger.append(billables(range(1, 100, 3), price_micros=8))
    expected = [(5, 8, -1)[seq % 3] if seq < 100 else -1 for seq in asked.tolist()]
    assert ledger.find_claims(billables(asked.tolist())).tolist() == expected


def test_what_is_the_same_outcome(ledger: Ledger) -> None:
    rows = np.concatenate(
        [
            told(OutcomeKind.CLICK, 1, 1),
            told(OutcomeKind.FOLLOW, 1, 1),
            told(OutcomeKind.CLICK, 1, 1, issued_at_ms=START_MS + 5),
            seen(OutcomeKind.FOLLOW, 1, 1),
            seen(OutcomeKind.FOLLOW, 1, 1, START_MS + 1),
            seen(OutcomeKind.FOLLOW, 2**64 - 1, 1),
            seen(OutcomeKind.FOLLOW, 1, 1),
        ]
    )
    assert (ledger.append_claims(rows).sequences > 0).tolist() == [True, True, False, True, True, True, False]


def test_repeats_are_known_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    rows = np.concatenate([seen(OutcomeKind.FOLLOW, 1, 2), told(OutcomeKind.ORDER, 2**64 - 1, 2**63)])
    first = Ledger(path)
    first.append(rows)
    first.close()
    second = Ledger(path)
    assert second.append_claims(rows).sequences.tolist() == [0, 0]
    assert second.last_sequence == 2
    second.close()


@pytest.mark.parametrize("kind", [OutcomeKind.WIN, OutcomeKind.LOSS, 0, 16, MoneyKind.GRANT])
def test_other_kinds_are_refused(ledger: Ledger, kind: int) -> None:
    rows = billables([1, 2])
    rows["kind"][1] = kind
    with pytest.raises(ValueError, match=f"kind {int(kind)}: only BILLABLE"):
        ledger.append(rows)
    assert ledger.last_sequence == 0
    with pytest.raises(ValueError, match="must be OUTCOME"):
        ledger.append(money_rows(1))


def test_own_rows_are_hidden_from_followers(ledger: Ledger) -> None:
    ledger.append(billables([1]))
    row = money_rows(2)
    row["kind"], row["lease_id"], row["zone"] = MoneyKind.GRANT, [5, 6], b"Asia/Shanghai"
    assert ledger.append_money(row) == 3
    ledger.append(billables([2]))
    assert ledger.read(0, 10)["sequence"].tolist() == [1, 4]
    own = ledger.read_money(0)
    assert own.dtype == MONEY
    assert (own["sequence"].tolist(), own["lease_id"].tolist()) == ([2, 3], [5, 6])
    assert ledger.read_money(2)["sequence"].tolist() == [3]
    with pytest.raises(ValueError, match="n at least 1"):
        ledger.append_money(money_rows(0))


def judgements_of(rows: np.ndarray, verdict: Verdict = Verdict.CHARGED) -> np.ndarray:
    judgements = np.zeros(len(rows), JUDGEMENT)
    judgements["sequence"], judgements["verdict"] = rows["sequence"], verdict
    return judgements


def test_nobody_reads_past_the_judged_position(ledger: Ledger) -> None:
    ledger.append(billables(range(5)))
    rows = ledger.read(0, 3)
    ledger.append_judgements(3, rows, judgements_of(rows))
    got, judgements = ledger.read_judged(0, 10)
    assert got["sequence"].tolist() == judgements["sequence"].tolist() == [1, 2, 3]
    assert ledger.read_judged(1, 1)[1]["sequence"].tolist() == [2]
    assert ledger.judged_sequence == 3
    with pytest.raises(ValueError, match=r"judged_to 3: not in 4\.\.5"):
        ledger.append_judgements(3, rows, judgements_of(rows))
    with pytest.raises(ValueError, match="for 3 rows, or of other rows"):
        ledger.append_judgements(5, rows, judgements_of(rows[:2]))


def test_positions_and_snapshots(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = Ledger(path)
    ledger.append(billables(range(6)))
    assert ledger.position("report") == 0
    ledger.save_position("report", 4)
    for sequence in (1, 3, 5):
        ledger.save_snapshot(sequence, 0, b"state %d" % sequence)
    ledger.close()
    ledger = Ledger(path)
    assert (ledger.position("report"), ledger.position("other")) == (4, 0)
    assert ledger.load_snapshot() == (5, 0, b"state 5")
    ledger._db.execute("UPDATE snapshots SET body = 'x' WHERE sequence = 5")
    assert ledger.load_snapshot() == (3, 0, b"state 3"), "a damaged snapshot is passed over"
    ledger.close()


def test_one_process_at_a_time(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    with pytest.raises(LedgerInUse, match="another process"):
        Ledger(tmp_path / "ledger.sqlite")
    ledger.close()
    Ledger(tmp_path / "ledger.sqlite").close()


def test_a_closed_ledger_takes_nothing(ledger: Ledger) -> None:
    ledger.close()
    with pytest.raises(LedgerUnavailable, match="closed"):
        ledger.append(billables([1]))


def test_a_failed_anchor_stops_the_ledger(tmp_path: Path) -> None:
    """After a failed sync nobody knows what the disk has: nothing more is acknowledged until a restart looks."""
    path = tmp_path / "ledger.sqlite"
    ledger = Ledger(path)
    ledger.append(billables([1]))
    assert ledger._anchor is not None
    ledger._anchor.close()  # as a disk that goes away
    for seqs in ([2], [3]):
        with pytest.raises(LedgerUnavailable, match="restart"):
            ledger.append(billables(seqs))
    assert (ledger.last_sequence, len(ledger.read(0, 10))) == (1, 1)
    ledger._db.close()
    ledger._reader.close()
    again = Ledger(path)
    assert again.last_sequence == 2, "the commit that was not acknowledged may be there"
    again.close()


class _FullAtCommit:
    """A connection whose disk has no room for what a commit writes; SQLite tells a read or two the same."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def execute(self, sql: str, *rest: Any) -> sqlite3.Cursor:
        if sql == "COMMIT":
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error
        return self._db.execute(sql, *rest)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)


def test_a_ledger_goes_on_when_its_full_disk_has_room_again(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.append(billables([1]))
    db = ledger._db
    ledger._db = _FullAtCommit(db)  # type: ignore[assignment]
    for _ in range(2):
        with pytest.raises(LedgerUnavailable, match=r"disk is full$"):
            ledger.append(billables([2]))
    assert ledger.last_sequence == 1 and not db.in_transaction
    ledger._db = db
    assert ledger.append(billables([2, 3])) == 3
    ledger.close()
    again = Ledger(tmp_path / "ledger.sqlite")
    assert again.read(0, 10)["decision"]["hold_seq"].tolist() == [1, 2, 3]
    again.close()


def test_checkpoints_change_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = Ledger(path)
    for i in range(20):
        ledger.append(billables([i]))
        ledger.checkpoint()
    assert path.stat().st_size > 20 * OUTCOME.itemsize, "rows are in the main file"
    assert ledger.read(0, 100)["sequence"].tolist() == list(range(1, 21))
    ledger.close()


@pytest.mark.parametrize("threads", [2, 8])
def test_concurrent_callers_share_commits(tmp_path: Path, threads: int) -> None:
    """Every caller gets its own rows' sequences, none twice, and fewer commits than calls are made."""
    calls = 25
    ledger = Ledger(tmp_path / "ledger.sqlite")
    results: list[list[tuple[int, int]]] = [[] for _ in range(threads)]
    start = threading.Barrier(threads)

    def work(worker: int) -> None:
        start.wait()
        for call in range(calls):
            rows = billables([10_000 * worker + 2 * call, 10_000 * worker + 2 * call + 1], price_micros=worker)
            appended = ledger.append_claims(rows)
            assert appended.last_sequence >= appended.sequences[-1]
            results[worker] += zip(appended.sequences.tolist(), rows["decision"]["hold_seq"].tolist(), strict=True)

    workers = [threading.Thread(target=work, args=(i,)) for i in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    told_by_sequence = dict(pair for result in results for pair in result)
    assert sorted(told_by_sequence) == list(range(1, 2 * calls * threads + 1))
    stored = ledger.read(0, 10**6)
    assert (
        dict(zip(stored["sequence"].tolist(), stored["decision"]["hold_seq"].tolist(), strict=True)) == told_by_sequence
    )
    for result in results:
        assert result == sorted(result), "one caller's rows keep their order"
    assert ledger._mark.revision <= 1 + calls * threads
    ledger.close()


def test_the_same_claim_from_many_threads_counts_once(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    accepted: list[int] = []
    start = threading.Barrier(6)

    def work(amount: int) -> None:
        start.wait()
        appended = ledger.append_claims(billables([1, 2, 3], price_micros=amount))
        accepted.extend(appended.sequences[appended.sequences > 0].tolist())
        assert len(set(appended.amounts_micros.tolist())) == 1, "all hear the amount of whoever came first"

    workers = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(accepted) == [1, 2, 3]
    ledger.close()


@settings(max_examples=40, deadline=None)
@given(batches=st.lists(st.lists(st.integers(0, 12), max_size=6), max_size=8), after=st.integers(0, 20))
def test_the_log_is_the_first_telling_of_each(batches: list[list[int]], after: int) -> None:
    ledger = Ledger(None)
    expected: list[int] = []
    for batch in batches:
        rows = np.concatenate([np.zeros(0, OUTCOME), *(seen(OutcomeKind.LIKE, viewer + 1, 1) for viewer in batch)])
        ledger.append(rows)
        expected += [v for i, v in enumerate(batch) if v not in expected and v not in batch[:i]]
    assert (ledger.read(after, 100)["viewer_id"].astype(int) - 1).tolist() == expected[after:]
