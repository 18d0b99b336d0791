"""Following a price level: what each step means, and that it finds a level that moved."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr

from auction.landscape.level import reference
from auction.landscape.level.kernels import average_levels, move_evidence, move_level, spread_level, weigh_levels

pytestmark = pytest.mark.kernels


def some_level(rng: np.random.Generator, reach: int) -> np.ndarray:
    probs = rng.random(2 * reach + 1) ** 4
    return probs / probs.sum()


def some_evidence(rng: np.random.Generator, bins: int) -> reference.Columns:
    exact, wins, losses = (rng.integers(0, 4, size).astype(float).tolist() for size in (bins + 1, bins, bins))
    return exact, wins, losses


@settings(max_examples=150)
@given(seed=st.integers(0, 2**32 - 1), bins=st.integers(1, 9), reach=st.integers(1, 6))
def test_steps_mean_what_the_reference_says(seed: int, bins: int, reach: int) -> None:
    rng = np.random.default_rng(seed)
    told, shape, probs = some_evidence(rng, bins), np.sort(rng.random(bins)), some_level(rng, reach)
    columns = [np.array(column) for column in told]

    learned = probs.copy()
    best = weigh_levels(*columns, shape, learned)
    np.testing.assert_allclose(learned, reference.posterior(told, shape.tolist(), probs.tolist()), rtol=1e-9)
    assert learned[best + reach] == learned.max()

    averaged = np.empty(bins)
    average_levels(shape, probs, averaged)
    np.testing.assert_allclose(averaged, reference.averaged(shape.tolist(), probs.tolist()), rtol=1e-9)

    by = int(rng.integers(-reach, reach + 1))
    probs[by + reach] += 0.1
    moved = probs.copy()
    move_level(moved, by)
    np.testing.assert_allclose(moved, reference.moved_level(probs.tolist(), by), rtol=1e-9)
    move_evidence(*columns, by)
    for column, expected in zip(columns, reference.moved_told(told, by), strict=True):
        np.testing.assert_array_equal(column, expected)


@given(seed=st.integers(0, 2**32 - 1), by=st.integers(-12, 12))
def test_moved_evidence_is_true_of_moved_prices(seed: int, by: int) -> None:
    """Each observation, alone, still leaves the price possible that it was made of, had that been as much higher."""
    rng, bins = np.random.default_rng(seed), 10
    for _ in range(20):
        true_bin, bid = int(rng.integers(-5, 16)), int(rng.integers(0, bins))
        exact, wins, losses = np.zeros(bins + 1), np.zeros(bins), np.zeros(bins)
        kind = int(rng.integers(0, 3))
        if kind == 0:
            exact[min(max(true_bin, 0), bins)] = 1.0
        else:
            (wins if true_bin <= bid else losses)[bid] = 1.0
        move_evidence(exact, wins, losses, by)
        moved = true_bin + by
        possible = np.append(np.arange(bins), bins)
        for told, agrees in (
            (exact, possible == min(max(moved, 0), bins)),
            (wins, moved <= possible[:-1]),
            (losses, moved > possible[:-1]),
        ):
            assert not told[~agrees].any()


@given(seed=st.integers(0, 2**32 - 1), reach=st.integers(1, 6), steps=st.integers(1, 5))
def test_a_level_walks_and_jumps(seed: int, reach: int, steps: int) -> None:
    probs = some_level(np.random.default_rng(seed), reach)
    walked = probs.copy()
    spread_level(walked, 0.79 * steps, 0.02)
    np.testing.assert_allclose(walked, reference.walked(probs.tolist(), steps, 0.395, 0.02), rtol=1e-9)
    assert walked.sum() == pytest.approx(1.0)


def test_the_variance_of_a_walk_is_the_one_that_was_asked_for() -> None:
    for variance in (0.01, 3.0, 60.0):
        probs = np.zeros(129)
        probs[64] = 1.0
        spread_level(probs, variance, 0.0)
        assert (probs * (np.arange(129) - 64) ** 2).sum() == pytest.approx(variance, rel=1e-3)


def test_won_and_lost_bids_alone_find_a_level_that_jumped() -> None:
    rng = np.random.default_rng(3)
    edges, reach = np.arange(200.0), 40
    for jump in (-31, -6, 0, 9, 38):
        shape = 0.4 * ndtr((edges - 70) / 3) + 0.6 * ndtr((edges - 110) / 3)
        bids, prices = rng.integers(60, 130, 600), np.where(rng.random(600) < 0.4, 70, 110) + rng.normal(jump, 3, 600)
        won = bids >= prices
        wins = np.bincount(bids[won], minlength=200).astype(float)
        losses = np.bincount(bids[~won], minlength=200).astype(float)
        probs = np.zeros(2 * reach + 1)
        probs[reach] = 1.0
        spread_level(probs, 1.0, 0.01)
        assert weigh_levels(np.zeros(201), wins, losses, shape, probs) == pytest.approx(jump, abs=2)
        assert probs[np.abs(np.arange(2 * reach + 1) - reach - jump) <= 3].sum() > 0.95
