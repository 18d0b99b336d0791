"""What a platform knows from the days before: a log of impressions and outcomes, and what slots cost by time of day.

Earlier days are other draws of the same world. On them each creator ran an earlier campaign, shown more often to those
viewers whose interests and friends speak for it: what the platform knew then is what it knows now. The engine learns
its predictor and its price curves from them, before the day on which it is judged.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from auction.predictor.features import FEATURE_COUNT
from auction.predictor.kernels import fill_features
from auction.predictor.predictor import Predictor
from benchmarks.market.behaviour import KIND_OF_GOAL
from benchmarks.market.campaigns import audience_rows
from benchmarks.market.run import Market
from benchmarks.market.traffic import SlotRequest, Traffic
from pacing.clocks import MS_PER_DAY
from pacing.control.history import MarketHistory
from pacing.facts import Goal
from targeting.attributes import DIMENSION_COUNT

FIRST_PAST_CAMPAIGN_ID = 2**40
PAST_DAYS = (-3, -2, -1)
INTEREST_WEIGHT, FRIEND_WEIGHT = 2.0, 1.5
"""How much more often an earlier campaign was shown to a viewer with its interest, or with friends among its fans."""
SHOWN_SHARE = 0.5
"""Of a past day's slots: how many the creators' earlier campaigns bought."""
BUCKETS = 48
ROWS_PER_SERIES_AND_BUCKET = 100
GOALS = (Goal.PLAYS, Goal.FANS, Goal.PROFILE_VISITS, Goal.PRODUCT_CLICKS)


@dataclass(frozen=True, slots=True)
class ImpressionLog:
    """n impressions of past days, oldest first.

    Attributes:
        features: u4[n, 16], as the engine hashes them.
        campaign: i8[n], position of the earlier campaign.
        labels: b1[n, len(GOALS)], what came of each.
        probabilities: f8[n, len(GOALS)], the truth, for checks only.
    """

    features: np.ndarray
    campaign: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray


@dataclass(frozen=True, slots=True)
class SlotSample:
    """m pairs of a past slot and a campaign that could have bid for it.

    Attributes:
        day, bucket, campaign: i8[m].
        features: u4[m, 16].
        least_bid_micros: i8[m], the least bid that won the slot.
        slots: i8[days, BUCKETS], how many slots each part of each day had.
    """

    day: np.ndarray
    bucket: np.ndarray
    campaign: np.ndarray
    features: np.ndarray
    least_bid_micros: np.ndarray
    slots: np.ndarray


class PastDays:
    """The days before a market's day, seen once: impressions that were bought, and a sample of slots."""

    def __init__(self, market: Market, days: tuple[int, ...] = PAST_DAYS) -> None:
        self._market = market
        self._days = days
        self._world = market.world
        self._wanted = np.stack([audience_rows(self._world, campaign) for campaign in market.campaigns], axis=1)
        self._creator_rows = np.array([campaign.creator_row for campaign in market.campaigns], np.int64)
        self._qualities = np.array([campaign.qualities[0] for campaign in market.campaigns])
        interested = self._world.viewers.has_interest(np.array([campaign.category for campaign in market.campaigns]))
        self._weights = (
            np.where(interested, INTEREST_WEIGHT, 1.0)
            * np.where(self._world.laotie[:, self._creator_rows], FRIEND_WEIGHT, 1.0)
            * self._wanted
        )
        count = len(market.campaigns)
        self._model = Predictor().snapshot(
            np.arange(FIRST_PAST_CAMPAIGN_ID, FIRST_PAST_CAMPAIGN_ID + count, dtype=np.uint64),
            np.array([campaign.creator_id for campaign in market.campaigns], np.uint64),
            np.array([campaign.creative_ids[0] for campaign in market.campaigns], np.uint64),
            np.array([campaign.category for campaign in market.campaigns], np.int64),
            np.full(count, int(Goal.FANS)),
        )

    def collect(self) -> tuple[ImpressionLog, SlotSample]:
        """Everything that is kept of the past days; the same market gives the same."""
        impressions: list[tuple[np.ndarray, ...]] = []
        samples: list[tuple[np.ndarray, ...]] = []
        slots = np.zeros((len(self._days), BUCKETS), np.int64)
        keep = self._sample_share()
        for position, day in enumerate(self._days):
            spec = self._market.day(day)
            for request in Traffic(self._world, spec):
                rng = np.random.default_rng([self._world.seed, 7, day + 1_000, request.number])
                impressions.append(self._impressions(request, rng))
                bucket = (request.at_ms - spec.start_at_ms) * BUCKETS // MS_PER_DAY
                slots[position, bucket] += len(request.viewer_rows)
                samples.append(self._sample(request, rng, position, bucket, keep))
        columns = [np.concatenate(column) for column in zip(*impressions, strict=True)]
        sampled = [np.concatenate(column) for column in zip(*samples, strict=True)]
        return ImpressionLog(*columns), SlotSample(*sampled, slots)  # type: ignore[call-arg]

    def _sample_share(self) -> float:
        """Which share of all eligible pairs makes a sample of the wanted size."""
        pairs_per_slot = float(np.average(self._wanted.sum(axis=1), weights=self._world.viewers.activity))
        per_bucket = self._market.settings.slots_per_day / BUCKETS * pairs_per_slot
        return min(1.0, ROWS_PER_SERIES_AND_BUCKET * len(self._creator_rows) / per_bucket)

    def _impressions(self, request: SlotRequest, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        rows = request.viewer_rows
        weights = np.cumsum(self._weights[rows], axis=1)
        draw = rng.random(len(rows)) * weights[:, -1]
        chosen = (draw[:, None] >= weights).sum(axis=1)
        bought = np.flatnonzero((rng.random(len(rows)) < SHOWN_SHARE) & (weights[:, -1] > 0))
        campaign = chosen[bought]
        viewers, creators = rows[bought], self._creator_rows[campaign]
        truth = np.stack(
            [
                self._market.behaviour.probability(
                    KIND_OF_GOAL[goal], viewers, creators, self._qualities[campaign], request.context
                )
                for goal in GOALS
            ],
            axis=1,
        )
        return self._features(request, viewers, campaign), campaign, rng.random(truth.shape) < truth, truth

    def _sample(
        self, request: SlotRequest, rng: np.random.Generator, day: int, bucket: int, keep: float
    ) -> tuple[np.ndarray, ...]:
        wanted = self._wanted[request.viewer_rows]
        slot, campaign = np.nonzero(wanted & (rng.random(wanted.shape) < keep))
        least = np.maximum(request.rivals_micros + 1, request.floors_micros)[slot]
        features = self._features(request, request.viewer_rows[slot], campaign)
        return np.full(len(slot), day), np.full(len(slot), bucket), campaign, features, least

    def _features(self, request: SlotRequest, viewers: np.ndarray, campaign: np.ndarray) -> np.ndarray:
        """Hashed features u4[k, 16] of k viewers, each with one campaign."""
        people = self._world.viewers
        dims = np.empty((len(viewers), DIMENSION_COUNT), np.int32)
        columns = (people.regions, people.age_bands, people.genders, people.os, people.networks, people.device_tiers)
        for position, column in enumerate(columns):
            dims[:, position] = column[viewers]
        dims[:, len(columns)] = request.context.content_category
        dims[:, len(columns) + 1] = request.context.placement
        features = np.empty((len(viewers), FEATURE_COUNT), np.uint32)
        laotie = self._world.laotie[viewers, self._creator_rows[campaign]]
        fill_features(
            self._model,
            campaign.astype(np.int32),
            dims,
            people.interest_masks[viewers],
            laotie,
            request.context.hour,
            features,
        )
        return features


def train_predictor(log: ImpressionLog) -> Predictor:
    """A predictor that has learned every goal from every impression of the log."""
    predictor = Predictor()
    for position, goal in enumerate(GOALS):
        predictor.train_log(int(goal), log.features, log.labels[:, position])
    return predictor


def market_history(market: Market, sample: SlotSample, predictor: Predictor) -> MarketHistory:
    """Prices and traffic of the past days, with the probabilities that the trained predictor gives each pair."""
    goals = np.array([int(campaign.goal) for campaign in market.campaigns])[sample.campaign]
    probabilities = np.empty(len(sample.campaign))
    for goal in np.unique(goals):
        mine = goals == goal
        probabilities[mine] = predictor.predict(int(goal), sample.features[mine])[0]
    categories = np.array([campaign.category for campaign in market.campaigns], np.int64)
    return MarketHistory(
        day=sample.day,
        bucket=sample.bucket,
        group=categories[sample.campaign],
        series=sample.campaign,
        probability=np.maximum(probabilities, 1e-9),
        prices_micros=sample.least_bid_micros.astype(np.float64)[:, None],
        exposure=np.ones(1),
        impressions=sample.slots.astype(np.float64),
        midnight_offset_ms=market.spec.start_at_ms % MS_PER_DAY,
    )


@dataclass(frozen=True, slots=True)
class Priors:
    """Files that a server is started with: past prices and traffic, and the predictor's state."""

    history_path: Path
    model_path: Path


def write_priors(market: Market, folder: Path) -> Priors:
    """Make what the platform knows before the market's day, and write it into `folder`."""
    log, sample = PastDays(market).collect()
    predictor = train_predictor(log)
    folder.mkdir(parents=True, exist_ok=True)
    priors = Priors(folder / "history.npz", folder / "model.npz")
    market_history(market, sample, predictor).save(priors.history_path)
    predictor.save(priors.model_path)
    return priors
