"""A crowd of campaigns, of which only some are solved at a tick: whose turn it is, and how well they do."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from pacing.clocks import MS_PER_DAY, MS_PER_HOUR
from pacing.control.history import MarketHistory
from pacing.control.pacer import Pacer
from pacing.control.saved import PacerMemory
from pacing.control.settings import PacerSettings
from pacing.facts import FEEDBACK, PACING_ACCOUNT
from tests.pacing.control.market import DAY_START_MS, account, diurnal, draw_day, history_of, optimum, run_day

BUDGET, TARGET = 2e7, 4e5
TICKS = 288
OTHERS = 9
CROWDED = PacerSettings(solve_all=0, solve_limit=4, crowded_refresh_limit=2)


@pytest.fixture(scope="module")
def history() -> MarketHistory:
    return history_of([draw_day(100 + i, traffic=diurnal) for i in range(3)])


def _others(count: int, day: int = 0) -> npt.NDArray[np.void]:
    return np.concatenate([account(BUDGET, TARGET * (i % 2), day, campaign_id=100 + i) for i in range(count)])


class Beside(Pacer):
    """One campaign's pacer that has other campaigns to think of too; answers for the one."""

    def __init__(self, past: MarketHistory | None, settings: PacerSettings, restart_after: int = 0) -> None:
        super().__init__(past, settings)
        self._again = past, settings
        self._restart_after = restart_after

    def tick(self, accounts: npt.NDArray[np.void], now_ms: int) -> npt.NDArray[np.void]:
        day = int(accounts["day_start_at_ms"][0] - DAY_START_MS) // MS_PER_DAY
        plan = super().tick(np.concatenate([_others(OTHERS, day), accounts]), now_ms)
        self._restart_after -= 1
        if self._restart_after == 0:
            packed = self.memory(now_ms).to_bytes()
            super().__init__(*self._again)
            self.restore(PacerMemory.from_bytes(packed, self.memory_layout), now_ms)
        return plan[-1:]


def _happen(pacer: Pacer, accounts: npt.NDArray[np.void], busy: npt.NDArray[np.int64], now_ms: int) -> None:
    """Supply for all, and spending of the busy ones."""
    ids = accounts["campaign_id"]
    pacer.observe_supply(ids, np.full(len(ids), 10), np.full(len(ids), 0.2), now_ms)
    accounts["day_spend_micros"][busy] += 1_000
    accounts["flight_spend_micros"] = accounts["day_spend_micros"]


def _solved_at_ms(pacer: Pacer, accounts: npt.NDArray[np.void], now_ms: int) -> npt.NDArray[np.int64]:
    rows = pacer.memory(now_ms).rows
    assert rows["campaign_id"].tolist() == accounts["campaign_id"].tolist()
    return np.array(rows["solved_at_ms"])


def test_each_campaign_is_solved_in_time_though_some_are_always_busier() -> None:
    settings = PacerSettings(solve_all=10, solve_limit=6)
    pacer, accounts = Pacer(None, settings), _others(40)
    pacer.tick(accounts, DAY_START_MS)
    longest = math.ceil(40 / 3)
    solves = np.zeros(40)
    for tick in range(1, 60):
        now_ms = DAY_START_MS + 1_000 * tick
        _happen(pacer, accounts, np.arange(3), now_ms)
        pacer.tick(accounts, now_ms)
        solved_at_ms = _solved_at_ms(pacer, accounts, now_ms)
        solves += solved_at_ms == now_ms
        assert int((solved_at_ms == now_ms).sum()) == 6
        if tick > longest:
            assert now_ms - solved_at_ms.min() <= 1_000 * longest
    assert solves.min() >= 3


def test_up_to_a_number_all_are_solved_at_every_tick() -> None:
    pacer, accounts = Pacer(None, PacerSettings(solve_all=40, solve_limit=2)), _others(40)
    for tick in range(3):
        pacer.tick(accounts, DAY_START_MS + 1_000 * tick)
        assert set(_solved_at_ms(pacer, accounts, DAY_START_MS + 1_000 * tick)) == {DAY_START_MS + 1_000 * tick}


def test_new_edited_and_spent_campaigns_come_first() -> None:
    pacer, accounts = Pacer(None, PacerSettings(solve_all=10, solve_limit=8)), _others(60)
    for tick in range(40):
        now_ms = DAY_START_MS + 1_000 * tick
        _happen(pacer, accounts, np.arange(20, 40), now_ms)
        pacer.tick(accounts, now_ms)
    now_ms += 1_000
    _happen(pacer, accounts, np.arange(20, 40), now_ms)
    accounts = np.concatenate([accounts, account(BUDGET, TARGET, campaign_id=900)])
    accounts["target_cost_micros"][7] = 2 * TARGET
    accounts["day_cap_micros"][9] = BUDGET / 2
    accounts["day_spend_micros"][11] = accounts["flight_spend_micros"][11] = BUDGET
    plans = pacer.tick(accounts, now_ms)
    assert (_solved_at_ms(pacer, accounts, now_ms)[[7, 9, 11, 60]] == now_ms).all()
    assert plans["alpha_micros"][60] > 0
    assert plans["alpha_micros"][11] == 0


def test_whoever_has_nothing_left_bids_nothing_before_its_turn() -> None:
    pacer, accounts = Pacer(None, PacerSettings(solve_all=1, solve_limit=2)), _others(20)
    for tick in range(25):
        pacer.tick(accounts, DAY_START_MS + 1_000 * tick)
    accounts["day_spend_micros"] = accounts["flight_spend_micros"] = accounts["day_cap_micros"]
    plans = pacer.tick(accounts, DAY_START_MS + 26_000)
    assert (plans["alpha_micros"] == 0).all()
    assert int((_solved_at_ms(pacer, accounts, 0) == DAY_START_MS + 26_000).sum()) == 2


def test_the_planned_spend_goes_on_between_solves_and_begins_anew_with_the_day() -> None:
    pacer, accounts = Pacer(None, PacerSettings(solve_all=0, solve_limit=2)), _others(20)
    noon_ms = DAY_START_MS + 12 * MS_PER_HOUR
    for tick in range(60):
        _happen(pacer, accounts, np.arange(20), noon_ms + 1_000 * tick)
        before = pacer.tick(accounts, noon_ms + 1_000 * tick)["planned_day_spend_micros"]
    after = pacer.tick(accounts, noon_ms + 60_000)["planned_day_spend_micros"]
    waited = _solved_at_ms(pacer, accounts, 0) < noon_ms + 60_000
    assert int(waited.sum()) == 18
    assert (after[waited] > before[waited]).all()
    tomorrow = _others(20, day=1)
    assert (pacer.tick(tomorrow, DAY_START_MS + MS_PER_DAY)["planned_day_spend_micros"] == 0).all()


def test_a_crowd_of_which_all_are_solved_is_planned_like_few(history: MarketHistory) -> None:
    day = draw_day(1, traffic=diurnal)
    everybody = PacerSettings(solve_all=0, solve_limit=100, crowded_refresh_limit=10**6)
    few, crowd = (run_day(Beside(history, s), day, BUDGET, 0.0, 96) for s in (PacerSettings(), everybody))
    assert few.alphas == crowd.alphas


@pytest.mark.parametrize(("budget", "target"), [(BUDGET, 0.0), (1e10, TARGET)])
def test_a_campaign_in_a_crowd_does_nearly_as_well_as_alone(
    budget: float, target: float, history: MarketHistory
) -> None:
    day = draw_day(2, traffic=diurnal)
    run = run_day(Beside(history, CROWDED), day, budget, target, TICKS)
    assert run.spend <= budget
    assert len(set(run.alphas)) < 0.9 * TICKS  # it did have to wait
    assert run.events >= 0.97 * optimum(day, budget, target)
    if target:
        assert run.cost <= 1.01 * target


def test_restarts_change_no_multiplier_in_a_crowd(history: MarketHistory) -> None:
    day = draw_day(3, auctions=20_000)
    runs = [run_day(Beside(history, CROWDED, after), day, BUDGET, 0.0, 96) for after in (0, 41)]
    assert runs[0].alphas == runs[1].alphas


def test_what_is_seen_between_solves_is_not_lost() -> None:
    """Auctions and supply of ten ticks count as much as if all had come at once."""
    waiting, at_once = (Pacer(None, PacerSettings(solve_all=s, solve_limit=2)) for s in (0, 100))
    accounts = _others(20)
    rows = np.zeros(20, FEEDBACK)
    rows["campaign_id"], rows["at"], rows["probability"] = accounts["campaign_id"], 2, 0.02
    rows["bid_micros"], rows["min_bid_to_win_micros"], rows["price_micros"] = 100, 20_000, -1
    for tick in range(60):
        for pacer in (waiting, at_once):
            if tick < 30:
                pacer.observe(rows)
                _happen(pacer, accounts.copy(), np.zeros(0, np.int64), DAY_START_MS + 1_000 * tick)
            pacer.tick(accounts, DAY_START_MS + 1_000 * tick)
    kept, expected = (p.memory(DAY_START_MS).rows for p in (waiting, at_once))
    for name in ("supply", "sums", "rows_seen", "weight"):
        np.testing.assert_allclose(kept[name], expected[name], rtol=1e-9, err_msg=name)
    assert kept["rows_seen"].min() == 30
    assert not kept["tick_sums"].any()


def test_a_crowd_over_the_turn_of_buckets_and_days(history: MarketHistory) -> None:
    """Half an hour between ticks, so each tick finds campaigns in many buckets; nobody is left without a plan."""
    pacer = Pacer(history, PacerSettings(solve_all=0, solve_limit=4))
    for tick in range(120):
        now_ms = DAY_START_MS + tick * MS_PER_HOUR // 2
        accounts = _others(20, day=(now_ms - DAY_START_MS) // MS_PER_DAY)
        _happen(pacer, accounts, np.arange(0), now_ms)
        plans = pacer.tick(accounts, now_ms)
        if tick > 10:
            assert (plans["alpha_micros"] > 0).all()
            assert np.isfinite(plans["alpha_micros"]).all()
    rows = pacer.memory(now_ms).rows
    assert len(set(rows["bucket"].tolist())) > 2
    assert accounts.dtype == PACING_ACCOUNT


def test_a_new_campaign_is_planned_ahead_as_the_next_tick_would_and_nobody_else_notices(history: MarketHistory) -> None:
    ahead, behind = Pacer(history, CROWDED), Pacer(history, CROWDED)
    others, new = _others(OTHERS), account(BUDGET, TARGET, 0, campaign_id=7)
    at_ms = DAY_START_MS
    for pacer in (ahead, behind):
        for _ in range(6):
            at_ms += 1_000
            pacer.tick(others, at_ms)
        at_ms = DAY_START_MS
    now_ms = DAY_START_MS + 7_000
    plans = ahead.plan_ahead(new, now_ms)
    assert plans["campaign_id"].tolist() == [7] and plans["alpha_micros"][0] > 0
    both = np.concatenate([others, new])
    here, there = ahead.tick(both, now_ms), behind.tick(both, now_ms)
    assert here["alpha_micros"][-1] == pytest.approx(plans["alpha_micros"][0])
    assert there["alpha_micros"][-1] == pytest.approx(plans["alpha_micros"][0])
    for _ in range(20):
        now_ms += 1_000
        here, there = ahead.tick(both, now_ms), behind.tick(both, now_ms)
    assert here["alpha_micros"] == pytest.approx(there["alpha_micros"], rel=1e-4)  # other turns, the same campaigns


def test_an_edit_planned_ahead_is_in_force_at_once(history: MarketHistory) -> None:
    pacer, others, one = Pacer(history, CROWDED), _others(OTHERS), account(BUDGET, TARGET, 0, campaign_id=7)
    for second in range(1, 9):
        before = pacer.tick(np.concatenate([others, one]), DAY_START_MS + 1_000 * second)
    one["target_cost_micros"] = TARGET / 4
    edited = pacer.plan_ahead(one, DAY_START_MS + 9_000)
    assert edited["alpha_micros"][0] < before["alpha_micros"][-1] / 2
