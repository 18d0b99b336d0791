"""Laotie, whole: friends of fans, and who follows creators similar to the campaign's, in front of a whole engine."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from auction.bid.nobid import NBR_BID, NBR_NOT_TARGETED
from auction.campaigns.access import Role
from auction.config import ServeConfig
from auction.services import NEW_SIMILAR_PERIOD_MS, SIMILAR_PERIOD_MS, VIRTUAL_STRETCH, build_services
from pacing.facts import OutcomeKind
from protos import audience_pb2 as pb
from protos import campaigns_pb2
from targeting.expressions import similar_segment
from tests.auction.bid.engines import Engine, a_campaign, tokens_of
from tests.auction.rest.serving import served_engine

OWN, LIKE, LESS_LIKE, OTHER = 7, 70, 71, 72
FANS = range(101, 113)
OF_LIKE, OF_LESS_LIKE, OF_BOTH, OF_OTHER, FRIEND, BOTH_HALVES = 501, 502, 503, 504, 505, 506
FRIENDS, SIMILAR = {"friends_of_fans": True}, {"fans_of_similar_creators": True}


def put_follows(engine: Engine, *edges: tuple[int, int]) -> None:
    request = pb.PutFollowsRequest(follower_ids=[a for a, _ in edges], followed_ids=[b for _, b in edges])
    engine.call("Audience/PutFollows", request, pb.PutFollowsResponse, Role.OPERATOR)


def put_graph(engine: Engine) -> None:
    """OWN has twelve fans: ten follow LIKE, five LESS_LIKE beside 196 of its own, four OTHER, too few to count. Many
    others follow somebody, too: else these would be no more than chance gives."""
    put_follows(engine, *((fan, OWN) for fan in FANS), *((fan, LIKE) for fan in FANS[:10]))
    put_follows(engine, *((fan, LESS_LIKE) for fan in FANS[:5]), *((fan, OTHER) for fan in FANS[:4]))
    put_follows(engine, *((fan, LESS_LIKE) for fan in range(1_000, 1_196)))
    put_follows(engine, *((20_000 + k, 60_000 + k) for k in range(30_000)))
    put_follows(engine, (OF_LIKE, LIKE), (OF_LESS_LIKE, LESS_LIKE), (OF_BOTH, LIKE), (OF_BOTH, LESS_LIKE))
    put_follows(engine, (OF_OTHER, OTHER), (FRIEND, FANS[11]), (BOTH_HALVES, FANS[11]), (BOTH_HALVES, LIKE))


def bidders(engine: Engine, *viewer_ids: int) -> list[int]:
    """Who is bid for."""
    return [viewer for viewer, nbr in zip(viewer_ids, engine.bid(viewer_ids).nbr, strict=True) if nbr == NBR_BID]


def similar_audience() -> campaigns_pb2.Targeting:
    return campaigns_pb2.Targeting(fans_of_similar_creators=True)


def find_new(engine: Engine) -> None:
    engine.advance(NEW_SIMILAR_PERIOD_MS * VIRTUAL_STRETCH)
    engine.go_round()


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    running = Engine()
    put_graph(running)
    yield running
    running.close()


@pytest.fixture(scope="module")
def creator(engine: Engine) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {engine.token(Role.CREATOR, OWN)}"}
    with (
        served_engine(engine) as address,
        httpx.Client(base_url=address, headers=headers, timeout=20) as client,
    ):
        yield client


def reach(creator: httpx.Client, **question: object) -> tuple[int, int]:
    """The range that the viewers are told in, of hundreds here."""
    found = creator.post("/api/audiences/reach", json=question).json()
    return found["low"], found["high"]


def test_reach_of_either_half_and_of_both(creator: httpx.Client) -> None:
    assert reach(creator, targeting=SIMILAR) == (200, 300)  # 200
    assert reach(creator, targeting=SIMILAR, include_fans=True) == (200, 300)  # 210
    assert reach(creator, targeting=FRIENDS) == (0, 100)  # five: the three creators whom fans follow are friends, too
    assert reach(creator, targeting={"any": [FRIENDS, SIMILAR]}) == (200, 300)  # 201
    assert reach(creator, targeting={"all": [SIMILAR, {"none": FRIENDS}]}) == (100, 200)  # 199


def test_who_is_bid_for_and_why(engine: Engine, creator: httpx.Client) -> None:
    targeting = {"any": [FRIENDS, SIMILAR]}
    everybody = (OF_LIKE, OF_LESS_LIKE, OF_BOTH, OF_OTHER, FRIEND, BOTH_HALVES, FANS[0])
    campaign = {
        "name": "Laotie", "goal": "fans", "bid_mode": "automatic", "daily_budget_micros": 16_000_000,
        "total_budget_micros": 160_000_000, "zone": "Asia/Shanghai", "creatives": [{"creative_id": "1"}],
        "targeting": targeting, "frequency_cap_per_day": 100,
    }  # fmt: skip
    made = creator.post("/api/campaigns", json=campaign).json()
    assert made["targeting"] == targeting
    find_new(engine)
    matched = [OF_LIKE, OF_LESS_LIKE, OF_BOTH, FRIEND, BOTH_HALVES]
    assert bidders(engine, *everybody) == matched
    answer = engine.bid(matched)
    paid = {"prices_micros": [10_000] * len(matched)}
    engine.report([OutcomeKind.WIN] * len(matched), tokens_of(answer), **paid)
    engine.report([OutcomeKind.BILLABLE] * len(matched), tokens_of(answer), **paid)
    engine.go_round()

    def why(viewer_id: int) -> tuple[str, str]:
        question = {"campaign_id": made["campaign_id"], "viewer_id": str(viewer_id)}
        told = creator.post("/api/audiences/why", json=question).json()
        assert told["matched"] is True
        return told["english"], told["chinese"]

    no_fan, no_fan_zh = "; does not follow the creator yet", "；尚未关注主播"
    beyond = "follows a creator whose fans overlap with the creator's beyond chance"
    beyond_zh = "关注了与主播相似的主播（粉丝重合超出随机水平）"
    friend, friend_zh = (
        "follows someone who follows the creator, or is followed by one",
        "关注了主播的粉丝，或被主播的粉丝关注",
    )
    assert why(OF_LIKE) == (f"{beyond}{no_fan}", f"{beyond_zh}{no_fan_zh}")
    assert why(FRIEND) == (f"{friend}{no_fan}", f"{friend_zh}{no_fan_zh}")
    for known in (LIKE, LESS_LIKE):  # creators, as they have campaigns; nobody else is named
        engine.create(creator_id=known)
    like = "70 (fewer than 100 of their fans follow the creator too, over 1,000 times what chance gives)"
    like_zh = "70（其粉丝中有不到100人也关注主播，是随机情况的1000倍以上）"
    less = "71 (fewer than 100 of their fans follow the creator too, over 20 times what chance gives)"
    less_zh = "71（其粉丝中有不到100人也关注主播，是随机情况的20倍以上）"
    assert why(OF_LIKE) == (f"follows {like}, a similar creator{no_fan}", f"关注了与主播相似的主播{like_zh}{no_fan_zh}")
    assert why(OF_BOTH) == (
        f"follows {like} and {less}, similar creators{no_fan}",
        f"关注了与主播相似的主播{like_zh}、{less_zh}{no_fan_zh}",
    )
    engine.create(creator_id=FANS[11])
    assert why(FRIEND) == (f"friend of 112, who follows the creator{no_fan}", f"是主播粉丝112的好友{no_fan_zh}")
    assert why(BOTH_HALVES) == (
        f"friend of 112, who follows the creator; follows {like}, a similar creator{no_fan}",
        f"是主播粉丝112的好友；关注了与主播相似的主播{like_zh}{no_fan_zh}",
    )


def test_whom_the_audience_names_is_told_of_if_it_is_a_creator_and_no_private_person_is() -> None:
    engine = Engine()
    put_graph(engine)
    put_follows(engine, (OF_LIKE, FANS[0]), (OF_LIKE, FANS[1]))
    audience = {"all": {"of": [
        {"friends_of_fans": True}, {"fans_of_similar_creators": True}, {"fans_of": {"creator_ids": [LIKE, FANS[0]]}},
    ]}}  # fmt: skip
    question = pb.ExplainViewerRequest(viewer_id=OF_LIKE, creator_id=OWN, targeting=audience)

    def why() -> list[str]:
        told = engine.call("Audience/ExplainViewer", question, pb.ExplainViewerResponse, Role.OPERATOR).english
        return list(told.split("; ")[:3])

    friends, similar, named = why()
    assert friends == "follows someone who follows the creator, or is followed by one"
    assert similar == "follows a creator whose fans overlap with the creator's beyond chance"
    assert named == "follows 2 accounts that you named"
    engine.create(creator_id=LIKE)
    friends, similar, named = why()
    assert friends == "follows someone who follows the creator, or is followed by one"
    assert similar.startswith("follows 70 (")
    assert named == "follows creator 70 and an account that you named"
    engine.close()


def test_a_creator_without_similar_ones_is_looked_at_again_and_forgotten_with_the_last_campaign() -> None:
    engine = Engine()
    put_follows(engine, *((20_000 + k, 60_000 + k) for k in range(30_000)), *((fan, OWN) for fan in FANS))
    made = engine.create(creator_id=OWN, targeting=similar_audience())
    find_new(engine)
    put_follows(engine, *((fan, LIKE) for fan in FANS), (OF_LIKE, LIKE))
    assert bidders(engine, OF_LIKE) == []
    find_new(engine)  # the first minutes on virtual time, seconds on real time
    assert bidders(engine, OF_LIKE) == [OF_LIKE]
    request = campaigns_pb2.ChangeStatusRequest(campaign_id=made.campaign_id)
    engine.call("Campaigns/EndCampaign", request, campaigns_pb2.Campaign, Role.OPERATOR)
    assert engine.services.segments.members(similar_segment(OWN))
    for _ in range(2):
        engine.advance(SIMILAR_PERIOD_MS * VIRTUAL_STRETCH)
    assert not engine.services.segments.members(similar_segment(OWN))
    engine.close()


def test_fresh_follows_count_at_the_next_request_and_new_similarity_when_it_is_looked_for() -> None:
    engine = Engine()
    put_graph(engine)
    engine.create(creator_id=OWN, targeting=similar_audience())
    assert bidders(engine, OF_LIKE) == []  # nobody has looked yet
    find_new(engine)
    assert bidders(engine, OF_LIKE, 900, OF_OTHER) == [OF_LIKE]
    put_follows(engine, (900, LIKE))
    assert bidders(engine, 900) == [900]
    reported = engine.report([OutcomeKind.FOLLOW], viewer_ids=[901], creator_ids=[LIKE])
    assert len(reported.statuses) == 1 and bidders(engine, 901) == []
    engine.services.follow()  # as it is twice a second
    assert bidders(engine, 901) == [901]
    engine.report([OutcomeKind.UNFOLLOW], viewer_ids=[901], creator_ids=[LIKE])
    engine.services.follow()
    assert bidders(engine, 901) == []
    put_follows(engine, (FANS[4], OTHER))  # the fifth fan in common
    engine.go_round()
    assert engine.bid([OF_OTHER]).nbr[0] == NBR_NOT_TARGETED
    engine.advance(SIMILAR_PERIOD_MS * VIRTUAL_STRETCH)
    engine.go_round()
    assert bidders(engine, OF_OTHER) == [OF_OTHER]
    engine.close()


def test_a_restart_finds_them_again_and_the_segment_is_nobodys_to_write(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    put_graph(engine)
    engine.create(creator_id=OWN, targeting=similar_audience())
    find_new(engine)
    assert bidders(engine, OF_LIKE) == [OF_LIKE]
    with pytest.raises(ValueError, match="are reserved"):
        request = pb.PutSegmentRequest(segment_id=similar_segment(OWN), change=1, viewer_ids=[9])
        engine.call("Audience/PutSegment", request, pb.PutSegmentResponse, Role.OPERATOR)
    now_ms = engine.now_ms
    engine.close()
    again = Engine(tmp_path, start_at_ms=now_ms)
    find_new(again)
    assert bidders(again, OF_LIKE, OF_OTHER) == [OF_LIKE]
    again.close()


def test_on_real_time_a_new_campaign_finds_them_within_seconds(tmp_path: Path) -> None:
    services = build_services(ServeConfig(data=tmp_path, policy="fixed"))
    try:
        fans = np.arange(101, 111, dtype=np.uint64)
        for creator_id in (OWN, LIKE):
            services.follows.put(fans, np.full(len(fans), creator_id, np.uint64))
        others = np.arange(30_000, dtype=np.uint64)
        services.follows.put(others + np.uint64(20_000), others + np.uint64(60_000))
        services.follows.put(np.array([OF_LIKE], np.uint64), np.array([LIKE], np.uint64))
        services.start()
        request = campaigns_pb2.CreateCampaignRequest(campaign=a_campaign(targeting=similar_audience()))
        token = services.access.create_token(Role.OPERATOR, 0, services.clock.wall_ms())
        services.handle("Campaigns/CreateCampaign", request.SerializeToString(), token)
        give_up_at = time.monotonic() + 60
        while not services.segments.members(similar_segment(OWN)) and time.monotonic() < give_up_at:
            time.sleep(0.05)
        rows = services.viewers.rows_of(np.array([OF_LIKE], np.uint64))
        assert int(rows[0]) in services.segments.members(similar_segment(OWN))
    finally:
        services.close()
