"""What pacing is told about many campaigns at once, held to what it would be told of each alone."""

from __future__ import annotations

import numpy as np

from auction.accounts import Accounts, aimed_target_micros
from pacing.facts import OutcomeKind
from protos import campaigns_pb2
from tests.auction.bid.engines import Engine, tokens_of


def test_accounts_of_all_are_the_accounts_of_each() -> None:
    engine = Engine()
    services = engine.services
    engine.create(daily_budget_micros=5_000_000)
    capped = {"bid_mode": campaigns_pb2.BID_MODE_TARGET_COST, "target_cost_micros": 700_001}
    for _ in range(2):
        engine.create(**capped)
    engine.report([OutcomeKind.BILLABLE] * 5, tokens_of(engine.bid(range(1, 6))), prices_micros=[100] * 5)
    engine.go_round()
    asked: list[int] = []

    def planned_before(campaign_id: int, day_key: int) -> int:
        asked.append(campaign_id)
        return 10 * campaign_id + (day_key > 0)

    gathering = Accounts(services.bank, services.progress, services.learner.arrived_share, planned_before)
    campaigns = services.publisher.campaigns
    ids = [campaign.campaign_id for campaign in campaigns]
    accounts = gathering.gather(campaigns, engine.now_ms, np.array([False, True, True]))
    assert accounts["campaign_id"].tolist() == asked == ids[1:]
    accounts = gathering.gather(campaigns, engine.now_ms)
    assert asked == [*ids[1:], ids[0]]
    assert accounts["day_planned_micros"].tolist() == [10 * ids[0] + 1, 0, 0]
    assert accounts["day_spend_micros"].sum() == 500
    for row, campaign in zip(accounts, campaigns, strict=True):
        money = engine.account(campaign.campaign_id)
        bought = services.progress.estimate(
            campaign.campaign_id, int(money["day_key"]), engine.now_ms, services.learner.arrived_share
        )
        for name in ("day_start_at_ms", "day_end_at_ms", "day_cap_micros", "day_spend_micros", "flight_cap_micros"):
            assert row[name] == money[name]
        assert row["target_cost_micros"] == aimed_target_micros(campaign.target_cost_micros, bought)
        assert [row["day_expected_events"], row["day_predicted_events"]] == [bought.events, bought.predicted_events]
        assert row["events_ratio"] == bought.ratio
        assert [row["start_at_ms"], row["end_at_ms"]] == [campaign.start_at_ms, campaign.end_at_ms]
        assert row["history_group"] == campaign.category
    assert accounts["target_cost_micros"][0] == 0 < accounts["target_cost_micros"][1] < 700_001
    assert accounts["day_predicted_events"].max() > 0
    engine.close()


def test_an_edited_campaign_is_told_as_it_is_now() -> None:
    engine = Engine()
    services = engine.services
    engine.create()
    gathering = Accounts(services.bank, services.progress, services.learner.arrived_share, lambda *_: 0)
    assert len(gathering.gather(services.publisher.campaigns, engine.now_ms)) == 1
    engine.create(bid_mode=campaigns_pb2.BID_MODE_TARGET_COST, target_cost_micros=700_000)
    accounts = gathering.gather(services.publisher.campaigns, engine.now_ms)
    assert (accounts["target_cost_micros"] > 0).tolist() == [False, True]
    engine.close()
