"""Compiled gradient-boosted trees over binned features: growing one tree, and adding up many.

A tree of depth D is complete: inner node i has the children 2i + 1 and 2i + 2, and 2^D leaves lie below. A row goes
left where its bin is at most the node's. A node that is not worth splitting sends every row left.
"""

from __future__ import annotations

import numpy as np
from numba import njit

BINS = 64
LAST_BIN = BINS - 1


@njit(cache=True, nogil=True)
def fill_bins(values: np.ndarray, edges: np.ndarray, out_bins: np.ndarray) -> None:
    """The bin of every value: how many of its feature's edges it exceeds.

    Args:
        values: f4[n, F].
        edges: f4[F, BINS - 1], ascending; unused ones are infinite.
        out_bins: u1[n, F].
    """
    for i in range(values.shape[0]):
        for f in range(values.shape[1]):
            low, high = 0, edges.shape[1]
            while low < high:
                middle = (low + high) >> 1
                if edges[f, middle] < values[i, f]:
                    low = middle + 1
                else:
                    high = middle
            out_bins[i, f] = low


@njit(cache=True, nogil=True)
def grow_tree(
    bins: np.ndarray,
    slopes: np.ndarray,
    curvatures: np.ndarray,
    limits: np.ndarray,
    out_features: np.ndarray,
    out_bins: np.ndarray,
    out_leaves: np.ndarray,
    out_places: np.ndarray,
) -> None:
    """Grow one tree level by level, each split the one that lowers the loss most (Chen and Guestrin 2016, equation 7).

    Args:
        bins: u1[n, F].
        slopes, curvatures: f8[n], first and second derivative of each row's loss by its score.
        limits: f8[3], the ridge on leaves, the least curvature on either side of a split, and the share of a leaf's
            step that is taken.
        out_features: i4[2^D - 1].
        out_bins: u1[2^D - 1].
        out_leaves: f8[2^D].
        out_places: i4[n], the leaf of each row.
    """
    n, feature_count = bins.shape
    inner = out_features.shape[0]
    ridge, least, step = limits[0], limits[1], limits[2]
    out_places[:] = 0
    first, width = 0, 1
    while first < inner:
        sums = np.zeros((width, feature_count, BINS, 2))
        for i in range(n):
            at = out_places[i]
            slope, curvature = slopes[i], curvatures[i]
            for f in range(feature_count):
                sums[at, f, bins[i, f], 0] += slope
                sums[at, f, bins[i, f], 1] += curvature
        for at in range(width):
            total_slope, total_curvature = 0.0, 0.0
            for b in range(BINS):
                total_slope += sums[at, 0, b, 0]
                total_curvature += sums[at, 0, b, 1]
            best, best_feature, best_bin = 0.0, 0, LAST_BIN
            whole = total_slope * total_slope / (total_curvature + ridge)
            for f in range(feature_count):
                slope, curvature = 0.0, 0.0
                for b in range(LAST_BIN):
                    slope += sums[at, f, b, 0]
                    curvature += sums[at, f, b, 1]
                    rest = total_curvature - curvature
                    if curvature < least or rest < least:
                        continue
                    right = total_slope - slope
                    gain = slope * slope / (curvature + ridge) + right * right / (rest + ridge) - whole
                    if gain > best:
                        best, best_feature, best_bin = gain, f, b
            out_features[first + at] = best_feature
            out_bins[first + at] = best_bin
        for i in range(n):
            node = first + out_places[i]
            right = bins[i, out_features[node]] > out_bins[node]
            out_places[i] = 2 * out_places[i] + (1 if right else 0)
        first += width
        width *= 2
    leaf_slopes, leaf_curvatures = np.zeros(width), np.zeros(width)
    for i in range(n):
        leaf_slopes[out_places[i]] += slopes[i]
        leaf_curvatures[out_places[i]] += curvatures[i]
    for leaf in range(width):
        out_leaves[leaf] = -step * leaf_slopes[leaf] / (leaf_curvatures[leaf] + ridge)


@njit(cache=True, nogil=True)
def add_trees(
    bins: np.ndarray, features: np.ndarray, tree_bins: np.ndarray, leaves: np.ndarray, out_scores: np.ndarray
) -> None:
    """Add what every tree says of every row to its score.

    Args:
        bins: u1[n, F].
        features: i4[T, 2^D - 1].
        tree_bins: u1[T, 2^D - 1].
        leaves: f8[T, 2^D].
        out_scores: f8[n].
    """
    inner = features.shape[1]
    for i in range(bins.shape[0]):
        total = 0.0
        for t in range(features.shape[0]):
            node = 0
            while node < inner:
                node = 2 * node + (2 if bins[i, features[t, node]] > tree_bins[t, node] else 1)
            total += leaves[t, node - inner]
        out_scores[i] += total
