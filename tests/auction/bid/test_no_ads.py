"""Who is never sold, and who is left out unless a campaign wants them: asked of a whole engine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from auction.bid.nobid import NBR_BID, NBR_NO_ADS, NBR_NOT_TARGETED
from auction.campaigns.access import Role
from protos import audience_pb2, bidding_pb2
from targeting.expressions import NO_ADS_SEGMENT
from tests.auction.bid.engines import Engine

CREATOR, STRANGER, FAN, MEMBER, PAYER, BOTH = 7, 501, 502, 503, 504, 505
"""PAYER bought "no ads"; BOTH did, and is a fan and a paying member as well."""


@pytest.fixture
def engine() -> Iterator[Engine]:
    running = Engine()
    put(running, NO_ADS_SEGMENT, PAYER, BOTH)
    put(running, f"members:{CREATOR}", MEMBER, BOTH)
    follows = audience_pb2.PutFollowsRequest(follower_ids=[FAN, BOTH], followed_ids=[CREATOR, CREATOR])
    running.call("Audience/PutFollows", follows, audience_pb2.PutFollowsResponse, Role.OPERATOR)
    yield running
    running.close()


def put(engine: Engine, name: str, *viewer_ids: int, change: int = audience_pb2.SEGMENT_CHANGE_ADD) -> None:
    request = audience_pb2.PutSegmentRequest(segment_id=name, change=change, viewer_ids=viewer_ids)
    engine.call("Audience/PutSegment", request, audience_pb2.PutSegmentResponse, Role.OPERATOR)


def reasons(engine: Engine, **changes: object) -> dict[int, int]:
    viewers = [STRANGER, FAN, MEMBER, PAYER, BOTH]
    return dict(zip(viewers, engine.bid(viewers, **changes).nbr, strict=True))


def test_fans_and_paying_members_are_left_out_unless_they_are_wanted(engine: Engine) -> None:
    engine.create(creator_id=CREATOR)
    left_out = {STRANGER: NBR_BID, FAN: NBR_NOT_TARGETED, MEMBER: NBR_NOT_TARGETED}
    assert reasons(engine) == {**left_out, PAYER: NBR_NO_ADS, BOTH: NBR_NO_ADS}
    engine.create(creator_id=CREATOR, include_fans=True)
    wanted = dict.fromkeys((STRANGER, FAN, MEMBER), NBR_BID)
    assert reasons(engine) == {**wanted, PAYER: NBR_NO_ADS, BOTH: NBR_NO_ADS}


def test_no_campaign_and_no_request_gets_at_who_bought_no_ads(engine: Engine) -> None:
    """Neither by naming their segment, nor by the caller's certainty that they would follow."""
    campaign = engine.create(creator_id=8, include_fans=True, targeting={"segment": {"segment_id": NO_ADS_SEGMENT}})
    certain = bidding_pb2.Predictions(viewer_idx=[3, 4], campaign_ids=[campaign.campaign_id] * 2, probabilities=[1, 1])
    found = reasons(engine, predictions=certain)
    assert found[PAYER] == found[BOTH] == NBR_NO_ADS and found[STRANGER] == NBR_NOT_TARGETED
    engine.create(creator_id=9)
    answer = engine.bid([STRANGER, PAYER, BOTH])
    assert list(answer.viewer_idx) == [0] and list(answer.nbr) == [NBR_BID, NBR_NO_ADS, NBR_NO_ADS]


def test_who_buys_no_ads_is_left_alone_from_the_next_request_on(engine: Engine) -> None:
    engine.create(creator_id=CREATOR)
    assert reasons(engine)[STRANGER] == NBR_BID
    put(engine, NO_ADS_SEGMENT, STRANGER)  # and no snapshot is published in between
    assert reasons(engine)[STRANGER] == NBR_NO_ADS
    put(engine, NO_ADS_SEGMENT, STRANGER, change=audience_pb2.SEGMENT_CHANGE_REMOVE)
    assert reasons(engine)[STRANGER] == NBR_BID


def test_reach_counts_only_who_may_be_reached(engine: Engine) -> None:
    put(engine, "crowd", *range(1_000, 2_000))
    put(engine, NO_ADS_SEGMENT, *range(1_000, 1_400))
    put(engine, "members:9", *range(1_900, 2_000))
    everybody = {"targeting": {"segment": {"segment_id": "crowd"}}, "creator_id": 9}
    assert reach(engine, **everybody) == (500, 600)
    assert reach(engine, include_fans=True, **everybody) == (600, 700)


def reach(engine: Engine, **fields: object) -> tuple[int, int]:
    request = audience_pb2.EstimateReachRequest(**fields)
    answer = engine.call("Audience/EstimateReach", request, audience_pb2.EstimateReachResponse, Role.OPERATOR)
    return answer.low, answer.high
