"""How long one tick of the controller takes for very many campaigns."""

from __future__ import annotations

import math
import time

import numpy as np

from benchmarks.bidding.days import DAY_START_MS, Past
from pacing.clocks import MS_PER_DAY, MS_PER_HOUR, MS_PER_SECOND
from pacing.control.pacer import Pacer
from pacing.control.settings import PacerSettings
from pacing.facts import FEEDBACK, PACING_ACCOUNT, AuctionType

CAMPAIGNS, QUICK_CAMPAIGNS = 100_000, 2_000
TICKS, QUICK_TICKS = 15, 3
_FEEDBACK_ROWS = 20_000  # decided auctions between two ticks
_SUPPLY = 200


def figure_name(campaigns: int) -> str:
    """What the time of a tick of so many campaigns is called, such as "tick_100k_ms"."""
    return f"tick_{campaigns // 1_000}k_ms"


def median_tick_ms(past: Past, campaigns: int, ticks: int) -> float:
    """Median milliseconds of a tick, at the server's period of one second, an hour into the campaigns' day.

    Every campaign has supply; some have decided auctions; half have a target cost, whose aim creeps. What is timed
    begins when each campaign has been solved.
    """
    rng = np.random.default_rng(5)
    pacer = Pacer(past.history)
    accounts = np.zeros(campaigns, PACING_ACCOUNT)
    accounts["campaign_id"] = np.arange(1, campaigns + 1)
    accounts["day_start_at_ms"], accounts["day_end_at_ms"] = DAY_START_MS, DAY_START_MS + MS_PER_DAY
    accounts["start_at_ms"] = DAY_START_MS
    accounts["day_cap_micros"] = 10**8 * rng.lognormal(0, 1, campaigns)
    accounts["flight_cap_micros"] = 10**13
    accounts["target_cost_micros"] = np.where(np.arange(campaigns) % 2, 4 * 10**5 * rng.lognormal(0, 0.3, campaigns), 0)
    now_ms, spent_ms = DAY_START_MS, []
    pacer.tick(accounts, now_ms)
    now_ms += MS_PER_HOUR
    settings = PacerSettings()
    before = 2 if campaigns <= settings.solve_all else math.ceil(campaigns / settings.solve_limit)
    for number in range(ticks + before):
        _happen(pacer, accounts, rng, now_ms)
        began_s = time.perf_counter()
        pacer.tick(accounts, now_ms)
        if number >= before:
            spent_ms.append(1e3 * (time.perf_counter() - began_s))
        now_ms += MS_PER_SECOND
    return float(np.median(spent_ms))


def _happen(pacer: Pacer, accounts: np.ndarray, rng: np.random.Generator, now_ms: int) -> None:
    """One second of supply, auctions and spend."""
    count = len(accounts)
    ids = accounts["campaign_id"]
    pacer.observe_supply(ids, np.full(count, _SUPPLY), np.full(count, 0.05 * _SUPPLY), now_ms)
    rows = np.zeros(min(_FEEDBACK_ROWS, count), FEEDBACK)
    rows["campaign_id"] = rng.choice(ids, len(rows))
    rows["at"] = AuctionType.SECOND_PRICE
    rows["probability"] = 0.05 * rng.lognormal(0, 0.5, len(rows))
    rows["alpha_micros"], rows["bid_micros"] = 4e5, 4e5 * rows["probability"]
    rows["min_bid_to_win_micros"] = 20_000 * rng.lognormal(0, 0.75, len(rows))
    rows["won"] = rows["bid_micros"] >= rows["min_bid_to_win_micros"]
    rows["price_micros"] = np.where(rows["won"], rows["min_bid_to_win_micros"], -1)
    pacer.observe(rows)
    won = np.bincount(rows["campaign_id"][rows["won"] == 1].astype(np.int64) - 1, minlength=count)
    accounts["day_spend_micros"] += 12_000 * won
    accounts["flight_spend_micros"] = accounts["day_spend_micros"]
    accounts["day_expected_events"] += 0.06 * won
    accounts["day_predicted_events"] = accounts["day_expected_events"]
    accounts["events_ratio"] = 1.0
    accounts["target_cost_micros"] += accounts["target_cost_micros"] > 0  # aims creep, since the day is known better
