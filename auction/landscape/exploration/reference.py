"""What a draw of F means, gap by gap. Used by tests only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from auction.landscape.reference import pooled_rates

SUDDEN = 0.5
NOTHING = 1e-9


def draw_win_probs(
    mean: Sequence[float],
    trials: Sequence[float],
    normals: Sequence[float],
    uniforms: Sequence[float],
    shift: int,
    spread: float,
) -> list[float]:
    """A draw of F at each edge, given its mean and how many bids each edge had."""
    bins = len(mean)
    normals = [normals[(k + shift) % bins] for k in range(bins)]
    uniforms = [uniforms[(k + shift) % bins] for k in range(bins)]
    tried = [k for k in range(bins) if trials[k] > NOTHING]
    scattered = {k: mean[k] + spread * normals[k] * _deviation(mean[k], trials[k]) for k in tried}
    pooled = pooled_rates(
        [trials[k] * scattered[k] if k in scattered else 0.0 for k in range(bins)],
        [trials[k] * (1 - scattered[k]) if k in scattered else 0.0 for k in range(bins)],
    )
    means = {-1: 0.0, **{k: mean[k] for k in tried}, bins: 1.0}
    fitted = {-1: 0.0, **{k: min(max(pooled[k], 0.0), 1.0) for k in tried}, bins: 1.0}
    drawn = [fitted.get(k, 0.0) for k in range(bins)]
    for low, high in pairwise(sorted(fitted)):
        for k in range(low + 1, high):
            if low >= 0 and high < bins and uniforms[high] < SUDDEN:
                share = float(k >= low + 1 + uniforms[high] / SUDDEN * (high - low - 1))
            else:
                rise = means[high] - means[low]
                share = min(max((mean[k] - means[low]) / rise, 0.0), 1.0) if rise > NOTHING else 1.0
            drawn[k] = fitted[low] + share * (fitted[high] - fitted[low])
    return drawn


def _deviation(rate: float, trials: float) -> float:
    """Standard deviation of a rate over so many trials, moved towards a half as by one more that was undecided."""
    smoothed = (rate * trials + 0.5) / (trials + 1)
    return math.sqrt(smoothed * (1 - smoothed) / trials)
