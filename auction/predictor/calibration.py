"""A factor per campaign that brings the predictor's sum of p to what was observed, leaning on its goal while it
knows little."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pacing.facts import Goal

_LOWEST_FACTOR = 0.2
_HIGHEST_FACTOR = 5.0
_GOAL_MEMORY = 4.0  # a goal's evidence lasts so many times longer than a campaign's


@dataclass(frozen=True, slots=True)
class CalibrationSettings:
    """How fast factors move.

    Attributes:
        strength: expected events that the goal's factor (for a campaign) or 1 (for a goal) counts for.
        half_life: expected events after which evidence counts half.
        spread: the model's own relative uncertainty at which a row counts half: where the model says that it is
            guessing, a miss is no sign of bias.
        campaigns: how many campaigns are remembered; the one untouched for longest gives way.
    """

    strength: float = 200.0
    half_life: float = 400.0
    spread: float = 0.15
    campaigns: int = 100_000

    def __post_init__(self) -> None:
        if min(self.strength, self.half_life, self.spread) <= 0 or self.campaigns < 1:
            raise ValueError("strength, half_life, spread, campaigns: not positive")


class Calibration:
    """Observed over expected events, by goal and by campaign.

    Expected events are counted when an impression's wait is over and observed ones when they arrive, where
    impressions wait as long as events do (`DelayCurve`): so both sums see the same share of every impression's
    events, however late these are. Gamma-Poisson: factor = (strength * parent + observed) / (strength + expected).
    One thread at a time.
    """

    def __init__(self, settings: CalibrationSettings | None = None) -> None:
        self.settings = settings or CalibrationSettings()
        self._goals = np.zeros((len(Goal) + 1, 2))
        self._campaigns: dict[tuple[int, int], list[float]] = {}

    def row_weights(self, spread: np.ndarray) -> np.ndarray:
        """How much rows count whose probability has this relative standard deviation (f8[n])."""
        ratio = np.asarray(spread, np.float64) / self.settings.spread
        weights: np.ndarray = 1.0 / (1.0 + ratio * ratio)
        return weights

    def add_expected(self, goal: int, campaign_ids: np.ndarray, probabilities: np.ndarray, spread: np.ndarray) -> None:
        """Impressions (u8[n], f8[n], f8[n]) whose wait for an event of this goal is over."""
        self._add(goal, campaign_ids, self.row_weights(spread) * probabilities, 1)

    def add_observed(self, goal: int, campaign_ids: np.ndarray, spread: np.ndarray) -> None:
        """Events (u8[n]) of impressions with this spread (f8[n])."""
        self._add(goal, campaign_ids, self.row_weights(spread), 0)

    def _add(self, goal: int, campaign_ids: np.ndarray, amounts: np.ndarray, column: int) -> None:
        if not len(campaign_ids):
            return
        # Old evidence fades by what is newly expected, before that is added: a large batch must not fade itself.
        if column == 1:
            self._goals[goal] *= 0.5 ** (float(amounts.sum()) / (_GOAL_MEMORY * self.settings.half_life))
        self._goals[goal, column] += float(amounts.sum())
        ids, places = np.unique(campaign_ids, return_inverse=True)
        sums = np.bincount(places, weights=amounts)
        for campaign_id, amount in zip(ids.tolist(), sums.tolist(), strict=True):
            key = (goal, campaign_id)
            held = self._campaigns.pop(key, None) or [0.0, 0.0]
            if column == 1:
                keep = 0.5 ** (amount / self.settings.half_life)
                held[0] *= keep
                held[1] *= keep
            held[column] += amount
            self._campaigns[key] = held  # last: most lately touched
        while len(self._campaigns) > self.settings.campaigns:
            del self._campaigns[next(iter(self._campaigns))]

    def goal_factor(self, goal: int) -> float:
        """Of a campaign that nothing is known of."""
        observed, expected = self._goals[goal]
        return self._ratio(1.0, float(observed), float(expected))

    def factor(self, goal: int, campaign_id: int) -> float:
        """What to multiply the predictor's probability by."""
        parent = self.goal_factor(goal)
        observed, expected = self._campaigns.get((goal, campaign_id), (0.0, 0.0))
        return self._ratio(parent, observed, expected)

    def _ratio(self, parent: float, observed: float, expected: float) -> float:
        strength = self.settings.strength
        ratio = (strength * parent + observed) / (strength + expected)
        return min(max(ratio, _LOWEST_FACTOR), _HIGHEST_FACTOR)

    def state(self) -> dict[str, np.ndarray]:
        """Everything held, as arrays."""
        keys = np.array(list(self._campaigns), np.uint64).reshape(-1, 2)
        sums = np.array(list(self._campaigns.values()), np.float64).reshape(-1, 2)
        return {"goals": self._goals.copy(), "keys": keys, "sums": sums}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Take up what `state` gave.

        Raises:
            ValueError: shapes do not fit; nothing is changed then.
        """
        goals, keys, sums = state["goals"], state["keys"], state["sums"]
        if goals.shape != self._goals.shape or keys.shape != sums.shape or keys.shape[1:] != (2,):
            raise ValueError(f"calibration: shapes {goals.shape}, {keys.shape}, {sums.shape} do not fit")
        if not (np.isfinite(goals).all() and np.isfinite(sums).all()):
            raise ValueError("calibration: a sum is not finite")
        self._goals[...] = goals
        self._campaigns = {
            (int(goal), int(campaign_id)): [float(observed), float(expected)]
            for (goal, campaign_id), (observed, expected) in zip(keys, sums, strict=True)
        }
