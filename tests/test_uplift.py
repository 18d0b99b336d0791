"""Fans who rise, through the real fan service: who is alike in all else is bid more for, where a campaign asks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from auction.config import ServeConfig
from auction.kept_fans import KeptFans
from auction.services import Services, build_services
from benchmarks.transport import EngineTransport
from fanbid import attach_bridge
from fanbridge.events import FAN_EVENT
from fanbridge.service.server import RunningService
from pacing.clocks import MS_PER_MINUTE
from pacing.facts import DECISION, FLAG_TIER_UPLIFT, OutcomeKind, RowStatus, worth_micros
from protos import bidding_pb2, campaigns_pb2
from tests.auction.audit.ledgers import check
from tests.fanbridge.services import START_AT_MS, connected, running_service

FAN_DAY_MS = MS_PER_MINUTE
ASKING_CREATOR, PLAIN_CREATOR = 17, 18
FEMALE, MALE = 1, 2
FANS = 500
"""Bought by each campaign, as many of either gender; the women's tier rises."""


class World:
    """A server and its fan service on virtual time, with two campaigns for kept fans, of which one asks for tiers."""

    def __init__(self, services: Services, fans: RunningService) -> None:
        self.services = services
        self.fans = fans
        self.caller = EngineTransport(services, services.access.create_token("operator", 0, START_AT_MS))
        self.feed = EngineTransport(services, services.access.create_token("feed", 0, START_AT_MS))
        self._next_viewer = 1_000
        self.asking = self._create(ASKING_CREATOR, 3.0)
        self.plain = self._create(PLAIN_CREATOR, 0.0)

    def _create(self, creator_id: int, worth: float) -> int:
        campaign = campaigns_pb2.Campaign(
            creator_id=creator_id, name=f"of {creator_id}", goal=campaigns_pb2.GOAL_KEPT_FANS, high_tier_worth=worth,
            bid_mode=campaigns_pb2.BID_MODE_AUTOMATIC, daily_budget_micros=10**11, total_budget_micros=10**12,
            zone="UTC", creatives=[campaigns_pb2.Creative(creative_id=1, title="one", category=3)],
        )  # fmt: skip
        request = campaigns_pb2.CreateCampaignRequest(campaign=campaign)
        return self.caller.call("Campaigns/CreateCampaign", request, campaigns_pb2.Campaign).campaign_id

    def set_worth(self, worth: float) -> None:
        campaign = campaigns_pb2.Campaign(campaign_id=self.asking, high_tier_worth=worth)
        request = campaigns_pb2.UpdateCampaignRequest(campaign=campaign, update_fields=["high_tier_worth"])
        answer = self.caller.call("Campaigns/UpdateCampaign", request, campaigns_pb2.UpdateCampaignResponse)
        assert answer.campaign.high_tier_worth == worth

    def advance(self, minutes: int) -> None:
        self.services.scheduler.advance_to(self.services.clock.wall_ms() + minutes * MS_PER_MINUTE)

    def bid(self, per_gender: int, foretold: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Ask for new viewers, as many of either gender: the decisions of all bids, and the gender of each."""
        n = 2 * per_gender
        ids = np.arange(self._next_viewer, self._next_viewer + n, dtype=np.uint64)
        self._next_viewer += n
        genders = np.where(np.arange(n) < per_gender, FEMALE, MALE)
        predictions = bidding_pb2.Predictions()
        if foretold:
            campaigns = [self.asking, self.plain] * n
            predictions = bidding_pb2.Predictions(
                viewer_idx=np.repeat(np.arange(n), 2).tolist(), campaign_ids=campaigns, probabilities=[0.5] * (2 * n)
            )
        request = bidding_pb2.BidRequest(
            id="1", at=bidding_pb2.AUCTION_TYPE_FIRST_PRICE, max_bids_per_viewer=2, predictions=predictions,
            viewers=bidding_pb2.Viewers(ids=ids.tolist(), genders=genders.tolist()),
        )  # fmt: skip
        bids = self.feed.call("Bidding/Bid", request, bidding_pb2.BidResponse)
        decisions = np.frombuffer(bids.tokens, DECISION)
        return decisions, genders[(decisions["viewer_id"] - ids[0]).astype(np.int64)]

    def report(self, decisions: np.ndarray, *kinds: OutcomeKind) -> None:
        for kind in kinds:
            prices = [] if kind is OutcomeKind.FOLLOW else np.minimum(decisions["bid_micros"], 1_000).tolist()
            request = bidding_pb2.ReportRequest(
                kinds=[kind] * len(decisions), tokens=decisions.tobytes(), prices_micros=prices
            )
            told = self.feed.call("Bidding/Report", request, bidding_pb2.ReportResponse)
            assert set(told.statuses) == {bidding_pb2.ROW_STATUS_ACCEPTED}, told.details[:3]

    def buy_fans(self, per_gender: int) -> None:
        """Buy so many for each campaign; the fan service hears of an order of each woman: with her follow, that makes a
        high-value fan."""
        decisions, genders = self.bid(per_gender, foretold=True)
        self.report(decisions, OutcomeKind.WIN, OutcomeKind.BILLABLE, OutcomeKind.FOLLOW)
        self.advance(2)
        women = decisions[genders == FEMALE]
        events = np.zeros(len(women), FAN_EVENT)
        events["event_id"] = 10 * women["viewer_id"] + (women["campaign_id"] == self.asking)
        events["viewer_id"], events["creator_id"] = women["viewer_id"], women["creator_id"]
        events["kind"], events["occurred_at_ms"] = OutcomeKind.ORDER, self.services.clock.wall_ms()
        with connected(self.fans.address) as platform:
            assert set(platform.push_events(events).tolist()) == {RowStatus.ACCEPTED}
        self.advance(2)

    def kept_fans(self, campaign_id: int) -> campaigns_pb2.KeptFans:
        request = campaigns_pb2.GetReportRequest(campaign_id=campaign_id)
        return self.caller.call("Campaigns/GetReport", request, campaigns_pb2.CampaignReport).kept_fans

    def worths(self, is_uplifted: bool) -> dict[int, np.ndarray]:
        """By campaign, the alpha of women and of men over that of pacing, once supply was measured; bids are shown."""
        for _ in range(8):
            self.bid(20)
            self.advance(1)
        decisions, genders = self.bid(50)
        self.report(decisions, OutcomeKind.WIN, OutcomeKind.BILLABLE)
        found = {}
        for campaign_id in (self.asking, self.plain):
            alpha = self.services.control.multiplier_micros(campaign_id)
            mine = decisions["campaign_id"] == campaign_id
            ratios = [decisions["alpha_micros"][mine & (genders == gender)] / alpha for gender in (FEMALE, MALE)]
            assert all(len(np.unique(of_gender)) == 1 for of_gender in ratios), "alike viewers, alike worths"
            flagged = (decisions["flags"][mine] & FLAG_TIER_UPLIFT) != 0
            assert flagged.all() == flagged.any() == (campaign_id == self.asking and is_uplifted)
            found[campaign_id] = np.array([of_gender[0] for of_gender in ratios])
            np.testing.assert_array_less(decisions["bid_micros"][mine], worth_micros(decisions)[mine] + 1)
        return found


def test_fans_who_rise_are_bid_more_for_where_a_campaign_asks(tmp_path: Path) -> None:
    with running_service(tmp_path / "fans") as fans:
        config = ServeConfig(data=tmp_path / "server", virtual_clock=START_AT_MS, fan_service=fans.address)
        services = build_services(config)
        services.learner.kept_fans = KeptFans(services.predictor, FAN_DAY_MS)
        bridge = attach_bridge(services)
        assert bridge is not None
        try:
            world = World(services, fans)
            while not len(world.bid(20)[0]):  # an automatic campaign feels its way to a first multiplier
                world.advance(1)
            untold = world.worths(is_uplifted=False)
            for _ in range(FANS // 50):
                world.buy_fans(25)
            world.advance(10)
            told = world.worths(is_uplifted=True)
            figures = [world.kept_fans(campaign_id) for campaign_id in (world.asking, world.plain)]
            world.set_worth(1.0)
            back = world.worths(is_uplifted=False)
        finally:
            bridge.close()
            services.close()
    plain = [found[world.plain].tolist() for found in (untold, told, back)]
    assert plain == [[1.0, 1.0]] * 3, "to the bit"
    assert untold[world.asking].tolist() == back[world.asking].tolist() == [1.0, 1.0]
    high, low = told[world.asking]
    assert high / low > 1.8, "three for one, of whom nearly all rise and nearly none do"
    assert (high + low) / 2 == pytest.approx(1.0, abs=0.1), "alpha stays what pacing made it"
    assert [(of.gained, of.risen) for of in figures] == [(FANS, FANS // 2)] * 2
    found = check(tmp_path / "server")
    assert found.difference is None and found.bids.derived == found.billables > 1_000
