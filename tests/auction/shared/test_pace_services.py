"""Two whole servers in this process on one redis-server: one paces a campaign, both bid with its multiplier."""

from __future__ import annotations

from pathlib import Path

from auction.campaigns.access import Role
from auction.config import ServeConfig
from auction.services import Services, build_services
from benchmarks.redis_servers import redis_server, wait_until
from protos import campaigns_pb2
from tests.auction.bid.engines import a_campaign

PATIENCE_S = 60.0
"""On a machine that has much else to do; alone it takes two seconds."""


def create(services: Services) -> int:
    token = services.access.create_token(Role.OPERATOR, 0, services.clock.wall_ms())
    request = campaigns_pb2.CreateCampaignRequest(campaign=a_campaign())
    raw = services.handle("Campaigns/CreateCampaign", request.SerializeToString(), token)
    return campaigns_pb2.Campaign.FromString(raw).campaign_id


def pacing(services: Services, campaign_id: int) -> bool:
    assert services.membership is not None and services.membership.pacer is not None
    rows = services.pacer.memory(services.clock.wall_ms()).rows
    return bool(services.membership.pacer.paces(rows["campaign_id"])[rows["campaign_id"] == campaign_id].any())


def test_one_paces_and_both_bid_the_same(tmp_path: Path) -> None:
    with redis_server() as redis:
        one, two = (build_services(ServeConfig(data=tmp_path / name, redis=redis.url)) for name in ("one", "two"))
        living = [one, two]
        try:
            campaign_id = create(one)
            two.campaign_changed(one.store.get(campaign_id))
            for each in (one, two):
                each.start()

            def agree() -> bool:
                alphas = {each.control.multiplier_micros(campaign_id) for each in (one, two)}
                return len(alphas) == 1 and alphas != {0.0}

            wait_until(agree, "both to bid with one multiplier", PATIENCE_S)
            wait_until(lambda: pacing(one, campaign_id) != pacing(two, campaign_id), "exactly one to pace", PATIENCE_S)
            first, second = (one, two) if pacing(one, campaign_id) else (two, one)
            living.remove(first)
            first.close()
            wait_until(lambda: pacing(second, campaign_id), "the other to take over", PATIENCE_S)
            assert second.control.multiplier_micros(campaign_id) > 0
        finally:
            for each in living:
                each.close()
