"""The JSON shapes of a creator's health report, and what may be asked for."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from auction.rest.shapes import MAX_ID

OWN = "self"
CREATOR_PATTERN = r"^(self|[1-9][0-9]{0,19})$"
DATE_PATTERN = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
EPOCH = date(1970, 1, 1)
DAYS_OF_PERIOD = {"week": 7, "month": 30}

PeriodName = Literal["week", "month"]
TierName = Literal["potential", "active", "high_value", "iron"]
StageName = Literal["gained", "activated", "retained", "silent", "lost"]


def _creator(text: str) -> str:
    if text != OWN and int(text) > MAX_ID:
        raise ValueError(f"must be {OWN}, or a decimal number from 1 to {MAX_ID}")
    return text


def _day(text: str) -> str:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        day = date.min
    if day < EPOCH + timedelta(60) or day.year > 2100:
        raise ValueError("must be a date such as 2026-03-04, from 1970-03-02 to 2100-12-31")
    return text


CreatorId = Annotated[
    str,
    Field(pattern=CREATOR_PATTERN, description=f"a creator's id, or {OWN}: the token's own", examples=[OWN]),
    AfterValidator(_creator),
]


class HealthQuery(BaseModel):
    """Which period."""

    model_config = ConfigDict(extra="forbid")
    period: Annotated[PeriodName, Field(description="7 or 30 whole days, in UTC")] = "week"
    end: Annotated[
        Annotated[str, Field(pattern=DATE_PATTERN), AfterValidator(_day)] | None,
        Field(description="the last day of the period, which must be over; left out: yesterday"),
    ] = None

    @property
    def days(self) -> int:
        """The length of the period."""
        return DAYS_OF_PERIOD[self.period]

    @property
    def end_day(self) -> int:
        """The first day after the period, counted from 1970; 0: today."""
        return 0 if self.end is None else (date.fromisoformat(self.end) - EPOCH).days + 1


class SourceShape(BaseModel):
    """Fans who came through a campaign; `campaign_id` null: through none."""

    campaign_id: str | None
    gained: int
    lost: int


class KindShape(BaseModel):
    """How often something was done, by anybody."""

    kind: str
    events: int
    per_100_fan_days: float


class TierShape(BaseModel):
    """The viewers of one tier at the end of the period."""

    tier: TierName
    fans: int
    share: float


class StageShape(BaseModel):
    """The fans in one stage at the end of the period."""

    stage: StageName
    fans: int
    share: float


class PeriodShape(BaseModel):
    """The figures of one period."""

    fans_at_begin: Annotated[int, Field(description="who follows")]
    fans_at_end: int
    gained: int
    lost: Annotated[int, Field(description="who unfollowed")]
    net: Annotated[int, Field(description="gained - lost")]
    sources: list[SourceShape]
    fan_days: Annotated[int, Field(description="fans of each day, summed: what the rates divide by")]
    active_fan_days: Annotated[int, Field(description="of these, with a sign of life")]
    active_share: Annotated[float, Field(description="active_fan_days / fan_days")]
    kinds: list[KindShape]
    tiers: list[TierShape]
    stages: list[StageShape]


class DayShape(BaseModel):
    """One day."""

    day_start_at_ms: int
    fans_at_end: int
    gained_by_campaigns: int
    gained_otherwise: int
    lost: int


class AssociationShape(BaseModel):
    """How often a group of fans left, beside all other fans at the beginning; never a cause."""

    campaign_id: Annotated[str | None, Field(description="whose fans; null: fans gained in the 30 days before")]
    left: int
    fans: int
    others_left: int
    others: int
    ratio: Annotated[float | None, Field(description="of the shares that left; null: none of the others left")]
    ratio_low: Annotated[float, Field(description="with ratio_high an interval: `confidence` that all hold at once")]
    ratio_high: float
    is_clear: Annotated[bool, Field(description="the interval does not hold 1")]
    sentence: str


class PeerFigureShape(BaseModel):
    """Where the creator stands among the peers."""

    name: Literal["net_follows_per_100_fans", "unfollows_per_100_fans", "active_share"]
    value: float
    percentile: Annotated[float, Field(description="of the peers have less, those with as much counting half")]


class PeersShape(BaseModel):
    """Creators with about as many fans."""

    creators: int
    least_fans: int
    most_fans: int
    figures: list[PeerFigureShape]


class KeptShape(BaseModel):
    """Of the fans gained so many days ago or earlier, how many were still there."""

    days: int
    judged: int
    kept: int


class CreatorHealthShape(BaseModel):
    """A creator's week or month with their fans."""

    creator_id: str
    days: int
    begin_at_ms: int
    end_at_ms: Annotated[int, Field(description="not in the period")]
    period: PeriodShape
    before: Annotated[PeriodShape, Field(description="as many days before")]
    by_day: list[DayShape]
    associations: list[AssociationShape]
    smallest_group: Annotated[int, Field(description="fans that both sides of an association have, at least")]
    confidence: float
    peers: Annotated[PeersShape | None, Field(description="null: fewer than `smallest_cohort`, or too few fans")]
    smallest_cohort: int
    kept: list[KeptShape]
