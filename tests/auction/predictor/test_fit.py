"""The fit of a table's row to remembered examples: the posterior's peak, late events, features that say nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest

from auction.predictor.features import FEATURE_COUNT, LOSS_ROW, SCALES, TABLE_SIZE, Feature
from auction.predictor.fit import Examples, Fit, fit
from auction.predictor.predictor import Predictor
from auction.predictor.settings import LOSS_PRIOR_VARIANCE, PredictorSettings

CODES = np.array([1, 12, 6, 3, 24, 4, 20, 20, 25, 8, 60, 40, 30, 8, 10, 12])
"""Of each feature."""
PRIOR = np.full(FEATURE_COUNT, LOSS_PRIOR_VARIANCE)


def normal_cdf(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2.0))


def drawn(n: int, seed: int = 1, telling: tuple[int, ...] = (Feature.AGE_BAND,)) -> tuple[Examples, np.ndarray]:
    """n examples of which the codes of the `telling` features differ by 0.5 on the probit scale, and true
    probabilities f8[n]; ages are spread evenly."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, CODES, (n, FEATURE_COUNT))
    hashes = np.arange(FEATURE_COUNT)[None, :] * 1_000 + codes
    score = np.full(n, -0.3)
    for j in telling:
        score += 0.5 * np.random.default_rng([9, j]).standard_normal(CODES[j])[codes[:, j]]
    probability = np.array([normal_cdf(x) for x in score.tolist()])
    arrived = rng.random(n)
    came = rng.random(n) < probability * arrived
    return Examples(hashes.astype(np.uint32), came, arrived), probability


def fitted(examples: Examples, rounds: int = 1, bias_mean: float = 0.0) -> tuple[Fit, np.ndarray]:
    """After so many fits, each from where the last one ended; and the means of the whole table."""
    means, variances = np.zeros(TABLE_SIZE), PRIOR
    for _ in range(rounds):
        found = fit(examples, means, bias_mean, variances, LOSS_PRIOR_VARIANCE)
        means[found.slots], variances = found.means, found.prior_variances
    return found, means


def log_posterior(examples: Examples, found: Fit, means: dict[int, float], bias_mean: float) -> float:
    """Written out, an example at a time."""
    total = 0.0
    for row, came, arrived in zip(examples.features.tolist(), examples.came, examples.arrived_share, strict=True):
        p = normal_cdf(sum(SCALES[j] * means[row[j]] for j in range(FEATURE_COUNT)))
        total += math.log(p) if came else math.log(1.0 - arrived * p)
    for slot, mean in means.items():
        feature = slot // 1_000
        expected = bias_mean if feature == Feature.BIAS else 0.0
        total -= (mean - expected) ** 2 / (2.0 * found.prior_variances[feature])
    return total


def test_the_fit_ends_at_the_peak_of_the_posterior() -> None:
    examples, _ = drawn(300)
    found, _ = fitted(examples, rounds=60, bias_mean=-1.0)
    means = dict(zip(found.slots.tolist(), found.means.tolist(), strict=True))
    peak = log_posterior(examples, found, means, -1.0)
    for slot in list(means)[::7]:
        for step in (-0.05, 0.05):
            assert log_posterior(examples, found, means | {slot: means[slot] + step}, -1.0) < peak + 1e-9


def test_late_events_are_told_from_events_that_never_come() -> None:
    examples, probability = drawn(20_000)
    _, means = fitted(examples)
    found = np.array([normal_cdf(x) for x in (means[examples.features] @ SCALES).tolist()])
    assert examples.came.mean() < 0.6 * probability.mean(), "half of them have not come yet"
    assert found.mean() == pytest.approx(probability.mean(), rel=0.04)
    assert np.abs(found - probability).mean() < 0.035


def test_a_feature_that_says_nothing_is_shrunk_and_one_that_says_much_is_not() -> None:
    examples, _ = drawn(20_000, telling=(Feature.AGE_BAND, Feature.CREATOR_BY_AGE_GENDER))
    found, _ = fitted(examples, rounds=8)
    spread = np.sqrt(found.prior_variances) * SCALES
    for j in (Feature.AGE_BAND, Feature.CREATOR_BY_AGE_GENDER):
        assert 0.2 < spread[j] < 0.9, Feature(j).name
    for j in (Feature.CATEGORY_BY_AGE_GENDER, Feature.CREATOR_BY_REGION, Feature.CREATIVE):
        assert spread[j] < 0.13, Feature(j).name
    of_bias = found.prior_variances[Feature.BIAS]
    assert of_bias == LOSS_PRIOR_VARIANCE, "of one code, nothing is to be learned of how codes vary"


def test_more_examples_leave_less_doubt() -> None:
    few, many = (fitted(drawn(n)[0])[0] for n in (200, 20_000))
    shared = np.intersect1d(few.slots, many.slots)
    before, after = (found.variances[np.isin(found.slots, shared)] for found in (few, many))
    assert (after < before).mean() > 0.95
    assert (few.variances < LOSS_PRIOR_VARIANCE + 1e-9).sum() > 0.5 * len(few.slots)


def test_no_example_teaches_nothing_and_one_a_little() -> None:
    none = Examples(np.zeros((0, FEATURE_COUNT), np.uint32), np.zeros(0, bool), np.zeros(0))
    assert len(fitted(none)[0].slots) == 0
    predictor = Predictor(PredictorSettings(kept_share=0.7))
    rows, other = (np.full((1, FEATURE_COUNT), number, np.uint32) for number in (5, 9))
    before = predictor.predict_loss(rows)[0][0]
    predictor.fit_fans(LOSS_ROW, none, PRIOR)
    assert predictor.predict_loss(rows)[0][0] == before
    predictor.fit_fans(LOSS_ROW, Examples(rows, np.array([True]), np.array([0.0])), PRIOR)
    after = predictor.predict_loss(rows)[0][0]
    assert before < after < 1.0 and predictor.predict_loss(other)[0][0] == before


def test_examples_too_young_to_tell_say_nothing() -> None:
    rows = drawn(500)[0].features
    young = Examples(rows, np.zeros(500, bool), np.zeros(500))
    found, _ = fitted(young)
    assert np.abs(found.means).max() < 0.5
    old, _ = fitted(Examples(rows, np.zeros(500, bool), np.ones(500)))
    assert (means := old.means[old.slots == 0])[0] < -2.0, means
