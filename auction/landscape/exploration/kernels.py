"""Compiled exploration: where only won or lost is told, a bid teaches nothing but how often it wins itself, so what is
published is a draw from what F may be, rather than its mean."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from auction.landscape.kernels import NO_EVIDENCE, isotonic_win_rate

SUDDEN = 0.5


@njit(cache=True, nogil=True)
def draw_win_probs(
    trials: np.ndarray,
    normals: np.ndarray,
    uniforms: np.ndarray,
    shift: int,
    spread: float,
    out_win_probs: np.ndarray,
) -> None:
    """Replace F at each edge by a draw of it; the more bids were told of, the closer the two.

    Thompson sampling (Thompson, "On the Likelihood that One Unknown Probability Exceeds Another", Biometrika 1933), but
    for `spread`. Edges that had bids are drawn around their F, as uncertain as a rate of so many trials is, then pooled
    until F does not fall. Between two of them nobody knows where F rises: in every other gap it does so at one place,
    drawn evenly, else as it did. So the next bids halve the gap, and what can be gained in a gap ends with its width.

    Args:
        trials: f8[B], weight of bids at each edge that told won or lost.
        normals, uniforms: f8[B], standard normal draws and draws from 0..1.
        shift: which of the draws is whose; another one for each landscape.
        spread: in standard deviations.
        out_win_probs: f8[B], not decreasing; the mean, and the draw.
    """
    bins = trials.shape[0]
    wins = np.zeros(bins, np.float64)
    losses = np.zeros(bins, np.float64)
    drawn = np.empty(bins, np.float64)
    for k in range(bins):
        n = trials[k]
        if n > NO_EVIDENCE:
            rate = (out_win_probs[k] * n + 0.5) / (n + 1.0)
            rate = out_win_probs[k] + spread * normals[(k + shift) % bins] * math.sqrt(rate * (1.0 - rate) / n)
            wins[k] = n * rate
            losses[k] = n * (1.0 - rate)
    isotonic_win_rate(wins, losses, drawn)
    last = -1
    last_mean = 0.0
    last_drawn = 0.0
    for k in range(bins + 1):
        if k < bins and trials[k] <= NO_EVIDENCE:
            continue
        mean = out_win_probs[k] if k < bins else 1.0
        rate = min(max(drawn[k], 0.0), 1.0) if k < bins else 1.0
        uniform = uniforms[(k + shift) % bins]
        if last >= 0 and k < bins and uniform < SUDDEN:
            risen = last + 1 + uniform / SUDDEN * (k - last - 1)
            for j in range(last + 1, k):
                out_win_probs[j] = rate if j >= risen else last_drawn
        else:
            rise = mean - last_mean
            for j in range(last + 1, k):
                part = (out_win_probs[j] - last_mean) / rise if rise > NO_EVIDENCE else 1.0
                out_win_probs[j] = last_drawn + (rate - last_drawn) * min(max(part, 0.0), 1.0)
        if k < bins:
            out_win_probs[k] = rate
        last = k
        last_mean = mean
        last_drawn = rate
