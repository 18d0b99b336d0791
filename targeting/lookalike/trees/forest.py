"""Gradient-boosted trees for a yes or no, on top of scores that are there already: few features, many rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from targeting.lookalike.trees.kernels import BINS, add_trees, fill_bins, grow_tree

_EDGE_SAMPLE = 100_000


@dataclass(frozen=True, slots=True)
class ForestSettings:
    """How trees are grown.

    Attributes:
        trees: how many.
        depth: of each; it has 2^depth leaves.
        step: share of each leaf's step that is taken.
        ridge: on the leaves.
        least_curvature: sum of second derivatives that either side of a split must have.
    """

    trees: int = 40
    depth: int = 3
    step: float = 0.08
    ridge: float = 50.0
    least_curvature: float = 60.0


@dataclass(frozen=True, slots=True)
class Forest:
    """Trees that correct log odds. Immutable; any thread may read.

    Attributes:
        edges: f4[F, BINS - 1], bounds of each feature's bins.
        features, bins, leaves: i4[T, 2^D - 1], u1[T, 2^D - 1], f8[T, 2^D]: see `kernels`.
    """

    edges: np.ndarray
    features: np.ndarray
    bins: np.ndarray
    leaves: np.ndarray

    def add_to(self, scores: np.ndarray, values: np.ndarray) -> None:
        """Correct the log odds (f8[n]) of rows of features (f4[n, F]), in place."""
        add_trees(binned(values, self.edges), self.features, self.bins, self.leaves, scores)


def binned(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Bin of each value (f4[n, F]) by its feature's edges (f4[F, BINS - 1]) as u1[n, F]."""
    found = np.empty(values.shape, np.uint8)
    fill_bins(np.ascontiguousarray(values, np.float32), edges, found)
    return found


def bin_edges(values: np.ndarray) -> np.ndarray:
    """Bounds of up to BINS bins of each feature, about equally full (f4[F, BINS - 1]; unused ones infinite)."""
    some = values[:: max(1, len(values) // _EDGE_SAMPLE)]
    edges = np.full((values.shape[1], BINS - 1), np.inf, np.float32)
    for feature, column in enumerate(some.T):
        distinct = np.unique(column)
        if len(distinct) > BINS:
            distinct = np.unique(np.quantile(column, np.arange(1, BINS) / BINS, method="lower"))
        else:
            distinct = distinct[:-1]
        edges[feature, : len(distinct)] = distinct
    return edges


def grow_forest(
    values: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    scores: np.ndarray,
    settings: ForestSettings | None = None,
) -> Forest:
    """Learn what the scores do not say yet, by logistic loss.

    Args:
        values: f4[n, F].
        labels: b1[n].
        weights: f8[n], positive.
        scores: f8[n], log odds to start from.
        settings: how; None for the usual ones.
    """
    chosen = settings or ForestSettings()
    edges = bin_edges(values)
    bins = binned(values, edges)
    inner = 2**chosen.depth - 1
    features, tree_bins = np.zeros((chosen.trees, inner), np.int32), np.zeros((chosen.trees, inner), np.uint8)
    leaves = np.zeros((chosen.trees, inner + 1))
    so_far, places = scores.astype(np.float64), np.empty(len(values), np.int32)
    limits = np.array([chosen.ridge, chosen.least_curvature, chosen.step])
    for tree in range(chosen.trees):
        odds = 1.0 / (1.0 + np.exp(-np.clip(so_far, -30.0, 30.0)))
        slopes, curvatures = weights * (odds - labels), weights * odds * (1.0 - odds)
        grow_tree(bins, slopes, curvatures, limits, features[tree], tree_bins[tree], leaves[tree], places)
        so_far += leaves[tree][places]
    return Forest(edges, features, tree_bins, leaves)
