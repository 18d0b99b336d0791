"""Compiled pursuit of a price level: where on the axis of prices a distribution stands now, whatever its shape.

Edges are evenly spaced in the logarithm, so to multiply all prices by a factor is to move them by so many bins.
Evidence that is moved along stays good for as long as the shape lasts, however far the level goes.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from auction.landscape.kernels import SURE

NEGLIGIBLE = 1e-5
_IMPOSSIBLE = 1e-300
_STABLE = 0.4
_MOST_STEPS = 200


@njit(cache=True, nogil=True)
def spread_level(level_probs: np.ndarray, variance: float, jumped: float) -> None:
    """Let time pass over what is known of the level, in place.

    Args:
        level_probs: f8[2 D + 1], probability that it stands -D..D bins above where it is taken to stand; sums to 1.
        variance: of the walk meanwhile, in bins squared.
        jumped: probability of a jump to anywhere within reach meanwhile.
    """
    states = level_probs.shape[0]
    steps = min(max(math.ceil(0.5 * variance / _STABLE), 1), _MOST_STEPS)
    part = min(0.5 * variance / steps, _STABLE)
    for _ in range(steps):
        before = level_probs[0]
        for d in range(states):
            here = level_probs[d]
            after = level_probs[d + 1] if d + 1 < states else here
            level_probs[d] = here + part * (before - 2.0 * here + after)
            before = here
    for d in range(states):
        level_probs[d] = (1.0 - jumped) * level_probs[d] + jumped / states


@njit(cache=True, nogil=True)
def weigh_levels(
    exact: np.ndarray, wins: np.ndarray, losses: np.ndarray, shape_win_probs: np.ndarray, level_probs: np.ndarray
) -> int:
    """Learn the level from evidence (f8[B + 1], f8[B], f8[B]) by Bayes's rule, in place; the most likely one, in bins.

    Args:
        shape_win_probs: f8[B], F at level 0.
        level_probs: f8[2 D + 1], before and after.
    """
    bins = wins.shape[0]
    states = level_probs.shape[0]
    reach = states // 2
    log_wins = np.empty(bins, np.float64)
    log_losses = np.empty(bins, np.float64)
    log_masses = np.empty(bins + 1, np.float64)
    below = 0.0
    for k in range(bins):
        log_wins[k] = math.log(max(shape_win_probs[k], SURE))
        log_losses[k] = math.log(max(1.0 - shape_win_probs[k], SURE))
        log_masses[k] = math.log(max(shape_win_probs[k] - below, SURE))
        below = shape_win_probs[k]
    log_masses[bins] = math.log(max(1.0 - below, SURE))
    logs = np.empty(states, np.float64)
    for d in range(states):
        logs[d] = math.log(max(level_probs[d], _IMPOSSIBLE))
    for k in range(bins + 1):
        seen = exact[k]
        won = wins[k] if k < bins else 0.0
        lost = losses[k] if k < bins else 0.0
        if seen + won + lost <= 0.0:
            continue
        for d in range(states):
            at = k - (d - reach)
            at_edge = min(max(at, 0), bins - 1)
            logs[d] += seen * log_masses[min(max(at, 0), bins)] + won * log_wins[at_edge] + lost * log_losses[at_edge]
    best = 0
    for d in range(states):
        if logs[d] > logs[best]:
            best = d
    total = 0.0
    for d in range(states):
        level_probs[d] = math.exp(logs[d] - logs[best])
        total += level_probs[d]
    for d in range(states):
        level_probs[d] /= total
    return best - reach


@njit(cache=True, nogil=True)
def move_level(level_probs: np.ndarray, by: int) -> None:
    """Take the level to stand `by` bins higher, in place (f8[2 D + 1]); what was out of reach stays so."""
    states = level_probs.shape[0]
    old = level_probs.copy()
    total = 0.0
    for d in range(states):
        level_probs[d] = old[d + by] if 0 <= d + by < states else 0.0
        total += level_probs[d]
    for d in range(states):
        level_probs[d] /= total


@njit(cache=True, nogil=True)
def move_evidence(exact: np.ndarray, wins: np.ndarray, losses: np.ndarray, by: int) -> None:
    """Take all prices to be `by` bins higher than they were seen, in place (f8[B + 1], f8[B], f8[B]).

    A price seen below the first edge, or above the last, then lies below, or above, some other edge. What no longer
    says anything about the edges is forgotten.
    """
    if by == 0:
        return
    bins = wins.shape[0]
    old_exact = exact.copy()
    old_wins = wins.copy()
    old_losses = losses.copy()
    exact[:] = 0.0
    wins[:] = 0.0
    losses[:] = 0.0
    for k in range(bins):
        at = k + by
        if k > 0 or by < 0:
            exact[min(max(at, 0), bins)] += old_exact[k]
        elif at < bins:
            wins[at] += old_exact[0]
        if at < bins:
            wins[max(at, 0)] += old_wins[k]
        if at >= 0:
            losses[min(at, bins - 1)] += old_losses[k]
    if by > 0:
        exact[bins] += old_exact[bins]
    elif bins - 1 + by >= 0:
        losses[bins - 1 + by] += old_exact[bins]


@njit(cache=True, nogil=True)
def average_levels(shape_win_probs: np.ndarray, level_probs: np.ndarray, out_win_probs: np.ndarray) -> None:
    """F at each edge (f8[B]) whatever the level is, of F at level 0 and the level's probabilities (f8[2 D + 1])."""
    bins = shape_win_probs.shape[0]
    states = level_probs.shape[0]
    reach = states // 2
    out_win_probs[:] = 0.0
    total = 0.0
    for d in range(states):
        weight = level_probs[d]
        if weight <= NEGLIGIBLE:
            continue
        total += weight
        by = d - reach
        for k in range(bins):
            out_win_probs[k] += weight * shape_win_probs[min(max(k - by, 0), bins - 1)]
    for k in range(bins):
        out_win_probs[k] /= total
