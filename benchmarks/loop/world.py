"""Who stays, and who of them comes to be valuable: fans of one segment sooner than those of another, which says little
about who follows easily, and nothing of either about the other."""

from __future__ import annotations

import numpy as np

from benchmarks.market.behaviour import Behaviour
from benchmarks.market.world import AGE_BANDS, REGION_COUNT, World

INTERCEPT = -0.2
"""Log-odds; with the rest, a little less than half of all fans stay."""
HIGH_INTERCEPT = -2.2
"""Likewise; about one in eight of those who stay comes to be of a high tier."""
AFFINITY_SLOPE = 0.25
AGE_GENDER_SD, CREATOR_AGE_GENDER_SD, REGION_SD, CREATOR_SD, VIEWER_SD = 0.9, 0.6, 0.5, 0.4, 0.6
RISE_SHAPE, RISE_SCALE_DAYS = 4.0, 3.5
"""Days until a fan rises, as a gamma distribution: two weeks on average."""
_LATEST_DAY = 29.9
_GENDERS = 4


def _log_odds(world: World, rng: np.random.Generator) -> np.ndarray:
    """f8[viewers, creators]: drawn by age and gender, by these and creator, by region, by creator and by viewer (which
    no attribute tells)."""
    viewers, creators = world.viewers, world.creators.size
    of_group = rng.normal(0, AGE_GENDER_SD, (AGE_BANDS, _GENDERS))
    of_creator = rng.normal(0, CREATOR_AGE_GENDER_SD, (creators, AGE_BANDS, _GENDERS))
    odds = rng.normal(0, CREATOR_SD, creators)[None, :] + of_creator[:, viewers.age_bands, viewers.genders].T
    odds += of_group[viewers.age_bands, viewers.genders][:, None]
    odds += rng.normal(0, REGION_SD, REGION_COUNT + 1)[viewers.regions][:, None]
    odds += rng.normal(0, VIEWER_SD, viewers.size)[:, None]
    return np.asarray(odds)


def _logistic(log_odds: np.ndarray) -> np.ndarray:
    return np.asarray(1.0 / (1.0 + np.exp(-log_odds.astype(np.float64))))


class LoyalBehaviour(Behaviour):
    """The market's behaviour, with loyalty of its own: by `_log_odds`, and a little by affinity. The engine never sees
    any of it."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        loyalty = _log_odds(world, np.random.default_rng([world.seed, 9]))
        self._log_odds = (INTERCEPT + loyalty + AFFINITY_SLOPE * self._score).astype(np.float32)

    def kept_probability(self, viewer_rows: np.ndarray, creator_rows: np.ndarray) -> np.ndarray:
        """True probability f8[k] that a new fan is still one after 30 of a fan's days."""
        return _logistic(self._log_odds[viewer_rows, creator_rows])


class RisingBehaviour(LoyalBehaviour):
    """Loyal behaviour, in which some of the fans who stay come to be of a high tier: with odds of their own, drawn like
    those of staying. A fan's luck is that of the pair of viewer and creator, whoever buys the follow and when."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        rng = np.random.default_rng([world.seed, 10])
        rising = _log_odds(world, rng)
        self._high_log_odds = (HIGH_INTERCEPT + rising + AFFINITY_SLOPE * self._score).astype(np.float32)
        self._luck = rng.random(rising.shape, np.float32)
        days = rng.standard_gamma(RISE_SHAPE, rising.shape, np.float32) * np.float32(RISE_SCALE_DAYS)
        self._days = np.minimum(days, np.float32(_LATEST_DAY))

    def high_probability(self, viewer_rows: np.ndarray, creator_rows: np.ndarray) -> np.ndarray:
        """True probability f8[k] that a fan who is kept comes to be of a high tier within 30 of a fan's days."""
        return _logistic(self._high_log_odds[viewer_rows, creator_rows])

    def rise_delays_ms(self, viewer_rows: np.ndarray, creator_rows: np.ndarray, day_ms: int) -> np.ndarray:
        """How long after following each fan who is kept rises to a high tier, i8[k]; -1: never."""
        delays_ms = (self._days[viewer_rows, creator_rows].astype(np.float64) * day_ms).astype(np.int64)
        rises = self._luck[viewer_rows, creator_rows] < self.high_probability(viewer_rows, creator_rows)
        return np.where(rises, delays_ms, -1)
