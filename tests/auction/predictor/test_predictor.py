"""The predictor learns, calibrates, forgets, and comes back from disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from auction.predictor.features import FEATURE_COUNT, NOISE_VARIANCE, SCALES, TABLE_SIZE, Feature
from auction.predictor.kernels import hash_feature
from auction.predictor.predictor import Predictor, write_state
from auction.predictor.settings import INITIAL_RATES, PredictorSettings, goal_row, goal_rows
from pacing.clocks import MS_PER_DAY
from pacing.facts import Goal

BIAS = np.uint32(hash_feature(int(Feature.BIAS), np.uint64(0)))


def stream(seed: int, n: int, rate: float = 0.03) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hashes, labels and true probabilities of a world that is probit in the features."""
    rng = np.random.default_rng(seed)
    sizes = np.array([1, 30, 7, 4, 24, 5, 12, 12, 20, 10, 28, 200, 70, 20, 24, 60])
    codes = (rng.random((n, FEATURE_COUNT)) ** 1.7 * sizes).astype(np.int64)
    hashes = np.empty((n, FEATURE_COUNT), np.uint32)
    score = np.full(n, -np.sqrt(2) * _inverse_erfc(2 * rate))
    for j in range(FEATURE_COUNT):
        values = np.array([hash_feature(40 + j, np.uint64(code)) for code in range(sizes[j])], np.uint32)
        hashes[:, j] = values[codes[:, j]]
        if j:
            score += (rng.normal(0, SCALES[j], sizes[j]))[codes[:, j]]
    hashes[:, 0] = BIAS
    p = _phi(score / np.sqrt(NOISE_VARIANCE))
    return hashes, (rng.random(n) < p).astype(np.float64), p


def _phi(x: np.ndarray) -> np.ndarray:
    from scipy.special import ndtr

    return np.asarray(ndtr(x))


def _inverse_erfc(x: float) -> float:
    from scipy.special import erfcinv

    return float(erfcinv(x))


def log_loss(p: np.ndarray, labels: np.ndarray) -> float:
    return float(-np.mean(np.where(labels > 0.5, np.log(p), np.log1p(-p))))


def test_an_unknown_impression_has_the_configured_rate() -> None:
    predictor = Predictor(PredictorSettings(initial_rates={Goal.FANS: 0.02}))
    unknown = np.random.default_rng(1).integers(0, 2**32, (40, FEATURE_COUNT), dtype=np.uint64).astype(np.uint32)
    unknown[:, 0] = BIAS
    for goal, rate in ((Goal.FANS, 0.02), (Goal.ORDERS, INITIAL_RATES[Goal.ORDERS])):
        p, spread = predictor.predict(goal, unknown)
        np.testing.assert_allclose(p, rate, rtol=1e-4)
        assert (spread > 0.1).all()


def test_learning_comes_near_the_log_loss_of_the_truth() -> None:
    features, labels, truth = stream(2, 150_000)
    predictor = Predictor(PredictorSettings(initial_rates={Goal.FANS: 0.02}))
    p = predictor.train(Goal.FANS, features, labels)
    late = slice(75_000, None)
    best, base = log_loss(truth[late], labels[late]), labels[late].mean()
    entropy = log_loss(np.full(75_000, base), labels[late])
    learned = log_loss(p[late], labels[late])
    # Most of what can be known is known.
    assert learned < best + 0.3 * (entropy - best)
    assert p[late].sum() == pytest.approx(truth[late].sum(), rel=0.04)
    for campaign in np.unique(features[:, 6])[:6]:
        mine = features[late, 6] == campaign
        if truth[late][mine].sum() > 150:
            assert p[late][mine].sum() == pytest.approx(truth[late][mine].sum(), rel=0.12)


def test_features_that_always_come_together_do_not_make_predictions_scatter() -> None:
    rng = np.random.default_rng(8)
    creators, rows_each = 8, 20_000
    creator = rng.permutation(np.repeat(np.arange(creators), rows_each))
    codes = np.tile(creator[:, None], (1, FEATURE_COUNT)) * 1_000 + np.arange(FEATURE_COUNT)
    features = (codes * 2_654_435_761 % 2**32).astype(np.uint32)
    features[:, :6] = BIAS
    happened = rng.random(len(creator)) < 0.015
    predictor = Predictor(PredictorSettings(initial_rates={Goal.FANS: 0.015}))
    predictor.train(Goal.FANS, features, happened)
    p, _ = predictor.predict(Goal.FANS, features)
    told = np.bincount(creator, p) / rows_each
    came = np.bincount(creator, happened) / rows_each
    # The means that the pass ends with scatter by a tenth around what was observed.
    assert np.log(told / came).std() < 0.05


def test_a_log_pretrains_and_tells_its_loss() -> None:
    features, labels, _ = stream(3, 20_000)
    predictor = Predictor()
    first = predictor.train_log(Goal.FANS, features, labels)
    assert predictor.train_log(Goal.FANS, features, labels) < first
    assert predictor.trained == 40_000
    assert predictor.train_log(Goal.FANS, features[:0], labels[:0]) == 0.0


def test_fake_negatives_leave_no_bias_even_for_frequent_events() -> None:
    rng = np.random.default_rng(4)
    n = 30_000
    features = np.repeat(rng.integers(0, 2**32, (1, FEATURE_COUNT), dtype=np.uint64).astype(np.uint32), n, axis=0)
    happened = rng.random(n) < 0.4
    # Every impression as a negative, every event as a further positive, some time later.
    times = np.concatenate([np.arange(n), np.flatnonzero(happened) + 500])
    labels = np.concatenate([np.zeros(n), np.ones(happened.sum())])
    order = np.argsort(times, kind="stable")
    predictor = Predictor()
    rows = np.repeat(features[:1], len(labels), axis=0)
    p = predictor.train(Goal.PLAYS, rows, labels[order], fake_negatives=True)
    assert p[-5_000:].mean() == pytest.approx(0.4, abs=0.03)


def test_snapshots_do_not_change_and_carry_the_campaigns_goal() -> None:
    predictor = Predictor()
    ids = np.array([5, 6], np.uint64)
    goals = np.array([int(Goal.FANS), int(Goal.KEPT_FANS)], np.uint8)
    model = predictor.snapshot(ids, ids, ids, np.array([3, 0]), goals)
    weights = model.weights.copy()
    features, labels, _ = stream(5, 500)
    predictor.train(Goal.FANS, features, labels)
    np.testing.assert_array_equal(model.weights, weights)
    later = predictor.snapshot(ids, ids, ids, np.array([3, 0]), goals)
    assert (later.weights != weights).any()
    assert predictor.snapshot(ids, ids, ids, np.array([3, 0]), goals).weights is later.weights
    empty = predictor.snapshot(ids[:0], ids[:0], ids[:0], np.zeros(0), goals[:0])
    assert empty.sums.shape == (0, 4, 2)


def test_kept_fans_are_fans_that_are_kept() -> None:
    predictor = Predictor(PredictorSettings(kept_share=0.6))
    assert goal_row(Goal.KEPT_FANS) == goal_row(Goal.FANS)
    assert goal_rows(np.array([1, 7], np.uint8)).tolist() == [0, 1]
    factors = predictor.calibration_factors(np.array([2, 7]), np.array([9, 9], np.uint64))
    np.testing.assert_allclose(factors, [1.0, 1.0])
    unknown = np.arange(16, dtype=np.uint32)[None, :]
    unknown[0, 0] = hash_feature(int(Feature.BIAS), np.uint64(0))
    kept, kept_sd = predictor.kept_probability(np.array([9], np.uint64), unknown)
    assert kept[0] == pytest.approx(0.6, abs=1e-6) and kept_sd[0] > 0.1
    with pytest.raises(ValueError, match="0 is not a valid Goal"):
        goal_row(0)


def test_a_viewer_who_had_impressions_before_is_discounted_and_nobody_is_praised() -> None:
    predictor = Predictor()
    fresh = predictor.earlier_discounts()
    assert (fresh.by_goal == 1).all() and (fresh.means == 1).all()
    ids, sure = np.ones(4_000, np.uint64), np.full(4_000, 0.001)
    earlier = np.repeat(np.arange(4, dtype=np.uint8), 1_000)
    predictor.count_expected(Goal.FANS, ids, np.full(4_000, 0.5), sure, earlier)
    came = np.concatenate([np.full(count, level) for level, count in enumerate((600, 500, 400, 450))]).astype(np.uint8)
    predictor.count_observed(Goal.FANS, ids[: len(came)], sure[: len(came)], came)
    told = predictor.earlier_discounts()
    fans = told.by_goal[goal_row(Goal.FANS)]
    assert fans[0] == 1.0 and (np.diff(fans[:3]) < 0).all() and fans[2] < fans[3] < 1.0
    assert told.means[goal_row(Goal.FANS)] == pytest.approx(fans[:4].mean())
    assert (np.delete(told.by_goal, goal_row(Goal.FANS), axis=0) == 1).all()
    # The factor is that of the viewers who answer best; kept fans share the follows'.
    goals = np.array([int(Goal.FANS), int(Goal.KEPT_FANS)])
    factors = predictor.calibration_factors(goals, np.array([9, 9], np.uint64))
    most = predictor.calibration.earlier_factors(int(Goal.FANS)).max()
    assert factors[0] == pytest.approx(predictor.calibration.goal_factor(int(Goal.FANS)) * most)
    assert factors[1] == factors[0]


def test_forgetting_makes_learned_weights_move_again() -> None:
    features, labels, _ = stream(6, 5_000)
    predictor = Predictor(PredictorSettings(forget_per_day=0.3))
    predictor.train(Goal.FANS, features, labels)
    _, spread = predictor.predict(Goal.FANS, features[:50])
    predictor.forget(2 * MS_PER_DAY)
    _, wider = predictor.predict(Goal.FANS, features[:50])
    assert (wider > spread).all()
    predictor.forget(0)
    np.testing.assert_array_equal(predictor.predict(Goal.FANS, features[:50])[1], wider)


def test_state_comes_back_and_strange_state_is_refused(tmp_path: Path) -> None:
    features, labels, _ = stream(7, 3_000)
    predictor, other = Predictor(), Predictor()
    p = predictor.train(Goal.FANS, features, labels)
    ids = np.arange(3_000, dtype=np.uint64) % 5
    earlier = (np.arange(3_000) % 3).astype(np.uint8)
    predictor.count_expected(Goal.FANS, ids, p, np.full(3_000, 0.1), earlier)
    predictor.count_observed(Goal.FANS, ids[:400], np.full(400, 0.1), np.zeros(400, np.uint8))
    predictor.save(tmp_path / "model.npz")
    other.load(tmp_path / "model.npz")
    np.testing.assert_array_equal(other.predict(Goal.FANS, features)[0], predictor.predict(Goal.FANS, features)[0])
    goals, few = np.full(5, 2), np.arange(5, dtype=np.uint64)
    np.testing.assert_array_equal(other.calibration_factors(goals, few), predictor.calibration_factors(goals, few))
    for mine, copied in zip(predictor.earlier_discounts(), other.earlier_discounts(), strict=True):
        np.testing.assert_array_equal(mine, copied)
    assert other.trained == 3_000

    for name, value, text in (
        ("version", np.array(99), "version 99"),
        ("table_size", np.array(64), f"64 slots, not 5 with {TABLE_SIZE}"),
        ("scales", SCALES * 2, "other feature scales"),
        ("weights", np.full_like(predictor.state()["weights"], np.nan), "not finite"),
    ):
        state = {**predictor.state(), name: value}
        write_state(tmp_path / "strange.npz", state)
        with pytest.raises(ValueError, match=text):
            other.load(tmp_path / "strange.npz")
    np.testing.assert_array_equal(other.predict(Goal.FANS, features)[0], predictor.predict(Goal.FANS, features)[0])


@pytest.mark.parametrize(
    ("features", "labels", "weights", "text"),
    [
        (np.zeros((2, 15), np.uint32), [0, 1], None, r"features \(2, 15\)"),
        (np.zeros((2, 16), np.uint32), [0], None, r"labels \(1,\)"),
        (np.zeros((2, 16), np.uint32), [0, np.nan], None, "not finite"),
        (np.zeros((2, 16), np.uint32), [0, 1], [1, -1], "not in 0..100"),
    ],
)
def test_bad_examples_are_refused_and_teach_nothing(
    features: np.ndarray, labels: list[float], weights: list[float] | None, text: str
) -> None:
    predictor = Predictor()
    before = predictor.state()["weights"]
    with pytest.raises(ValueError, match=text):
        predictor.train(Goal.FANS, features, np.array(labels), None if weights is None else np.array(weights))
    np.testing.assert_array_equal(predictor.state()["weights"], before)


def test_settings_out_of_range_are_refused() -> None:
    for changes, text in (
        ({"initial_rates": {Goal.FANS: 0.0}}, r"initial_rates\[FANS\]"),
        ({"kept_share": 0.0}, "kept_share"),
        ({"forget_per_day": 1.0}, "forget_per_day"),
    ):
        with pytest.raises(ValueError, match=text):
            PredictorSettings(**changes)  # type: ignore[arg-type]
