"""The optimum is one: against linear programming in second price, against trying multipliers in first price."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import linprog

from benchmarks.bidding.days import Day, draw_day, win_probabilities
from benchmarks.bidding.optimum import Hindsight, Terms
from benchmarks.bidding.scenarios import SCENARIOS
from pacing.clocks import MS_PER_DAY

NOON_MS = MS_PER_DAY // 2


def _day(name: str = "diurnal", auctions: int = 400) -> Day:
    return draw_day(SCENARIOS[name], 3, 0, auctions)


def _program(day: Day, terms: Terms) -> float:
    """Most events by HiGHS."""
    cost, value = day.least_micros.astype(float), day.probability
    rows, limits = [cost], [terms.budget_micros]
    if terms.target_cost_micros:
        rows.append(cost - terms.target_cost_micros * value)
        limits.append(0.0)
    if terms.early_until_ms:
        rows.append(cost * (day.at_ms < terms.early_until_ms))
        limits.append(terms.early_budget_micros)
    solved = linprog(-value, np.stack(rows) / 1e6, np.array(limits) / 1e6, bounds=(0, 1), method="highs")
    assert solved.success
    return float(-solved.fun)


@pytest.mark.parametrize(
    "terms",
    [
        Terms(1e6),
        Terms(1e9),
        Terms(1e9, 2.5e5),
        Terms(5e5, 2.5e5),
        Terms(2e6, 0.0, 4e5, NOON_MS),
        Terms(2e6, 3e5, 2e5, NOON_MS),
        Terms(1e9, 3e5, 1e5, NOON_MS),
    ],
)
def test_sorting_solves_the_linear_program(terms: Terms) -> None:
    day = _day()
    best = Hindsight(day, first_price=False).optimum(terms)
    assert best.events.sum() == pytest.approx(_program(day, terms), rel=1e-6)
    assert best.spend_micros.sum() <= terms.budget_micros * (1 + 1e-12)
    if terms.target_cost_micros:
        assert best.spend_micros.sum() <= terms.target_cost_micros * best.events.sum() * (1 + 1e-9)


@pytest.mark.parametrize("first_price", [False, True])
def test_what_was_bought_over_target_is_brought_back_by_as_much_as_is_cheaper(first_price: bool) -> None:
    hindsight = Hindsight(_day(auctions=6_000), first_price)
    target = 3e5
    alpha = hindsight.rest(NOON_MS, Terms(1e12, target), 1.01 * target * 100.0, 100.0)
    rows = slice(int(np.searchsorted(hindsight.day.at_ms, NOON_MS)), None)

    def cost(factor: float) -> float:
        spend, events = hindsight.buy(factor * alpha, rows)
        return float(1.01 * target * 100.0 + spend.sum()) / float(100.0 + events.sum()) / target

    assert cost(1.0) == pytest.approx(1.0, abs=0.002)
    assert cost(0.9) < 1 < cost(1.1)
    # So much over that nothing brings it back: as near as can be.
    nearest = hindsight.rest(NOON_MS, Terms(1e12, target), 1e3 * target * 1e6, 1e6) if first_price else target
    assert 0.5 < nearest / target < 2.5


@pytest.mark.parametrize("terms", [Terms(1e6), Terms(1e9, 3e5)])
def test_no_other_multiplier_or_shade_buys_more_in_first_price(terms: Terms) -> None:
    day = _day(auctions=6_000)
    hindsight = Hindsight(day, first_price=True)
    terms = replace(terms, budget_micros=terms.budget_micros * 15)
    best = hindsight.optimum(terms)
    assert best.spend_micros.sum() <= terms.budget_micros
    events = float(best.events.sum())
    for factor in (0.95, 1.05):
        spend, other = hindsight.buy(factor * best.alphas[0])
        kept = spend.sum() <= terms.budget_micros and (
            not terms.target_cost_micros or spend.sum() <= terms.target_cost_micros * other.sum()
        )
        assert not kept or other.sum() <= events * 1.002
    for shade in np.linspace(0.3, 1.0, 8):  # a constant shade, at the largest alpha that keeps the terms
        kept_events = [0.0]
        for alpha in best.alphas[0] * np.geomspace(0.2, 5, 60):
            bids = np.floor(shade * alpha * day.probability)
            won = bids >= day.least_micros
            spend, other = float(bids[won].sum()), float(day.probability[won].sum())
            if spend <= terms.budget_micros and spend <= (terms.target_cost_micros or np.inf) * max(other, 1e-12):
                kept_events.append(other)
        assert max(kept_events) <= events * 1.01


def test_the_distributions_are_those_that_prices_are_drawn_from() -> None:
    day = draw_day(SCENARIOS["price_shock"], 1, 0, 60_000)
    bids = np.array([10_000.0, 20_000.0, 50_000.0])
    for hour in (3, 20):
        drawn = (day.least_micros[day.hours == hour][:, None] <= bids).mean(axis=0)
        assert win_probabilities(day, bids)[hour] == pytest.approx(drawn, abs=0.04)


def test_what_is_left_after_a_shock_is_solved_anew() -> None:
    day = _day(auctions=4_000)
    hindsight = Hindsight(day, first_price=False)
    terms = Terms(1e7)
    best = hindsight.optimum(terms)
    before = day.at_ms < NOON_MS
    alpha = hindsight.rest(NOON_MS, terms, float(best.spend_micros[before].sum()), float(best.events[before].sum()))
    assert alpha == pytest.approx(best.alphas[0], rel=0.01)
    assert hindsight.rest(NOON_MS, terms, 9e6, 1.0) < alpha
