"""Records of campaigns: they come back as they were, and two of one campaign join to the same in either order."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auction.campaigns.model import Campaign, CampaignStatus, edited, validate, with_status
from auction.campaigns.record import REGISTERS, Record, joined, record_of
from pacing.facts import Goal
from tests.auction.campaigns.figures import NOON_MS, a_campaign

FIRST = Record(replace(a_campaign(name="冬季 🎿"), campaign_id=5), "key")
CHANGES: list[dict[str, Any]] = [
    {"name": "x"},
    {"daily_budget_micros": 2_000_000, "total_budget_micros": 2_000_000},
    {"total_budget_micros": 300_000_000},
    {"include_fans": True},
    {"status": CampaignStatus.PAUSED},
    {"status": CampaignStatus.ENDED},
]
Change = tuple[int, int]
HISTORIES = st.lists(st.tuples(st.integers(0, len(CHANGES) - 1), st.integers(1, 3)), max_size=4)


def changed(record: Record, history: list[Change], at_ms: int = NOON_MS) -> Record:
    """The record after changes, each by an owner."""
    for which, owner_id in history:
        if record.campaign.status is CampaignStatus.ENDED:
            break  # for good
        at_ms += 1
        record = record.changed(next_version(record.campaign, CHANGES[which], at_ms), owner_id)
    return record


def next_version(campaign: Campaign, change: dict[str, Any], at_ms: int) -> Campaign:
    if "status" not in change:
        return edited(campaign, change, at_ms)
    again = with_status(campaign, change["status"], at_ms)
    return replace(again, version=campaign.version + 1, updated_at_ms=at_ms)


@settings(max_examples=80, deadline=None)
@given(base=HISTORIES, one=HISTORIES, other=HISTORIES, later_ms=st.integers(0, 3))
def test_records_join_to_the_same_in_either_order(
    base: list[Change], one: list[Change], other: list[Change], later_ms: int
) -> None:
    root = changed(FIRST, base)
    left, right = changed(root, one, NOON_MS + 10), changed(root, other, NOON_MS + 10 + later_ms)
    both = joined(left, right)
    assert both.text == joined(right, left).text and record_of(both.text).mark == both.mark
    assert validate(both.campaign) and both.idempotency_key == "key"
    for known in (left, right, both):
        assert joined(both, known).mark == joined(known, both).mark == both.mark, "nothing is left to join"
        assert both.campaign.version >= known.campaign.version
        assert all(both.stamps.get(name, (0,)) >= known.stamps.get(name, (0,)) for name in REGISTERS)
        if known.campaign.status is CampaignStatus.ENDED:
            assert both.campaign.status is CampaignStatus.ENDED
    if not other:
        assert both.mark == left.mark, "who knows of every change is not changed"


def test_two_changes_of_different_fields_are_both_kept() -> None:
    one = changed(FIRST, [(0, 1)])
    other = changed(FIRST, [(1, 2)])
    both = joined(one, other).campaign
    assert (both.name, both.daily_budget_micros, both.version) == ("x", 2_000_000, 3)


def test_a_record_is_as_it_was_before_there_were_worths_of_tiers_until_one_is_set() -> None:
    kept = Record(validate(a_campaign(campaign_id=7, goal=Goal.KEPT_FANS)))
    assert "high_tier_worth" not in kept.text and record_of(kept.text) == kept
    raised = kept.changed(edited(kept.campaign, {"high_tier_worth": 3.0}, NOON_MS + 1), 2)
    assert record_of(raised.text).campaign.high_tier_worth == 3.0
    renamed = kept.changed(edited(kept.campaign, {"name": "x"}, NOON_MS + 2), 3)
    both = joined(raised, renamed).campaign
    assert (both.high_tier_worth, both.name) == (3.0, "x")
    back = raised.changed(edited(raised.campaign, {"high_tier_worth": 1.0}, NOON_MS + 3), 3)
    assert joined(raised, back).campaign.high_tier_worth == 1.0


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"stamps": {}}', FIRST.text.replace("fans", "")[:-9]])
def test_what_is_no_record_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        record_of(text)


@pytest.mark.parametrize(
    ("old", "new"),
    [('"version": 1', '"version": "x"'), ('"goal": 2', '"goal": 99'), ("Asia/Shanghai", "Nowhere"), ('"7"', '"0"')],
)
def test_a_record_of_an_invalid_campaign_is_refused(old: str, new: str) -> None:
    assert old in FIRST.text
    with pytest.raises(ValueError):
        record_of(FIRST.text.replace(old, new))
