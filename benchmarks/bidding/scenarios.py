"""What can happen to a campaign's day: each scenario a few curves over the day, from which days are drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pacing.clocks import MS_PER_DAY, MS_PER_HOUR, MS_PER_MINUTE

FloatArray = npt.NDArray[np.float64]
Curve = Callable[[FloatArray], FloatArray]
"""A figure by the share of the day (f8[n], 0..1)."""
DrawnCurve = Callable[[FloatArray, np.random.Generator], FloatArray]

NOON = 0.5
SHOCK = 13 / 24
DROP = 11 / 24
CROWD_FROM, CROWD_TO = 15 / 24, 17 / 24
MID_MORNING = 10 / 24
REGIME_LEVELS = (0.6, 1.0, 1.7)
STALE_MINUTES = (1, 10, 60)


def _one(at: FloatArray) -> FloatArray:
    return np.ones_like(at)


def _flat_price(at: FloatArray, rng: np.random.Generator) -> FloatArray:
    return np.ones_like(at)


@dataclass(frozen=True, slots=True)
class Scenario:
    """One kind of day.

    Attributes:
        name, meaning: as the tables say them.
        traffic: auctions by time of day, relative.
        price_level: of outside prices by time of day; may be drawn.
        usual: scenario of which the past days are; empty: this one itself.
        known: False: there are no past days, and the controller starts from its pooled prior.
        day_sd: standard deviation of the logs of a day's traffic and price level.
        over_prediction: predicted over true probability, by time of day.
        mean_probability: of a goal event.
        delay_ms: median delay from impression to event.
        budget: the day's budget in force, as a multiple of the first.
        halves_rest_at: share of the day at which what is left of the budget is halved; 0: never.
        stale_ms: how old the accounts are that the controller sees.
        shock_at: share of the day from which the way back to plan is timed; 0: not timed.
    """

    name: str
    meaning: str
    traffic: Curve = _one
    price_level: DrawnCurve = _flat_price
    usual: str = ""
    known: bool = True
    day_sd: float = 0.0
    over_prediction: Curve = _one
    mean_probability: float = 0.1
    delay_ms: int = 8 * MS_PER_MINUTE
    budget: Curve = _one
    halves_rest_at: float = 0.0
    stale_ms: int = 0
    shock_at: float = 0.0


def _diurnal(at: FloatArray) -> FloatArray:
    """A trough before dawn and a peak at nine in the evening."""
    return 1 + 0.75 * np.sin(2 * np.pi * (at - 0.625))


def _diurnal_price(at: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Dear in the evening, when everybody buys; and dear for a while at noon."""
    return np.exp(0.3 * np.sin(2 * np.pi * (at - 0.6)) + 0.2 * np.exp(-(((at - 0.52) / 0.04) ** 2)))


def _shock(at: FloatArray, rng: np.random.Generator) -> FloatArray:
    return np.where(at < SHOCK, 1.0, 1.5)


def _drop(at: FloatArray) -> FloatArray:
    return np.where(at < DROP, 1.0, 0.45)


def _crowd(at: FloatArray) -> FloatArray:
    return np.where((at >= CROWD_FROM) & (at < CROWD_TO), 3.0, 1.0)


def _regimes(at: FloatArray, rng: np.random.Generator) -> FloatArray:
    return rng.choice(REGIME_LEVELS, 24)[np.minimum((at * 24).astype(np.int64), 23)]


def _half_too_many(at: FloatArray) -> FloatArray:
    return np.where(at < MID_MORNING, 1.0, 1.5)


def _doubled(at: FloatArray) -> FloatArray:
    return np.where(at < NOON, 1.0, 2.0)


_LATE_MS = 4 * MS_PER_HOUR
USUAL = "stationary"
SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario(USUAL, "nothing changes"),
        Scenario("diurnal", "traffic and prices by the hour", _diurnal, _diurnal_price, day_sd=0.03),
        Scenario(
            "diurnal_first_day", "the same without past days", _diurnal, _diurnal_price, known=False, day_sd=0.03
        ),
        Scenario("price_shock", "prices x 1.5 from 13:00", price_level=_shock, usual=USUAL, shock_at=SHOCK),
        Scenario("traffic_drop", "traffic x 0.45 from 11:00", _drop, usual=USUAL),
        Scenario("flash_crowd", "traffic x 3 from 15:00 to 17:00", _crowd, usual=USUAL),
        Scenario("over_prediction", "p half too high from 10:00", usual=USUAL, over_prediction=_half_too_many),
        Scenario("delay", "events come 4 h later", delay_ms=_LATE_MS),
        Scenario(
            "delay_biased", "and a fifth too many are predicted", usual="delay", delay_ms=_LATE_MS,
            over_prediction=lambda at: np.full_like(at, 1.2),
        ),
        Scenario(
            "budget_doubled", "the budget doubles at noon", _diurnal, _diurnal_price, usual="diurnal", day_sd=0.03,
            budget=_doubled, shock_at=NOON,
        ),
        Scenario(
            "budget_halved", "what is left of it is halved at noon", _diurnal, _diurnal_price, usual="diurnal",
            day_sd=0.03, halves_rest_at=NOON, shock_at=NOON,
        ),
        Scenario("regimes", "prices x 0.6, 1 or 1.7, drawn each hour", price_level=_regimes),
        Scenario("sparse", "36 events a day", mean_probability=0.1 / 160),
        *(
            Scenario(f"stale_{minutes}min", f"accounts seen {minutes} min late", usual=USUAL,
                     stale_ms=minutes * MS_PER_MINUTE)
            for minutes in STALE_MINUTES
        ),
    )
}  # fmt: skip
"""By name, in the order of the tables."""

DAY_MS = MS_PER_DAY
