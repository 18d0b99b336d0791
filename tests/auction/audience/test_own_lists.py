"""Lists of a creator's own, on a whole engine: whose they are, who may aim at them, how many there may be."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from auction.audience import own_lists_service as own_lists
from auction.campaigns.access import Forbidden, Principal, Role
from auction.campaigns.limits import RateLimited
from auction.campaigns.model import InvalidTargeting
from auction.status import Refused, refusal_of
from benchmarks.lookalike.graphs import made_up_graph
from protos import audience_pb2 as pb
from protos import campaigns_pb2
from targeting.own_lists import own_segment, owner_of
from targeting.segments.portable import ids_to_bytes
from tests.auction.bid.engines import Engine, a_campaign

KNOWN = 400


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("targeting.own_lists.MIN_MEMBERS", 1)  # how small they may be is tested on its own
    running = Engine(tmp_path)
    links = made_up_graph(KNOWN, 8, 1)
    follows = pb.PutFollowsRequest(follower_ids=links.followers + 1, followed_ids=links.followed + 1)
    running.call("Audience/PutFollows", follows, pb.PutFollowsResponse, Role.OPERATOR)
    yield running
    running.close()


def put(engine: Engine, creator: int, name: str, ids: Any, change: int = 1) -> pb.PutSegmentResponse:
    """`creator` 0: with an operator's token."""
    role = Role.CREATOR if creator else Role.OPERATOR
    request = pb.PutSegmentRequest(segment_id=name, change=change, viewer_ids=ids)
    return engine.call("Audience/PutSegment", request, pb.PutSegmentResponse, role, creator)


def listed(engine: Engine, role: Role, creator: int = 0) -> dict[str, int]:
    answer = engine.call("Audience/ListSegments", pb.ListSegmentsRequest(), pb.ListSegmentsResponse, role, creator)
    assert answer.creator_id == creator
    return {one.segment_id: one.members for one in answer.segments}


def like(engine: Engine, creator: int, name: str, seeds: str, **fields: Any) -> pb.PutLookalikeResponse:
    request = pb.PutLookalikeRequest(segment_id=name, seed_segment_id=seeds, size=60, **fields)
    return engine.call("Audience/PutLookalike", request, pb.PutLookalikeResponse, Role.CREATOR, creator)


def aimed_at(name: str) -> campaigns_pb2.Targeting:
    """Also where it is left out, deep inside."""
    never = campaigns_pb2.Targeting(none={"segment": {"segment_id": name}})
    return campaigns_pb2.Targeting(all={"of": [{"interests": {"codes": [1]}}, never]})


def test_a_list_is_the_creators_own_and_a_lookalike_of_it_too_also_after_a_restart(engine, tmp_path):
    put(engine, 0, "vip", [1])
    known = engine.services.viewers.size
    answer = put(engine, 7, "vip", [*range(1, 41), 99_999])
    assert (answer.segment_id, answer.members, answer.left_out) == ("own:7:vip", 40, 1)
    assert engine.services.viewers.size == known, "whom a creator names becomes no viewer by that"
    assert put(engine, 8, "vip", [5]).segment_id == "own:8:vip"
    assert like(engine, 7, "like", "own:7:vip").members == 60
    assert listed(engine, Role.CREATOR, 7) == {"own:7:like": 60, "own:7:vip": 40}
    assert listed(engine, Role.CREATOR, 8) == {"own:8:vip": 1}
    assert listed(engine, Role.OPERATOR) == {"own:7:like": 60, "own:7:vip": 40, "own:8:vip": 1, "vip": 1}
    engine.services.close()
    again = Engine(tmp_path)
    try:
        assert listed(again, Role.CREATOR, 7) == {"own:7:like": 60, "own:7:vip": 40}
        assert put(again, 7, "vip", []).members == 0
        assert listed(again, Role.CREATOR, 7) == {"own:7:like": 60}
    finally:
        engine.services = again.services


def test_a_lookalike_is_changed_as_a_whole_so_that_no_change_tells_who_is_in_it(engine):
    put(engine, 7, "vip", range(1, 41))
    like(engine, 7, "like", "vip")
    for change in (2, 3):
        with pytest.raises(ValueError, match=f"change {change}: 'own:7:like' is a lookalike"):
            put(engine, 7, "like", [1], change)
    assert put(engine, 0, "own:7:like", [1], 2).members == 61, "operators know who is in it anyway"
    assert put(engine, 7, "like", [1, 2]).members == 2
    assert put(engine, 7, "like", [3], 2).members == 3, "an upload in its place is a list like others"


def test_another_creators_list_looks_like_none(engine):
    put(engine, 8, "vip", range(1, 41))
    put(engine, 7, "mine", range(1, 41))

    def told(call: Any, name: str) -> str:
        with pytest.raises(Forbidden) as refused:
            call(name)
        return str(refused.value).replace(name, "NAME")

    def asked(name: str) -> None:
        engine.call(
            "Audience/GetLookalike", pb.GetLookalikeRequest(segment_id=name), pb.GetLookalikeResponse, Role.CREATOR, 7
        )

    calls = (
        lambda name: put(engine, 7, name, [1]),
        lambda name: like(engine, 7, "like", name),
        lambda name: like(engine, 7, name, "mine"),
        asked,
    )
    for call in calls:
        assert len({told(call, name) for name in ("own:8:vip", "own:8:absent", "fans:8", "own:08:vip")}) == 1
    with pytest.raises(Forbidden, match="creator_id 8"):
        like(engine, 7, "like", "mine", creator_id=8)
    with pytest.raises(ValueError, match="1 to 39"):
        put(engine, 7, "x" * 40, [1])
    with pytest.raises(ValueError, match="must read own:CREATOR_ID:NAME"):
        put(engine, 0, "own:vip", [1])
    assert len(engine.services.segments.members("own:8:vip")) == 40


def test_a_creators_campaign_may_aim_at_own_lists_only(engine):
    def create(name: str, role: Role = Role.CREATOR) -> campaigns_pb2.Campaign:
        request = campaigns_pb2.CreateCampaignRequest(campaign=a_campaign(creator_id=7, targeting=aimed_at(name)))
        bearer = 7 if role is Role.CREATOR else 0
        return engine.call("Campaigns/CreateCampaign", request, campaigns_pb2.Campaign, role, bearer)

    def update(**fields: Any) -> campaigns_pb2.UpdateCampaignResponse:
        edit = campaigns_pb2.Campaign(campaign_id=made.campaign_id, **fields)
        request = campaigns_pb2.UpdateCampaignRequest(campaign=edit, update_fields=list(fields))
        answer = campaigns_pb2.UpdateCampaignResponse
        return engine.call("Campaigns/UpdateCampaign", request, answer, Role.CREATOR, 7)

    put(engine, 7, "vip", range(1, 41))
    made = create("own:7:vip")
    for change in (
        lambda: create("own:8:vip"),
        lambda: create("own:77:vip"),
        lambda: create("own:x"),
        lambda: create("tier:iron:8"),
        lambda: update(targeting=aimed_at("own:8:vip")),
        lambda: update(targeting=aimed_at("stage:lost:8")),
    ):
        with pytest.raises((Refused, InvalidTargeting), match=r"targeting.all\[1\].none.segment: .*own:7:") as error:
            change()
        refused = refusal_of(error.value)
        assert (refused.code, refused.field) == (grpc.StatusCode.INVALID_ARGUMENT, "targeting.all[1].none.segment")
    assert update(targeting=aimed_at("tier:iron:7")).campaign.version == 2
    made = create("own:8:vip", Role.OPERATOR)
    assert update(name="Other").campaign.name == "Other", "what an operator aimed stays, also under a creator's edits"


def test_questions_of_a_creator_tell_nothing_of_others_lists_or_fans(engine, monkeypatch):
    put(engine, 8, "vip", range(1, 41))
    put(engine, 7, "vip", range(1, 41))
    iron = engine.services.viewers.ensure(np.arange(1, 41, dtype=np.uint64))
    for creator in (7, 8):
        engine.services.segments.put(f"tier:iron:{creator}", iron, 2)
    monkeypatch.setattr("auction.audience.insights_service.Insights._was_reached", lambda *_: True)

    def reach(name: str, role: Role, bearer: int = 0, creator_id: int = 0) -> int:
        request = pb.EstimateReachRequest(targeting={"segment": {"segment_id": name}}, creator_id=creator_id)
        return engine.call("Audience/EstimateReach", request, pb.EstimateReachResponse, role, bearer).high

    def why(name: str) -> None:
        made = engine.create(creator_id=7, targeting=aimed_at(name))  # as an operator may
        request = pb.ExplainViewerRequest(viewer_id=1, campaign_id=made.campaign_id)
        engine.call("Audience/ExplainViewer", request, pb.ExplainViewerResponse, Role.CREATOR, 7)

    assert reach("own:8:vip", Role.OPERATOR) >= 40 and reach("own:7:vip", Role.CREATOR, 7) >= 60
    assert reach("own:8:vip", Role.OPERATOR, creator_id=7) == reach("tier:iron:8", Role.OPERATOR) >= 40
    assert reach("tier:iron:7", Role.CREATOR, 7) >= 40
    why("own:7:vip")
    why("tier:iron:7")
    for question in (
        lambda name: reach(name, Role.CREATOR, 7),
        lambda name: reach(name, Role.CREATOR, 7, creator_id=8),
        why,
    ):
        for names in (("own:8:vip", "own:8:absent"), ("tier:iron:8", "tier:iron:9"), ("members:8", "members:no-ads")):
            texts = set()
            for name in names:
                with pytest.raises(ValueError, match="is not of creator 7") as refused:
                    question(name)
                texts.add(str(refused.value).replace(name, "NAME"))
            assert len(texts) == 1


def test_a_plain_name_of_an_own_list_is_refused_with_the_whole_one(engine):
    put(engine, 7, "vip", range(1, 41))
    put(engine, 8, "theirs", range(1, 41))

    def reach(name: str) -> int:
        request = pb.EstimateReachRequest(targeting=aimed_at(name))
        return engine.call("Audience/EstimateReach", request, pb.EstimateReachResponse, Role.CREATOR, 7).high

    def create(name: str) -> None:
        request = campaigns_pb2.CreateCampaignRequest(campaign=a_campaign(targeting=aimed_at(name)))
        engine.call("Campaigns/CreateCampaign", request, campaigns_pb2.Campaign, Role.CREATOR, 7)

    for question in (reach, create):
        with pytest.raises(
            (Refused, InvalidTargeting), match="'vip': must be 'own:7:vip', the name of your"
        ) as refused:
            question("vip")
        assert refusal_of(refused.value).field == "targeting.all[1].none.segment"
        question("own:7:vip")
        question("theirs")  # another creator's list has no plain name here; it is as one that nobody has
    engine.services.segments.put("vip", engine.services.viewers.ensure(np.arange(1, 41, dtype=np.uint64)), 2)
    create("vip")  # the platform's own


def test_a_lookalike_of_own_tiers_may_be_made_and_of_no_others(engine):
    rows = engine.services.viewers.ensure(np.arange(1, 41, dtype=np.uint64))
    for creator in (7, 8):
        engine.services.segments.put(f"tier:iron:{creator}", rows, 2)
    assert like(engine, 7, "like", "tier:iron:7").seeds == 40
    with pytest.raises(Forbidden, match=r"tier:iron:8.*tier:TIER:7"):
        like(engine, 7, "like", "tier:iron:8")


def test_lists_are_so_many_so_large_and_so_often_and_operators_are_free(engine, monkeypatch):
    monkeypatch.setattr(own_lists, "MAX_LISTS", 2)
    monkeypatch.setattr(own_lists, "MAX_NAMES", 3)
    for name in ("a", "b"):
        put(engine, 7, name, [1, 2])
    with pytest.raises(Refused, match="there are 2 lists; at most 2") as refused:
        put(engine, 7, "c", [1])
    assert refused.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    put(engine, 7, "a", [3])
    put(engine, 8, "c", [1])
    put(engine, 7, "a", [])
    put(engine, 7, "c", [1])
    put(engine, 7, "c", [])
    with pytest.raises(Refused, match="3 names were used for lists; at most 3"):
        put(engine, 7, "d", [1])
    put(engine, 0, "own:7:d", [1])
    monkeypatch.setattr(own_lists, "MAX_MEMBERS", 3)
    put(engine, 7, "b", [3], change=2)
    with pytest.raises(ValueError, match="4 members of a list; at most 3"):
        put(engine, 7, "b", [4], change=2)
    with pytest.raises(ValueError, match="seeds: 3 known viewers; must be 10"):
        like(engine, 7, "b", "b")


def test_a_days_ids_are_counted_and_come_back_with_time(engine):
    now_s = [0.0]
    lists = own_lists.OwnLists(engine.services, lambda: now_s[0])
    creator = Principal(Role.CREATOR, 7, 1)
    for _ in range(20):
        lists.spend(creator, own_lists.LOOKALIKE_IDS)
    with pytest.raises(RateLimited, match="20000000 ids a day"):
        lists.spend(creator, own_lists.LEAST_IDS)
    lists.spend(Principal(Role.OPERATOR, 0, 2), own_lists.LOOKALIKE_IDS)
    lists.spend(Principal(Role.CREATOR, 8, 3), own_lists.LOOKALIKE_IDS)
    now_s[0] = 86_400 / 20 + 1
    lists.spend(creator, own_lists.LOOKALIKE_IDS)


def test_one_lookalike_of_a_creator_is_made_at_a_time(engine, monkeypatch):
    put(engine, 7, "vip", range(1, 41))
    put(engine, 8, "vip", range(1, 41))
    maker = engine.services.audience._lookalikes
    go_on, make = threading.Event(), maker.make

    def waits(*given: Any) -> Any:
        go_on.wait(30)
        return make(*given)

    monkeypatch.setattr(maker, "make", waits)
    like(engine, 7, "like", "vip", in_background=True)
    try:
        for creator, words in ((7, "your lookalike 'own:7:like' is being made"), (8, "another lookalike is being")):
            with pytest.raises(Refused, match=words) as refused:
                like(engine, creator, "other", "vip")
            assert refused.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED and str(7) not in words[30:]
        for creator, name, change in ((7, "like", 1), (0, "own:7:like", 1), (0, "own:7:like", 2)):
            with pytest.raises(Refused, match="'own:7:like': a lookalike is being made that will replace") as refused:
                put(engine, creator, name, [1], change)
            assert refused.value.code is grpc.StatusCode.FAILED_PRECONDITION
        file = bytes(ids_to_bytes(np.array([1], np.uint64)))
        parts = pb.ImportSegmentRequest(segment_id="like", change=1, import_id=1, size=len(file), part=file)
        with pytest.raises(Refused, match="a lookalike is being made that will replace it"):
            engine.call("Audience/ImportSegment", parts, pb.ImportSegmentResponse, Role.CREATOR, 7)
        assert put(engine, 7, "vip", range(1, 31)).members == 30, "its seeds were taken already"
    finally:
        go_on.set()


def test_names_of_lists_say_whose_they_are():
    longest = own_segment(2**64 - 1, "x" * 39)
    assert len(longest) == 64 and owner_of(longest) == 2**64 - 1
    nobodys = ("own:0:a", "own:07:a", "own:7:", "own:7:a:b", "own:7", f"own:{2**64}:a", "vip", "xown:7:a")
    assert [owner_of(name) for name in nobodys] == [0] * len(nobodys)
