"""The two halves joined as `fanbid serve` joins them: a bought fan reaches the fan service, and its tier comes back."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from auction.config import ServeConfig
from auction.services import Services, build_services
from benchmarks.transport import EngineTransport
from fanbid import attach_bridge
from fanbridge.outbox import select_outcomes
from fanbridge.service.server import RunningService, ServiceSettings
from pacing.clocks import MS_PER_MINUTE
from pacing.facts import TOKEN_BYTES, OutcomeKind, RowStatus
from protos import bidding_pb2, campaigns_pb2
from targeting.segments.store import Change
from tests.fanbridge.services import START_AT_MS, connected, events, running_service

CREATOR_ID = 17
VIEWER_ID = 501
PRICE_MICROS = 1_000


def advance(services: Services, minutes: int) -> None:
    services.scheduler.advance_to(services.clock.wall_ms() + minutes * MS_PER_MINUTE)


def buy_a_fan(services: Services) -> int:
    """Create a campaign, win a slot with it, show it, and have the viewer follow; the campaign's id."""
    caller = EngineTransport(services, services.access.create_token("operator", 0, START_AT_MS))
    feed = EngineTransport(services, services.access.create_token("feed", 0, START_AT_MS))
    campaign = campaigns_pb2.Campaign(
        creator_id=CREATOR_ID,
        name="joined",
        goal=campaigns_pb2.GOAL_FANS,
        bid_mode=campaigns_pb2.BID_MODE_TARGET_COST,
        target_cost_micros=10**6,
        daily_budget_micros=10**9,
        total_budget_micros=10**10,
        zone="Asia/Shanghai",
        creatives=[campaigns_pb2.Creative(creative_id=1, title="one", category=3)],
        targeting=campaigns_pb2.Targeting(segment=campaigns_pb2.Targeting.Segment(segment_id="dancers")),
    )
    rows = services.viewers.ensure(np.array([VIEWER_ID], np.uint64))
    services.segments.put("dancers", rows, Change.REPLACE)
    request = campaigns_pb2.CreateCampaignRequest(campaign=campaign)
    created = caller.call("Campaigns/CreateCampaign", request, campaigns_pb2.Campaign)
    advance(services, 5)
    asked = bidding_pb2.BidRequest(
        id="1",
        at=bidding_pb2.AUCTION_TYPE_SECOND_PRICE,
        viewers=bidding_pb2.Viewers(ids=[VIEWER_ID]),
        predictions=bidding_pb2.Predictions(viewer_idx=[0], campaign_ids=[created.campaign_id], probabilities=[0.5]),
    )
    bids = feed.call("Bidding/Bid", asked, bidding_pb2.BidResponse)
    assert list(bids.campaign_ids) == [created.campaign_id]
    kinds = [bidding_pb2.OUTCOME_KIND_WIN, bidding_pb2.OUTCOME_KIND_BILLABLE, bidding_pb2.OUTCOME_KIND_FOLLOW]
    outcomes = bidding_pb2.ReportRequest(
        kinds=kinds, tokens=bids.tokens[:TOKEN_BYTES] * len(kinds), prices_micros=[PRICE_MICROS, PRICE_MICROS, 0]
    )
    told = feed.call("Bidding/Report", outcomes, bidding_pb2.ReportResponse)
    assert list(told.statuses) == [bidding_pb2.ROW_STATUS_ACCEPTED] * len(kinds)
    return created.campaign_id


def test_a_bought_fan_comes_back_as_a_tier(tmp_path: Path) -> None:
    with running_service(tmp_path / "fans") as fans:
        config = ServeConfig(data=tmp_path / "server", virtual_clock=START_AT_MS, fan_service=fans.address)
        services = build_services(config)
        bridge = attach_bridge(services)
        assert bridge is not None
        try:
            bought = buy_a_fan(services)
            advance(services, 5)
            tiers = {name: services.segments.members(name) for name in services.segments.names if "tier:" in name}
            members = {name: services.viewers.ids[list(rows)].tolist() for name, rows in tiers.items() if rows}
            outcomes = select_outcomes(*services.ledger.read_judged(0, 100))
            keys = zip(*(outcomes[name].tolist() for name in ("lease_id", "hold_seq", "kind")), strict=True)
            # The impression, and the follow.
            assert [fans.store.audience_of(*key) for key in keys] == ["dancers", "dancers"]
            kept = services.learner.kept_fans
            assert kept.figures(bought, services.clock.wall_ms()).gained == 1
            with connected(fans.address) as platform:
                left = events((9, VIEWER_ID, CREATOR_ID, OutcomeKind.UNFOLLOW, services.clock.wall_ms()))
                assert platform.push_events(left).tolist() == [RowStatus.ACCEPTED]
            advance(services, 5)
            figures = kept.figures(bought, services.clock.wall_ms())
            assert (figures.gained, figures.lost, figures.expected) == (1, 1, 0.0)
        finally:
            bridge.close()
            services.close()
    assert members == {f"tier:potential:{CREATOR_ID}": [VIEWER_ID]}


def test_a_tier_becomes_a_segment_while_the_bridge_runs_at_its_own_pace(tmp_path: Path) -> None:
    """On the machine's clock; `bench fans` says how long it takes."""
    fans = RunningService(ServiceSettings(tmp_path / "fans"))
    services = build_services(ServeConfig(data=tmp_path / "server", fan_service=fans.address))
    bridge = attach_bridge(services)
    assert bridge is not None
    try:
        now_ms = services.clock.wall_ms()
        with connected(fans.address) as platform:
            for event_id, kind in enumerate((OutcomeKind.FOLLOW, OutcomeKind.ORDER), start=1):
                told = platform.push_events(events((event_id, VIEWER_ID, CREATOR_ID, kind, now_ms)))
                assert told.tolist() == [RowStatus.ACCEPTED]
        name, give_up_at_s = f"tier:high-value:{CREATOR_ID}", time.monotonic() + 120
        while name not in services.segments.names or not services.segments.members(name):
            assert time.monotonic() < give_up_at_s, services.segments.names
            time.sleep(0.02)
        assert services.viewers.ids[list(services.segments.members(name))].tolist() == [VIEWER_ID]
    finally:
        bridge.close()
        services.close()
        fans.stop()


@pytest.mark.parametrize("config", [ServeConfig(), ServeConfig(no_bridge=True, fan_service="127.0.0.1:1")])
def test_no_bridge_where_none_is_wanted(config: ServeConfig) -> None:
    services = build_services(config)
    try:
        assert attach_bridge(services) is None
    finally:
        services.close()
