"""The campaigns that may bid, each at a position, with the columns that depend on nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from auction.campaigns.model import Campaign
from auction.predictor.settings import goal_row
from auction.registry import Registry
from targeting.expressions import Clause, laotie_segment
from targeting.match.edits.editable import EditableIndex
from targeting.match.kernels import MatchIndex

_FIRST_ROOM = 64


class RosterColumns(NamedTuple):
    """C campaigns. Immutable once given out.

    Attributes:
        campaign_ids, creator_ids: u8[C].
        id_order: i8[C], positions by ascending campaign id.
        creative_ids: u8[C], the first creative of each.
        goals: u1[C]. goal_rows: i4[C]. categories: i4[C].
        frequency_caps: i4[C], impressions per viewer and day; 0: the deployment's default.
        laotie_segments: i4[C].
        lease_slots: i4[C].
        high_tier_worths: f8[C], how many plain fans a fan of a high tier is worth.
    """

    campaign_ids: np.ndarray
    creator_ids: np.ndarray
    id_order: np.ndarray
    creative_ids: np.ndarray
    goals: np.ndarray
    goal_rows: np.ndarray
    categories: np.ndarray
    frequency_caps: np.ndarray
    laotie_segments: np.ndarray
    lease_slots: np.ndarray
    high_tier_worths: np.ndarray


_ROW = np.dtype(
    [
        ("campaign_ids", np.uint64), ("creator_ids", np.uint64), ("creative_ids", np.uint64), ("goals", np.uint8),
        ("goal_rows", np.int32), ("categories", np.int32), ("frequency_caps", np.int32),
        ("laotie_segments", np.int32), ("lease_slots", np.int32), ("high_tier_worths", np.float64),
        ("creative_counts", np.uint8),
    ]
)  # fmt: skip


_COLUMNS = tuple(name for name in RosterColumns._fields if name != "id_order")


class Roster:
    """Follows the registry. One thread at a time.

    Positions are dense: a campaign that leaves gives its place to the last one. What a change costs in Python is by the
    campaigns that changed, not by how many there are.
    """

    def __init__(self, registry: Registry, segment_idx: Callable[[str], int], slot_of: Callable[[int], int]) -> None:
        self._registry = registry
        self._segment_idx = segment_idx
        self._slot_of = slot_of
        self.position_of: dict[int, int] = {}
        self._clauses: list[tuple[Clause, ...]] = []
        self._rows = np.zeros(_FIRST_ROOM, _ROW)
        self._index: EditableIndex | None = None
        self.campaigns: list[Campaign] = []
        """By position; another list after every change."""
        self.of_many_creatives: list[int] = []
        """Positions of campaigns with more than one creative, ascending."""
        self.revision = -1
        self._entered: list[Campaign] = []

    def refresh(self, now_ms: int) -> None:
        """Take in what changed, started or ended."""
        revision, changes = self._registry.take_changes(now_ms)
        self.revision = revision
        if not changes and self._index is not None:
            return
        self.campaigns = list(self.campaigns)
        edits: dict[int, tuple[Clause, ...]] = {}
        for campaign_id, campaign, clauses in changes:
            position = self.position_of.get(campaign_id)
            if campaign is None:
                if position is not None:
                    self._leave(position, edits)
            else:
                self._enter(campaign, clauses, len(self.campaigns) if position is None else position, edits)
        self.of_many_creatives = np.flatnonzero(self._rows["creative_counts"][: len(self.campaigns)] > 1).tolist()
        self._columns = self._columns_now()
        if self._index is None:
            self._index = EditableIndex(self._clauses, self._segment_idx)
        elif edits:
            self._index.edit(edits, lambda: self._clauses)

    def take_entered(self) -> list[Campaign]:
        """Campaigns that began to run or changed since the last call, each as it came last."""
        entered, self._entered = self._entered, []
        return list({campaign.campaign_id: campaign for campaign in entered}.values())

    @property
    def index(self) -> MatchIndex:
        """The match index of these positions."""
        assert self._index is not None, "refresh comes first"
        return self._index.present

    @property
    def columns(self) -> RosterColumns:
        """The same arrays until something changes."""
        return self._columns

    def _enter(
        self, campaign: Campaign, clauses: tuple[Clause, ...], position: int, edits: dict[int, tuple[Clause, ...]]
    ) -> None:
        """A campaign is new at the end, or changed at its position."""
        if position == len(self.campaigns):
            self.campaigns.append(campaign)
            self._clauses.append(())
            self.position_of[campaign.campaign_id] = position
            if position == len(self._rows):
                self._rows = np.concatenate([self._rows, np.zeros_like(self._rows)])
        self.campaigns[position] = campaign
        self._entered.append(campaign)
        if self._clauses[position] != clauses:
            self._clauses[position] = edits[position] = clauses
        self._rows[position] = (
            campaign.campaign_id, campaign.creator_id, campaign.creatives[0].creative_id, campaign.goal,
            goal_row(campaign.goal), campaign.category, campaign.frequency_cap_per_day,
            self._segment_idx(laotie_segment(campaign.creator_id)), self._slot_of(campaign.campaign_id),
            campaign.high_tier_worth, len(campaign.creatives),
        )  # fmt: skip

    def _leave(self, position: int, edits: dict[int, tuple[Clause, ...]]) -> None:
        """The last campaign takes the place of one that leaves."""
        del self.position_of[self.campaigns[position].campaign_id]
        last_campaign, last_clauses = self.campaigns.pop(), self._clauses.pop()
        last = len(self.campaigns)
        edits[last] = ()
        if position < last:
            self.campaigns[position] = last_campaign
            self.position_of[last_campaign.campaign_id] = position
            self._clauses[position] = edits[position] = last_clauses
            self._rows[position] = self._rows[last]

    def _columns_now(self) -> RosterColumns:
        rows = self._rows[: len(self.campaigns)]
        columns = {name: np.ascontiguousarray(rows[name]) for name in _COLUMNS}
        return RosterColumns(id_order=np.argsort(columns["campaign_ids"], kind="stable"), **columns)
