"""What pacing is told about campaigns at a tick: their money, what they bought, what they asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from auction.campaigns.model import Campaign
from auction.progress import ArrivedShare, DayEstimate, Progress
from pacing.budget.bank import Bank
from pacing.facts import PACING_ACCOUNT
from pacing.money import micros_from_float, micros_from_floats

PRUDENCE = 4.0
"""A target is a promise of at most: it is aimed below by so many times the variance of what its events may be. Double
the uncertainty, and four times as much is at stake (constant absolute risk aversion). Once the variance keeps the cost
per event at the target on average, which is convex in the events. What is above protects the days of which little is
known, where it aims lower by a tenth: a platform's first, and the hours after predictions broke. A day whose
predictions are right pays for it with a twentieth of a percent."""
_LEAST_AIM = 0.5
_MONEY = (
    "day_start_at_ms", "day_end_at_ms", "day_cap_micros", "day_spend_micros", "flight_cap_micros",
    "flight_spend_micros",
)  # fmt: skip


def aimed_target_micros(target_cost_micros: int, bought: DayEstimate) -> int:
    """The cost per event that pacing aims at, in the light of how uncertain the day's events are; 0: no target."""
    return micros_from_float(target_cost_micros * float(_aim(np.array(bought.relative_sd))))


def _aim(relative_sd: np.ndarray) -> np.ndarray:
    """Share of a target that pacing aims at, where the day's events are so uncertain."""
    return np.asarray(np.maximum(1.0 - PRUDENCE * relative_sd**2, _LEAST_AIM))


class Accounts:
    """Gathers PACING_ACCOUNT rows. One thread at a time may call."""

    def __init__(
        self,
        bank: Bank,
        progress: Progress,
        arrived_share: ArrivedShare,
        planned_before: Callable[[int, int], int],
    ) -> None:
        """`planned_before` is what an earlier process planned of (campaign id, day key), in micros."""
        self._bank = bank
        self._progress = progress
        self._arrived_share = arrived_share
        self._planned_before = planned_before
        self._campaigns: list[Campaign] = []
        self._asked = np.zeros(0, PACING_ACCOUNT)
        self._gathered = np.zeros(0, np.uint64)

    def gather(self, campaigns: list[Campaign], now_ms: int, wanted: np.ndarray | None = None) -> np.ndarray:
        """PACING_ACCOUNT[n] of campaigns, or of those that are `wanted` (bool, as long as the list), in their order.

        Args:
            campaigns: as long as it is the same list, it is taken to hold the same campaigns; nobody may change one
                that was given here.
        """
        if campaigns is not self._campaigns:
            self._asked, self._campaigns = _asked_anew(campaigns, self._campaigns, self._asked), campaigns
        accounts = self._asked.copy() if wanted is None else self._asked[wanted]
        day_keys = self._fill(accounts, now_ms)
        self._tell_plans_before(accounts, day_keys)
        return accounts

    def gather_few(self, campaigns: list[Campaign], now_ms: int) -> np.ndarray:
        """PACING_ACCOUNT[n] of campaigns that are planned ahead of the others."""
        accounts = _asked_for(campaigns)
        for k, day_key in enumerate(self._fill(accounts, now_ms).tolist()):
            accounts["day_planned_micros"][k] = self._planned_before(campaigns[k].campaign_id, day_key)
        return accounts

    def gather_again(self, accounts: np.ndarray, campaigns: Mapping[int, Campaign], now_ms: int) -> None:
        """Bring PACING_ACCOUNT[n] that was gathered before up to date, where it has one of a few campaigns, by id."""
        places = np.flatnonzero(np.isin(accounts["campaign_id"], np.array(list(campaigns), np.uint64)))
        if len(places):
            accounts[places] = self.gather_few([campaigns[int(i)] for i in accounts["campaign_id"][places]], now_ms)

    def _fill(self, accounts: np.ndarray, now_ms: int) -> np.ndarray:
        """What was spent and bought, into PACING_ACCOUNT[n]; answers the keys of their days, i8[n]."""
        money = self._bank.accounts(accounts["campaign_id"])
        for name in _MONEY:
            accounts[name] = money[name]
        bought = self._progress.estimates(accounts["campaign_id"], money["day_key"], now_ms, self._arrived_share)
        accounts["day_expected_events"], accounts["day_predicted_events"] = bought[:, 0], bought[:, 1]
        accounts["events_ratio"] = bought[:, 2]
        accounts["target_cost_micros"] = micros_from_floats(accounts["target_cost_micros"] * _aim(bought[:, 3]))
        day_keys: np.ndarray = money["day_key"]
        return day_keys

    def _tell_plans_before(self, accounts: np.ndarray, day_keys: np.ndarray) -> None:
        """Of campaigns that were not gathered the last time: pacing asks when it meets them first."""
        ids = accounts["campaign_id"]
        if not np.array_equal(ids, self._gathered):
            for k in np.flatnonzero(~np.isin(ids, self._gathered)).tolist():
                accounts["day_planned_micros"][k] = self._planned_before(int(ids[k]), int(day_keys[k]))
            self._gathered = ids.copy()


def _asked_anew(campaigns: list[Campaign], before: list[Campaign], asked: np.ndarray) -> np.ndarray:
    """`_asked_for` these campaigns, where it is known for those of `before`: of most, nothing has changed."""
    kept = asked[: len(campaigns)]
    changed = [k for k, (now, then) in enumerate(zip(campaigns, before, strict=False)) if now is not then]
    anew = np.concatenate([kept, _asked_for(campaigns[len(kept) :])])
    anew[changed] = _asked_for([campaigns[k] for k in changed])
    return anew


def _asked_for(campaigns: list[Campaign]) -> np.ndarray:
    """PACING_ACCOUNT[n] with what campaigns ask for, and nothing else."""
    accounts = np.zeros(len(campaigns), PACING_ACCOUNT)
    accounts["campaign_id"] = [campaign.campaign_id for campaign in campaigns]
    accounts["history_group"] = [campaign.category for campaign in campaigns]
    accounts["start_at_ms"] = [campaign.start_at_ms for campaign in campaigns]
    accounts["end_at_ms"] = [campaign.end_at_ms for campaign in campaigns]
    accounts["target_cost_micros"] = [campaign.target_cost_micros for campaign in campaigns]
    return accounts
