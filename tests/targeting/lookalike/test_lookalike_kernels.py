"""The lookalike's kernels against what they mean, on small graphs and tables."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from targeting.lookalike.kernels import (
    COSINE,
    FOLLOWERS_COSINE,
    FROM_SEEDS,
    LATELY_FROM_SEEDS,
    LATELY_TO_SEEDS,
    RECENT_COSINE,
    TO_SEEDS,
)
from targeting.lookalike.links import links_from_times
from targeting.lookalike.picture import Picture
from targeting.lookalike.reference import cosine_to_seeds, idf, linked
from targeting.lookalike.trees.forest import bin_edges, binned
from targeting.lookalike.trees.kernels import LAST_BIN, add_trees, grow_tree
from targeting.lookalike.trees.linear import fit_line
from targeting.lookalike.trees.reference import split_gain, tree_leaf

pytestmark = pytest.mark.kernels

ACCOUNTS = 8
accounts = st.integers(0, ACCOUNTS - 1)
follows_strategy = st.lists(st.tuples(accounts, accounts, st.integers(0, 3)), min_size=1, max_size=40)


@settings(max_examples=30, deadline=None)
@given(
    follows=follows_strategy,
    seeds=st.lists(accounts, min_size=1, max_size=4, unique=True),
    skipped=st.frozensets(accounts, max_size=2),
)
def test_similarities_are_what_they_mean(
    follows: list[tuple[int, int, int]], seeds: list[int], skipped: frozenset[int]
) -> None:
    links = links_from_times(ACCOUNTS, *(np.array(column) for column in zip(*follows, strict=True)))
    picture = Picture(links, max(links.end, 1))
    pairs = list(zip(links.followers.tolist(), links.followed.tolist(), strict=True))
    ages = (picture.cut - 1 - links.windows).tolist()
    recent = {pair: 0.5**age for pair, age in zip(pairs, ages, strict=True)}
    plain = dict.fromkeys(pairs, 1.0)
    made = [idf(ACCOUNTS, sum(start == row for start, _ in pairs)) for row in range(ACCOUNTS)]
    gained = [idf(ACCOUNTS, sum(end == row for _, end in pairs)) for row in range(ACCOUNTS)]
    found = picture.beside(np.array(seeds), skipped=np.array(sorted(skipped), np.int64)).raw
    counted = dict.fromkeys(seeds, 1.0)
    back = {(end, start): 1.0 for start, end in pairs}
    for node in range(ACCOUNTS):
        assert found[node, COSINE] == pytest.approx(cosine_to_seeds(plain, gained, counted, skipped, node))
        assert found[node, RECENT_COSINE] == pytest.approx(cosine_to_seeds(recent, gained, counted, skipped, node))
        assert found[node, FOLLOWERS_COSINE] == pytest.approx(cosine_to_seeds(back, made, counted, frozenset(), node))
        to, by = linked(plain, seeds, node)
        lately_to, lately_by = linked(recent, seeds, node)
        expected = (to, lately_to, *((0.0, 0.0) if node in skipped else (by, lately_by)))
        assert found[node, [TO_SEEDS, LATELY_TO_SEEDS, FROM_SEEDS, LATELY_FROM_SEEDS]] == pytest.approx(expected)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), rows=st.integers(4, 30))
def test_a_tree_begins_with_the_best_split_and_its_leaves_are_newton_steps(seed: int, rows: int) -> None:
    random = np.random.default_rng(seed)
    bins = random.integers(0, 5, (rows, 3)).astype(np.uint8)
    slopes, curvatures = random.standard_normal(rows), random.random(rows) + 0.1
    features, highest = np.zeros(3, np.int32), np.zeros(3, np.uint8)
    leaves, places = np.zeros(4), np.zeros(rows, np.int32)
    grow_tree(bins, slopes, curvatures, np.array([1.0, 0.5, 0.3]), features, highest, leaves, places)

    def gain(feature: int, top: int) -> float:
        return split_gain(bins.tolist(), slopes.tolist(), curvatures.tolist(), (1.0, 0.5), (feature, top))

    best = max(gain(feature, top) for feature in range(3) for top in range(5))
    assert gain(int(features[0]), int(highest[0])) == pytest.approx(best) if best > 1e-9 else highest[0] == LAST_BIN
    scores = np.zeros(rows)
    add_trees(bins, features[None], highest[None], leaves[None], scores)
    for row in range(rows):
        said = tree_leaf(features.tolist(), highest.tolist(), leaves.tolist(), bins[row].tolist())
        assert scores[row] == said == leaves[places[row]]
    for leaf in range(4):
        here = places == leaf
        assert leaves[leaf] == pytest.approx(-0.3 * slopes[here].sum() / (curvatures[here].sum() + 1.0))


def test_bins_count_the_edges_that_a_value_exceeds() -> None:
    values = np.random.default_rng(3).standard_normal((500, 2)).astype(np.float32)
    values[:, 1] = np.round(values[:, 1])
    edges = bin_edges(values)
    assert np.array_equal(binned(values, edges), (values[:, :, None] > edges[None]).sum(axis=2))
    assert np.bincount(binned(values, edges)[:, 0]).max() < 20


def test_a_line_finds_the_odds_it_was_drawn_from() -> None:
    random = np.random.default_rng(5)
    values = random.standard_normal((20_000, 3)).astype(np.float32) * [1.0, 10.0, 0.0] + [0.0, 50.0, 2.0]
    log_odds = -2.0 + 1.5 * values[:, 0] - 0.05 * (values[:, 1] - 50.0)
    labels = random.random(len(values)) < 1.0 / (1.0 + np.exp(-log_odds))
    line = fit_line(values, labels, np.ones(len(values)), 0.01)
    assert np.abs(line.scores(values) - log_odds).max() < 0.4
    with pytest.raises(ValueError, match="there must be both"):
        fit_line(values, np.zeros(len(values), np.bool_), np.ones(len(values)), 1.0)
