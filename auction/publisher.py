"""Makes snapshots: gathers campaigns, audiences, multipliers, model and prices into one picture, and swaps it in."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from auction.bid.columns import CampaignColumns, marks_needed
from auction.bid.engine import BidEngine
from auction.bid.snapshot import Snapshot, SupplyCounters
from auction.campaigns.model import Campaign
from auction.landscape.landscape import Landscape, LandscapeLearner
from auction.predictor.features import SCALES, Feature
from auction.predictor.kernels import hash_feature
from auction.predictor.predictor import Predictor
from auction.predictor.settings import goal_row
from auction.registry import Registry
from auction.roster import Roster, RosterColumns
from auction.uplift import TierUplift
from pacing.budget.bank import Bank
from pacing.clocks import Clock
from targeting.graph.follows import FollowGraph
from targeting.segments.store import SegmentStore

Worths = Callable[[list[Campaign]], np.ndarray]
"""(alpha, base) of campaigns in micros, f8[C, 2], one of the two 0: worth of one expected goal event, and of an
impression whatever its p."""

NextVersion = Callable[[Landscape], int]
"""The version of the snapshot that will have this landscape; none is used twice."""


class Publisher:
    """Builds and swaps snapshots. One thread at a time may call `publish` and `take_changed`."""

    def __init__(
        self,
        engine: BidEngine,
        registry: Registry,
        bank: Bank,
        segments: SegmentStore,
        follows: FollowGraph,
        predictor: Predictor,
        landscapes: LandscapeLearner,
        uplift: TierUplift,
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
        self._uplift = uplift
        self._clock = clock
        self._frequency_cap = frequency_cap
        self._random = np.random.default_rng(seed)
        self._tie_seed = np.uint64(self._random.integers(0, 2**63))
        self._roster = Roster(registry, segments.segment_idx, bank.slot_of)
        self._next_version = next_version

    @property
    def campaigns(self) -> list[Campaign]:
        """Campaigns of the present snapshot; position: campaign_idx."""
        return self._roster.campaigns

    @property
    def is_stale(self) -> bool:
        """Whether campaigns changed since the present snapshot."""
        return self._registry.revision != self._roster.revision

    def take_changed(self) -> list[Campaign]:
        """Campaigns that run, and are new or changed since the last call; the next snapshot has them. As `publish`."""
        self._roster.refresh(self._clock.wall_ms())
        running = self._roster.position_of
        return [campaign for campaign in self._roster.take_entered() if campaign.campaign_id in running]

    def publish(self, worths: Worths) -> Snapshot:
        """Build a snapshot of everything as it is now and make it the engine's."""
        self._follows.refresh()
        roster = self._roster
        roster.refresh(self._clock.wall_ms())
        self._segments.memberships()
        landscape = self._landscapes.snapshot()
        campaigns, of = roster.campaigns, roster.columns
        creative_ids = of.creative_ids.copy()
        for position in roster.of_many_creatives:
            creative_ids[position] = self._draw_creative(campaigns[position])
        earlier = self._predictor.earlier_discounts()
        columns = self._columns(of, worths(campaigns), earlier.by_goal)
        with_rises = len(columns.uplifts) > 0
        snapshot = Snapshot(
            version=self._next_version(landscape),
            index=roster.index,
            campaigns=columns,
            id_order=of.id_order,
            creative_ids=creative_ids,
            goals=of.goals,
            lease_slots=np.append(of.lease_slots, np.int32(-1)),
            model=self._predictor.snapshot(
                of.campaign_ids, of.creator_ids, creative_ids, of.categories, of.goals, with_rises
            ),
            landscape=landscape,
            known_campaign_ids=self._registry.known_ids(),
            mark_count=marks_needed(columns),
            mean_discounts=earlier.means[columns.goal_rows],
            supply=SupplyCounters(len(campaigns), with_rises),
        )
        self._engine.snapshot = snapshot
        return snapshot

    def _columns(self, of: RosterColumns, worths: np.ndarray, earlier_discounts: np.ndarray) -> CampaignColumns:
        assert not worths.all(axis=1).any(), "a decision has room for alpha or base, not for both"
        rise_calibration, uplifts = self._uplift.columns(of.campaign_ids, of.high_tier_worths)
        return CampaignColumns(
            campaign_ids=of.campaign_ids,
            creator_ids=of.creator_ids,
            goal_rows=of.goal_rows,
            alpha_micros=worths[:, 0].copy(),
            base_micros=worths[:, 1].copy(),
            frequency_caps=np.where(of.frequency_caps > 0, of.frequency_caps, self._frequency_cap).astype(np.int32),
            laotie_segments=of.laotie_segments,
            calibration=self._predictor.calibration_factors(of.goals, of.campaign_ids),
            loss_calibration=self._predictor.loss_factors_of(of.goals, of.campaign_ids),
            rise_calibration=rise_calibration,
            uplifts=uplifts,
            earlier_discounts=earlier_discounts,
            tie_seed=self._tie_seed,
        )

    def _draw_creative(self, campaign: Campaign) -> int:
        """The creative to show until the next snapshot: Thompson sampling on the predictor's creative weights."""
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
