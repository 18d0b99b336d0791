"""Who is called similar where chance alone is at work, and where it is not."""

from __future__ import annotations

import numpy as np
import pytest

from targeting.graph.similar.lists import STANDARDS, FollowsCopy, Similar, Standards

pytestmark = pytest.mark.kernels

VIEWERS, CREATORS, FOLLOWS = 8_000, 4_000, 60_000
ASKED = range(VIEWERS, VIEWERS + 300)
GROUP, GROUPS = 5, 4
"""Creators who share an audience, and how many such audiences there are."""
PLANTED = range(VIEWERS, VIEWERS + GROUP * GROUPS)


def drawn(rng: np.random.Generator) -> set[tuple[int, int]]:
    """Follows between active viewers and famous creators, both by power laws, and of nobody in particular."""
    activity, fame = rng.pareto(1.2, VIEWERS) + 1, rng.pareto(1.0, CREATORS) + 1
    who = rng.choice(VIEWERS, FOLLOWS, p=activity / activity.sum())
    whom = rng.choice(CREATORS, FOLLOWS, p=fame / fame.sum())
    return set(zip(who.tolist(), (VIEWERS + whom).tolist(), strict=True))


def planted(rng: np.random.Generator) -> set[tuple[int, int]]:
    """Groups of creators who share an audience of 60 viewers, seven in ten of whom follow each of them."""
    audiences = np.array([rng.choice(VIEWERS, 60, replace=False) for _ in range(GROUPS)])
    return {
        (int(fan), creator)
        for creator in PLANTED
        for fan in audiences[(creator - VIEWERS) // GROUP][rng.random(60) < 0.7]
    }


def lists_of(pairs: set[tuple[int, int]], standards: Standards = STANDARDS) -> dict[int, tuple[Similar, ...]]:
    columns = np.array(sorted(pairs), np.int32)
    ids = np.arange(VIEWERS + CREATORS, dtype=np.uint64)
    return dict(FollowsCopy(columns[:, 0], columns[:, 1], ids).find_similar(ASKED, standards=standards))


@pytest.mark.parametrize("seed", range(3))
def test_random_followers_make_nobody_similar(seed: int) -> None:
    pairs = drawn(np.random.default_rng(seed))
    by_cosine_alone = lists_of(pairs, Standards(least_lift=1e-9, luck=1e9))
    assert sum(map(len, by_cosine_alone.values())) > len(ASKED)  # chance alone would fill lists
    assert sum(map(len, lists_of(pairs).values())) == 0


@pytest.mark.parametrize("seed", range(3))
def test_shared_audiences_are_found_and_nothing_else(seed: int) -> None:
    rng = np.random.default_rng(seed)
    found = lists_of(drawn(rng) | planted(rng))
    told = {(creator, one.row) for creator, similar in found.items() for one in similar}
    true = {(a, b) for a in PLANTED for b in PLANTED if a != b and (a - VIEWERS) // GROUP == (b - VIEWERS) // GROUP}
    assert told <= true and len(told) >= 0.9 * len(true)


def test_what_it_takes_grows_with_how_many_are_compared() -> None:
    """Five fans in common of ten each, among many follows: beyond chance where few are compared."""
    fans, creators = range(5), (100, 101)
    pairs = {(fan, creator) for fan in fans for creator in creators} | {(200 + k, 300 + k) for k in range(60)}
    columns = np.array(sorted(pairs), np.int32)
    copy = FollowsCopy(columns[:, 0], columns[:, 1], np.arange(1_000, dtype=np.uint64))
    found = {
        luck: [one.row for one in dict(copy.find_similar([100], standards=Standards(luck=luck)))[100]]
        for luck in (0.1, 1e-9)
    }
    assert found == {0.1: [101], 1e-9: []}
