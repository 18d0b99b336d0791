"""The `Audience` calls: what they take, what they answer, and that what is refused is neither kept nor applied."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from auction.audience import segment_files_service
from auction.audience.service import MAX_FOLLOWS, MAX_SEGMENT_IDS, MAX_VIEWERS
from auction.campaigns.access import Role
from auction.status import Refused
from protos import audience_pb2 as pb
from protos import bidding_pb2
from targeting.segments.generations import MAX_GENERATIONS
from targeting.segments.portable import ids_from_bytes, ids_to_bytes
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
    "nobody": (
        "PutSegment",
        pb.PutSegmentRequest(segment_id="a", change=2, viewer_ids=[1, 0]),
        r"viewer_ids\[1\] 0: not",
    ),
    "nobody viewed": ("PutViewers", pb.PutViewersRequest(viewers={"ids": [0]}), r"viewers.ids\[0\] 0: not in 1\.\."),
    "nobody follows": (
        "PutFollows",
        pb.PutFollowsRequest(follower_ids=[1, 2, 0], followed_ids=[7] * 3),
        r"follower_ids\[2\] 0: not in 1\.\.",
    ),
    "nobody followed": (
        "PutFollows",
        pb.PutFollowsRequest(follower_ids=[1], followed_ids=[0]),
        r"followed_ids\[0\] 0: not in 1\.\.",
    ),
    "nobody likes": (
        "PutAffinities",
        pb.PutAffinitiesRequest(tags=["keyword:x"], viewer_ids=[0], tag_idx=[0], weights=[1]),
        r"viewer_ids\[0\] 0: not in 1\.\.",
    ),
    "nobody filed": (
        "ImportSegment",
        pb.ImportSegmentRequest(segment_id="a", change=1, size=18, part=ids_to_bytes(np.array([0], np.uint64))),
        r"part: ids\[0\] 0: not in 1\.\.",
    ),
    "reserved": ("PutSegment", pb.PutSegmentRequest(segment_id="laotie:7", change=1), "are reserved"),
    "change": ("PutSegment", pb.PutSegmentRequest(segment_id="a", change=4), "change 4: must be 1"),
    "past": ("PutSegment", pb.PutSegmentRequest(segment_id="a", change=2, expires_at_ms=5), "must be later than now"),
    "negative": ("PutSegment", pb.PutSegmentRequest(segment_id="a", change=2, expires_at_ms=-1), r"-1: not in 0\.\."),
    "dated removal": (
        "PutSegment",
        pb.PutSegmentRequest(segment_id="a", change=3, expires_at_ms=2**50),
        "must be 0 with change 3",
    ),
    "file size": (
        "ImportSegment",
        pb.ImportSegmentRequest(segment_id="a", change=1, part=b"x"),
        r"size 0: not in 1\.\.",
    ),
    "file part": ("ImportSegment", pb.ImportSegmentRequest(segment_id="a", change=1, size=9), "part: 0 bytes"),
    "file longer": (
        "ImportSegment",
        pb.ImportSegmentRequest(segment_id="a", change=1, size=2, part=b"abc"),
        "part: goes on to byte 3 of 2",
    ),
    "file of noise": (
        "ImportSegment",
        pb.ImportSegmentRequest(segment_id="a", change=1, size=3, part=b"abc"),
        "3 bytes that are no portable Roaring bitmap",
    ),
    "part out of turn": (
        "ImportSegment",
        pb.ImportSegmentRequest(segment_id="a", change=1, size=3, offset=1, part=b"a"),
        "not the next part",
    ),
    "file past": (
        "ImportSegment",
        pb.ImportSegmentRequest(segment_id="a", change=1, expires_at_ms=7, size=8, part=ids_to_bytes(np.zeros(0))),
        "must be later than now",
    ),
    "export gone": ("ExportSegment", pb.ExportSegmentRequest(segment_id="a", export_id=4), "begin again with 0"),
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


def import_file(engine: Engine, name: str, content: bytes, part_bytes: int, **fields: int) -> pb.ImportSegmentResponse:
    answer = pb.ImportSegmentResponse()
    for offset in range(0, len(content), part_bytes):
        assert answer.members == 0 and len(engine.services.segments.members(name)) == 0
        request = pb.ImportSegmentRequest(
            segment_id=name, import_id=9, size=len(content), offset=offset, part=content[offset : offset + part_bytes],
            **(fields or {"change": 1}),
        )  # fmt: skip
        answer = engine.call("Audience/ImportSegment", request, pb.ImportSegmentResponse, Role.OPERATOR)
        assert answer.received == min(offset + part_bytes, len(content))
    return answer


def export_file(engine: Engine, name: str) -> bytes:
    content, answer = b"", pb.ExportSegmentResponse()
    while not answer.size or len(content) < answer.size:
        request = pb.ExportSegmentRequest(segment_id=name, export_id=answer.export_id, offset=len(content))
        answer = engine.call("Audience/ExportSegment", request, pb.ExportSegmentResponse, Role.OPERATOR)
        content += answer.part
    return content


@pytest.mark.parametrize("first_id", [3, 2**40])
def test_files_go_in_by_parts_and_come_out(engine: Engine, monkeypatch: pytest.MonkeyPatch, first_id: int) -> None:
    monkeypatch.setattr(segment_files_service, "MAX_PART_BYTES", 50)
    name, content = f"file{first_id}", ids_to_bytes(np.arange(0, 100, 3, dtype=np.uint64) + np.uint64(first_id))
    assert import_file(engine, name, content, 40).members == 34
    assert export_file(engine, name) == content
    assert import_file(engine, f"more{first_id}", content, 7, change=2).members == 34


def test_what_is_not_there_cannot_be_exported(engine: Engine) -> None:
    with pytest.raises(Refused, match="there is no such segment"):
        export_file(engine, "nowhere")


def test_a_segment_has_only_so_many_dates(engine: Engine) -> None:
    def put(by_ms: int) -> int:
        request = pb.PutSegmentRequest(
            segment_id="dates", change=2, viewer_ids=[by_ms], expires_at_ms=engine.now_ms + by_ms
        )
        return engine.call("Audience/PutSegment", request, pb.PutSegmentResponse, Role.OPERATOR).members

    for by_ms in range(1, MAX_GENERATIONS + 1):
        assert put(by_ms) == by_ms
    assert put(5) == MAX_GENERATIONS
    with pytest.raises(ValueError, match=f"has {MAX_GENERATIONS} expiry dates already"):
        put(MAX_GENERATIONS + 1)


def test_dated_members_expire_also_over_a_restart(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    until_ms = engine.now_ms + 3_600_000
    put_segment(engine, "vip", [1, 2], pb.SEGMENT_CHANGE_REPLACE)
    dated = pb.PutSegmentRequest(segment_id="vip", change=2, viewer_ids=[2, 3], expires_at_ms=until_ms)
    engine.call("Audience/PutSegment", dated, pb.PutSegmentResponse, Role.OPERATOR)
    content = ids_to_bytes(np.array([3, 4], np.uint64))
    import_file(engine, "filed", content, 99, change=1, expires_at_ms=until_ms + 1)
    assert reach(engine, Role.OPERATOR, 0, targeting={"segment": {"segment_id": "vip"}})[1] > 0
    engine.close()

    def members(engine: Engine, name: str) -> set[int]:
        return set(engine.services.viewers.ids[engine.services.segments.rows(name)].tolist())

    again = Engine(tmp_path, until_ms - 60_000)
    assert (members(again, "vip"), members(again, "filed")) == ({1, 2, 3}, {3, 4})
    again.advance(120_000)
    assert (members(again, "vip"), members(again, "filed")) == ({1, 2}, set())
    again.close()
    late = Engine(tmp_path, until_ms + 1)
    assert (members(late, "vip"), members(late, "filed")) == ({1, 2}, set())
    assert ids_from_bytes(export_file(late, "vip")).tolist() == [1, 2]
    late.close()


def test_the_next_request_knows_a_fresh_follow(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    engine.create(creator_id=7)
    assert len(engine.bid([11]).tokens) > 0
    edges = pb.PutFollowsRequest(follower_ids=[11], followed_ids=[7])
    engine.call("Audience/PutFollows", edges, pb.PutFollowsResponse, Role.OPERATOR)
    assert len(engine.bid([11]).tokens) == 0  # a fan now, and fans are left out: no snapshot in between
    assert len(engine.bid([12]).tokens) > 0
    engine.close()
