"""Which of a campaign's audiences an impression was bought for."""

from __future__ import annotations

import numpy as np
import pytest

from auction.matched_audience import MAX_AUDIENCE_CHARACTERS, MatchedAudiences
from fanbridge.events import FAN_OUTCOME
from pacing.facts import OutcomeKind
from targeting.attributes import STORED_DIMENSION_COUNT, Dimension
from targeting.expressions import (
    EVERYBODY,
    All,
    Any,
    Attribute,
    Expression,
    FansOf,
    FansOfSimilarCreators,
    FriendsOfFans,
    Interests,
    Not,
    Segment,
    compile_clauses,
)
from targeting.segments.store import Change, SegmentStore
from targeting.viewers import ViewerTable

CREATOR_ID, CAMPAIGN_ID = 7, 40
BILLABLE, FOLLOW = int(OutcomeKind.BILLABLE), int(OutcomeKind.FOLLOW)
YOUNG = Attribute(Dimension.AGE_BAND, (1, 2))


class Sold:
    """One viewer, 501, with interest 3, in some segments; a campaign with an audience."""

    def __init__(self, audience: Expression, *segments: str) -> None:
        self.viewers, self.segments = ViewerTable(), SegmentStore()
        self.rows = self.viewers.put(
            np.array([501], np.uint64), np.zeros((1, STORED_DIMENSION_COUNT), np.int32), np.array([1 << 3], np.uint64)
        )
        for name in segments:
            self.segments.put(name, self.rows, Change.ADD)
        clauses = {CAMPAIGN_ID: compile_clauses(audience, CREATOR_ID, False)}
        self.matched = MatchedAudiences(lambda i: clauses.get(i, ()), self.viewers, self.segments)

    def names(self, *told: tuple[int, int], viewer_id: int = 501, campaign_id: int = CAMPAIGN_ID) -> list[str]:
        """Of outcomes (kind, hold_seq)."""
        outcomes = np.zeros(len(told), FAN_OUTCOME)
        outcomes["kind"], outcomes["hold_seq"] = np.array(told).T
        outcomes["viewer_id"], outcomes["campaign_id"], outcomes["lease_id"] = viewer_id, campaign_id, 1
        return self.matched.names(outcomes)


@pytest.mark.parametrize(
    ("audience", "segments", "name"),
    [
        (EVERYBODY, ("dancers",), ""),
        (YOUNG, ("dancers",), ""),
        (Segment("dancers"), ("dancers",), "dancers"),
        (Segment("dancers"), (), ""),
        (Not(Segment("dancers")), ("dancers",), ""),
        (FriendsOfFans(), ("laotie:7",), "laotie:7"),
        (Any((FriendsOfFans(), FansOfSimilarCreators())), ("similar:7",), "similar:7"),
        (FansOf((8, 9)), ("fans:9",), "fans:9"),
        (Interests((3, 4)), (), "interest:3"),
        (Any((Segment("a"), Segment("b"))), ("b",), "b"),
        (All((Segment("a"), Interests((3,)), YOUNG)), ("a",), "a,interest:3"),
        (All((Segment("a"), Segment("b"))), ("a",), ""),
        (All((Segment("a" * 64), Segment("b" * 64), Segment("c" * 64), Segment("d" * 64))),
         ("a" * 64, "b" * 64, "c" * 64, "d" * 64), ",".join(c * 64 for c in "abc")),
    ],
)  # fmt: skip
def test_the_memberships_that_an_audience_asks_for_are_named(
    audience: Expression, segments: tuple[str, ...], name: str
) -> None:
    (found,) = Sold(audience, *segments).names((BILLABLE, 1))
    assert ",".join(sorted(found.split(","))) == name
    assert len(found) <= MAX_AUDIENCE_CHARACTERS


def test_a_follow_is_told_with_the_audience_of_its_impression() -> None:
    sold = Sold(FriendsOfFans(), "laotie:7")
    assert sold.names((BILLABLE, 1)) == ["laotie:7"]
    sold.segments.put("laotie:7", sold.rows, Change.REMOVE)  # a fan is no friend of fans any more
    assert sold.names((FOLLOW, 1), (FOLLOW, 2), (BILLABLE, 3)) == ["laotie:7", "", ""]


def test_who_is_not_known_has_no_audience() -> None:
    sold = Sold(Segment("dancers"), "dancers")
    assert sold.names((BILLABLE, 1), viewer_id=9) == sold.names((BILLABLE, 1), campaign_id=9) == [""]
