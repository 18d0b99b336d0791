"""The controller in a market: shares of the optimum that knows every price, and both constraints held."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pacing.clocks import MS_PER_DAY, MS_PER_HOUR
from pacing.control.history import MarketHistory
from pacing.control.pacer import Pacer
from pacing.control.settings import PacerSettings
from pacing.facts import FEEDBACK
from tests.pacing.control.market import (
    DAY_START_MS,
    Day,
    account,
    dear_mornings,
    diurnal,
    draw_day,
    history_of,
    optimum,
    run_day,
)

BUDGET = 2e7  # what the market sells at 0.33 units per event
TARGET = 4e5  # binds long before any budget here
AMPLE = 1e10
TICKS = 96


@pytest.fixture(scope="module")
def flat_history() -> MarketHistory:
    return history_of([draw_day(100 + i) for i in range(3)])


@pytest.fixture(scope="module")
def diurnal_history() -> MarketHistory:
    return history_of([draw_day(200 + i, traffic=diurnal, price_at=dear_mornings) for i in range(3)])


def _share(day: Day, budget: float, target: float, history: MarketHistory | None, **options: object) -> float:
    run = run_day(Pacer(history), day, budget, target, TICKS, **options)  # type: ignore[arg-type]
    assert run.spend <= budget
    if target:
        assert run.cost <= 1.01 * target
    return run.events / optimum(day, budget, target)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(("budget", "target"), [(BUDGET, 0.0), (AMPLE, TARGET), (BUDGET, 6e5)])
def test_stationary_market_with_history(seed: int, budget: float, target: float, flat_history: MarketHistory) -> None:
    assert _share(draw_day(seed), budget, target, flat_history) >= 0.99


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(("budget", "target"), [(BUDGET, 0.0), (AMPLE, TARGET)])
def test_diurnal_market_with_history(seed: int, budget: float, target: float, diurnal_history: MarketHistory) -> None:
    day = draw_day(seed, traffic=diurnal, price_at=dear_mornings)
    assert _share(day, budget, target, diurnal_history) >= 0.99


@pytest.mark.parametrize(("budget", "target"), [(BUDGET, 0.0), (AMPLE, TARGET), (BUDGET, 6e5)])
def test_first_day_on_an_unknown_market(budget: float, target: float) -> None:
    assert _share(draw_day(3), budget, target, None) >= 0.97


def test_prices_told_on_wins_only() -> None:
    assert _share(draw_day(4), AMPLE, TARGET, None, told="won") >= 0.97
    assert _share(draw_day(4), BUDGET, 0.0, None, told="won") >= 0.85


def test_a_target_campaign_starts_at_its_target_on_an_unknown_market() -> None:
    plan = Pacer().tick(account(AMPLE, TARGET), DAY_START_MS)
    assert plan["alpha_micros"][0] == pytest.approx(TARGET)


def test_a_campaign_whose_audience_is_a_part_of_the_market(flat_history: MarketHistory) -> None:
    day = draw_day(5, auctions=2_400)  # a tenth of the history's traffic
    assert _share(day, BUDGET / 10, 0.0, flat_history) >= 0.96


def test_dearer_day_than_any_before(flat_history: MarketHistory) -> None:
    day = draw_day(6, price_at=lambda at: np.full_like(at, 1.8))
    assert _share(day, BUDGET, 0.0, flat_history) >= 0.98


def test_price_shock_at_noon_is_absorbed(flat_history: MarketHistory) -> None:
    day = draw_day(7, price_at=lambda at: np.where(at < 0.5, 1.0, 2.0))
    assert _share(day, BUDGET, 0.0, flat_history) >= 0.92
    assert _share(day, AMPLE, TARGET, flat_history) >= 0.92


def test_traffic_that_left_is_not_waited_for(flat_history: MarketHistory) -> None:
    """The optimum knows of the drop beforehand; who waits for it to return reaches 0.961."""
    dropped = draw_day(8, auctions=17_000, traffic=lambda at: np.where(at < 0.46, 1.0, 0.45))
    assert _share(dropped, BUDGET, 0.0, flat_history) >= 0.967


def test_a_crowd_is_not_taken_for_the_rest_of_the_day(flat_history: MarketHistory) -> None:
    crowded = draw_day(7, auctions=28_000, traffic=lambda at: np.where((at >= 0.625) & (at < 0.71), 3.0, 1.0))
    assert _share(crowded, BUDGET, 0.0, flat_history) >= 0.98


@pytest.mark.parametrize("shade", [0.5, 0.8])
def test_first_price_pays_what_it_bids(shade: float, flat_history: MarketHistory) -> None:
    """A shade that never changes: cost per event is shade * alpha whatever is won, so both optima have closed forms."""
    day = draw_day(8)
    ratio = np.sort(day.threshold / day.probability)
    value = np.cumsum(day.probability[np.argsort(day.threshold / day.probability)])
    capped = run_day(Pacer(flat_history), day, AMPLE, TARGET, TICKS, first_price_shade=shade)
    assert capped.cost <= 1.01 * TARGET
    assert capped.events >= 0.97 * value[np.searchsorted(ratio, TARGET) - 1]
    spent = run_day(Pacer(flat_history), day, BUDGET, 0.0, TICKS, first_price_shade=shade)
    assert spent.spend <= BUDGET
    assert spent.events >= 0.97 * value[np.flatnonzero(ratio * value <= BUDGET)[-1]]


def _edited_optimum(day: Day, first: float, second: float) -> float:
    """Most events when the budget turns from `first` to `second` at noon and nobody knew: solved half by half."""
    morning, evening = day.at_share < 0.5, day.at_share >= 0.5
    half = [Day(day.at_share[m], day.probability[m], day.threshold[m]) for m in (morning, evening)]
    before = first / 2
    return optimum(half[0], before, 0.0) + optimum(half[1], max(second - before, 0.0), 0.0)


@pytest.mark.parametrize("factor", [0.6, 2.0])
def test_budget_edited_at_noon_takes_effect_at_once(factor: float, flat_history: MarketHistory) -> None:
    day = draw_day(9)
    run = run_day(
        Pacer(flat_history), day, BUDGET, 0.0, TICKS, budget_at=lambda at: BUDGET if at < 0.5 else factor * BUDGET
    )
    assert 0.97 * factor * BUDGET <= run.spend <= factor * BUDGET
    assert run.events >= 0.96 * _edited_optimum(day, BUDGET, factor * BUDGET)
    afternoon = np.array(run.alphas[TICKS // 2 + 1 : -4])  # no wind-up: the new level at once, and no swing after
    assert afternoon.std() < 0.1 * afternoon.mean()


def test_budget_cut_below_spend_stops_bidding(flat_history: MarketHistory) -> None:
    run = run_day(
        Pacer(flat_history), draw_day(9), BUDGET, 0.0, TICKS, budget_at=lambda at: BUDGET if at < 0.5 else BUDGET / 4
    )
    assert run.alphas[-1] == 0.0


def test_a_campaign_that_joins_at_noon_spends_its_day(flat_history: MarketHistory) -> None:
    day = draw_day(10)
    run = run_day(Pacer(flat_history), day, BUDGET, 0.0, TICKS, begin=0.5)
    late = day.at_share >= 0.5
    best = optimum(Day(day.at_share[late], day.probability[late], day.threshold[late]), BUDGET, 0.0)
    assert run.spend >= 0.98 * BUDGET
    assert run.events >= 0.97 * best


def test_spend_follows_traffic_when_prices_are_flat(flat_history: MarketHistory) -> None:
    run = run_day(Pacer(flat_history), draw_day(11), BUDGET, 0.0, TICKS)
    line = np.linspace(0, 1, TICKS + 1)[1:]
    assert np.abs(np.array(run.spends) / run.spends[-1] - line).max() <= 0.04


def test_a_flight_budget_is_spread_over_its_days(flat_history: MarketHistory) -> None:
    """Ten times a day's worth of daily budget, but a flight that pays for four days."""
    spent, pacer = [0.0], Pacer(flat_history)
    for number in range(4):
        run = run_day(
            pacer, draw_day(20 + number), 10 * BUDGET, 0.0, TICKS, number=number,
            flight_spent=spent[-1], flight_cap=4 * BUDGET, end_days=4,
        )  # fmt: skip
        spent.append(spent[-1] + run.spend)
    daily = np.diff(spent)
    assert spent[-1] == pytest.approx(4 * BUDGET, rel=0.02)
    assert (np.abs(daily / BUDGET - 1) < 0.15).all()


def test_a_day_poor_in_traffic_is_not_saved_for_days_that_have_caps_of_their_own(flat_history: MarketHistory) -> None:
    """Every day can be paid for in full, so what a dearer multiplier would cost tomorrow, beyond tomorrow's cap, does
    not hold it back today."""
    poor = draw_day(24, traffic=lambda share: np.where(share < 0.2, 1.0, 0.15))
    run = run_day(Pacer(flat_history), poor, BUDGET, 0.0, TICKS, flight_cap=3 * BUDGET, end_days=3)
    assert run.spend >= 0.97 * BUDGET


def test_a_deficit_is_carried_but_bounded() -> None:
    pacer = Pacer(None, PacerSettings(max_deficit_share=0.05))
    row = account(BUDGET, TARGET)
    pacer.tick(row, DAY_START_MS)
    row["day_spend_micros"], row["day_expected_events"] = BUDGET, BUDGET / TARGET / 2  # at twice the target
    row["flight_spend_micros"] = BUDGET
    pacer.tick(row, DAY_START_MS + 23 * MS_PER_HOUR)
    row["day_spend_micros"], row["day_expected_events"] = 0, 0
    row["day_start_at_ms"] += MS_PER_DAY
    row["day_end_at_ms"] += MS_PER_DAY
    pacer.tick(row, DAY_START_MS + MS_PER_DAY)
    assert pacer.deficit_micros(7) == pytest.approx(0.05 * BUDGET)
    assert pacer.deficit_micros(8) == 0.0


def test_yesterday_teaches_the_time_of_day() -> None:
    """Without any history, the second day of a diurnal market is better than the first."""
    shares, pacer = [], Pacer()
    for number in range(3):
        day = draw_day(30 + number, traffic=diurnal, price_at=dear_mornings)
        run = run_day(pacer, day, BUDGET, 0.0, TICKS, number=number)
        shares.append(run.events / optimum(day, BUDGET, 0.0))
    assert shares[2] >= 0.97
    assert shares[2] > shares[0]


def test_an_ample_budget_buys_everything(flat_history: MarketHistory) -> None:
    day = draw_day(12)
    run = run_day(Pacer(flat_history), day, 1e12, 0.0, TICKS)
    assert run.events >= 0.999 * day.probability.sum()


def test_the_end_of_the_day_never_stalls(flat_history: MarketHistory) -> None:
    """Half of the expected traffic stays away from noon on; the budget is spent all the same."""
    day = draw_day(13, traffic=lambda at: np.where(at < 0.5, 1.0, 0.4))
    assert run_day(Pacer(flat_history), day, BUDGET, 0.0, TICKS).spend >= 0.98 * BUDGET


def test_same_input_same_plan(flat_history: MarketHistory) -> None:
    runs = [run_day(Pacer(flat_history), draw_day(14), BUDGET, 6e5, TICKS).alphas for _ in range(2)]
    assert runs[0] == runs[1]


def test_campaigns_do_not_share_state(flat_history: MarketHistory) -> None:
    """A campaign's plan is the same whether it is alone or beside another that sees other prices."""
    alone, together = Pacer(flat_history), Pacer(flat_history)
    mine, other = account(BUDGET, 0.0), account(BUDGET, TARGET, campaign_id=8)
    for tick in range(6):
        now_ms = DAY_START_MS + tick * 900_000
        plans = [alone.tick(mine, now_ms), together.tick(np.concatenate([other, mine]), now_ms)]
        assert plans[0]["alpha_micros"][0] == pytest.approx(plans[1]["alpha_micros"][1], rel=1e-9)
        rows = np.zeros(50, FEEDBACK)
        rows["campaign_id"], rows["at"], rows["probability"], rows["bid_micros"] = 8, 2, 0.5, 100
        rows["min_bid_to_win_micros"] = 10**7
        together.observe(rows)


def test_planned_spend_grows_to_the_budget(flat_history: MarketHistory) -> None:
    pacer, row, planned = Pacer(flat_history), account(BUDGET, 0.0), []
    for tick in range(TICKS):
        row["day_spend_micros"] = BUDGET * tick / TICKS
        plan = pacer.tick(row, DAY_START_MS + tick * MS_PER_DAY // TICKS)
        planned.append(int(plan["planned_day_spend_micros"][0]))
    assert (np.diff(planned) >= 0).all()
    assert planned[0] == 0
    assert planned[-1] == pytest.approx(BUDGET, rel=0.15)


def test_a_new_pacer_goes_on_from_what_was_planned_of_the_day_until_the_day_ends(flat_history: MarketHistory) -> None:
    pacer, row = Pacer(flat_history), account(BUDGET, 0.0)
    row["day_planned_micros"] = before = int(0.4 * BUDGET)
    row["day_spend_micros"] = 0.5 * BUDGET
    noon_ms = DAY_START_MS + MS_PER_DAY // 2
    plans = [int(pacer.tick(row, noon_ms + k * 60_000)["planned_day_spend_micros"][0]) for k in range(3)]
    assert plans[0] == before < plans[1] < plans[2] < before + 0.01 * BUDGET
    tomorrow = account(BUDGET, 0.0, day=1)
    tomorrow["day_planned_micros"] = before  # only a campaign that is new takes it up
    assert pacer.tick(tomorrow, DAY_START_MS + MS_PER_DAY)["planned_day_spend_micros"][0] == 0


def test_nothing_is_planned_of_the_time_for_which_a_campaign_is_away(flat_history: MarketHistory) -> None:
    pacer, row = Pacer(flat_history), account(BUDGET, 0.0)
    other = account(BUDGET, 0.0, campaign_id=8)
    both = np.concatenate([row, other])
    pacer.tick(both, DAY_START_MS)
    before = pacer.tick(both, DAY_START_MS + 600_000)["planned_day_spend_micros"]
    pacer.tick(other, DAY_START_MS + 660_000)
    back_ms = DAY_START_MS + 6 * MS_PER_HOUR
    after = pacer.tick(both, back_ms)["planned_day_spend_micros"]
    assert after[0] - before[0] < before[0] < after[1] - before[1]
    assert pacer.tick(both, back_ms + 600_000)["planned_day_spend_micros"][0] > after[0]


def test_duals_tell_which_constraint_binds(flat_history: MarketHistory) -> None:
    pacer = Pacer(flat_history)
    both = np.concatenate([account(BUDGET, 0.0), account(AMPLE, TARGET, campaign_id=8)])
    plan = pacer.tick(both, DAY_START_MS)
    assert plan["budget_dual"][0] == pytest.approx(1 / plan["alpha_micros"][0])
    assert plan["cost_dual"][0] == 0
    assert plan["cost_dual"][1] > 0
    assert plan["alpha_micros"][1] > TARGET
    assert math.isfinite(plan["cost_dual"][1])


def test_no_campaigns_no_plan() -> None:
    pacer = Pacer()
    assert len(pacer.tick(account(1, 0)[:0], DAY_START_MS)) == 0
    pacer.observe(np.zeros(0, FEEDBACK))
    strangers = np.zeros(3, FEEDBACK)
    strangers["campaign_id"] = 99
    pacer.observe(strangers)
    pacer.observe_supply(np.array([99], np.uint64), np.array([5]), np.array([0.1]), DAY_START_MS)
    assert len(pacer.tick(account(BUDGET, TARGET), DAY_START_MS + 1)) == 1


def test_wrong_layouts_are_refused() -> None:
    with pytest.raises(ValueError, match="PACING_ACCOUNT"):
        Pacer().tick(np.zeros(1, FEEDBACK), DAY_START_MS)
    with pytest.raises(ValueError, match="expected_events"):
        Pacer().observe_supply(np.array([1], np.uint64), np.array([1]), np.zeros(2), DAY_START_MS)
    with pytest.raises(ValueError, match=r"target_sd -1.*0\.01"):
        PacerSettings(target_sd=-1)
    with pytest.raises(ValueError, match="cost_excess_exponent"):
        PacerSettings(cost_excess_exponent=math.nan)


def test_predictions_that_jump_are_worth_less_at_once_and_for_the_rest_of_the_day(flat_history: MarketHistory) -> None:
    """All p half higher from ten o'clock: alpha falls by a third, and budget is spent as if nothing had happened."""
    day = draw_day(15)
    late = day.at_share >= 10 / 24
    jumped = Day(day.at_share, day.probability * np.where(late, 1.5, 1.0), day.threshold)
    run = run_day(Pacer(flat_history), jumped, BUDGET, 0.0, TICKS)
    before, after = run.alphas[TICKS * 9 // 24], run.alphas[TICKS * 12 // 24]
    assert after / before == pytest.approx(1 / 1.5, rel=0.08)
    line = np.linspace(0, 1, TICKS + 1)[1:]
    assert np.abs(np.array(run.spends) / run.spends[-1] - line).max() <= 0.05
