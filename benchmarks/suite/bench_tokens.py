"""Signing and checking the tokens of one request."""

from __future__ import annotations

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from auction.bid.token import TokenKeys, sign_batch, verify_batch
from pacing.facts import DECISION


@pytest.fixture
def decisions() -> np.ndarray:
    """256 decisions that differ."""
    rows = np.zeros(256, DECISION)
    rows["viewer_id"] = np.arange(1, 257)
    rows["bid_micros"] = np.arange(256) * 100
    return rows


def test_sign_256(benchmark: BenchmarkFixture, decisions: np.ndarray) -> None:
    """Sign them; no two MACs are alike."""
    keys = TokenKeys.generate()
    sign_batch(decisions, keys)
    benchmark(sign_batch, decisions, keys)
    assert len(np.unique(decisions["mac"], axis=0)) == len(decisions)


def test_verify_256(benchmark: BenchmarkFixture, decisions: np.ndarray) -> None:
    """Check them; the one that was changed is found."""
    keys = TokenKeys.generate()
    sign_batch(decisions, keys)
    decisions["bid_micros"][7] += 1
    genuine = benchmark(verify_batch, decisions, keys)
    assert np.flatnonzero(~genuine).tolist() == [7]
