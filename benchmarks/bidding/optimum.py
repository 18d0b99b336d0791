"""The most that a day could have brought: what every method is measured by.

Second price: the linear program that knows every price. Its solution is a threshold on price over value, so sorting
solves it exactly. First price: the best policy that knows the distribution of each hour's prices but not the draws.
Every impression's bid maximises (alpha p - b) F(b) under one alpha for the day; alpha is what keeps budget and target
on the day's own draws, so luck in the draws is the same for the optimum and for what is measured by it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from auction.landscape.kernels import Landscape, build_envelope, shade_batch
from benchmarks.bidding.days import HOURS, Day, win_probabilities

FloatArray = npt.NDArray[np.float64]

_EDGES_MICROS = np.unique(np.rint(np.geomspace(300, 2_000_000, 1_200)).astype(np.int64))
_BISECTIONS = 26
_LOG_SPAN = 5.0
_STEPS = 101


@dataclass(frozen=True, slots=True)
class Terms:
    """What a campaign may spend.

    Attributes:
        budget_micros: of the day; the last one in force.
        target_cost_micros: 0: automatic bidding.
        early_budget_micros: most that may be spent before `early_until_ms` of the day; infinite: no such limit.
    """

    budget_micros: float
    target_cost_micros: float = 0.0
    early_budget_micros: float = np.inf
    early_until_ms: int = 0


@dataclass(frozen=True, slots=True)
class Bought:
    """Spend and true expected events, by auction.

    Attributes:
        alphas: one multiplier, or two where the early budget binds.
        spend_micros, events: f8[n].
    """

    alphas: tuple[float, ...]
    spend_micros: FloatArray
    events: FloatArray


class Hindsight:
    """Answers what the optimum of one day is under any terms."""

    def __init__(self, day: Day, first_price: bool) -> None:
        self.day, self.first_price = day, first_price

    @cached_property
    def _order(self) -> npt.NDArray[np.int64]:
        return np.argsort(self.day.least_micros / self.day.probability, kind="stable")

    @cached_property
    def _landscape(self) -> Landscape:
        return true_landscape(self.day)

    def bids(self, alpha: float, rows: slice = slice(None), predicted: bool = False) -> npt.NDArray[np.int64]:
        """i8[n]: bids of one multiplier; shaded by the true distributions where the price is the first."""
        day = self.day
        worth = alpha * (day.predicted if predicted else day.probability)[rows]
        if not self.first_price:
            return np.floor(np.minimum(worth, 1e15)).astype(np.int64)
        out = np.zeros(len(worth), np.int64)
        shade_batch(worth, np.zeros_like(out), day.hours[rows].astype(np.int32), self._landscape, out)
        return out

    def buy(self, alpha: float, rows: slice = slice(None), predicted: bool = False) -> tuple[FloatArray, FloatArray]:
        """Spend and true expected events, f8[n] each, of one multiplier without any budget."""
        bids, least = self.bids(alpha, rows, predicted), self.day.least_micros[rows]
        won = bids >= least
        paid = bids if self.first_price else least
        return np.where(won, paid, 0).astype(np.float64), np.where(won, self.day.probability[rows], 0.0)

    def optimum(self, terms: Terms) -> Bought:
        """The best of the day under these terms."""
        whole = self._best(slice(0, self.day.size), terms)
        early = int(np.searchsorted(self.day.at_ms, terms.early_until_ms))
        if not early or whole.spend_micros[:early].sum() <= terms.early_budget_micros:
            return whole
        first = self._best(slice(0, early), replace(terms, budget_micros=terms.early_budget_micros))
        rest = self._best(
            slice(early, self.day.size), terms, float(first.spend_micros.sum()), float(first.events.sum())
        )
        return Bought(
            (*first.alphas, *rest.alphas),
            np.concatenate([first.spend_micros, rest.spend_micros]),
            np.concatenate([first.events, rest.events]),
        )

    def rest(self, from_ms: int, terms: Terms, spend_micros: float, events: float) -> float:
        """The multiplier that is best from an instant of the day on, after what has been spent and bought by then."""
        start = int(np.searchsorted(self.day.at_ms, from_ms))
        return self._best(slice(start, self.day.size), terms, spend_micros, events).alphas[0]

    def _best(self, rows: slice, terms: Terms, spent: float = 0.0, had: float = 0.0) -> Bought:
        budget = max(terms.budget_micros - spent, 0.0)
        slack = terms.target_cost_micros * had - spent if terms.target_cost_micros else np.inf
        if self.first_price:
            return self._best_shaded(rows, budget, terms.target_cost_micros, slack)
        return self._best_prefix(rows, budget, terms.target_cost_micros, slack)

    def _cheapest(self, rows: slice, target: float, steps: FloatArray) -> int:
        """Which of these logs of multipliers comes nearest to the target: the excess over it is least."""
        bought = [self.buy(float(np.exp(step)), rows) for step in steps]
        return int(np.argmin([float(spend.sum()) - target * float(events.sum()) for spend, events in bought]))

    def _best_prefix(self, rows: slice, budget: float, target: float, slack: float) -> Bought:
        """Cheapest per event first, as far as both constraints reach; the last auction in part."""
        order = self._order[(self._order >= rows.start) & (self._order < rows.stop)]
        cost, value = self.day.least_micros[order].astype(np.float64), self.day.probability[order]
        share = _affordable(cost, budget)
        if target:
            share = np.minimum(share, _affordable(cost - target * value, slack))
        last = max(int(np.count_nonzero(share)) - 1, 0)
        alpha = float(cost[last] / value[last]) if len(cost) else 0.0
        spend, events = np.zeros((2, rows.stop - rows.start))
        spend[order - rows.start], events[order - rows.start] = cost * share, value * share
        return Bought((alpha,), spend, events)

    def _best_shaded(self, rows: slice, budget: float, target: float, slack: float) -> Bought:
        def fits(alpha: float) -> bool:
            spend, events = self.buy(alpha, rows)
            total = float(spend.sum())
            return total <= budget and (not target or total - target * float(events.sum()) <= slack)

        centre = float(np.log(np.median(self.day.least_micros / self.day.probability)))
        low, high = centre - _LOG_SPAN, centre + _LOG_SPAN
        if slack < 0:  # over target so far: only enough of what is cheaper brings that back
            steps = np.linspace(low, high, _STEPS)
            fitting = np.flatnonzero([fits(float(np.exp(step))) for step in steps])
            if len(fitting):
                low, high = float(steps[fitting[-1]]), float(steps[min(fitting[-1] + 1, _STEPS - 1)])
            else:
                low = high = float(steps[self._cheapest(rows, target, steps)])
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            low, high = (middle, high) if fits(float(np.exp(middle))) else (low, middle)
        alpha = float(np.exp(low))
        return Bought((alpha,), *self.buy(alpha, rows))


def _affordable(amounts: FloatArray, limit: float) -> FloatArray:
    """f8[n]: share of each item, taken in order, until their sum has passed `limit` for the last time."""
    total = np.cumsum(amounts)
    fits = np.flatnonzero(total <= limit)
    last = int(fits[-1]) if len(fits) else -1
    share = (np.arange(len(amounts)) <= last).astype(np.float64)
    if last + 1 < len(amounts) and amounts[last + 1] > 0:
        share[last + 1] = (limit - (total[last] if last >= 0 else 0.0)) / amounts[last + 1]
    return np.clip(share, 0.0, 1.0)


def true_landscape(day: Day) -> Landscape:
    """One landscape for each hour, of the distribution from which its prices were drawn."""
    edges = _EDGES_MICROS
    win = win_probabilities(day, edges.astype(np.float64))
    starts, bids = np.zeros((HOURS, len(edges) + 1)), np.zeros((HOURS, len(edges) + 1), np.int64)
    counts = np.array([build_envelope(edges, win[hour], starts[hour], bids[hour]) for hour in range(HOURS)], np.int32)
    return Landscape(edges, win, counts, starts, bids)


def spend_curve(day: Day, spend_micros: FloatArray, step_ms: int) -> FloatArray:
    """f8[steps + 1]: what was spent by the end of each step, from 0."""
    total = np.concatenate([[0.0], np.cumsum(spend_micros)])
    return np.asarray(total[day.edges(step_ms)], np.float64)
