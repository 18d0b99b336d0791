"""Learning from, and predicting, rows of 16 hashed features."""

from __future__ import annotations

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from auction.predictor.predictor import Predictor
from pacing.facts import MAX_FEATURES, Goal

ROWS = 10_000


@pytest.fixture
def features() -> np.ndarray:
    """Rows with a heavy head, as campaigns and regions have."""
    rng = np.random.default_rng(3)
    return rng.zipf(1.3, (ROWS, MAX_FEATURES)).astype(np.uint32)


def test_train_10k(benchmark: BenchmarkFixture, features: np.ndarray) -> None:
    """Learn that one row in ten is a positive, over and over."""
    labels = (np.arange(ROWS) % 10 == 0).astype(np.float64)
    predictor = Predictor()
    predictor.train(Goal.PLAYS, features, labels)
    benchmark(predictor.train, Goal.PLAYS, features, labels)
    probabilities, _ = predictor.predict(Goal.PLAYS, features)
    assert 0.05 < probabilities.mean() < 0.2


def test_predict_10k(benchmark: BenchmarkFixture, features: np.ndarray) -> None:
    """Predict them with a fresh model: the same rate for nearly all."""
    predictor = Predictor()
    predictor.predict(Goal.FANS, features)
    probabilities, spread = benchmark(predictor.predict, Goal.FANS, features)
    assert ((probabilities > 0) & (probabilities < 1)).all()
    assert (spread > 0).all()
