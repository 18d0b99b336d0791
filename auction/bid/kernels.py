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
    NBR_NO_CAMPAIGN,
    NBR_NOT_TARGETED,
    NBR_PACED_OUT,
)
from auction.landscape.kernels import Landscape, shade_bid
from auction.predictor.features import VIEWER_KEYS
from auction.predictor.kernels import Model, candidate_probability, feature_hashes, viewer_keys, viewer_sums
from pacing.facts import AuctionType
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
def _beats(campaigns: CampaignColumns, viewer_id: np.uint64, value: float, c: int, other_value: float, other: int) -> bool:
    """Whether candidate c with `value` ranks before candidate `other`."""
    if value != other_value:
        return value > other_value
    seed = campaigns.tie_seed
    return tie_rank(viewer_id, campaigns.campaign_ids[c], seed) > tie_rank(
        viewer_id, campaigns.campaign_ids[other], seed
    )


@njit(cache=True, nogil=True)
def _insert_ranked(
    campaigns: CampaignColumns, viewer_id: np.uint64, out: ScoreColumns, i: int, c: int, value: float, p: float, caller: int
) -> None:
    """Put candidate c into row i of the ranking, best first, one candidate per creator, the worst falling out."""
    depth = out.out_campaign_idx.shape[1]
    last = depth - 1  # the place that c would overwrite: its creator's present one, or the last
    for r in range(depth):
        other = out.out_campaign_idx[i, r]
        if other < 0:
            last = r
            break
        if campaigns.creator_ids[other] == campaigns.creator_ids[c]:
            last = r
            break
    holder = out.out_campaign_idx[i, last]
    if holder >= 0 and not _beats(campaigns, viewer_id, value, c, out.out_values_micros[i, last], holder):
        return
    r = last
    while r > 0 and _beats(
        campaigns, viewer_id, value, c, out.out_values_micros[i, r - 1], out.out_campaign_idx[i, r - 1]
    ):
        out.out_campaign_idx[i, r] = out.out_campaign_idx[i, r - 1]
        out.out_values_micros[i, r] = out.out_values_micros[i, r - 1]
        out.out_probabilities[i, r] = out.out_probabilities[i, r - 1]
        out.out_caller[i, r] = out.out_caller[i, r - 1]
        r -= 1
    out.out_campaign_idx[i, r] = c
    out.out_values_micros[i, r] = value
    out.out_probabilities[i, r] = p
    out.out_caller[i, r] = caller


@njit(cache=True, nogil=True)
def _may_enter(campaigns: CampaignColumns, viewer_id: np.uint64, out: ScoreColumns, i: int, c: int, value: float) -> bool:
    """Whether candidate c could take a place in row i; saves the frequency look-up for those that could not."""
    last = out.out_campaign_idx.shape[1] - 1
    holder = out.out_campaign_idx[i, last]
    return holder < 0 or _beats(campaigns, viewer_id, value, c, out.out_values_micros[i, last], holder)


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
        out.out_values_micros[i, kept] = out.out_values_micros[i, r]
        out.out_probabilities[i, kept] = out.out_probabilities[i, r]
        out.out_caller[i, kept] = out.out_caller[i, r]
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
    dims = batch.dims[i]
    viewer_id = batch.viewer_ids[i]
    matched = match_viewer(index, dims, batch.interest_masks[i], segments, out.scratch, out.matched)
    mask = batch.interest_masks[i]
    if matched:
        viewer_keys(dims, mask, batch.hour, keys)
        viewer_sums(model, keys, sums)
    paced_out, below, capped = 0, 0, 0
    for k in range(matched):
        c = out.matched[k]
        if _is_blocked(batch, campaigns.creator_ids[c]):
            continue
        p = _caller_prediction(batch, i, c)
        caller = 1 if p >= 0.0 else 0
        if not caller:
            laotie = is_member(segments, campaigns.laotie_segments[c])
            p = candidate_probability(model, campaigns.goal_rows[c], c, keys, sums, mask, laotie)
            p = min(p * campaigns.calibration[c], 1.0)
        out.out_eligible[c] += 1
        out.out_expected[c] += p
        value = campaigns.alpha_micros[c] * p + campaigns.base_micros[c]
        if value < 1.0:
            paced_out += 1
        elif value < batch.floors_micros[i]:
            below += 1
        elif _may_enter(campaigns, viewer_id, out, i, c, value):
            seen = times_seen(caps, pair_key(viewer_id, campaigns.creator_ids[c]), batch.day, batch.now_ms)
            if seen >= campaigns.frequency_caps[c]:
                capped += 1
            else:
                _insert_ranked(campaigns, viewer_id, out, i, c, value, p, caller)
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

    Value of campaign c to viewer i is `alpha_c * p(i, c) + base_c`; a viewer's candidates are ordered by it, one per creator,
    ties by a seeded hash. Floors are inclusive: value == floor is a bid. In a first-price auction the value is shaded, once the
    order stands, by the price landscape of the request.

    Args:
        index: MatchIndex over C campaigns.
        campaigns: CampaignColumns of C.
        model: the predictor's state for these C campaigns.
        landscape: price landscapes.
        caps: CapTable.
        batch: BatchColumns of n viewers.
        out: ScoreColumns; rankings are overwritten, eligible and expected are added to.
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
    """The feature hashes (u4[m, 16]) behind the probabilities of m chosen candidates (i8[m] viewers, i4[m] campaigns)."""
    keys = np.empty(VIEWER_KEYS, np.uint32)
    for k in range(viewer_idx.shape[0]):
        i = viewer_idx[k]
        c = campaign_idx[k]
        mask = batch.interest_masks[i]
        segments = batch.segments[batch.segment_ptr[i] : batch.segment_ptr[i + 1]]
        viewer_keys(batch.dims[i], mask, batch.hour, keys)
        laotie = is_member(segments, campaigns.laotie_segments[c])
        feature_hashes(model, c, keys, mask, laotie, out_features[k])
