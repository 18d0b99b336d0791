"""What a creator's own lists can be made to tell of one viewer: small ones are of no use, and reach has noise on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from auction.audience import noisy_reach
from auction.campaigns.limits import RateLimited
from auction.status import Refused, refusal_of
from pacing.clocks import MS_PER_DAY
from protos import audience_pb2 as pb
from protos import campaigns_pb2
from targeting.own_lists import MIN_MEMBERS
from targeting.reach import noise
from targeting.reach.counter import Reach
from targeting.segments.portable import ids_to_bytes
from tests.auction.bid.engines import Engine, Role, a_campaign

KNOWN = 5_000
STAR = 900


@pytest.fixture
def engine(tmp_path: Path):
    running = Engine(tmp_path)
    fans = range(1, KNOWN + 1, 2)
    follows = pb.PutFollowsRequest(follower_ids=fans, followed_ids=[STAR] * len(fans))
    running.call("Audience/PutFollows", follows, pb.PutFollowsResponse, Role.OPERATOR)
    known = np.arange(1, KNOWN + 1, dtype=np.uint64)
    running.services.segments.put("everybody", running.services.viewers.ensure(known), 2)
    yield running
    running.close()


def put(engine: Engine, name: str, ids: Any, change: int = 1, creator: int = 7, **fields: Any) -> int:
    request = pb.PutSegmentRequest(segment_id=name, change=change, viewer_ids=ids, **fields)
    return engine.call("Audience/PutSegment", request, pb.PutSegmentResponse, Role.CREATOR, creator).members


def node(name: str) -> dict[str, Any]:
    return {"segment": {"segment_id": name}}


def reach(engine: Engine, audience: Any, creator: int = 7) -> tuple[int, int]:
    """`creator` 0: with an operator's token, for creator 7."""
    role = Role.CREATOR if creator else Role.OPERATOR
    request = pb.EstimateReachRequest(targeting=campaigns_pb2.Targeting(**audience), creator_id=7)
    answer = engine.call("Audience/EstimateReach", request, pb.EstimateReachResponse, role, creator)
    return answer.low, answer.high


def holds(told: tuple[int, int], viewers: int) -> bool:
    return told[0] <= viewers <= told[1]


@pytest.fixture
def noised(monkeypatch) -> list[int]:
    """The numbers with noise on them that were rounded to ranges."""
    found: list[int] = []

    def watched(count: int, draw: bytes) -> Reach:
        told = noise.noisy(count, draw)
        found.append(told.count)
        return told

    monkeypatch.setattr(noisy_reach, "noisy", watched)
    return found


def among_fans(*names: str) -> dict[str, Any]:
    return {"all": {"of": [*map(node, names), {"fans_of": {"creator_ids": [STAR]}}]}}


def test_a_list_that_is_too_small_is_of_no_use(engine):
    with pytest.raises(ValueError, match=f"own:7:few': 999 viewers who are known; .* must have {MIN_MEMBERS}"):
        put(engine, "few", range(1, MIN_MEMBERS))
    with pytest.raises(ValueError, match="999 viewers who are known"):
        put(engine, "few", [*range(1, MIN_MEMBERS), 10**9])  # ids of nobody who is known do not count
    assert put(engine, "few", range(1, MIN_MEMBERS + 1)) == MIN_MEMBERS
    made = engine.call(
        "Campaigns/CreateCampaign",
        campaigns_pb2.CreateCampaignRequest(campaign=a_campaign(targeting=node("own:7:few"))),
        campaigns_pb2.Campaign, Role.CREATOR, 7,
    )  # fmt: skip
    with pytest.raises(ValueError, match="999 members of 'own:7:few' would be left, too few"):
        put(engine, "few", [1], change=3)
    operators = pb.PutSegmentRequest(segment_id="own:7:few", change=3, viewer_ids=[1])
    engine.call("Audience/PutSegment", operators, pb.PutSegmentResponse, Role.OPERATOR)
    aimed = campaigns_pb2.Targeting(none=node("own:7:few"))

    def create() -> None:
        request = campaigns_pb2.CreateCampaignRequest(campaign=a_campaign(targeting=aimed))
        engine.call("Campaigns/CreateCampaign", request, campaigns_pb2.Campaign, Role.CREATOR, 7)

    def edit() -> None:
        changed = campaigns_pb2.Campaign(campaign_id=made.campaign_id, targeting=aimed)
        request = campaigns_pb2.UpdateCampaignRequest(campaign=changed, update_fields=["targeting"])
        engine.call("Campaigns/UpdateCampaign", request, campaigns_pb2.UpdateCampaignResponse, Role.CREATOR, 7)

    for question in (create, edit, lambda: reach(engine, {"none": node("own:7:few")})):
        with pytest.raises((ValueError, Refused), match=r"targeting.none.segment: .* 999 viewers") as refused:
            question()
        told = refusal_of(refused.value)
        assert (told.code, told.field) == (grpc.StatusCode.INVALID_ARGUMENT, "targeting.none.segment")
    for size, words in (
        (2_000, r"seed_segment_id 'own:7:few': 999"),
        (999, "size 999: a creator's lookalike must have 1000"),
    ):
        wanted = pb.PutLookalikeRequest(segment_id="like", seed_segment_id="few", size=size)
        with pytest.raises(ValueError, match=words):
            engine.call("Audience/PutLookalike", wanted, pb.PutLookalikeResponse, Role.CREATOR, 7)
        put(engine, "few", [1], change=2)
    assert put(engine, "few", []) == 0


def aim_at(engine: Engine, name: str) -> None:
    request = campaigns_pb2.CreateCampaignRequest(campaign=a_campaign(targeting=node(name)))
    engine.call("Campaigns/CreateCampaign", request, campaigns_pb2.Campaign, Role.CREATOR, 7)
    engine.go_round()


def test_a_list_that_a_campaign_is_aimed_at_never_shrinks_to_a_few_viewers(engine, tmp_path):
    put(engine, "vip", range(1, 1_501))
    aim_at(engine, "own:7:vip")
    file = bytes(ids_to_bytes(np.arange(2, 1_501, dtype=np.uint64)))
    parts = pb.ImportSegmentRequest(segment_id="vip", change=3, import_id=1, size=len(file), part=file)
    for remove in (
        lambda: put(engine, "vip", range(2, 1_501), change=3),
        lambda: engine.call("Audience/ImportSegment", parts, pb.ImportSegmentResponse, Role.CREATOR, 7),
    ):
        with pytest.raises(ValueError, match="1 members of 'own:7:vip' would be left"):
            remove()
    assert list(engine.bid([1, 2]).nbr) == [0, 0]
    assert put(engine, "vip", range(1, 501), change=3) == 1_000, "enough are left"
    assert put(engine, "vip", range(501, 1_501), change=3) == 0, "nobody may be left"
    engine.go_round()
    assert list(engine.bid([1, 1_500]).nbr) == [501, 501]


def test_a_list_of_which_a_few_would_be_left_by_its_dates_is_emptied_and_stays_so(engine, tmp_path):
    until = engine.now_ms + 60_000
    for name, staying in (("small", range(1, 2)), ("large", range(1, 1_001))):
        put(engine, name, range(1_000, 2_001), expires_at_ms=until)
        put(engine, name, staying, change=2)
    aim_at(engine, "own:7:small")
    assert list(engine.bid([1, 1_001]).nbr) == [0, 0]
    engine.advance(60_000)
    engine.go_round()
    assert list(engine.bid([1, 1_001]).nbr) == [501, 501]
    assert engine.services.segments.rows("own:7:large").size == 1_000
    put(engine, "small", range(3_000, 4_001), change=2)
    engine.services.close()
    again = Engine(tmp_path, start_at_ms=until)
    engine.services = again.services
    assert engine.services.segments.rows("own:7:small").size == 1_001, "not with whoever was left"


def test_reach_with_a_list_in_it_has_noise_that_asking_again_does_not_average_out(engine, noised):
    ids = list(range(1, 1_201))
    put(engine, "vip", ids)
    put(engine, "same", ids[::-1])
    put(engine, "same", ids, creator=8)
    told = reach(engine, among_fans("own:7:vip"))
    assert told[1] - told[0] >= 100 and abs(noised[0] - 600) < 600
    assert holds(reach(engine, among_fans("own:7:vip"), creator=0), 600) and len(noised) == 1, "operators: no noise"
    again = [
        among_fans("own:7:vip"),
        among_fans("own:7:same"),
        among_fans("own:7:vip", "own:7:same"),
        {"all": {"of": [{"any": {"of": [node("own:7:same"), node("own:7:vip")]}}, among_fans()]}},
        {"none": {"none": among_fans("own:7:vip")}},
    ]
    region = [{"attribute": {"dimension": 1, "codes": [code]}} for code in range(1, 9)]
    again += [{"any": {"of": [again[0], {"all": {"of": [again[1], part]}}]}} for part in region]
    assert {reach(engine, audience) for audience in again} == {told} and len(noised) == 1
    # A list of one viewer less is another question; so is another day. Both have noise of their own.
    for _ in days(engine, 20):
        reach(engine, among_fans("own:7:vip"))
    assert len(noised) == 20 and len(set(noised)) > 3
    noised.clear()
    for without in ids[1:80:2]:  # none of them follows the star: the number stays
        put(engine, "vip", [i for i in ids if i != without])
        reach(engine, among_fans("own:7:vip"))
    assert len(noised) == 40 and len(set(noised)) > 3


def days(engine: Engine, count: int):
    for _ in range(count):
        yield
        engine.services.clock.advance_to(engine.now_ms + MS_PER_DAY)


def test_what_changes_within_a_day_does_not_show_under_noise_that_stays(engine):
    put(engine, "vip", range(1, 3_001))
    told = reach(engine, among_fans("own:7:vip"))
    fans = range(2, 3_001, 2)
    follows = pb.PutFollowsRequest(follower_ids=fans, followed_ids=[STAR] * len(fans))
    engine.call("Audience/PutFollows", follows, pb.PutFollowsResponse, Role.OPERATOR)
    assert reach(engine, among_fans("own:7:vip")) == told
    engine.services.clock.advance_to(engine.now_ms + MS_PER_DAY)
    assert reach(engine, among_fans("own:7:vip"))[0] > 2_000


def test_a_start_draws_new_noise_and_never_old_noise_on_new_numbers(tmp_path, noised):
    told = []
    for _ in range(3):
        again = Engine(tmp_path)
        if not told:
            known = np.arange(1, KNOWN + 1, dtype=np.uint64)
            follows = pb.PutFollowsRequest(follower_ids=known, followed_ids=[STAR] * KNOWN)
            again.call("Audience/PutFollows", follows, pb.PutFollowsResponse, Role.OPERATOR)
            put(again, "vip", range(1, 3_001))
        for code in range(5):
            other = {"none": {"interests": {"codes": [code]}}}
            reach(again, {"all": {"of": [node("own:7:vip"), other]}})
        told.append(tuple(noised))
        noised.clear()
        again.close()
    assert len(set(told)) == 3


def test_a_creator_asks_so_many_different_questions_about_lists_a_day(engine, monkeypatch):
    put(engine, "vip", range(1, 3_001))
    put(engine, "vip", range(1, 3_001), creator=8)
    count = engine.services.audience._insights._noisy_reach._questions
    monkeypatch.setattr(count, "_most", 3)
    assert noisy_reach.QUESTIONS_A_DAY == 200

    def ask(code: int, creator: int = 7) -> tuple[int, int]:
        audience = {"all": {"of": [node(f"own:{creator}:vip"), {"none": {"interests": {"codes": [code]}}}]}}
        return reach(engine, audience, creator)

    told = [ask(code) for code in range(3)]
    with pytest.raises(RateLimited, match="3 audiences with lists of yours were asked today; at most 3") as refused:
        ask(3)
    assert 0 < refused.value.retry_after_s <= MS_PER_DAY / 1_000
    assert [ask(code) for code in range(3)] == told
    assert holds(reach(engine, among_fans()), 2_500), "what names no list is not counted"
    ask(3, creator=8)
    engine.services.clock.advance_to(engine.now_ms + MS_PER_DAY)
    ask(3)
