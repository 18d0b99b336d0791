"""What could have been bought, by true probabilities and known rival bids: the yardstick for spend and cost.

Every campaign bids `alpha * p` for every slot, with the one alpha that makes its constraint bind; the best bid wins a
slot at the higher of the rival's bid, the floor and the next creator's bid. With all constraints met this is the
optimum of the linear programme that each campaign faces at those prices: a threshold on price over p. It knows the
whole day. It ignores frequency caps and that a viewer who followed will not follow again, so nobody reaches all of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.market.behaviour import KIND_OF_GOAL, Behaviour
from benchmarks.market.traffic import Traffic
from benchmarks.market.world import World

if TYPE_CHECKING:
    from benchmarks.market.campaigns import MarketCampaign

SAMPLE_SLOTS = 40_000
SAMPLE_STEPS = 90
FULL_STEPS = 20
_STEP = 0.35
_COST_STEP = 1.5
_MAX_LOG_STEP = 0.5
_MAX_ALPHA_MICROS = 1e13


@dataclass(frozen=True, slots=True)
class Slots:
    """Every slot of a day, as each campaign could have valued it.

    Attributes:
        values: f4[slots, campaigns], true probability of the campaign's goal event; 0 outside its audience.
        costs_micros: i8[slots], least bid that wins against rivals and floor.
        creator_rows: i8[campaigns].
    """

    values: np.ndarray
    costs_micros: np.ndarray
    creator_rows: np.ndarray

    @property
    def size(self) -> int:
        """How many slots."""
        return len(self.costs_micros)


@dataclass(frozen=True, slots=True)
class Optimum:
    """What campaigns get at their best alphas; every field holds one number per campaign, f8[campaigns]."""

    alphas_micros: np.ndarray
    spend_micros: np.ndarray
    events: np.ndarray


def collect_slots(world: World, behaviour: Behaviour, campaigns: Sequence[MarketCampaign], traffic: Traffic) -> Slots:
    """All slots of a day with true values and winning costs."""
    from benchmarks.market.campaigns import audience_rows

    wanted = np.stack([audience_rows(world, campaign) for campaign in campaigns], axis=1)
    values, costs = [], []
    for request in traffic:
        rows = request.viewer_rows
        block = np.zeros((len(rows), len(campaigns)), np.float32)
        for k, campaign in enumerate(campaigns):
            creator = np.full(len(rows), campaign.creator_row)
            block[:, k] = behaviour.probability(
                KIND_OF_GOAL[campaign.goal], rows, creator, campaign.mean_quality, request.context
            )
        values.append(block * wanted[rows])
        costs.append(np.maximum(request.rivals_micros + 1, request.floors_micros))
    creator_rows = np.array([campaign.creator_row for campaign in campaigns], np.int64)
    return Slots(np.concatenate(values), np.concatenate(costs), creator_rows)


def clear(slots: Slots, alphas_micros: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Spend in micros and expected events, each f8[campaigns], when every campaign bids alpha times its true value."""
    bids = slots.values * alphas_micros.astype(np.float32)
    every = np.arange(slots.size)
    best = bids.argmax(axis=1)
    top = bids[every, best]
    same_creator = slots.creator_rows[:, None] == slots.creator_rows[None, :]
    bids[same_creator[best]] = 0
    paid = np.maximum(slots.costs_micros, bids.max(axis=1))
    won = (top >= slots.costs_micros) & (top > 0)
    count = len(alphas_micros)
    spend = np.bincount(best[won], paid[won], count)
    events = np.bincount(best[won], slots.values[every[won], best[won]], count)
    return spend, events


def equilibrium(slots: Slots, budgets_micros: np.ndarray, targets_micros: np.ndarray) -> Optimum:
    """The alphas at which every campaign's tighter constraint binds, by damped fixed-point steps.

    The steps start on a sample of the slots, and end on all of them.

    Args:
        budgets_micros: f8[campaigns].
        targets_micros: f8[campaigns], most to pay for an event on average; infinite: no target.
    """
    alphas = np.full(len(budgets_micros), float(slots.costs_micros.mean()))
    alphas /= np.maximum(slots.values.max(axis=0), 1e-9)
    stride = max(1, slots.size // SAMPLE_SLOTS)
    sample = Slots(slots.values[::stride], slots.costs_micros[::stride], slots.creator_rows)
    alphas = _settle(sample, budgets_micros * sample.size / slots.size, targets_micros, alphas, SAMPLE_STEPS)
    if stride > 1:
        alphas = _settle(slots, budgets_micros, targets_micros, alphas, FULL_STEPS)
    spend, events = clear(slots, alphas)
    within = np.minimum(1.0, budgets_micros / np.maximum(spend, 1.0))
    return Optimum(alphas, spend * within, events * within)


def _settle(
    slots: Slots, budgets_micros: np.ndarray, targets_micros: np.ndarray, alphas: np.ndarray, steps: int
) -> np.ndarray:
    """Alphas after `steps` steps, each smaller than the one before, towards the tighter constraint."""
    for number in range(steps):
        spend, events = clear(slots, alphas)
        to_budget = np.log(budgets_micros / np.maximum(spend, 1.0))
        to_target = _COST_STEP * np.log(targets_micros * np.maximum(events, 1e-9) / np.maximum(spend, 1.0))
        wanted = np.where(spend > 0, np.minimum(to_budget, to_target), _MAX_LOG_STEP)
        size = _STEP / (1 + number / (0.3 * steps))
        alphas = np.minimum(alphas * np.exp(np.clip(size * wanted, -_MAX_LOG_STEP, _MAX_LOG_STEP)), _MAX_ALPHA_MICROS)
    return alphas
