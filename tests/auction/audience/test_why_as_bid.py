"""Why a viewer matched, beside the match itself: the verdict is that of a bid, whatever is asked for first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auction.audience.insights_service import Insights
from auction.bid.nobid import NBR_BID
from auction.campaigns.access import Principal, Role
from auction.campaigns.wire import targeting_to_message
from pacing.clocks import VirtualClock
from protos import audience_pb2 as pb
from targeting.attributes import DIMENSION_COUNT, STORED_DIMENSION_COUNT, Dimension
from targeting.expressions import (
    NO_ADS_SEGMENT,
    Expression,
    ViewerFacts,
    compile_clauses,
    named_creators,
    wants_similar,
)
from targeting.graph.follows import FollowGraph
from targeting.graph.similar.lists import Standards
from targeting.match.index import build_index
from targeting.match.kernels import match_viewer
from targeting.segments import fresh
from targeting.segments.store import Change, SegmentStore
from targeting.viewers import ViewerTable
from targeting.visits import Visit, Visits
from tests.auction.bid.engines import NOON_MS, Engine
from tests.targeting.audiences import CREATORS, expressions, mask_of, viewers

OPERATOR = Principal(Role.OPERATOR, 0, 0)
BY_CHANCE_TOO = Standards(least_common=2, least_cosine=0.0, least_lift=1e-9, luck=1e9)
VIEWER = 50
ACCOUNTS = (VIEWER, *range(51, 58), *CREATORS)
edges = st.lists(st.tuples(st.sampled_from(ACCOUNTS), st.sampled_from(ACCOUNTS)), max_size=40, unique=True)


class World:
    """What is known of viewers."""

    def __init__(self) -> None:
        self.viewers, self.segments = ViewerTable(), SegmentStore()
        self.follows = FollowGraph(self.viewers, self.segments, BY_CHANCE_TOO)
        self.visits = Visits(self.viewers, self.segments)
        self.clock = VirtualClock(NOON_MS)

    def learn(self, viewer: ViewerFacts) -> None:
        """Take in what is told of the viewer; what the graph and the visits make themselves is not."""
        attributes = np.array([viewer.codes[:STORED_DIMENSION_COUNT]], np.uint16)
        self.viewers.put(np.array([VIEWER], np.uint64), attributes, np.array([mask_of(viewer)], np.uint64))
        for name in viewer.segments:
            if not name.startswith(("fans:", "laotie:", "similar:", "viewers:", "live:")):
                self.segments.put(name, self.viewers.rows_of(np.array([VIEWER], np.uint64)), Change.ADD)

    def follow(self, pairs: list[tuple[int, int]]) -> None:
        self.follows.put(*(np.array(ids, np.uint64) for ids in zip(*pairs, strict=True)))

    def visit(self, creator_id: int, visit: Visit) -> None:
        at = np.array([NOON_MS])
        self.visits.put(visit, np.array([VIEWER], np.uint64), np.array([creator_id], np.uint64), at, NOON_MS)


def serve(world: World, expression: Expression, creator_id: int) -> None:
    """Have for a campaign of the creator what the server has for it within seconds."""
    for named in {creator_id} | named_creators(expression):
        world.follows.watch(named)
        world.visits.watch(named)
    if wants_similar(expression):
        world.follows.similar.want(creator_id)
        world.follows.similar.renew_due(world.clock.monotonic_ms())
    world.follows.refresh()
    world.segments.memberships()


def is_matched(world: World, expression: Expression, creator_id: int, include_fans: bool, codes: list[int]) -> bool:
    """What the match index says of the viewer as the engine looks at it."""
    index = build_index([compile_clauses(expression, creator_id, include_fans)], world.segments.segment_idx)
    row = world.viewers.rows_of(np.array([VIEWER], np.uint64))
    _, segments = world.segments.current.of_rows(row)
    if world.segments.segment_idx(NO_ADS_SEGMENT) in segments.tolist():
        return False
    dims = np.array([*world.viewers.attributes[row[0]].tolist(), *codes], np.int32)
    assert len(dims) == DIMENSION_COUNT
    scratch, out = np.zeros(index.scratch_words, np.uint64), np.zeros(index.campaign_words * 64, np.int32)
    return bool(match_viewer(index, dims, world.viewers.interest_masks[row[0]], segments, scratch, out))


@contextmanager
def most_fresh(most: int) -> Iterator[None]:
    """With so few changes seen at once."""
    before, fresh.FRESH_MOST = fresh.FRESH_MOST, most
    try:
        yield
    finally:
        fresh.FRESH_MOST = before


@settings(max_examples=100, deadline=None)
@given(
    expression=expressions(), viewer=viewers(), creator_id=st.sampled_from(CREATORS), include_fans=st.booleans(),
    known=edges, later=edges, seen=st.lists(st.tuples(st.sampled_from(CREATORS), st.sampled_from(Visit)), max_size=2),
    most=st.sampled_from([0, 3, 4_096]),
)  # fmt: skip
def test_the_verdict_is_that_of_the_match(
    expression: Expression, viewer: ViewerFacts, creator_id: int, include_fans: bool,
    known: list[tuple[int, int]], later: list[tuple[int, int]], seen: list[tuple[int, Visit]], most: int,
) -> None:  # fmt: skip
    asked, served = World(), World()  # in the one nobody knows of a campaign, in the other it runs
    for world in (asked, served):
        world.learn(viewer)
        for told in seen:
            world.visit(*told)
    insights = Insights(asked)
    category, placement = viewer.codes[Dimension.CONTENT_CATEGORY], viewer.codes[Dimension.PLACEMENT]
    question = pb.ExplainViewerRequest(
        viewer_id=VIEWER, creator_id=creator_id, targeting=targeting_to_message(expression), include_fans=include_fans,
        content_category=category, placement=placement,
    ).SerializeToString()  # fmt: skip
    audience = (expression, creator_id, include_fans, [category, placement])
    with most_fresh(most):
        for pairs in (known, later):
            for world in (asked, served):
                if pairs:
                    world.follow(pairs)
            serve(served, expression, creator_id)
            why = pb.ExplainViewerResponse.FromString(insights.explain_viewer(question, OPERATOR))
            assert why.matched is is_matched(served, *audience)
            assert why.matched is is_matched(asked, *audience)


OWN, STAR, LIKE = 7, 900, 70
OF_STAR, OF_LIKE = 501, 502


@pytest.mark.parametrize(
    ("viewer_id", "targeting", "english"),
    [
        (
            OF_STAR,
            {"fans_of": {"creator_ids": [STAR]}},
            "follows an account that you named; does not follow the creator yet",
        ),
        (OF_LIKE, {"fans_of_similar_creators": True}, "follows "),
        (OF_STAR, {"friends_of_fans": True}, "follows someone who follows the creator"),
    ],
)
def test_it_is_explained_before_any_campaign_and_then_bid_for(
    viewer_id: int, targeting: dict[str, object], english: str
) -> None:
    engine = Engine()
    fans = range(1_000, 6_000)  # so many that their segments are too large to be seen at once
    pairs = [*((fan, creator) for fan in fans for creator in (OWN, LIKE)), (OF_STAR, STAR), (OF_LIKE, LIKE)]
    pairs += [(OF_STAR, fans[0]), *((fan, 10_000 + fan) for fan in range(20_000, 30_000))]
    request = pb.PutFollowsRequest(follower_ids=[a for a, _ in pairs], followed_ids=[b for _, b in pairs])
    engine.call("Audience/PutFollows", request, pb.PutFollowsResponse, Role.OPERATOR)
    question = pb.ExplainViewerRequest(viewer_id=viewer_id, creator_id=OWN, targeting=targeting)
    told = engine.call("Audience/ExplainViewer", question, pb.ExplainViewerResponse, Role.OPERATOR)
    assert told.matched and told.english.startswith(english)
    engine.create(creator_id=OWN, targeting=targeting)
    assert list(engine.bid([viewer_id]).nbr) == [NBR_BID]
    engine.close()
