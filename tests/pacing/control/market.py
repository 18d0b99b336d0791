"""A small market to run the controller in: known values and thresholds, and the optimum that knows them all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from pacing.clocks import MS_PER_DAY
from pacing.control.history import MarketHistory
from pacing.control.pacer import Pacer
from pacing.facts import FEEDBACK, PACING_ACCOUNT, AuctionType

DAY_START_MS = 20_000 * MS_PER_DAY
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Day:
    """One day's auctions: when (share of the day, ascending), value, and the least bid that wins, micros."""

    at_share: FloatArray
    probability: FloatArray
    threshold: FloatArray


def draw_day(
    seed: int,
    auctions: int = 24_000,
    traffic: Callable[[FloatArray], FloatArray] | None = None,
    price_at: Callable[[FloatArray], FloatArray] | None = None,
    ratio_sd: float = 0.7,
) -> Day:
    """A day with traffic and mean price by the share of the day; p log-normal around 0.02, 20,000 micros a slot."""
    rng = np.random.default_rng(seed)
    grid = np.linspace(0, 1, 1_001)
    density = np.ones(1_001) if traffic is None else traffic(grid)
    cumulative = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2)])
    at = np.sort(np.interp(rng.random(auctions), cumulative / cumulative[-1], grid))
    probability = 0.02 * np.exp(0.5 * rng.standard_normal(auctions))
    mean = 20_000 * (np.ones(auctions) if price_at is None else price_at(at))
    threshold = mean * np.exp(ratio_sd * rng.standard_normal(auctions))
    return Day(at, probability, np.maximum(threshold, 1.0))


def diurnal(at: FloatArray) -> FloatArray:
    """Traffic that is low at night and high in the evening."""
    return 1 + 0.8 * np.sin(2 * np.pi * (at - 0.4))


def dear_mornings(at: FloatArray) -> FloatArray:
    """Prices that are high when traffic is low."""
    return np.exp(-0.4 * np.sin(2 * np.pi * (at - 0.4)))


def history_of(days: list[Day], buckets: int = 48, group: int = 3) -> MarketHistory:
    """Past days as a history."""
    bucket = np.concatenate([np.minimum((d.at_share * buckets).astype(np.int64), buckets - 1) for d in days])
    day = np.concatenate([np.full(len(d.at_share), i) for i, d in enumerate(days)])
    impressions = np.zeros((len(days), buckets))
    np.add.at(impressions, (day, bucket), 1)
    return MarketHistory(
        day=day,
        bucket=bucket,
        group=np.full(len(day), group),
        series=np.zeros(len(day), np.int64),
        probability=np.concatenate([d.probability for d in days]),
        prices_micros=np.concatenate([d.threshold for d in days])[:, None],
        exposure=np.ones(1),
        impressions=impressions,
    )


def optimum(day: Day, budget: float, target: float) -> float:
    """Most expected events for at most `budget` and `target` per event (0: none), second price, fractional."""
    order = np.argsort(day.threshold / day.probability)
    value, cost = np.cumsum(day.probability[order]), np.cumsum(day.threshold[order])
    best = float(np.interp(budget, np.append(0, cost), np.append(0, value)))
    if target > 0:
        excess = cost - target * value
        fits = np.flatnonzero(excess <= 0)
        best = min(best, float(value[fits[-1]])) if len(fits) else 0.0
    return best


@dataclass
class Run:
    """What a day of pacing came to."""

    events: float = 0.0
    spend: float = 0.0
    alphas: list[float] = field(default_factory=list)
    spends: list[float] = field(default_factory=list)

    @property
    def cost(self) -> float:
        """Micros per expected event."""
        return self.spend / max(self.events, 1e-12)


def account(budget: float, target: float, day: int = 0, campaign_id: int = 7, group: int = 3) -> npt.NDArray[np.void]:
    """PACING_ACCOUNT[1] at the start of a day."""
    row = np.zeros(1, PACING_ACCOUNT)
    row["campaign_id"], row["history_group"] = campaign_id, group
    row["target_cost_micros"] = target
    row["day_start_at_ms"] = DAY_START_MS + day * MS_PER_DAY
    row["day_end_at_ms"] = DAY_START_MS + (day + 1) * MS_PER_DAY
    row["start_at_ms"] = DAY_START_MS
    row["day_cap_micros"] = budget
    row["flight_cap_micros"] = 10**13
    row["events_ratio"] = 1.0
    return row


def run_day(
    pacer: Pacer,
    day: Day,
    budget: float,
    target: float = 0.0,
    ticks: int = 288,
    *,
    number: int = 0,
    told: str = "full",
    first_price_shade: float = 0.0,
    budget_at: Callable[[float], float] | None = None,
    begin: float = 0.0,
    flight_spent: float = 0.0,
    flight_cap: float = 1e13,
    end_days: int = 0,
) -> Run:
    """Run one campaign through a day, `ticks` times re-planned; spend stops at the budget, auction by auction.

    Args:
        told: "full": every auction tells its threshold; "won": only wins do; "nothing": not even those.
        first_price_shade: 0: second price; else the bid is this share of alpha * p and is what a win pays.
        budget_at: the budget in force at a share of the day, where it is edited.
        begin: share of the day at which the campaign joins.
    """
    row, run = account(budget, target, number), Run()
    row["flight_cap_micros"] = flight_cap
    if end_days:
        row["end_at_ms"] = DAY_START_MS + end_days * MS_PER_DAY
    ids = row["campaign_id"].copy()
    edges = np.searchsorted(day.at_share, np.arange(ticks + 1) / ticks)
    edges[-1] = len(day.at_share)
    for tick in range(ticks):
        if tick / ticks < begin:
            continue
        now_ms = DAY_START_MS + number * MS_PER_DAY + tick * MS_PER_DAY // ticks
        cap = budget_at(tick / ticks) if budget_at else budget
        row["day_cap_micros"], row["day_spend_micros"] = cap, run.spend
        row["flight_spend_micros"] = flight_spent + run.spend
        row["day_expected_events"] = row["day_predicted_events"] = run.events
        alpha = float(pacer.tick(row, now_ms)["alpha_micros"][0])
        span = slice(edges[tick], edges[tick + 1])
        p, threshold = day.probability[span], day.threshold[span]
        bid = np.floor(alpha * p * (first_price_shade or 1.0))
        won = bid > threshold
        paid = bid if first_price_shade else threshold
        won &= np.cumsum(paid * won) <= min(cap - run.spend, flight_cap - flight_spent - run.spend)
        run.spend += float(np.floor(paid[won]).sum())
        run.events += float(p[won].sum())
        run.alphas.append(alpha)
        run.spends.append(run.spend)
        later_ms = now_ms + MS_PER_DAY // ticks
        pacer.observe(_feedback(ids[0], now_ms, alpha, p, bid, threshold, paid, won, told, bool(first_price_shade)))
        pacer.observe_supply(ids, np.array([len(p)]), np.array([p.sum()]), later_ms)
    return run


def _feedback(
    campaign_id: int,
    now_ms: int,
    alpha: float,
    p: FloatArray,
    bid: FloatArray,
    threshold: FloatArray,
    paid: FloatArray,
    won: npt.NDArray[np.bool_],
    told: str,
    first_price: bool,
) -> npt.NDArray[np.void]:
    rows = np.zeros(len(p), FEEDBACK)
    rows["campaign_id"], rows["issued_at_ms"] = campaign_id, now_ms
    rows["at"] = AuctionType.FIRST_PRICE if first_price else AuctionType.SECOND_PRICE
    rows["won"], rows["exposed"] = won, won
    rows["probability"], rows["alpha_micros"], rows["bid_micros"] = p, alpha, bid
    rows["price_micros"] = np.where(won & (told != "nothing"), paid, -1)
    rows["min_bid_to_win_micros"] = threshold if told == "full" else -1
    return rows
