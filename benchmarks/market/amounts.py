"""Budgets and target costs of the market's campaigns, as creators would choose them from what the day before cost."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from benchmarks.market.behaviour import Behaviour
from benchmarks.market.campaigns import MarketCampaign, bare_campaigns
from benchmarks.market.oracle import Slots, collect_slots, equilibrium
from benchmarks.market.traffic import DaySpec, Traffic
from benchmarks.market.world import World

DESIGN_SLOTS = 40_000
"""Of the day before, about as many are looked at to choose amounts: all that some of the viewers had."""
BUDGET_STEP_MICROS = 1_000_000


def make_campaigns(world: World, behaviour: Behaviour, spec: DaySpec) -> tuple[MarketCampaign, ...]:
    """The campaigns for the day `spec`, priced from the day before it; the same seed gives the same campaigns."""
    bare = bare_campaigns(world)
    stride = max(1, round(spec.slots / DESIGN_SLOTS))
    before = Traffic(world, replace(spec, day=spec.day - 1))
    slots = collect_slots(world, behaviour, bare, before, stride)
    scale = spec.slots / max(slots.size, 1)
    market_micros = float(slots.costs_micros.sum()) * scale
    funded = tuple(
        replace(campaign, daily_budget_micros=_rounded(campaign.template.budget_share * market_micros))
        for campaign in bare
    )
    return _with_targets(funded, slots, scale)


def _rounded(amount_micros: float) -> int:
    return max(1, round(amount_micros / BUDGET_STEP_MICROS)) * BUDGET_STEP_MICROS


def _with_targets(campaigns: tuple[MarketCampaign, ...], slots: Slots, scale: float) -> tuple[MarketCampaign, ...]:
    """Set target costs around what an event costs when everybody spends the whole budget as well as possible."""
    budgets = np.array([campaign.daily_budget_micros for campaign in campaigns]) / scale
    optimum = equilibrium(slots, budgets, np.full(len(campaigns), np.inf))
    costs = optimum.spend_micros / np.maximum(optimum.events, 1e-9)
    return tuple(
        replace(campaign, target_cost_micros=_round_target(campaign.template.target * float(cost)))
        for campaign, cost in zip(campaigns, costs, strict=True)
    )


def _round_target(micros: float) -> int:
    """To two significant digits, as people choose amounts; 0 stays 0."""
    if micros <= 0:
        return 0
    step = 10 ** max(0, int(np.floor(np.log10(micros))) - 1)
    return max(1_000, round(micros / step) * step)
