"""The control loop: takes in what happened, decides what an event is worth to each campaign, publishes a snapshot."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np

from auction.accounts import Accounts
from auction.bid.service import FeedbackQueue
from auction.bid.snapshot import Snapshot
from auction.campaigns.model import BidMode, Campaign
from auction.config import ServeConfig
from auction.landscape.landscape import LandscapeLearner
from auction.learning import Learner
from auction.progress import Progress
from auction.publisher import Publisher
from auction.shared.pace import SharedPacer
from auction.uplift import TierUplift
from pacing.budget.bank import Bank
from pacing.clocks import Clock
from pacing.control.pacer import Pacer
from pacing.control.settings import cost_weights

CROWDED = 2_000
"""From more campaigns than this on, a change is published without planning all of them at once."""

PLANNED_AHEAD = 200
"""At most so many campaigns that are new or changed are planned ahead of a round."""


class Control:
    """Ties feedback, pacing and publication together. One thread at a time may call `tick`; any, `publish_changes`."""

    def __init__(
        self,
        config: ServeConfig,
        bank: Bank,
        pacer: Pacer,
        landscapes: LandscapeLearner,
        publisher: Publisher,
        progress: Progress,
        learner: Learner,
        uplift: TierUplift,
        feedback: FeedbackQueue,
        clock: Clock,
        planned_before: Callable[[int, int], int],
        shared: SharedPacer | None = None,
    ) -> None:
        """Tie the parts together.

        Args:
            shared: stands in for `pacer` where several servers pace together.
            planned_before: (campaign id, day key) to what an earlier process planned of that local day, in micros.
        """
        self._config = config
        self._accounts = Accounts(bank, progress, learner.arrived_share, planned_before)
        self._pacer: Pacer | SharedPacer = shared or pacer
        self._shared = shared
        self._ahead = pacer if shared is None and config.policy == "engine" else None  # plans single campaigns
        self._landscapes = landscapes
        self._publisher = publisher
        self._uplift = uplift
        self._feedback = feedback
        self._clock = clock
        self._publishing = threading.Lock()  # never held while all campaigns are planned
        self._planning = threading.Lock()  # taken first; not held while the standings of all campaigns are gathered
        self._planned_ahead: dict[int, Campaign] = {}  # since the last gathering began
        self._snapshot: Snapshot | None = None
        self._counted: tuple[np.ndarray, ...] | None = None  # of its supply
        self._bids: dict[int, int] = {}
        self._alphas: dict[int, float] = {}
        self._planned: dict[int, int] = {}
        self._planned_at_ms = 0
        self._told = 0  # where the next turn of `planned` begins

    def tick(self) -> None:
        """One round. A campaign that is new to pacing gets its first multiplier in the round after it was published."""
        for feedback in self._feedback.take():
            self._pacer.observe(feedback)
            self._landscapes.observe(feedback)
        with self._publishing:
            self._count_supply()
        if self._shared is not None:
            self._plan_together(self._shared)
        elif self._config.policy == "engine":
            self._plan()
        self.publish_changes()

    def publish_changes(self) -> None:
        """Publish what changed, with the multipliers of the last plan. Where a round takes long, campaigns that are new
        or changed are planned at once, a few of them; otherwise they wait for the next round."""
        with self._planning, self._publishing:
            self._count_supply()
            if self.is_crowded and self._ahead is not None:
                self._plan_ahead(self._ahead, self._publisher.take_changed())
            self._snapshot = self._publisher.publish(self._worths)
            self._counted = None

    @property
    def is_crowded(self) -> bool:
        """Whether so many campaigns run that a round for each change would be too much."""
        return len(self._publisher.campaigns) > CROWDED

    def multiplier_micros(self, campaign_id: int) -> float:
        """Pacing's present worth of one expected goal event; 0 while it bids nothing."""
        return self._alphas.get(campaign_id, 0.0)

    def planned(self, limit: int) -> tuple[np.ndarray, np.ndarray, int]:
        """(u8[c] ids of campaigns that run, i8[c] planned spend of their local day so far, when this held): of all, or
        of the next `limit` of them, in turn."""
        ids, micros = np.array(list(self._planned), np.uint64), np.array(list(self._planned.values()), np.int64)
        if len(ids) > limit:
            turn = (self._told + np.arange(limit)) % len(ids)
            self._told = (self._told + limit) % len(ids)
            ids, micros = ids[turn], micros[turn]
        return ids, micros, self._planned_at_ms

    def bids(self, campaign_id: int) -> int:
        """Bids since this server started."""
        return self._bids.get(campaign_id, 0)

    def _count_supply(self) -> None:
        """Take over what the threads counted on the present snapshot since the last time."""
        snapshot = self._snapshot
        if snapshot is None:
            return
        totals = snapshot.supply.totals()
        before = self._counted or tuple(np.zeros_like(total) for total in totals)
        self._counted = totals
        eligible, expected, bids, rises = (total - known for total, known in zip(totals, before, strict=True))
        ids = snapshot.campaigns.campaign_ids
        asking = np.flatnonzero(snapshot.campaigns.rise_calibration)
        self._uplift.count(ids[asking], expected[asking], rises[asking], self._clock.wall_ms())
        made = np.flatnonzero(bids)
        for campaign_id, count in zip(ids[made].tolist(), bids[made].tolist(), strict=True):
            self._bids[campaign_id] = self._bids.get(campaign_id, 0) + count
        if eligible.any():
            self._pacer.observe_supply(ids, eligible, expected * snapshot.mean_discounts, self._clock.wall_ms())

    def _plan(self) -> None:
        campaigns = self._publisher.campaigns
        with self._planning:
            self._planned_ahead = {}
        accounts = self._accounts.gather(campaigns, self._clock.wall_ms())
        with self._planning:
            now_ms = self._clock.wall_ms()
            # Pacing knows newer standings of whoever was planned meanwhile, and must not be told the older ones.
            self._accounts.gather_again(accounts, self._planned_ahead, now_ms)
            plans = self._pacer.tick(accounts, now_ms)
            self._take_over(plans, accounts, now_ms)

    def _take_over(self, plans: np.ndarray, accounts: np.ndarray, now_ms: int) -> None:
        """Bid by PACING_PLAN[n] from now on."""
        self._note_uplifts(plans, cost_weights(plans, accounts["target_cost_micros"]))
        # The accounts are read an instant later: at midnight, their day may not be the one that holds `now_ms`.
        present = (accounts["day_start_at_ms"] <= now_ms) & (now_ms < accounts["day_end_at_ms"])
        self._alphas |= zip(plans["campaign_id"].tolist(), plans["alpha_micros"].tolist(), strict=True)
        plans = plans[present]
        self._planned = dict(
            zip(plans["campaign_id"].tolist(), plans["planned_day_spend_micros"].tolist(), strict=True)
        )
        self._planned_at_ms = now_ms

    def _plan_ahead(self, pacer: Pacer, changed: list[Campaign]) -> None:
        """Give campaigns that are new or changed a multiplier that is up to date; many of them wait for the round."""
        if not 0 < len(changed) <= PLANNED_AHEAD:
            return
        now_ms = self._clock.wall_ms()
        accounts = self._accounts.gather_few(changed, now_ms)
        plans = pacer.plan_ahead(accounts, now_ms)
        self._note_uplifts(plans, cost_weights(plans, accounts["target_cost_micros"]))
        self._alphas |= zip(plans["campaign_id"].tolist(), plans["alpha_micros"].tolist(), strict=True)
        self._planned_ahead |= {campaign.campaign_id: campaign for campaign in changed}

    def _plan_together(self, shared: SharedPacer) -> None:
        """Plan the campaigns that this server paces; bid with what is published, of these as of all others."""
        campaigns = self._publisher.campaigns
        now_ms = self._clock.wall_ms()
        ids = np.array([campaign.campaign_id for campaign in campaigns], np.uint64)
        shared.tick(self._accounts.gather(campaigns, now_ms, shared.begin(ids)), now_ms)
        plans = shared.in_force()
        self._note_uplifts(plans, plans["cost_weight"])
        self._alphas |= zip(plans["campaign_id"].tolist(), plans["alpha_micros"].tolist(), strict=True)
        plans = plans[now_ms < plans["day_end_at_ms"]]
        self._planned = dict(
            zip(plans["campaign_id"].tolist(), plans["planned_day_spend_micros"].tolist(), strict=True)
        )
        self._planned_at_ms = now_ms

    def _note_uplifts(self, plans: np.ndarray, weights: np.ndarray) -> None:
        """Tell how far bids may follow what a fan may become: of campaigns that ask, and bid."""
        if self._snapshot is not None and len(self._snapshot.campaigns.rise_calibration):
            campaigns = self._snapshot.campaigns
            asking = campaigns.campaign_ids[np.flatnonzero(campaigns.rise_calibration)]
            noted = np.isin(plans["campaign_id"], asking) & (plans["alpha_micros"] > 0.0)
            self._uplift.note_plans(plans["campaign_id"][noted], weights[noted])

    def _worths(self, campaigns: list[Campaign]) -> np.ndarray:
        """f8[C, 2], see `auction.publisher.Worths`."""
        config, worths = self._config, np.zeros((len(campaigns), 2))
        if config.policy == "fixed":
            worths[:, 1] = float(config.fixed_bid_micros)
        elif config.policy == "unpaced":
            worths[:, 0] = [
                campaign.target_cost_micros
                if campaign.bid_mode is BidMode.TARGET_COST
                else config.unpaced_multiplier_micros
                for campaign in campaigns
            ]
        else:
            alphas = self._alphas
            worths[:, 0] = [alphas.get(campaign.campaign_id, 0.0) for campaign in campaigns]
        return worths
