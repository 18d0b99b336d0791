"""The line of shades is the one along which bids were shaded, wherever the multiplier and the price go."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pacing.control.shades.kernels import SHADE_COLUMNS, sum_shades
from pacing.control.shades.lines import shade_lines, shades_at

LOG_LEVEL, LOG_PRICE = -3.0, 10.0


def _sums(alpha: float, slope: float, first: np.ndarray | None = None, spread: float = 0.5) -> np.ndarray:
    """Sums of 5,000 auctions of one campaign, whose bids are shaded by -0.4 at log worth over price -1."""
    rng = np.random.default_rng(1)
    probability = math.exp(LOG_LEVEL) * np.exp(spread * rng.standard_normal(5_000) - spread**2 / 2)
    dearness = np.log(alpha * probability) - LOG_PRICE
    bid = alpha * probability * np.exp(-0.4 + slope * (dearness + 1.0))
    sums = np.zeros((1, SHADE_COLUMNS))
    first = np.ones(5_000, np.uint8) if first is None else first
    scales = np.array([LOG_LEVEL]), np.array([LOG_PRICE])
    sum_shades(np.zeros(5_000, np.int64), first, probability, np.full(5_000, alpha), bid, *scales, sums)
    return sums


def test_a_line_is_found_and_carries_to_other_multipliers() -> None:
    alpha = math.exp(12.0)
    line = shade_lines(_sums(alpha, -0.3))
    assert line[0, 1] == pytest.approx(-0.3, rel=0.05)
    # Weighed with probability, probabilities lie exp(spread ** 2 / 2) above their mean.
    for log_worth in (-1.0, -0.5, 0.5):
        wanted = -0.4 - 0.3 * (log_worth + 0.125 + 1.0)
        assert shades_at(line, np.array([log_worth]))[0] == pytest.approx(wanted, abs=0.03)


def test_without_variation_there_is_no_slope_and_without_first_price_no_shade() -> None:
    line = shade_lines(_sums(math.exp(12.0), -0.3, spread=0.0))
    assert line[0, 1] == pytest.approx(0.0, abs=1e-6)
    assert shades_at(line, np.array([5.0]))[0] == pytest.approx(-0.4, abs=0.01)
    assert not shade_lines(_sums(math.exp(12.0), -0.3, first=np.zeros(5_000, np.uint8))).any()


def test_no_bid_is_above_its_worth_or_falls_when_the_worth_rises() -> None:
    steep = shade_lines(_sums(math.exp(12.0), -1.5))
    worth = np.linspace(-5, 5, 50)
    shades = shades_at(np.repeat(steep, 50, axis=0), worth)
    assert (shades <= 0).all() and (np.diff(worth + shades) > 0).all()
    rising = shade_lines(_sums(math.exp(12.0), 0.5))
    assert rising[0, 1] == 0.0


def test_strangers_and_what_was_not_bid_are_left_out() -> None:
    sums = np.zeros((1, SHADE_COLUMNS))
    row, first, one = np.array([-1, 0, 0]), np.ones(3, np.uint8), np.ones(1)
    sum_shades(row, first, np.array([0.1, 0.0, 0.1]), np.full(3, 1e6), np.array([5.0, 5.0, 0.0]), one, one, sums)
    assert not sums.any()
