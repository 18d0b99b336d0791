"""What a fan may become, in bids: of campaigns to which a fan of a high tier is worth more than another.

Such a campaign maximises the sum of u and keeps its cost to C times the sum of v, where v counts kept fans and
u = v r, r = 1 + (worth - 1) h, with h the probability that a kept fan rises to a high tier. With the duals mu of its
budget and lambda of its cost, the most to bid is (u + lambda C v) / (mu + lambda): alpha times
(r + lambda C) / (1 + lambda C) for each expected kept fan. So the target stays one per kept fan, counted in heads; the
tighter it binds, the less a tier matters; and with automatic bidding (lambda = 0) it is r alone.

Alpha is what pacing finds, and it need not know of r: r is divided by the campaign's own running mean, over the viewers
that it could bid for, weighted by v. So the multipliers are 1 on average, alpha stays the worth of one kept fan, and
neither a changed worth nor a tier model that learns moves a bid level that pacing would have to find again.
"""

from __future__ import annotations

import numpy as np

from auction.learning import Learner
from auction.predictor.predictor import Predictor
from pacing.clocks import MS_PER_HOUR

_HALF_LIFE_MS = 2 * MS_PER_HOUR  # of the mean: long beside what pacing takes to settle, short beside what tiers take
KEPT_MS = 12 * _HALF_LIFE_MS
"""A campaign without supply for a day is forgotten: of what was measured, less than a thousandth would count beside a
mean measured since. One that ended, or asks no longer, leaves nothing behind, and one that goes on after a pause is
measured anew within a round."""
_FORGET_PERIOD_MS = MS_PER_HOUR
_SHARE_STEP = 0.05  # of the way to each new plan: where budget and target both nearly bind, plans go to and fro


class TierUplift:
    """Keeps, for each campaign that asks, the mean of h and how far bids follow it: of those that could bid for anybody
    within a day. One thread at a time."""

    def __init__(self, learner: Learner, predictor: Predictor) -> None:
        self._learner = learner
        self._predictor = predictor
        self._sums: dict[int, tuple[float, float, int]] = {}  # of v and v h, as of an instant
        self._shares: dict[int, float] = {}  # 1 / (1 + lambda C)
        self._forgot_at_ms = 0

    def __len__(self) -> int:
        """How many campaigns anything is kept of."""
        return len(self._sums.keys() | self._shares.keys())

    def columns(self, campaign_ids: np.ndarray, worths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Columns rise_calibration and uplifts of `auction.bid.columns.CampaignColumns` for C campaigns.

        Both are empty while no tier was ever told, or no campaign asks. A campaign bids without uplift until its mean
        is measured and it has been planned.

        Args:
            campaign_ids: u8[C].
            worths: f8[C], how many plain fans a fan of a high tier is worth; 1: a fan is a fan.
        """
        asking = np.flatnonzero(worths > 1.0)
        if not len(asking) or not self._learner.kept_fans.knows_tiers:
            return np.zeros(0), np.zeros((0, 2))
        rise_calibration, uplifts = np.zeros(len(worths)), np.tile([1.0, 0.0], (len(worths), 1))
        rise_calibration[asking] = self._predictor.rise_factors(campaign_ids[asking])
        for position, campaign_id in zip(asking.tolist(), campaign_ids[asking].tolist(), strict=True):
            mean, share = self.mean(campaign_id), self._shares.get(campaign_id)
            if mean is not None and share is not None:
                more = float(worths[position]) - 1.0
                mean_worth = 1.0 + more * mean
                uplifts[position] = 1.0 - share + share / mean_worth, share * more / mean_worth
        return rise_calibration, uplifts

    def mean(self, campaign_id: int) -> float | None:
        """Mean of h over the campaign's viewers, weighted by v; None: nothing was measured."""
        sums = self._sums.get(campaign_id)
        return None if sums is None or sums[0] <= 0.0 else min(sums[1] / sums[0], 1.0)

    def count(self, campaign_ids: np.ndarray, expected: np.ndarray, rises: np.ndarray, now_ms: int) -> None:
        """Take in the supply of campaigns that ask: sums of v and of v h since the last time, u8[n], f8[n], f8[n]."""
        for campaign_id, v, of_high in zip(campaign_ids.tolist(), expected.tolist(), rises.tolist(), strict=True):
            if v > 0.0:
                before, before_high, at_ms = self._sums.get(campaign_id, (0.0, 0.0, now_ms))
                keep = 0.5 ** (max(now_ms - at_ms, 0) / _HALF_LIFE_MS)
                self._sums[campaign_id] = keep * before + v, keep * before_high + of_high, now_ms
        if abs(now_ms - self._forgot_at_ms) >= _FORGET_PERIOD_MS:
            self._forgot_at_ms = now_ms
            self._forget(now_ms)

    def _forget(self, now_ms: int) -> None:
        """Let campaigns go that had no supply for long; those that are planned again come back with their next plan."""
        self._sums = {i: sums for i, sums in self._sums.items() if now_ms - sums[2] < KEPT_MS}
        self._shares = {i: share for i, share in self._shares.items() if i in self._sums}

    def note_plans(self, campaign_ids: np.ndarray, cost_weights: np.ndarray) -> None:
        """Take in how much the target cost weighs beside the budget in new plans: lambda C, u8[n], f8[n]."""
        for campaign_id, weight in zip(campaign_ids.tolist(), cost_weights.tolist(), strict=True):
            share = 1.0 / (1.0 + weight)
            before = self._shares.get(campaign_id, share)
            self._shares[campaign_id] = before + _SHARE_STEP * (share - before)
