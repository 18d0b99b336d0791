"""What the landscape's kernels mean, by brute force. Used by tests only."""

from __future__ import annotations

import math
from collections.abc import Sequence


def best_bid(edges: Sequence[int], win_probs: Sequence[float], value: float, floor: int) -> tuple[int, float]:
    """The best bid among the floor and all edges in [floor, value], and its surplus; ties to the lower bid."""
    if value < floor or value <= 0:
        return 0, 0.0
    reached = [p for edge, p in zip(edges, win_probs, strict=True) if edge <= floor]
    candidates = [(floor, reached[-1] if reached else 0.0)]
    candidates += [(edge, p) for edge, p in zip(edges, win_probs, strict=True) if floor < edge <= value]
    best = max(candidates, key=lambda candidate: ((value - candidate[0]) * candidate[1], -candidate[0]))
    return best[0], (value - best[0]) * best[1]


def kaplan_meier(times: Sequence[int], events: Sequence[bool], weights: Sequence[float], at: int) -> float:
    """P(time <= at) from times of events and of right-censoring ("later than this bin")."""
    survival = 1.0
    for moment in sorted({t for t, event in zip(times, events, strict=True) if event and t <= at}):
        at_risk = math.fsum(w for t, w in zip(times, weights, strict=True) if t >= moment)
        died = math.fsum(w for t, e, w in zip(times, events, weights, strict=True) if e and t == moment)
        survival *= 1 - died / at_risk
    return 1 - survival


def pooled_rates(wins: Sequence[float], losses: Sequence[float]) -> list[float]:
    """Isotonic regression by the max-min formula, over the edges that had bids."""
    held = [k for k in range(len(wins)) if wins[k] + losses[k] > 0]

    def rate(first: int, last: int) -> float:
        chosen = held[first : last + 1]
        won = math.fsum(wins[k] for k in chosen)
        return won / (won + math.fsum(losses[k] for k in chosen))

    fitted = {
        held[i]: max(min(rate(first, last) for last in range(i, len(held))) for first in range(i + 1))
        for i in range(len(held))
    }
    rates, last_rate = [], 0.0
    for k in range(len(wins)):
        last_rate = fitted.get(k, last_rate)
        rates.append(last_rate)
    return rates


def turnbull(sets: Sequence[tuple[int, int]], masses: Sequence[float], rounds: int) -> list[float]:
    """Self-consistency over observations "the price is in bins first..last", one list entry an observation."""
    current = list(masses)
    for _ in range(rounds):
        shares = [0.0] * len(current)
        for first, last in sets:
            inside = math.fsum(current[first : last + 1])
            for k in range(first, last + 1):
                shares[k] += current[k] / inside
        current = [share / len(sets) for share in shares]
    return current
