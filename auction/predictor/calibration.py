"""Factors that bring the predictor's sum of p to what was observed: one per campaign, leaning on its goal while it
knows little, and one for how many impressions of the creator the viewer had before, which no feature tells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from auction.predictor.features import GOAL_COUNT
from pacing.facts import EARLIER_LEVELS

_LOWEST_FACTOR = 0.2
_HIGHEST_FACTOR = 5.0
_GOAL_MEMORY = 4.0  # a goal's evidence lasts so many times longer than a campaign's
_EARLIER_MEMORY = 16.0  # that of earlier impressions, of all campaigns of a goal together
_EARLIER_STRENGTH = 50.0  # expected events that the number before counts for


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
    """Observed over expected events, by goal, by campaign and by earlier impressions.

    Expected events are counted when an impression's wait is over and observed ones when they arrive, where
    impressions wait as long as events do (`DelayCurve`): so both sums see the same share of every impression's
    events, however late these are. Gamma-Poisson: factor = (strength * parent + observed) / (strength + expected).
    A row's p is multiplied by its campaign's factor and by that of its earlier impressions, so each of the two is
    learned from what the other one expects (raking: Deming and Stephan, "On a Least Squares Adjustment of a Sampled
    Frequency Table When the Expected Marginal Totals are Known", 1940). A goal is the number of a row of the weight
    tables plus one: that of a `Goal`, and one more of fans who rise. One thread at a time.
    """

    def __init__(self, settings: CalibrationSettings | None = None) -> None:
        self.settings = settings or CalibrationSettings()
        self._goals = np.zeros((GOAL_COUNT + 1, 2))
        self._campaigns: dict[tuple[int, int], list[float]] = {}
        self._earlier = np.zeros((GOAL_COUNT + 1, EARLIER_LEVELS, 2))

    def row_weights(self, spread: np.ndarray) -> np.ndarray:
        """How much rows count whose probability has this relative standard deviation (f8[n])."""
        ratio = np.asarray(spread, np.float64) / self.settings.spread
        weights: np.ndarray = 1.0 / (1.0 + ratio * ratio)
        return weights

    def add_expected(
        self, goal: int, campaign_ids: np.ndarray, probabilities: np.ndarray, spread: np.ndarray, earlier: np.ndarray
    ) -> None:
        """Impressions (u8[n], f8[n], f8[n], u1[n] of 0..MOST_EARLIER) whose wait for an event of this goal is over."""
        amounts = self.row_weights(spread) * probabilities
        if not len(amounts):
            return
        ids, places = np.unique(campaign_ids, return_inverse=True)
        by_campaign = np.array([self.factor(goal, campaign_id) for campaign_id in ids.tolist()])[places]
        by_earlier = self.earlier_factors(goal)[earlier]
        self._add_earlier(goal, amounts * by_campaign, earlier, 1)
        self._add(goal, campaign_ids, amounts * by_earlier, 1)

    def add_observed(self, goal: int, campaign_ids: np.ndarray, spread: np.ndarray, earlier: np.ndarray) -> None:
        """Events (u8[n]) of impressions with this spread (f8[n]), after so many earlier ones (u1[n])."""
        amounts = self.row_weights(spread)
        self._add_earlier(goal, amounts, earlier, 0)
        self._add(goal, campaign_ids, amounts, 0)

    def _add_earlier(self, goal: int, amounts: np.ndarray, earlier: np.ndarray, column: int) -> None:
        if column == 1:
            memory = _EARLIER_MEMORY * self.settings.half_life
            self._earlier[goal] *= 0.5 ** (float(amounts.sum()) / memory)
        self._earlier[goal, :, column] += np.bincount(earlier, amounts, EARLIER_LEVELS)

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

    def factors(self, goal: int, campaign_ids: np.ndarray) -> np.ndarray:
        """`factor` of campaigns (u8[n]), f8[n]."""
        factors = np.full(len(campaign_ids), self.goal_factor(goal))
        held = np.array([campaign_id for of, campaign_id in self._campaigns if of == goal], np.uint64)
        for i in np.flatnonzero(np.isin(campaign_ids, held)).tolist():
            factors[i] = self.factor(goal, int(campaign_ids[i]))
        return factors

    def earlier_factors(self, goal: int) -> np.ndarray:
        """What to multiply by for each number of earlier impressions, f8[EARLIER_LEVELS].

        A number leans on the one before it while little is known of it, the first on all together. On average over
        what was expected they are 1: what is wrong with all of them is for the campaigns' factors.
        """
        observed, expected = self._earlier[goal].T
        if not expected.any():
            return np.ones(EARLIER_LEVELS)
        ratios = np.empty(EARLIER_LEVELS)
        parent = (_EARLIER_STRENGTH + observed.sum()) / (_EARLIER_STRENGTH + expected.sum())
        for level in range(EARLIER_LEVELS):
            parent = (_EARLIER_STRENGTH * parent + observed[level]) / (_EARLIER_STRENGTH + expected[level])
            ratios[level] = parent
        return np.clip(ratios * expected.sum() / (expected @ ratios), _LOWEST_FACTOR, _HIGHEST_FACTOR)

    def earlier_expected(self, goal: int) -> np.ndarray:
        """Events that were expected by number of earlier impressions, had these not mattered: f8[EARLIER_LEVELS]."""
        return self._earlier[goal, :, 1].copy()

    def _ratio(self, parent: float, observed: float, expected: float) -> float:
        strength = self.settings.strength
        ratio = (strength * parent + observed) / (strength + expected)
        return min(max(ratio, _LOWEST_FACTOR), _HIGHEST_FACTOR)

    def state(self) -> dict[str, np.ndarray]:
        """Everything held, as arrays."""
        keys = np.array(list(self._campaigns), np.uint64).reshape(-1, 2)
        sums = np.array(list(self._campaigns.values()), np.float64).reshape(-1, 2)
        return {"goals": self._goals.copy(), "keys": keys, "sums": sums, "earlier": self._earlier.copy()}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Take up what `state` gave.

        Raises:
            ValueError: shapes do not fit; nothing is changed then.
        """
        goals, keys, sums, earlier = state["goals"], state["keys"], state["sums"], state["earlier"]
        if earlier.shape != self._earlier.shape:
            raise ValueError(f"calibration: earlier {earlier.shape}: not {self._earlier.shape}")
        if goals.shape != self._goals.shape or keys.shape != sums.shape or keys.shape[1:] != (2,):
            raise ValueError(f"calibration: shapes {goals.shape}, {keys.shape}, {sums.shape} do not fit")
        if not (np.isfinite(goals).all() and np.isfinite(sums).all() and np.isfinite(earlier).all()):
            raise ValueError("calibration: a sum is not finite")
        if (earlier < 0).any():
            raise ValueError("calibration: a sum by earlier impressions is negative")
        self._goals[...] = goals
        self._earlier[...] = earlier
        self._campaigns = {
            (int(goal), int(campaign_id)): [float(observed), float(expected)]
            for (goal, campaign_id), (observed, expected) in zip(keys, sums, strict=True)
        }
