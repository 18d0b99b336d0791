"""What following a price level means, one price and one level at a time. Used by tests only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

SURE = 1e-6
NEGLIGIBLE = 1e-5

Columns = tuple[list[float], list[float], list[float]]
"""Evidence over B bins, by weight: prices seen (B + 1), won bids (B) and lost bids (B)."""


def moved_f(win_probs: Sequence[float], by: int) -> list[float]:
    """F at each edge once all prices are `by` bins higher; beyond the edges it goes on as at the nearest."""
    bins = len(win_probs)
    return [win_probs[min(max(k - by, 0), bins - 1)] for k in range(bins)]


def posterior(told: Columns, shape: Sequence[float], level_probs: Sequence[float]) -> list[float]:
    """The level's probabilities after what was told, by Bayes's rule; no event is held impossible."""
    reach = len(level_probs) // 2
    logs = [math.log(max(p, 1e-300)) + _log_likelihood(told, shape, d - reach) for d, p in enumerate(level_probs)]
    weights = [math.exp(one - max(logs)) for one in logs]
    return [weight / sum(weights) for weight in weights]


def _log_likelihood(told: Columns, shape: Sequence[float], level: int) -> float:
    bins = len(shape)
    masses = [high - low for low, high in pairwise([0.0, *shape, 1.0])]
    exact, wins, losses = told
    terms = [(weight, masses[min(max(k - level, 0), bins)]) for k, weight in enumerate(exact)]
    for k, chance in enumerate(moved_f(shape, level)):
        terms += [(wins[k], chance), (losses[k], 1.0 - chance)]
    return sum(weight * math.log(max(chance, SURE)) for weight, chance in terms)


def moved_level(level_probs: Sequence[float], by: int) -> list[float]:
    """The same level, as seen from `by` bins above."""
    kept = [level_probs[d + by] if 0 <= d + by < len(level_probs) else 0.0 for d in range(len(level_probs))]
    return [p / sum(kept) for p in kept]


def moved_told(told: Columns, by: int) -> Columns:
    """The same evidence, had all prices and bids been `by` bins higher.

    A price in the first bin may be any below its edge, so what is known of it is what a bid that won there tells; a
    price in the last one, what a bid that lost at the last edge does. What is beyond the edges counts as next to them,
    as far as that is true of it.
    """
    exact, wins, losses = told
    bins = len(wins)
    if by == 0:
        return list(exact), list(wins), list(losses)
    moved: Columns = [0.0] * (bins + 1), [0.0] * bins, [0.0] * bins
    won, lost = list(wins), list(losses)
    seen = list(exact)
    if by > 0:
        won[0], seen[0] = won[0] + seen[0], 0.0
    else:
        lost[-1], seen[-1] = lost[-1] + seen[-1], 0.0
    for k, weight in enumerate(seen):
        moved[0][min(max(k + by, 0), bins)] += weight
    for k in range(bins):
        if k + by < bins:
            moved[1][max(k + by, 0)] += won[k]
        if k + by >= 0:
            moved[2][min(k + by, bins - 1)] += lost[k]
    return moved


def averaged(shape: Sequence[float], level_probs: Sequence[float]) -> list[float]:
    """F whatever the level is; levels of next to no probability left out."""
    reach = len(level_probs) // 2
    weights = {d - reach: p for d, p in enumerate(level_probs) if p > NEGLIGIBLE}
    columns = zip(*(moved_f(shape, level) for level in weights), strict=True)
    total = sum(weights.values())
    return [sum(w * f for w, f in zip(weights.values(), column, strict=True)) / total for column in columns]


def walked(level_probs: Sequence[float], steps: int, part: float, jumped: float) -> list[float]:
    """A walk that goes up or down with probability `part` each at every step, and stays within reach; then perhaps a
    jump to anywhere."""
    states = range(len(level_probs))
    current = list(level_probs)
    for _ in range(steps):
        after = [0.0] * len(current)
        for d in states:
            for to, chance in ((d, 1.0 - 2.0 * part), (max(d - 1, 0), part), (min(d + 1, states[-1]), part)):
                after[to] += chance * current[d]
        current = after
    return [(1.0 - jumped) * p + jumped / len(current) for p in current]
