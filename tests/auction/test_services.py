"""A server's parts in one process: what a restart on the same folder knows again, and budgets kept to the micro."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from auction.bid.nobid import NBR_BID, NBR_BUDGET, NBR_NOT_TARGETED
from auction.campaigns.access import Role
from auction.config import ServeConfig
from auction.services import build_services
from pacing.budget.owner_redis import ForeignFolder
from pacing.clocks import MS_PER_DAY, MS_PER_HOUR
from pacing.days import local_day
from pacing.facts import OutcomeKind, RowStatus
from pacing.ledger.errors import LedgerInUse
from protos import audience_pb2, bidding_pb2, campaigns_pb2
from targeting.expressions import fans_segment, laotie_segment
from tests.auction.bid.engines import FIXED_BID_MICROS, NOON_MS, Engine, tokens_of

MONEY = ("day_cap_micros", "day_settled_micros", "flight_cap_micros", "flight_settled_micros", "over_delivered_micros")


def put_viewers(engine: Engine, ids: list[int], genders: list[int], masks: list[int]) -> None:
    viewers = bidding_pb2.Viewers(ids=ids, genders=genders, interest_masks=masks)
    request = audience_pb2.PutViewersRequest(viewers=viewers)
    engine.call("Audience/PutViewers", request, audience_pb2.PutViewersResponse, Role.OPERATOR)


def put_segment(engine: Engine, name: str, ids: list[int], change: int = audience_pb2.SEGMENT_CHANGE_REPLACE) -> int:
    request = audience_pb2.PutSegmentRequest(segment_id=name, change=change, viewer_ids=ids)
    return engine.call("Audience/PutSegment", request, audience_pb2.PutSegmentResponse, Role.OPERATOR).members


def put_follows(engine: Engine, edges: list[tuple[int, int]]) -> int:
    request = audience_pb2.PutFollowsRequest(follower_ids=[a for a, _ in edges], followed_ids=[b for _, b in edges])
    return engine.call("Audience/PutFollows", request, audience_pb2.PutFollowsResponse, Role.OPERATOR).follows


def members(engine: Engine, name: str) -> list[int]:
    rows = np.array(engine.services.segments.members(name).to_array(), np.int64)
    return sorted(engine.services.viewers.ids[rows].tolist())


def facts_of(engine: Engine, viewer_ids: list[int]) -> list[tuple[list[int], int]]:
    table = engine.services.viewers
    rows = table.rows_of(np.array(viewer_ids, np.uint64))
    assert (rows >= 0).all()
    return [(table.attributes[row].tolist(), int(table.interest_masks[row])) for row in rows]


def figures(engine: Engine, campaign_id: int) -> campaigns_pb2.CampaignReport:
    """The report, without what only a running server knows."""
    report = engine.campaign_report(campaign_id)
    for part in (report.total, report.today):
        part.ClearField("bids")
    report.ClearField("at_ms")
    report.ClearField("multiplier_micros")
    return report


def a_day_of_events(engine: Engine, campaign_id: int) -> None:
    """Bids, impressions, follows with and without a token, one fan who leaves."""
    answer = engine.bid(range(1, 11))
    tokens = tokens_of(answer)
    charged = [100 * k for k in range(1, 11)]
    shown = engine.report([OutcomeKind.BILLABLE] * 10, tokens, prices_micros=charged)
    assert set(shown.statuses) == {RowStatus.ACCEPTED}
    told = engine.report([OutcomeKind.FOLLOW, OutcomeKind.CLICK, OutcomeKind.FOLLOW], tokens[:3])
    assert set(told.statuses) == {RowStatus.ACCEPTED}
    organic = engine.report([OutcomeKind.FOLLOW, OutcomeKind.FOLLOW], viewer_ids=[50, 51], creator_ids=[7, 7])
    assert set(organic.statuses) == {RowStatus.ACCEPTED}
    engine.report([OutcomeKind.UNFOLLOW], viewer_ids=[51], creator_ids=[7])
    engine.go_round()


@pytest.mark.parametrize("tidy", [True, False], ids=["closed", "crashed"])
def test_a_restart_knows_everything_again(tmp_path: Path, tidy: bool) -> None:
    engine = Engine(tmp_path)
    put_viewers(engine, [1, 2, 3], [1, 2, 0], [5, 0, 2**63])
    put_viewers(engine, [2], [1], [8])
    put_segment(engine, "vip", [1, 2, 9])
    put_segment(engine, "vip", [2], audience_pb2.SEGMENT_CHANGE_REMOVE)
    put_segment(engine, "vip", [8], audience_pb2.SEGMENT_CHANGE_ADD)
    put_follows(engine, [(1, 400), (60, 7), (61, 60), (61, 60)])
    campaign = engine.create(creator_id=7, include_fans=True)
    paused = engine.create(creator_id=8, name="Paused")
    request = campaigns_pb2.ChangeStatusRequest(campaign_id=paused.campaign_id)
    engine.call("Campaigns/PauseCampaign", request, campaigns_pb2.Campaign, Role.OPERATOR)
    engine.go_round()
    a_day_of_events(engine, campaign.campaign_id)
    engine.services.save()
    # Some things happen behind the last save, too.
    late = tokens_of(engine.bid([70]))[0]
    assert engine.status(OutcomeKind.BILLABLE, late, 7_000) == RowStatus.ACCEPTED
    engine.report([OutcomeKind.FOLLOW], viewer_ids=[52], creator_ids=[7])
    engine.go_round()
    fans = [1, 3, 50, 52, 60]
    assert members(engine, fans_segment(7)) == fans
    friends = members(engine, laotie_segment(7))
    assert 61 in friends and not set(friends) & set(fans)
    before = figures(engine, campaign.campaign_id)
    assert (before.total.impressions, before.total.spend_micros, before.total.fans) == (11, 12_500, 2)
    account = engine.account(campaign.campaign_id)
    now_ms = engine.now_ms
    follows = engine.services.follows.size
    if tidy:
        engine.close()
    else:
        abandon(engine)

    again = Engine(tmp_path, start_at_ms=now_ms)
    try:
        assert members(again, "vip") == [1, 8, 9]
        assert members(again, fans_segment(7)) == fans
        assert members(again, laotie_segment(7)) == friends
        assert again.services.follows.size == follows
        assert facts_of(again, [1, 2, 3]) == [([0, 0, 1, 0, 0, 0], 5), ([0, 0, 1, 0, 0, 0], 8), ([0] * 6, 2**63)]
        after = figures(again, campaign.campaign_id)
        assert after.ledger_sequence >= before.ledger_sequence  # the ledger's own rows about leases came behind
        after.ledger_sequence = before.ledger_sequence
        assert after == before
        again_account = again.account(campaign.campaign_id)
        assert {name: again_account[name] for name in MONEY} == {name: account[name] for name in MONEY}
        assert again_account["day_spend_micros"] == account["day_spend_micros"] == 12_500
        answer = again.bid([80])
        assert list(answer.campaign_ids) == [campaign.campaign_id]
        assert again.status(OutcomeKind.BILLABLE, late, 7_000) == RowStatus.DUPLICATE
        assert again.status(OutcomeKind.BILLABLE, late, 7_001) == RowStatus.CONFLICT
        after = figures(again, campaign.campaign_id)
        assert after.ledger_sequence >= before.ledger_sequence  # the ledger's own rows about leases came behind
        after.ledger_sequence = before.ledger_sequence
        assert after == before
    finally:
        again.close()


def go_on(engine: Engine, campaign_id: int, rounds: int) -> list[int]:
    """Rounds of auctions a minute apart; what each had planned of the day so far."""
    planned = []
    for _ in range(rounds):
        engine.jump(60_000)
        answer = engine.bid(range(engine.now_ms, engine.now_ms + 50))
        tokens, prices = tokens_of(answer), [micros // 2 for micros in answer.prices_micros]
        if tokens:
            engine.report([OutcomeKind.BILLABLE] * len(tokens), tokens, prices_micros=prices)
        engine.go_round()
        planned.append(engine.campaign_report(campaign_id).today.planned_spend_micros)
    return planned


def abandon(engine: Engine) -> None:
    """What a crash leaves: nothing more is written down."""
    engine.services.ledger.close()
    engine.services.store.close()
    assert engine.services.journal is not None
    engine.services.journal.close()


@pytest.mark.parametrize("tidy", [True, False], ids=["closed", "crashed"])
def test_the_days_plan_goes_on_over_a_restart(tmp_path: Path, tidy: bool) -> None:
    engine = Engine(tmp_path, policy="engine")
    campaign_id = engine.create().campaign_id
    before = go_on(engine, campaign_id, 10)
    engine.services.save()
    saved = before[-1]
    assert saved > 0
    lost = go_on(engine, campaign_id, 2)
    now_ms = engine.now_ms
    if tidy:
        engine.close()
    else:
        abandon(engine)

    again = Engine(tmp_path, start_at_ms=now_ms, policy="engine")
    shown = again.campaign_report(campaign_id).today.planned_spend_micros
    assert shown == (lost[-1] if tidy else saved)
    after = go_on(again, campaign_id, 5)
    assert [shown, *after] == sorted([shown, *after])
    assert after[3] > shown, "the plan is added to, not begun anew and hidden until it is larger"
    hours = again.campaign_report(campaign_id).hours
    assert sum(hour.figures.planned_spend_micros for hour in hours) == after[-1]
    again.jump(MS_PER_DAY // 2 - 20 * 60_000)  # from noon: past midnight there is a new plan
    assert go_on(again, campaign_id, 5)[-1] < saved
    again.close()


def test_yesterdays_plan_of_a_paused_campaign_is_not_todays() -> None:
    engine = Engine(policy="engine")
    campaign_id = engine.create().campaign_id
    assert go_on(engine, campaign_id, 5)[-1] > 0
    request = campaigns_pb2.ChangeStatusRequest(campaign_id=campaign_id)
    engine.call("Campaigns/PauseCampaign", request, campaigns_pb2.Campaign, Role.OPERATOR)
    engine.jump(MS_PER_DAY)
    assert go_on(engine, campaign_id, 2) == [0, 0]
    engine.close()


def test_a_follow_leaves_the_audience_of_a_campaign_that_wants_new_fans(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    engine.create(creator_id=7)
    (token,) = tokens_of(engine.bid([5]))
    engine.report([OutcomeKind.BILLABLE, OutcomeKind.FOLLOW], [token, token], prices_micros=[1, 0])
    engine.go_round()
    assert list(engine.bid([5, 6]).nbr) == [NBR_NOT_TARGETED, NBR_BID]
    engine.close()
    again = Engine(tmp_path, start_at_ms=NOON_MS)
    assert list(again.bid([5, 6]).nbr) == [NBR_NOT_TARGETED, NBR_BID]
    again.report([OutcomeKind.UNFOLLOW], viewer_ids=[5], creator_ids=[7])
    again.go_round()
    assert list(again.bid([5]).nbr) == [NBR_BID]
    again.close()


def test_only_one_process_opens_a_folder(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    with pytest.raises(LedgerInUse):
        build_services(ServeConfig(data=tmp_path, virtual_clock=NOON_MS))
    engine.create()
    assert list(engine.bid([1]).nbr) == [NBR_BID]
    engine.close()


def test_without_a_folder_nothing_is_left_behind() -> None:
    engine = Engine()
    folder = engine.services.folder
    assert folder.exists()
    engine.close()
    assert not folder.exists()


def spend_all(engine: Engine, campaign_id: int, viewers) -> int:
    """Bid, and have every bid shown at its full amount, until there is no money; what was accepted."""
    accepted, refused = 0, 0
    while refused < 3:
        answer = engine.bid([next(viewers) for _ in range(7)])
        tokens = tokens_of(answer)
        if tokens:
            told = engine.report([OutcomeKind.BILLABLE] * len(tokens), tokens, prices_micros=list(answer.prices_micros))
            assert set(told.statuses) == {RowStatus.ACCEPTED}
            accepted += sum(answer.prices_micros)
        else:
            assert set(answer.nbr) == {NBR_BUDGET}
            refused += 1
        engine.jump(1_000)
        engine.go_round()
    account = engine.account(campaign_id)
    assert account["day_spend_micros"] <= account["day_cap_micros"]
    assert account["flight_spend_micros"] <= account["flight_cap_micros"]
    return accepted


@pytest.mark.parametrize("daily_micros", [1_000_000, 1_009_999])
def test_a_tiny_budget_is_spent_to_the_last_bid_and_never_passed(daily_micros: int) -> None:
    engine = Engine(start_at_ms=NOON_MS)
    viewers = iter(range(1, 10**6))
    total_micros = daily_micros + 500_000
    campaign_id = engine.create(daily_budget_micros=daily_micros, total_budget_micros=total_micros).campaign_id
    affordable = daily_micros // FIXED_BID_MICROS * FIXED_BID_MICROS
    assert spend_all(engine, campaign_id, viewers) == affordable
    first_day = engine.account(campaign_id)
    assert first_day["day_settled_micros"] == first_day["flight_settled_micros"] == affordable
    assert engine.campaign_report(campaign_id).total.spend_micros == affordable
    assert first_day["over_delivered_micros"] == 0

    midnight_ms = local_day(engine.now_ms, "Asia/Shanghai").end_at_ms
    engine.jump(midnight_ms - engine.now_ms - 1)
    engine.go_round()
    assert list(engine.bid([next(viewers)]).nbr) == [NBR_BUDGET]
    engine.jump(1)
    engine.go_round()
    left = (total_micros - affordable) // FIXED_BID_MICROS * FIXED_BID_MICROS
    assert spend_all(engine, campaign_id, viewers) == left
    second_day = engine.account(campaign_id)
    assert second_day["day_settled_micros"] == left
    assert second_day["flight_settled_micros"] == affordable + left <= total_micros

    engine.jump(MS_PER_DAY)
    engine.go_round()
    assert list(engine.bid([next(viewers)]).nbr) == [NBR_BUDGET]
    report = engine.campaign_report(campaign_id)
    assert report.total.spend_micros == affordable + left and report.over_delivered_micros == 0
    engine.close()


def test_silent_bids_give_their_money_back() -> None:
    engine = Engine()
    campaign_id = engine.create(daily_budget_micros=1_000_000, total_budget_micros=1_000_000).campaign_id
    answer = engine.bid(range(1, 200))
    assert len(tokens_of(answer)) <= 50 and NBR_BUDGET in set(answer.nbr)
    engine.jump(MS_PER_HOUR)
    engine.go_round()
    assert engine.account(campaign_id)["held_micros"] == 0
    assert spend_all(engine, campaign_id, iter(range(1_000, 10**6))) == 1_000_000
    engine.close()


def test_a_folder_with_campaigns_of_its_own_is_not_shared(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    engine.create()
    engine.close()
    with pytest.raises(ForeignFolder, match="has campaigns that are not shared; begin with a new folder"):
        build_services(ServeConfig(data=tmp_path, redis="redis://127.0.0.1:1"))
    again = Engine(tmp_path)  # and goes on as before
    assert len(again.services.store.all()) == 1
    again.close()
