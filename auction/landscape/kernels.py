"""Compiled landscapes: distributions of the least winning bid from whatever feedback there is, and the bid that suits a value.

Symbols: v value of the impression, b bid, F(b) probability that b wins; the best bid maximises (v - b) F(b). For the bin edge b_k that
is a line in v with slope F_k, so the maximum over bins is the upper envelope of those lines: built once per refresh, searched
once per bid, exact on any shape of F and monotone in v.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

NO_EVIDENCE = 1e-9


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

    The floor is inclusive and is itself a candidate. Ties go to the lower bid, so a positive floor is bid even where nothing is
    known to win. Without a floor, a value under the lowest price ever expected bids 0.
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
    if bid < floor_micros:
        # The envelope is exact only without a floor: below it, another line may be the best of those that are left.
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
