"""The scoring call: match, predict, pace, rank and price every viewer of a request, compiled, with the GIL released."""

from __future__ import annotations

import numpy as np
from numba import njit

from auction.bid.caps.kernels import CapTable, pair_key, times_seen
from auction.bid.columns import BatchColumns, CampaignColumns, ScoreColumns
from auction.bid.nobid import (
    NBR_BELOW_FLOOR,
    NBR_BLOCKED_CREATOR,
    NBR_FREQUENCY_CAP,
    NBR_NO_ADS,
    NBR_NO_CAMPAIGN,
    NBR_NOT_TARGETED,
    NBR_PACED_OUT,
)
from auction.landscape.kernels import Landscape, shade_bid
from auction.predictor.features import LOSS_ROW, MOST_LOSS, RISE_ROW, VIEWER_KEYS
from auction.predictor.kernels import Model, candidate_probability, feature_hashes, viewer_keys, viewer_sums
from pacing.facts import MOST_EARLIER, AuctionType
from pacing.money import MAX_PRICE_MICROS
from targeting.match.kernels import MatchIndex, match_viewer

_FIRST_PRICE = int(AuctionType.FIRST_PRICE)


@njit(cache=True, nogil=True)
def tie_rank(viewer_id: np.uint64, campaign_id: np.uint64, tie_seed: np.uint64) -> np.uint64:
    """A seeded hash that decides between equal values, so that no campaign wins ties by its position."""
    return pair_key(viewer_id ^ tie_seed, campaign_id)


@njit(cache=True, nogil=True)
def _caller_prediction(batch: BatchColumns, i: int, c: int) -> float:
    """The caller's probability for viewer i and campaign c, or -1."""
    for k in range(batch.prediction_ptr[i], batch.prediction_ptr[i + 1]):
        if batch.prediction_idx[k] == c:
            return batch.probabilities[k]
    return -1.0


@njit(cache=True, nogil=True)
def _is_blocked(batch: BatchColumns, creator_id: np.uint64) -> bool:
    for k in range(batch.blocked_creator_ids.shape[0]):
        if batch.blocked_creator_ids[k] == creator_id:
            return True
    return False


@njit(cache=True, nogil=True)
def is_member(segments: np.ndarray, segment: int) -> int:
    """1 if `segment` is among a viewer's ascending `segments` (u4[s]), else 0."""
    low = 0
    high = segments.shape[0]
    while low < high:
        middle = (low + high) >> 1
        if segments[middle] < segment:
            low = middle + 1
        else:
            high = middle
    return 1 if low < segments.shape[0] and segments[low] == segment else 0


@njit(cache=True, nogil=True)
def _beats(
    campaign_ids: np.ndarray,
    tie_seed: np.uint64,
    viewer_id: np.uint64,
    value: float,
    c: int,
    other_value: float,
    other: int,
) -> bool:
    """Whether candidate c with `value` ranks before candidate `other`."""
    if value != other_value:
        return value > other_value
    return tie_rank(viewer_id, campaign_ids[c], tie_seed) > tie_rank(viewer_id, campaign_ids[other], tie_seed)


@njit(cache=True, nogil=True)
def _place_of(
    campaign_ids: np.ndarray,
    creator_ids: np.ndarray,
    tie_seed: np.uint64,
    viewer_id: np.uint64,
    ranked: np.ndarray,
    values: np.ndarray,
    c: int,
    value: float,
) -> tuple[int, int]:
    """Where candidate c belongs in a ranking (i4[R], f8[R]), best first, and which place falls out for it; -1: nowhere.

    One candidate per creator: what falls out is the creator's present one, else an empty place, else the last.
    """
    last = ranked.shape[0] - 1
    for r in range(ranked.shape[0]):
        if ranked[r] < 0 or creator_ids[ranked[r]] == creator_ids[c]:
            last = r
            break
    if ranked[last] >= 0 and not _beats(campaign_ids, tie_seed, viewer_id, value, c, values[last], ranked[last]):
        return -1, last
    place = last
    while place > 0 and _beats(campaign_ids, tie_seed, viewer_id, value, c, values[place - 1], ranked[place - 1]):
        place -= 1
    return place, last


@njit(cache=True, nogil=True)
def _price_ranked(out: ScoreColumns, batch: BatchColumns, landscape: Landscape, i: int) -> None:
    """Turn row i's values into bids: the value itself in second price, shaded in first price; no bid falls out."""
    floor = batch.floors_micros[i]
    kept = 0
    for r in range(out.out_campaign_idx.shape[1]):
        c = out.out_campaign_idx[i, r]
        if c < 0:
            break
        value = min(out.out_values_micros[i, r], float(MAX_PRICE_MICROS))
        if batch.at == _FIRST_PRICE:
            bid = shade_bid(value, floor, batch.landscape_idx[i], landscape)
        else:
            bid = np.int64(np.floor(value))
        if bid <= 0 or bid < floor:
            continue
        out.out_campaign_idx[i, kept] = c
        out.out_alphas_micros[i, kept] = out.out_alphas_micros[i, r]
        out.out_values_micros[i, kept] = out.out_values_micros[i, r]
        out.out_probabilities[i, kept] = out.out_probabilities[i, r]
        out.out_caller[i, kept] = out.out_caller[i, r]
        out.out_earlier[i, kept] = out.out_earlier[i, r]
        out.out_bids_micros[i, kept] = bid
        kept += 1
    for r in range(kept, out.out_campaign_idx.shape[1]):
        out.out_campaign_idx[i, r] = -1
        out.out_bids_micros[i, r] = 0


@njit(cache=True, nogil=True)
def _reason(matched: int, paced_out: int, below: int, capped: int) -> int:
    """Why nobody was ranked: what stopped the candidate that came furthest."""
    if matched == 0:
        return NBR_NOT_TARGETED
    if capped:
        return NBR_FREQUENCY_CAP
    if below:
        return NBR_BELOW_FLOOR
    if paced_out:
        return NBR_PACED_OUT
    return NBR_BLOCKED_CREATOR


@njit(cache=True, nogil=True)
def _mark(segments: np.ndarray, mark: int, out_marks: np.ndarray) -> None:
    """Write `mark` at each of a viewer's ascending segments (u4[s]) that `out_marks` (u1[...]) has room for."""
    for k in range(segments.shape[0]):
        if segments[k] >= out_marks.shape[0]:
            break
        out_marks[segments[k]] = mark


@njit(cache=True, nogil=True)
def _predict_matched(
    campaigns: CampaignColumns,
    model: Model,
    batch: BatchColumns,
    out: ScoreColumns,
    i: int,
    matched: int,
    segments: np.ndarray,
    keys: np.ndarray,
    sums: np.ndarray,
) -> None:
    """Probabilities of viewer i's first `matched` candidates, the caller's where there are any, and of rising, where a
    campaign asks for it; counts the supply.

    They are those of a viewer who saw nothing of the creator that day: the most that they can be. Who did is looked up
    only for candidates that might be ranked.

    The hot loop: it reads plain arrays, since handing a tuple of arrays to a function counts each of its references.
    """
    mask = batch.interest_masks[i]
    viewer_keys(batch.dims[i], mask, batch.hour, keys)
    viewer_sums(model, keys, sums)
    goal_rows, calibration, laotie_segments = campaigns.goal_rows, campaigns.calibration, campaigns.laotie_segments
    loss_calibration, rise_calibration = campaigns.loss_calibration, campaigns.rise_calibration
    with_rises = rise_calibration.shape[0] > 0
    found, probabilities, rises, marks = out.matched, out.probabilities, out.rises, out.marks
    eligible, expected = out.out_eligible, out.out_expected
    _mark(segments, 1, marks)
    for k in range(matched):
        c = found[k]
        laotie = marks[laotie_segments[c]]
        p = candidate_probability(model, model.sums, goal_rows[c], c, keys, sums, mask, laotie)
        p = min(p * calibration[c], 1.0)
        if with_rises:
            rises[k] = 0.0
        if loss_calibration[c] > 0.0:
            loss = candidate_probability(model, model.loss_sums, LOSS_ROW, c, keys, sums, mask, laotie)
            stays = 1.0 - min(loss * loss_calibration[c], MOST_LOSS)
            p *= stays
            if with_rises and rise_calibration[c] > 0.0:
                rise = candidate_probability(model, model.rise_sums, RISE_ROW, c, keys, sums, mask, laotie)
                rises[k] = min(rise * rise_calibration[c], 1.0)
        # Rounded as the decision records it, so that the bid can be derived from the record.
        probabilities[k] = np.float64(np.float32(p))
    _mark(segments, 0, marks)
    if batch.prediction_ptr[i] < batch.prediction_ptr[i + 1]:
        for k in range(matched):
            told = _caller_prediction(batch, i, found[k])
            probabilities[k] = told if told >= 0.0 else probabilities[k]
    for k in range(matched):
        eligible[found[k]] += 1
        expected[found[k]] += probabilities[k]
    if with_rises:
        for k in range(matched):
            out.out_rises[found[k]] += probabilities[k] * rises[k]


@njit(cache=True, nogil=True)
def _drop_blocked(campaigns: CampaignColumns, batch: BatchColumns, found: np.ndarray, matched: int) -> int:
    """Keep the candidates whose creators the request does not block; how many."""
    kept = 0
    for k in range(matched):
        if not _is_blocked(batch, campaigns.creator_ids[found[k]]):
            found[kept] = found[k]
            kept += 1
    return kept


@njit(cache=True, nogil=True)
def _rank_matched(
    campaigns: CampaignColumns, caps: CapTable, batch: BatchColumns, out: ScoreColumns, i: int, kept: int
) -> tuple[int, int, int]:
    """Rank viewer i's first `kept` candidates; how many pacing, the floor and the frequency cap stopped.

    A candidate whose probability would not do even without earlier impressions is passed over before these are looked
    up; discounts are at most 1, so nobody is passed over who would have been ranked.
    """
    viewer_id, floor, now_ms, day = batch.viewer_ids[i], batch.floors_micros[i], batch.now_ms, batch.day
    alpha, base, tie_seed = campaigns.alpha_micros, campaigns.base_micros, campaigns.tie_seed
    campaign_ids, creator_ids, caps_per_day = campaigns.campaign_ids, campaigns.creator_ids, campaigns.frequency_caps
    uplifts, with_rises = campaigns.uplifts, campaigns.uplifts.shape[0] > 0
    found, probabilities, rises = out.matched, out.probabilities, out.rises
    ranked, values, ranked_alphas = out.out_campaign_idx[i], out.out_values_micros[i], out.out_alphas_micros[i]
    ranked_p, callers, ranked_earlier = out.out_probabilities[i], out.out_caller[i], out.out_earlier[i]
    discounts, goal_rows = campaigns.earlier_discounts, campaigns.goal_rows
    last = ranked.shape[0] - 1
    told = batch.prediction_ptr[i] < batch.prediction_ptr[i + 1]
    paced_out, below, capped = 0, 0, 0
    for k in range(kept):
        c = found[k]
        p = probabilities[k]
        worth = alpha[c]
        if with_rises:
            worth *= uplifts[c, 0] + uplifts[c, 1] * rises[k]
        value = worth * p + base[c]
        if value < 1.0:
            paced_out += 1
            continue
        if value < floor:
            below += 1
            continue
        if ranked[last] >= 0 and value < values[last]:
            continue
        place, dropped = _place_of(campaign_ids, creator_ids, tie_seed, viewer_id, ranked, values, c, value)
        if place < 0:
            continue
        seen = times_seen(caps, pair_key(viewer_id, creator_ids[c]), day, now_ms)
        earlier = min(seen, MOST_EARLIER)
        by_caller = told and _caller_prediction(batch, i, c) >= 0.0
        discount = discounts[goal_rows[c], earlier]
        if discount < 1.0 and not by_caller:
            p = np.float64(np.float32(p * discount))
            value = worth * p + base[c]
            if value < 1.0:
                paced_out += 1
                continue
            if value < floor:
                below += 1
                continue
            place, dropped = _place_of(campaign_ids, creator_ids, tie_seed, viewer_id, ranked, values, c, value)
        if seen >= caps_per_day[c]:
            capped += 1
            continue
        if place < 0:
            continue
        for r in range(dropped, place, -1):
            ranked[r] = ranked[r - 1]
            values[r] = values[r - 1]
            ranked_alphas[r] = ranked_alphas[r - 1]
            ranked_p[r] = ranked_p[r - 1]
            callers[r] = callers[r - 1]
            ranked_earlier[r] = ranked_earlier[r - 1]
        ranked[place] = c
        values[place] = value
        ranked_alphas[place] = worth
        ranked_p[place] = p
        callers[place] = 1 if by_caller else 0
        ranked_earlier[place] = earlier
    return paced_out, below, capped


@njit(cache=True, nogil=True)
def _score_viewer(
    index: MatchIndex,
    campaigns: CampaignColumns,
    model: Model,
    landscape: Landscape,
    caps: CapTable,
    batch: BatchColumns,
    out: ScoreColumns,
    i: int,
    keys: np.ndarray,
    sums: np.ndarray,
) -> None:
    segments = batch.segments[batch.segment_ptr[i] : batch.segment_ptr[i + 1]]
    matched = match_viewer(index, batch.dims[i], batch.interest_masks[i], segments, out.scratch, out.matched)
    kept = matched
    if batch.blocked_creator_ids.shape[0]:
        kept = _drop_blocked(campaigns, batch, out.matched, matched)
    paced_out, below, capped = 0, 0, 0
    if kept:
        _predict_matched(campaigns, model, batch, out, i, kept, segments, keys, sums)
        paced_out, below, capped = _rank_matched(campaigns, caps, batch, out, i, kept)
    if out.out_campaign_idx[i, 0] < 0:
        out.out_nbr[i] = _reason(matched, paced_out, below, capped)
        return
    _price_ranked(out, batch, landscape, i)
    if out.out_campaign_idx[i, 0] < 0:
        out.out_nbr[i] = NBR_BELOW_FLOOR


@njit(cache=True, nogil=True)
def score_batch(
    index: MatchIndex,
    campaigns: CampaignColumns,
    model: Model,
    landscape: Landscape,
    caps: CapTable,
    batch: BatchColumns,
    out: ScoreColumns,
) -> None:
    """Rank and price up to R candidates for each of n viewers.

    Value of campaign c to viewer i is `alpha_c * p(i, c) + base_c`, p discounted by what the viewer saw of the creator
    that day, and, where the campaign wants fans who are kept, times the probability that a new fan is. To a campaign
    that values fans of a high tier more, alpha is by viewer: see `CampaignColumns.uplifts`. A viewer's candidates are
    ordered by value, one per creator, ties by a seeded hash. Floors are inclusive: value == floor is a bid. In a
    first-price auction the value is shaded, once the order stands, by the price landscape of the request.

    Args:
        index: MatchIndex over C campaigns.
        campaigns: CampaignColumns of C.
        model: the predictor's state for these C campaigns.
        landscape: price landscapes.
        caps: CapTable.
        batch: BatchColumns of n viewers.
        out: ScoreColumns; rankings are overwritten, eligible, expected and rises are added to.
    """
    keys = np.empty(VIEWER_KEYS, np.uint32)
    sums = np.empty((model.weights.shape[0], 2), np.float64)
    for i in range(batch.viewer_ids.shape[0]):
        for r in range(out.out_campaign_idx.shape[1]):
            out.out_campaign_idx[i, r] = -1
            out.out_bids_micros[i, r] = 0
        if campaigns.campaign_ids.shape[0] == 0:
            out.out_nbr[i] = NBR_NO_CAMPAIGN
            continue
        if is_member(batch.segments[batch.segment_ptr[i] : batch.segment_ptr[i + 1]], batch.no_ads_segment):
            out.out_nbr[i] = NBR_NO_ADS
            continue
        out.out_nbr[i] = 0
        _score_viewer(index, campaigns, model, landscape, caps, batch, out, i, keys, sums)


@njit(cache=True, nogil=True)
def chosen_features(
    campaigns: CampaignColumns,
    model: Model,
    batch: BatchColumns,
    viewer_idx: np.ndarray,
    campaign_idx: np.ndarray,
    out_features: np.ndarray,
) -> None:
    """The feature hashes (u4[m, 16]) behind the probabilities of m candidates: viewers i8[m], campaigns i4[m]."""
    keys = np.empty(VIEWER_KEYS, np.uint32)
    for k in range(viewer_idx.shape[0]):
        i = viewer_idx[k]
        c = campaign_idx[k]
        mask = batch.interest_masks[i]
        segments = batch.segments[batch.segment_ptr[i] : batch.segment_ptr[i + 1]]
        viewer_keys(batch.dims[i], mask, batch.hour, keys)
        laotie = is_member(segments, campaigns.laotie_segments[c])
        feature_hashes(model, c, keys, mask, laotie, out_features[k])
