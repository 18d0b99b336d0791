"""Who stays: fans of one segment leave sooner than those of another, which says little about who follows easily."""

from __future__ import annotations

import numpy as np

from benchmarks.market.behaviour import Behaviour
from benchmarks.market.world import AGE_BANDS, REGION_COUNT, World

INTERCEPT = -0.2
"""Log-odds; with the rest, a little less than half of all fans stay."""
AFFINITY_SLOPE = 0.25
AGE_GENDER_SD, CREATOR_AGE_GENDER_SD, REGION_SD, CREATOR_SD, VIEWER_SD = 0.9, 0.6, 0.5, 0.4, 0.6
_GENDERS = 4


class LoyalBehaviour(Behaviour):
    """The market's behaviour, with loyalty of its own: log-odds by age and gender, by these and creator, by region, by
    creator, by viewer (which no attribute tells), and a little by affinity. The engine never sees any of it."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        rng = np.random.default_rng([world.seed, 9])
        viewers, creators = world.viewers, world.creators.size
        of_group = rng.normal(0, AGE_GENDER_SD, (AGE_BANDS, _GENDERS))
        of_creator = rng.normal(0, CREATOR_AGE_GENDER_SD, (creators, AGE_BANDS, _GENDERS))
        loyalty = rng.normal(0, CREATOR_SD, creators)[None, :] + of_creator[:, viewers.age_bands, viewers.genders].T
        loyalty += of_group[viewers.age_bands, viewers.genders][:, None]
        loyalty += rng.normal(0, REGION_SD, REGION_COUNT + 1)[viewers.regions][:, None]
        loyalty += rng.normal(0, VIEWER_SD, viewers.size)[:, None]
        self._log_odds = (INTERCEPT + loyalty + AFFINITY_SLOPE * self._score).astype(np.float32)

    def kept_probability(self, viewer_rows: np.ndarray, creator_rows: np.ndarray) -> np.ndarray:
        """True probability f8[k] that a new fan is still one after 30 of a fan's days."""
        kept: np.ndarray = 1.0 / (1.0 + np.exp(-self._log_odds[viewer_rows, creator_rows].astype(np.float64)))
        return kept
