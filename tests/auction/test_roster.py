"""The roster follows what campaigns become, at dense positions, and its index finds what the audiences mean."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from auction.campaigns.model import BidMode, Campaign, CampaignStatus, Creative
from auction.registry import Registry
from auction.roster import Roster
from pacing.budget.bank import Bank
from pacing.clocks import VirtualClock
from pacing.facts import Goal
from pacing.ledger.log import Ledger
from targeting.expressions import EVERYBODY, Any, Attribute, Expression, Segment, laotie_segment
from targeting.graph.follows import FollowGraph
from targeting.match.kernels import match_viewer
from targeting.match.reference import matching_campaigns
from targeting.segments.store import SegmentStore
from targeting.viewers import ViewerTable
from targeting.visits import Visits

NOW_MS = 1_772_467_200_000
AUDIENCES: tuple[Expression, ...] = (
    EVERYBODY,
    Segment("a"),
    Segment("b"),
    Any((Attribute(2, (1,)), Segment("a"))),  # type: ignore[arg-type]
)


def a_campaign(campaign_id: int, targeting: Expression, status: CampaignStatus, version: int) -> Campaign:
    return Campaign(
        creator_id=1_000 + campaign_id,
        name="x",
        goal=Goal.FANS if campaign_id % 2 else Goal.KEPT_FANS,
        bid_mode=BidMode.AUTOMATIC,
        daily_budget_micros=10**9,
        total_budget_micros=10**9,
        zone="Asia/Shanghai",
        creatives=tuple(Creative(100 * campaign_id + k) for k in range(1 + campaign_id % 3)),
        start_at_ms=NOW_MS - 1,
        targeting=targeting,
        frequency_cap_per_day=campaign_id,
        high_tier_worth=1.0 if campaign_id % 2 else 1.0 + campaign_id % 9,
        campaign_id=campaign_id,
        status=status,
        version=version,
    )


class World:
    """A registry with all that it needs, and a roster that follows it."""

    def __init__(self) -> None:
        self.clock = VirtualClock(NOW_MS)
        self.ledger = Ledger(None)
        viewers, self.segments = ViewerTable(), SegmentStore()
        self.bank = Bank(self.ledger, self.clock)
        self.registry = Registry(self.bank, FollowGraph(viewers, self.segments), Visits(viewers, self.segments))
        self.roster = Roster(self.registry, self.segments.segment_idx, self.bank.slot_of)

    def check(self, campaigns: dict[int, Campaign]) -> None:
        """Compare the roster with what the campaigns are."""
        now_ms, roster = self.clock.wall_ms(), self.roster
        roster.refresh(now_ms)
        running = {i: c for i, c in campaigns.items() if c.is_running(now_ms)}
        assert {c.campaign_id: c for c in roster.campaigns} == running
        assert roster.revision == self.registry.revision
        of, listed = roster.columns, roster.campaigns
        assert of.campaign_ids.tolist() == [c.campaign_id for c in listed]
        assert of.campaign_ids[of.id_order].tolist() == sorted(running)
        assert of.creator_ids.tolist() == [c.creator_id for c in listed]
        assert of.creative_ids.tolist() == [c.creatives[0].creative_id for c in listed]
        assert of.goals.tolist() == [int(c.goal) for c in listed]
        assert set(of.goal_rows.tolist()) <= {int(Goal.FANS) - 1}
        assert of.frequency_caps.tolist() == [c.frequency_cap_per_day for c in listed]
        assert of.high_tier_worths.tolist() == [c.high_tier_worth for c in listed]
        assert of.lease_slots.tolist() == [self.bank.slot_of(c.campaign_id) for c in listed]
        laotie = [self.segments.segment_idx(laotie_segment(c.creator_id)) for c in listed]
        assert of.laotie_segments.tolist() == laotie
        assert roster.of_many_creatives == [k for k, c in enumerate(listed) if len(c.creatives) > 1]
        clauses_of = [self.registry.clauses_of(c.campaign_id) for c in listed]
        for names in ((), ("a",), ("b",)):
            codes = (0, 0, 1, 0, 0, 0, 0, 0)
            assert self.found(codes, names) == matching_campaigns(clauses_of, codes, 0, frozenset(names))

    def found(self, codes: tuple[int, ...], names: tuple[str, ...]) -> list[int]:
        index = self.roster.index
        numbers = np.array(sorted(self.segments.segment_idx(name) for name in names), np.uint32)
        scratch, out = np.empty(index.scratch_words, np.uint64), np.empty(64 * index.campaign_words, np.int32)
        n = match_viewer(index, np.array(codes, np.int32), np.uint64(0), numbers, scratch, out)
        return out[:n].tolist()


changes = st.tuples(st.integers(1, 9), st.sampled_from(AUDIENCES), st.sampled_from(CampaignStatus))


@settings(max_examples=25)
@given(st.lists(st.lists(changes, max_size=6), max_size=5))
def test_the_roster_holds_who_runs(rounds: list[list[tuple[int, Expression, CampaignStatus]]]) -> None:
    world, campaigns = World(), {}
    version = 0
    for asked in ([], *rounds):
        for campaign_id, targeting, status in asked:
            version += 1
            before = campaigns.get(campaign_id)
            if before is not None and before.status is CampaignStatus.ENDED:
                continue
            campaigns[campaign_id] = a_campaign(campaign_id, targeting, status, version)
            world.registry.take_over(campaigns[campaign_id], opening=before is None)
        world.check(campaigns)


def test_campaigns_start_and_end_by_themselves() -> None:
    world = World()
    campaigns = {
        1: replace(a_campaign(1, EVERYBODY, CampaignStatus.ACTIVE, 1), end_at_ms=NOW_MS + 5_000),
        2: replace(a_campaign(2, EVERYBODY, CampaignStatus.ACTIVE, 1), start_at_ms=NOW_MS + 5_000),
        3: a_campaign(3, EVERYBODY, CampaignStatus.PAUSED, 1),
    }
    for campaign in campaigns.values():
        world.registry.take_over(campaign, opening=True)
    for at_ms, expected in ((0, [1]), (4_999, [1]), (5_000, [2]), (9_000, [2])):
        world.clock.advance_to(NOW_MS + at_ms)
        world.check(campaigns)
        assert [c.campaign_id for c in world.roster.campaigns] == expected


def test_nothing_is_made_anew_while_nothing_changes() -> None:
    world = World()
    world.registry.take_over(a_campaign(1, EVERYBODY, CampaignStatus.ACTIVE, 1), opening=True)
    world.roster.refresh(NOW_MS)
    listed, columns, index = world.roster.campaigns, world.roster.columns, world.roster.index
    world.roster.refresh(NOW_MS + 1)
    assert (world.roster.campaigns is listed, world.roster.columns is columns) == (True, True)
    assert world.roster.index is index
