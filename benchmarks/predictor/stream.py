"""One seeded day of impressions, as features, labels and delays: what every learner of this benchmark is told.

Viewers, creators and what viewers truly do are those of the simulated market; its truth is logistic and has hidden
tastes, so no learner here has the right model. Campaigns are many, of uneven size, and some start within the day.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from auction.predictor.features import FEATURE_COUNT
from auction.predictor.kernels import fill_features
from auction.predictor.predictor import Predictor
from benchmarks.market.behaviour import PLACEMENT_COUNT, Behaviour, Context, draw_delays_ms
from benchmarks.market.traffic import FIRST_DAY_KEY, HOURLY_TRAFFIC
from benchmarks.market.world import CATEGORIES, ZONE, World, WorldSettings, make_world
from pacing.clocks import MS_PER_DAY, MS_PER_HOUR
from pacing.days import day_of_key
from pacing.facts import Goal, OutcomeKind
from targeting.attributes import DIMENSION_COUNT

DAYS = 3
CREATORS = 28
CAMPAIGNS = 40
NEW_OF_KNOWN, NEW_OF_UNKNOWN = 8, 8
"""Campaigns that start within the day: of creators who have others running, and of creators never seen before."""
NEW_SHARE = 0.01
"""Of all impressions, from its start on, that such a campaign has."""
QUALITY_SIGMA = 0.15
FREQUENCY_CAP = 4
FIRST_CAMPAIGN_ID, FIRST_CREATIVE_ID = 1, 500_001
_ROWS_PER_VIEWER = 20
_PLACEMENT_SHARES = np.array([0.55, 0.20, 0.15, 0.10])
_REQUEST = 256


@dataclass(frozen=True, slots=True)
class Campaigns:
    """C campaigns: ids u8[C], creator rows i8[C], hidden qualities f8[C], when each starts i8[C] (row of the stream),
    whether it is new within the day b1[C], and whether its creator was seen before b1[C]."""

    ids: np.ndarray
    creator_rows: np.ndarray
    creative_ids: np.ndarray
    qualities: np.ndarray
    starts: np.ndarray
    is_new: np.ndarray
    is_known: np.ndarray


@dataclass(frozen=True, slots=True)
class Stream:
    """n impressions, oldest first.

    Attributes:
        at_ms: i8[n].
        day: i8[n], from 0.
        campaign: i8[n], position in `campaigns`.
        features: u4[n, 16], as the engine hashes them.
        earlier: i8[n], impressions of the same creator that the viewer had that day.
        truth: f8[n], the true probability of a follow; nobody is told.
        labels: b1[n], whether it came.
        delays_ms: i8[n], how long after the impression, where it came.
        segments: i8[n] each, by name: what calibration is judged by.
    """

    campaigns: Campaigns
    at_ms: np.ndarray
    day: np.ndarray
    campaign: np.ndarray
    features: np.ndarray
    earlier: np.ndarray
    truth: np.ndarray
    labels: np.ndarray
    delays_ms: np.ndarray
    segments: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.at_ms)

    def of_campaign(self, which: int) -> Stream:
        """Its impressions only, without segments."""
        mine = np.flatnonzero(self.campaign == which)
        columns = ("at_ms", "day", "campaign", "features", "earlier", "truth", "labels", "delays_ms")
        return replace(self, segments={}, **{name: getattr(self, name)[mine] for name in columns})


def draw_stream(seed: int, rows: int, days: int = DAYS) -> Stream:
    """Days of about so many impressions in all; the same seed gives the same."""
    rng = np.random.default_rng([seed, 41])
    world = make_world(seed, WorldSettings(max(rows // _ROWS_PER_VIEWER, 1_000), CREATORS))
    campaigns = _draw_campaigns(rng, rows)
    start_ms = day_of_key(FIRST_DAY_KEY, ZONE).start_at_ms
    hours = rng.choice(24, rows, p=HOURLY_TRAFFIC / HOURLY_TRAFFIC.sum()) + 24 * rng.integers(0, days, rows)
    at_ms = np.sort(start_ms + ((hours + rng.random(rows)) * MS_PER_HOUR).astype(np.int64))
    campaign = _who_shows(rng, campaigns, rows)
    presence = np.cumsum(world.viewers.activity)
    viewers = np.searchsorted(presence, rng.random(rows) * presence[-1])
    day = (at_ms - start_ms) // MS_PER_DAY
    earlier = _earlier(day * world.viewers.size + viewers, campaigns.creator_rows[campaign])
    kept = earlier < FREQUENCY_CAP
    at_ms, day, campaign, viewers, earlier = (part[kept] for part in (at_ms, day, campaign, viewers, earlier))
    hours = (at_ms - start_ms) // MS_PER_HOUR % 24
    features, truth, placements = _impressions(rng, world, campaigns, viewers, campaign, hours, earlier)
    return Stream(
        campaigns=campaigns,
        at_ms=at_ms,
        day=day,
        campaign=campaign,
        features=features,
        earlier=earlier,
        truth=truth,
        labels=rng.random(len(truth)) < truth,
        delays_ms=draw_delays_ms(OutcomeKind.FOLLOW, rng, len(truth)),
        segments={
            "campaign": campaign,
            "creator": campaigns.creator_rows[campaign],
            "industry": world.creators.categories[campaigns.creator_rows[campaign]],
            "region": world.viewers.regions[viewers].astype(np.int64),
            "age_gender": (world.viewers.age_bands[viewers] * 4 + world.viewers.genders[viewers]).astype(np.int64),
            "hour": hours,
            "placement": placements,
            "earlier": earlier,
        },
    )


def _draw_campaigns(rng: np.random.Generator, rows: int) -> Campaigns:
    new = NEW_OF_KNOWN + NEW_OF_UNKNOWN
    old = CAMPAIGNS - new
    order = rng.permutation(CREATORS)
    unknown, known = order[:NEW_OF_UNKNOWN], order[NEW_OF_UNKNOWN:]
    creator_rows = np.r_[
        known, rng.choice(known, old - len(known)), rng.choice(known, NEW_OF_KNOWN, replace=False), unknown
    ]
    is_new = np.arange(CAMPAIGNS) >= old
    starts = np.where(is_new, (rows * rng.uniform(0.25, 0.75, CAMPAIGNS)).astype(np.int64), 0)
    return Campaigns(
        ids=FIRST_CAMPAIGN_ID + np.arange(CAMPAIGNS, dtype=np.uint64),
        creator_rows=creator_rows,
        creative_ids=FIRST_CREATIVE_ID + np.arange(CAMPAIGNS, dtype=np.uint64),
        qualities=rng.normal(0, QUALITY_SIGMA, CAMPAIGNS),
        starts=starts,
        is_new=is_new,
        is_known=np.arange(CAMPAIGNS) < CAMPAIGNS - NEW_OF_UNKNOWN,
    )


def _who_shows(rng: np.random.Generator, campaigns: Campaigns, rows: int) -> np.ndarray:
    """The campaign of each impression, i8[rows]: a new one takes its share from those that were there."""
    old = np.flatnonzero(~campaigns.is_new)
    shares = rng.lognormal(0, 1, len(old))
    campaign = old[rng.choice(len(old), rows, p=shares / shares.sum())]
    draw = rng.random(rows)
    for place, which in enumerate(np.flatnonzero(campaigns.is_new).tolist()):
        taken = (draw >= place * NEW_SHARE) & (draw < (place + 1) * NEW_SHARE)
        campaign[taken & (np.arange(rows) >= campaigns.starts[which])] = which
    return campaign


def _earlier(viewers: np.ndarray, creators: np.ndarray) -> np.ndarray:
    """How many rows before it have the same pair, i8[n]."""
    pairs = viewers * (int(creators.max()) + 1) + creators
    order = np.argsort(pairs, kind="stable")
    ordered = pairs[order]
    first = np.r_[True, ordered[1:] != ordered[:-1]]
    begins = np.maximum.accumulate(np.where(first, np.arange(len(pairs)), 0))
    earlier = np.empty(len(pairs), np.int64)
    earlier[order] = np.arange(len(pairs)) - begins
    return earlier


def _impressions(
    rng: np.random.Generator,
    world: World,
    campaigns: Campaigns,
    viewers: np.ndarray,
    campaign: np.ndarray,
    hours: np.ndarray,
    earlier: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hashes u4[n, 16], true probabilities f8[n] and placements i8[n]."""
    behaviour, people, n = Behaviour(world), world.viewers, len(viewers)
    creators = campaigns.creator_rows[campaign]
    model = Predictor().snapshot(
        campaigns.ids,
        world.creators.ids[campaigns.creator_rows],
        campaigns.creative_ids,
        world.creators.categories[campaigns.creator_rows],
        np.full(len(campaigns.ids), int(Goal.FANS)),
    )
    dims = np.empty((n, DIMENSION_COUNT), np.int32)
    columns = (people.regions, people.age_bands, people.genders, people.os, people.networks, people.device_tiers)
    for position, column in enumerate(columns):
        dims[:, position] = column[viewers]
    laotie = world.laotie[viewers, creators]
    features, truth = np.empty((n, FEATURE_COUNT), np.uint32), np.empty(n)
    for start in range(0, n, _REQUEST):
        part = slice(start, min(start + _REQUEST, n))
        placement = 1 + int(rng.choice(PLACEMENT_COUNT, p=_PLACEMENT_SHARES))
        context = Context(int(hours[start]), placement, int(rng.choice(CATEGORIES)))
        dims[part, len(columns)], dims[part, len(columns) + 1] = context.content_category, context.placement
        truth[part] = behaviour.probability(
            OutcomeKind.FOLLOW,
            viewers[part],
            creators[part],
            campaigns.qualities[campaign[part]],
            context,
            earlier[part],
        )
        fill_features(
            model,
            campaign[part].astype(np.int32),
            dims[part],
            people.interest_masks[viewers[part]],
            laotie[part],
            context.hour,
            features[part],
        )
    return features, truth, dims[:, -1].astype(np.int64)
