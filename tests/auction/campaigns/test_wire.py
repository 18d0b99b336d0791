"""Campaigns and audiences between the wire and the model."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auction.campaigns.model import EDITABLE_FIELDS, BidMode, CampaignStatus, InvalidField
from auction.campaigns.wire import (
    campaign_to_message,
    changes_from_message,
    draft_from_message,
    targeting_from_message,
    targeting_to_message,
)
from pacing.facts import Goal
from protos import campaigns_pb2 as pb
from targeting.attributes import Dimension
from targeting.expressions import (
    EVERYBODY,
    All,
    Any,
    Attribute,
    FansOf,
    FansOfSimilarCreators,
    FriendsOfFans,
    Interests,
    Not,
    Segment,
)
from tests.auction.campaigns.figures import NOON_MS, a_campaign

leaves = st.one_of(
    st.builds(Attribute, st.sampled_from(Dimension), st.lists(st.integers(0, 3), min_size=1, max_size=3).map(tuple)),
    st.builds(Interests, st.lists(st.integers(0, 63), min_size=1, max_size=3).map(tuple)),
    st.builds(Segment, st.from_regex(r"[a-z0-9:_.\-]{1,8}", fullmatch=True)),
    st.builds(FansOf, st.lists(st.integers(1, 2**64 - 1), min_size=1, max_size=3).map(tuple)),
    st.just(FriendsOfFans()),
    st.just(FansOfSimilarCreators()),
    st.just(EVERYBODY),
)
audiences = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(All, st.lists(inner, min_size=1, max_size=3).map(tuple)),
        st.builds(Any, st.lists(inner, min_size=1, max_size=3).map(tuple)),
        st.builds(Not, inner),
    ),
    max_leaves=6,
)


def depth(expression):
    inner = getattr(expression, "of", ())
    nodes = inner if isinstance(inner, tuple) else (inner,)
    return 1 + max((depth(node) for node in nodes), default=0)


@settings(max_examples=80)
@given(audience=audiences)
def test_an_audience_survives_the_wire(audience):
    message = pb.Targeting.FromString(targeting_to_message(audience).SerializeToString())
    if depth(audience) <= 8:
        assert targeting_from_message(message) == audience
    else:
        with pytest.raises(InvalidField, match="8 levels"):
            targeting_from_message(message)


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (pb.Targeting(all=pb.Targeting.All()), "targeting.all"),
        (pb.Targeting(any=pb.Targeting.Any()), "targeting.any"),
        (pb.Targeting(friends_of_fans=False), "targeting.friends_of_fans"),
        (pb.Targeting(fans_of_similar_creators=False), "targeting.fans_of_similar_creators"),
        (pb.Targeting(attribute=pb.Targeting.Attribute(codes=[1])), "targeting.attribute.dimension"),
        (
            pb.Targeting(
                all=pb.Targeting.All(of=[pb.Targeting(), pb.Targeting(none=pb.Targeting(friends_of_fans=False))])
            ),
            "targeting.all[1].none.friends_of_fans",
        ),
    ],
)
def test_a_node_that_means_nothing_is_named_by_its_path(message, field):
    with pytest.raises(InvalidField) as caught:
        targeting_from_message(message)
    assert caught.value.field == field


def test_deep_nesting_is_refused_long_before_it_hurts():
    message = pb.Targeting(friends_of_fans=True)
    for _ in range(60):
        message = pb.Targeting(none=message)
    with pytest.raises(InvalidField, match="8 levels"):
        targeting_from_message(message)


def test_a_campaign_survives_the_wire():
    campaign = replace(
        a_campaign(targeting=Interests((3,)), include_fans=True, frequency_cap_per_day=4, end_at_ms=NOON_MS + 9),
        campaign_id=2**63,
        status=CampaignStatus.PAUSED,
        version=6,
    )
    message = pb.Campaign.FromString(campaign_to_message(campaign, "CNY").SerializeToString())
    assert (message.campaign_id, message.version, message.cur) == (2**63, 6, "CNY")
    draft = draft_from_message(message, campaign.creator_id, NOON_MS)
    assert draft == replace(campaign, campaign_id=0, status=CampaignStatus.ACTIVE, version=1)


def test_a_worth_that_is_left_out_is_one():
    kept = a_campaign(goal=Goal.KEPT_FANS, high_tier_worth=2.5)
    message = campaign_to_message(kept, "CNY")
    assert draft_from_message(message, kept.creator_id, NOON_MS).high_tier_worth == 2.5
    assert changes_from_message(message, ["high_tier_worth"]) == {"high_tier_worth": 2.5}
    message.ClearField("high_tier_worth")
    assert draft_from_message(message, kept.creator_id, NOON_MS).high_tier_worth == 1.0
    assert changes_from_message(message, ["high_tier_worth"]) == {"high_tier_worth": 1.0}


def test_what_the_server_sets_is_ignored_and_the_start_is_now():
    message = campaign_to_message(replace(a_campaign(), campaign_id=5, version=9), "CNY")
    message.start_at_ms = 0
    message.creator_id = 99
    draft = draft_from_message(message, 7, NOON_MS + 5)
    assert (draft.creator_id, draft.campaign_id, draft.version) == (7, 0, 1)
    assert draft.start_at_ms == draft.created_at_ms == draft.updated_at_ms == NOON_MS + 5


@pytest.mark.parametrize(
    ("field", "number"), [("goal", 0), ("goal", 8), ("goal", -1), ("bid_mode", 0), ("bid_mode", 3)]
)
def test_an_unknown_enum_is_named_with_what_exists(field, number):
    message = campaign_to_message(a_campaign(), "CNY")
    setattr(message, field, number)
    with pytest.raises(InvalidField) as caught:
        draft_from_message(message, 7, NOON_MS)
    assert caught.value.field == field
    assert str(number) in str(caught.value)
    assert (Goal.FANS.name if field == "goal" else BidMode.AUTOMATIC.name) in str(caught.value)


def test_changes_hold_exactly_the_named_fields():
    message = campaign_to_message(a_campaign(targeting=Segment("a")), "CNY")
    for field in EDITABLE_FIELDS:
        assert changes_from_message(message, [field]) == {field: getattr(a_campaign(targeting=Segment("a")), field)}
    assert set(changes_from_message(message, list(EDITABLE_FIELDS))) == set(EDITABLE_FIELDS)


@pytest.mark.parametrize("fields", [[], ["name", "name"], ["zone"], ["nonsense"], ["campaign_id"]])
def test_changes_of_nothing_or_of_what_is_fixed_are_refused(fields):
    with pytest.raises(InvalidField, match="update_fields"):
        changes_from_message(pb.Campaign(name="x"), fields)
