"""How much a creator can learn of one viewer from the reasons why: whatever a campaign's audience is made to ask."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest

from auction.audience import whys
from auction.campaigns.limits import RateLimited
from auction.campaigns.store import NoSuchCampaign
from auction.status import refusal_of
from pacing.clocks import MS_PER_DAY
from protos import audience_pb2 as pb
from protos import campaigns_pb2
from targeting.segments.store import Change
from tests.auction.bid.engines import Engine, Role

OWN = 7
STARS = range(900, 948)
ONE, OTHER = 1, 2


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """Two viewers who differ in whom they follow and what interests them, and saw an ad of every creator."""
    monkeypatch.setattr("auction.audience.insights_service.Insights._was_reached", lambda *_: True)
    running = Engine()
    edges = [(ONE, 901), (ONE, 930), (OTHER, 947)]
    follows = pb.PutFollowsRequest(follower_ids=[a for a, _ in edges], followed_ids=[b for _, b in edges])
    running.call("Audience/PutFollows", follows, pb.PutFollowsResponse, Role.OPERATOR)
    attributes, interests = np.array([[3] * 6, [1] * 6], np.uint16), np.array([0b1010, 0b0001], np.uint64)
    running.services.viewers.put(np.array([ONE, OTHER], np.uint64), attributes, interests)
    yield running
    running.close()


def both(*parts: Any) -> dict[str, Any]:
    return {"all": {"of": parts}}


def either(*parts: Any) -> dict[str, Any]:
    return {"any": {"of": parts}}


def fans(*creators: int) -> dict[str, Any]:
    return {"fans_of": {"creator_ids": creators}}


def edit(engine: Engine, campaign_id: int, targeting: Any) -> None:
    changed = campaigns_pb2.Campaign(campaign_id=campaign_id, targeting=targeting)
    request = campaigns_pb2.UpdateCampaignRequest(campaign=changed, update_fields=["targeting"])
    engine.call("Campaigns/UpdateCampaign", request, campaigns_pb2.UpdateCampaignResponse, Role.CREATOR, OWN)


def why(engine: Engine, campaign_id: int, viewer_id: int, bearer: int = OWN, **slot: Any) -> str:
    """What is told; `bearer` 0: with an operator's token."""
    request = pb.ExplainViewerRequest(viewer_id=viewer_id, campaign_id=campaign_id, **slot)
    role = Role.CREATOR if bearer else Role.OPERATOR
    return str(engine.call("Audience/ExplainViewer", request, pb.ExplainViewerResponse, role, bearer).english)


def test_what_always_holds_tells_no_viewer_from_another(engine: Engine) -> None:
    """One conjunction of tautologies asks about 48 creators, all interests and all ages at once."""
    sixteens = [list(STARS)[k : k + 16] for k in (0, 16, 32)]
    asks_all = both(
        {"interests": {"codes": range(64)}},
        {"attribute": {"dimension": 2, "codes": range(8)}},
        *(either(fans(*some), {"none": fans(*some)}) for some in sixteens),
    )
    made = engine.create(creator_id=OWN, targeting=asks_all)
    told = {why(engine, made.campaign_id, viewer) for viewer in (ONE, OTHER)}
    rest = "meets one of 2 alternatives; does not follow the creator yet"
    start = "interested in 0, 1, 2, 3, 4 or 59 more; age band unknown, 1, 2, 3, 4 or 3 more; "
    named = "16 accounts that you named"
    assert told == {f"{start}follows {named}; {rest}", f"{start}does not follow {named}; {rest}"}, "one bit"
    whole = [why(engine, made.campaign_id, viewer, bearer=0) for viewer in (ONE, OTHER)]
    assert whole[0].startswith("interested in 1 and 3; age band 3; follows an account that you named; follows an")
    assert whole[1].startswith("interested in 0; age band 1; does not follow 16")


def test_edits_and_slots_are_questions_and_there_are_so_many_a_viewer_and_day(engine: Engine) -> None:
    by_placement = [both({"attribute": {"dimension": 8, "codes": [k]}}, fans(901)) for k in range(1, 4)]
    made = engine.create(creator_id=OWN, targeting=either(*by_placement, fans(930)))
    for k in range(whys.QUESTIONS_A_VIEWER // 2):
        assert why(engine, made.campaign_id, ONE, placement=k)
    for k in range(whys.QUESTIONS_A_VIEWER // 2):
        edit(engine, made.campaign_id, fans(901 + k))
        assert bool(why(engine, made.campaign_id, ONE)) is (k == 0)
    edit(engine, made.campaign_id, either(fans(901), both(fans(901), fans(930))))  # means what was asked already
    with pytest.raises(RateLimited, match="10 questions about this viewer were asked today"):
        why(engine, made.campaign_id, ONE)
    edit(engine, made.campaign_id, fans(901))
    assert why(engine, made.campaign_id, ONE), "the same again counts once"
    assert not why(engine, made.campaign_id, OTHER) and why(engine, made.campaign_id, ONE, bearer=0, placement=9)
    with pytest.raises(RateLimited):
        why(engine, made.campaign_id, ONE, content_tags=["bgm:x"])
    engine.jump(MS_PER_DAY)
    assert why(engine, made.campaign_id, ONE, placement=9)


def test_another_creators_campaign_is_as_one_that_is_not_there(engine: Engine) -> None:
    made = engine.create(creator_id=OWN, targeting=fans(901))
    for campaign_id in (made.campaign_id, made.campaign_id + 1):
        with pytest.raises(NoSuchCampaign, match=f"{campaign_id}") as refused:
            why(engine, campaign_id, ONE, bearer=8)
        assert refusal_of(refused.value).code is grpc.StatusCode.NOT_FOUND


def test_a_campaign_goes_on_to_answer_when_a_list_in_it_is_deleted(engine: Engine) -> None:
    crowd = engine.services.viewers.ensure(np.arange(2_000, 3_100, dtype=np.uint64))
    engine.services.segments.put("own:7:vip", crowd, Change.REPLACE)
    listed = {"segment": {"segment_id": "own:7:vip"}}
    made = engine.create(creator_id=OWN, targeting=either(listed, fans(901)))
    before = why(engine, made.campaign_id, ONE)
    assert before
    gone = pb.PutSegmentRequest(segment_id="vip", change=pb.SEGMENT_CHANGE_REPLACE)
    engine.call("Audience/PutSegment", gone, pb.PutSegmentResponse, Role.CREATOR, OWN)
    assert not len(engine.services.segments.members("own:7:vip"))
    assert why(engine, made.campaign_id, ONE) == before
