"""The two baselines at their best: one fixed bid, and one multiplier for automatic campaigns, chosen on other seeds.

Choosing replays a day by true probabilities, in time order, with exact budgets and second prices. That flatters the
baselines a little: the engine that then runs them predicts, and pays in first-price slots what it bids.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.market.behaviour import REPEAT_LOG_ODDS
from benchmarks.market.oracle import FREQUENCY_CAP, Slots, collect_slots, equilibrium
from benchmarks.market.run import Market, MarketSettings
from benchmarks.market.traffic import Traffic
from benchmarks.market.world import WorldSettings
from pacing.facts import Goal

FIXED_BIDS = 20
MULTIPLIERS = 20
TUNING_SETTINGS = MarketSettings(slots_per_day=60_000, viewers_per_request=128, world=WorldSettings(viewers=12_000))
FIRST_TUNING_SEED = 9_001
TUNING_SEEDS = 3
_BLOCK = 512


@dataclass(frozen=True, slots=True)
class Baselines:
    """What the baselines bid, in micros."""

    fixed_bid_micros: int
    unpaced_multiplier_micros: int


@dataclass(frozen=True, slots=True)
class _Day:
    slots: Slots
    budgets_micros: np.ndarray
    targets_micros: np.ndarray  # infinite: automatic
    buys_fans: np.ndarray
    alphas_micros: np.ndarray  # of the budget-only optimum


def play_day(
    slots: Slots, budgets_micros: np.ndarray, alphas_micros: np.ndarray, base_micros: float = 0.0
) -> np.ndarray:
    """Expected events f8[C] of bidding `alpha * p + base` for everyone in an audience until the money is gone.

    Bids know nothing of earlier impressions but the frequency cap; what they bring does. Equal bids are decided at
    random, by a fixed seed. A budget ends within the block of slots in which it runs out.

    Args:
        budgets_micros, alphas_micros: f8[C].
        base_micros: added to every bid.
    """
    rng = np.random.default_rng(1)
    count = len(budgets_micros)
    spend, events = np.zeros(count), np.zeros(count)
    seen = np.zeros((int(slots.viewer_rows[-1]) + 1, count))
    stays = np.ones(seen.shape)
    same_creator = slots.creator_rows[:, None] == slots.creator_rows[None, :]
    in_time = np.argsort(slots.times)
    for start in range(0, slots.size, _BLOCK):
        block = in_time[start : start + _BLOCK]
        values, costs, viewers = slots.values[block], slots.costs_micros[block], slots.viewer_rows[block]
        open_to_bid = (values > 0) & (spend < budgets_micros) & (seen[viewers] < FREQUENCY_CAP)
        # Less than a micro of noise settles ties and no amount of money.
        bids = np.where(open_to_bid, values * alphas_micros + base_micros + rng.random(values.shape), 0.0)
        rows = np.arange(len(values))
        best = bids.argmax(axis=1)
        top = bids[rows, best]
        bids[same_creator[best]] = 0
        paid = np.maximum(costs, bids.max(axis=1))
        sold = np.flatnonzero((top >= costs) & (top > 0))
        winner, viewer = best[sold], viewers[sold]
        brought = values[sold, winner] * np.exp(REPEAT_LOG_ODDS * seen[viewer, winner])
        brought *= np.where(slots.ends_with_event[winner], stays[viewer, winner], 1.0)
        np.add.at(seen, (viewer, winner), 1)
        np.multiply.at(stays, (viewer, winner), 1 - brought)
        spent = np.bincount(winner, paid[sold], count)
        share = np.minimum(1.0, (budgets_micros - spend) / np.maximum(spent, 1.0))
        spend += spent * share
        events += np.bincount(winner, brought, count) * share
    return events


def _tuning_day(seed: int, settings: MarketSettings) -> _Day:
    market = Market(seed, settings)
    campaigns = market.campaigns
    slots = collect_slots(market.world, market.behaviour, campaigns, Traffic(market.world, market.spec))
    budgets = np.array([campaign.daily_budget_micros for campaign in campaigns], float)
    return _Day(
        slots=slots,
        budgets_micros=budgets,
        targets_micros=np.array([campaign.target_cost_micros or np.inf for campaign in campaigns], float),
        buys_fans=np.array([campaign.goal is Goal.FANS for campaign in campaigns]),
        alphas_micros=equilibrium(slots, budgets, np.full(len(budgets), np.inf)).alphas_micros,
    )


def _fans_at_fixed_bid(day: _Day, bid_micros: float) -> float:
    events = play_day(day.slots, day.budgets_micros, np.zeros(len(day.budgets_micros)), bid_micros)
    return float(events[day.buys_fans].sum())


def _fans_at_multiplier(day: _Day, multiplier_micros: float) -> float:
    alphas = np.where(np.isfinite(day.targets_micros), day.targets_micros, multiplier_micros)
    return float(play_day(day.slots, day.budgets_micros, alphas)[day.buys_fans].sum())


def tune_baselines(
    avoid_seeds: Sequence[int], count: int = TUNING_SEEDS, settings: MarketSettings = TUNING_SETTINGS
) -> Baselines:
    """The best of 20 fixed bids and of 20 multipliers, by expected fans over `count` seeds, none of `avoid_seeds`."""
    seeds = [seed for seed in range(FIRST_TUNING_SEED, FIRST_TUNING_SEED + 100) if seed not in avoid_seeds]
    days = [_tuning_day(seed, settings) for seed in seeds[:count]]
    costs = np.concatenate([day.slots.costs_micros for day in days])
    bids = np.geomspace(np.quantile(costs, 0.05), np.quantile(costs, 0.98), FIXED_BIDS)
    fans = [sum(_fans_at_fixed_bid(day, bid) for day in days) for bid in bids]
    automatic = np.concatenate([day.alphas_micros[day.buys_fans & ~np.isfinite(day.targets_micros)] for day in days])
    multipliers = np.geomspace(automatic.min() / 1.5, automatic.max() * 1.5, MULTIPLIERS)
    more_fans = [sum(_fans_at_multiplier(day, multiplier) for day in days) for multiplier in multipliers]
    return Baselines(
        fixed_bid_micros=round(float(bids[int(np.argmax(fans))])),
        unpaced_multiplier_micros=round(float(multipliers[int(np.argmax(more_fans))])),
    )
