"""The campaigns that this server serves, and the money accounts behind them."""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable

import numpy as np

from auction.campaigns.desk import CapsInForce
from auction.campaigns.model import Campaign, CampaignStatus
from pacing.budget.bank import Bank
from pacing.days import local_day
from targeting.expressions import Clause, compile_clauses, named_creators, wants_similar
from targeting.graph.follows import FollowGraph
from targeting.visits import Visits


class Registry:
    """Campaigns by id, with their compiled audiences. Any thread may call.

    `revision` grows with every change, so that the publisher knows when its index is stale.
    """

    def __init__(self, bank: Bank, follows: FollowGraph, visits: Visits) -> None:
        self._bank = bank
        self._follows = follows
        self._visits = visits
        self._lock = threading.Lock()
        self._changing = threading.Lock()
        self._campaigns: dict[int, Campaign] = {}
        self._clauses: dict[int, tuple[Clause, ...]] = {}
        self._known_ids = np.zeros(0, np.uint64)
        self._new_ids: list[int] = []  # that are not among them yet
        self._changed: set[int] = set()
        self._creators: set[int] = set()
        self._asking: set[int] = set()  # who ask for fans of similar creators
        self._turns: list[tuple[int, int]] = []  # heap of instants, and whose start or end they are
        self.revision = 0

    def take_over(self, campaign: Campaign, opening: bool = False) -> CapsInForce:
        """Serve a campaign as it now is; idempotent.

        Args:
            opening: it is being created, so its accounts are opened, with nothing spent.

        Raises:
            ValueError: its audience is too complex; the campaign goes on as it was.
            StoreUnavailable: a shared budget store cannot be asked.
        """
        clauses = compile_clauses(campaign.targeting, campaign.creator_id, campaign.include_fans)
        with self._changing:  # not the other lock: a shared store may keep this waiting, and publishing must not
            caps = self._bank.set_account(
                campaign.campaign_id,
                campaign.creator_id,
                campaign.zone,
                campaign.daily_budget_micros,
                campaign.total_budget_micros,
                revision=campaign.version,
                opening=opening,
            )
            if campaign.status is CampaignStatus.ENDED:
                self._bank.close_account(campaign.campaign_id)
            for creator_id in {campaign.creator_id} | named_creators(campaign.targeting):
                self._follows.watch(creator_id)
                self._visits.watch(creator_id)
            asks_for_similar = wants_similar(campaign.targeting)
            if asks_for_similar and campaign.status is not CampaignStatus.ENDED:
                self._follows.similar.want(campaign.creator_id)
            with self._lock:
                if campaign.campaign_id not in self._campaigns:
                    self._new_ids.append(campaign.campaign_id)
                self._campaigns[campaign.campaign_id] = campaign
                self._clauses[campaign.campaign_id] = clauses
                self._changed.add(campaign.campaign_id)
                self._creators.add(campaign.creator_id)
                (self._asking.add if asks_for_similar else self._asking.discard)(campaign.campaign_id)
                for at_ms in {campaign.start_at_ms, campaign.end_at_ms}:
                    heapq.heappush(self._turns, (at_ms, campaign.campaign_id))
                self.revision += 1
        return CapsInForce(caps.daily_cap_micros, caps.total_cap_micros)

    def get(self, campaign_id: int) -> Campaign | None:
        """The campaign, or None."""
        return self._campaigns.get(campaign_id)

    def clauses_of(self, campaign_id: int) -> tuple[Clause, ...]:
        """The alternatives of a campaign that is known."""
        return self._clauses[campaign_id]

    def clauses_if_known(self, campaign_id: int) -> tuple[Clause, ...]:
        """`clauses_of`; none of a campaign that is not known."""
        return self._clauses.get(campaign_id, ())

    def goal_of(self, campaign_id: int) -> int:
        """The campaign's goal; 0: not known."""
        campaign = self._campaigns.get(campaign_id)
        return 0 if campaign is None else int(campaign.goal)

    def day_start_of(self, campaign_id: int, at_ms: int) -> tuple[int, int]:
        """Key and first instant of the campaign's local day at an instant; zeros: the campaign is not known."""
        campaign = self._campaigns.get(campaign_id)
        if campaign is None:
            return 0, 0
        day = local_day(at_ms, campaign.zone)
        return day.day_key, day.start_at_ms

    def known_ids(self) -> np.ndarray:
        """Ids of all campaigns that ever were, ascending (u8)."""
        with self._lock:
            if self._new_ids:
                new = np.sort(np.array(self._new_ids, np.uint64))
                self._known_ids = np.insert(self._known_ids, np.searchsorted(self._known_ids, new), new)
                self._new_ids = []
            return self._known_ids

    def has_campaigns(self, creator_id: int) -> bool:
        """Whether the creator has, or ever had, a campaign here."""
        return creator_id in self._creators

    def ask_for_similar(self, now_ms: int) -> set[int]:
        """The creators of campaigns that may still bid and whose audience asks for fans of similar creators."""
        with self._lock:
            asking = [self._campaigns[campaign_id] for campaign_id in self._asking]
        return {campaign.creator_id for campaign in asking if not campaign.is_over(now_ms)}

    def take_changes(self, now_ms: int) -> tuple[int, list[tuple[int, Campaign | None, tuple[Clause, ...]]]]:
        """What changed, started or ended since the last call, by ascending id: (id, the campaign if it may bid now, its
        audience); with the revision that this brings who asks to. For one caller."""
        with self._lock:
            while self._turns and self._turns[0][0] <= now_ms:
                self._changed.add(heapq.heappop(self._turns)[1])
            changed, self._changed = sorted(self._changed), set()
            found = []
            for campaign_id in changed:
                campaign = self._campaigns[campaign_id]
                running = campaign if campaign.is_running(now_ms) else None
                found.append((campaign_id, running, self._clauses[campaign_id]))
            return self.revision, found


CampaignLookup = Callable[[int], Campaign | None]
