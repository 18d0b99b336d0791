"""Draws of F: what they mean, how far they stray, and where they stray to."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auction.landscape.exploration.kernels import SUDDEN, draw_win_probs
from auction.landscape.exploration.reference import draw_win_probs as plain_draw

pytestmark = pytest.mark.kernels


@settings(max_examples=150)
@given(
    seed=st.integers(0, 2**32 - 1),
    bins=st.integers(1, 12),
    shift=st.integers(0, 10**6),
    spread=st.sampled_from([0.0, 0.4, 3.0]),
)
def test_draws_mean_what_the_reference_says(seed: int, bins: int, shift: int, spread: float) -> None:
    rng = np.random.default_rng(seed)
    mean = np.sort(rng.choice(rng.random(5), bins))
    trials = rng.integers(0, 2, bins) * rng.choice([0.3, 5.0, 1e4], bins)
    normals, uniforms = rng.standard_normal(bins), rng.random(bins)
    out = mean.copy()
    draw_win_probs(trials, normals, uniforms, shift, spread, out)
    columns = [column.tolist() for column in (mean, trials, normals, uniforms)]
    np.testing.assert_allclose(out, plain_draw(*columns, shift, spread), atol=1e-7)
    assert (np.diff(out) >= -1e-12).all()
    assert out[0] >= 0 and out[-1] <= 1


def test_draws_come_closer_to_the_mean_with_every_bid_that_was_told_of() -> None:
    rng = np.random.default_rng(1)
    mean = np.linspace(0.05, 0.95, 10)
    spreads = []
    for trials in (10.0, 1_000.0, 100_000.0):
        drawn = np.stack([mean] * 200)
        for row in drawn:
            draw_win_probs(np.full(10, trials), rng.standard_normal(10), rng.random(10), 0, 1.0, row)
        spreads.append((drawn - mean).std())
        assert drawn.mean(axis=0) == pytest.approx(mean, abs=0.2 / trials**0.25)
    assert spreads[0] > 3 * spreads[1] > 9 * spreads[2] > 0


def test_in_a_gap_without_bids_f_rises_anywhere_in_time() -> None:
    trials, mean = np.zeros(40), np.full(40, 0.2)
    trials[[4, 35]], mean[35:] = 1e6, 0.8
    rng, places = np.random.default_rng(2), []
    for _ in range(300):
        row = mean.copy()
        draw_win_probs(trials, np.zeros(40), rng.random(40), 0, 0.4, row)
        places.append(int(np.flatnonzero(row > 0.5)[0]))
    sudden = [place for place in places if place < 35]
    assert len(sudden) / 300 == pytest.approx(SUDDEN, abs=0.1)
    assert set(range(6, 35)) - set(sudden) == set()
