"""A table's row fitted to all examples at once: probit regression with an effect of every feature's every code.

For what comes seldom and late, and of which the examples are remembered anyway: a pass over them as they come, with
corrections once more is known (`kernels.train_batch` with fake negatives), needs many more examples to say as much.

The effects of one feature's codes are drawn from a normal distribution whose variance is estimated as well, by
expectation and maximisation over the posteriors of the effects (empirical Bayes; Harville, "Maximum Likelihood
Approaches to Variance Component Estimation and to Related Problems", JASA 1977). So a feature that says nothing is
shrunk to nothing, and one that says much need not be told so in advance. An example whose event may still come counts
as in Chapelle, "Modeling Delayed Feedback in Display Advertising" (KDD 2014): with p the probability that the event
comes at all and F the share of events that have come at its age, it has not come by now with probability 1 - p F.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import log_ndtr, ndtr

from auction.predictor.features import FEATURE_COUNT, SCALES, TABLE_SIZE, Feature

SWEEPS = 6
_PRIOR_CODES = 1.0  # how many codes of a feature the prior of its variance counts for
_LEAST_ARRIVED = 1e-3
_MOST_STEP = 2.0  # of a weight in one sweep
_LEAST_VARIANCE = 0.01
_VARIANCE_STEPS = 5  # of expectation and maximisation, each time that the effects move
_LOG_SQRT_2PI = 0.5 * float(np.log(2.0 * np.pi))


class Examples(NamedTuple):
    """n examples, a column per field.

    Attributes:
        features: u4[n, 16] hashes.
        came: b1[n], whether the event has come.
        arrived_share: f8[n], F at each example's age, within 0..1.
    """

    features: np.ndarray
    came: np.ndarray
    arrived_share: np.ndarray


class Fit(NamedTuple):
    """What was learned of k slots, and of the features.

    Attributes:
        slots: i8[k], ascending.
        means, variances: f8[k], of their weights.
        prior_variances: f8[16], by feature: how much the weights of its codes vary.
    """

    slots: np.ndarray
    means: np.ndarray
    variances: np.ndarray
    prior_variances: np.ndarray


def fit(examples: Examples, start: np.ndarray, bias_mean: float, prior_variances: np.ndarray, prior: float) -> Fit:
    """Fit the weights of one row of the table.

    Fisher scoring of one feature's codes at a time, `SWEEPS` times over all features; the next fit goes on from there.

    Args:
        start: f8[TABLE_SIZE], means to begin with.
        bias_mean: prior mean of the weight of the bias; that of all others is 0.
        prior_variances: f8[16], to begin with.
        prior: what each variance leans on, as if that many of `_PRIOR_CODES` codes had shown it.
    """
    columns = (examples.features & np.uint32(TABLE_SIZE - 1)).astype(np.int64)
    slots, places = np.unique(columns, return_inverse=True)
    places = places.reshape(columns.shape)
    means, variances = start[slots].astype(np.float64), np.full(len(slots), prior)
    prior_variances = prior_variances.copy()
    of_feature = [np.unique(places[:, j]) for j in range(FEATURE_COUNT)]
    for _ in range(SWEEPS if len(columns) else 0):
        score = means[places] @ SCALES
        for j, codes in enumerate(of_feature):
            slope, information = _slopes(score, examples.came, examples.arrived_share)
            scale, expected = float(SCALES[j]), bias_mean if j == Feature.BIAS else 0.0
            gradient = scale * np.bincount(places[:, j], slope, len(slots))[codes]
            curvature = scale * scale * np.bincount(places[:, j], information, len(slots))[codes]
            shown = gradient + curvature * means[codes]  # of each code alone, as a sum of what its examples say
            for _ in range(_VARIANCE_STEPS if j != Feature.BIAS else 0):
                variance = 1.0 / (curvature + 1.0 / prior_variances[j])
                squares = float(np.sum((shown * variance) ** 2 + variance))
                prior_variances[j] = max(
                    (_PRIOR_CODES * prior + squares) / (_PRIOR_CODES + len(codes)), _LEAST_VARIANCE
                )
            variances[codes] = 1.0 / (curvature + 1.0 / prior_variances[j])
            step = (shown + expected / prior_variances[j]) * variances[codes] - means[codes]
            moved = np.zeros(len(slots))
            moved[codes] = np.clip(step, -_MOST_STEP, _MOST_STEP)
            means += moved
            score += scale * moved[places[:, j]]
    return Fit(slots, means, variances, prior_variances)


def _slopes(score: np.ndarray, came: np.ndarray, arrived_share: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slope of each example's log-likelihood in its score, and Fisher's information on the score: f8[n] each."""
    arrived = np.maximum(arrived_share, _LEAST_ARRIVED)
    log_density = -0.5 * score * score - _LOG_SQRT_2PI
    hazard = np.exp(log_density - log_ndtr(score))  # phi / Phi
    left = 1.0 - arrived * ndtr(score)
    left = np.maximum(left, 1e-9)
    density = np.exp(log_density)
    slope = np.where(came, hazard, -arrived * density / left)
    return slope, arrived * density * hazard / left
