"""What a campaign is: its fields, their ranges, and what may change after it was created.

A `Campaign` is immutable. Whoever changes one makes a new one with `edited` or `with_status`, which checks it whole,
so an invalid campaign never exists outside this module's callers' hands.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any as AnyValue

from pacing.clocks import MS_PER_DAY
from pacing.days import zone_of
from pacing.facts import Goal
from pacing.money import MAX_AMOUNT_MICROS
from targeting import expressions, validation
from targeting.expressions import EVERYBODY, Expression

MAX_ID = 2**64 - 1
MAX_NAME_CHARACTERS = 80
MAX_TITLE_CHARACTERS = 120
MAX_ZONE_CHARACTERS = 64
MAX_CREATIVES = 16
MAX_CATEGORY = 63
MAX_FREQUENCY_CAP_PER_DAY = 100
MIN_TARGET_COST_MICROS = 1_000
MAX_TARGET_COST_MICROS = 10**12
MIN_DAILY_BUDGET_MICROS = 1_000_000
MAX_DAILY_BUDGET_MICROS = 10**13
MAX_FLIGHT_MS = 366 * MS_PER_DAY
MAX_HIGH_TIER_WORTH = 10.0
MAX_INSTANT_MS = 4_102_444_800_000
"""Start of the year 2100: the last instant that a schedule may name."""

EDITABLE_FIELDS = (
    "name",
    "target_cost_micros",
    "daily_budget_micros",
    "total_budget_micros",
    "end_at_ms",
    "creatives",
    "targeting",
    "include_fans",
    "frequency_cap_per_day",
    "high_tier_worth",
)
"""Fields that an update may name. The rest is fixed at creation, or set by the server."""


class InvalidField(ValueError):
    """One field holds what it may not.

    Attributes:
        field: path of the field, such as `creatives[2].title`.
        value: what was sent, shortened for display.
        allowed: what would have been right, in words.
    """

    def __init__(self, field: str, value: object, allowed: str) -> None:
        self.field = field
        self.value = _shown(value)
        self.allowed = allowed
        super().__init__(f"{field}: {self.value}; must be {allowed}")


class InvalidTargeting(InvalidField):
    """The audience is too large, too deep, or names what does not exist; `field` is the path of the node."""

    def __init__(self, reason: str) -> None:
        path, _, allowed = reason.partition(" ")
        self.field = path.rstrip(":") if path.startswith("targeting") else "targeting"
        self.value = ""
        self.allowed = allowed
        ValueError.__init__(self, reason if path.startswith("targeting") else f"targeting: {reason}")


class BidMode(IntEnum):
    """How a campaign wants its money spent; the numbers of `protos/campaigns.proto`."""

    AUTOMATIC = 1
    TARGET_COST = 2


class CampaignStatus(IntEnum):
    """What a creator decided about a campaign; the numbers of `protos/campaigns.proto`."""

    ACTIVE = 1
    PAUSED = 2
    ENDED = 3


@dataclass(frozen=True, slots=True)
class Creative:
    """One video that a campaign may show.

    Attributes:
        creative_id: given by the caller.
        category: content category, 1 to 63; 0: unknown.
    """

    creative_id: int
    title: str = ""
    category: int = 0


@dataclass(frozen=True, slots=True)
class Campaign:
    """A creator's order: what to buy, for whom, with how much money, and when.

    Attributes:
        campaign_id: 0 until it is stored.
        target_cost_micros: most to pay for one goal event on average over a budget day; 0 in automatic mode.
        start_at_ms: inclusive. 0 in a draft means "when it is created".
        end_at_ms: exclusive; 0: none.
        zone: IANA name; the campaign's budget days are this zone's local days.
        targeting: audience; `EVERYBODY` without a condition.
        include_fans: whether viewers who already follow the creator are bid for.
        frequency_cap_per_day: impressions of this creator per viewer and day; 0: the deployment's default.
        high_tier_worth: of kept fans: how many plain ones one is worth who comes to be of a high tier (high-value or
            iron) within 30 days, 1 to MAX_HIGH_TIER_WORTH; 1: a fan is a fan.
        version: grows by one with every change.
    """

    creator_id: int
    name: str
    goal: Goal
    bid_mode: BidMode
    daily_budget_micros: int
    total_budget_micros: int
    zone: str
    creatives: tuple[Creative, ...]
    target_cost_micros: int = 0
    start_at_ms: int = 0
    end_at_ms: int = 0
    targeting: Expression = EVERYBODY
    include_fans: bool = False
    frequency_cap_per_day: int = 0
    high_tier_worth: float = 1.0
    campaign_id: int = 0
    status: CampaignStatus = CampaignStatus.ACTIVE
    version: int = 1
    created_at_ms: int = 0
    updated_at_ms: int = 0

    @property
    def category(self) -> int:
        """The campaign's content category: its first creative's, 0 to 63."""
        return self.creatives[0].category

    def is_running(self, at_ms: int) -> bool:
        """Whether the campaign may bid at `at_ms`: active, started and not past its end."""
        return self.status is CampaignStatus.ACTIVE and self.start_at_ms <= at_ms and not self.is_over(at_ms)

    def is_over(self, at_ms: int) -> bool:
        """Whether the campaign will never bid again: ended, or past its end, unless that is changed."""
        return self.status is CampaignStatus.ENDED or (self.end_at_ms != 0 and at_ms >= self.end_at_ms)


def validate(campaign: Campaign) -> Campaign:
    """Check every field and the relations between them; answers with the campaign it was given.

    Raises:
        InvalidField: names the field, its value and what is allowed.
    """
    check_int("creator_id", campaign.creator_id, 1, MAX_ID)
    check_text("name", campaign.name, 1, MAX_NAME_CHARACTERS)
    _check_member("goal", campaign.goal, Goal)
    _check_member("bid_mode", campaign.bid_mode, BidMode)
    _check_member("status", campaign.status, CampaignStatus)
    _check_money(campaign)
    _check_schedule(campaign)
    _check_zone(campaign.zone)
    _check_creatives(campaign.creatives)
    check_int("frequency_cap_per_day", campaign.frequency_cap_per_day, 0, MAX_FREQUENCY_CAP_PER_DAY)
    _check_high_tier_worth(campaign)
    if not isinstance(campaign.include_fans, bool):
        raise InvalidField("include_fans", campaign.include_fans, "true or false")
    _check_targeting(campaign)
    return campaign


def edited(campaign: Campaign, changes: Mapping[str, AnyValue], now_ms: int) -> Campaign:
    """The campaign after an update: changed, checked, and one version further.

    Raises:
        InvalidField: a field may not change, or its new value is out of range.
    """
    for field in changes:
        if field not in EDITABLE_FIELDS:
            raise InvalidField("update_fields", field, f"one of {', '.join(EDITABLE_FIELDS)}")
    changed = replace(campaign, **changes, version=campaign.version + 1, updated_at_ms=now_ms)
    return validate(changed)


def with_status(campaign: Campaign, status: CampaignStatus, now_ms: int) -> Campaign:
    """The campaign paused, resumed or ended; unchanged if it is so already."""
    if campaign.status is status:
        return campaign
    return replace(campaign, status=status, version=campaign.version + 1, updated_at_ms=now_ms)


def check_int(field: str, value: object, low: int, high: int) -> int:
    """`value`, if it is a whole number within [low, high].

    Raises:
        InvalidField: it is not; NaN, floats and booleans are not whole numbers.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InvalidField(field, value, f"a whole number from {low} to {high}")
    return value


def check_text(field: str, value: object, low: int, high: int) -> str:
    """`value`, if it is text of `low` to `high` characters without control characters, and not blank unless `low` is 0.

    Raises:
        InvalidField: it is not.
    """
    allowed = f"text of {low} to {high} characters without control characters"
    if not isinstance(value, str) or not low <= len(value) <= high:
        raise InvalidField(field, value, allowed)
    if any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in value):
        raise InvalidField(field, value, allowed)
    if low > 0 and not value.strip():
        raise InvalidField(field, value, f"{allowed}, and not blank")
    return value


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _check_member(field: str, value: object, members: type[IntEnum]) -> None:
    if not isinstance(value, members):
        names = ", ".join(f"{member.value} ({member.name})" for member in members)
        raise InvalidField(field, value, f"one of {names}")


def _check_money(campaign: Campaign) -> None:
    daily = check_int(
        "daily_budget_micros", campaign.daily_budget_micros, MIN_DAILY_BUDGET_MICROS, MAX_DAILY_BUDGET_MICROS
    )
    check_int("total_budget_micros", campaign.total_budget_micros, daily, MAX_AMOUNT_MICROS)
    if campaign.bid_mode is BidMode.TARGET_COST:
        check_int("target_cost_micros", campaign.target_cost_micros, MIN_TARGET_COST_MICROS, MAX_TARGET_COST_MICROS)
    elif campaign.target_cost_micros != 0:
        raise InvalidField("target_cost_micros", campaign.target_cost_micros, "0 when bid_mode is AUTOMATIC")


def _check_high_tier_worth(campaign: Campaign) -> None:
    worth, allowed = campaign.high_tier_worth, f"a number from 1 to {MAX_HIGH_TIER_WORTH:g}; 0 or left out: 1"
    if isinstance(worth, bool) or not isinstance(worth, int | float) or not 1.0 <= worth <= MAX_HIGH_TIER_WORTH:
        raise InvalidField("high_tier_worth", worth, allowed)
    if worth != 1.0 and campaign.goal is not Goal.KEPT_FANS:
        raise InvalidField("high_tier_worth", worth, "1 or left out when goal is not KEPT_FANS")


def _check_schedule(campaign: Campaign) -> None:
    start = check_int("start_at_ms", campaign.start_at_ms, 0, MAX_INSTANT_MS)
    if campaign.end_at_ms != 0:
        check_int("end_at_ms", campaign.end_at_ms, start + 1, start + MAX_FLIGHT_MS)


def _check_zone(zone: object) -> None:
    allowed = "the name of a time zone in the IANA database, such as 'Asia/Shanghai'"
    if not isinstance(zone, str) or not 1 <= len(zone) <= MAX_ZONE_CHARACTERS:
        raise InvalidField("zone", zone, allowed)
    try:
        zone_of(zone)
    except ValueError:
        raise InvalidField("zone", zone, allowed) from None


def _check_creatives(creatives: tuple[Creative, ...]) -> None:
    if not 1 <= len(creatives) <= MAX_CREATIVES:
        raise InvalidField("creatives", f"{len(creatives)} creatives", f"1 to {MAX_CREATIVES} creatives")
    seen: set[int] = set()
    for i, creative in enumerate(creatives):
        check_int(f"creatives[{i}].creative_id", creative.creative_id, 1, MAX_ID)
        check_text(f"creatives[{i}].title", creative.title, 0, MAX_TITLE_CHARACTERS)
        check_int(f"creatives[{i}].category", creative.category, 0, MAX_CATEGORY)
        if creative.creative_id in seen:
            raise InvalidField(f"creatives[{i}].creative_id", creative.creative_id, "unlike every other creative's")
        seen.add(creative.creative_id)


def _check_targeting(campaign: Campaign) -> None:
    try:
        validation.validate(campaign.targeting)
        expressions.compile_clauses(campaign.targeting, campaign.creator_id, campaign.include_fans)
    except ValueError as error:
        raise InvalidTargeting(str(error)) from None
