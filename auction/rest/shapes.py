"""The JSON shapes of the REST shim: strict, with every range in the schema.

Names are those of `protos/campaigns.proto`. Ids are decimal strings, since JavaScript numbers lose digits beyond
2^53; amounts are whole micros, which stay below that.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

MAX_ID = 2**64 - 1
MAX_INSTANT_MS = 4_102_444_800_000
GoalName = Literal["plays", "fans", "profile_visits", "product_clicks", "live_visits", "orders", "kept_fans"]
BidModeName = Literal["automatic", "target_cost"]
StatusName = Literal["active", "paused", "ended"]
DimensionName = Literal["region", "age_band", "gender", "os", "network", "device_tier", "content_category", "placement"]


ID_PATTERN = r"^[1-9][0-9]{0,19}$"
SEQUENCE_PATTERN = r"^(0|[1-9][0-9]{0,17})$"
SEGMENT_PATTERN = r"^[a-z0-9:_.\-]{1,64}$"
MEANING_OF_PATTERN = {
    ID_PATTERN: f"a decimal number from 1 to {MAX_ID}, as a string",
    SEQUENCE_PATTERN: f"a decimal number from 0 to {10**18 - 1}, as a string",
    SEGMENT_PATTERN: "1 to 64 of the characters a-z, 0-9, ':', '_', '.' and '-'",
}
"""What a string of each pattern is, in words."""


def _within_64_bits(text: str) -> str:
    if int(text) > MAX_ID:
        raise ValueError(f"must be {MEANING_OF_PATTERN[ID_PATTERN]}")
    return text


def _without_defaults(schema: dict[str, Any]) -> None:
    """What is left out of a change stays as it is: there is no value that it would take."""
    for name, field in schema["properties"].items():
        if name != "version":
            field.pop("default", None)


Id = Annotated[
    str,
    Field(pattern=ID_PATTERN, description="a 64-bit number, in decimal", examples=["7001"]),
    AfterValidator(_within_64_bits),
]
Sequence = Annotated[
    str, Field(pattern=SEQUENCE_PATTERN, description="a row of the ledger, in decimal", examples=["0"])
]
Name = Annotated[str, Field(min_length=1, max_length=80, description="1 to 80 characters, not blank")]
TargetCost = Annotated[
    int, Field(ge=0, le=10**12, description="per goal event; 0 in automatic mode, else at least 1,000")
]
DailyBudget = Annotated[int, Field(ge=1_000_000, le=10**13, description="per local day of the campaign's zone")]
TotalBudget = Annotated[
    int, Field(ge=1_000_000, le=10**14, description="for the whole flight; at least the daily budget")
]
EndAt = Annotated[int, Field(ge=0, le=MAX_INSTANT_MS, description="ms since 1970; 0: no end")]
FrequencyCap = Annotated[int, Field(ge=0, le=100, description="impressions per viewer and day; 0: the default")]
_WORTH_TOLD = (
    "with goal kept_fans: how many plain fans one is worth who is high-value or iron within 30 days, from 1; 0: 1"
)
HighTierWorth = Annotated[float, Field(ge=0, le=10, description=_WORTH_TOLD)]


class Strict(BaseModel):
    """A JSON object without room for doubt: no unknown field, no conversion between types."""

    model_config = ConfigDict(strict=True, extra="forbid")


class CreativeShape(Strict):
    """One video."""

    creative_id: Id
    title: Annotated[str, Field(max_length=120)] = ""
    category: Annotated[int, Field(ge=0, le=63, description="content category; 0: unknown")] = 0


class AttributeShape(Strict):
    """A viewer attribute that has any of these codes."""

    dimension: DimensionName
    codes: Annotated[list[Annotated[int, Field(ge=0, le=511)]], Field(min_length=1, max_length=256)]


TagText = Annotated[str, Field(min_length=1, max_length=64)]


class ContentShape(Strict):
    """Who likes any of these tags of content at least so much, or watches one now. 1 to 16 tags in all."""

    keywords: Annotated[list[TagText], Field(max_length=16)] = []
    bgm: Annotated[list[TagText], Field(max_length=16)] = []
    visual_tags: Annotated[list[TagText], Field(max_length=16)] = []
    min_weight_percent: Annotated[int, Field(ge=10, le=100, multiple_of=10, description="least affinity")] = 50


class TargetingShape(Strict):
    """An audience: one of these nodes, or `{}` for everybody. At most 64 nodes, 8 levels deep."""

    all: Annotated[list[TargetingShape] | None, Field(min_length=1, max_length=64, description="and")] = None
    any: Annotated[list[TargetingShape] | None, Field(min_length=1, max_length=64, description="or")] = None
    none: Annotated[TargetingShape | None, Field(description="not")] = None
    attribute: AttributeShape | None = None
    interests: Annotated[
        list[Annotated[int, Field(ge=0, le=63)]] | None, Field(min_length=1, max_length=64, description="any of")
    ] = None
    segment: Annotated[str | None, Field(pattern=SEGMENT_PATTERN)] = None
    fans_of: Annotated[list[Id] | None, Field(min_length=1, max_length=16, description="any of these creators")] = None
    viewers_of: Annotated[
        list[Id] | None, Field(min_length=1, max_length=16, description="played a video of any in the last 30 days")
    ] = None
    live_visitors_of: Annotated[
        list[Id] | None, Field(min_length=1, max_length=16, description="was in any's live room in the last 30 days")
    ] = None
    content: ContentShape | None = None
    friends_of_fans: Annotated[Literal[True] | None, Field(description="laotie of the campaign's creator")] = None
    fans_of_similar_creators: Annotated[
        Literal[True] | None,
        Field(description="laotie, too: follows a creator whose fans overlap with theirs beyond chance"),
    ] = None

    @model_validator(mode="after")
    def _one_node(self) -> TargetingShape:
        nodes = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(nodes) > 1:
            raise ValueError(f"{', '.join(nodes)}: one node each; join several with 'all' or 'any'")
        return self


class NewCampaign(Strict):
    """What a creator asks for."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "name": "Spring dance",
                "goal": "fans",
                "bid_mode": "target_cost",
                "target_cost_micros": 3_000_000,
                "daily_budget_micros": 300_000_000,
                "total_budget_micros": 3_000_000_000,
                "zone": "Asia/Shanghai",
                "creatives": [{"creative_id": "7001", "title": "Dance on the roof", "category": 12}],
                "targeting": {"all": [{"interests": [3, 12]}, {"attribute": {"dimension": "gender", "codes": [1]}}]},
            }
        }
    )

    name: Name
    goal: GoalName
    bid_mode: BidModeName
    daily_budget_micros: DailyBudget
    total_budget_micros: TotalBudget
    zone: Annotated[str, Field(min_length=1, max_length=64, description="IANA time zone; cannot change later")]
    creatives: Annotated[list[CreativeShape], Field(min_length=1, max_length=16)]
    target_cost_micros: TargetCost = 0
    start_at_ms: Annotated[int, Field(ge=0, le=MAX_INSTANT_MS, description="ms since 1970; 0: now")] = 0
    end_at_ms: EndAt = 0
    targeting: TargetingShape = TargetingShape()
    include_fans: Annotated[bool, Field(description="bid also for viewers who follow the creator already")] = False
    frequency_cap_per_day: FrequencyCap = 0
    high_tier_worth: HighTierWorth = 0.0
    creator_id: Annotated[Id | None, Field(description="operators only: whose campaign it is")] = None


class CampaignChange(Strict):
    """The fields to change; what is left out stays. Naming the `version` that was read makes a lost update a 409."""

    model_config = ConfigDict(json_schema_extra=_without_defaults)

    version: Annotated[int, Field(ge=0, le=2**53, description="0: whatever is stored")] = 0
    name: Name = ""
    target_cost_micros: TargetCost = 0
    daily_budget_micros: DailyBudget = 0
    total_budget_micros: TotalBudget = 0
    end_at_ms: EndAt = 0
    creatives: Annotated[list[CreativeShape], Field(min_length=1, max_length=16)] = []
    targeting: TargetingShape = TargetingShape()
    include_fans: bool = False
    frequency_cap_per_day: FrequencyCap = 0
    high_tier_worth: HighTierWorth = 0.0

    @model_validator(mode="after")
    def _something(self) -> CampaignChange:
        names = [name for name in type(self).model_fields if name != "version"]
        if not self.model_fields_set.intersection(names):
            raise ValueError(f"must name one or more of {', '.join(names)}")
        return self


class NoFields(Strict):
    """Nothing: a call that may be sent without a body, or with `{}`."""


class CampaignShape(BaseModel):
    """A stored campaign."""

    campaign_id: str
    creator_id: str
    name: str
    goal: GoalName
    bid_mode: BidModeName
    target_cost_micros: int
    daily_budget_micros: int
    total_budget_micros: int
    start_at_ms: int
    end_at_ms: int
    zone: str
    creatives: list[CreativeShape]
    targeting: TargetingShape
    include_fans: bool
    frequency_cap_per_day: int
    high_tier_worth: float
    status: StatusName
    version: int
    created_at_ms: int
    updated_at_ms: int
    cur: str


class CampaignPage(BaseModel):
    """One page of campaigns; `next_page_token` is empty on the last."""

    campaigns: list[CampaignShape]
    next_page_token: str
    creator_id: Annotated[str | None, Field(description="whom the token stands for; null: an operator")]


class ChangedCampaign(BaseModel):
    """A campaign after a change, and the budgets in force: a cut waits for what is spent and promised already."""

    campaign: CampaignShape
    effective_daily_budget_micros: int
    effective_total_budget_micros: int


class FiguresShape(BaseModel):
    """Figures over some time."""

    impressions: int
    spend_micros: int
    clicks: int
    plays: int
    fans: int
    profile_visits: int
    product_clicks: int
    unfollows: int
    expected_goal_events: float
    bids: int
    goal_events: int
    planned_spend_micros: int
    live_visits: int
    orders: int


class HourShape(BaseModel):
    """Figures of one hour."""

    hour_start_at_ms: int
    figures: FiguresShape


class KeptFansShape(BaseModel):
    """What becomes of the fans that a campaign gained: `expected` of them are kept 30 days, at `cost_micros` each,
    and `risen` came to be high-value or iron within that time."""

    gained: int
    lost: int
    kept: int
    expected: float
    cost_micros: int
    risen: int


class ReportShape(BaseModel):
    """A campaign's figures; every one is true at row `ledger_sequence` of the ledger and, with --redis, at the rows
    `true_at` of all servers' ledgers."""

    campaign_id: str
    ledger_sequence: Annotated[str, Field(description="with --redis a row of the asked server's own ledger")]
    true_at: Annotated[
        list[str], Field(description="with --redis the row of each server's ledger: its owner, # and the row")
    ]
    at_ms: int
    total: FiguresShape
    today: FiguresShape
    hours: list[HourShape]
    over_delivered_micros: int
    daily_budget_micros: int
    total_budget_micros: int
    multiplier_micros: float
    status: StatusName
    kept_fans: KeptFansShape


class ChargeShape(BaseModel):
    """One impression with its price, and the why of its bid: value = alpha * p, and in first price a share of that."""

    sequence: Annotated[
        str, Field(description="its row of the ledger; with --redis the ledger's owner, # and the row, such as 4#123")
    ]
    occurred_at_ms: int
    recorded_at_ms: int
    viewer_id: str
    creative_id: str
    at: Literal["first_price", "second_price"]
    verdict: Annotated[
        Literal["charged", "duplicate", "conflict", "over_delivery"], Field(description="only 'charged' cost anything")
    ]
    amount_micros: Annotated[int, Field(description="the price")]
    bid_micros: int
    floor_micros: int
    probability: Annotated[float, Field(description="of a goal event, as predicted")]
    alpha_micros: Annotated[float, Field(description="worth of one goal event; if flat, of the impression")]
    flat: Annotated[bool, Field(description="the worth did not depend on the probability")]
    uplifted: Annotated[bool, Field(description="alpha counts what tier this viewer may come to be of as a fan")]
    value_micros: Annotated[float, Field(description="worth of the impression")]
    shade: Annotated[float, Field(description="bid / value in first price; 0 in second price")]
    charged_micros: Annotated[int, Field(description="by the campaign, up to this row")]
    over_delivered_micros: Annotated[int, Field(description="up to this row")]


class ChargePage(BaseModel):
    """One page of charges; `next_after` is empty on the last. All is true at row `ledger_sequence` of the ledger; with
    --redis that is a place in the list of the server that was asked."""

    charges: list[ChargeShape]
    next_after: str
    ledger_sequence: str
    charged_micros: int
    over_delivered_micros: int


class NoGrantsShape(BaseModel):
    """Why a shared Redis gives the engine no new money now; it bids with what it has."""

    reason: Annotated[
        Literal["away", "failover", "owners", "foreign"],
        Field(
            description="away: Redis does not answer, or refuses; failover: Redis was restarted, another master took "
            "over, or an account was lost, so leases that it may have lost must run out first; owners: after that, it "
            "waits for servers that have not told again what they settled, see `fanbid owners list`; foreign: Redis "
            "holds another deployment than the one that this server joined, or none"
        ),
    ]
    until_ms: Annotated[int, Field(description="on the wall clock; 0: not known")]


class HealthShape(BaseModel):
    """The engine serves; `no_grants` is there while a shared Redis gives it no new money."""

    status: Literal["serving"]
    no_grants: NoGrantsShape | None = None


class ErrorBody(BaseModel):
    """What went wrong."""

    code: str
    message: str
    field: str | None


class ErrorShape(BaseModel):
    """The answer to every request that fails."""

    error: ErrorBody


class PageQuery(BaseModel):
    """Which page of the list."""

    model_config = ConfigDict(extra="forbid")
    page_size: Annotated[int, Field(ge=1, le=200)] = 50
    page_token: Annotated[str, Field(max_length=64)] = ""
    creator_id: Annotated[Id | None, Field(description="operators only")] = None


class ChargesQuery(BaseModel):
    """Which page of the charges."""

    model_config = ConfigDict(extra="forbid")
    after: Annotated[
        Sequence, Field(description="next_after of the page before; with --redis from the same server")
    ] = "0"
    limit: Annotated[int, Field(ge=1, le=1_000)] = 100
    ledger_sequence: Annotated[
        Sequence, Field(description="that of an earlier page, to go on with the list as it was then")
    ] = "0"


class ReportQuery(BaseModel):
    """How much history."""

    model_config = ConfigDict(extra="forbid")
    hours: Annotated[int, Field(ge=1, le=744)] = 48


class LiveQuery(BaseModel):
    """Which campaigns to watch."""

    model_config = ConfigDict(extra="forbid")
    campaign_id: Annotated[list[Id], Field(min_length=1, max_length=100)]
    interval_ms: Annotated[int, Field(ge=250, le=60_000)] = 1_000
    hours: Annotated[int, Field(ge=1, le=744)] = 48
