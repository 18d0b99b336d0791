"""Judges see every outcome once and in order; followers see what is judged, and statements add up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pacing.budget.memory import MemoryStore
from pacing.budget.settle import SettleJudge
from pacing.budget.store import CapsRequest, LeaseRequest
from pacing.facts import JUDGEMENT, OutcomeKind, Verdict
from pacing.ledger.followers import Follower, JudgeFollower
from pacing.ledger.log import Ledger
from pacing.ledger.rows import MoneyKind, money_rows
from pacing.ledger.statement import statement_page
from tests.pacing.rows import START_MS, billables, seen


class Clicks:
    """A judge that calls every click organic, and can fail."""

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.settled: list[int] = []
        self.failures = 0

    def judge(self, rows: np.ndarray, judgements: np.ndarray) -> np.ndarray:
        if self.failures:
            self.failures -= 1
            raise RuntimeError("not now")
        self.seen += rows["sequence"].tolist()
        self.settled += judgements["verdict"].tolist()
        judged = judgements.copy()
        judged["verdict"][rows["kind"] == OutcomeKind.CLICK] = Verdict.ORGANIC
        return judged


def store_with(cap: int, leased: int) -> MemoryStore:
    store = MemoryStore()
    for campaign_id in (1, 2):
        store.set_caps(CapsRequest(campaign_id, 9, "Asia/Shanghai", cap, cap, START_MS))
        day = store.accounts[campaign_id].day_at(START_MS)
        store.acquire([LeaseRequest(campaign_id, campaign_id, day.day_key, START_MS, day.end_at_ms, leased)])
    return store


def test_verdicts_in_order_with_own_rows_between() -> None:
    ledger = Ledger(None)
    judge = Clicks()
    follower = JudgeFollower(ledger, [SettleJudge(store_with(100, 50)), judge], batch_rows=3)
    ledger.append(np.concatenate([billables([1, 2], 30), seen(OutcomeKind.CLICK, 4, 5)]))
    own = money_rows(4)
    own["kind"] = MoneyKind.CAPS
    ledger.append_money(own)
    ledger.append(np.concatenate([billables([3], 41), billables([9], 7, lease_id=2, campaign_id=2)]))
    assert follower.step() == 3
    assert follower.step() == 6
    assert follower.step() == 0
    rows, judgements = ledger.read_judged(0, 100)
    charged, over = Verdict.CHARGED, Verdict.OVER_DELIVERY
    assert judgements["verdict"].tolist() == [charged, charged, Verdict.ORGANIC, over, charged]
    assert judgements["billed_sequence"].tolist() == [1, 2, 0, 8, 9]
    assert judge.seen == rows["sequence"].tolist() == [1, 2, 3, 8, 9]
    assert judge.settled == [charged, charged, 0, over, charged], "later judges are told the settle verdicts"
    assert ledger.judged_sequence == ledger.last_sequence == 9


def test_a_judge_that_fails_is_asked_again_and_nobody_twice() -> None:
    ledger = Ledger(None)
    store = store_with(100, 100)
    judge = Clicks()
    judge.failures = 2
    follower = JudgeFollower(ledger, [SettleJudge(store), judge])
    ledger.append(billables([1, 2], 30))
    for _ in range(2):
        with pytest.raises(RuntimeError):
            follower.step()
        assert ledger.judged_sequence == 0
    ledger.append(billables([3], 30))
    assert follower.catch_up() == 3
    assert ledger.read_judged(0, 9)[1]["verdict"].tolist() == [Verdict.CHARGED] * 3
    assert store.accounts[1].flight.settled_micros == 90


def test_callback_hears_every_position() -> None:
    ledger = Ledger(None)
    heard: list[int] = []
    follower = JudgeFollower(ledger, [], batch_rows=2, on_judged=heard.append)
    ledger.append(billables(range(5)))
    follower.catch_up()
    assert heard == [2, 4, 5]


def test_followers_go_on_where_they_were(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = Ledger(path)
    ledger.append(billables(range(7)))
    JudgeFollower(ledger, []).catch_up()
    got: list[int] = []

    def follow(rows: np.ndarray, judgements: np.ndarray) -> None:
        assert judgements.dtype == JUDGEMENT
        assert np.array_equal(rows["sequence"], judgements["sequence"])
        got.extend(rows["sequence"].tolist())

    assert Follower(ledger, "report", follow, batch_rows=3).step() == 3
    ledger.close()
    ledger = Ledger(path)
    follower = Follower(ledger, "report", follow, batch_rows=3)
    assert [follower.step() for _ in range(3)] == [3, 1, 0]
    assert got == list(range(1, 8))
    assert Follower(ledger, "other", follow).position == 0
    ledger.close()


def test_statement_pages_and_totals() -> None:
    ledger = Ledger(None)
    follower = JudgeFollower(ledger, [SettleJudge(store_with(100, 50))])
    ledger.append(np.concatenate([billables(range(1, 6), 30), billables([7], 5, lease_id=2, campaign_id=2)]))
    assert statement_page(ledger, 1).charged_micros == 0, "nothing is judged yet"
    follower.catch_up()
    first = statement_page(ledger, 1, limit=2)
    assert first.charges["amount_micros"].tolist() == [30, 30]
    assert (first.charged_micros, first.over_delivered_micros, first.ledger_sequence) == (90, 60, 6)
    assert first.next_after == 2
    second = statement_page(ledger, 1, after=first.next_after, limit=2)
    assert second.charges["verdict"].tolist() == [Verdict.CHARGED, Verdict.OVER_DELIVERY]
    assert second.charges["charged_micros"].tolist() == [90, 90]
    assert second.charges["over_delivered_micros"].tolist() == [0, 30]
    last = statement_page(ledger, 1, after=second.next_after, limit=2)
    assert (last.charges["sequence"].tolist(), last.next_after) == ([5], 0)
    assert ledger.charged_at(1, 2) == (60, 0)
    assert ledger.charged_at(1, 0) == ledger.charged_at(3, 99) == (0, 0)
    assert len(statement_page(ledger, 3).charges) == 0
    assert statement_page(ledger, 2).charged_micros == 5


@pytest.mark.parametrize(("after", "limit", "text"), [(0, 0, "limit 0"), (0, 1_001, "limit 1001"), (-1, 5, "after -1")])
def test_statement_refuses_bad_pages(after: int, limit: int, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        statement_page(Ledger(None), 1, after, limit)


def test_outcomes_behind_many_rows_of_the_ledgers_own_are_found() -> None:
    """Who waited is told what came, from wherever it asks, whatever was found to be no outcome before."""
    ledger = Ledger(None)
    follower = JudgeFollower(ledger, [Clicks()])
    own = money_rows(1)
    own["kind"] = MoneyKind.CAPS
    for begun in (0, 5, 10):
        for _ in range(4):
            ledger.append_money(own)
        follower.catch_up()
        for after in (begun, begun + 2, ledger.last_sequence):
            assert len(ledger.read_judged(after, 10)[0]) == 0
        ledger.append(seen(OutcomeKind.CLICK, begun + 1, 5))
        assert len(ledger.read_judged(begun, 10)[0]) == 0  # it has no verdict yet
        follower.catch_up()
        for after in (begun, begun + 2, begun + 4):
            assert ledger.read_judged(after, 10)[0]["sequence"].tolist() == [begun + 5]
    assert ledger.read_judged(0, 10)[0]["sequence"].tolist() == [5, 10, 15]
