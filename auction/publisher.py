"""Makes snapshots: gathers campaigns, audiences, multipliers, model and prices into one picture, and swaps it in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from auction.bid.columns import CampaignColumns, marks_needed
from auction.bid.engine import BidEngine
from auction.bid.snapshot import Snapshot, SupplyCounters
from auction.campaigns.model import Campaign
from auction.landscape.landscape import Landscape, LandscapeLearner
from auction.predictor.features import SCALES, Feature
from auction.predictor.kernels import hash_feature
from auction.predictor.predictor import Predictor, goal_row, goal_rows
from auction.registry import Registry
from pacing.budget.bank import Bank
from pacing.clocks import Clock
from targeting.graph.follows import FollowGraph
from targeting.match.index import MatchIndex, build_index
from targeting.segments.store import SegmentStore

Worth = Callable[[Campaign], tuple[float, float]]
"""(alpha, base) of a campaign in micros, one of them 0: worth of one expected goal event, and of an impression whatever
its p."""

NextVersion = Callable[[Landscape], int]
"""The version of the snapshot that will have this landscape; none is used twice."""


@dataclass(slots=True)
class _Indexed:
    """What depends on the set of campaigns only."""

    revision: int = -1
    campaigns: list[Campaign] = field(default_factory=list)
    index: MatchIndex | None = None


class Publisher:
    """Builds and swaps snapshots. One thread at a time may call `publish`."""

    def __init__(
        self,
        engine: BidEngine,
        registry: Registry,
        bank: Bank,
        segments: SegmentStore,
        follows: FollowGraph,
        predictor: Predictor,
        landscapes: LandscapeLearner,
        clock: Clock,
        frequency_cap: int,
        seed: int,
        next_version: NextVersion,
    ) -> None:
        self._engine = engine
        self._registry = registry
        self._bank = bank
        self._segments = segments
        self._follows = follows
        self._predictor = predictor
        self._landscapes = landscapes
        self._clock = clock
        self._frequency_cap = frequency_cap
        self._random = np.random.default_rng(seed)
        self._tie_seed = np.uint64(self._random.integers(0, 2**63))
        self._indexed = _Indexed()
        self._next_version = next_version

    @property
    def campaigns(self) -> list[Campaign]:
        """Campaigns of the present snapshot; position: campaign_idx."""
        return self._indexed.campaigns

    @property
    def is_stale(self) -> bool:
        """Whether campaigns changed since the present snapshot."""
        return self._registry.revision != self._indexed.revision

    def publish(self, worth: Worth) -> Snapshot:
        """Build a snapshot of everything as it is now and make it the engine's."""
        now_ms = self._clock.wall_ms()
        self._follows.refresh()
        self._refresh_index(now_ms)
        self._segments.memberships()
        landscape = self._landscapes.snapshot()
        campaigns = self._indexed.campaigns
        creative_ids = np.array([self._draw_creative(campaign) for campaign in campaigns], np.uint64)
        goals = np.array([campaign.goal for campaign in campaigns], np.uint8)
        earlier = self._predictor.earlier_discounts()
        columns = self._columns(campaigns, goals, worth, earlier.by_goal)
        assert self._indexed.index is not None
        snapshot = Snapshot(
            version=self._next_version(landscape),
            index=self._indexed.index,
            campaigns=columns,
            creative_ids=creative_ids,
            goals=goals,
            lease_slots=np.array([*(self._bank.slot_of(campaign.campaign_id) for campaign in campaigns), -1], np.int32),
            model=self._predictor.snapshot(
                columns.campaign_ids,
                columns.creator_ids,
                creative_ids,
                np.array([campaign.category for campaign in campaigns], np.int32),
                goals,
            ),
            landscape=landscape,
            known_campaign_ids=self._registry.known_ids(),
            mark_count=marks_needed(columns),
            mean_discounts=earlier.means[columns.goal_rows],
            supply=SupplyCounters(len(campaigns)),
        )
        self._engine.snapshot = snapshot
        return snapshot

    def _refresh_index(self, now_ms: int) -> None:
        """Rebuild the match index if campaigns changed, started or ended since the last one."""
        revision = self._registry.revision
        running = self._registry.running(now_ms)
        campaigns = [campaign for campaign, _ in running]
        if revision == self._indexed.revision and campaigns == self._indexed.campaigns:
            return
        index = build_index([clauses for _, clauses in running], self._segments.segment_idx)
        self._indexed = _Indexed(revision, campaigns, index)

    def _columns(
        self, campaigns: list[Campaign], goals: np.ndarray, worth: Worth, earlier_discounts: np.ndarray
    ) -> CampaignColumns:
        worths = np.array([worth(campaign) for campaign in campaigns], np.float64).reshape(-1, 2)
        assert not worths.all(axis=1).any(), "a decision has room for alpha or base, not for both"
        ids = np.array([campaign.campaign_id for campaign in campaigns], np.uint64)
        return CampaignColumns(
            campaign_ids=ids,
            creator_ids=np.array([campaign.creator_id for campaign in campaigns], np.uint64),
            goal_rows=goal_rows(goals),
            alpha_micros=worths[:, 0].copy(),
            base_micros=worths[:, 1].copy(),
            frequency_caps=np.array(
                [campaign.frequency_cap_per_day or self._frequency_cap for campaign in campaigns], np.int32
            ),
            laotie_segments=np.array(
                [self._segments.segment_idx(f"laotie:{campaign.creator_id}") for campaign in campaigns], np.int32
            ),
            calibration=self._predictor.calibration_factors(goals, ids),
            earlier_discounts=earlier_discounts,
            tie_seed=self._tie_seed,
        )

    def _draw_creative(self, campaign: Campaign) -> int:
        """The creative to show until the next snapshot: Thompson sampling on the predictor's creative weights."""
        if len(campaign.creatives) == 1:
            return campaign.creatives[0].creative_id
        present = self._engine.snapshot
        if present is None:
            return campaign.creatives[int(self._random.integers(len(campaign.creatives)))].creative_id
        table = present.model.weights[goal_row(campaign.goal)]
        scale = SCALES[Feature.CREATIVE]
        drawn = []
        for creative in campaign.creatives:
            slot = int(hash_feature(int(Feature.CREATIVE), np.uint64(creative.creative_id))) & (len(table) - 1)
            mean, variance = table[slot]
            drawn.append(scale * (mean + np.sqrt(variance) * self._random.standard_normal()))
        return campaign.creatives[int(np.argmax(drawn))].creative_id
