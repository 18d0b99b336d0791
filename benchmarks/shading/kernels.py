"""Compiled yardsticks for the time of a bid: the bare search that shading is built on, and golden-section search."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from auction.landscape.kernels import Landscape

GOLDEN = 0.6180339887498949


@njit(cache=True, nogil=True)
def search_batch(
    values_micros: np.ndarray, landscape_idx: np.ndarray, landscape: Landscape, out_bids_micros: np.ndarray
) -> None:
    """Only look each value (f8[n]) up among its landscape's (i4[n]) pieces: bids i8[n], whatever the floor."""
    for i in range(values_micros.shape[0]):
        starts = landscape.piece_from_micros[landscape_idx[i]]
        low = 0
        high = np.int64(landscape.piece_counts[landscape_idx[i]])
        while high - low > 1:
            middle = (low + high) >> 1
            if starts[middle] < values_micros[i]:
                low = middle
            else:
                high = middle
        out_bids_micros[i] = landscape.piece_bids_micros[landscape_idx[i], low]


@njit(cache=True, nogil=True)
def _surplus(value: float, log_bid: float, mu: float, sigma: float) -> float:
    return (value - math.exp(log_bid)) * 0.5 * math.erfc((mu - log_bid) / (sigma * math.sqrt(2.0)))


@njit(cache=True, nogil=True)
def golden_batch(
    values_micros: np.ndarray,
    landscape_idx: np.ndarray,
    mus: np.ndarray,
    sigmas: np.ndarray,
    steps: int,
    out_bids_micros: np.ndarray,
) -> None:
    """Golden-section search for the best bid under a log-normal F.

    Kiefer, "Sequential Minimax Search for a Maximum", Proc. AMS 1953. It needs a surplus with one peak.

    Args:
        values_micros: f8[n].
        landscape_idx: i4[n], into mus and sigmas.
        mus, sigmas: f8[L], of the logarithm of the price in micros.
        steps: each narrows the bracket by GOLDEN.
        out_bids_micros: i8[n].
    """
    for i in range(values_micros.shape[0]):
        value = values_micros[i]
        mu = mus[landscape_idx[i]]
        sigma = sigmas[landscape_idx[i]]
        high = math.log(value)
        low = min(mu - 6.0 * sigma, high - 1.0)
        left = high - GOLDEN * (high - low)
        right = low + GOLDEN * (high - low)
        at_left = _surplus(value, left, mu, sigma)
        at_right = _surplus(value, right, mu, sigma)
        for _ in range(steps):
            if at_left > at_right:
                high = right
                right = left
                at_right = at_left
                left = high - GOLDEN * (high - low)
                at_left = _surplus(value, left, mu, sigma)
            else:
                low = left
                left = right
                at_left = at_right
                right = low + GOLDEN * (high - low)
                at_right = _surplus(value, right, mu, sigma)
        out_bids_micros[i] = np.int64(math.exp(0.5 * (low + high)))
