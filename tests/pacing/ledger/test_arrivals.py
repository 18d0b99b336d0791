"""Several ledgers read by time, and their charges in one list that only ever grows at its end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pacing.facts import JUDGEMENT, OUTCOME, OutcomeKind, Verdict
from pacing.ledger.arrivals import Arrivals
from pacing.ledger.log import Ledger
from pacing.ledger.merged import read_merged
from pacing.ledger.owners import Positions, qualified
from pacing.ledger.statement import statement_page
from tests.pacing.ledger.judging import judge


class Judged:
    """Rows of one owner in memory, read as from a copy."""

    def __init__(self, owner_id: int, recorded_at_ms: list[int]) -> None:
        self.rows = np.zeros(len(recorded_at_ms), OUTCOME)
        self.rows["kind"] = OutcomeKind.BILLABLE
        self.rows["recorded_at_ms"] = recorded_at_ms
        self.rows["price_micros"] = 1 + np.arange(len(recorded_at_ms))
        self.rows["sequence"] = qualified(owner_id, 1) + np.arange(len(recorded_at_ms), dtype=np.uint64)
        self.words = np.zeros(len(recorded_at_ms), JUDGEMENT)
        self.words["sequence"], self.words["verdict"] = self.rows["sequence"], Verdict.CHARGED

    def read_judged(self, after: int, limit: int) -> tuple[np.ndarray, np.ndarray]:
        return self.rows[after : after + limit].copy(), self.words[after : after + limit].copy()


instants = st.lists(st.integers(0, 50), max_size=12)


@given(st.lists(instants, min_size=1, max_size=3), st.integers(1, 5))
def test_merged_rows_are_all_rows_in_ledger_order_and_almost_by_time(several: list[list[int]], limit: int) -> None:
    ledgers = {owner_id: Judged(owner_id, at_ms) for owner_id, at_ms in enumerate(several)}
    positions = Positions()
    taken: list[np.ndarray] = []
    while True:
        rows, words = read_merged(ledgers, positions, limit)  # type: ignore[arg-type]
        if not len(rows):
            break
        assert np.array_equal(rows["sequence"], words["sequence"])
        assert positions.fresh(rows["sequence"]).all()
        positions.advance(rows["sequence"])
        taken.append(rows)
    everything = np.concatenate([np.zeros(0, OUTCOME), *taken])
    assert len(everything) == sum(map(len, several))
    for owner_id, ledger in ledgers.items():
        mine = everything["sequence"] >> np.uint64(48) == owner_id
        assert np.array_equal(everything[mine], ledger.rows)
    # By what a ledger's clock has shown at most up to a row, nothing comes before something earlier.
    shown = {}
    for ledger in ledgers.values():
        highest = np.maximum.accumulate(ledger.rows["recorded_at_ms"]).tolist()
        shown |= dict(zip(ledger.rows["sequence"].tolist(), highest, strict=True))
    order = [shown[sequence] for sequence in everything["sequence"].tolist()]
    assert order == sorted(order)


def whole(arrivals: Arrivals, limit: int, at_sequence: int = 0) -> list[tuple[int, int]]:
    """Row and total of each charge of campaign 1, page by page."""
    lines, after = [], 0
    while True:
        page = statement_page(arrivals, 1, after, limit, at_sequence)
        rows = arrivals.rows_of(page.charges["sequence"]).tolist()
        lines += list(zip(rows, page.charges["charged_micros"].tolist(), strict=True))
        after = page.next_after
        if not after:
            return lines


def test_a_list_of_two_ledgers_grows_at_its_end_only(tmp_path: Path) -> None:
    own, other = Ledger(None), Ledger(None)
    arrivals = Arrivals(tmp_path / "charges.sqlite")

    def follow() -> None:
        for owner_id, ledger in ((0, own), (65_535, other)):
            rows, words = ledger.read_judged(arrivals.positions[owner_id], 100)
            for table in (rows, words):
                table["sequence"] |= np.uint64(qualified(owner_id, 0))
            arrivals.follow(rows, words)
            arrivals.follow(rows, words)

    judge(own, [1, 2], money=3, price_micros=10)
    judge(other, [1], price_micros=5)
    follow()
    first = whole(arrivals, 1)
    assert first == [(1, 10), (2, 20), (qualified(65_535, 1), 25)]
    end = arrivals.judged_sequence
    judge(own, [3], price_micros=10)
    judge(other, [2], price_micros=5, campaign_id=2)
    judge(other, [3], price_micros=5)
    follow()
    assert whole(arrivals, 2) == [*first, (6, 35), (qualified(65_535, 3), 40)]
    assert whole(arrivals, 2, at_sequence=end) == first
    assert statement_page(arrivals, 1, at_sequence=end).charged_micros == 25
    positions = arrivals.positions
    arrivals.close()
    again = Arrivals(tmp_path / "charges.sqlite")
    assert again.positions == positions
    assert whole(again, 3) == [*first, (6, 35), (qualified(65_535, 3), 40)]
    judge(own, [4])
    rows, words = own.read_judged(0, 100)
    again.follow(rows, words)
    assert len(whole(again, 3)) == 6
    again.close()


def test_a_list_that_cannot_be_read_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "charges.sqlite"
    path.write_bytes(b"no database at all, but for its name" * 100)
    arrivals = Arrivals(path)
    assert arrivals.judged_sequence == 0
    arrivals.close()
