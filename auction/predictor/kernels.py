"""Compiled prediction and learning: adPredictor, Bayesian online probit regression on hashed features.

Graepel, Candela, Borchert, Herbrich, "Web-Scale Bayesian Click-Through Rate Prediction for Sponsored Search
Advertising in Microsoft's Bing Search Engine", ICML 2010.

Symbols: m, v mean and variance of a weight; s scale of a feature; M = sum s m, S = beta^2 + sum s^2 v; p = Phi(M /
sqrt S).

Features that always come together (a campaign, its creator, its creative, and every cross of them) each take the step
that one of them alone should take, so the means that one pass ends with scatter much more than the data says. What
is predicted with is therefore the average of the means that a slot had, later ones weighing more (polynomial-decay
averaging: Shamir and Zhang, "Stochastic Gradient Descent for Non-smooth Optimization", ICML 2013).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from auction.predictor.features import (
    CAMPAIGN_CAMPAIGN,
    CAMPAIGN_CATEGORY,
    CAMPAIGN_CATEGORY_OF_AGE_GENDER,
    CAMPAIGN_CATEGORY_OF_CONTENT,
    CAMPAIGN_CREATIVE,
    CAMPAIGN_CREATOR,
    CAMPAIGN_CREATOR_OF_AGE_GENDER,
    CAMPAIGN_CREATOR_OF_REGION,
    CAMPAIGN_INTEREST,
    CAMPAIGN_LAOTIE,
    CAMPAIGN_NO_INTEREST,
    CAMPAIGN_NO_LAOTIE,
    DIM_AGE_BAND,
    DIM_CONTENT_CATEGORY,
    DIM_GENDER,
    DIM_PLACEMENT,
    DIM_REGION,
    FEATURE_COUNT,
    NOISE_VARIANCE,
    SCALES,
    SLOT_AVERAGE,
    SLOT_MEAN,
    SLOT_ROWS,
    SLOT_VARIANCE,
    VIEWER_AGE_GENDER_OF_CATEGORY,
    VIEWER_AGE_GENDER_OF_CREATOR,
    VIEWER_CONTENT_OF_CATEGORY,
    VIEWER_FEATURES,
    VIEWER_KEYS,
    VIEWER_REGION_OF_CREATOR,
)

SQRT2 = math.sqrt(2.0)
SQRT2PI = math.sqrt(2.0 * math.pi)
AGE_BANDS_SALT = 20
REGION_SALT = 21
CATEGORY_AGE_SALT = 22
CONTENT_SALT = 23


AVERAGE_DECAY = 2.0
"""Power by which later means of a slot weigh more."""
MOST_AVERAGED_ROWS = 30_000.0
"""An average goes back no further than this many rows of its slot (about a quarter of them weigh most)."""

CDF_LIMIT = 8.0
CDF_STEPS = 64  # intervals per unit: two columns of 1,025 rows stay in the first-level cache
CDF_TOLERANCE = 7e-7
"""Most that `normal_cdf` is off by, as a share of the true value."""


def _cdf_table() -> np.ndarray:
    """Phi and its derivative times the step at the nodes -CDF_LIMIT .. CDF_LIMIT, f8[nodes, 2]."""
    nodes = np.arange(-CDF_LIMIT, CDF_LIMIT + 0.5 / CDF_STEPS, 1.0 / CDF_STEPS)
    values = np.array([0.5 * math.erfc(-z / SQRT2) for z in nodes])
    return np.stack([values, np.exp(-0.5 * nodes * nodes) / SQRT2PI / CDF_STEPS], axis=1)


_CDF = _cdf_table()
_CDF.setflags(write=False)


@njit(cache=True, nogil=True, inline="always")
def normal_cdf(z: float) -> float:
    """Phi(z) by cubic Hermite interpolation; relative error below CDF_TOLERANCE within +-CDF_LIMIT, exact outside.

    A sixth of the time of `erfc`, which would otherwise be most of what a candidate costs.
    """
    p = 0.0
    if -CDF_LIMIT <= z < CDF_LIMIT:
        x = (z + CDF_LIMIT) * CDF_STEPS
        node = np.int64(x)
        t = x - node
        a, b = _CDF[node, 0], _CDF[node + 1, 0]
        da, db = _CDF[node, 1], _CDF[node + 1, 1]
        p = a + t * (da + t * (3.0 * (b - a) - 2.0 * da - db + t * (2.0 * (a - b) + da + db)))
    else:
        p = 0.5 * math.erfc(-z / SQRT2)
    return p


class Model(NamedTuple):
    """One immutable state of the predictor, laid out for the campaigns of one snapshot (position: campaign_idx).

    Attributes:
        weights: f4[G, D, 2], average mean and variance of each slot; row goal - 1. The last row, RISE_ROW, only where
            a campaign asks for it.
        keys: u4[C, CAMPAIGN_KEYS], from `fill_campaign_keys`.
        sums: f8[C, 4, 2], score mean and variance of the features that need no viewer, for the four values of
            interest match + 2 * laotie; under the campaign's own goal.
        categories: i4[C], 0: unknown.
        loss_sums: f8[C, 4, 2], as `sums`, under the row that predicts whether a new fan is lost; f8[0, 4, 2] where no
            campaign wants kept fans.
        rise_sums: f8[C, 4, 2], as `sums`, under RISE_ROW; f8[0, 4, 2] where no campaign asks for it.
    """

    weights: np.ndarray
    keys: np.ndarray
    sums: np.ndarray
    categories: np.ndarray
    loss_sums: np.ndarray
    rise_sums: np.ndarray


@njit(cache=True, nogil=True)
def hash_feature(salt: int, code: np.uint64) -> np.uint32:
    """A 32-bit hash of one code under a salt (the splitmix64 finaliser, upper half)."""
    h = np.uint64(code) ^ (np.uint64(salt + 1) << np.uint64(56))
    h ^= h >> np.uint64(30)
    h *= np.uint64(0xBF58476D1CE4E5B9)
    h ^= h >> np.uint64(27)
    h *= np.uint64(0x94D049BB133111EB)
    h ^= h >> np.uint64(31)
    return np.uint32(h >> np.uint64(32))


@njit(cache=True, nogil=True)
def viewer_keys(dims: np.ndarray, interest_mask: np.uint64, hour: int, out_keys: np.ndarray) -> None:
    """Keys (u4[VIEWER_KEYS]) of one viewer with attribute codes `dims` (i4[8]) at a local hour 0..23.

    Interests have no key of their own: they enter through the campaign's category, in `campaign_state`.
    """
    age_gender = np.uint64(dims[DIM_AGE_BAND] * 64 + dims[DIM_GENDER])
    out_keys[0] = hash_feature(0, np.uint64(0))
    out_keys[1] = hash_feature(1, np.uint64(dims[DIM_REGION]))
    out_keys[2] = hash_feature(2, np.uint64(dims[DIM_AGE_BAND]))
    out_keys[3] = hash_feature(3, np.uint64(dims[DIM_GENDER]))
    out_keys[4] = hash_feature(4, np.uint64(hour))
    out_keys[5] = hash_feature(5, np.uint64(dims[DIM_PLACEMENT]))
    out_keys[VIEWER_AGE_GENDER_OF_CREATOR] = hash_feature(AGE_BANDS_SALT, age_gender)
    out_keys[VIEWER_REGION_OF_CREATOR] = hash_feature(REGION_SALT, np.uint64(dims[DIM_REGION]))
    out_keys[VIEWER_AGE_GENDER_OF_CATEGORY] = hash_feature(CATEGORY_AGE_SALT, age_gender)
    out_keys[VIEWER_CONTENT_OF_CATEGORY] = hash_feature(CONTENT_SALT, np.uint64(dims[DIM_CONTENT_CATEGORY]))


@njit(cache=True, nogil=True)
def fill_campaign_keys(
    campaign_ids: np.ndarray,
    creator_ids: np.ndarray,
    creative_ids: np.ndarray,
    categories: np.ndarray,
    out_keys: np.ndarray,
) -> None:
    """Keys (u4[C, CAMPAIGN_KEYS]) of campaigns (u8[C], u8[C], u8[C], i4[C])."""
    for c in range(campaign_ids.shape[0]):
        creator = np.uint64(creator_ids[c])
        category = np.uint64(categories[c])
        keys = out_keys[c]
        keys[CAMPAIGN_CAMPAIGN] = hash_feature(6, np.uint64(campaign_ids[c]))
        keys[CAMPAIGN_CREATOR] = hash_feature(7, creator)
        keys[CAMPAIGN_CREATIVE] = hash_feature(8, np.uint64(creative_ids[c]))
        keys[CAMPAIGN_CATEGORY] = hash_feature(9, category)
        keys[CAMPAIGN_CREATOR_OF_AGE_GENDER] = hash_feature(10, creator)
        keys[CAMPAIGN_CREATOR_OF_REGION] = hash_feature(11, creator)
        keys[CAMPAIGN_CATEGORY_OF_AGE_GENDER] = hash_feature(12, category)
        keys[CAMPAIGN_CATEGORY_OF_CONTENT] = hash_feature(13, category)
        keys[CAMPAIGN_NO_INTEREST] = hash_feature(14, category)
        keys[CAMPAIGN_INTEREST] = hash_feature(15, category)
        keys[CAMPAIGN_NO_LAOTIE] = hash_feature(16, creator)
        keys[CAMPAIGN_LAOTIE] = hash_feature(17, creator)


@njit(cache=True, nogil=True)
def fill_campaign_sums(weights: np.ndarray, goal_rows: np.ndarray, keys: np.ndarray, out_sums: np.ndarray) -> None:
    """Sum ahead what needs no viewer: `Model.sums` (f8[C, 4, 2]) from weights f4[G, D, 2], rows i4[C] and keys."""
    mask = np.uint32(weights.shape[1] - 1)
    for c in range(keys.shape[0]):
        table = weights[goal_rows[c]]
        mean = 0.0
        variance = 0.0
        for column in range(4):
            slot = keys[c, column] & mask
            scale = SCALES[VIEWER_FEATURES + column]
            mean += scale * table[slot, 0]
            variance += scale * scale * table[slot, 1]
        for state in range(4):
            interest = keys[c, CAMPAIGN_NO_INTEREST + (state & 1)] & mask
            laotie = keys[c, CAMPAIGN_NO_LAOTIE + (state >> 1)] & mask
            out_sums[c, state, 0] = mean + SCALES[13] * table[interest, 0] + SCALES[14] * table[laotie, 0]
            out_sums[c, state, 1] = (
                variance + SCALES[13] * SCALES[13] * table[interest, 1] + SCALES[14] * SCALES[14] * table[laotie, 1]
            )


@njit(cache=True, nogil=True)
def viewer_sums(model: Model, keys_of_viewer: np.ndarray, out_sums: np.ndarray) -> None:
    """Score mean and variance of one viewer's own features for every goal: f8[G, 2]. The noise is included."""
    weights = model.weights
    mask = np.uint32(weights.shape[1] - 1)
    for goal in range(weights.shape[0]):
        mean = 0.0
        variance = NOISE_VARIANCE
        for j in range(VIEWER_FEATURES):
            slot = keys_of_viewer[j] & mask
            mean += SCALES[j] * weights[goal, slot, 0]
            variance += SCALES[j] * SCALES[j] * weights[goal, slot, 1]
        out_sums[goal, 0] = mean
        out_sums[goal, 1] = variance


@njit(cache=True, nogil=True, inline="always")
def campaign_state(category: int, interest_mask: np.uint64, laotie: int) -> int:
    """Which of the four sums of a campaign applies: interest match + 2 * laotie."""
    match = 0
    if category > 0 and (np.uint64(interest_mask) >> np.uint64(category)) & np.uint64(1):
        match = 1
    return match + (2 if laotie else 0)


@njit(cache=True, nogil=True, inline="always")
def candidate_probability(
    model: Model,
    sums_of_campaigns: np.ndarray,
    goal_row: int,
    campaign_idx: int,
    keys_of_viewer: np.ndarray,
    sums_of_viewer: np.ndarray,
    interest_mask: np.uint64,
    laotie: int,
) -> float:
    """Probability of a row's event if this viewer is shown this campaign; before calibration.

    Four table look-ups: everything else was summed once per viewer or once per snapshot.

    Args:
        sums_of_campaigns: f8[C, 4, 2], under that row: `model.sums` for the goal, `model.loss_sums`, `rise_sums`.
    """
    mask = np.uint32(model.weights.shape[1] - 1)
    table = model.weights[goal_row]
    keys = model.keys[campaign_idx]
    sums = sums_of_campaigns[campaign_idx, campaign_state(model.categories[campaign_idx], interest_mask, laotie)]
    a = (keys[CAMPAIGN_CREATOR_OF_AGE_GENDER] ^ keys_of_viewer[VIEWER_AGE_GENDER_OF_CREATOR]) & mask
    b = (keys[CAMPAIGN_CREATOR_OF_REGION] ^ keys_of_viewer[VIEWER_REGION_OF_CREATOR]) & mask
    c = (keys[CAMPAIGN_CATEGORY_OF_AGE_GENDER] ^ keys_of_viewer[VIEWER_AGE_GENDER_OF_CATEGORY]) & mask
    d = (keys[CAMPAIGN_CATEGORY_OF_CONTENT] ^ keys_of_viewer[VIEWER_CONTENT_OF_CATEGORY]) & mask
    mean = sums_of_viewer[goal_row, 0] + sums[0]
    mean += SCALES[10] * table[a, 0] + SCALES[11] * table[b, 0] + SCALES[12] * table[c, 0] + SCALES[15] * table[d, 0]
    variance = sums_of_viewer[goal_row, 1] + sums[1]
    variance += SCALES[10] * SCALES[10] * table[a, 1] + SCALES[11] * SCALES[11] * table[b, 1]
    variance += SCALES[12] * SCALES[12] * table[c, 1] + SCALES[15] * SCALES[15] * table[d, 1]
    return normal_cdf(mean / math.sqrt(variance))


@njit(cache=True, nogil=True)
def feature_hashes(
    model: Model,
    campaign_idx: int,
    keys_of_viewer: np.ndarray,
    interest_mask: np.uint64,
    laotie: int,
    out_features: np.ndarray,
) -> None:
    """The hashes (u4[16]) of exactly the features that `candidate_probability` used."""
    keys = model.keys[campaign_idx]
    state = campaign_state(model.categories[campaign_idx], interest_mask, laotie)
    for j in range(VIEWER_FEATURES):
        out_features[j] = keys_of_viewer[j]
    for column in range(4):
        out_features[VIEWER_FEATURES + column] = keys[column]
    out_features[10] = keys[CAMPAIGN_CREATOR_OF_AGE_GENDER] ^ keys_of_viewer[VIEWER_AGE_GENDER_OF_CREATOR]
    out_features[11] = keys[CAMPAIGN_CREATOR_OF_REGION] ^ keys_of_viewer[VIEWER_REGION_OF_CREATOR]
    out_features[12] = keys[CAMPAIGN_CATEGORY_OF_AGE_GENDER] ^ keys_of_viewer[VIEWER_AGE_GENDER_OF_CATEGORY]
    out_features[13] = keys[CAMPAIGN_NO_INTEREST + (state & 1)]
    out_features[14] = keys[CAMPAIGN_NO_LAOTIE + (state >> 1)]
    out_features[15] = keys[CAMPAIGN_CATEGORY_OF_CONTENT] ^ keys_of_viewer[VIEWER_CONTENT_OF_CATEGORY]


@njit(cache=True, nogil=True)
def fill_features(
    model: Model,
    campaign_idx: np.ndarray,
    dims: np.ndarray,
    interest_masks: np.ndarray,
    laotie: np.ndarray,
    hour: int,
    out_features: np.ndarray,
) -> None:
    """`feature_hashes` of m chosen candidates: i4[m], i4[m, 8], u8[m], b1 or u1[m], local hour, to u4[m, 16]."""
    keys = np.empty(VIEWER_KEYS, np.uint32)
    for i in range(campaign_idx.shape[0]):
        viewer_keys(dims[i], interest_masks[i], hour, keys)
        feature_hashes(model, campaign_idx[i], keys, interest_masks[i], laotie[i], out_features[i])


@njit(cache=True, nogil=True)
def predict_batch(
    table: np.ndarray, features: np.ndarray, out_probabilities: np.ndarray, out_spread: np.ndarray
) -> None:
    """Probabilities (f8[n]) of rows of hashes (u4[n, 16]) under one goal's table (f4[D, 4]), and their relative spread.

    The spread (f8[n]) is the standard deviation of log p that the weights' own variance implies.
    """
    mask = np.uint32(table.shape[0] - 1)
    for t in range(features.shape[0]):
        mean = 0.0
        variance = 0.0
        for j in range(FEATURE_COUNT):
            slot = features[t, j] & mask
            mean += SCALES[j] * table[slot, SLOT_AVERAGE]
            variance += SCALES[j] * SCALES[j] * table[slot, SLOT_VARIANCE]
        z = mean / math.sqrt(NOISE_VARIANCE + variance)
        p = 0.5 * math.erfc(-z / SQRT2)
        out_probabilities[t] = p
        slope = math.exp(-0.5 * z * z) / SQRT2PI / max(p, 1e-300)
        out_spread[t] = slope * math.sqrt(variance / (NOISE_VARIANCE + variance))


@njit(cache=True, nogil=True)
def train_batch(
    table: np.ndarray,
    features: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    fake_negatives: bool,
    out_probabilities: np.ndarray,
) -> None:
    """Learn rows in order, in place; what `predict_batch` would have said of each just before goes to
    `out_probabilities` (f8[n]).

    With `fake_negatives` every impression is told once as a negative, whatever becomes of it, and again as a
    positive when its event arrives; importance weights 1 + p for positives and 1 - p^2 for negatives then leave the
    true p as the fixed point (FNW: Ktena et al., "Addressing Delayed Feedback for Continuous Training with Neural
    Networks in CTR prediction", RecSys 2019).

    Args:
        table: f4[D, 4], the slots of one goal; D is a power of two.
        features: u4[n, 16] hashes.
        labels: f8[n], above 0.5 is a positive.
        weights: f8[n], how much a row counts; 1 is one example.
        fake_negatives: whether negatives are provisional.
        out_probabilities: f8[n].
    """
    mask = np.uint32(table.shape[0] - 1)
    for t in range(features.shape[0]):
        mean = 0.0
        average = 0.0
        variance = NOISE_VARIANCE
        for j in range(FEATURE_COUNT):
            slot = features[t, j] & mask
            mean += SCALES[j] * table[slot, SLOT_MEAN]
            average += SCALES[j] * table[slot, SLOT_AVERAGE]
            variance += SCALES[j] * SCALES[j] * table[slot, SLOT_VARIANCE]
        sd = math.sqrt(variance)
        z = mean / sd
        p = 0.5 * math.erfc(-z / SQRT2)
        out_probabilities[t] = 0.5 * math.erfc(-average / sd / SQRT2)
        positive = labels[t] > 0.5
        sign = 1.0 if positive else -1.0
        weight = weights[t]
        if fake_negatives:
            weight *= 1.0 + p if positive else 1.0 - p * p
        x = sign * z
        if x < -30.0:
            surprise = -x
        else:
            surprise = math.exp(-0.5 * x * x) / SQRT2PI / (0.5 * math.erfc(-x / SQRT2))
        shrink = surprise * (surprise + x)
        for j in range(FEATURE_COUNT):
            slot = features[t, j] & mask
            scale = SCALES[j]
            v = table[slot, SLOT_VARIANCE]
            table[slot, SLOT_MEAN] += sign * weight * scale * v / sd * surprise
            table[slot, SLOT_VARIANCE] = v * (1.0 - min(weight * scale * scale * v / variance * shrink, 0.99))
            rows = min(table[slot, SLOT_ROWS] + 1.0, MOST_AVERAGED_ROWS)
            table[slot, SLOT_ROWS] = rows
            share = (AVERAGE_DECAY + 1.0) / (rows + AVERAGE_DECAY)
            table[slot, SLOT_AVERAGE] += share * (table[slot, SLOT_MEAN] - table[slot, SLOT_AVERAGE])


@njit(cache=True, nogil=True)
def forget(table: np.ndarray, share: float, prior_variance: float) -> None:
    """Let every variance of f4[D, 4] move towards the prior: 1/v becomes (1 - share)/v + share/prior; means stay."""
    for slot in range(table.shape[0]):
        v = table[slot, SLOT_VARIANCE]
        table[slot, SLOT_VARIANCE] = 1.0 / ((1.0 - share) / v + share / prior_variance)
