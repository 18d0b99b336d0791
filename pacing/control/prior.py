"""What past days say about a campaign before it has bought anything: curves by time of day, and how days vary.

A curve tells the value and the cost of one impression as a function of how much is bid for it, in coordinates in
which days
and campaigns look alike: z = log(threshold * level / (p * price)), where level is the mean probability of the
    campaign's
impressions in that part of the day and price the (geometric) mean price then. Levels, prices and traffic move from
day to day; for each the prior holds a mean by time of day and the covariance between the parts of a day.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pacing.control.grid import CURVE_BINS, Z_LOW, Z_STEP
from pacing.control.history import MarketHistory

FloatArray = npt.NDArray[np.float64]
_PERSISTENCE_DAY_SHARE = 1 / 8  # correlation time of what no past day tells about, as a share of the day
_LEVEL_PRIOR_ROWS = 5.0
_TRUSTED_BLOCKS = 9  # from so many independent days on, every pair of parts of a day is looked at by itself
SERIES = ("traffic", "level", "price")
"""What moves from day to day: log impressions, log mean probability, log price."""


@dataclass(frozen=True)
class MarketPrior:
    """Curves and day-to-day variation, for each group of campaigns.

    Attributes:
        value_curve: f4[groups, T, K] expected value of an impression won or lost, in units of level, if alpha reaches
            bin k.
        cost_curve: f4[groups, T, K] expected cost of it, in units of the mean price.
        told_cdf: f4[groups, T, K] share of value whose told threshold lies at or under bin k.
        mean_log: f8[3, groups, T] mean of each of SERIES.
        covariance: f8[3, T, T] of the deviations from that mean, between parts of a day.
        noise: f8[3] variance of one observed deviation around the true one.
        known: bool[3] False: the mean is a guess, and the first observations set it.
        group_of: group number -> row; row 0 stands for all groups together.
        midnight_offset_ms: instant of bucket 0 after 00:00 UTC.
    """

    value_curve: npt.NDArray[np.float32]
    cost_curve: npt.NDArray[np.float32]
    told_cdf: npt.NDArray[np.float32]
    mean_log: FloatArray
    covariance: FloatArray
    noise: FloatArray
    known: npt.NDArray[np.bool_]
    group_of: dict[int, int]
    midnight_offset_ms: int

    @property
    def buckets(self) -> int:
        """Parts of a day, T."""
        return int(self.value_curve.shape[1])

    @classmethod
    def unknown(cls, buckets: int = 48) -> MarketPrior:
        """The prior without history: flat traffic, a log-normal ratio of price to probability, every scale unknown."""
        z = Z_LOW + Z_STEP * np.arange(CURVE_BINS)
        density = np.exp(-0.5 * ((z - Z_STEP / 2) / 0.9) ** 2)
        density /= density.sum()
        value = np.broadcast_to(np.cumsum(density), (1, buckets, CURVE_BINS)).astype(np.float32)
        cost = np.broadcast_to(np.cumsum(density * np.exp(z - Z_STEP / 2)), value.shape).astype(np.float32)
        kernel = _persistence(buckets)
        return cls(
            value_curve=value,
            cost_curve=np.ascontiguousarray(cost),
            told_cdf=value.copy(),
            mean_log=np.zeros((3, 1, buckets)),
            covariance=np.stack([0.05 * kernel, 0.02 * kernel, 0.05 * kernel]),
            noise=np.array([0.002, 0.002, 0.002]),
            known=np.zeros(3, np.bool_),
            group_of={},
            midnight_offset_ms=0,
        )

    @classmethod
    def from_history(cls, history: MarketHistory) -> MarketPrior:
        """Reduce a history to curves and covariances.

        Means by time of day are shrunk to their common mean by how many independent days stand behind them (empirical
        Bayes), and correlations between parts of a day that are within two standard errors of none are taken to be
        none.

        Raises:
            ValueError: the history has no rows.
        """
        if len(history.day) == 0:
            raise ValueError("history: has no rows")
        fit = _Fit(history)
        groups = np.unique(history.group)
        group_of = {int(g): i + 1 for i, g in enumerate(groups)} if len(groups) > 1 else {}
        rows = 1 + len(group_of)
        value, cost, told = (np.broadcast_to(c, (rows, *c.shape)).astype(np.float32) for c in fit.curves())
        mean = np.broadcast_to(
            np.stack([fit.traffic_mean, fit.level_mean, fit.price_mean])[:, None, :], (3, rows, history.buckets)
        ).copy()
        for group, row in group_of.items():
            mean[1, row] += fit.group_level_offset(group)
        return cls(
            value_curve=value,
            cost_curve=cost,
            told_cdf=told,
            mean_log=mean,
            covariance=np.stack([fit.traffic_covariance, fit.level_covariance, fit.price_covariance]),
            noise=np.array([1e-4, fit.level_noise, 1e-3]),
            known=np.ones(3, np.bool_),
            group_of=group_of,
            midnight_offset_ms=history.midnight_offset_ms,
        )


class _Fit:
    """The steps from a history to a prior."""

    def __init__(self, history: MarketHistory) -> None:
        self.history = history
        self._days, self._buckets = history.days, history.buckets
        self._cell = history.day * self._buckets + history.bucket
        self._fit_traffic()
        self._fit_level()
        self._fit_price()

    def _fit_traffic(self) -> None:
        impressions = np.maximum(self.history.impressions, 0.5)
        log_traffic = np.log(impressions)
        counting = float((1 / impressions).mean())
        covariance, error = _by_lag(log_traffic - log_traffic.mean(0), counting)
        self.traffic_mean = _shrunk_mean(np.log(np.maximum(self.history.impressions.mean(0), 0.5)), error)
        self.traffic_covariance = covariance + 0.03 / self._days * _persistence(self._buckets)

    def _fit_level(self) -> None:
        """Mean probability per (series, day, bucket), its mean by bucket and the covariance between buckets."""
        history, buckets = self.history, self._buckets
        series_ids, series = np.unique(history.series, return_inverse=True)
        trace = history.day * len(series_ids) + series  # one campaign's day
        traces = self._days * len(series_ids)
        cell = trace * buckets + history.bucket
        total = np.bincount(cell, history.probability, traces * buckets)
        count = np.bincount(cell, minlength=traces * buckets)
        trace_rows = np.maximum(np.bincount(trace, minlength=traces), 1)
        pooled = np.repeat(np.bincount(trace, history.probability, traces) / trace_rows, buckets)
        pooled[pooled <= 0] = history.probability.mean()
        level = (total + _LEVEL_PRIOR_ROWS * pooled) / (count + _LEVEL_PRIOR_ROWS)
        self.quotient = history.probability / level[cell]  # p / level
        used = np.bincount(trace, minlength=traces) > 0
        log_level = np.log(level).reshape(traces, buckets)[used]
        trace_group = np.zeros(traces, np.int64)
        trace_group[trace] = history.group
        trace_day = np.repeat(np.arange(self._days), len(series_ids))
        blocks = np.unique(np.stack([trace_group[used], trace_day[used]]), axis=1).shape[1]
        self._log_level, self._trace_group, self._trace_day = log_level, trace_group[used], trace_day[used]
        raw_mean = log_level.mean(0)
        residual = log_level - raw_mean
        step = np.diff(log_level, axis=1)
        self.level_noise = float(np.clip(np.median(step**2) / 2 / 0.455, 1e-5, 0.5)) if step.size else 1e-3
        variance = max(float(residual.var()) - self.level_noise, 1e-3)
        if blocks >= _TRUSTED_BLOCKS:
            self.level_covariance = variance * _trusted_correlation(residual, blocks)
        else:
            covariance, _ = _by_lag(residual, self.level_noise)
            self.level_covariance = covariance + 1e-3 * (0.3 * _persistence(buckets) + 0.7)
        self.level_mean = _shrunk_mean(raw_mean, variance / blocks)

    def group_level_offset(self, group: int) -> float:
        """How far a group's log level lies from all groups', as far as days agree on it."""
        day_mean = self._log_level.mean(1)
        ids = np.unique(self._trace_group)
        table = np.array(
            [
                [_mean(day_mean[(self._trace_group == g) & (self._trace_day == d)]) for d in range(self._days)]
                for g in ids
            ]
        )
        table -= table.mean(0)
        means = table.mean(1)
        error = float(table.var(1, ddof=1).mean() / self._days) if self._days > 1 else float(means.var())
        keep = max(0.0, 1 - error / max(float(means.var()), 1e-12))
        return float(means[np.searchsorted(ids, group)]) * keep

    def _fit_price(self) -> None:
        """Mean log price per (day, bucket), its mean by bucket and each row's price on the day's own scale."""
        log_told = np.log(np.maximum(self.history.told_micros, 1.0))
        cells = self._days * self._buckets
        count = np.bincount(self._cell, minlength=cells).astype(np.float64)
        total = np.bincount(self._cell, log_told, cells)
        overall = float(log_told.mean())
        by_day = ((total + overall * 1e-3) / (count + 1e-3)).reshape(self._days, self._buckets)
        raw_mean = by_day.mean(0)
        counting = float(log_told.var() / max(float(count.mean()), 1.0))
        covariance, error = _by_lag(by_day - raw_mean, counting)
        self.price_mean = _shrunk_mean(raw_mean, error)
        self.price_covariance = covariance + 0.01 / self._days * (0.3 * _persistence(self._buckets) + 0.7)
        self.log_price = by_day.ravel()[self._cell]

    def curves(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Value, cost and told curves, (T, K) each, all groups together."""
        history = self.history
        weight = self.quotient
        # entering position i adds its exposure over position i+1's, and its price over what i+1 would have cost
        exposure = np.append(history.exposure, 0.0)
        paid = np.concatenate([history.prices_micros, np.zeros((len(weight), 1))], axis=1)
        value, cost = np.zeros((2, self._buckets * CURVE_BINS))
        for position in range(len(history.exposure)):
            z = np.log(np.maximum(history.prices_micros[:, position], 1.0) / weight) - self.log_price
            cell, inside = self._bins(z)
            gain = weight * (exposure[position] - exposure[position + 1])
            step = exposure[position] * paid[:, position] - exposure[position + 1] * paid[:, position + 1]
            value += np.bincount(cell, gain * inside, len(value))
            cost += np.bincount(cell, step * np.exp(-self.log_price) * inside, len(cost))
        z = np.log(np.maximum(history.told_micros, 1.0) / weight) - self.log_price
        cell, inside = self._bins(z)
        told = np.bincount(cell, weight * inside, len(value))
        rows = np.maximum(np.bincount(history.bucket, minlength=self._buckets), 1)[:, None]
        shape = (self._buckets, CURVE_BINS)
        mass = np.maximum(np.bincount(history.bucket, weight, self._buckets), 1e-9)[:, None]
        return (
            np.cumsum(value.reshape(shape), axis=1) / rows,
            np.cumsum(cost.reshape(shape), axis=1) / rows,
            np.cumsum(told.reshape(shape), axis=1) / mass,
        )

    def _bins(self, z: FloatArray) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Flat (bucket, bin) of each row, bins rounded up, and whether it lies inside the grid."""
        bin_idx = np.ceil((z - Z_LOW) / Z_STEP).astype(np.int64)
        inside = bin_idx < CURVE_BINS
        return self.history.bucket * CURVE_BINS + np.clip(bin_idx, 0, CURVE_BINS - 1), inside


def _mean(values: FloatArray) -> float:
    return float(values.mean()) if values.size else 0.0


def _persistence(buckets: int) -> FloatArray:
    """Correlation between parts of a day when nothing better is known: exponential in their distance."""
    distance = np.abs(np.subtract.outer(np.arange(buckets), np.arange(buckets)))
    return np.asarray(np.exp(-distance / (buckets * _PERSISTENCE_DAY_SHARE)), np.float64)


def _by_lag(residual: FloatArray, noise: float) -> tuple[FloatArray, float]:
    """Covariance f8[T, T] between parts of a day that depends on their distance alone, and a mean's error variance.

    A few days are too few for every pair of parts, but not for every distance: what lasts all day, what fades from part
    to part (first-order autoregression, by Yule-Walker), and what each part has alone.

    Args:
        residual: f8[days, T] deviations from the mean of the days.
        noise: variance of one observed deviation around the true one.
    """
    days, buckets = residual.shape
    if days < 2 or buckets < 6:
        return np.zeros((buckets, buckets)), 0.0
    unbiased = days / (days - 1)
    lagged = [unbiased * float((residual[:, : buckets - k] * residual[:, k:]).mean()) for k in range(2 * buckets // 3)]
    variance = max(lagged[0] - noise, 0.0)
    all_day = min(max(float(np.mean(lagged[buckets // 3 :])), 0.0), variance)
    chance = 2 * lagged[0] / math.sqrt(days * buckets)
    fading, rate = 0.0, 0.0
    if lagged[1] - all_day > chance:
        rate = min(max((lagged[2] - all_day) / (lagged[1] - all_day), 0.0), 0.97)
    if rate > 0:
        fading = min((lagged[1] - all_day) / rate, variance - all_day)
    distance = np.abs(np.subtract.outer(np.arange(buckets), np.arange(buckets)))
    alone = variance - all_day - fading
    covariance = all_day + fading * rate**distance + alone * np.eye(buckets)
    return np.asarray(covariance, np.float64), lagged[0] / days


def _shrunk_mean(raw: FloatArray, error_variance: float) -> FloatArray:
    """Means by bucket, pulled to their common mean as far as error explains their spread."""
    spread = float(raw.var())
    keep = max(0.0, 1 - error_variance / spread) if spread > 0 else 0.0
    return np.asarray(raw.mean() + keep * (raw - raw.mean()), np.float64)


def _trusted_correlation(residual: FloatArray, independent: int) -> FloatArray:
    """Correlation matrix of the columns of `residual`, with what chance explains set to zero, positive semidefinite."""
    deviation = np.maximum(residual.std(0), 1e-6)
    correlation = (residual.T @ residual) / len(residual) / np.outer(deviation, deviation)
    correlation[np.abs(correlation) < 2 / np.sqrt(max(independent, 1))] = 0.0
    values, vectors = np.linalg.eigh((correlation + correlation.T) / 2)
    positive = (vectors * np.maximum(values, 0.0)) @ vectors.T
    scale = np.sqrt(np.maximum(np.diag(positive), 1e-9))
    return np.asarray(positive / np.outer(scale, scale), np.float64)
