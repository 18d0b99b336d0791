"""How good predictions of a stream were: log-loss by what happened, bias and calibration by the true probabilities."""

from __future__ import annotations

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
