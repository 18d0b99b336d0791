"""First-price bids along a line of shades, in plain Python."""

from __future__ import annotations

import math

from pacing.control.curves.reference import Curve, at_bin
from pacing.control.grid import Z_LOW, Z_STEP

Line = tuple[float, float, float]
"""Intercept and slope of the log shade by how dear a bid is, and the variance of log probabilities."""
NO_SHADES: Line = (0.0, 0.0, 0.0)


def first_price(values: Curve, at: float, line: Line) -> tuple[float, float]:
    """Value won by bids whose worth lies at a fractional bin, and what is paid for it, as a share of worth."""
    intercept, slope, variance = line
    shade = min(intercept + slope * (Z_LOW + at * Z_STEP), 0.0)
    where, stretch = at + shade / Z_STEP, 1.0
    if slope:
        gains = [v - before for v, before in zip(values, [0.0, *values[:-1]], strict=True)]
        middle = sum(k * gain for k, gain in enumerate(gains)) / sum(gains)
        spread = sum((k - middle) ** 2 * gain for k, gain in enumerate(gains)) / sum(gains) * Z_STEP**2
        # Threshold over shaded bid: the log of price, less (1 + slope) of the log of probability.
        narrow = spread - variance + (1 + slope) ** 2 * variance
        stretch = math.sqrt(spread / max(narrow, spread / 4))
        where = middle + (where - middle) * stretch
    value = at_bin(values, where)
    if not value:
        return 0.0, math.exp(shade)
    steepness = min((value - at_bin(values, where - 1)) / value / Z_STEP, 5.0)
    return value, math.exp(shade + slope * (1 + slope) * variance * stretch * steepness)
