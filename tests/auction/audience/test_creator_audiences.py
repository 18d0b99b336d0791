"""Viewers and live visitors of named creators: from an event that is told to a bid, and what is known before."""

from __future__ import annotations

from pathlib import Path

import pytest

from auction.campaigns.access import Role
from auction.services import SIMILAR_PERIOD_MS, VIRTUAL_STRETCH
from auction.status import Refused
from pacing.facts import OutcomeKind
from protos import audience_pb2 as pb
from targeting.visits import KEPT_DAYS, MS_PER_DAY
from tests.auction.bid.engines import Engine, tokens_of

OWN, STAR, RIVAL = 7, 900, 901
BID, NOT_TARGETED = 0, 501


def tell(engine: Engine, kind: OutcomeKind, creator_id: int, *viewer_ids: int) -> None:
    """What the platform saw viewers do, with no ad before it."""
    n = len(viewer_ids)
    answer = engine.report([kind] * n, viewer_ids=viewer_ids, creator_ids=[creator_id] * n)
    assert set(answer.statuses) == {1}
    engine.go_round()


def compared(engine: Engine, audience: int, *creator_ids: int, bearer: int = OWN) -> pb.CompareCreatorsResponse:
    request = pb.CompareCreatorsRequest(creator_ids=creator_ids, audience=audience)
    return engine.call("Audience/CompareCreators", request, pb.CompareCreatorsResponse, Role.CREATOR, bearer)


def reach(engine: Engine, **targeting: object) -> tuple[int, int]:
    request = pb.EstimateReachRequest(targeting=targeting)
    answer = engine.call("Audience/EstimateReach", request, pb.EstimateReachResponse, Role.CREATOR, OWN)
    return answer.low, answer.high


def shown(engine: Engine, *viewer_ids: int) -> None:
    tokens, n = tokens_of(engine.bid(viewer_ids)), len(viewer_ids)
    for kind in (OutcomeKind.WIN, OutcomeKind.BILLABLE):
        assert set(engine.report([kind] * n, tokens, prices_micros=[10_000] * n).statuses) == {1}
    engine.go_round()


@pytest.mark.parametrize(
    ("node", "kind"), [("live_visitors_of", OutcomeKind.LIVE_VISIT), ("viewers_of", OutcomeKind.PLAY)]
)
def test_from_an_event_to_a_bid_until_the_visit_is_old(tmp_path: Path, node: str, kind: OutcomeKind) -> None:
    engine = Engine(tmp_path)
    tell(engine, kind, STAR, 501)
    wanted = {node: {"creator_ids": [STAR]}}
    tell(engine, kind, STAR, *range(1_000, 1_099))
    assert reach(engine, **wanted) == (100, 200)  # before there is a campaign
    engine.create(creator_id=OWN, targeting=wanted)
    assert list(engine.bid([501, 502]).nbr) == [BID, NOT_TARGETED]
    tell(engine, kind, STAR, 502)
    tell(engine, kind, RIVAL, 503)
    assert list(engine.bid([501, 502, 503]).nbr) == [BID, BID, NOT_TARGETED]
    engine.services.save()
    engine.close()
    again = Engine(tmp_path, start_at_ms=engine.now_ms)
    again.go_round()
    assert list(again.bid([501, 502, 503]).nbr) == [BID, BID, NOT_TARGETED]
    again.jump((KEPT_DAYS + 1) * MS_PER_DAY)
    again.services.segments.expire(again.now_ms)
    again.go_round()
    assert list(again.bid([501]).nbr) == [NOT_TARGETED]
    again.close()


def test_fans_of_a_creator_without_campaigns() -> None:
    engine = Engine()
    follows = pb.PutFollowsRequest(follower_ids=[*range(1, 141)], followed_ids=[STAR] * 140)
    engine.call("Audience/PutFollows", follows, pb.PutFollowsResponse, Role.OPERATOR)
    assert reach(engine, fans_of={"creator_ids": [STAR]}) == (100, 200)
    engine.create(creator_id=OWN, targeting={"fans_of": {"creator_ids": [STAR]}})
    assert list(engine.bid([1, 141]).nbr) == [BID, NOT_TARGETED]
    engine.close()


def test_creators_whom_only_questions_named_are_let_go_again() -> None:
    engine = Engine()
    stars = range(STAR, STAR + 40)
    follows = pb.PutFollowsRequest(follower_ids=range(1, 201), followed_ids=[STAR + k % 40 for k in range(200)])
    engine.call("Audience/PutFollows", follows, pb.PutFollowsResponse, Role.OPERATOR)
    engine.create(creator_id=OWN, targeting={"fans_of": {"creator_ids": [STAR]}})
    circles, segments = engine.services.follows._circles, engine.services.segments
    before = len(circles)
    for star in stars:
        reach(engine, fans_of={"creator_ids": [star]})
    assert len(circles) == before + 39 and len(segments.members(f"fans:{STAR + 1}")) == 5
    for _ in range(2):
        engine.advance(SIMILAR_PERIOD_MS * VIRTUAL_STRETCH)
    assert len(circles) == before and not segments.members(f"fans:{STAR + 1}")
    assert len(segments.members(f"fans:{STAR}")) == 5 and list(engine.bid([1, 2]).nbr) == [BID, NOT_TARGETED]
    engine.create(creator_id=OWN, targeting={"fans_of": {"creator_ids": [STAR + 1]}})
    assert list(engine.bid([1, 2, 3]).nbr) == [BID, BID, NOT_TARGETED], "and are there for a campaign"
    engine.close()


def test_overlap_and_saturation_of_named_creators() -> None:
    engine = Engine()
    tell(engine, OutcomeKind.LIVE_VISIT, STAR, *range(1, 601))
    tell(engine, OutcomeKind.LIVE_VISIT, RIVAL, *range(401, 1_201))
    tell(engine, OutcomeKind.FOLLOW, OWN, *range(1, 301))
    engine.create(creator_id=OWN, targeting={"live_visitors_of": {"creator_ids": [STAR]}})
    for first in (301, 401):
        shown(engine, *range(first, first + 100))
    answer = compared(engine, pb.CREATOR_AUDIENCE_LIVE_VISITORS, STAR, RIVAL, 902)
    star, rival, nobody = answer.creators
    assert (star.creator_id, rival.creator_id, nobody.creator_id) == (STAR, RIVAL, 902)
    assert told(star.viewers, star.only_here, star.reached, star.own_fans) == [600, 400, 200, 300]
    assert told(rival.viewers, rival.only_here, rival.reached, rival.own_fans) == [800, 600, 100, 0]
    assert told(nobody.viewers) == [0]
    shared = {(pair.creator_id, pair.other_creator_id): pair.viewers.low for pair in answer.shared}
    assert shared == {(STAR, RIVAL): 200, (STAR, 902): 0, (RIVAL, 902): 0}
    together = answer.together
    assert told(together.viewers, together.reached, together.own_fans) == [1_200, 200, 300]
    another = compared(engine, pb.CREATOR_AUDIENCE_LIVE_VISITORS, STAR, bearer=8).creators[0]
    assert told(another.viewers, another.reached, another.own_fans) == [600, 0, 0]
    engine.close()


def told(*crowds: pb.Crowd) -> list[int]:
    """From how many on; all were chosen so that a hundred or more lie at the beginning of a range."""
    assert all(crowd.high == crowd.low + 100 for crowd in crowds)
    return [crowd.low for crowd in crowds]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"creator_ids": [], "audience": 1}, "creator_ids: 0 given; must be 1 to 16"),
        ({"creator_ids": range(1, 18), "audience": 1}, "creator_ids: 17 given; must be 1 to 16"),
        ({"creator_ids": [3, 3], "audience": 1}, "each must be given once"),
        ({"creator_ids": [3]}, "audience 0: must be 1"),
    ],
)
def test_what_cannot_be_compared_is_refused(fields: dict[str, object], message: str) -> None:
    engine = Engine()
    with pytest.raises((ValueError, Refused), match=message):
        engine.call(
            "Audience/CompareCreators", pb.CompareCreatorsRequest(**fields), pb.CompareCreatorsResponse, Role.OPERATOR
        )
    engine.close()
