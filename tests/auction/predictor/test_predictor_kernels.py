"""Prediction kernels against their reference."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from auction.predictor.features import (
    CAMPAIGN_KEYS,
    FEATURE_COUNT,
    PRIOR_VARIANCE,
    SLOT_AVERAGE,
    SLOT_MEAN,
    SLOT_ROWS,
    SLOT_VARIANCE,
    VIEWER_KEYS,
)
from auction.predictor.kernels import (
    CDF_LIMIT,
    CDF_STEPS,
    CDF_TOLERANCE,
    MOST_AVERAGED_ROWS,
    Model,
    candidate_probability,
    feature_hashes,
    fill_campaign_keys,
    fill_campaign_sums,
    fill_features,
    forget,
    normal_cdf,
    predict_batch,
    train_batch,
    viewer_keys,
    viewer_sums,
)
from auction.predictor.reference import Impression, ReferenceModel, features_of, tail_cdf

pytestmark = pytest.mark.kernels

SLOTS = 64
GOALS = 3

impressions = st.builds(
    Impression,
    region=st.integers(0, 511),
    age_band=st.integers(0, 7),
    gender=st.integers(0, 3),
    hour=st.integers(0, 23),
    placement=st.integers(0, 15),
    content_category=st.integers(0, 63),
    interest_mask=st.integers(0, 2**64 - 1),
    campaign_id=st.integers(0, 2**64 - 1),
    creator_id=st.integers(0, 2**64 - 1),
    creative_id=st.integers(0, 2**64 - 1),
    category=st.integers(0, 63),
    laotie=st.booleans(),
)


def random_weights(seed: int, slots: int = SLOTS) -> np.ndarray:
    rng = np.random.default_rng(seed)
    weights = np.empty((GOALS, slots, 2), np.float32)
    weights[:, :, 0] = rng.normal(0, 2, (GOALS, slots))
    weights[:, :, 1] = rng.uniform(0.01, 1, (GOALS, slots))
    return weights


def fresh_table(weights: np.ndarray) -> np.ndarray:
    """Slots f8[D, 4] that have these means and variances, f4[D, 2], and have learned nothing yet."""
    table = np.zeros((len(weights), 4))
    table[:, SLOT_AVERAGE] = table[:, SLOT_MEAN] = weights[:, 0]
    table[:, SLOT_VARIANCE] = weights[:, 1]
    return table


def model_for(seen: list[Impression], weights: np.ndarray, goal_rows: np.ndarray) -> Model:
    keys = np.zeros((len(seen), CAMPAIGN_KEYS), np.uint32)
    sums = np.zeros((len(seen), 4, 2))
    categories = np.array([one.category for one in seen], np.int32)
    columns = [
        np.array([getattr(one, name) for one in seen], np.uint64)
        for name in ("campaign_id", "creator_id", "creative_id")
    ]
    fill_campaign_keys(*columns, categories, keys)
    fill_campaign_sums(weights, goal_rows, keys, sums)
    return Model(weights, keys, sums, categories, sums, sums)


def dims_of(seen: Impression) -> np.ndarray:
    codes = [seen.region, seen.age_band, seen.gender, 1, 2, 3, seen.content_category, seen.placement]
    return np.array(codes, np.int32)


def predict(model: Model, goal: int, campaign_idx: int, seen: Impression) -> tuple[float, np.ndarray]:
    keys, sums = np.zeros(VIEWER_KEYS, np.uint32), np.zeros((GOALS, 2))
    mask = np.uint64(seen.interest_mask)
    viewer_keys(dims_of(seen), mask, seen.hour, keys)
    viewer_sums(model, keys, sums)
    p = candidate_probability(model, model.sums, goal, campaign_idx, keys, sums, mask, int(seen.laotie))
    features = np.zeros(FEATURE_COUNT, np.uint32)
    feature_hashes(model, campaign_idx, keys, mask, int(seen.laotie), features)
    return p, features


@limits(max_examples=60)
@given(st.lists(impressions, min_size=1, max_size=4), st.integers(0, 99), st.integers(0, GOALS - 1))
def test_probability_and_features_are_those_of_the_reference(seen: list[Impression], seed: int, goal: int) -> None:
    weights = random_weights(seed)
    model = model_for(seen, weights, np.full(len(seen), goal, np.int32))
    reference = ReferenceModel(SLOTS, {k: (float(m), float(v)) for k, (m, v) in enumerate(weights[goal])})
    for campaign_idx, one in enumerate(seen):
        p, features = predict(model, goal, campaign_idx, one)
        assert features.tolist() == features_of(one)
        assert p == pytest.approx(reference.probability(features_of(one)), rel=1e-6, abs=1e-15)


@limits(max_examples=30)
@given(st.lists(impressions, min_size=1, max_size=3), st.integers(0, 99))
def test_token_features_predict_what_was_bid_on(seen: list[Impression], seed: int) -> None:
    weights = random_weights(seed)
    model = model_for(seen, weights, np.ones(len(seen), np.int32))
    for campaign_idx, one in enumerate(seen):
        p, features = predict(model, 1, campaign_idx, one)
        again, spread = np.zeros(1), np.zeros(1)
        predict_batch(weights[1], features[None, :], again, spread)
        assert again[0] == pytest.approx(p, rel=1e-9)
        assert spread[0] > 0


def test_features_of_many_are_those_of_each() -> None:
    seen = [Impression(i, i % 8, i % 4, 5, 3, i % 64, 1 << i, i, i * 7, i * 11, i, i % 2 == 0) for i in range(1, 9)]
    model = model_for(seen, random_weights(1), np.zeros(8, np.int32))
    out = np.zeros((8, FEATURE_COUNT), np.uint32)
    dims = np.stack([dims_of(one) for one in seen])
    masks = np.array([one.interest_mask for one in seen], np.uint64)
    laotie = np.array([one.laotie for one in seen])
    fill_features(model, np.arange(8, dtype=np.int32), dims, masks, laotie, 5, out)
    assert out.tolist() == [features_of(one) for one in seen]
    fill_features(model, np.zeros(0, np.int32), dims[:0], masks[:0], laotie[:0], 5, out[:0])


@limits(max_examples=60)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(0, 12),
    st.booleans(),
    st.sampled_from([2, 8, SLOTS]),
)
def test_training_is_that_of_the_reference(seed: int, n: int, fake_negatives: bool, slots: int) -> None:
    rng = np.random.default_rng(seed)
    weights_before = random_weights(seed % 97, slots)[0]
    table = fresh_table(weights_before)
    reference = ReferenceModel(slots, {k: (m, v) for k, (m, v) in enumerate(weights_before.tolist())})
    features = rng.integers(0, 2**32, (n, FEATURE_COUNT), dtype=np.uint64).astype(np.uint32)
    labels, weights = (rng.random(n) < 0.3).astype(float), rng.choice([0.0, 0.5, 1.0, 2.0], n)
    out = np.zeros(n)
    train_batch(table, features, labels, weights, fake_negatives, out)
    for t in range(n):
        p = reference.train(features[t].tolist(), bool(labels[t]), float(weights[t]), fake_negatives)
        assert out[t] == pytest.approx(p, rel=1e-6, abs=1e-15)
    for slot, (mean, variance) in reference.weights.items():
        assert table[slot, [SLOT_MEAN, SLOT_VARIANCE]] == pytest.approx([mean, variance], rel=1e-6, abs=1e-9)
        assert table[slot, SLOT_ROWS] == len(reference.means.get(slot, []))
    if n:
        again, spread = np.zeros(n), np.zeros(n)
        predict_batch(table, features, again, spread)
        expected = [reference.probability(row) for row in features.tolist()]
        assert again == pytest.approx(expected, rel=1e-6, abs=1e-15)


def test_averages_take_the_last_rows_as_well_after_very_many() -> None:
    table = fresh_table(np.tile(np.array([[0.0, 1.0]], np.float32), (2, 1)))
    table[:, SLOT_ROWS] = 2 * MOST_AVERAGED_ROWS
    train_batch(table, np.zeros((1, FEATURE_COUNT), np.uint32), np.ones(1), np.ones(1), False, np.zeros(1))
    assert table[0, SLOT_ROWS] == MOST_AVERAGED_ROWS
    assert 0 < table[0, SLOT_AVERAGE] < table[0, SLOT_MEAN]


def test_training_survives_the_most_surprising_labels() -> None:
    table = fresh_table(np.tile(np.array([[-100.0, 1.0]], np.float32), (SLOTS, 1))).astype(np.float32)
    features = np.arange(FEATURE_COUNT, dtype=np.uint32)[None, :].repeat(50, axis=0)
    train_batch(table, features, np.ones(50), np.full(50, 100.0), False, np.zeros(50))
    assert np.isfinite(table).all()
    assert (table[:, SLOT_VARIANCE] > 0).all()


def test_forgetting_returns_variance_to_the_prior_and_leaves_means() -> None:
    table = fresh_table(random_weights(4)[0])
    was = table.copy()
    forget(table, 0.1, PRIOR_VARIANCE)
    others = [SLOT_AVERAGE, SLOT_MEAN, SLOT_ROWS]
    np.testing.assert_array_equal(table[:, others], was[:, others])
    np.testing.assert_allclose(1 / table[:, SLOT_VARIANCE], 0.9 / was[:, SLOT_VARIANCE] + 0.1 / PRIOR_VARIANCE)
    forget(table, 1.0, PRIOR_VARIANCE)
    np.testing.assert_allclose(table[:, SLOT_VARIANCE], PRIOR_VARIANCE)


@given(st.floats(-40, 40))
@limits(deadline=None)
def test_normal_cdf_is_close_to_erfc(z: float) -> None:
    assert normal_cdf(z) == pytest.approx(tail_cdf(z), rel=CDF_TOLERANCE, abs=0)


def test_normal_cdf_grows_and_meets_its_nodes() -> None:
    nodes = np.arange(-CDF_LIMIT, CDF_LIMIT, 1 / CDF_STEPS)
    between = np.sort(np.r_[nodes, nodes + 0.3 / CDF_STEPS, CDF_LIMIT, -CDF_LIMIT - 1e-9])
    values = [normal_cdf(float(z)) for z in between]
    assert all(b >= a for a, b in pairwise(values))
    assert [normal_cdf(float(z)) for z in nodes[::64]] == pytest.approx(
        [tail_cdf(float(z)) for z in nodes[::64]], rel=1e-14
    )
