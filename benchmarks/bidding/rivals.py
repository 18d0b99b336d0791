"""Reference methods: short, honest forms of what is usual. All know the past days, and start where those were best.

They trust predictions as they are, as their papers do. In first price, a multiplier's worth is shaded by the same
landscapes as the shipped controller's. Names of duals: mu of the budget, lambda of the target cost.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.bidding.days import Past
from benchmarks.bidding.market import TICK_MS, TICKS, Account, Offer, Shading, View

FloatArray = npt.NDArray[np.float64]

_GRID = 160
_GRID_SPAN = 2.5
_FLAT_BIDS = 40


@dataclass(frozen=True, slots=True)
class Plan:
    """What past days say of a day, by tick: spend and predicted events f8[J, TICKS] at J multipliers f8[J]."""

    alphas: FloatArray
    spend_micros: FloatArray
    events: FloatArray
    traffic: FloatArray

    def best(self, budget: float, target: float, from_tick: int = 0, spent: float = 0.0, had: float = 0.0) -> float:
        """The largest multiplier that keeps budget and target (0: none) over the rest of the day."""
        cost = self.spend_micros[:, from_tick:].sum(axis=1)
        fits = cost + spent <= budget
        if target:
            fits &= cost + spent <= target * (self.events[:, from_tick:].sum(axis=1) + had)
        best = int(np.flatnonzero(fits)[-1]) if fits.any() else 0
        return float(self.alphas[best])


def make_plan(past: Past, shading: Shading | None) -> Plan:
    """Replay the past days' sample at many multipliers."""
    p = np.concatenate([day.predicted[rows] for day, rows in zip(past.days, past.sample, strict=True)])
    least = np.concatenate([day.least_micros[rows] for day, rows in zip(past.days, past.sample, strict=True)])
    tick = np.concatenate([day.at_ms[rows] // TICK_MS for day, rows in zip(past.days, past.sample, strict=True)])
    whole = sum(day.size for day in past.days)
    weight = whole / len(p) / len(past.days)
    centre = math.log(float(np.median(least / p)))
    alphas = np.exp(centre + np.linspace(-_GRID_SPAN, _GRID_SPAN, _GRID))
    spend, events = np.zeros((2, _GRID, TICKS))
    for j, alpha in enumerate(alphas):
        bids = alpha * p if shading is None else shading.bids(0, alpha * p)
        won = bids >= least
        paid = least if shading is None else bids
        spend[j] = weight * np.bincount(tick, np.where(won, paid, 0), TICKS)
        events[j] = weight * np.bincount(tick, np.where(won, p, 0), TICKS)
    traffic = np.asarray(weight * np.bincount(tick, minlength=TICKS), np.float64)
    return Plan(alphas, _smoothed(spend), _smoothed(events), _smoothed(traffic[None])[0])


def _smoothed(table: FloatArray) -> FloatArray:
    """Means over half hours, since a sample is thin within a tick."""
    width = TICKS // 48
    halves = table.reshape(len(table), 48, width).mean(axis=2)
    return np.repeat(halves, width, axis=1)


class _Rival:
    """One campaign's method; subclasses say how alpha moves from tick to tick."""

    def __init__(self, plan: Plan, account: Account) -> None:
        self.days, self.target = plan, account.target_cost_micros
        self.budget = account.cap_micros
        self.alpha = plan.best(account.cap_micros, self.target)
        self._spend, self._events = 0.0, 0.0

    def offer(self, account: Account, tick: int) -> Offer:
        """The offer until the next tick."""
        spent = account.spend_micros - self._spend
        bought = account.predicted_events - self._events
        self._spend, self._events = account.spend_micros, account.predicted_events
        if tick:
            self.move(account, tick, spent, bought)
        return Offer(alpha=self.alpha)

    def move(self, account: Account, tick: int, spent: float, bought: float) -> None:
        """Set `alpha` by what the last tick brought."""


class Unpaced(_Rival):
    """Target times p, whatever happens; without a target, what an event cost on average at the best of past days."""

    def __init__(self, plan: Plan, account: Account) -> None:
        super().__init__(plan, account)
        j = int(np.searchsorted(plan.alphas, self.alpha))
        average = float(plan.spend_micros[j].sum() / max(plan.events[j].sum(), 1e-12))
        self.alpha = self.target or average


class Pid(_Rival):
    """PID on the log of alpha: one loop keeps spend on the past days' curve, another cost on target; the lower wins.

    Source: the usual industrial form, as in Zhang et al., "Feedback Control of Real-Time Display Advertising", WSDM
        2016.
    """

    gains = (0.3, 0.01, 0.1)

    def __init__(self, plan: Plan, account: Account) -> None:
        super().__init__(plan, account)
        self._base = [plan.best(account.cap_micros, 0.0), plan.best(math.inf, self.target)]
        self._sum, self._last = [0.0, 0.0], [0.0, 0.0]

    def move(self, account: Account, tick: int, spent: float, bought: float) -> None:
        """Both loops, then the lower."""
        traffic = self.days.traffic
        due = account.cap_micros * float(traffic[:tick].sum() / traffic.sum())
        alphas = [self._loop(0, (due - account.spend_micros) / max(due, 0.02 * account.cap_micros))]
        if self.target:
            allowed = self.target * account.predicted_events
            alphas.append(self._loop(1, (allowed - account.spend_micros) / max(allowed, 0.02 * account.cap_micros)))
        self.alpha = min(alphas)

    def _loop(self, loop: int, error: float) -> float:
        error = min(max(error, -1.0), 1.0)
        proportional, integral, derivative = self.gains
        self._sum[loop] += error
        change, self._last[loop] = error - self._last[loop], error
        log_factor = proportional * error + integral * self._sum[loop] + derivative * change
        return self._base[loop] * math.exp(min(max(log_factor, -3.0), 3.0))


class DualDescent(_Rival):
    """Both constraints by mirror descent on their duals with entropy, one step a tick; spend evenly per auction.

    Source: Balseiro, Lu, Mirrokni, "The Best of Many Worlds: Dual Mirror Descent for Online Allocation Problems", 2020;
        with a cost constraint: Feng, Padmanabhan, Wang, "Online Bidding Algorithms for Return-on-Spend Constrained
        Advertisers", 2022.
    """

    rate = 0.6 / math.sqrt(TICKS)

    def __init__(self, plan: Plan, account: Account) -> None:
        super().__init__(plan, account)
        self.mu = 1.0 / plan.best(account.cap_micros, 0.0)
        self.lam = 0.0
        if self.target:
            self.lam = 1.0 / max(plan.best(math.inf, self.target) - self.target, 1e-3 * self.target)
            self.mu *= 0.05  # the target is what binds on past days

    def move(self, account: Account, tick: int, spent: float, bought: float) -> None:
        """One step of both duals."""
        even = account.cap_micros / TICKS
        self.mu *= math.exp(min(max(self.rate * (spent - even) / even, -0.5), 0.5))
        if self.target:
            excess = (spent - self.target * bought) / even
            self.lam *= math.exp(min(max(self.rate * excess, -0.5), 0.5))
        self.alpha = self.combined()

    def combined(self) -> float:
        """Alpha of both duals."""
        return (1 + self.lam * self.target) / (self.mu + self.lam)


class MinPacing(DualDescent):
    """Each constraint has a multiplier of its own, and the smaller bid is made.

    Source: Balseiro et al., "A Field Guide for Pacing Budget and ROS Constraints", ICML 2024.
    """

    def __init__(self, plan: Plan, account: Account) -> None:
        super().__init__(plan, account)
        self.mu = 1.0 / plan.best(account.cap_micros, 0.0)

    def combined(self) -> float:
        """The smaller of the two multipliers."""
        of_budget = 1.0 / self.mu
        return min(of_budget, self.target + 1.0 / self.lam) if self.target else of_budget


class PlanResolve(_Rival):
    """The past days' forecast, unchanged; at every tick solved anew for what is left of budget and target.

    Source: the certainty-equivalent re-solving of Jasin, Kumar, "A Re-Solving Heuristic with Bounded Revenue Loss",
        2012.
    """

    def move(self, account: Account, tick: int, spent: float, bought: float) -> None:
        """Solve the rest of the day."""
        self.alpha = self.days.best(
            account.cap_micros, self.target, tick, account.spend_micros, account.predicted_events
        )


class RivalBidder:
    """One method for each campaign."""

    def __init__(self, method: Callable[[Plan, Account], _Rival], plan: Plan, accounts: Sequence[Account]) -> None:
        self._methods = [method(plan, account) for account in accounts]

    def plan(self, view: View) -> list[Offer]:
        """Ask each campaign's method."""
        return [method.offer(account, view.tick) for method, account in zip(self._methods, view.accounts, strict=True)]


class FixedBids:
    """The one flat bid that bought most on the past days within budget and target."""

    def __init__(self, past: Past, first_price: bool, accounts: Sequence[Account]) -> None:
        p = np.concatenate([day.predicted[rows] for day, rows in zip(past.days, past.sample, strict=True)])
        least = np.concatenate([day.least_micros[rows] for day, rows in zip(past.days, past.sample, strict=True)])
        weight = sum(day.size for day in past.days) / len(past.days) / len(p)
        bids = np.quantile(least, np.linspace(0.02, 0.98, _FLAT_BIDS))
        won = bids[:, None] >= least
        paid = np.where(won, bids[:, None] if first_price else least, 0.0).sum(axis=1) * weight
        bought = (won * p).sum(axis=1) * weight
        self._offers = [self._best(bids, paid, bought, account) for account in accounts]

    @staticmethod
    def _best(bids: FloatArray, paid: FloatArray, bought: FloatArray, account: Account) -> Offer:
        worth = bought * np.minimum(1.0, account.cap_micros / np.maximum(paid, 1.0))
        if account.target_cost_micros:
            worth = np.where(paid <= account.target_cost_micros * bought, worth, -paid / np.maximum(bought, 1e-12))
        return Offer(flat_micros=float(bids[int(np.argmax(worth))]), shaded=False)

    def plan(self, view: View) -> list[Offer]:
        """The same at every tick."""
        return self._offers


RIVALS: dict[str, Callable[[Plan, Account], _Rival]] = {
    "unpaced": Unpaced,
    "pid": Pid,
    "dual_descent": DualDescent,
    "min_pacing": MinPacing,
    "plan_resolve": PlanResolve,
}
"""Methods that move a multiplier, by name."""
