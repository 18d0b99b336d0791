"""The compiled arithmetic against its plain meaning."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pacing.control import kernels, reference
from pacing.control.curves.reference import at_bin
from pacing.control.grid import ALPHA_BINS, ALPHA_CENTRE, CURVE_BINS, Z_LOW, Z_STEP
from pacing.control.prior import MarketPrior
from pacing.control.shades.reference import NO_SHADES, Line
from pacing.control.shades.reference import first_price as won_and_bid

pytestmark = pytest.mark.kernels

BUCKETS = 4


def _curves(seed: int) -> np.ndarray:
    """f4[3, 1, BUCKETS, K]: value, cost and told, rising to different tops, with flat stretches."""
    rng = np.random.default_rng(seed)
    steps = rng.exponential(size=(3, 1, BUCKETS, CURVE_BINS)) * (rng.random((3, 1, BUCKETS, CURVE_BINS)) < 0.4)
    steps[..., CURVE_BINS // 2] += 1.0
    curves = np.cumsum(steps, axis=-1)
    return (curves / curves[..., -1:] * rng.uniform(0.5, 1.0, (3, 1, BUCKETS, 1))).astype(np.float32)


def _mass(seed: int, rows: float) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mass = rng.random((1, 3, CURVE_BINS)) * (rng.random((1, 3, CURVE_BINS)) < 0.2)
    return (mass / max(mass.sum(), 1e-9) * rows).astype(np.float32)


def _refreshed(
    seed: int,
    rows: float,
    spread: float,
    current: int = 1,
    first_share: float = 0.0,
    line: Line = NO_SHADES,
) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed + 1_000)
    curves, mass = _curves(seed), _mass(seed, rows)
    weight = rng.random((1, BUCKETS)).astype(np.float32)
    traffic = rng.uniform(0, 100, (1, 3, BUCKETS))
    traffic[0, 0, [t for t in range(BUCKETS) if t != current]] = 0
    level, log_price = rng.uniform(-5, -3, (1, BUCKETS)), rng.uniform(9, 10, (1, BUCKETS))
    centre = np.array([13.0])
    own_map = np.arange(CURVE_BINS, dtype=np.float32)[None].copy()
    tables = np.full((1, kernels.TABLE_ROWS, ALPHA_BINS), 7.0, np.float32)
    spreads = np.full((1, BUCKETS), spread)
    kernels.refresh_forecasts(
        np.zeros(1, np.int64), np.zeros(1, np.int64), mass, weight, curves, 300.0, current, traffic, level, log_price,
        spreads, centre, np.array([first_share]), np.array([line]), own_map, tables,
    )  # fmt: skip
    return curves, mass, weight, traffic, level, log_price, spreads, own_map, tables


@pytest.mark.parametrize("rows", [0.0, 5.0, 4_000.0])
@pytest.mark.parametrize("spread", [0.0, 0.4])
@pytest.mark.parametrize(
    ("first_share", "line"), [(0.0, NO_SHADES), (0.3, (-0.5, -0.3, 0.25)), (1.0, (0.1, -0.6, 4.0))]
)
def test_forecast_equals_the_plain_sum(rows: float, spread: float, first_share: float, line: Line) -> None:
    curves, mass, weight, traffic, level, log_price, spreads, own_map, tables = _refreshed(
        3, rows, spread, first_share=first_share, line=line
    )
    expected_map = reference.fit_map(mass[0], weight[0], curves[2, 0], 300.0, range(CURVE_BINS))
    np.testing.assert_allclose(own_map[0], expected_map, atol=2e-3)
    market = reference.Market(curves[0, 0], curves[1, 0])
    for part, rows_of in ((0, kernels.CURRENT_VALUE), (1, kernels.LATER_VALUE)):
        values, costs = reference.forecast_row(
            market, own_map[0].tolist(), traffic[0, part], level[0], log_price[0], spreads[0], 13.0, 1,
            first_share, line,
        )  # fmt: skip
        np.testing.assert_allclose(tables[0, rows_of], values, rtol=2e-4, atol=1e-6)
        np.testing.assert_allclose(tables[0, rows_of + 1], costs, rtol=2e-4, atol=1e-3)
    _, costs = reference.forecast_row(
        market, own_map[0].tolist(), traffic[0, 2], level[0], log_price[0], spreads[0], 13.0, 1, first_share, line
    )
    np.testing.assert_allclose(tables[0, kernels.DAY_COST], costs, rtol=2e-4, atol=1e-3)


def test_no_campaigns_is_no_work() -> None:
    empty = np.zeros(0, np.int64)
    out_log_alpha, out_limits, out_binding = np.zeros(0), np.zeros((0, 2)), np.zeros(0, np.uint8)
    scratch = np.zeros((2, ALPHA_BINS))
    tables = np.zeros((0, kernels.TABLE_ROWS, ALPHA_BINS), np.float32)
    kernels.solve_plans(
        empty,
        tables,
        np.zeros((0, kernels.SOLVE_COLUMNS)),
        math.inf,
        scratch[0],
        scratch[1],
        out_log_alpha,
        out_limits,
        out_binding,
    )
    assert len(out_log_alpha) == 0
    sums = np.zeros((1, kernels.SUM_COLUMNS))
    kernels.sum_auctions(*(np.zeros(0, t) for t in ("i8", "u1", "u1", "f8", "f8", "f8", "f8")), sums)
    assert not sums.any()


def _solve(
    values: np.ndarray, costs: np.ndarray, budget: float, target: float, events: float, spend: float, exponent: float
) -> tuple[float, int]:
    tables = np.zeros((1, kernels.TABLE_ROWS, ALPHA_BINS), np.float32)
    tables[0, kernels.LATER_VALUE], tables[0, kernels.LATER_COST] = values, costs
    state = np.zeros((1, kernels.SOLVE_COLUMNS))
    state[0, [kernels.VALUE_GAIN, kernels.COST_GAIN]] = 1.0
    state[0, kernels.BUDGET], state[0, kernels.FLIGHT], state[0, kernels.TARGET] = budget, 1e15, target
    state[0, kernels.EVENTS], state[0, kernels.SPEND], state[0, kernels.CENTRE] = events, spend, 13.0
    out_log_alpha, out_limits, out_binding = np.zeros(1), np.zeros((1, 2)), np.zeros(1, np.uint8)
    scratch = np.zeros((2, ALPHA_BINS))
    kernels.solve_plans(
        np.zeros(1, np.int64), tables, state, exponent, scratch[0], scratch[1], out_log_alpha, out_limits, out_binding
    )
    return float(out_log_alpha[0]), int(out_binding[0])


def _second_price_tables(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Values and costs of a second-price market on the grid around log alpha 13; ties (flat bins) included."""
    rng = np.random.default_rng(seed)
    gains = rng.exponential(size=ALPHA_BINS) * (rng.random(ALPHA_BINS) < 0.8)
    gains[0] = 1.0
    alphas = np.exp(13.0 + (np.arange(ALPHA_BINS) - ALPHA_CENTRE) * Z_STEP)
    return np.cumsum(gains).astype(np.float32), np.cumsum(gains * alphas).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 50),
    budget_share=st.floats(0.02, 1.5),
    target_z=st.floats(-1.0, 1.0),
    spend_share=st.floats(0.0, 0.5),
    has_target=st.booleans(),
)
def test_solution_equals_the_plain_search(
    seed: int, budget_share: float, target_z: float, spend_share: float, has_target: bool
) -> None:
    values, costs = _second_price_tables(seed)
    budget = max(budget_share * float(costs[-1]), float(costs[0]))
    target = math.exp(13.0 + target_z) if has_target else 0.0
    spend = spend_share * float(costs[-1])
    events = spend / math.exp(13.0)
    found, _ = _solve(values, costs, budget, target, events, spend, math.inf)
    wanted = reference.largest_multiplier(
        values.astype(float).tolist(), costs.astype(float).tolist(), 13.0, budget, target, events, spend
    )
    assert found == pytest.approx(wanted, abs=1e-6)


def test_each_constraint_says_when_it_binds() -> None:
    values, costs = _second_price_tables(1)
    assert _solve(values, costs, float(costs[-1]) / 2, 0.0, 0, 0, math.inf)[1] == kernels.BUDGET_BINDS
    assert _solve(values, costs, 1e15, math.exp(13.0) * 0.9, 0, 0, math.inf)[1] == kernels.COST_BINDS
    assert _solve(values, costs, 1e15, 0.0, 0, 0, math.inf)[1] == kernels.ABOVE_GRID
    assert _solve(values, costs, float(costs[0]) / 2, 0.0, 0, 0, math.inf)[1] == kernels.BELOW_GRID


def test_a_cost_cap_alone_bids_above_the_target() -> None:
    values, costs = _second_price_tables(2)
    target = math.exp(13.0)
    log_alpha, _ = _solve(values, costs, 1e15, target, 0, 0, math.inf)
    assert log_alpha > 13.0
    position = (log_alpha - 13.0) / Z_STEP + ALPHA_CENTRE
    bins = np.arange(ALPHA_BINS)
    cost, value = np.interp(position, bins, costs), np.interp(position, bins, values)
    assert cost == pytest.approx(target * value, rel=1e-3)


def test_an_irrecoverable_deficit_bids_the_target_itself() -> None:
    values, costs = _second_price_tables(4)
    log_alpha, _ = _solve(values, costs, 1e15, math.exp(13.0), 0.0, 1e12, math.inf)
    assert log_alpha == pytest.approx(13.0, abs=1.5 * Z_STEP)


def test_a_soft_target_maximises_the_penalised_value() -> None:
    values, costs = _second_price_tables(5)
    target = math.exp(12.6)
    log_alpha, _ = _solve(values, costs, 1e15, target, 0, 0, 2.0)
    worth = values * np.minimum(1.0, (target * values / costs) ** 2)
    assert log_alpha == pytest.approx(13.0 + (int(worth.argmax()) - ALPHA_CENTRE) * Z_STEP, abs=1e-9)


def test_tighter_money_never_raises_the_multiplier() -> None:
    values, costs = _second_price_tables(6)
    found = [
        _solve(values, costs, share * float(costs[-1]), 0.0, 0, 0, math.inf)[0] for share in np.linspace(0.05, 1, 40)
    ]
    assert (np.diff(found) >= -1e-9).all()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.booleans(),
            st.booleans(),
            st.floats(1e-4, 0.9),
            st.floats(1, 1e7),
            st.floats(-1, 1e7),
            st.floats(-1, 1e7),
        ),
        max_size=30,
    )
)
def test_thresholds_are_binned_by_what_each_auction_told(
    rows: list[tuple[bool, bool, float, float, float, float]],
) -> None:
    columns = [np.array([r[i] for r in rows], t) for i, t in enumerate(("u1", "u1", "f8", "f8", "f8", "f8"))]
    mass = np.zeros((1, 3, CURVE_BINS), np.float32)
    kernels.bin_auctions(np.zeros(len(rows), np.int64), *columns, np.array([-4.0]), np.array([10.0]), mass)
    expected = np.zeros((3, CURVE_BINS))
    for first_price, won, probability, bid, paid, told in rows:
        kind, threshold = reference.threshold_of(first_price, won, bid, paid, told)
        expected[kind, reference.threshold_bin(threshold, probability, -4.0, 10.0)] += probability / math.exp(-4.0)
    assert mass.sum() == pytest.approx(expected.sum(), rel=1e-4, abs=1e-6)
    shift = np.abs(np.cumsum(mass[0], axis=1) - np.cumsum(expected, axis=1)).max(initial=0.0)
    largest = max((r[2] for r in rows), default=0.0) / math.exp(-4.0)
    assert shift <= 2.01 * largest + 1e-3  # rounding may move one row across one edge


def test_sums_add_up_by_campaign_and_skip_strangers() -> None:
    row = np.array([0, 1, -1, 0])
    first, won = np.array([1, 0, 0, 1], np.uint8), np.array([1, 0, 1, 0], np.uint8)
    probability = np.array([0.1, 0.2, 0.3, 0.1])
    bid = np.array([50_000.0, 1.0, 1.0, 100_000.0])
    paid, told = np.array([50_000.0, -1, -1, -1]), np.array([-1.0, 2_000.0, -1, 80_000.0])
    sums = np.zeros((2, kernels.SUM_COLUMNS))
    kernels.sum_auctions(row, first, won, probability, bid, paid, told, sums)
    assert sums[:, kernels.SUM_ROWS].tolist() == [2, 1]
    assert sums[:, kernels.SUM_TOLD].tolist() == [1, 1]
    assert sums[0, kernels.SUM_LOG_TOLD] == pytest.approx(math.log(80_000))
    assert sums[0, kernels.SUM_LOG_PRICE] == pytest.approx(math.log(50_000))
    assert sums[:, kernels.SUM_FIRST].tolist() == pytest.approx([0.2, 0.0])
    assert sums[:, kernels.SUM_SECOND].tolist() == pytest.approx([0.0, 0.2])


@pytest.mark.parametrize("line", [(-0.3, 0.0, 0.2), (-0.6, -0.3, 0.25)])
def test_expected_outcome_equals_the_plain_one_for_both_prices(line: Line) -> None:
    curves, _, _, _, _, _, _, own_map, _ = _refreshed(8, 4_000.0, 0.0)
    market = reference.Market(curves[0, 0], curves[1, 0])
    unit = np.zeros((1, 2))
    one = np.ones(1)
    kernels.expect_outcomes(
        np.zeros(1, np.int64), np.zeros(1, np.int64), curves, 2, own_map, 13.2 * one, np.array([line]), 0.25 * one,
        -4.0 * one, 9.5 * one, unit,
    )  # fmt: skip
    second = reference.impression(market, 2, own_map[0].tolist(), 13.2 - 4.0 - 9.5, -4.0, 9.5)
    values = [at_bin(curves[0, 0, 2].tolist(), position) for position in own_map[0].tolist()]
    won, bid = won_and_bid(values, (13.2 - 4.0 - 9.5 - Z_LOW) / Z_STEP, line)
    assert unit[0, 0] == pytest.approx(0.75 * second[0] + 0.25 * math.exp(-4.0) * won, rel=1e-5)
    assert unit[0, 1] == pytest.approx(0.75 * second[1] + 0.25 * math.exp(-4.0 + 13.2) * won * bid, rel=1e-5)


@pytest.mark.parametrize("offset", [-60.0, -3.3, 0.0, 20.5, 70.0])
def test_costs_of_the_running_bucket_are_read_off_its_table(offset: float) -> None:
    _, costs = _second_price_tables(3)
    tables = np.zeros((2, kernels.TABLE_ROWS, ALPHA_BINS), np.float32)
    tables[1, kernels.CURRENT_COST] = costs
    centre, out = np.array([0.0, 13.0]), np.full(1, 7.0)
    kernels.current_costs(np.array([1]), tables, centre, np.array([13.0 + offset * Z_STEP]), out)
    assert out[0] == pytest.approx(at_bin(costs.tolist(), offset + ALPHA_CENTRE), rel=1e-6)
    kernels.current_costs(np.zeros(0, np.int64), tables, centre, np.zeros(0), np.zeros(0))


def test_cost_slopes_are_the_derivative_of_cost() -> None:
    curves, _, _, traffic, level, log_price, _, own_map, _ = _refreshed(9, 0.0, 0.0)
    slope = np.zeros((1, BUCKETS + 1))
    zero = np.zeros(1, np.int64)
    kernels.cost_slopes(zero, zero, curves, own_map, traffic[:, 1].copy(), level, log_price, np.array([13.0]), slope)
    market = reference.Market(curves[0, 0], curves[1, 0])
    for t in range(BUCKETS):
        low, high = (
            reference.impression(
                market,
                t,
                own_map[0].tolist(),
                13.0 + side * 2 * Z_STEP + level[0, t] - log_price[0, t],
                level[0, t],
                log_price[0, t],
            )[1]
            for side in (-1, 1)
        )
        assert slope[0, t] == pytest.approx(traffic[0, 1, t] * (high - low) / (4 * Z_STEP), rel=1e-4, abs=1e-6)


def test_censored_auctions_recover_the_shape() -> None:
    """Thresholds seen only where they lie under the bid: the fit still finds how much lies under it."""
    prior = MarketPrior.unknown(BUCKETS)
    curves = np.stack([prior.value_curve, prior.cost_curve, prior.told_cdf])
    mass = np.zeros((1, 3, CURVE_BINS), np.float32)
    cut = 100
    mass[0, kernels.EXACT, 90] = 30_000.0  # three of ten lie under the bid, in one place
    mass[0, kernels.ABOVE, cut] = 70_000.0
    own_map = np.arange(CURVE_BINS, dtype=np.float32)[None].copy()
    tables = np.zeros((1, kernels.TABLE_ROWS, ALPHA_BINS), np.float32)
    flat = np.zeros((1, BUCKETS))
    for _ in range(3):
        kernels.refresh_forecasts(
            np.zeros(1, np.int64), np.zeros(1, np.int64), mass, np.ones((1, BUCKETS), np.float32), curves, 10.0, 0,
            np.ones((1, 3, BUCKETS)), flat, flat, flat, np.zeros(1), np.zeros(1), np.zeros((1, 3)), own_map, tables,
        )  # fmt: skip
    share_under = at_bin(prior.told_cdf[0, 0].tolist(), float(own_map[0, cut]))
    assert share_under == pytest.approx(0.3, abs=0.01)
