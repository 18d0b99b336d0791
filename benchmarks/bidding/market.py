"""One simulated day: a bidder says what an event is worth, auctions are cleared, events come back late."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from auction.landscape.kernels import Landscape, shade_batch
from auction.landscape.landscape import LandscapeLearner, landscape_idx
from auction.services import CONTROL_PERIOD_MS, VIRTUAL_STRETCH
from benchmarks.bidding.days import DAY_START_MS, HOURS, Day, Past
from benchmarks.bidding.scenarios import Scenario
from pacing.clocks import MS_PER_DAY
from pacing.facts import FEEDBACK, AuctionType

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

TICK_MS = CONTROL_PERIOD_MS * VIRTUAL_STRETCH
TICKS = MS_PER_DAY // TICK_MS
_OUT_OF_REACH = 10**15
_NONE = np.zeros(0, np.int64)
_LEAF_OF_HOUR = np.concatenate([landscape_idx(np.zeros(1), np.zeros(1), hour) for hour in range(HOURS)])


@dataclass(frozen=True, slots=True)
class Offer:
    """How a campaign bids until the next tick: alpha * p + flat; shaded in first price, unless it says not to be."""

    alpha: float = 0.0
    flat_micros: float = 0.0
    shaded: bool = True


@dataclass(slots=True)
class Account:
    """What one campaign has spent and bought so far.

    Attributes:
        cap_micros: budget in force.
        predicted_events: sum of predictions over impressions won.
        arrived_events: goal events told so far.
    """

    cap_micros: float
    target_cost_micros: float
    spend_micros: float = 0.0
    predicted_events: float = 0.0
    arrived_events: int = 0


@dataclass(frozen=True, slots=True)
class Played:
    """What one campaign saw of the stretch between two ticks.

    Attributes:
        rows: slice of the day's auctions.
        bids_micros: i8[m]. won: b1[m]. paid_micros: i8[m], 0 where lost.
        delays_ms: i8[e] of the goal events told in it, how long after their impressions they came.
    """

    rows: slice
    offer: Offer
    bids_micros: IntArray
    won: npt.NDArray[np.bool_]
    paid_micros: IntArray
    delays_ms: IntArray


@dataclass(frozen=True, slots=True)
class View:
    """What a bidder is told at a tick: the accounts (perhaps late), and everything that the last stretch showed."""

    tick: int
    now_ms: int
    accounts: Sequence[Account]
    played: Sequence[Played]


class Bidder(Protocol):
    """A method under test; it plans for all campaigns at once."""

    def plan(self, view: View) -> Sequence[Offer]:
        """Offers of all campaigns until the next tick."""


@dataclass(slots=True)
class Trace:
    """A campaign's day: sums at each tick, f8[TICKS + 1], and the multipliers in force, f8[TICKS]."""

    account: Account
    spend_micros: list[float] = field(default_factory=lambda: [0.0])
    true_events: list[float] = field(default_factory=lambda: [0.0])
    alphas: list[float] = field(default_factory=list)


class Shading:
    """The shipped landscape learner over one day. What it learns does not depend on who bids, as losers are told the
    least winning bid too, so one pass serves every method."""

    def __init__(self, day: Day, past: Past | None) -> None:
        self.landscapes: list[Landscape] = []
        learner = LandscapeLearner()
        if past is not None:
            for earlier, rows in zip(past.days, past.sample, strict=True):
                learner.observe(_price_rows(earlier.least_micros[rows], earlier.hours[rows]))
        edges, hours = day.edges(TICK_MS), day.hours
        for tick in range(TICKS):
            self.landscapes.append(learner.snapshot())
            fresh = slice(edges[tick], edges[tick + 1])
            learner.observe(_price_rows(day.least_micros[fresh], hours[fresh]))

    def bids(self, tick: int, worth: FloatArray) -> IntArray:
        """i8[m]: worths, shaded as the engine shades them at this tick."""
        out = np.zeros(len(worth), np.int64)
        idx = _leaves(np.full(len(worth), tick * HOURS // TICKS))
        shade_batch(worth, np.zeros_like(out), idx, self.landscapes[tick], out)
        return out


def _leaves(hours: IntArray) -> npt.NDArray[np.int32]:
    return _LEAF_OF_HOUR[hours]


def _price_rows(least_micros: IntArray, hours: IntArray) -> npt.NDArray[np.void]:
    rows = np.zeros(len(least_micros), FEEDBACK)
    rows["at"] = AuctionType.FIRST_PRICE
    rows["bid_micros"] = 1
    rows["min_bid_to_win_micros"] = least_micros
    rows["landscape_idx"] = _leaves(hours)
    return rows


def play(
    day: Day, scenario: Scenario, bidder: Bidder, accounts: Sequence[Account], shading: Shading | None
) -> list[Trace]:
    """Play a day; each campaign alone in the market.

    Args:
        accounts: of the campaigns, as the day begins.
        shading: None: second price.
    """
    traces = [Trace(account) for account in accounts]
    first_caps = [account.cap_micros for account in accounts]
    edges = day.edges(TICK_MS)
    arrives_tick = (day.at_ms + day.delay_ms) // TICK_MS
    due: list[list[list[IntArray]]] = [[[] for _ in range(TICKS)] for _ in accounts]
    played: list[Played] = []
    seen = [[replace(account) for account in accounts]]
    lag = -(-scenario.stale_ms // TICK_MS)
    for tick in range(TICKS):
        for account, first_cap in zip(accounts, first_caps, strict=True):
            _edit_budget(account, first_cap, scenario, tick)
        seen.append([replace(account) for account in accounts])
        late = _late(seen, lag)
        offers = bidder.plan(View(tick, DAY_START_MS + tick * TICK_MS, late, played))
        rows = slice(int(edges[tick]), int(edges[tick + 1]))
        played = [
            _clear(day, rows, offer, account, tick, shading) for offer, account in zip(offers, accounts, strict=True)
        ]
        for k, (part, account, trace) in enumerate(zip(played, accounts, traces, strict=True)):
            _schedule(day, rows, part.won, arrives_tick, due[k])
            delays_ms = np.concatenate([_NONE, *due[k][tick]])
            played[k] = replace(part, delays_ms=delays_ms)
            account.arrived_events += len(delays_ms)
            account.spend_micros += float(part.paid_micros.sum())
            account.predicted_events += float(day.predicted[rows][part.won].sum())
            trace.spend_micros.append(account.spend_micros)
            trace.true_events.append(trace.true_events[-1] + float(day.probability[rows][part.won].sum()))
            trace.alphas.append(part.offer.alpha)
    return traces


def _schedule(
    day: Day, rows: slice, won: npt.NDArray[np.bool_], arrives_tick: IntArray, due: list[list[IntArray]]
) -> None:
    """Put the events of impressions that were won where they will be told; what comes after the day is never told."""
    fired = np.flatnonzero(won & day.converts[rows]) + rows.start
    for tick in np.unique(arrives_tick[fired]).tolist():
        if tick < TICKS:
            due[tick].append(day.delay_ms[fired[arrives_tick[fired] == tick]])


def _late(seen: list[list[Account]], lag: int) -> list[Account]:
    """The accounts of `lag` ticks ago, with the caps of now."""
    old = seen[max(len(seen) - 1 - lag, 0)]
    for account, now in zip(old, seen[-1], strict=True):
        account.cap_micros = now.cap_micros
    return old


def _edit_budget(account: Account, first_cap: float, scenario: Scenario, tick: int) -> None:
    if scenario.halves_rest_at:
        if tick == round(scenario.halves_rest_at * TICKS):
            account.cap_micros = account.spend_micros + (account.cap_micros - account.spend_micros) / 2
        return
    account.cap_micros = first_cap * float(scenario.budget(np.array([tick / TICKS]))[0])


def _clear(day: Day, rows: slice, offer: Offer, account: Account, tick: int, shading: Shading | None) -> Played:
    """Sell a stretch of auctions to one campaign, until its money ends."""
    worth = offer.alpha * day.predicted[rows] + offer.flat_micros
    if shading is None or not offer.shaded:
        bids = np.floor(np.minimum(worth, _OUT_OF_REACH)).astype(np.int64)
    else:
        bids = shading.bids(tick, worth)
    least = day.least_micros[rows]
    won = bids >= least
    paid = np.where(won, least if shading is None else bids, 0)
    won &= np.cumsum(paid) <= account.cap_micros - account.spend_micros
    return Played(rows, offer, bids, won, np.where(won, paid, 0), _NONE)
