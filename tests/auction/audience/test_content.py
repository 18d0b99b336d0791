"""Audiences of content: what viewers like, told ahead or with a request, and what they watch now."""

from __future__ import annotations

from pathlib import Path

import pytest

from auction.campaigns.access import Role
from protos import audience_pb2, bidding_pb2
from targeting.content import check_tag, level_of, tag_segment
from tests.auction.bid.engines import Engine

BID, NOT_TARGETED = 0, 501
FOND, LUKEWARM, STRANGER = 501, 502, 503
DANCE = {"content": {"keywords": ["Dance "], "bgm": ["夜曲"], "min_weight_percent": 60}}


def put(engine: Engine, tag: str, **weight_of: float) -> int:
    request = audience_pb2.PutAffinitiesRequest(
        tags=[tag],
        viewer_ids=[int(name[1:]) for name in weight_of],
        tag_idx=[0] * len(weight_of),
        weights=list(weight_of.values()),
    )
    answer = engine.call("Audience/PutAffinities", request, audience_pb2.PutAffinitiesResponse, Role.OPERATOR)
    return answer.affinities


def asked(engine: Engine, **changes: object) -> list[int]:
    return list(engine.bid([FOND, LUKEWARM, STRANGER], **changes).nbr)


def test_from_an_affinity_to_a_bid_also_after_a_restart(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    assert put(engine, "keyword:dance", v501=0.6, v502=0.59) == 2
    engine.create(targeting=DANCE)
    assert asked(engine) == [BID, NOT_TARGETED, NOT_TARGETED]
    put(engine, "keyword:DANCE", v501=0.0, v502=1.0)
    assert asked(engine) == [NOT_TARGETED, BID, NOT_TARGETED]
    put(engine, "bgm:夜曲", v503=0.7)
    assert asked(engine) == [NOT_TARGETED, BID, BID]
    engine.close()
    again = Engine(tmp_path, start_at_ms=engine.now_ms)
    again.go_round()
    assert asked(again) == [NOT_TARGETED, BID, BID]
    again.close()


def test_what_a_request_brings_counts_for_that_request() -> None:
    engine = Engine()
    put(engine, "keyword:dance", v501=0.8)
    engine.create(targeting=DANCE)
    engine.create(creator_id=8, targeting={"none": DANCE})
    assert asked(engine) == [BID, BID, BID]  # everybody is wanted by one of the two
    wanted = {FOND: 7, LUKEWARM: 8, STRANGER: 8}
    assert creators(engine) == wanted
    assert creators(engine, content_tags=["visual:sea", "bgm:夜曲"]) == dict.fromkeys(wanted, 7)
    brought = bidding_pb2.Affinities(
        tags=["keyword:dance", "keyword:song"],
        viewer_idx=[1, 2, 2, 2],
        tag_idx=[0, 0, 1, 0],
        weights=[0.6, 0.3, 1, 0.59],
    )
    assert creators(engine, affinities=brought) == wanted | {LUKEWARM: 7}
    assert creators(engine) == wanted
    engine.close()


def creators(engine: Engine, **changes: object) -> dict[int, int]:
    viewers = [FOND, LUKEWARM, STRANGER]
    answer = engine.bid(viewers, **changes)
    return {viewers[i]: creator for i, creator in zip(answer.viewer_idx, answer.creator_ids, strict=True)}


def affinity(viewer_idx: int, tag_idx: int, *weights: float) -> dict[str, object]:
    return {"affinities": {"tags": ["bgm:x"], "viewer_idx": [viewer_idx], "tag_idx": [tag_idx], "weights": weights}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"content_tags": ["dance"]}, "tag 'dance': must be one of keyword:"),
        ({"content_tags": ["bgm: "]}, "and 1 to 64 characters"),
        ({"content_tags": ["bgm:x"] * 33}, "content_tags count 33: not in 0..32"),
        (
            {"affinities": {"tags": ["bgm:x"], "viewer_idx": [3], "tag_idx": [0], "weights": [1]}},
            "viewer_idx 3: not in 0..2",
        ),
        (
            {"affinities": {"tags": ["bgm:x"], "viewer_idx": [0], "tag_idx": [1], "weights": [1]}},
            "tag_idx 1: not in 0..0",
        ),
        (affinity(0, 0, 1.5), "1.5: not in 0..1"),
        (affinity(0, 0), "must be equally many"),
    ],
)
def test_what_makes_no_sense_is_refused(changes: dict[str, object], message: str) -> None:
    engine = Engine()
    with pytest.raises(ValueError, match=message):
        asked(engine, **changes)
    engine.close()


def test_weights_count_in_tenths_and_tags_in_one_form() -> None:
    assert [level_of(weight) for weight in (0.0, 0.09, 0.1, 0.30000001192092896, 0.29, 0.999, 1.0)] == [
        0,
        0,
        1,
        3,
        2,
        9,
        10,
    ]
    assert level_of(0.699999988079071) == 7  # 0.7 in single precision
    assert check_tag("keyword: ＤＡＮＣＥ ") == "keyword:dance"
    assert len(tag_segment(check_tag("bgm:" + "夜" * 64), 10)) <= 64
