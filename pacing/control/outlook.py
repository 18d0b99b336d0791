"""From what a campaign has seen today to what it should expect of the rest of the day.

Traffic, level and price of each part of the day are treated as a Gaussian process around the prior's mean: what was
observed since the day began corrects what comes, as far as past days say that one part of a day tells about another
(kriging). A level or a price that left what past days span has shifted: past days say nothing of how long that lasts,
so it is expected to stay.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pacing.control.prior import MarketPrior
from pacing.control.state import TRAFFIC

FloatArray = npt.NDArray[np.float64]

_SHIFT_VARIANCE = 1.0
_SHIFT_DAYS = 100.0  # correlation time of a shift of level or price


@dataclass(frozen=True)
class Conditional:
    """What observing buckets first..first+count-1 (modulo T) says about all.

    Attributes:
        weights: f8[3, count, T] deviation observed -> deviation expected.
        gain: f8[3, T, T] covariance with the running bucket, by which its own surprise moves all.
        covariance: f8[3, T, T] of what stays unknown while nothing has shifted.
    """

    weights: FloatArray
    gain: FloatArray
    covariance: FloatArray


class Outlook:
    """Conditional means and covariances of the prior, kept by which buckets were observed."""

    def __init__(self, prior: MarketPrior) -> None:
        self._prior = prior
        self._cache: dict[tuple[int, int, int, int], Conditional] = {}
        self._distance = np.abs(np.subtract.outer(np.arange(prior.buckets), np.arange(prior.buckets)))

    def given(self, first: int, count: int, shifted: int = 0, since: int = 0) -> Conditional:
        """The conditional when `count` (0..T) consecutive buckets from `first` (0..T-1) have been observed.

        Args:
            shifted: bit s says that series s has left what past days span.
            since: how many of the last observed buckets lie after that; those before tell nothing of what comes.
        """
        key = (first if count else 0, count, shifted, min(since, count) if shifted else 0)
        if key not in self._cache:
            if len(self._cache) >= 1024:
                self._cache.pop(next(iter(self._cache)))
            self._cache[key] = self._condition(*key)
        return self._cache[key]

    def _condition(self, first: int, count: int, shifted: int, since: int) -> Conditional:
        buckets = self._prior.buckets
        order = (first + np.arange(count)) % buckets
        weights = np.zeros((3, count, buckets))
        covariance, gain = self._prior.covariance.copy(), self._prior.covariance.copy()
        for series in range(3):
            noise = self._prior.noise[series]
            weights[series], covariance[series] = _krige(covariance[series], order, noise)
            gain[series] = covariance[series]
            if shifted >> series & 1:
                weights[series] = 0.0
                wide = self._prior.covariance[series] + _SHIFT_VARIANCE * self._persistence(series, since)
                weights[series, count - since :], gain[series] = _krige(wide, order[count - since :], noise)
        return Conditional(weights, gain, covariance)

    def _persistence(self, series: int, since: int) -> FloatArray:
        """Correlation f8[T, T] between parts of a day of a shift that has lasted for `since` of them.

        Levels and prices stay. A crowd, or its lack, is as likely as not to last as long again as it has (Lindy's law).
        """
        if series == TRAFFIC:
            return np.asarray((1 + since) / (1 + since + self._distance), np.float64)
        return np.asarray(np.exp(-self._distance / (_SHIFT_DAYS * self._prior.buckets)), np.float64)

    def expect(
        self,
        first: int,
        count: int,
        deviation: FloatArray,
        running: int,
        raw: FloatArray,
        raw_variance: FloatArray,
        shifted: int = 0,
        since: int = 0,
    ) -> tuple[FloatArray, FloatArray]:
        """Expected deviations of m campaigns that observed the same buckets.

        Args:
            first, count, shifted, since: as in `given`.
            deviation: f8[m, 3, T] observed deviations (only those buckets are read).
            running: the bucket that is running.
            raw, raw_variance: f8[m, 3] its deviation so far, and the variance of that; infinite: nothing seen.

        Returns:
            f8[m, 3, T] expected deviations (observed where complete), and f8[3, T, T] their remaining covariance
            before the running bucket's evidence.
        """
        conditional = self.given(first, count, shifted, since)
        order = (first + np.arange(count)) % self._prior.buckets
        mean = np.einsum("msc,sct->mst", deviation[:, :, order], conditional.weights)
        column = conditional.gain[:, :, running]  # (3, T)
        own = np.maximum(column[:, running], 1e-9)
        gain = np.where(np.isfinite(raw_variance), 1.0 / (own + raw_variance), 0.0)
        surprise = np.where(np.isfinite(raw_variance), raw - mean[:, :, running], 0.0)
        mean += (gain * surprise)[:, :, None] * column[None]
        mean[:, :, order] = deviation[:, :, order]
        return mean, conditional.covariance


def _krige(covariance: FloatArray, order: npt.NDArray[np.int64], noise: float) -> tuple[FloatArray, FloatArray]:
    """Weights f8[count, T] of the observed parts, and what covariance f8[T, T] is left."""
    observed = covariance[np.ix_(order, order)] + noise * np.eye(len(order))
    gain = np.asarray(np.linalg.solve(observed, covariance[order]), np.float64)
    return gain, covariance - gain.T @ covariance[order]
