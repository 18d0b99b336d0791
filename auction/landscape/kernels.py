"""Compiled landscapes: distributions of the least winning bid from whatever feedback there is, and the bid that
suits a value.

Symbols: v value of the impression, b bid, F(b) probability that b wins; the best bid maximises (v - b) F(b). For the
bin edge b_k that is a line in v with slope F_k, so the maximum over bins is the upper envelope of those lines: built
once per refresh, searched once per bid, exact on any shape of F and monotone in v.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

NO_EVIDENCE = 1e-9
SURE = 1e-6
"""No event is held less probable, lest one that comes all the same decides everything."""


class Landscape(NamedTuple):
    """One immutable state of L landscapes over B price bins.

    Attributes:
        edges_micros: i8[B], ascending; bin k holds what a bid of edge k wins and one of edge k - 1 does not.
        win_probs: f8[L, B], F at each edge, not decreasing.
        piece_counts: i4[L], pieces of each envelope, at least 1.
        piece_from_micros: f8[L, B + 1], values above this (and up to the next) bid `piece_bids_micros`.
        piece_bids_micros: i8[L, B + 1]; piece 0 bids nothing.
    """

    edges_micros: np.ndarray
    win_probs: np.ndarray
    piece_counts: np.ndarray
    piece_from_micros: np.ndarray
    piece_bids_micros: np.ndarray


@njit(cache=True, nogil=True)
def bins_up_to(edges_micros: np.ndarray, bid_micros: int) -> int:
    """How many of the edges (i8[B], ascending) are at most `bid_micros`."""
    low = 0
    high = edges_micros.shape[0]
    while low < high:
        middle = (low + high) >> 1
        if edges_micros[middle] <= bid_micros:
            low = middle + 1
        else:
            high = middle
    return low


@njit(cache=True, nogil=True)
def win_probability(bid_micros: int, landscape_idx: int, landscape: Landscape) -> float:
    """F at a bid: that of the highest edge not above it; 0 below all edges."""
    bins = bins_up_to(landscape.edges_micros, bid_micros)
    return landscape.win_probs[landscape_idx, bins - 1] if bins > 0 else 0.0


@njit(cache=True, nogil=True)
def _best_from_floor(value_micros: float, floor_micros: int, landscape_idx: int, landscape: Landscape) -> int:
    """Scan the floor itself and every edge from it to the value; ties go to the lower bid."""
    edges = landscape.edges_micros
    win_probs = landscape.win_probs[landscape_idx]
    k = bins_up_to(edges, floor_micros)
    best = np.int64(floor_micros)
    surplus = (value_micros - floor_micros) * win_probs[k - 1] if k > 0 else 0.0
    while k < edges.shape[0] and edges[k] < value_micros:
        other = (value_micros - edges[k]) * win_probs[k]
        if other > surplus:
            surplus = other
            best = edges[k]
        k += 1
    return best


@njit(cache=True, nogil=True)
def shade_bid(value_micros: float, floor_micros: int, landscape_idx: int, landscape: Landscape) -> int:
    """The bid in [floor, value] that maximises (value - bid) F(bid), in whole micros; 0: do not bid.

    The floor is inclusive and is itself a candidate. Ties go to the lower bid, so a positive floor is bid even where
    nothing is known to win. Without a floor, a value under the lowest price ever expected bids 0.
    """
    if not value_micros >= floor_micros or value_micros <= 0.0:
        return np.int64(0)
    starts = landscape.piece_from_micros[landscape_idx]
    low = 0
    high = np.int64(landscape.piece_counts[landscape_idx])
    while high - low > 1:
        middle = (low + high) >> 1
        if starts[middle] < value_micros:
            low = middle
        else:
            high = middle
    bid = landscape.piece_bids_micros[landscape_idx, low]
    if bid < floor_micros or bid > value_micros:
        # The envelope is exact only without a floor: below it, another line may be the best of those that are left.
        # And where a piece starts is rounded: a value a hair under an edge may find itself above it.
        return _best_from_floor(value_micros, floor_micros, landscape_idx, landscape)
    return bid


@njit(cache=True, nogil=True)
def shade_batch(
    values_micros: np.ndarray,
    floors_micros: np.ndarray,
    landscape_idx: np.ndarray,
    landscape: Landscape,
    out_bids_micros: np.ndarray,
) -> None:
    """`shade_bid` for f8[n] values, i8[n] floors and i4[n] landscapes, to i8[n]."""
    for i in range(values_micros.shape[0]):
        out_bids_micros[i] = shade_bid(values_micros[i], floors_micros[i], landscape_idx[i], landscape)


@njit(cache=True, nogil=True)
def build_envelope(
    edges_micros: np.ndarray,
    win_probs: np.ndarray,
    out_from_micros: np.ndarray,
    out_bids_micros: np.ndarray,
) -> int:
    """Upper envelope of the lines (v - edge_k) F_k and of 0; the number of pieces.

    One pass with a stack: slopes F_k do not decrease, so each new line can only cut off the end of the envelope.

    Args:
        edges_micros: i8[B], ascending.
        win_probs: f8[B], not decreasing.
        out_from_micros: f8[B + 1], where each piece starts; -inf for the first.
        out_bids_micros: i8[B + 1], what each piece bids; 0 for the first.
    """
    bins = edges_micros.shape[0]
    slopes = np.empty(bins + 1, np.float64)
    intercepts = np.empty(bins + 1, np.float64)
    slopes[0] = 0.0
    intercepts[0] = 0.0
    out_from_micros[0] = -math.inf
    out_bids_micros[0] = 0
    count = 1
    for k in range(bins):
        slope = win_probs[k]
        if slope <= slopes[count - 1]:
            continue  # costs more and wins no more
        intercept = -edges_micros[k] * slope
        start = (intercepts[count - 1] - intercept) / (slope - slopes[count - 1])
        while count > 1 and start <= out_from_micros[count - 1]:
            count -= 1
            start = (intercepts[count - 1] - intercept) / (slope - slopes[count - 1])
        slopes[count] = slope
        intercepts[count] = intercept
        out_from_micros[count] = start
        out_bids_micros[count] = edges_micros[k]
        count += 1
    return count


@njit(cache=True, nogil=True)
def product_limit_right(exact: np.ndarray, losses: np.ndarray, out_win_probs: np.ndarray) -> None:
    """Kaplan-Meier where a loss tells only that the price is higher: F at each edge.

    Kaplan, Meier, "Nonparametric Estimation from Incomplete Observations", JASA 1958, eq. (2b).

    Args:
        exact: f8[B + 1], weight of prices seen in each bin; the last is above all edges.
        losses: f8[B], weight of lost bids whose edge is k: the price lies in a bin above k.
        out_win_probs: f8[B].
    """
    bins = losses.shape[0]
    at_risk = exact[bins]
    for k in range(bins):
        at_risk += exact[k] + losses[k]
    survival = 1.0
    for k in range(bins):
        if at_risk > NO_EVIDENCE:
            survival *= max(0.0, 1.0 - exact[k] / at_risk)
        out_win_probs[k] = 1.0 - survival
        at_risk -= exact[k] + losses[k]


@njit(cache=True, nogil=True)
def product_limit_left(exact: np.ndarray, wins: np.ndarray, out_win_probs: np.ndarray) -> None:
    """Kaplan-Meier in reverse, where a win tells only that the price is no higher: F at each edge.

    A bid that won at edge k would not have been told of a price in bin k: it is at risk in the bins below only.

    Args:
        exact: f8[B + 1], weight of prices seen in each bin.
        wins: f8[B], weight of won bids whose edge is k: the price lies in bin k or below.
        out_win_probs: f8[B].
    """
    bins = wins.shape[0]
    at_risk = exact[bins]
    for k in range(bins):
        at_risk += exact[k] + wins[k]
    below = 1.0
    if at_risk > NO_EVIDENCE:
        below *= max(0.0, 1.0 - exact[bins] / at_risk)
    at_risk -= exact[bins]
    for step in range(bins):
        k = bins - 1 - step
        out_win_probs[k] = below
        at_risk -= wins[k]
        if at_risk > NO_EVIDENCE:
            below *= max(0.0, 1.0 - exact[k] / at_risk)
        at_risk -= exact[k]


@njit(cache=True, nogil=True)
def isotonic_win_rate(wins: np.ndarray, losses: np.ndarray, out_win_probs: np.ndarray) -> None:
    """Where nothing but won or lost is told: the non-decreasing F of highest likelihood, by pooling adjacent violators.

    Ayer et al., "An Empirical Distribution Function for Sampling with Incomplete Information", 1955. Edges without a
    bid take the F of the nearest edge below that had one (0 below all of them).

    Args:
        wins, losses: f8[B], weight of bids at each edge that won and that lost.
        out_win_probs: f8[B].
    """
    bins = wins.shape[0]
    weight = np.empty(bins, np.float64)
    rate = np.empty(bins, np.float64)
    start = np.empty(bins, np.int64)
    count = 0
    for k in range(bins):
        trials = wins[k] + losses[k]
        if trials <= NO_EVIDENCE:
            continue
        weight[count] = trials
        rate[count] = wins[k] / trials
        start[count] = k
        count += 1
        while count > 1 and rate[count - 2] >= rate[count - 1]:
            total = weight[count - 2] + weight[count - 1]
            rate[count - 2] = (rate[count - 2] * weight[count - 2] + rate[count - 1] * weight[count - 1]) / total
            weight[count - 2] = total
            count -= 1
    block = -1
    for k in range(bins):
        if block + 1 < count and start[block + 1] == k:
            block += 1
        out_win_probs[k] = rate[block] if block >= 0 else 0.0


@njit(cache=True, nogil=True)
def fill_between(trials: np.ndarray, shape_win_probs: np.ndarray, out_win_probs: np.ndarray) -> None:
    """Let F rise between edges that had bids as another F does there; in place.

    Args:
        trials: f8[B], weight of bids at each edge.
        shape_win_probs: f8[B], not decreasing.
        out_win_probs: f8[B], not decreasing at the edges that had bids; elsewhere it is written.
    """
    bins = trials.shape[0]
    last = -1
    last_rate = 0.0
    last_shape = 0.0
    for k in range(bins + 1):
        if k < bins and trials[k] <= NO_EVIDENCE:
            continue
        rate = out_win_probs[k] if k < bins else 1.0
        shape = shape_win_probs[k] if k < bins else 1.0
        rise = shape - last_shape
        for j in range(last + 1, k):
            part = (shape_win_probs[j] - last_shape) / rise if rise > NO_EVIDENCE else 1.0
            out_win_probs[j] = last_rate + (rate - last_rate) * part
        last = k
        last_rate = rate
        last_shape = shape


@njit(cache=True, nogil=True)
def self_consistent(
    exact: np.ndarray, wins: np.ndarray, losses: np.ndarray, rounds: int, masses: np.ndarray, out_win_probs: np.ndarray
) -> None:
    """Where prices are seen on some wins and some losses: `rounds` of the self-consistency iteration, from `masses`
    on, in place.

    Turnbull, "The Empirical Distribution Function with Arbitrarily Grouped, Censored and Truncated Data", JRSS B
    1976. Each round shares every censored bid out over the bins that it leaves possible, by their present
    masses.

    Args:
        exact: f8[B + 1]; wins, losses: f8[B], as above.
        rounds: at least 1.
        masses: f8[B + 1], positive, sums to 1; start and result.
        out_win_probs: f8[B].
    """
    bins = wins.shape[0]
    total = exact[bins]
    for k in range(bins):
        total += exact[k] + wins[k] + losses[k]
    below = np.empty(bins, np.float64)
    shares = np.empty(bins + 1, np.float64)
    for _ in range(rounds):
        running = 0.0
        for k in range(bins):
            running += masses[k]
            below[k] = running
        from_losses = 0.0
        for j in range(bins + 1):
            shares[j] = from_losses
            if j < bins and losses[j] > 0.0:
                from_losses += losses[j] / max(1.0 - below[j], NO_EVIDENCE)
        from_wins = 0.0
        for step in range(bins + 1):
            j = bins - step
            if j < bins and wins[j] > 0.0:
                from_wins += wins[j] / max(below[j], NO_EVIDENCE)
            shares[j] += from_wins
        norm = 0.0
        for j in range(bins + 1):
            masses[j] = exact[j] + masses[j] * shares[j]
            norm += masses[j]
        for j in range(bins + 1):
            masses[j] /= norm
    running = 0.0
    for k in range(bins):
        running += masses[k]
        out_win_probs[k] = min(running, 1.0)


@njit(cache=True, nogil=True)
def estimate_win_probs(
    exact: np.ndarray,
    wins: np.ndarray,
    losses: np.ndarray,
    prior_win_probs: np.ndarray,
    strength: float,
    rounds: int,
    out_win_probs: np.ndarray,
) -> None:
    """F at each edge from whatever was told, leaning on a prior F that counts as much as `strength` auctions.

    Chooses the estimator by what there is: product limit, its reverse, isotonic regression, or self-consistency for
    mixtures. The prior enters as prices seen; where no price is ever told, as won and lost bids at the edges that had
    any, in equal parts, and between these edges F rises as the prior does.

    Args:
        exact: f8[B + 1]; wins, losses: f8[B], as in `product_limit_right` and `product_limit_left`.
        prior_win_probs: f8[B], not decreasing.
        strength: above 0.
        rounds: of `self_consistent`.
        out_win_probs: f8[B], not decreasing, within 0..1.
    """
    bins = wins.shape[0]
    seen = exact.sum() > NO_EVIDENCE
    won = wins.sum() > NO_EVIDENCE
    lost = losses.sum() > NO_EVIDENCE
    if not seen and won and lost:
        tried = 0
        for k in range(bins):
            tried += 1 if wins[k] + losses[k] > NO_EVIDENCE else 0
        each = strength / max(tried, 1)
        padded_wins = np.zeros(bins, np.float64)
        padded_losses = np.zeros(bins, np.float64)
        for k in range(bins):
            if wins[k] + losses[k] > NO_EVIDENCE:
                padded_wins[k] = wins[k] + each * prior_win_probs[k]
                padded_losses[k] = losses[k] + each * (1.0 - prior_win_probs[k])
        isotonic_win_rate(padded_wins, padded_losses, out_win_probs)
        fill_between(padded_wins + padded_losses, prior_win_probs, out_win_probs)
        return
    masses = np.empty(bins + 1, np.float64)
    running = 0.0
    for k in range(bins):
        masses[k] = max(prior_win_probs[k] - running, 0.0)
        running = prior_win_probs[k]
    masses[bins] = max(1.0 - running, 0.0)
    padded = exact + strength * masses
    if not won:
        product_limit_right(padded, losses, out_win_probs)
    elif not lost:
        product_limit_left(padded, wins, out_win_probs)
    else:
        masses += NO_EVIDENCE
        masses /= masses.sum()
        self_consistent(padded, wins, losses, rounds, masses, out_win_probs)
    highest = 0.0
    for k in range(bins):  # rounding must not make F fall or leave 0..1
        highest = min(max(highest, out_win_probs[k]), 1.0)
        out_win_probs[k] = highest
