"""One scenario on one seed: every method on the same auctions, and each held against the optimum of that day."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from benchmarks.bidding.days import AUCTIONS, Past, draw_day, past_days, platform_records
from benchmarks.bidding.market import TICK_MS, TICKS, Account, Bidder, Shading, Trace, play
from benchmarks.bidding.optimum import Bought, Hindsight, Terms, spend_curve
from benchmarks.bidding.rivals import RIVALS, FixedBids, Plan, RivalBidder, make_plan
from benchmarks.bidding.scenarios import NOON, SCENARIOS, USUAL, Scenario
from benchmarks.bidding.shipped import ShippedBidder
from pacing.clocks import MS_PER_DAY

FloatArray = npt.NDArray[np.float64]

MODES = ("auto", "cap")
PRICES = ("second", "first")
SHIPPED = "fanbid"
METHODS = (SHIPPED, "fixed", *RIVALS)
CAP_BUDGET = 1.25
"""A cost cap's budget, as a multiple of what its target alone would spend on a usual day."""
BOUGHT_SHARE = 0.3
"""What the budget of automatic bidding buys on a usual day, as a share of all events."""
NEAR_PLAN = 0.05
_STAYS_TICKS = 10
_WINDOW_TICKS = 30


@dataclass(frozen=True, slots=True)
class Result:
    """One method's day in one mode.

    Attributes:
        share: true expected events over the optimum's.
        cost_to_target: spend per true expected event over the target; automatic: over the optimum's own cost.
        ks: greatest distance of its spend curve, as a share of its own total, from the optimum's.
        recovery_minutes: after a shock, until its multiplier is as good as back on plan; None: not timed.
        overspend_micros: beyond the budget.
        curve, best_curve: f8[TICKS + 1] spend by the end of each tick, alphas: f8[TICKS]; of reference methods empty.
    """

    scenario: str
    mode: str
    pricing: str
    method: str
    seed: int
    share: float
    cost_to_target: float
    ks: float
    recovery_minutes: float | None
    overspend_micros: float
    curve: FloatArray
    best_curve: FloatArray
    alphas: FloatArray


@lru_cache(maxsize=2)
def _past(usual: str, seed: int, auctions: int) -> Past:
    return past_days(SCENARIOS[usual], seed, auctions)


@lru_cache(maxsize=2)
def _amounts(usual: str, seed: int, auctions: int, first_price: bool) -> tuple[float, float]:
    """Budget and target cost of a usual day: means over the past days."""
    past = _past(usual, seed, auctions)
    found = [_spend_for_share(Hindsight(day, first_price), BOUGHT_SHARE) for day in past.days]
    spend, events = np.mean([f[0] for f in found]), np.mean([f[1] for f in found])
    return float(spend), float(spend / events)


def _spend_for_share(hindsight: Hindsight, share: float) -> tuple[float, float]:
    """Spend and events of the multiplier that buys this share of a day's events."""
    day = hindsight.day
    low, high = -3.0, 3.0
    centre = float(np.log(np.median(day.least_micros / day.probability)))
    for _ in range(16):
        middle = (low + high) / 2
        _, events = hindsight.buy(math.exp(centre + middle))
        low, high = (middle, high) if events.sum() < share * day.probability.sum() else (low, middle)
    spend, events = hindsight.buy(math.exp(centre + low))
    return float(spend.sum()), float(events.sum())


class Case:
    """A scenario drawn from a seed, in first or second price: the day, what is known before it, and the terms."""

    def __init__(self, scenario: Scenario, seed: int, pricing: str, auctions: int = AUCTIONS) -> None:
        self.scenario, self.seed, self.pricing = scenario, seed, pricing
        self.first_price = pricing == "first"
        self._auctions = auctions
        usual = scenario.usual or scenario.name
        self.past = _past(usual, seed, auctions)
        self.known = self.past if scenario.known else None
        self.day = draw_day(scenario, seed, 0, auctions)
        self.budget, self.target = _amounts(usual, seed, auctions, self.first_price)
        self.hindsight = Hindsight(self.day, self.first_price)
        self.shading = Shading(self.day, self.known) if self.first_price else None
        self._plan: Plan | None = None
        self._optima: dict[tuple[str, Terms], Bought] = {}

    def accounts(self) -> list[Account]:
        """Fresh accounts, in the order of MODES."""
        return [
            Account(math.floor(self.budget), 0.0),
            Account(math.floor(CAP_BUDGET * self.budget), float(round(self.target))),
        ]

    def bidder(self, method: str, accounts: Sequence[Account]) -> Bidder:
        """A method, ready for the day."""
        if method == SHIPPED:
            # A sparse campaign runs on a platform like any other, and on a first day nothing was learned.
            records = platform_records(_past(USUAL, self.seed, self._auctions))[: None if self.known else 0]
            return ShippedBidder(self.day, self.first_price, self.known, records, self.scenario.stale_ms)
        if method == "fixed":
            return FixedBids(self.past, self.first_price, accounts)
        if self._plan is None:
            self._plan = make_plan(self.past, self.shading)
        return RivalBidder(RIVALS[method], self._plan, accounts)

    def run(self, method: str) -> list[Result]:
        """One method in every mode."""
        accounts = self.accounts()
        traces = play(self.day, self.scenario, self.bidder(method, accounts), accounts, self.shading)
        return [self._judge(method, mode, trace) for mode, trace in zip(MODES, traces, strict=True)]

    def terms(self, mode: str, trace: Trace) -> Terms:
        """What the optimum may spend: the budget that was in force in the end, and, before an edit, the one before."""
        first = self.accounts()[MODES.index(mode)]
        edited = trace.account.cap_micros != first.cap_micros
        return Terms(
            trace.account.cap_micros,
            first.target_cost_micros,
            first.cap_micros if edited else np.inf,
            round(NOON * MS_PER_DAY) if edited else 0,
        )

    def _judge(self, method: str, mode: str, trace: Trace) -> Result:
        terms = self.terms(mode, trace)
        best = self._optimum(mode, terms)
        spend, events = trace.account.spend_micros, trace.true_events[-1]
        cost = spend / max(events, 1e-12)
        yardstick = terms.target_cost_micros or best.spend_micros.sum() / best.events.sum()
        curve, best_curve = np.array(trace.spend_micros), spend_curve(self.day, best.spend_micros, TICK_MS)
        kept = slice(None) if method == SHIPPED else slice(0, 0)
        return Result(
            scenario=self.scenario.name,
            mode=mode,
            pricing=self.pricing,
            method=method,
            seed=self.seed,
            share=events / float(best.events.sum()),
            cost_to_target=cost / yardstick,
            ks=float(np.abs(curve / max(curve[-1], 1.0) - best_curve / best_curve[-1]).max()),
            recovery_minutes=self._recovery(terms, trace) if self.scenario.shock_at else None,
            overspend_micros=max(spend - trace.account.cap_micros, 0.0),
            curve=curve[kept],
            best_curve=best_curve[kept],
            alphas=np.array(trace.alphas)[kept],
        )

    def _optimum(self, mode: str, terms: Terms) -> Bought:
        key = (mode, terms)
        if key not in self._optima:
            self._optima[key] = self.hindsight.optimum(terms)
        return self._optima[key]

    def _recovery(self, terms: Terms, trace: Trace) -> float:
        """Minutes after the shock until the multiplier in force would bring on the hour to come what the best one for
        the rest of the day would, within 5 %, and for a while: spend, or under a cost cap the cost of an event."""
        start = round(self.scenario.shock_at * TICKS)
        best = self.hindsight.rest(start * TICK_MS, terms, trace.spend_micros[start], trace.true_events[start])
        edges, held = self.day.edges(TICK_MS), 0
        for tick in range(start, TICKS - _WINDOW_TICKS):
            rows = slice(int(edges[tick]), int(edges[tick + _WINDOW_TICKS]))
            wanted = self._measure(terms, *self.hindsight.buy(best, rows))
            got = self._measure(terms, *self.hindsight.buy(trace.alphas[tick], rows, predicted=True))
            held = held + 1 if abs(got / max(wanted, 1.0) - 1) <= NEAR_PLAN else 0
            if held == _STAYS_TICKS:
                return (tick - _STAYS_TICKS + 1 - start) * TICK_MS / 60_000
        return (TICKS - start) * TICK_MS / 60_000

    @staticmethod
    def _measure(terms: Terms, spend_micros: FloatArray, events: FloatArray) -> float:
        spend = float(spend_micros.sum())
        return spend / max(float(events.sum()), 1e-12) if terms.target_cost_micros else spend


def run_case(
    scenario: str,
    seed: int,
    pricing: str,
    methods: Sequence[str] = METHODS,
    auctions: int = AUCTIONS,
    done: Callable[[], None] = lambda: None,
) -> list[Result]:
    """Every method on one case."""
    case = Case(SCENARIOS[scenario], seed, pricing, auctions)
    results: list[Result] = []
    for method in methods:
        results += case.run(method)
        done()
    return results
