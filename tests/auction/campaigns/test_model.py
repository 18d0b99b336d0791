"""Campaigns: every field's range, and what may change."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auction.campaigns.model import (
    EDITABLE_FIELDS,
    BidMode,
    CampaignStatus,
    Creative,
    InvalidField,
    edited,
    validate,
    with_status,
)
from pacing.clocks import MS_PER_DAY
from pacing.facts import Goal
from protos import campaigns_pb2 as pb
from targeting.expressions import Any, Segment
from tests.auction.campaigns.figures import NOON_MS, a_campaign

AUTOMATIC = {"bid_mode": BidMode.AUTOMATIC, "target_cost_micros": 0}


@pytest.mark.parametrize(
    ("enum", "prefix", "members"),
    [
        (pb.Goal, "GOAL", Goal),
        (pb.BidMode, "BID_MODE", BidMode),
        (pb.CampaignStatus, "CAMPAIGN_STATUS", CampaignStatus),
    ],
)
def test_codes_are_those_of_the_protocol(enum, prefix, members):
    protocol = {name.removeprefix(f"{prefix}_"): number for name, number in enum.items() if number}
    assert protocol == {member.name: member.value for member in members}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("creator_id", 0),
        ("creator_id", 2**64),
        ("name", ""),
        ("name", "   "),
        ("name", "x" * 81),
        ("name", "line\nbreak"),
        ("name", 5),
        ("goal", 2),
        ("goal", None),
        ("bid_mode", 3),
        ("status", "active"),
        ("daily_budget_micros", 999_999),
        ("daily_budget_micros", 10**13 + 1),
        ("daily_budget_micros", -1),
        ("daily_budget_micros", math.nan),
        ("daily_budget_micros", 5e6),
        ("daily_budget_micros", True),
        ("total_budget_micros", 299_999_999),
        ("total_budget_micros", 10**14 + 1),
        ("target_cost_micros", 0),
        ("target_cost_micros", 999),
        ("target_cost_micros", 10**12 + 1),
        ("start_at_ms", -1),
        ("start_at_ms", 10**15),
        ("end_at_ms", NOON_MS),
        ("end_at_ms", -5),
        ("end_at_ms", NOON_MS + 366 * MS_PER_DAY + 1),
        ("zone", ""),
        ("zone", "Mars/Olympus"),
        ("zone", "../../etc/passwd"),
        ("zone", "x" * 65),
        ("zone", None),
        ("creatives", ()),
        ("creatives", tuple(Creative(i + 1) for i in range(17))),
        ("include_fans", 1),
        ("frequency_cap_per_day", -1),
        ("frequency_cap_per_day", 101),
        ("high_tier_worth", 0.99),
        ("high_tier_worth", 10.5),
        ("high_tier_worth", math.nan),
        ("high_tier_worth", True),
        ("high_tier_worth", "3"),
        ("high_tier_worth", 3.0),  # of a campaign for fans, kept or not
    ],
)
def test_a_value_out_of_range_is_named(field, value):
    with pytest.raises(InvalidField) as caught:
        validate(a_campaign(**{field: value}))
    assert caught.value.field == field
    assert str(caught.value).startswith(f"{field}: ")
    assert "must be" in str(caught.value)


@pytest.mark.parametrize(
    ("creative", "field"),
    [
        (Creative(0), "creatives[1].creative_id"),
        (Creative(7001), "creatives[1].creative_id"),
        (Creative(2, "x" * 121), "creatives[1].title"),
        (Creative(2, "a\x00b"), "creatives[1].title"),
        (Creative(2, "", 64), "creatives[1].category"),
    ],
)
def test_a_bad_creative_is_named_by_its_place(creative, field):
    with pytest.raises(InvalidField) as caught:
        validate(a_campaign(creatives=(Creative(7001), creative)))
    assert caught.value.field == field


def test_only_kept_fans_may_be_worth_more_by_their_tier():
    for worth in (1.0, 3, 10.0):
        assert validate(a_campaign(goal=Goal.KEPT_FANS, high_tier_worth=worth)).high_tier_worth == worth
    with pytest.raises(InvalidField, match=r"high_tier_worth: 2\.0; must be 1 or left out when goal is not KEPT_FANS"):
        validate(a_campaign(goal=Goal.FANS, high_tier_worth=2.0))


def test_a_target_cost_needs_its_mode():
    with pytest.raises(InvalidField, match="target_cost_micros: 3000000; must be 0 when bid_mode is AUTOMATIC"):
        validate(a_campaign(bid_mode=BidMode.AUTOMATIC))
    validate(a_campaign(**AUTOMATIC))


def test_a_bad_audience_is_named():
    with pytest.raises(InvalidField) as caught:
        validate(a_campaign(targeting=Segment("No Such Name!")))
    assert caught.value.field == "targeting.segment"
    too_many = Any(tuple(Segment(f"s{i}") for i in range(80)))
    with pytest.raises(InvalidField, match="targeting"):
        validate(a_campaign(targeting=too_many))


@pytest.mark.parametrize("micros", [1_000_000, 10**13])
def test_the_ends_of_the_ranges_are_allowed(micros):
    validate(a_campaign(daily_budget_micros=micros, total_budget_micros=micros))
    validate(a_campaign(total_budget_micros=10**14, target_cost_micros=1_000, end_at_ms=NOON_MS + 1))
    validate(a_campaign(target_cost_micros=10**12, end_at_ms=NOON_MS + 366 * MS_PER_DAY, creator_id=2**64 - 1))
    validate(a_campaign(name="冬" * 80, creatives=tuple(Creative(i + 1, "t" * 120, 63) for i in range(16))))


@settings(max_examples=80, deadline=None)
@given(
    daily=st.integers(-10, 10**13 + 10),
    total=st.integers(-10, 10**14 + 10),
    target=st.integers(-10, 10**12 + 10),
    automatic=st.booleans(),
    end_ms=st.integers(-10, 367 * MS_PER_DAY),
)
def test_money_and_schedule_are_valid_exactly_within_their_ranges(daily, total, target, automatic, end_ms):
    mode = BidMode.AUTOMATIC if automatic else BidMode.TARGET_COST
    campaign = a_campaign(
        bid_mode=mode,
        daily_budget_micros=daily,
        total_budget_micros=total,
        target_cost_micros=target,
        end_at_ms=NOON_MS + end_ms if end_ms else 0,
    )
    good_money = 10**6 <= daily <= 10**13 and daily <= total <= 10**14
    good_target = target == 0 if automatic else 1_000 <= target <= 10**12
    good_end = end_ms == 0 or 0 < end_ms <= 366 * MS_PER_DAY
    if good_money and good_target and good_end:
        assert validate(campaign) is campaign
    else:
        with pytest.raises(InvalidField):
            validate(campaign)


def test_an_edit_makes_the_next_version():
    before = replace(a_campaign(), campaign_id=3, version=8)
    after = edited(before, {"daily_budget_micros": 400_000_000, "name": "Later"}, NOON_MS + 5)
    assert (after.daily_budget_micros, after.name, after.version, after.updated_at_ms) == (
        400_000_000,
        "Later",
        9,
        NOON_MS + 5,
    )
    assert (
        replace(after, daily_budget_micros=300_000_000, name="Spring dance", version=8, updated_at_ms=NOON_MS) == before
    )


@pytest.mark.parametrize(
    "field", ["zone", "goal", "bid_mode", "creator_id", "status", "campaign_id", "version", "nonsense"]
)
def test_what_is_fixed_cannot_be_edited(field):
    assert field not in EDITABLE_FIELDS
    with pytest.raises(InvalidField) as caught:
        edited(a_campaign(), {field: 1}, NOON_MS)
    assert caught.value.field == "update_fields"


def test_an_edit_that_breaks_a_relation_is_refused():
    with pytest.raises(InvalidField, match="total_budget_micros: 3000000000"):
        edited(a_campaign(), {"daily_budget_micros": 4_000_000_000}, NOON_MS)


def test_status_changes_count_as_versions_only_when_they_change():
    campaign = a_campaign()
    paused = with_status(campaign, CampaignStatus.PAUSED, NOON_MS + 1)
    assert (paused.status, paused.version, paused.updated_at_ms) == (CampaignStatus.PAUSED, 2, NOON_MS + 1)
    assert with_status(paused, CampaignStatus.PAUSED, NOON_MS + 2) is paused


def test_running_means_active_and_between_start_and_end():
    campaign = a_campaign(end_at_ms=NOON_MS + 100)
    assert [campaign.is_running(NOON_MS + at) for at in (-1, 0, 99, 100)] == [False, True, True, False]
    assert not with_status(campaign, CampaignStatus.PAUSED, NOON_MS).is_running(NOON_MS)
    assert a_campaign().is_running(NOON_MS + 400 * MS_PER_DAY)
    assert campaign.category == 1
