"""Days drawn from a scenario: every auction with what it would have cost and brought, whoever bids."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from benchmarks.bidding.scenarios import SCENARIOS, Scenario
from pacing.clocks import MS_PER_DAY
from pacing.control.history import MarketHistory

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

DAY_START_MS = 20_000 * MS_PER_DAY
AUCTIONS = 150_000
HOURS = 24
MEDIAN_PRICE_MICROS = 20_000.0
PRICE_SD = 0.75
PROBABILITY_SD = 0.5
"""Standard deviations of logs, within an hour; together 0.9 for price over probability."""
DELAY_SD = 1.0
PAST_DAYS = 3
BUCKETS = 48
PLATFORM_CAMPAIGNS = 20
_SAMPLED_ROWS = 20_000  # of each past day
_CURVE_POINTS = 4_801
_POINTS_PER_HOUR = 20


@dataclass(frozen=True, slots=True)
class Day:
    """n auctions in order of time.

    Attributes:
        at_ms: i8[n] since the day began.
        probability: f8[n] true chance of a goal event if shown.
        predicted: f8[n] the same as the engine predicts it, as exact as a decision states it.
        least_micros: i8[n] least bid that wins; the second price.
        converts: b1[n] whether the event would come; delay_ms: i8[n] how long after.
        hour_levels: f8[24, k] level of prices at moments within each hour, equally likely.
    """

    at_ms: IntArray
    probability: FloatArray
    predicted: FloatArray
    least_micros: IntArray
    converts: npt.NDArray[np.bool_]
    delay_ms: IntArray
    hour_levels: FloatArray

    @property
    def size(self) -> int:
        """How many auctions."""
        return len(self.at_ms)

    @property
    def hours(self) -> IntArray:
        """i8[n]: hour of each auction."""
        return self.at_ms * HOURS // MS_PER_DAY

    def edges(self, step_ms: int) -> IntArray:
        """First auction of each stretch of `step_ms`, and `size` at the end."""
        return np.searchsorted(self.at_ms, np.arange(0, MS_PER_DAY + step_ms, step_ms))


def draw_day(scenario: Scenario, seed: int, number: int = 0, auctions: int = AUCTIONS) -> Day:
    """One day of a scenario.

    Args:
        number: 0 is the day that is judged; others are other days of the same seed's market.
        auctions: in expectation, on an ordinary day.
    """
    rng = np.random.default_rng([seed, number, list(SCENARIOS).index(scenario.name)])
    grid = np.linspace(0, 1, _CURVE_POINTS)
    traffic_shift, price_shift = scenario.day_sd * rng.standard_normal(2)
    density = scenario.traffic(grid)
    # Traffic that leaves or comes makes the day smaller or larger than the usual one.
    usual = SCENARIOS[scenario.usual or scenario.name].traffic(grid)
    expected = auctions * float(np.exp(traffic_shift)) * float(density.mean() / usual.mean())
    count = int(rng.poisson(expected))
    cumulative = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    at = np.sort(np.interp(rng.random(count), cumulative / cumulative[-1], grid))
    level = _levels(scenario, rng, price_shift)
    probability = scenario.mean_probability * np.exp(
        PROBABILITY_SD * rng.standard_normal(count) - PROBABILITY_SD**2 / 2
    )
    probability = np.minimum(probability, 0.9)
    predicted = np.minimum(probability * scenario.over_prediction(at), 0.99).astype(np.float32).astype(np.float64)
    least = MEDIAN_PRICE_MICROS * level(at) * np.exp(PRICE_SD * rng.standard_normal(count))
    moments = (np.arange(HOURS)[:, None] + (np.arange(_POINTS_PER_HOUR) + 0.5) / _POINTS_PER_HOUR) / HOURS
    return Day(
        at_ms=np.minimum((at * MS_PER_DAY).astype(np.int64), MS_PER_DAY - 1),
        probability=probability,
        predicted=predicted,
        least_micros=np.maximum(np.ceil(least), 1).astype(np.int64),
        converts=rng.random(count) < probability,
        delay_ms=(scenario.delay_ms * np.exp(DELAY_SD * rng.standard_normal(count))).astype(np.int64),
        hour_levels=level(moments.ravel()).reshape(moments.shape),
    )


def _levels(scenario: Scenario, rng: np.random.Generator, shift: float) -> Callable[[FloatArray], FloatArray]:
    """Level of prices by the share of the day; what is drawn of it is drawn once."""
    seed = int(rng.integers(2**63))

    def level(at: FloatArray) -> FloatArray:
        return np.exp(shift) * scenario.price_level(at, np.random.default_rng(seed))

    return level


def win_probabilities(day: Day, bids_micros: FloatArray) -> FloatArray:
    """f8[24, k]: chance that each of k bids wins in each hour, by the distribution that prices are drawn from."""
    z = np.log(np.maximum(bids_micros, 1e-9))[None, None, :] - np.log(MEDIAN_PRICE_MICROS * day.hour_levels)[:, :, None]
    return np.asarray(ndtr(z / PRICE_SD).mean(axis=1), np.float64)


@dataclass(frozen=True, slots=True)
class Past:
    """What is known of the days before.

    Attributes:
        days: the past days themselves, oldest first.
        history: the sample of them that the controller is given.
        sample: i8[days, k] which auctions of each day are in it.
    """

    days: tuple[Day, ...]
    history: MarketHistory
    sample: tuple[IntArray, ...]


def past_days(scenario: Scenario, seed: int, auctions: int = AUCTIONS) -> Past:
    """The days before a scenario's day, drawn from what is usual in its market."""
    usual = SCENARIOS[scenario.usual or scenario.name]
    days = tuple(draw_day(usual, seed, number, auctions) for number in range(1, PAST_DAYS + 1))
    rng = np.random.default_rng([seed, 9])
    sample = tuple(np.sort(rng.choice(day.size, min(day.size, _SAMPLED_ROWS), replace=False)) for day in days)
    bucket = [day.at_ms * BUCKETS // MS_PER_DAY for day in days]
    least = np.concatenate([day.least_micros[rows] for day, rows in zip(days, sample, strict=True)])
    history = MarketHistory(
        day=np.repeat(np.arange(PAST_DAYS), [len(rows) for rows in sample]),
        bucket=np.concatenate([part[rows] for part, rows in zip(bucket, sample, strict=True)]),
        group=np.zeros(len(least), np.int64),
        series=np.zeros(len(least), np.int64),
        probability=np.concatenate([day.predicted[rows] for day, rows in zip(days, sample, strict=True)]),
        prices_micros=least.astype(np.float64)[:, None],
        exposure=np.ones(1),
        impressions=np.stack([np.bincount(part, minlength=BUCKETS) for part in bucket]).astype(np.float64),
    )
    return Past(days, history, sample)


def platform_records(past: Past) -> FloatArray:
    """f8[k, 2]: events predicted and observed of the days of past campaigns, which shared the past days' auctions."""
    records = []
    for day in past.days:
        campaign = np.arange(day.size) % PLATFORM_CAMPAIGNS
        expected = np.bincount(campaign, day.predicted, PLATFORM_CAMPAIGNS)
        records.append(np.stack([expected, np.bincount(campaign, day.converts, PLATFORM_CAMPAIGNS)], axis=1))
    return np.concatenate(records)
