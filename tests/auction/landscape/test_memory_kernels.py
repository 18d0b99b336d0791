"""The compiled refresh of landscapes against its plain meaning."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auction.landscape.exploration.reference import draw_win_probs
from auction.landscape.kernels import SURE, build_envelope, estimate_win_probs
from auction.landscape.level.reference import walked
from auction.landscape.memory import reference
from auction.landscape.memory.kernels import ESTIMATES, Evidence, log_likelihood, refresh_landscapes

pytestmark = pytest.mark.kernels

PARENTS = [2, 2, 3, -1]
HALF_LIVES = [20.0, 200.0]
LEVEL_HALF_LIFE, LEVEL_VARIANCE, LEVEL_JUMPS, REACH = 1_000.0, 0.01, 1e-3, 2
STRENGTH, SCORE_HALF_LIFE, ROUNDS, SPREAD = 5.0, 50.0, 10, 0.4


def estimate(
    exact: Sequence[float], wins: Sequence[float], losses: Sequence[float], prior: Sequence[float]
) -> list[float]:
    out = np.empty(len(wins))
    columns = [np.array(column, np.float64) for column in (exact, wins, losses, prior)]
    estimate_win_probs(*columns, STRENGTH, ROUNDS, out)
    return list(out.tolist())


def family(bins: int) -> np.ndarray:
    """Three distributions, one of which takes some prices for impossible."""
    steps = np.arange(1, bins + 1) / (bins + 1)
    return np.stack([steps**2, np.sqrt(steps), np.minimum(2 * steps, 1.0)])


def empty(bins: int) -> Evidence:
    members = family(bins)
    masses = np.diff(members, axis=1, prepend=0.0, append=1.0)
    rows, memories, root = len(PARENTS), len(HALF_LIVES) + 1, np.arange(1, bins + 1) / (bins + 1)
    level_probs = np.zeros((rows, 2 * REACH + 1))
    level_probs[:, REACH] = 1.0
    return Evidence(
        parents=np.array(PARENTS, np.int32),
        root_win_probs=root,
        half_lives=np.array([*HALF_LIVES, LEVEL_HALF_LIFE]),
        family_win_probs=members,
        family_log_masses=np.log(np.maximum(masses, SURE)).T.copy(),
        family_log_wins=np.log(np.maximum(members, SURE)).T.copy(),
        family_log_losses=np.log(np.maximum(1.0 - members, SURE)).T.copy(),
        exact=np.zeros((memories, rows, bins + 1)),
        wins=np.zeros((memories, rows, bins)),
        losses=np.zeros((memories, rows, bins)),
        told=np.zeros(rows),
        fresh_exact=np.zeros((rows, bins + 1)),
        fresh_wins=np.zeros((rows, bins)),
        fresh_losses=np.zeros((rows, bins)),
        fresh=np.zeros(rows),
        scores=np.zeros((memories, rows, ESTIMATES)),
        win_probs=np.broadcast_to(root, (memories, rows, ESTIMATES, bins)).copy(),
        level_variance=LEVEL_VARIANCE,
        level_jumps=LEVEL_JUMPS,
        level_probs=level_probs,
        shapes=np.broadcast_to(root, (rows, bins)).copy(),
    )


def plain(bins: int) -> list[reference.Landscape]:
    root = [(k + 1) / (bins + 1) for k in range(bins)]

    def nothing() -> reference.Told:
        return reference.Told([0.0] * (bins + 1), [0.0] * bins, [0.0] * bins)

    def walk(level_probs: list[float], count: float) -> list[float]:
        steps = max(math.ceil(0.5 * LEVEL_VARIANCE * count / 0.4), 1)
        return walked(level_probs, steps, 0.5 * LEVEL_VARIANCE * count / steps, 1 - (1 - LEVEL_JUMPS) ** count)

    def memories() -> list[reference.Memory]:
        there = [0.0] * REACH + [1.0] + [0.0] * REACH
        moving = reference.MovingMemory(LEVEL_HALF_LIFE, nothing(), level_probs=there, walk=walk, shape=root)
        return [*(reference.Memory(length, nothing()) for length in HALF_LIVES), moving]

    return [reference.Landscape(parent, memories(), nothing()) for parent in PARENTS]


@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**32 - 1),
    bins=st.sampled_from([1, 2, 7]),
    rounds=st.integers(1, 4),
    prices_are_told=st.booleans(),
)
def test_refresh_means_what_the_reference_says(seed: int, bins: int, rounds: int, prices_are_told: bool) -> None:
    rng = np.random.default_rng(seed)
    normals, uniforms = rng.standard_normal(bins), rng.random(bins)
    evidence, landscapes = empty(bins), plain(bins)
    edges = np.cumsum(rng.integers(1, 100, bins)).astype(np.int64)
    out = np.empty((len(PARENTS), bins))
    leaves = 2
    counts, starts, bids = (
        np.empty(leaves, np.int32),
        np.empty((leaves, bins + 1)),
        np.empty((leaves, bins + 1), np.int64),
    )
    for _ in range(rounds):
        for row, landscape in enumerate(landscapes):
            told = [rng.integers(0, 4, size) * (rng.random() < 0.6) for size in (bins + 1, bins, bins)]
            told[0] *= prices_are_told
            fresh = (evidence.fresh_exact, evidence.fresh_wins, evidence.fresh_losses)
            for column, amounts in zip(fresh, told, strict=True):
                column[row] = amounts
            evidence.fresh[row] = sum(amounts.sum() for amounts in told)
            landscape.fresh = reference.Told(*(amounts.astype(float).tolist() for amounts in told))
        columns = (normals, uniforms, SPREAD, out, counts, starts, bids)
        refresh_landscapes(evidence, edges, STRENGTH, SCORE_HALF_LIFE, ROUNDS, *columns)
        root = evidence.root_win_probs.tolist()
        reference.refresh_all(landscapes, root, family(bins).tolist(), STRENGTH, SCORE_HALF_LIFE, estimate)
        for row, landscape in enumerate(landscapes):
            expected = landscape.win_probs
            if row < leaves:
                if sum(landscape.trials) > 0:
                    draws = (normals.tolist(), uniforms.tolist())
                    expected = draw_win_probs(expected, landscape.trials, *draws, 97 * row, SPREAD)
                # A hair may decide between two steps.
                np.testing.assert_allclose(out[row], reference.published(expected), atol=1.01 / 4096)
                assert (out[row] * 4096 == np.rint(out[row] * 4096)).all()
                np.testing.assert_allclose(out[row], expected, atol=0.51 / 4096)
            else:
                np.testing.assert_allclose(out[row], expected, rtol=1e-9, atol=1e-12)
            for m, memory in enumerate(landscape.memories):
                np.testing.assert_allclose(evidence.scores[m, row], memory.scores, rtol=1e-9, atol=1e-9)
                np.testing.assert_allclose(evidence.exact[m, row], memory.told.exact, rtol=1e-9)
                np.testing.assert_allclose(evidence.wins[m, row], memory.told.wins, rtol=1e-9)
                np.testing.assert_allclose(evidence.losses[m, row], memory.told.losses, rtol=1e-9)
        assert not evidence.fresh_exact.any()
    wanted_starts, wanted_bids = np.empty(bins + 1), np.empty(bins + 1, np.int64)
    for leaf in range(leaves):
        pieces = build_envelope(edges, out[leaf], wanted_starts, wanted_bids)
        assert counts[leaf] == pieces
        np.testing.assert_array_equal(bids[leaf, :pieces], wanted_bids[:pieces])
        np.testing.assert_array_equal(starts[leaf, :pieces], wanted_starts[:pieces])


def test_likelihood_holds_no_price_impossible() -> None:
    nothing = np.zeros(2)
    surprised = log_likelihood(np.array([1.0, 0.0, 0.0]), nothing, nothing, np.array([0.0, 1.0]))
    assert surprised == pytest.approx(np.log(SURE))
