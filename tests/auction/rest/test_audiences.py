"""Audiences over REST, in front of a whole engine."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import numpy as np
import pytest

from auction.campaigns.access import Role
from pacing.facts import OutcomeKind
from protos import audience_pb2 as pb
from tests.auction.bid.engines import Engine, tokens_of
from tests.auction.rest.serving import served_engine
from tests.auction.rest.test_rest import NEW, fails

OWN, STAR, RIVAL = 7, 900, 901


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    running = Engine()
    visits = [*((viewer, STAR) for viewer in range(1, 601)), *((viewer, RIVAL) for viewer in range(401, 1_201))]
    viewer_ids, creator_ids = zip(*visits, strict=True)
    running.report([OutcomeKind.LIVE_VISIT] * len(visits), viewer_ids=viewer_ids, creator_ids=creator_ids)
    running.go_round()
    yield running
    running.close()


@pytest.fixture(scope="module")
def address(engine: Engine) -> Iterator[str]:
    with served_engine(engine) as shim:
        yield shim


def client(address: str, engine: Engine, role: Role = Role.CREATOR, bearer: int = OWN) -> httpx.Client:
    headers = {"Authorization": f"Bearer {engine.token(role, bearer)}"}
    return httpx.Client(base_url=address, headers=headers, timeout=20)


@pytest.fixture(scope="module")
def creator(engine: Engine, address: str) -> Iterator[httpx.Client]:
    with client(address, engine) as found:
        yield found


def test_reach_then_a_campaign_then_a_bid(creator: httpx.Client, engine: Engine) -> None:
    targeting = {"all": [{"live_visitors_of": [str(STAR)]}, {"none": {"viewers_of": [str(RIVAL)]}}]}
    assert creator.post("/api/audiences/reach", json={"targeting": targeting}).json() == {"low": 600, "high": 700}
    made = creator.post("/api/campaigns", json=NEW | {"targeting": targeting})
    assert made.status_code == 201 and made.json()["targeting"] == targeting
    engine.go_round()
    assert list(engine.bid([600, 601]).nbr) == [0, 501]


def test_creators_are_compared(creator: httpx.Client) -> None:
    question = {"audience": "live_visitors_of", "creator_ids": [str(STAR), str(RIVAL)]}
    found = creator.post("/api/audiences/creators", json=question).json()
    assert found["shared"] == [{"creator_ids": [str(STAR), str(RIVAL)], "viewers": {"low": 200, "high": 300}}]
    assert [one["creator_id"] for one in found["creators"]] == [str(STAR), str(RIVAL)]
    assert [one["only_here"]["low"] for one in found["creators"]] == [400, 600]
    assert found["together"]["viewers"] == {"low": 1_200, "high": 1_300} and "only_here" not in found["together"]


def test_an_audience_of_content(creator: httpx.Client, engine: Engine) -> None:
    affinities = pb.PutAffinitiesRequest(
        tags=["keyword:Dance"], viewer_ids=range(1, 401), tag_idx=[0] * 400, weights=[0.9] * 200 + [0.4] * 200
    )
    engine.call("Audience/PutAffinities", affinities, pb.PutAffinitiesResponse, Role.OPERATOR)
    content = {"keywords": ["DANCE"], "visual_tags": ["sea"], "min_weight_percent": 40}
    asked = creator.post("/api/audiences/reach", json={"targeting": {"content": content}})
    assert asked.json() == {"low": 400, "high": 500}
    content["min_weight_percent"] = 50
    asked = creator.post("/api/audiences/reach", json={"targeting": {"content": content}})
    assert asked.json() == {"low": 200, "high": 300}
    made = creator.post("/api/campaigns", json=NEW | {"targeting": {"content": content}}).json()
    assert made["targeting"] == {"content": content | {"keywords": ["dance"], "bgm": []}}
    empty = creator.post("/api/campaigns", json=NEW | {"targeting": {"content": {}}})
    assert empty.status_code == 422 and "content.tags: 0 given; must be 1 to 16" in empty.json()["error"]["message"]


def test_why_a_viewer_matched(engine: Engine, address: str) -> None:
    follows = pb.PutFollowsRequest(follower_ids=[801, 700], followed_ids=[8, 801])
    engine.call("Audience/PutFollows", follows, pb.PutFollowsResponse, Role.OPERATOR)
    engine.services.segments.put("tier:iron:8", engine.services.viewers.ensure(np.array([700], np.uint64)), 2)
    targeting = {"all": [{"friends_of_fans": True}, {"segment": "tier:iron:8"}, {"content": {"bgm": ["夜曲"]}}]}
    engine.create(creator_id=801, targeting={"segment": {"segment_id": "nobody"}})  # a creator, so 801 may be named
    with client(address, engine, Role.CREATOR, 8) as creator:
        made = creator.post("/api/campaigns", json=NEW | {"targeting": targeting})
        assert made.status_code == 201
        engine.go_round()
        question = {
            "campaign_id": made.json()["campaign_id"], "viewer_id": "700", "content_tags": ["bgm:夜曲"],
        }  # fmt: skip
        fails(creator.post("/api/audiences/why", json=question), 404, "not_found", "viewer_id")
        (token,) = tokens_of(engine.bid([700], content_tags=["bgm:夜曲"], blocked_creator_ids=[OWN]))
        engine.report([OutcomeKind.WIN, OutcomeKind.BILLABLE], [token, token], prices_micros=[10_000] * 2)
        engine.go_round()
        assert creator.post("/api/audiences/why", json=question).json() == {
            "matched": True,
            "english": "friend of 801, who follows the creator; is an iron fan of creator 8; likes BGM 夜曲, "
            "at least 50 % is wanted; does not follow the creator yet",
            "chinese": "是主播粉丝801的好友；是主播8的铁粉；喜欢背景音乐“夜曲”，要求至少50%；尚未关注主播",
        }
        unwatched = creator.post("/api/audiences/why", json=question | {"content_tags": []}).json()
        assert unwatched == {"matched": False, "english": "", "chinese": ""}
        fails(creator.post("/api/audiences/why", json=question | {"viewer_id": "701"}), 404, "not_found", "viewer_id")
        free = {"viewer_id": "700", "targeting": targeting}
        refused = creator.post("/api/audiences/why", json=free)
        assert "a campaign of yours" in fails(refused, 422, "invalid_argument", "campaign_id")
        fails(creator.post("/api/audiences/why", json=question | free), 422, "invalid_argument", "targeting")
        others = creator.post("/api/audiences/why", json=question | {"campaign_id": "1"})
        fails(others, 404, "not_found")
    with client(address, engine, Role.OPERATOR, 0) as operator:
        assert "夜曲 (100 %)" in operator.post("/api/audiences/why", json=question).json()["english"]
        free["content_tags"], free["creator_id"] = ["bgm:夜曲"], "8"
        assert "夜曲 (100 %)" in operator.post("/api/audiences/why", json=free).json()["english"]


def test_a_lookalike_from_a_list_with_its_quality(engine: Engine, address: str, creator: httpx.Client) -> None:
    random = np.random.default_rng(3)
    followers, followed = (400 * random.random((2, 6_000)) ** 2).astype(np.uint64) + np.uint64(5_001)
    follows = pb.PutFollowsRequest(follower_ids=followers, followed_ids=followed)
    engine.call("Audience/PutFollows", follows, pb.PutFollowsResponse, Role.OPERATOR)
    seeds = [str(viewer) for viewer in range(5_001, 5_041)]
    wanted = {"segment_id": "like", "seed_segment_id": "list", "size": 60}
    with client(address, engine, Role.OPERATOR, 0) as operator:
        put = operator.put("/api/audiences/segments/list", json={"viewer_ids": seeds})
        assert put.json()["members"] == 40
        made = operator.post("/api/audiences/lookalikes", json=wanted).json()
        assert {name: made[name] for name in ("members", "seeds", "held_out")} == {
            "members": 60, "seeds": 40, "held_out": 8,
        }  # fmt: skip
        assert 0 <= made["recall"] <= 1 and 0 <= made["activity_recall"] <= 1 and made["learned"] is True
        small = operator.post("/api/audiences/lookalikes", json=wanted | {"seed_segment_id": "nobody"})
        assert small.status_code == 422 and "seeds: 0 known viewers" in small.json()["error"]["message"]
    asked = creator.post("/api/audiences/reach", json={"targeting": {"segment": "like"}})
    assert asked.json() == {"low": 0, "high": 100}
    # With this token the name means a list of the creator's own, which there is not.
    fails(creator.post("/api/audiences/lookalikes", json=wanted), 422, "invalid_argument")


def test_what_is_wrong_is_named(creator: httpx.Client, engine: Engine, address: str) -> None:
    twice = {"audience": "fans_of", "creator_ids": ["3", "3"]}
    refused = creator.post("/api/audiences/creators", json=twice)
    assert refused.status_code == 422 and "given once" in refused.json()["error"]["message"]
    empty = {"targeting": {"viewers_of": []}}
    refused = creator.post("/api/audiences/reach", json=empty)
    assert "at least 1" in fails(refused, 422, "invalid_argument", "targeting.viewers_of")
    small = {"any": [{"interests": [1]}, {"all": [{"segment": "own:7:few"}]}]}
    for path, body in (("/api/audiences/reach", {}), ("/api/campaigns", NEW)):
        refused = creator.post(path, json=body | {"targeting": small})
        told = fails(refused, 422, "invalid_argument", "targeting.any[1].all[0].segment")
        assert told.startswith("targeting.any[1].all[0].segment: segment_id 'own:7:few': 0 viewers who are known")
    halves = [{"all": [{"segment": "a"}, {"interests": [k]}]} for k in range(9)]
    large = {"targeting": {"all": [{"any": halves}, {"any": halves}]}}
    fails(creator.post("/api/audiences/reach", json=large), 422, "invalid_argument", "targeting")
    with client(address, engine, Role.FEED, 0) as feed:
        fails(feed.post("/api/audiences/reach", json={}), 403, "permission_denied")
