"""Logistic regression with a ridge, by Newton's method."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_ROUNDS = 15
_LEAST_STEP = 1e-3
_ENOUGH = 1e-5
"""Share of the loss; a round that gains less is the last."""


@dataclass(frozen=True, slots=True)
class Line:
    """Log odds that are linear in standardised features.

    Attributes:
        means, scales: f8[F].
        base: log odds at the means.
        slopes: f8[F], of the standardised features.
    """

    means: np.ndarray
    scales: np.ndarray
    base: float
    slopes: np.ndarray

    def scores(self, values: np.ndarray) -> np.ndarray:
        """Log odds of a yes (f8[n]) for rows of features (f4[n, F])."""
        by_unit = self.slopes / self.scales
        return values @ by_unit + (self.base - float(self.means @ by_unit))


def fit_line(values: np.ndarray, labels: np.ndarray, weights: np.ndarray, ridge: float) -> Line:
    """Fit to rows of features (f4[n, F]) with labels (b1[n]) and weights (f8[n], positive).

    Raises:
        ValueError: there is no row with a yes, or none with a no.
    """
    yes, whole = float(weights[labels].sum()), float(weights.sum())
    if not 0.0 < yes < whole:
        raise ValueError(f"labels: {int(labels.sum())} of {len(labels)} are yes; there must be both")
    means, scales = values.mean(axis=0, dtype=np.float64), values.std(axis=0, dtype=np.float64)
    scales[scales < 1e-6] = 1.0
    rows = np.column_stack([np.ones(len(values)), (values - means) / scales])
    ridges = np.full(rows.shape[1], ridge)
    ridges[0] = 1e-6

    def loss(line: np.ndarray) -> float:
        scores = rows @ line
        return float((weights * (np.logaddexp(0.0, scores) - labels * scores)).sum() + 0.5 * (ridges * line**2).sum())

    line = np.zeros(rows.shape[1])
    line[0] = np.log(yes / (whole - yes))
    before = loss(line)
    for _ in range(_ROUNDS):
        odds = 1.0 / (1.0 + np.exp(-np.clip(rows @ line, -30.0, 30.0)))
        slope = rows.T @ (weights * (odds - labels)) + ridges * line
        curvature = (rows * (weights * odds * (1.0 - odds))[:, None]).T @ rows + np.diag(ridges)
        direction, step = np.linalg.solve(curvature, slope), 1.0
        while (after := loss(line - step * direction)) > before and step > _LEAST_STEP:
            step *= 0.5
        if after > before:
            break
        line = line - step * direction
        gained, before = before - after, after
        if gained < _ENOUGH * before:
            break
    return Line(means, scales, float(line[0]), line[1:])
