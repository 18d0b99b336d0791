"""What the yardsticks mean, by trying every bid. Used by tests only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist


def piece_of(starts: Sequence[float], bids: Sequence[int], value: float) -> int:
    """The bid of the last piece that starts below the value."""
    return [bid for start, bid in zip(starts, bids, strict=True) if start < value][-1]


def lognormal_surplus(value: float, bid: float, mu: float, sigma: float) -> float:
    """(v - b) F(b)."""
    return (value - bid) * NormalDist(mu, sigma).cdf(math.log(bid))


def best_lognormal_surplus(value: float, mu: float, sigma: float) -> float:
    """Of all bids from a hundredth of the value on, 0.05 % apart."""
    return max(lognormal_surplus(value, value * math.exp(-step / 2_000), mu, sigma) for step in range(1, 9_210))
