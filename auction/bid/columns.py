"""What the scoring kernel reads and writes: every column with its shape, dtype and unit.

C campaigns (position: campaign_idx, dense, of one snapshot), n viewers of one request, R ranked candidates per viewer.
Match index, model and landscape bring their own tuples.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

RANKED_CANDIDATES = 6
"""R: kept per viewer; up to three bids, each with a runner-up, and a spare for a refused hold."""


class CampaignColumns(NamedTuple):
    """Active campaigns.

    Attributes:
        campaign_ids: u8[C], none twice.
        creator_ids: u8[C].
        goal_rows: i4[C], row of the goal in the model's tables.
        alpha_micros: f8[C], worth of one expected goal event; 0: bids nothing now.
        base_micros: f8[C], worth of an impression whatever its probability (policy "fixed"); else 0. Of alpha and base,
            one is 0: a decision has room for one of them.
        frequency_caps: i4[C], impressions per viewer and day.
        laotie_segments: i4[C], segment of the creator's friends of fans.
        calibration: f8[C], factor on the model's probability of the viewers who answer best.
        loss_calibration: f8[C], of campaigns that want fans who are kept: factor on the model's probability that a new
            fan is lost within 30 days; 0: the campaign counts its goal's events as they come.
        rise_calibration: f8[C], of campaigns to which a fan of a high tier is worth more, among those with a
            `loss_calibration`: factor on the model's probability that a kept fan rises to one; 0: a fan is a fan. f8[0]
            where there is no such campaign.
        uplifts: f8[C, 2], or f8[0, 2] likewise: alpha is multiplied by the first and the second times the probability
            that a kept fan rises; 1 and 0 where a fan is a fan.
        earlier_discounts: f8[G, EARLIER_LEVELS], within 0..1: by goal row, what becomes of it when the viewer had
            impressions of the creator that day.
        tie_seed: u8.
    """

    campaign_ids: np.ndarray
    creator_ids: np.ndarray
    goal_rows: np.ndarray
    alpha_micros: np.ndarray
    base_micros: np.ndarray
    frequency_caps: np.ndarray
    laotie_segments: np.ndarray
    calibration: np.ndarray
    loss_calibration: np.ndarray
    rise_calibration: np.ndarray
    uplifts: np.ndarray
    earlier_discounts: np.ndarray
    tie_seed: np.uint64


def marks_needed(campaigns: CampaignColumns) -> int:
    """How long `ScoreColumns.marks` must be."""
    return int(campaigns.laotie_segments.max(initial=-1)) + 1


class BatchColumns(NamedTuple):
    """The viewers of one request, resolved.

    Attributes:
        viewer_ids: u8[n].
        dims: i4[n, DIMENSION_COUNT], attribute codes, none negative.
        interest_masks: u8[n].
        segment_ptr, segments: i8[n + 1], u4[...]: each viewer's segments, ascending.
        floors_micros: i8[n], inclusive.
        prediction_ptr, prediction_idx, probabilities: i4[n + 1], i4[m], f4[m]: the caller's, by campaign_idx; -1: not
            active.
        blocked_creator_ids: u8[b].
        landscape_idx: i4[n].
        at, hour, day, now_ms: auction type, local hour, cap day, instant.
        no_ads_segment: whose members get no ad.
    """

    viewer_ids: np.ndarray
    dims: np.ndarray
    interest_masks: np.ndarray
    segment_ptr: np.ndarray
    segments: np.ndarray
    floors_micros: np.ndarray
    prediction_ptr: np.ndarray
    prediction_idx: np.ndarray
    probabilities: np.ndarray
    blocked_creator_ids: np.ndarray
    landscape_idx: np.ndarray
    at: int
    hour: int
    day: int
    now_ms: int
    no_ads_segment: int


class ScoreColumns(NamedTuple):
    """What scoring fills in.

    Attributes:
        out_campaign_idx: i4[n, R], best first; -1: none.
        out_probabilities: f8[n, R].
        out_caller: u1[n, R], 1 where the probability is the caller's.
        out_earlier: u1[n, R], impressions of the creator that were counted against the probability.
        out_alphas_micros: f8[n, R], alpha as it was used: with what the fan's tier may become.
        out_values_micros: f8[n, R], alpha times probability.
        out_bids_micros: i8[n, R], what to bid; 0: none.
        out_nbr: i4[n], 0 where there is a candidate.
        out_eligible: i8[C], added to: viewers that the campaign could bid for.
        out_expected: f8[C], added to: the sum of their probabilities, as if they had seen nothing of the creator.
        out_rises: f8[C], or f8[0] where no campaign has a `rise_calibration`; added to: the sum of their probabilities
            times that of rising.
        matched: i4[C + 1], scratch: a viewer's candidates.
        probabilities: f8[C + 1], scratch: theirs.
        rises: f8[C + 1], scratch: probability that a fan gained and kept rises.
        marks: u1[highest laotie segment + 1], scratch, zeros: which segments the viewer is in.
        scratch: u8[>= scratch_words of the index], scratch of the match.
    """

    out_campaign_idx: np.ndarray
    out_probabilities: np.ndarray
    out_caller: np.ndarray
    out_earlier: np.ndarray
    out_alphas_micros: np.ndarray
    out_values_micros: np.ndarray
    out_bids_micros: np.ndarray
    out_nbr: np.ndarray
    out_eligible: np.ndarray
    out_expected: np.ndarray
    out_rises: np.ndarray
    matched: np.ndarray
    probabilities: np.ndarray
    rises: np.ndarray
    marks: np.ndarray
    scratch: np.ndarray
