"""The `Audience` calls: what they take, what they answer, and that what is refused is neither kept nor applied."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from auction.audience.service import MAX_FOLLOWS, MAX_SEGMENT_IDS, MAX_VIEWERS
from auction.campaigns.access import Role
from protos import audience_pb2 as pb
from protos import bidding_pb2
from tests.auction.bid.engines import Engine


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    folder: Path = tmp_path_factory.mktemp("audience")
    running = Engine(folder)
    yield running
    running.close()


def put_segment(engine: Engine, name: str, ids: object, change: int) -> int:
    request = pb.PutSegmentRequest(segment_id=name, change=change, viewer_ids=ids)
    return engine.call("Audience/PutSegment", request, pb.PutSegmentResponse, Role.OPERATOR).members


def reach(engine: Engine, role: Role, bearer: int, **fields: object) -> tuple[int, int]:
    request = pb.EstimateReachRequest(**fields)
    answer = engine.call("Audience/EstimateReach", request, pb.EstimateReachResponse, role, bearer)
    return answer.low, answer.high


def test_segments_are_replaced_extended_and_reduced(engine: Engine) -> None:
    assert put_segment(engine, "a.b:c-d_1", [1, 2, 3, 3], pb.SEGMENT_CHANGE_REPLACE) == 3
    assert put_segment(engine, "a.b:c-d_1", [3, 4], pb.SEGMENT_CHANGE_ADD) == 4
    assert put_segment(engine, "a.b:c-d_1", [1, 9], pb.SEGMENT_CHANGE_REMOVE) == 3
    assert put_segment(engine, "a.b:c-d_1", [], pb.SEGMENT_CHANGE_REPLACE) == 0


def test_a_viewer_put_again_is_replaced_whole(engine: Engine) -> None:
    for viewers in (
        bidding_pb2.Viewers(ids=[501], regions=[7], age_bands=[3], interest_masks=[2**63]),
        bidding_pb2.Viewers(ids=[501], genders=[2]),
    ):
        request = pb.PutViewersRequest(viewers=viewers)
        engine.call("Audience/PutViewers", request, pb.PutViewersResponse, Role.OPERATOR)
    table = engine.services.viewers
    row = int(table.rows_of(np.array([501], np.uint64))[0])
    assert table.attributes[row].tolist() == [0, 0, 2, 0, 0, 0] and table.interest_masks[row] == 0


def test_reach_counts_known_viewers_and_follows_the_token(engine: Engine) -> None:
    ids = range(10_000, 10_400)
    put_segment(engine, "reach", ids, pb.SEGMENT_CHANGE_REPLACE)
    edges = pb.PutFollowsRequest(follower_ids=list(ids)[:200], followed_ids=[77] * 200)
    engine.call("Audience/PutFollows", edges, pb.PutFollowsResponse, Role.OPERATOR)
    engine.create(creator_id=77)  # fans are counted for creators with a campaign
    everybody = {"targeting": {"segment": {"segment_id": "reach"}}}
    low, high = reach(engine, Role.CREATOR, 5, **everybody)
    assert low <= 400 <= high
    without_fans = reach(engine, Role.CREATOR, 77, **everybody)
    assert without_fans[0] <= 200 <= without_fans[1] < 400
    with_fans = reach(engine, Role.CREATOR, 77, include_fans=True, **everybody)
    assert with_fans == (low, high)
    # A creator cannot ask for another; an operator can.
    assert reach(engine, Role.CREATOR, 5, creator_id=77, **everybody) == (low, high)
    assert reach(engine, Role.OPERATOR, 0, creator_id=77, **everybody) == without_fans


REFUSED = {
    "viewers": ("PutViewers", pb.PutViewersRequest(viewers={"ids": range(MAX_VIEWERS + 1)}), "not in 1..8000"),
    "duplicate": ("PutViewers", pb.PutViewersRequest(viewers={"ids": [4, 4]}), "viewers.ids 4: given twice"),
    "ids": (
        "PutSegment",
        pb.PutSegmentRequest(segment_id="a", change=1, viewer_ids=range(MAX_SEGMENT_IDS + 1)),
        "viewer_ids count 100001: at most 100000",
    ),
    "reserved": ("PutSegment", pb.PutSegmentRequest(segment_id="laotie:7", change=1), "are reserved"),
    "change": ("PutSegment", pb.PutSegmentRequest(segment_id="a", change=4), "change 4: must be 1"),
    "edges": (
        "PutFollows",
        pb.PutFollowsRequest(follower_ids=[1] * (MAX_FOLLOWS + 1), followed_ids=[2] * (MAX_FOLLOWS + 1)),
        "follower_ids count 50001: at most 50000",
    ),
    "half an edge": ("PutFollows", pb.PutFollowsRequest(followed_ids=[1]), "followed_ids: 1 for 0 follower_ids"),
}


@pytest.mark.parametrize(("method", "request_", "text"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_refused_is_neither_kept_nor_applied(engine: Engine, method: str, request_: object, text: str) -> None:
    services = engine.services
    assert services.journal is not None
    before = services.journal.size_bytes, services.viewers.size, services.follows.size, services.segments.names
    with pytest.raises(ValueError, match=text):
        engine.call(f"Audience/{method}", request_, pb.PutViewersResponse, Role.OPERATOR)
    after = services.journal.size_bytes, services.viewers.size, services.follows.size, services.segments.names
    assert after == before
