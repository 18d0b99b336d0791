"""The dozen campaigns of the simulated market, in the numbers that their creators would choose.

Budgets are shares of what all slots of a day cost. Target costs are round numbers around what an event cost the day
before: some above it, so that money is what binds, some below, so that the target binds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.market.behaviour import KIND_OF_GOAL
from benchmarks.market.world import ZONE, World
from pacing.facts import Goal
from protos import campaigns_pb2

FIRST_CREATIVE_ID = 90_001
TIGHT_TARGET = 0.93
_QUALITY_SIGMA = 0.15


@dataclass(frozen=True, slots=True)
class Audience:
    """Whom a campaign wants; empty fields ask for nothing."""

    region_tiers: tuple[int, ...] = ()
    age_bands: tuple[int, ...] = ()
    genders: tuple[int, ...] = ()
    own_category: bool = False
    friends_of_fans: bool = False


@dataclass(frozen=True, slots=True)
class Template:
    """One campaign before it has amounts.

    Attributes:
        creator: row in the world.
        budget_share: of the cost of all slots of the day.
        target: target cost over the cost of the day before; 0: automatic bidding.
    """

    name: str
    creator: int
    goal: Goal
    budget_share: float
    target: float = 0.0
    audience: Audience = Audience()
    creatives: int = 1


TEMPLATES = (
    Template("dance class", 0, Goal.FANS, 0.018, creatives=2),
    Template("street food", 1, Goal.FANS, 0.018, 1.7),
    Template("home fitness", 2, Goal.FANS, 0.005, TIGHT_TARGET, Audience(age_bands=(2, 3, 4)), 2),
    Template("city walks", 3, Goal.FANS, 0.012, 0.0, Audience(region_tiers=(1, 2))),
    Template("makeup basics", 4, Goal.FANS, 0.013, 1.35, Audience(genders=(1,), age_bands=(1, 2, 3, 4)), 3),
    Template("game replays", 5, Goal.FANS, 0.010, 1.6, Audience(own_category=True)),
    Template("village kitchen", 6, Goal.FANS, 0.003, 0.0, Audience(friends_of_fans=True)),
    Template("phone repairs", 7, Goal.FANS, 0.005, TIGHT_TARGET, Audience(), 2),
    Template("night stories", 8, Goal.FANS, 0.016, 0.0, Audience(age_bands=(1, 2, 3))),
    Template("film cuts", 9, Goal.PLAYS, 0.006, 1.5),
    Template("pet clinic", 10, Goal.PROFILE_VISITS, 0.007, 1.6),
    Template("tea shop", 11, Goal.PRODUCT_CLICKS, 0.005, TIGHT_TARGET, Audience(region_tiers=(2, 3))),
)


@dataclass(frozen=True, slots=True)
class MarketCampaign:
    """A campaign of the market: what the engine is told, and what only the market knows.

    Attributes:
        creative_ids, qualities: a creative each; the quality (log-odds) is hidden from the engine.
        target_cost_micros: 0: automatic bidding.
        is_tight: whether the target was set to bind before the budget does.
    """

    template: Template
    creator_id: int
    category: int
    creative_ids: tuple[int, ...]
    qualities: tuple[float, ...]
    daily_budget_micros: int = 0
    target_cost_micros: int = 0

    @property
    def name(self) -> str:
        """What it is called."""
        return self.template.name

    @property
    def goal(self) -> Goal:
        """What it buys."""
        return self.template.goal

    @property
    def creator_row(self) -> int:
        """Its creator's row in the world."""
        return self.template.creator

    @property
    def bid_mode(self) -> int:
        """How it bids: a number of `BidMode`."""
        automatic, target_cost = campaigns_pb2.BID_MODE_AUTOMATIC, campaigns_pb2.BID_MODE_TARGET_COST
        return int(target_cost if self.target_cost_micros else automatic)

    @property
    def is_tight(self) -> bool:
        """Whether its target was chosen to bind before its budget."""
        return 0 < self.template.target < 1

    @property
    def mean_quality(self) -> float:
        """Hidden quality of a creative drawn evenly."""
        return float(np.mean(self.qualities))


def audience_rows(world: World, campaign: MarketCampaign) -> np.ndarray:
    """Who may be bid for, b1[viewers]: the audience without the creator's fans."""
    audience, viewers = campaign.template.audience, world.viewers
    wanted = ~world.fans[:, campaign.creator_row]
    for codes, column in (
        (audience.region_tiers, viewers.region_tiers),
        (audience.age_bands, viewers.age_bands),
        (audience.genders, viewers.genders),
    ):
        if codes:
            wanted &= np.isin(column, codes)
    if audience.own_category:
        wanted &= viewers.has_interest(np.array([campaign.category]))[:, 0]
    if audience.friends_of_fans:
        wanted &= world.laotie[:, campaign.creator_row]
    return wanted


def _targeting(world: World, campaign: MarketCampaign) -> campaigns_pb2.Targeting:
    audience, nodes = campaign.template.audience, []
    regions = np.unique(world.viewers.regions[np.isin(world.viewers.region_tiers, audience.region_tiers)])
    for dimension, codes in (
        (campaigns_pb2.DIMENSION_REGION, regions if audience.region_tiers else ()),
        (campaigns_pb2.DIMENSION_AGE_BAND, audience.age_bands),
        (campaigns_pb2.DIMENSION_GENDER, audience.genders),
    ):
        if len(codes):
            attribute = campaigns_pb2.Targeting.Attribute(dimension=dimension, codes=[int(code) for code in codes])
            nodes.append(campaigns_pb2.Targeting(attribute=attribute))
    if audience.own_category:
        interests = campaigns_pb2.Targeting.Interests(codes=[campaign.category])
        nodes.append(campaigns_pb2.Targeting(interests=interests))
    if audience.friends_of_fans:
        nodes.append(campaigns_pb2.Targeting(friends_of_fans=True))
    if not nodes:
        return campaigns_pb2.Targeting()
    return nodes[0] if len(nodes) == 1 else campaigns_pb2.Targeting(all=campaigns_pb2.Targeting.All(of=nodes))


def campaign_message(world: World, campaign: MarketCampaign, end_at_ms: int) -> campaigns_pb2.Campaign:
    """What an operator sends to create it; it runs from now until `end_at_ms`, with one day's budget in all."""
    creatives = [
        campaigns_pb2.Creative(creative_id=i, title=f"{campaign.name} {k + 1}", category=campaign.category)
        for k, i in enumerate(campaign.creative_ids)
    ]
    goal: Any = int(campaign.goal)
    bid_mode: Any = campaign.bid_mode
    return campaigns_pb2.Campaign(
        creator_id=campaign.creator_id,
        name=campaign.name,
        goal=goal,
        bid_mode=bid_mode,
        target_cost_micros=campaign.target_cost_micros,
        daily_budget_micros=campaign.daily_budget_micros,
        total_budget_micros=campaign.daily_budget_micros,
        end_at_ms=end_at_ms,
        zone=ZONE,
        creatives=creatives,
        targeting=_targeting(world, campaign),
    )


def bare_campaigns(world: World) -> tuple[MarketCampaign, ...]:
    """The campaigns of a world without budgets and target costs."""
    rng = np.random.default_rng([world.seed, 4])
    return tuple(_without_amounts(world, template, k, rng) for k, template in enumerate(TEMPLATES))


def _without_amounts(world: World, template: Template, k: int, rng: np.random.Generator) -> MarketCampaign:
    assert template.goal in KIND_OF_GOAL
    first = FIRST_CREATIVE_ID + 100 * k
    qualities = np.round(rng.normal(0, _QUALITY_SIGMA, template.creatives), 3)
    return MarketCampaign(
        template=template,
        creator_id=int(world.creators.ids[template.creator]),
        category=int(world.creators.categories[template.creator]),
        creative_ids=tuple(range(first, first + template.creatives)),
        qualities=tuple(float(quality) for quality in qualities),
    )
