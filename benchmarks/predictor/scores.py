"""How good predictions of a stream were: log-loss by what happened, bias and calibration by the true probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from benchmarks.predictor.stream import Stream

_TINY = 1e-12


def log_loss(predicted: np.ndarray, labels: np.ndarray) -> float:
    """Mean log-loss of f8[n] on b1[n], in nats."""
    p = np.clip(predicted, _TINY, 1.0 - _TINY)
    return float(-np.mean(np.where(labels, np.log(p), np.log1p(-p))))


def excess_log_loss(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Expected mean log-loss of f8[n] less that of the true probabilities: the luck of what happened is left out."""
    p = np.clip(predicted, _TINY, 1.0 - _TINY)
    return float(np.mean(truth * np.log(truth / p) + (1.0 - truth) * np.log((1.0 - truth) / (1.0 - p))))


def bias(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Sum of f8[n] over the sum of the true probabilities, less 1."""
    return float(predicted.sum() / truth.sum()) - 1.0


def calibration_error(predicted: np.ndarray, truth: np.ndarray, segments: np.ndarray) -> float:
    """Mean of |bias| over segments (i8[n], from 0), each weighing as many events as it truly has in expectation."""
    expected, true = np.bincount(segments, predicted), np.bincount(segments, truth)
    return float(np.abs(expected - true).sum() / true.sum())


def cost_error(
    predicted: np.ndarray, truth: np.ndarray, labels: np.ndarray, campaign: np.ndarray, fans: Sequence[int]
) -> float:
    """Mean error of what a fan is expected to cost, by campaign and by how many fans it had.

    At a price that does not depend on p, that cost is the price over mean p, so its error is the sum of the true
    probabilities over that of p, less 1, whichever its sign.

    Args:
        predicted, truth: f8[n], oldest first.
        labels: b1[n], whether a fan was gained.
        campaign: i8[n].
        fans: ascending; from each to the next is judged for itself. Parts that no campaign had are left out; 0 if all.
    """
    errors = []
    for which in np.unique(campaign).tolist():
        mine = campaign == which
        had = np.cumsum(labels[mine]) - labels[mine]
        for low, high in pairwise(fans):
            part = (had >= low) & (had < high)
            if part.any():
                errors.append(abs(float(truth[mine][part].sum() / predicted[mine][part].sum()) - 1.0))
    return float(np.mean(errors)) if errors else 0.0


def first_rows(campaign: np.ndarray, campaigns: int, most: int) -> np.ndarray:
    """b1[n]: whether a row is among the first `most` of its campaign (i8[n], from 0)."""
    order = np.argsort(campaign, kind="stable")
    counts = np.bincount(campaign, minlength=campaigns)
    within = np.arange(len(campaign)) - np.repeat(np.cumsum(counts) - counts, counts)
    first = np.empty(len(campaign), np.bool_)
    first[order] = within < most
    return first


def settled_rows(stream: Stream) -> np.ndarray:
    """b1[n]: the rows that are judged, all but the first day's."""
    return stream.day > 0
