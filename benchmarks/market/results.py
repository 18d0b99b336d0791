"""What a campaign got for its money in one run, as the engine reports it and as the market knows it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

from scipy import stats

from pacing.facts import Goal

INTERVAL = 0.95


@dataclass(frozen=True, slots=True)
class CampaignResult:
    """One campaign after a run.

    Attributes:
        charged_micros: what the engine's statement says.
        market_micros: prices of the impressions that the engine accepted, summed by the market.
        over_delivered_micros: accepted, but not charged.
        events: goal events that the engine attributed.
        true_events: goal events that its impressions truly caused, late ones too.
        expected_events: sum of true probabilities over its impressions.
        predicted_events: the same by the engine's own predictions.
        optimum_micros: what the budget-only optimum spends; 0: not computed.
        optimum_events: expected events of that optimum.
        constrained_micros, constrained_events: the same for the optimum that keeps to the target cost too.
    """

    name: str
    campaign_id: int
    goal: Goal
    is_target_cost: bool
    is_tight: bool
    budget_micros: int
    target_cost_micros: int
    charged_micros: int
    market_micros: int
    over_delivered_micros: int
    bids: int
    impressions: int
    events: int
    true_events: int
    expected_events: float
    predicted_events: float
    optimum_micros: float = 0.0
    optimum_events: float = 0.0
    constrained_micros: float = 0.0
    constrained_events: float = 0.0

    @property
    def overspend_micros(self) -> int:
        """Charged beyond the budget; never below 0."""
        return max(0, self.charged_micros - self.budget_micros)

    @property
    def unexplained_micros(self) -> int:
        """Difference between what was charged and over-delivered and what the market saw accepted."""
        return self.charged_micros + self.over_delivered_micros - self.market_micros

    @property
    def expected_cost_micros(self) -> float | None:
        """Charged per truly expected goal event."""
        return self.charged_micros / self.expected_events if self.expected_events > 0 else None

    @property
    def cost_micros(self) -> float | None:
        """Charged per goal event that the engine attributed."""
        return self.charged_micros / self.events if self.events else None

    @property
    def expected_cost_to_target(self) -> float | None:
        """Expected cost over target; None for automatic bidding, or when nothing was bought."""
        cost = self.expected_cost_micros
        return None if cost is None or not self.target_cost_micros else cost / self.target_cost_micros

    def cost_interval_micros(self) -> tuple[float, float] | None:
        """Range of cost per event that the count of events is consistent with (exact Poisson, Garwood 1936)."""
        if not self.events:
            return None
        tail = (1 - INTERVAL) / 2
        fewest = stats.chi2.ppf(tail, 2 * self.events) / 2
        most = stats.chi2.ppf(1 - tail, 2 * self.events + 2) / 2
        return self.charged_micros / most, self.charged_micros / fewest


@dataclass(frozen=True, slots=True)
class MarketResult:
    """One run of one seed under one policy.

    Attributes:
        refused_rows: report rows that the engine did not accept, by kind and status.
        no_bids: slots without a bid, by reason code.
        elapsed_s: real time; not part of `digest`.
        engine_s: of it, waiting for the engine.
    """

    seed: int
    policy: str
    campaigns: tuple[CampaignResult, ...]
    requests: int
    slots: int
    refused_rows: dict[str, int]
    no_bids: dict[str, int]
    elapsed_s: float
    engine_s: float

    def digest(self) -> str:
        """A hash of every figure that must be the same when the seed is."""
        figures = asdict(self)
        del figures["elapsed_s"], figures["engine_s"]
        text = json.dumps(figures, sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()

    def fans(self, expected: bool = True) -> float:
        """Fans of all campaigns that buy fans: by true probabilities, or as truly drawn."""
        chosen = [campaign for campaign in self.campaigns if campaign.goal is Goal.FANS]
        return float(sum(c.expected_events if expected else c.true_events for c in chosen))
