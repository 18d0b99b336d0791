"""The controller's kernels in plain Python: slow, differently put, the meaning of the compiled ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pacing.control.curves.reference import Curve, at_bin, map_at
from pacing.control.grid import ALPHA_BINS, ALPHA_CENTRE, CURVE_BINS, Z_LOW, Z_STEP
from pacing.control.shades.reference import NO_SHADES, Line, first_price


def threshold_bin(threshold: float, probability: float, log_level: float, log_price: float) -> int:
    """The bin of a threshold on the scale of its campaign's market."""
    quotient = probability / math.exp(log_level)
    z = math.log(max(threshold, 1.0) / quotient) - log_price
    return min(max(math.ceil((z - Z_LOW) / Z_STEP), 0), CURVE_BINS - 1)


def threshold_of(first_price: bool, won: bool, bid: float, paid: float, told: float) -> tuple[int, float]:
    """What an auction told of its threshold: (0 exactly, 1 above, 2 below) and where."""
    if told >= 0:
        return 0, told
    if won and not first_price and paid >= 0:
        return 0, paid
    return (2 if won else 1), bid


def fit_map(
    mass: Sequence[Curve], weight: Curve, told: Sequence[Curve], prior_rows: float, before: Curve
) -> list[float]:
    """Where on the market's curves each bin of the campaign's own thresholds lies; see kernels._fit_map."""
    if sum(sum(kind) for kind in mass) < 1.0:
        return [float(k) for k in range(CURVE_BINS)]
    total = sum(weight)
    shares = [w / total if total > 0 else 1 / len(weight) for w in weight]
    expected = [1e-6 * (k + 1) / CURVE_BINS for k in range(CURVE_BINS)]
    for share, curve in zip(shares, told, strict=True):
        expected = [e + share * float(c) for e, c in zip(expected, curve, strict=True)]
    expected = [e / expected[-1] for e in expected]
    fitted, reached = [], 0.0
    for position in before:
        upto = at_bin(expected, position)
        fitted.append(max(upto - reached, 0.0))
        reached = max(reached, upto)
    own = []
    for k in range(CURVE_BINS):
        amount = float(mass[0][k])
        for j in range(k):  # thresholds known to lie above bin j
            amount += fitted[k] * float(mass[1][j]) / max(1.0 - sum(fitted[: j + 1]), 1e-3)
        for j in range(k, CURVE_BINS):  # thresholds known to lie at bin j or below
            amount += fitted[k] * float(mass[2][j]) / max(1.0 - sum(fitted[j + 1 :]), 1e-3)
        own.append(amount)
    mixed = [a + prior_rows * (e - p) for a, e, p in zip(own, expected, [0.0, *expected[:-1]], strict=True)]
    whole, running, positions = sum(mixed), 0.0, []
    for amount in mixed:
        running += amount / whole
        j = next((i for i, e in enumerate(expected) if e >= running), CURVE_BINS - 1)
        low = expected[j - 1] if j else 0.0
        positions.append(j - 1 + min(1.0, (running - low) / (expected[j] - low)))
    return positions


@dataclass(frozen=True)
class Market:
    """Curves of one group: value and cost by bucket and bin."""

    value: Sequence[Curve]
    cost: Sequence[Curve]


def impression(
    market: Market, bucket: int, own_map: Curve, z: float, level: float, log_price: float
) -> tuple[float, float]:
    """Expected events and micros of one impression at log threshold z of the campaign's own scale."""
    bin_at = (z - Z_LOW) / Z_STEP
    position = map_at(own_map, bin_at)
    value = math.exp(level) * at_bin(market.value[bucket], position)
    cost = math.exp(log_price + Z_STEP * (bin_at - position)) * at_bin(market.cost[bucket], position)
    return value, cost


def forecast_row(
    market: Market,
    own_map: Curve,
    traffic: Curve,
    level: Curve,
    log_price: Curve,
    spread: Curve,
    centre: float,
    current: int,
    first_share: float = 0.0,
    line: Line = NO_SHADES,
) -> tuple[list[float], list[float]]:
    """Value and cost of `traffic` impressions by bucket, at each multiplier of the tables around `centre`.

    `first_share` of them are sold in first price, to bids shaded along `line`.
    """
    values, costs = [0.0] * ALPHA_BINS, [0.0] * ALPHA_BINS
    for t, impressions in enumerate(traffic):
        value_curve = [at_bin(market.value[t], own_map[k]) for k in range(CURVE_BINS)]
        cost_curve = [
            at_bin(market.cost[t], own_map[k]) * math.exp(Z_STEP * (k - own_map[k])) for k in range(CURVE_BINS)
        ]
        root = math.sqrt(3) * spread[t]
        nodes = [(1.0, 0.0)] if t == current or spread[t] <= 1e-6 else [(1 / 6, -root), (2 / 3, 0.0), (1 / 6, root)]
        for share, shift in nodes:
            for j in range(ALPHA_BINS):
                z = centre + (j - ALPHA_CENTRE) * Z_STEP + level[t] + shift - log_price[t]
                at = (z - Z_LOW) / Z_STEP
                second, first = share * impressions * (1 - first_share), share * impressions * first_share
                unit = math.exp(level[t] + shift)
                won, bid = first_price(value_curve, at, line)
                values[j] += unit * (second * at_bin(value_curve, at) + first * won)
                costs[j] += second * math.exp(log_price[t]) * at_bin(cost_curve, at)
                costs[j] += first * unit * won * bid * math.exp(centre + (j - ALPHA_CENTRE) * Z_STEP)
    return values, costs


def largest_multiplier(
    values: Curve, costs: Curve, centre: float, budget: float, target: float, events: float, spend: float
) -> float:
    """Log of the largest multiplier on the grid that keeps budget and target (0: none), interpolated."""

    def log_alpha(position: float) -> float:
        return centre + (position - ALPHA_CENTRE) * Z_STEP

    fits_budget = [j for j in range(ALPHA_BINS) if all(costs[i] <= budget for i in range(j + 1))]
    position = float(fits_budget[-1])
    if fits_budget[-1] + 1 < ALPHA_BINS:
        low, high = costs[fits_budget[-1]], costs[fits_budget[-1] + 1]
        position += (budget - low) / (high - low)
    if target > 0:
        excess = [spend + c - target * (events + v) for v, c in zip(values, costs, strict=True)]
        fits = [j for j in range(ALPHA_BINS) if excess[j] <= 0]
        if fits:
            j = fits[-1]
            wanted = float(j)
            if j + 1 < ALPHA_BINS:
                wanted += min(1.0, -excess[j] / (excess[j + 1] - excess[j]))
        else:
            wanted = float(max(j for j in range(ALPHA_BINS) if excess[j] == min(excess)))
        position = min(position, wanted)
    return log_alpha(position)
