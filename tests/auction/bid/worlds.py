"""Small random worlds of the bid path, each in two forms: as the scoring kernel takes it, and as the reference does."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from hypothesis import strategies as st

from auction.bid.caps.reference import ReferenceCaps
from auction.bid.caps.table import FrequencyCaps
from auction.bid.columns import RANKED_CANDIDATES, BatchColumns, CampaignColumns, ScoreColumns, marks_needed
from auction.bid.kernels import score_batch
from auction.bid.reference import (
    ReferenceCampaign,
    ReferenceCandidate,
    ReferenceRequest,
    ReferenceViewer,
    score_viewer,
)
from auction.landscape.kernels import Landscape, build_envelope
from auction.predictor.features import CAMPAIGN_KEYS, GOAL_COUNT, LOSS_ROW, RISE_ROW
from auction.predictor.kernels import Model, fill_campaign_keys, fill_campaign_sums
from auction.predictor.reference import ReferenceModel
from pacing.facts import EARLIER_LEVELS, AuctionType
from targeting.attributes import Dimension
from targeting.expressions import EVERYBODY, NO_ADS_SEGMENT, Expression, compile_clauses, laotie_segment
from targeting.match.index import build_index
from targeting.segments.store import SegmentStore
from tests.targeting.audiences import expressions, mask_of, viewers

NOW_MS = 1_772_510_400_000  # noon in Shanghai
ZONE = "Asia/Shanghai"
WIN_NOTICE_MS, BILLING_MS = 2_000, 60_000
CREATORS = (1, 2, 3, 4, 5, 6, 7, 8, 2**64 - 1)
WORTHS = (0.0, 0.5, 1.0, 999.0, 20_000.0, 20_000.5)  # of an impression, whatever its probability
FLOORS = (0, 1, 999, 1_000, 20_000, 20_001, 10**10)
EDGES = (500, 1_000, 5_000, 20_000, 60_000)
TIE_SEED = 4_242
EARLIER_DISCOUNTS = [
    [max(1.0 - 0.03 * row - (0.12 if row % 2 else 0.0) * seen, 0.0) for seen in range(EARLIER_LEVELS)]
    for row in range(GOAL_COUNT)
]
_SLOTS = 64


@dataclass(frozen=True)
class World:
    """C campaigns and the n viewers of one request, in words, with what the model has learned as a seed."""

    campaigns: tuple[ReferenceCampaign, ...]
    viewers: tuple[ReferenceViewer, ...]
    request: ReferenceRequest
    seen: tuple[tuple[int, int, str], ...]
    """What happened to viewers before, in order: (viewer_id, creator_id, "offered", "shown" or "lost")."""
    weights_seed: int


def _compiles(targeting: Expression) -> bool:
    try:
        compile_clauses(targeting, 1, False)
    except ValueError:
        return False
    return True


audiences = st.one_of(st.just(EVERYBODY), st.just(EVERYBODY), expressions(4).filter(_compiles))


@st.composite
def _campaigns(draw: st.DrawFn, limit: int) -> tuple[ReferenceCampaign, ...]:
    ids = sorted(draw(st.sets(st.integers(1, 2**64 - 1), max_size=limit)))
    random = np.random.default_rng(draw(st.integers(0, 2**31)))
    with_rises = draw(st.booleans())  # else the kernel is given no columns for them
    return tuple(
        ReferenceCampaign(
            campaign_id=campaign_id,
            creator_id=draw(st.sampled_from(CREATORS)),
            creative_id=draw(st.integers(1, 2**64 - 1)),
            category=draw(st.integers(0, 3)),
            goal_row=goal_row,
            # Drawn wide and odd, so that two campaigns are only ever worth the same when both are worth a base.
            alpha_micros=draw(st.sampled_from((0.0, 0.0, 1.0, float(random.lognormal(11, 2))))),
            base_micros=draw(st.sampled_from(WORTHS)),
            frequency_cap=draw(st.integers(1, 3)),
            calibration=draw(st.sampled_from((0.7, 1.0, 1.3, 1e6))),
            loss_calibration=draw(st.sampled_from((0.0, 0.0, 0.8, 1.0, 1e6))),
            rise_calibration=rise,
            uplift=draw(st.sampled_from(((1.0, 0.0), (0.8, 1.6), (0.3, 2.7)))) if rise else (1.0, 0.0),
            earlier_discounts=EARLIER_DISCOUNTS[goal_row],
            targeting=draw(audiences),
            include_fans=draw(st.booleans()),
        )
        for campaign_id in ids
        for goal_row in [draw(st.integers(0, LOSS_ROW))]
        for rise in [draw(st.sampled_from((0.0, 0.0, 1.0, 1.4, 1e6))) if with_rises else 0.0]
    )


@st.composite
def _viewers(
    draw: st.DrawFn, campaigns: tuple[ReferenceCampaign, ...], slot: tuple[int, int], limit: int
) -> tuple[ReferenceViewer, ...]:
    ids = draw(st.lists(st.integers(0, 2**64 - 1), unique=True, max_size=limit))
    found = []
    for viewer_id in ids:
        facts = draw(viewers())
        codes = list(facts.codes)
        codes[Dimension.CONTENT_CATEGORY], codes[Dimension.PLACEMENT] = slot
        told = st.floats(0, 1, width=32) | st.sampled_from([0.0, 0.5, 1.0])
        ids_of_campaigns = [campaign.campaign_id for campaign in campaigns]
        predictions = draw(st.dictionaries(st.sampled_from(ids_of_campaigns), told)) if campaigns else {}
        floor = draw(st.sampled_from(FLOORS) | st.integers(0, 50_000))
        bought = frozenset({NO_ADS_SEGMENT}) if draw(st.integers(0, 5)) == 0 else frozenset()
        facts = replace(facts, codes=tuple(codes), segments=facts.segments | bought)
        found.append(ReferenceViewer(viewer_id, facts, floor, predictions))
    return tuple(found)


@st.composite
def worlds(draw: st.DrawFn, max_campaigns: int = 12, max_viewers: int = 5) -> World:
    """Up to so many campaigns and viewers: ties, floors at the very worth, blocked creators, viewers seen before."""
    campaigns = draw(_campaigns(max_campaigns))
    slot = draw(st.integers(0, 3)), draw(st.integers(0, 3))
    found = draw(_viewers(campaigns, slot, max_viewers))
    steps = st.sampled_from(("offered", "offered", "shown", "lost"))
    pairs = st.tuples(st.sampled_from([v.viewer_id for v in found] or [9]), st.sampled_from(CREATORS), steps)
    request = ReferenceRequest(
        at=draw(st.sampled_from(AuctionType)),
        hour=draw(st.integers(0, 23)),
        day=FrequencyCaps(8, ZONE, WIN_NOTICE_MS, BILLING_MS).day(NOW_MS),
        now_ms=NOW_MS,
        placement=slot[1],
        content_category=slot[0],
        blocked_creator_ids=draw(st.frozensets(st.sampled_from(CREATORS), max_size=3)),
        edges=EDGES,
        win_probs=sorted(draw(st.lists(st.floats(0.01, 1), min_size=len(EDGES), max_size=len(EDGES)))),
        tie_seed=TIE_SEED,
    )
    return World(campaigns, found, request, tuple(draw(st.lists(pairs, max_size=12))), draw(st.integers(0, 99)))


@dataclass(frozen=True)
class Scored:
    """What the kernel said, and the columns that it read."""

    campaigns: CampaignColumns
    model: Model
    batch: BatchColumns
    out: ScoreColumns


def campaign_columns(
    campaigns: tuple[ReferenceCampaign, ...], segments: SegmentStore, tie_seed: int
) -> CampaignColumns:
    """The campaigns as columns."""
    rising = campaigns if any(c.rise_calibration for c in campaigns) else ()
    laotie = [segments.segment_idx(laotie_segment(campaign.creator_id)) for campaign in campaigns]
    return CampaignColumns(
        campaign_ids=np.array([c.campaign_id for c in campaigns], np.uint64),
        creator_ids=np.array([c.creator_id for c in campaigns], np.uint64),
        goal_rows=np.array([c.goal_row for c in campaigns], np.int32),
        alpha_micros=np.array([c.alpha_micros for c in campaigns], np.float64),
        base_micros=np.array([c.base_micros for c in campaigns], np.float64),
        frequency_caps=np.array([c.frequency_cap for c in campaigns], np.int32),
        laotie_segments=np.array(laotie, np.int32),
        calibration=np.array([c.calibration for c in campaigns], np.float64),
        loss_calibration=np.array([c.loss_calibration for c in campaigns], np.float64),
        rise_calibration=np.array([c.rise_calibration for c in rising], np.float64),
        uplifts=np.array([c.uplift for c in rising], np.float64).reshape(-1, 2),
        earlier_discounts=np.array(EARLIER_DISCOUNTS),
        tie_seed=np.uint64(tie_seed),
    )


def random_weights(seed: int) -> np.ndarray:
    """f4[GOAL_COUNT, slots, 2]: a model that has learned something or other."""
    random = np.random.default_rng(seed)
    weights = np.empty((GOAL_COUNT, _SLOTS, 2), np.float32)
    weights[:, :, 0] = random.normal(-1, 2, (GOAL_COUNT, _SLOTS))
    weights[:, :, 1] = random.uniform(0.01, 1, (GOAL_COUNT, _SLOTS))
    return weights


def model_of(campaigns: tuple[ReferenceCampaign, ...], columns: CampaignColumns, seed: int) -> Model:
    """The model's state for these campaigns."""
    weights, count = random_weights(seed), len(campaigns)
    keys, sums = np.zeros((count, CAMPAIGN_KEYS), np.uint32), np.zeros((count, 4, 2))
    creatives = np.array([c.creative_id for c in campaigns], np.uint64)
    categories = np.array([c.category for c in campaigns], np.int32)
    fill_campaign_keys(columns.campaign_ids, columns.creator_ids, creatives, categories, keys)
    fill_campaign_sums(weights, columns.goal_rows, keys, sums)
    if not len(columns.rise_calibration):
        weights = weights[:RISE_ROW]
    loss_sums, rise_sums = np.zeros_like(sums), np.zeros((len(columns.rise_calibration), 4, 2))
    fill_campaign_sums(weights, np.full(count, LOSS_ROW, np.int32), keys, loss_sums)
    fill_campaign_sums(weights, np.full(count, RISE_ROW, np.int32), keys[: len(rise_sums)], rise_sums)
    return Model(weights, keys, sums, categories, loss_sums, rise_sums)


def landscape_of(request: ReferenceRequest) -> Landscape:
    """The request's prices as landscape 1; landscape 0 wins nothing, so taking the wrong one shows."""
    edges = np.array(request.edges, np.int64)
    win_probs = np.array([np.zeros(len(edges)), request.win_probs])
    starts, bids = np.zeros((2, len(edges) + 1)), np.zeros((2, len(edges) + 1), np.int64)
    counts = [build_envelope(edges, row, starts[k], bids[k]) for k, row in enumerate(win_probs)]
    return Landscape(edges, win_probs, np.array(counts, np.int32), starts, bids)


def batch_columns(world: World, columns: CampaignColumns, segments: SegmentStore) -> BatchColumns:
    """The viewers as columns."""
    found, request = world.viewers, world.request
    memberships = [sorted(segments.segment_idx(name) for name in viewer.facts.segments) for viewer in found]
    place = {campaign_id: idx for idx, campaign_id in enumerate(columns.campaign_ids.tolist())}
    return BatchColumns(
        viewer_ids=np.array([viewer.viewer_id for viewer in found], np.uint64),
        dims=np.array([viewer.facts.codes for viewer in found], np.int32).reshape(len(found), len(Dimension)),
        interest_masks=np.array([mask_of(viewer.facts) for viewer in found], np.uint64),
        segment_ptr=np.cumsum([0, *map(len, memberships)]).astype(np.int64),
        segments=np.array([idx for mine in memberships for idx in mine], np.uint32),
        floors_micros=np.array([viewer.floor_micros for viewer in found], np.int64),
        prediction_ptr=np.cumsum([0, *(len(viewer.predictions) for viewer in found)]).astype(np.int32),
        prediction_idx=np.array([place[key] for viewer in found for key in viewer.predictions], np.int32),
        probabilities=np.array([p for viewer in found for p in viewer.predictions.values()], np.float32),
        blocked_creator_ids=np.array(sorted(request.blocked_creator_ids), np.uint64),
        landscape_idx=np.ones(len(found), np.int32),
        at=int(request.at),
        hour=request.hour,
        day=request.day,
        now_ms=request.now_ms,
        no_ads_segment=segments.segment_idx(NO_ADS_SEGMENT),
    )


def score_columns(
    viewer_count: int, campaign_count: int, scratch_words: int, mark_count: int, rise_count: int = 0
) -> ScoreColumns:
    """Room for answers, filled with what no answer looks like."""
    shape = (viewer_count, RANKED_CANDIDATES)
    return ScoreColumns(
        out_campaign_idx=np.full(shape, 77, np.int32),
        out_probabilities=np.full(shape, np.nan),
        out_caller=np.full(shape, 9, np.uint8),
        out_earlier=np.full(shape, 9, np.uint8),
        out_alphas_micros=np.full(shape, np.nan),
        out_values_micros=np.full(shape, np.nan),
        out_bids_micros=np.full(shape, -5, np.int64),
        out_nbr=np.full(viewer_count, -5, np.int32),
        out_eligible=np.zeros(campaign_count, np.int64),
        out_expected=np.zeros(campaign_count, np.float64),
        out_rises=np.zeros(rise_count, np.float64),
        matched=np.empty(campaign_count + 1, np.int32),
        probabilities=np.empty(campaign_count + 1, np.float64),
        rises=np.full(campaign_count + 1, np.nan),
        marks=np.zeros(mark_count, np.uint8),
        scratch=np.empty(scratch_words, np.uint64),
    )


def caps_of(world: World) -> tuple[FrequencyCaps, ReferenceCaps]:
    """The world's past in both kinds of frequency counters."""
    compiled, plain = FrequencyCaps(2**10, ZONE, WIN_NOTICE_MS, BILLING_MS), ReferenceCaps()
    for viewer_id, creator_id, step in world.seen:
        pair = np.array([viewer_id], np.uint64), np.array([creator_id], np.uint64)
        if step == "offered":
            compiled.offered(*pair, NOW_MS - 10)
            plain.offer(viewer_id, creator_id, NOW_MS - 10, NOW_MS - 10 + WIN_NOTICE_MS)
        else:
            compiled.decided(*pair, np.array([step == "shown"]), NOW_MS - 10)
            plain.decide(viewer_id, creator_id, step == "shown", world.request.day, NOW_MS - 10)
    return compiled, plain


def score_compiled(world: World) -> Scored:
    """One call of the kernel on the whole world."""
    segments = SegmentStore()
    clauses = [compile_clauses(c.targeting, c.creator_id, c.include_fans) for c in world.campaigns]
    index = build_index(clauses, segments.segment_idx)
    columns = campaign_columns(world.campaigns, segments, world.request.tie_seed)
    model = model_of(world.campaigns, columns, world.weights_seed)
    batch = batch_columns(world, columns, segments)
    rises = len(columns.rise_calibration)
    out = score_columns(len(world.viewers), len(world.campaigns), index.scratch_words, marks_needed(columns), rises)
    score_batch(index, columns, model, landscape_of(world.request), caps_of(world)[0].table, batch, out)
    return Scored(columns, model, batch, out)


def plain_models(world: World) -> list[ReferenceModel]:
    """The same weights as dictionaries."""
    return [
        ReferenceModel(_SLOTS, {slot: (mean, variance) for slot, (mean, variance) in enumerate(table.tolist())})
        for table in random_weights(world.weights_seed)
    ]


def score_plainly(world: World) -> list[tuple[list[ReferenceCandidate], int]]:
    """The reference's answer for each viewer."""
    models, (_, caps) = plain_models(world), caps_of(world)
    return [
        score_viewer(world.campaigns, viewer, world.request, models, caps, RANKED_CANDIDATES)
        for viewer in world.viewers
    ]
