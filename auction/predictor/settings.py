"""What the predictor believes before it has seen anything, and which row of its tables predicts what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from auction.predictor.calibration import CalibrationSettings
from auction.predictor.features import PRIOR_VARIANCE
from pacing.facts import Goal

INITIAL_RATES = {
    Goal.PLAYS: 0.30,
    Goal.FANS: 0.012,
    Goal.PROFILE_VISITS: 0.03,
    Goal.PRODUCT_CLICKS: 0.012,
    Goal.LIVE_VISITS: 0.02,
    Goal.ORDERS: 0.003,
}
"""What an impression of an unknown campaign is expected to bring, before anything was seen."""

LOSS_PRIOR_VARIANCE = 4.0 * PRIOR_VARIANCE
"""Losses are near one half, fans one in a hundred: the same odds ratio is about twice as far on the probit scale."""
RISE_PRIOR_VARIANCE = LOSS_PRIOR_VARIANCE


@dataclass(frozen=True, slots=True)
class PredictorSettings:
    """What is believed before the first impression, and how fast it is forgotten.

    Attributes:
        initial_rates: events per impression, by goal, each within 0.00001..0.9; goals left out take `INITIAL_RATES`.
        kept_share: of new fans, those that are kept 30 days, before anything was told of any.
        rise_share: of kept fans, those that come to be of a high tier in that time, likewise.
        forget_per_day: share of what variance has learned that a day undoes.
        calibration: see there.
    """

    initial_rates: Mapping[Goal, float] = field(default_factory=dict)
    kept_share: float = 0.7
    rise_share: float = 0.05
    forget_per_day: float = 0.02
    calibration: CalibrationSettings = field(default_factory=CalibrationSettings)

    def __post_init__(self) -> None:
        for goal, rate in self.initial_rates.items():
            if not 0.00001 <= rate <= 0.9:
                raise ValueError(f"initial_rates[{goal.name}] {rate!r}: not in 0.00001..0.9")
        if not 0 < self.kept_share <= 1:
            raise ValueError(f"kept_share {self.kept_share!r}: not in 0..1, above 0")
        if not 0.00001 <= self.rise_share <= 0.9:
            raise ValueError(f"rise_share {self.rise_share!r}: not in 0.00001..0.9")
        if not 0 <= self.forget_per_day < 1:
            raise ValueError(f"forget_per_day {self.forget_per_day!r}: not in 0..1, below 1")


def goal_row(goal: int) -> int:
    """Which row of the weight tables predicts a goal: its number less one; kept fans are predicted as fans.

    Raises:
        ValueError: there is no such goal.
    """
    wanted = Goal(goal)
    return int(Goal.FANS if wanted is Goal.KEPT_FANS else wanted) - 1


def goal_rows(goals: np.ndarray) -> np.ndarray:
    """`goal_row` of each goal, i4[C]."""
    rows = np.array([0, *(goal_row(goal) for goal in Goal)], np.int32)
    return rows[np.asarray(goals, np.int64)]
