"""`bench reach`, tiny: brute force means what expressions mean, and a broken promise is counted."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import reach
from benchmarks.output import progress
from benchmarks.workload import draw_targetings
from targeting.attributes import INTEREST_COUNT, STORED_DIMENSION_COUNT
from targeting.expressions import ViewerFacts, matches
from targeting.reach import counter as counter_module
from targeting.reach.counter import Reach

TINY = 2_000


@pytest.fixture(scope="module")
def world():
    with progress(2, "world") as bar:
        return reach.make_world(TINY, bar)


def test_brute_force_means_what_expressions_mean(world: reach.World) -> None:
    rng = np.random.default_rng(3)
    for targeting in draw_targetings(20, 1):
        mask = reach.brute_mask(world, targeting)
        for row in rng.choice(TINY, 10):
            bits = int(world.audience.interest_masks[row])
            codes = [*world.audience.attributes[row].tolist()]
            suits = {**dict.fromkeys(range(64), 0)}
            assert len(codes) == STORED_DIMENSION_COUNT and suits
            held = {name for name, rows in world.members.items() if row in rows}
            interests = frozenset(k for k in range(INTEREST_COUNT) if bits >> k & 1)
            told = [
                matches(targeting, ViewerFacts((*codes, category, 0), interests, frozenset(held)), 5)
                for category in range(64)
            ]
            assert mask[row] == any(told)


@pytest.mark.parametrize("sampled_from", [1, 10**9])
def test_counts_beside_brute_force(world: reach.World, monkeypatch: pytest.MonkeyPatch, sampled_from: int) -> None:
    monkeypatch.setattr(counter_module, "SAMPLED_FROM", sampled_from)
    with progress(12, "reach") as bar:
        counted = reach.count_all(world, draw_targetings(12, 1), bar)
    figures = reach.figures_of(counted)
    assert figures["audiences"] == 12 and figures["promises_broken"] == 0
    assert all(one.told == Reach(one.true, 0) for one in counted)  # under EXACT_BELOW
    assert isinstance(figures["p50_us"], float) and figures["p50_us"] > 0


def test_a_broken_promise_is_counted() -> None:
    right = reach.Counted(Reach(102_900, 9_000), 100_000, 1.0, 1.0, 1.0)
    wrong = reach.Counted(Reach(103_100, 9_000), 100_000, 1.0, 1.0, 1.0)
    narrow = reach.Counted(Reach(49_999, 10), 50_000, 1.0, 1.0, 1.0)
    assert reach.figures_of([right, wrong, narrow])["promises_broken"] == 2
