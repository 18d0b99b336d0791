"""What the scoring kernel means: one viewer, one campaign at a time, in plain Python. For tests and benches."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from auction.bid.caps.reference import ReferenceCaps
from auction.bid.nobid import (
    NBR_BELOW_FLOOR,
    NBR_BID,
    NBR_BLOCKED_CREATOR,
    NBR_FREQUENCY_CAP,
    NBR_NO_ADS,
    NBR_NO_CAMPAIGN,
    NBR_NOT_TARGETED,
    NBR_PACED_OUT,
)
from auction.landscape.reference import best_bid
from auction.predictor.features import LOSS_ROW, MOST_LOSS, RISE_ROW
from auction.predictor.reference import Impression, ReferenceModel, features_of
from pacing.facts import MOST_EARLIER, AuctionType
from pacing.money import MAX_PRICE_MICROS
from targeting.expressions import NO_ADS_SEGMENT, Expression, ViewerFacts, laotie_segment, matches, own_segments

_WORD = 2**64


@dataclass(frozen=True)
class ReferenceCampaign:
    """One active campaign, in words."""

    campaign_id: int
    creator_id: int
    creative_id: int
    category: int
    goal_row: int
    alpha_micros: float
    base_micros: float
    frequency_cap: int
    calibration: float
    earlier_discounts: Sequence[float]  # by impressions of the creator that day
    targeting: Expression
    include_fans: bool
    loss_calibration: float = 0.0  # 0: fans need not be kept
    rise_calibration: float = 0.0  # 0: a fan is a fan, whatever their tier may become
    uplift: tuple[float, float] = (1.0, 0.0)


@dataclass(frozen=True)
class ReferenceViewer:
    """One candidate viewer, in words; `predictions` are the caller's by campaign id."""

    viewer_id: int
    facts: ViewerFacts
    floor_micros: int
    predictions: Mapping[int, float]


@dataclass(frozen=True)
class ReferenceRequest:
    """What holds for every viewer of a request; `edges` and `win_probs` are the landscape that applies."""

    at: int
    hour: int
    day: int
    now_ms: int
    placement: int
    content_category: int
    blocked_creator_ids: frozenset[int]
    edges: Sequence[int]
    win_probs: Sequence[float]
    tie_seed: int


@dataclass(frozen=True)
class ReferenceCandidate:
    """A ranked candidate with its price."""

    campaign_id: int
    probability: float
    earlier: int
    alpha_micros: float
    value_micros: float
    bid_micros: int


def pair_hash(viewer_id: int, creator_id: int) -> int:
    """`caps.kernels.pair_key` on whole numbers."""
    h = (viewer_id * 0x9E3779B97F4A7C15 + creator_id) % _WORD
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        h = (h ^ (h >> shift)) * factor % _WORD
    return (h ^ (h >> 31)) or 1


def wants(campaign: ReferenceCampaign, viewer: ReferenceViewer) -> bool:
    """Whether the campaign may have the viewer, and its audience holds them."""
    if NO_ADS_SEGMENT in viewer.facts.segments:
        return False
    if not campaign.include_fans and own_segments(campaign.creator_id) & viewer.facts.segments:
        return False
    return matches(campaign.targeting, viewer.facts, campaign.creator_id)


def probability_of(
    campaign: ReferenceCampaign, viewer: ReferenceViewer, request: ReferenceRequest, models: Sequence[ReferenceModel]
) -> float:
    """The caller's probability, or the model's, calibrated, for a viewer who saw nothing of the creator that day."""
    told = viewer.predictions.get(campaign.campaign_id)
    if told is not None:
        return told
    features = _features(campaign, viewer, request)
    p = min(models[campaign.goal_row].probability(features) * campaign.calibration, 1.0)
    return _single(p * _stays(campaign, features, models))


def rising_probability(
    campaign: ReferenceCampaign, viewer: ReferenceViewer, request: ReferenceRequest, models: Sequence[ReferenceModel]
) -> float:
    """That a fan who is gained and kept rises to a high tier; 0 where the campaign does not ask for it."""
    if not campaign.rise_calibration or not campaign.loss_calibration:
        return 0.0
    features = _features(campaign, viewer, request)
    return min(models[RISE_ROW].probability(features) * campaign.rise_calibration, 1.0)


def alpha_for(
    campaign: ReferenceCampaign, viewer: ReferenceViewer, request: ReferenceRequest, models: Sequence[ReferenceModel]
) -> float:
    """What an event of this viewer is worth."""
    level, slope = campaign.uplift
    return campaign.alpha_micros * (level + slope * rising_probability(campaign, viewer, request, models))


def _stays(campaign: ReferenceCampaign, features: list[int], models: Sequence[ReferenceModel]) -> float:
    if not campaign.loss_calibration:
        return 1.0
    return 1 - min(models[LOSS_ROW].probability(features) * campaign.loss_calibration, MOST_LOSS)


def _features(campaign: ReferenceCampaign, viewer: ReferenceViewer, request: ReferenceRequest) -> list[int]:
    codes = viewer.facts.codes
    seen = Impression(
        region=codes[0],
        age_band=codes[1],
        gender=codes[2],
        hour=request.hour,
        placement=request.placement,
        content_category=request.content_category,
        interest_mask=sum(1 << code for code in viewer.facts.interests),
        campaign_id=campaign.campaign_id,
        creator_id=campaign.creator_id,
        creative_id=campaign.creative_id,
        category=campaign.category,
        laotie=laotie_segment(campaign.creator_id) in viewer.facts.segments,
    )
    return features_of(seen)


def _single(x: float) -> float:
    """`x` as a decision can record it."""
    rounded: float = struct.unpack("<f", struct.pack("<f", x))[0]
    return rounded


def discounted(campaign: ReferenceCampaign, viewer: ReferenceViewer, probability: float, seen: int) -> float:
    """The probability of a viewer who saw so much of the creator that day; a caller knows it already."""
    if campaign.campaign_id in viewer.predictions:
        return probability
    discounts = campaign.earlier_discounts
    return _single(probability * discounts[min(seen, len(discounts) - 1)])


def _priced(value_micros: float, floor_micros: int, request: ReferenceRequest) -> int:
    value_micros = min(value_micros, float(MAX_PRICE_MICROS))
    if request.at == AuctionType.SECOND_PRICE:
        return math.floor(value_micros)
    return best_bid(request.edges, request.win_probs, value_micros, floor_micros)[0]


def _stopped(value_micros: float, viewer: ReferenceViewer) -> int:
    """Why a worth does not do, or 0."""
    if value_micros < 1:
        return NBR_PACED_OUT
    return NBR_BELOW_FLOOR if value_micros < viewer.floor_micros else 0


def score_viewer(
    campaigns: Sequence[ReferenceCampaign],
    viewer: ReferenceViewer,
    request: ReferenceRequest,
    models: Sequence[ReferenceModel],
    caps: ReferenceCaps,
    depth: int,
) -> tuple[list[ReferenceCandidate], int]:
    """Up to `depth` candidates for one viewer, best first, and the no-bid reason (0 where there is a candidate)."""
    if not campaigns:
        return [], NBR_NO_CAMPAIGN
    if NO_ADS_SEGMENT in viewer.facts.segments:
        return [], NBR_NO_ADS
    wanting = [campaign for campaign in campaigns if wants(campaign, viewer)]
    if not wanting:
        return [], NBR_NOT_TARGETED
    free = [campaign for campaign in wanting if campaign.creator_id not in request.blocked_creator_ids]
    scored = []
    reasons = set()
    for campaign in free:
        seen = caps.times_seen(viewer.viewer_id, campaign.creator_id, request.day, request.now_ms)
        unseen_p = probability_of(campaign, viewer, request, models)
        p = discounted(campaign, viewer, unseen_p, seen)
        alpha = alpha_for(campaign, viewer, request, models)
        value = alpha * p + campaign.base_micros
        # What would stop it even if the viewer had seen nothing is the reason, whatever was seen.
        stopped = _stopped(alpha * unseen_p + campaign.base_micros, viewer) or _stopped(value, viewer)
        if stopped:
            reasons.add(stopped)
        elif seen >= campaign.frequency_cap:
            reasons.add(NBR_FREQUENCY_CAP)
        else:
            tie = pair_hash(viewer.viewer_id ^ request.tie_seed, campaign.campaign_id)
            scored.append((value, tie, campaign, p, min(seen, MOST_EARLIER), alpha))
    scored.sort(key=lambda entry: entry[:2], reverse=True)
    best_of_creator: dict[int, tuple[float, int, ReferenceCampaign, float, int, float]] = {}
    for entry in scored:
        best_of_creator.setdefault(entry[2].creator_id, entry)
    ranked = [
        ReferenceCandidate(campaign.campaign_id, p, earlier, alpha, value, _priced(value, viewer.floor_micros, request))
        for value, _, campaign, p, earlier, alpha in list(best_of_creator.values())[:depth]
    ]
    kept = [c for c in ranked if c.bid_micros > 0 and c.bid_micros >= viewer.floor_micros]
    if kept:
        return kept, NBR_BID
    if ranked:
        return [], NBR_BELOW_FLOOR  # they came furthest: no price suits their values
    for reason in (NBR_FREQUENCY_CAP, NBR_BELOW_FLOOR, NBR_PACED_OUT):
        if reason in reasons:
            return [], reason
    return [], NBR_BLOCKED_CREATOR
