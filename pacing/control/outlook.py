"""From what a campaign has seen today to what it should expect of the rest of the day.

Traffic, level and price of each part of the day are treated as a Gaussian process around the prior's mean: what was
observed since the day began corrects what comes, as far as past days say that one part of a day tells about another
(kriging).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pacing.control.prior import MarketPrior

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Conditional:
    """What observing buckets first..first+count-1 (modulo T) says about all.

    Attributes:
        weights: f8[3, count, T] deviation observed -> deviation expected.
        covariance: f8[3, T, T] of what stays unknown.
    """

    weights: FloatArray
    covariance: FloatArray


class Outlook:
    """Conditional means and covariances of the prior, kept by which buckets were observed."""

    def __init__(self, prior: MarketPrior) -> None:
        self._prior = prior
        self._cache: dict[tuple[int, int], Conditional] = {}

    def given(self, first: int, count: int) -> Conditional:
        """The conditional when `count` (0..T) consecutive buckets from `first` (0..T-1) have been observed."""
        key = (first if count else 0, count)
        if key not in self._cache:
            if len(self._cache) >= 1024:
                self._cache.pop(next(iter(self._cache)))
            self._cache[key] = self._condition(*key)
        return self._cache[key]

    def _condition(self, first: int, count: int) -> Conditional:
        buckets = self._prior.buckets
        order = (first + np.arange(count)) % buckets
        weights = np.zeros((3, count, buckets))
        covariance = self._prior.covariance.copy()
        for series in range(3 if count else 0):
            full = self._prior.covariance[series]
            observed = full[np.ix_(order, order)] + self._prior.noise[series] * np.eye(count)
            gain = np.linalg.solve(observed, full[order])
            weights[series] = gain
            covariance[series] = full - gain.T @ full[order]
        return Conditional(weights, covariance)

    def expect(
        self, first: int, count: int, deviation: FloatArray, running: int, raw: FloatArray, raw_variance: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Expected deviations of m campaigns that observed the same buckets.

        Args:
            first, count: which buckets are complete, as in `given`.
            deviation: f8[m, 3, T] observed deviations (only those buckets are read).
            running: the bucket that is running.
            raw, raw_variance: f8[m, 3] its deviation so far, and the variance of that; infinite: nothing seen.

        Returns:
            f8[m, 3, T] expected deviations (observed where complete), and f8[3, T, T] their remaining covariance
            before the running bucket's evidence.
        """
        conditional = self.given(first, count)
        order = (first + np.arange(count)) % self._prior.buckets
        mean = np.einsum("msc,sct->mst", deviation[:, :, order], conditional.weights)
        column = conditional.covariance[:, :, running]  # (3, T)
        own = np.maximum(column[:, running], 1e-9)
        gain = np.where(np.isfinite(raw_variance), 1.0 / (own + raw_variance), 0.0)
        surprise = np.where(np.isfinite(raw_variance), raw - mean[:, :, running], 0.0)
        mean += (gain * surprise)[:, :, None] * column[None]
        mean[:, :, order] = deviation[:, :, order]
        return mean, conditional.covariance
