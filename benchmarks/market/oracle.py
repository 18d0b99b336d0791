"""What could have been bought, by true probabilities and known rival bids: the yardstick for spend and cost.

Every campaign bids `alpha * v` for every slot, with the one alpha that makes its constraint bind; the best bid wins a
slot at the higher of the rival's bid, the floor and the next creator's bid. With all constraints met this is the
optimum of the linear programme that each campaign faces at those prices: a threshold on price over value. It knows the
whole day and every true probability. The value v of showing a creator to a viewer again is what is left of it: less
with every impression, nothing beyond the frequency cap, and only if the viewer does not follow yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.market.behaviour import KIND_OF_GOAL, REPEAT_LOG_ODDS, Behaviour
from benchmarks.market.traffic import Traffic
from benchmarks.market.world import World
from pacing.facts import Goal

if TYPE_CHECKING:
    from benchmarks.market.campaigns import MarketCampaign

FREQUENCY_CAP = 4
"""The deployment's default: impressions of a creator that a viewer may see in a day."""
SAMPLE_SLOTS = 50_000
SAMPLE_STEPS = 60
FULL_STEPS = 9
NEARLY_ALL = 0.9
_STEP = 0.35
_COST_STEP = 1.5
_MAX_LOG_STEP = 0.5
_MAX_ALPHA_MICROS = 1e13
_TIRED = np.r_[np.exp(REPEAT_LOG_ODDS * np.arange(FREQUENCY_CAP)), 0.0].astype(np.float32)
"""What is left of a value after 0, 1 ... impressions of the same creator."""


@dataclass(frozen=True, slots=True)
class Slots:
    """n slots of a day, grouped by viewer and in time order within each, as C campaigns could have valued them.

    Attributes:
        values: f4[n, C], true probability of the campaign's goal event at the first impression; 0 outside its audience.
        costs_micros: i8[n], least bid that wins against rivals and floor.
        viewer_rows: i8[n], ascending.
        times: i8[n], place of each slot in the order of time, 0 up.
        creator_rows: i8[C].
        ends_with_event: b1[C], whether the event happens once and no more, as a follow does.
    """

    values: np.ndarray
    costs_micros: np.ndarray
    viewer_rows: np.ndarray
    times: np.ndarray
    creator_rows: np.ndarray
    ends_with_event: np.ndarray

    @property
    def size(self) -> int:
        """How many slots."""
        return len(self.costs_micros)

    def of_every(self, stride: int) -> Slots:
        """The slots of every `stride`-th viewer."""
        kept = self.viewer_rows % stride == 0
        return Slots(
            self.values[kept],
            self.costs_micros[kept],
            self.viewer_rows[kept],
            np.argsort(np.argsort(self.times[kept])),
            self.creator_rows,
            self.ends_with_event,
        )


@dataclass(frozen=True, slots=True)
class Optimum:
    """What campaigns get at their best alphas; every field holds one number per campaign, f8[C]."""

    alphas_micros: np.ndarray
    spend_micros: np.ndarray
    events: np.ndarray


@dataclass(frozen=True, slots=True)
class Cleared:
    """One clearing of all slots: spend and expected events f8[C], and who won what, b1[n, C]."""

    spend_micros: np.ndarray
    events: np.ndarray
    won: np.ndarray


def collect_slots(
    world: World,
    behaviour: Behaviour,
    campaigns: Sequence[MarketCampaign],
    traffic: Traffic,
    viewer_stride: int = 1,
) -> Slots:
    """All slots of a day that every `viewer_stride`-th viewer had, with true values and winning costs."""
    from benchmarks.market.campaigns import audience_rows

    wanted = np.stack([audience_rows(world, campaign) for campaign in campaigns], axis=1)
    viewers, values, costs = [], [], []
    for request in traffic:
        kept = request.viewer_rows % viewer_stride == 0
        rows = request.viewer_rows[kept]
        block = np.zeros((len(rows), len(campaigns)), np.float32)
        for k, campaign in enumerate(campaigns):
            creator = np.full(len(rows), campaign.creator_row)
            block[:, k] = behaviour.probability(
                KIND_OF_GOAL[campaign.goal], rows, creator, campaign.mean_quality, request.context
            )
        viewers.append(rows)
        values.append(block * wanted[rows])
        costs.append(np.maximum(request.rivals_micros[kept] + 1, request.floors_micros[kept]))
    viewer_rows = np.concatenate(viewers)
    order = np.argsort(viewer_rows, kind="stable")
    return Slots(
        values=np.concatenate(values)[order],
        costs_micros=np.concatenate(costs)[order],
        viewer_rows=viewer_rows[order],
        times=order,
        creator_rows=np.array([campaign.creator_row for campaign in campaigns], np.int64),
        ends_with_event=np.array([campaign.goal is Goal.FANS for campaign in campaigns]),
    )


def clear(slots: Slots, alphas_micros: np.ndarray, values: np.ndarray | None = None) -> Cleared:
    """Sell every slot when each campaign bids alpha times the value.

    Args:
        alphas_micros: f8[C].
        values: f4[n, C]; default: those of first impressions.
    """
    values = slots.values if values is None else values
    bids = values * alphas_micros.astype(np.float32)
    every = np.arange(slots.size)
    best = bids.argmax(axis=1)
    top = bids[every, best]
    same_creator = slots.creator_rows[:, None] == slots.creator_rows[None, :]
    bids[same_creator[best]] = 0
    paid = np.maximum(slots.costs_micros, bids.max(axis=1))
    sold = (top >= slots.costs_micros) & (top > 0)
    count = len(alphas_micros)
    won = np.zeros(values.shape, bool)
    won[every[sold], best[sold]] = True
    return Cleared(
        spend_micros=np.bincount(best[sold], paid[sold], count),
        events=np.bincount(best[sold], values[every[sold], best[sold]], count),
        won=won,
    )


def remaining_values(slots: Slots, won: np.ndarray) -> np.ndarray:
    """What each slot is worth f4[n, C] after the earlier impressions among `won`, b1[n, C], of the same viewer."""
    first = np.searchsorted(slots.viewer_rows, slots.viewer_rows)
    shown = _sum_before(first, won, np.dtype(np.int32))
    left = slots.values * _TIRED[np.minimum(shown, FREQUENCY_CAP)]
    follows = won & slots.ends_with_event
    log_stays = np.zeros(won.shape, np.float32)
    log_stays[follows] = np.log1p(-np.minimum(left[follows], 0.99))
    gone = _sum_before(first, log_stays, np.dtype(np.float64))
    row, column = np.nonzero(gone < -1e-9)
    left[row, column] *= np.exp(gone[row, column])
    return np.asarray(left, np.float32)


def _sum_before(first: np.ndarray, amounts: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """For each row of amounts [n, C], the sum over earlier rows of its viewer, whose first row is in i8[n]."""
    before = np.zeros((len(amounts) + 1, amounts.shape[1]), dtype)
    np.cumsum(amounts, axis=0, out=before[1:])
    return np.asarray(before[:-1] - before[first])


def equilibrium(slots: Slots, budgets_micros: np.ndarray, targets_micros: np.ndarray) -> Optimum:
    """The alphas at which every campaign's tighter constraint binds, by damped fixed-point steps.

    The steps start on a sample of the viewers, and end on all of them.

    Args:
        budgets_micros: f8[C].
        targets_micros: f8[C], most to pay for an event on average; infinite: no target.
    """
    alphas = np.full(len(budgets_micros), float(slots.costs_micros.mean()))
    alphas /= np.maximum(slots.values.max(axis=0), 1e-9)
    sample = slots.of_every(max(1, slots.size // SAMPLE_SLOTS))
    if sample.size < slots.size:
        share = sample.size / slots.size
        alphas, _ = _settle(sample, budgets_micros * share, targets_micros, alphas, SAMPLE_STEPS)
    alphas, cleared = _settle(
        slots, budgets_micros, targets_micros, alphas, FULL_STEPS if sample.size < slots.size else SAMPLE_STEPS
    )
    within = np.minimum(1.0, budgets_micros / np.maximum(cleared.spend_micros, 1.0))
    spend = cleared.spend_micros * within
    # The steps end a little beside the budget where it is what binds.
    spends_all = np.isinf(targets_micros) & (spend >= NEARLY_ALL * budgets_micros)
    return Optimum(alphas, np.where(spends_all, budgets_micros, spend), cleared.events * within)


def _settle(
    slots: Slots, budgets_micros: np.ndarray, targets_micros: np.ndarray, alphas: np.ndarray, steps: int
) -> tuple[np.ndarray, Cleared]:
    """Alphas after `steps` steps towards the tighter constraint, the last ones smaller; and what they buy.

    What is left of a value follows one step behind what was won.
    """
    cleared = clear(slots, alphas)
    for number in range(steps):
        spend, events = cleared.spend_micros, cleared.events
        to_budget = np.log(budgets_micros / np.maximum(spend, 1.0))
        to_target = _COST_STEP * np.log(targets_micros * np.maximum(events, 1e-9) / np.maximum(spend, 1.0))
        wanted = np.where(spend > 0, np.minimum(to_budget, to_target), _MAX_LOG_STEP)
        size = _STEP * min(1.0, 1.5 * (1 - number / steps))
        step = np.clip(size * wanted, -_MAX_LOG_STEP, _MAX_LOG_STEP)
        alphas = np.minimum(alphas * np.exp(step), _MAX_ALPHA_MICROS)
        cleared = clear(slots, alphas, remaining_values(slots, cleared.won))
    return alphas, cleared
