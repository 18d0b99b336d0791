"""Landscapes learned from feedback against known price distributions."""

from __future__ import annotations

from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest

from auction.landscape.kernels import build_envelope, win_probability
from auction.landscape.landscape import LandscapeLearner, LandscapeSettings, landscape_idx, price_edges
from auction.landscape.segments import LEAF_COUNT, ROW_COUNT, ancestry, parent_rows
from pacing.facts import FEEDBACK

KINDS = ("full", "on_win", "on_loss", "win_loss")


def draw_prices(rng: np.random.Generator, n: int, level: float = 1.0) -> np.ndarray:
    """Two clusters and a long tail."""
    low = rng.normal(9_000, 300, n)
    high = rng.lognormal(np.log(30_000), 0.5, n)
    return np.maximum(np.where(rng.random(n) < 0.45, low, high) * level, 600).astype(np.int64)


def feedback_of(kind: str, rng: np.random.Generator, prices: np.ndarray, leaf: int | np.ndarray = 0) -> np.ndarray:
    """What bids spread over the range are told in each regime."""
    rows = np.zeros(len(prices), FEEDBACK)
    rows["at"], rows["landscape_idx"] = 1, leaf
    rows["bid_micros"] = np.exp(rng.uniform(np.log(3_000), np.log(120_000), len(prices))).astype(np.int64)
    won = rows["bid_micros"] >= prices
    rows["won"] = won
    told = {"full": won | True, "on_win": won, "on_loss": ~won, "win_loss": won & False}[kind]
    rows["min_bid_to_win_micros"] = np.where(told, prices, -1)
    rows["price_micros"] = np.where(won, rows["bid_micros"], -1)
    return rows


def surplus(bids: np.ndarray, values: np.ndarray, prices: np.ndarray) -> float:
    """Mean surplus of each value's bid against a sample of prices."""
    won = np.searchsorted(np.sort(prices), bids, side="right") / len(prices)
    return float(((values - bids) * won).mean())


def best_surplus(values: np.ndarray, prices: np.ndarray) -> float:
    ordered = np.sort(prices)[:: max(1, len(prices) // 2_000)]
    won = np.searchsorted(np.sort(prices), ordered, side="right") / len(prices)
    return float(np.mean([max(((v - ordered) * won).max(), 0.0) for v in values]))


def shaded(learner: LandscapeLearner, values: np.ndarray, leaf: int = 0) -> np.ndarray:
    from auction.landscape.kernels import shade_batch

    out = np.zeros(len(values), np.int64)
    shade_batch(values, np.zeros(len(values), np.int64), np.full(len(values), leaf, np.int32), learner.snapshot(), out)
    return out


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_feedback_finds_the_distribution(kind: str) -> None:
    rng = np.random.default_rng(5)
    learner = LandscapeLearner()
    for _ in range(10):
        learner.observe(feedback_of(kind, rng, draw_prices(rng, 3_000)))
        learner.refresh()
    prices = draw_prices(rng, 200_000)
    landscape = learner.refresh()
    for bid in (7_000, 12_000, 30_000, 60_000):
        truth = (prices <= bid).mean()
        assert win_probability(bid, 0, landscape) == pytest.approx(truth, abs=0.06 if kind == "win_loss" else 0.035)
    values = rng.uniform(8_000, 90_000, 300)
    share = surplus(shaded(learner, values), values, prices) / best_surplus(values, prices)
    assert share >= (0.95 if kind == "win_loss" else 0.975)


def test_mixed_feedback_is_used_together() -> None:
    rng = np.random.default_rng(6)
    learner = LandscapeLearner()
    for kind in KINDS:
        learner.observe(feedback_of(kind, rng, draw_prices(rng, 5_000)))
    landscape, prices = learner.refresh(), draw_prices(rng, 200_000)
    for bid in (7_000, 12_000, 30_000, 60_000):
        assert win_probability(bid, 0, landscape) == pytest.approx((prices <= bid).mean(), abs=0.04)


def test_sparse_segments_lean_on_their_parents_and_rich_ones_on_themselves() -> None:
    rng = np.random.default_rng(7)
    learner = LandscapeLearner()
    rich, poor = (int(landscape_idx(np.array([2]), np.array([0]), hour)[0]) for hour in (9, 21))
    other = int(landscape_idx(np.array([5]), np.array([0]), 9)[0])
    learner.observe(feedback_of("full", rng, draw_prices(rng, 8_000), rich))
    learner.observe(feedback_of("full", rng, draw_prices(rng, 8_000, level=3.0), other))
    landscape = learner.refresh()
    truth = (draw_prices(rng, 100_000) <= 12_000).mean()
    tripled = (draw_prices(rng, 100_000, level=3.0) <= 12_000).mean()
    assert win_probability(12_000, rich, landscape) == pytest.approx(truth, abs=0.03)
    assert win_probability(12_000, other, landscape) == pytest.approx(tripled, abs=0.03)
    # Nothing was seen of placement 2 in the evening: it takes after placement 2, not after placement 5.
    assert win_probability(12_000, poor, landscape) == pytest.approx(truth, abs=0.03)


def test_memory_shortens_when_prices_move() -> None:
    rng = np.random.default_rng(8)
    moving, still = LandscapeLearner(), LandscapeLearner()
    for step in range(40):
        moving.observe(feedback_of("full", rng, draw_prices(rng, 1_000, level=1.0 if step < 34 else 2.0)))
        moving.refresh()
        still.observe(feedback_of("full", rng, draw_prices(rng, 1_000)))
        still.refresh()
    now = (draw_prices(rng, 100_000, level=2.0) <= 15_000).mean()
    before = (draw_prices(rng, 100_000) <= 15_000).mean()
    assert abs(win_probability(15_000, 0, moving.snapshot()) - now) < 0.25 * abs(before - now)
    assert win_probability(15_000, 0, still.snapshot()) == pytest.approx(before, abs=0.02)


def test_after_a_jump_of_the_level_the_shape_need_not_be_learned_again() -> None:
    lost = np.zeros(2)
    for seed in range(5):
        rng = np.random.default_rng(seed)
        old, young = (LandscapeLearner(LandscapeSettings(exploration=0.0)) for _ in range(2))
        for _ in range(20):
            old.observe(feedback_of("win_loss", rng, draw_prices(rng, 1_000)))
            old.refresh()
        for _ in range(3):
            rows = feedback_of("win_loss", rng, draw_prices(rng, 150, level=1.6))
            for learner in (old, young):
                learner.observe(rows)
                learner.refresh()
        values, prices = rng.uniform(8_000, 90_000, 300), draw_prices(rng, 50_000, level=1.6)
        best = best_surplus(values, prices)
        lost += [1.0 - surplus(shaded(learner, values), values, prices) / best for learner in (old, young)]
    assert lost[0] / 5 < 0.05
    assert lost[0] < 0.6 * lost[1]


def test_where_prices_are_smooth_few_auctions_tell_much() -> None:
    rng = np.random.default_rng(16)
    learner = LandscapeLearner()
    for _ in range(15):
        learner.observe(feedback_of("win_loss", rng, rng.lognormal(np.log(20_000), 0.6, 100).astype(np.int64)))
        landscape = learner.refresh()
    for bid in (8_000, 12_000, 20_000, 30_000, 50_000):
        truth = NormalDist(np.log(20_000), 0.6).cdf(np.log(bid))
        assert win_probability(bid, 0, landscape) == pytest.approx(truth, abs=0.04)


def test_leaves_that_nothing_was_told_of_are_alike() -> None:
    rng = np.random.default_rng(17)
    learner = LandscapeLearner()
    told = int(landscape_idx(np.array([3]), np.array([0]), 9)[0])
    learner.observe(feedback_of("full", rng, draw_prices(rng, 2_000), told))
    landscape = learner.refresh()
    for leaf in set(range(LEAF_COUNT)) - {told}:
        count = landscape.piece_counts[leaf]
        starts, bids = np.zeros(count + 1000), np.zeros(count + 1000, np.int64)
        assert build_envelope(learner.edges_micros, landscape.win_probs[leaf], starts, bids) == count
        np.testing.assert_array_equal(landscape.piece_from_micros[leaf, :count], starts[:count])
        np.testing.assert_array_equal(landscape.piece_bids_micros[leaf, :count], bids[:count])
        sibling = leaf ^ 1 if leaf ^ 1 != told else leaf ^ 2
        np.testing.assert_array_equal(landscape.win_probs[leaf], landscape.win_probs[sibling])


def test_a_price_at_the_floor_tells_only_that_nobody_bid_more() -> None:
    rng = np.random.default_rng(11)
    learner, prices = LandscapeLearner(), draw_prices(rng, 6_000)
    rows = feedback_of("full", rng, prices)
    rows["floor_micros"] = np.minimum(rng.choice([0, 15_000, 25_000], 6_000), rows["bid_micros"])
    rows["min_bid_to_win_micros"] = np.maximum(prices, rows["floor_micros"])
    learner.observe(rows)
    landscape = learner.refresh()
    for bid in (7_000, 12_000, 20_000, 60_000):
        assert win_probability(bid, 0, landscape) == pytest.approx((prices <= bid).mean(), abs=0.02)


def test_bids_between_two_edges_tell_no_more_than_they_do() -> None:
    # All prices lie in one bin, and so do all bids: half of them win.
    learner = LandscapeLearner(LandscapeSettings(bins=16))
    low, high = learner.edges_micros[8:10].tolist()
    rows = np.zeros(2_000, FEEDBACK)
    rows["at"], rows["min_bid_to_win_micros"], rows["price_micros"] = 1, -1, -1
    rows["bid_micros"], rows["won"] = (low + high) // 2, np.arange(2_000) % 2
    learner.observe(rows)
    evidence = learner._evidence
    assert (evidence.fresh_wins[0, 9], evidence.fresh_losses[0, 8]) == (1_000, 1_000)
    landscape = learner.refresh()
    assert win_probability(low, 0, landscape) < 0.1
    assert win_probability(high, 0, landscape) > 0.9


def test_what_is_above_all_bids_is_expected_to_go_on_as_it_did() -> None:
    rng = np.random.default_rng(12)
    learner, prices = LandscapeLearner(), rng.lognormal(np.log(20_000), 0.6, 4_000).astype(np.int64)
    rows = feedback_of("on_win", rng, prices)
    rows["bid_micros"] = np.exp(rng.uniform(np.log(5_000), np.log(20_000), 4_000)).astype(np.int64)
    rows["won"] = rows["bid_micros"] >= prices
    rows["min_bid_to_win_micros"] = np.where(rows["won"] == 1, prices, -1)
    rows["price_micros"] = np.where(rows["won"] == 1, rows["bid_micros"], -1)
    learner.observe(rows)
    landscape = learner.refresh()
    for bid in (12_000, 25_000, 35_000):
        truth = NormalDist(np.log(20_000), 0.6).cdf(np.log(bid))
        assert win_probability(bid, 0, landscape) == pytest.approx(truth, abs=0.06)


def test_only_where_no_prices_are_told_bids_are_scattered() -> None:
    values = np.geomspace(15_000, 90_000, 60)
    for kind in ("on_loss", "win_loss"):
        rng = np.random.default_rng(13)
        still = LandscapeLearner(LandscapeSettings(exploration=0.0))
        scattered = [LandscapeLearner(), LandscapeLearner(LandscapeSettings(exploration=3.0))]
        rows = feedback_of(kind, rng, draw_prices(rng, 3_000))
        made = []
        for learner in (still, *scattered):
            learner.observe(rows[:1_500])
            learner.refresh()
            learner.observe(rows[1_500:])
            made.append(shaded(learner, values))
        assert (made[0] == made[1]).all() == (kind != "win_loss")
        assert (made[0] == made[2]).all() == (kind != "win_loss")
        again = LandscapeLearner()
        again.observe(rows[:1_500])
        again.refresh()
        again.observe(rows[1_500:])
        assert (shaded(again, values) == made[1]).all(), "the same feedback, the same bids"


def test_an_auction_that_is_told_as_won_and_again_as_billed_teaches_once() -> None:
    rng = np.random.default_rng(14)
    rows = feedback_of("win_loss", rng, draw_prices(rng, 3_000))
    billed = rows[rows["won"] == 1].copy()
    billed["exposed"] = 1
    told, told_again, billed_only = LandscapeLearner(), LandscapeLearner(), LandscapeLearner()
    told.observe(rows)
    assert told_again.observe(np.concatenate([rows, billed])) == told.observed
    assert told_again.observe(billed[:9]) == 0
    billed_only.observe(np.concatenate([rows[rows["won"] == 0], billed]))
    expected = told.refresh().win_probs
    for learner in (told_again, billed_only):
        np.testing.assert_array_equal(learner.refresh().win_probs, expected)


def test_rows_that_tell_nothing_are_passed_over() -> None:
    learner = LandscapeLearner()
    rows = np.zeros(5, FEEDBACK)
    rows["at"] = [2, 1, 1, 1, 1]
    rows["bid_micros"] = [9_000, 0, 9_000, 10, 10**15]
    rows["landscape_idx"] = [0, 0, LEAF_COUNT, 0, 0]
    rows["min_bid_to_win_micros"], rows["price_micros"] = -1, -1
    before = learner.refresh()
    assert learner.observe(rows) == 0
    assert learner.observe(rows[:0]) == 0
    np.testing.assert_array_equal(learner.refresh().win_probs, before.win_probs)


def test_published_landscapes_are_not_written_again() -> None:
    rng = np.random.default_rng(9)
    learner = LandscapeLearner()
    first = learner.snapshot()
    copy = first.win_probs.copy()
    learner.observe(feedback_of("full", rng, draw_prices(rng, 500)))
    second = learner.snapshot()
    assert second is not first
    assert learner.snapshot() is second
    np.testing.assert_array_equal(first.win_probs, copy)


def test_state_is_saved_and_refused_when_it_does_not_fit(tmp_path: Path) -> None:
    rng = np.random.default_rng(10)
    learner, other = LandscapeLearner(), LandscapeLearner()
    learner.observe(feedback_of("on_win", rng, draw_prices(rng, 900)))
    learner.refresh()
    learner.observe(feedback_of("on_win", rng, draw_prices(rng, 900)))
    learner.save(tmp_path / "prices.npz")
    other.load(tmp_path / "prices.npz")
    np.testing.assert_array_equal(other.refresh().piece_bids_micros, learner.refresh().piece_bids_micros)
    with pytest.raises(ValueError, match="other bins"):
        LandscapeLearner(LandscapeSettings(bins=128)).load(tmp_path / "prices.npz")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"lowest_micros": 0}, "lowest_micros 0"),
        ({"lowest_micros": 9, "highest_micros": 9}, "not ascending"),
        ({"bins": 1}, "bins 1"),
        ({"half_lives": ()}, "half_lives"),
        ({"strength": 0.0}, "not positive"),
        ({"level_half_life": 0.0}, "level_half_life 0"),
        ({"level_walk": 0.0}, "level_walk 0"),
        ({"level_jumps": 1.0}, "level_jumps 1"),
        ({"exploration": -0.1}, "exploration -0.1"),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        LandscapeSettings(**changes)  # type: ignore[arg-type]


def test_edges_that_would_coincide_are_refused() -> None:
    with pytest.raises(ValueError, match="more than whole micros"):
        price_edges(LandscapeSettings(lowest_micros=1, highest_micros=40, bins=256))


def test_segments_form_a_tree() -> None:
    parents = parent_rows()
    assert parents[-1] == -1
    assert (parents[:-1] > np.arange(ROW_COUNT - 1)).all()
    assert (ancestry()[:, -1] == ROW_COUNT - 1).all()
    tiers = np.zeros(512, np.int32)
    tiers[7] = 3
    idx = landscape_idx(np.array([0, 15, 15]), np.array([0, 7, 511]), 23, tiers)
    assert idx.tolist() == [28, LEAF_COUNT - 1, LEAF_COUNT - 4]
    assert parents[idx[1]] == parents[idx[2]]
