"""Shading and estimation kernels against brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from auction.landscape.kernels import (
    Landscape,
    bins_up_to,
    build_envelope,
    estimate_win_probs,
    fill_between,
    isotonic_win_rate,
    product_limit_left,
    product_limit_right,
    self_consistent,
    shade_batch,
    shade_bid,
    win_probability,
)
from auction.landscape.reference import best_bid, kaplan_meier, pooled_rates, turnbull

pytestmark = pytest.mark.kernels

win_prob_lists = st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.25, 0.5, 0.7, 0.9, 1.0]), min_size=1, max_size=14).map(
    sorted
)


def landscape_of(edges: list[int], rows: list[list[float]]) -> Landscape:
    bins = len(edges)
    counts = np.zeros(len(rows), np.int32)
    starts, bids = np.zeros((len(rows), bins + 1)), np.zeros((len(rows), bins + 1), np.int64)
    edge_column, win_probs = np.array(edges, np.int64), np.array(rows, np.float64)
    for row in range(len(rows)):
        counts[row] = build_envelope(edge_column, win_probs[row], starts[row], bids[row])
    return Landscape(edge_column, win_probs, counts, starts, bids)


@limits(max_examples=300)
@given(
    win_prob_lists,
    st.integers(0, 2**31),
    st.one_of(st.floats(0, 2_000), st.integers(0, 2_000).map(float)),
    st.integers(0, 1_500),
)
def test_shading_is_the_best_of_floor_and_edges(win_probs: list[float], seed: int, value: float, floor: int) -> None:
    rng = np.random.default_rng(seed)
    edges = np.sort(rng.choice(np.arange(1, 1_500), len(win_probs), replace=False)).tolist()
    bid = shade_bid(value, floor, 0, landscape_of(edges, [win_probs]))
    _, surplus = best_bid(edges, win_probs, value, floor)
    assert bid == 0 or floor <= bid <= value
    if value < floor:
        assert bid == 0
        return
    assert bid >= floor
    reached = [p for edge, p in zip(edges, win_probs, strict=True) if edge <= bid]
    assert (value - bid) * (reached[-1] if reached else 0.0) == pytest.approx(surplus, rel=1e-9, abs=1e-9)
    # No lower bid does as well, but for rounding.
    better = [
        edge
        for edge, p in zip(
            [floor, *edges], [best_bid(edges, win_probs, float(floor), floor)[1], *win_probs], strict=True
        )
        if floor < edge < bid and (value - edge) * p > surplus * (1 + 1e-9)
    ]
    assert not better


def test_ties_go_to_the_lower_bid() -> None:
    # (v - 10) * 0.5 == (v - 20) * 1.0 at v = 30.
    landscape = landscape_of([10, 20], [[0.5, 1.0]])
    assert shade_bid(30.0, 0, 0, landscape) == 10
    assert shade_bid(30.001, 0, 0, landscape) == 20
    assert shade_bid(30.0, 10, 0, landscape) == 10
    assert shade_bid(30.0, 11, 0, landscape) == 20


def test_floors_are_inclusive_and_nothing_is_bid_below_them_or_above_value() -> None:
    landscape = landscape_of([100, 200, 400], [[0.5, 0.6, 1.0]])
    assert shade_bid(149.0, 150, 0, landscape) == 0
    assert shade_bid(150.0, 150, 0, landscape) == 150
    assert shade_bid(250.0, 120, 0, landscape) == 120
    assert shade_bid(1e9, 500, 0, landscape) == 500
    assert shade_bid(50.0, 0, 0, landscape) == 0
    assert shade_bid(0.0, 0, 0, landscape) == 0
    assert shade_bid(float("nan"), 10, 0, landscape) == 0
    assert shade_bid(float("inf"), 10, 0, landscape) == 400


def test_bids_grow_with_value_and_batch_equals_single() -> None:
    rng = np.random.default_rng(3)
    edges = np.unique(np.geomspace(500, 90_000, 64).astype(np.int64)).tolist()
    rows = [np.sort(rng.choice(rng.random(6), len(edges))).tolist() for _ in range(3)]
    landscape = landscape_of(edges, rows)
    values = np.sort(rng.uniform(0, 120_000, 500))
    for floor in (0, 3_000):
        for row in range(3):
            out = np.zeros(500, np.int64)
            floors, which = np.full(500, floor), np.full(500, row, np.int32)
            shade_batch(values, floors, which, landscape, out)
            assert (np.diff(out) >= 0).all()
            assert out.tolist() == [shade_bid(v, floor, row, landscape) for v in values.tolist()]
    shade_batch(values[:0], floors[:0], which[:0], landscape, out[:0])


@given(st.lists(st.integers(0, 40), max_size=9, unique=True).map(sorted), st.integers(0, 45))
def test_edge_search_counts_edges(edges: list[int], bid: int) -> None:
    column = np.array(edges, np.int64)
    assert bins_up_to(column, bid) == sum(edge <= bid for edge in edges)


def test_win_probability_is_a_step_function() -> None:
    landscape = landscape_of([10, 20], [[0.2, 0.8]])
    assert [win_probability(b, 0, landscape) for b in (9, 10, 19, 20, 99)] == [0.0, 0.2, 0.2, 0.8, 0.8]


counts = st.lists(st.integers(0, 5), min_size=1, max_size=8)


@limits(max_examples=100)
@given(counts, st.integers(0, 2**31))
def test_product_limits_are_kaplan_meier(exact_counts: list[int], seed: int) -> None:
    bins = len(exact_counts)
    rng = np.random.default_rng(seed)
    exact = np.array([*exact_counts, int(rng.integers(0, 4))], np.float64)
    censored = rng.integers(0, 4, bins).astype(np.float64)
    out = np.zeros(bins)
    product_limit_right(exact, censored, out)
    times = [*range(bins + 1), *range(bins)]
    events = [True] * (bins + 1) + [False] * bins
    weights = [*exact.tolist(), *censored.tolist()]
    kept = [(t, e, w) for t, e, w in zip(times, events, weights, strict=True) if w > 0]
    columns = [list(column) for column in zip(*kept, strict=True)] or [[], [], []]
    for k in range(bins):
        assert out[k] == pytest.approx(kaplan_meier(*columns, at=k), abs=1e-9)

    # Left-censoring is right-censoring of the price counted from above; but a bid that won at edge k is told of no
    # price in bin k, so it is out of sight just before.
    product_limit_left(exact, censored, out)
    ends = [2 * (bins - t) - (not event) for t, event, _ in kept]
    mirrored = [ends, columns[1], columns[2]]
    for k in range(bins):
        # P(price <= k) = 1 - P(bins - price <= bins - k - 1)
        expected = 1 - kaplan_meier(*mirrored, at=2 * (bins - k - 1))
        assert out[k] == pytest.approx(expected, abs=1e-9)


@limits(max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=9))
def test_isotonic_regression_is_the_max_min_formula(trials: list[tuple[int, int]]) -> None:
    wins = np.array([won for won, _ in trials], np.float64)
    losses = np.array([lost for _, lost in trials], np.float64)
    out = np.zeros(len(trials))
    isotonic_win_rate(wins, losses, out)
    np.testing.assert_allclose(out, pooled_rates(wins.tolist(), losses.tolist()), atol=1e-12)


def test_where_every_win_is_at_one_edge_the_losses_still_tell_the_shape() -> None:
    # Prices 0, 1, 2 in parts .2 .3 .5. Half of the bids are at edge 0, half at edge 1; lost ones are told the price.
    exact, wins, out = np.array([0.0, 150.0, 500.0]), np.array([100.0, 250.0]), np.zeros(2)
    product_limit_left(exact, wins, out)
    np.testing.assert_allclose(out, [0.2, 0.5])


@limits(max_examples=100)
@given(st.integers(1, 9), st.integers(0, 2**31))
def test_between_edges_that_had_bids_f_rises_as_the_other_does(bins: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    trials = rng.integers(0, 2, bins) * rng.random(bins)
    shape, fitted = np.sort(rng.choice(rng.random(4), bins)), np.sort(rng.random(bins))
    out = fitted.copy()
    fill_between(trials, shape, out)
    known = [(-1, 0.0, 0.0), *((k, fitted[k], shape[k]) for k in range(bins) if trials[k] > 0), (bins, 1.0, 1.0)]
    for k in range(bins):
        low, high = max(one for one in known if one[0] <= k), min(one for one in known if one[0] >= k)
        rise = high[2] - low[2]
        share = (shape[k] - low[2]) / rise if rise > 0 else 1.0
        assert out[k] == pytest.approx(low[1] + share * (high[1] - low[1]) if low != high else fitted[k], abs=1e-9)
    assert (np.diff(out) >= -1e-12).all()


@limits(max_examples=60)
@given(st.integers(1, 7), st.integers(1, 12), st.integers(1, 5), st.integers(0, 2**31))
def test_self_consistency_is_turnbulls(bins: int, n: int, rounds: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    exact, wins, losses = np.zeros(bins + 1), np.zeros(bins), np.zeros(bins)
    sets = []
    for _ in range(n):
        kind, k = int(rng.integers(0, 3)), int(rng.integers(0, bins))
        (exact, wins, losses)[kind][k] += 1
        sets.append([(k, k), (0, k), (k + 1, bins)][kind])
    masses = rng.uniform(0.1, 1, bins + 1)
    masses /= masses.sum()
    expected = turnbull(sets, masses.tolist(), rounds)
    out = np.zeros(bins)
    self_consistent(exact, wins, losses, rounds, masses, out)
    np.testing.assert_allclose(masses, expected, atol=1e-9)
    np.testing.assert_allclose(out, np.cumsum(expected)[:-1], atol=1e-9)


@limits(max_examples=80)
@given(st.integers(0, 2**31), st.sets(st.sampled_from(["exact", "wins", "losses"])))
def test_estimates_never_fall_and_lean_on_the_prior(seed: int, kinds: set[str]) -> None:
    rng = np.random.default_rng(seed)
    bins = 12
    columns = {"exact": np.zeros(bins + 1), "wins": np.zeros(bins), "losses": np.zeros(bins)}
    for kind in sorted(kinds):
        columns[kind] += rng.integers(0, 30, len(columns[kind]))
    prior = np.sort(rng.random(bins))
    for strength in (5.0, 1e9):
        out = np.zeros(bins)
        estimate_win_probs(columns["exact"], columns["wins"], columns["losses"], prior, strength, 20, out)
        assert (np.diff(out) >= 0).all()
        assert out[0] >= 0
        assert out[-1] <= 1
        if strength > 1e6:
            np.testing.assert_allclose(out, prior, atol=1e-4)
