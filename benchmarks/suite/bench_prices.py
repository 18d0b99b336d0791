"""Shading 1,000 first-price bids against learned landscapes, and learning from 4,000 auctions."""

from __future__ import annotations

import numpy as np
from pytest_benchmark.fixture import BenchmarkFixture

from auction.landscape.kernels import shade_batch
from auction.landscape.landscape import LandscapeLearner
from auction.landscape.segments import LEAF_COUNT
from pacing.facts import FEEDBACK, AuctionType

AUCTIONS = 4_000
BIDS = 1_000


def auctions(rng: np.random.Generator) -> np.ndarray:
    """Feedback of auctions whose least winning bids lie in two clusters."""
    rows = np.zeros(AUCTIONS, FEEDBACK)
    least = np.exp(rng.normal(np.where(rng.random(AUCTIONS) < 0.5, 9.0, 10.5), 0.3))
    rows["at"] = AuctionType.FIRST_PRICE
    rows["landscape_idx"] = rng.integers(0, LEAF_COUNT, AUCTIONS)
    rows["bid_micros"] = np.exp(rng.uniform(8.0, 11.5, AUCTIONS))
    rows["min_bid_to_win_micros"] = least
    rows["won"] = rows["bid_micros"] >= rows["min_bid_to_win_micros"]
    rows["price_micros"] = np.where(rows["won"] == 1, rows["bid_micros"], -1)
    return rows


def test_shade_1000(benchmark: BenchmarkFixture) -> None:
    """Bid on them; every bid lies between floor and value."""
    rng = np.random.default_rng(1)
    learner = LandscapeLearner()
    learner.observe(auctions(rng))
    landscape = learner.refresh()
    values = np.exp(rng.uniform(8.0, 12.0, BIDS))
    floors = np.full(BIDS, 1_000, np.int64)
    rows = rng.integers(0, LEAF_COUNT, BIDS).astype(np.int32)
    bids = np.empty(BIDS, np.int64)
    shade_batch(values, floors, rows, landscape, bids)
    benchmark(shade_batch, values, floors, rows, landscape, bids)
    assert (bids >= floors).all()
    assert (bids <= values).all()
    assert len(np.unique(bids)) > 10


def test_observe_4000_and_refresh(benchmark: BenchmarkFixture) -> None:
    """Learn from them, and publish."""
    rows = auctions(np.random.default_rng(2))
    learner = LandscapeLearner()

    def learn() -> int:
        told = learner.observe(rows)
        learner.refresh()
        return told

    learn()
    assert benchmark(learn) == AUCTIONS
