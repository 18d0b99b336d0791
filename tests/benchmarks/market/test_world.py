from __future__ import annotations

import numpy as np
import pytest

from benchmarks.market.behaviour import (
    KINDS,
    Behaviour,
    Context,
    draw_delays_ms,
    draw_unfollow_delays_ms,
)
from benchmarks.market.world import CATEGORIES, World, WorldSettings, friends_of, make_world
from pacing.clocks import MS_PER_DAY, MS_PER_HOUR, MS_PER_MINUTE
from pacing.facts import OutcomeKind

SETTINGS = WorldSettings(viewers=12_000)
EVENING = Context(hour=20, placement=1, content_category=0)


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(3, SETTINGS)


@pytest.fixture(scope="module")
def behaviour(world: World) -> Behaviour:
    return Behaviour(world)


def test_a_seed_makes_one_world(world: World) -> None:
    again, other = make_world(3, SETTINGS), make_world(4, SETTINGS)
    assert np.array_equal(world.affinity, again.affinity)
    assert np.array_equal(world.fans, again.fans)
    assert np.array_equal(world.friend_to, again.friend_to)
    assert not np.array_equal(world.viewers.interest_masks, other.viewers.interest_masks)


def test_attributes_fit_the_wire(world: World) -> None:
    viewers = world.viewers
    assert len(np.unique(viewers.ids)) == viewers.size == 12_000
    for column, limit in (
        (viewers.regions, 512),
        (viewers.age_bands, 8),
        (viewers.genders, 4),
        (viewers.os, 4),
        (viewers.networks, 6),
        (viewers.device_tiers, 6),
    ):
        assert int(column.max()) < limit
        assert len(np.unique(column)) > 1
    assert not (viewers.interest_masks & np.uint64(1)).any()
    held = viewers.has_interest(CATEGORIES)
    assert 0.05 < held.mean() < 0.5
    bit = (int(viewers.interest_masks[7]) >> int(CATEGORIES[2])) & 1
    assert bool(bit) == bool(held[7, 2])


@pytest.mark.parametrize("field, value", [("viewers", 10), ("viewers", 10**7), ("creators", 2), ("creators", 99)])
def test_a_world_refuses_senseless_sizes(field: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"{field} {value}"):
        WorldSettings(**{field: value})


def test_friends_are_of_one_crowd_and_often_mutual(world: World) -> None:
    source, target = world.friend_from, world.friend_to
    edges = set(zip(source.tolist(), target.tolist(), strict=True))
    assert len(edges) == len(source)
    assert not (source == target).any()
    mutual = sum((b, a) in edges for a, b in edges) / len(edges)
    assert 0.3 < mutual < 0.8
    tastes = world.viewers.tastes
    by_chance = float(np.sum((np.bincount(tastes) / len(tastes)) ** 2))
    assert (tastes[source] == tastes[target]).mean() > by_chance + 0.3


def test_fans_fit_their_creators(world: World) -> None:
    for creator in range(world.creators.size):
        fans = world.fans[:, creator]
        assert 0.004 <= fans.mean() <= 0.041
        assert world.affinity[fans, creator].mean() > world.affinity[~fans, creator].mean() + 0.2


def test_friends_of_fans_by_brute_force(world: World) -> None:
    assert world.laotie.shape == world.fans.shape
    fans = {int(row) for row in np.flatnonzero(world.fans[:, 5])}
    expected = np.zeros(world.viewers.size, bool)
    for a, b in zip(world.friend_from.tolist(), world.friend_to.tolist(), strict=True):
        expected[a] |= b in fans
        expected[b] |= a in fans
    assert np.array_equal(world.laotie[:, 5], expected)


def test_friends_without_any_edge() -> None:
    none = np.zeros(0, np.int64)
    assert not friends_of(np.ones((3, 2), bool), none, none).any()


def test_follow_probabilities_lie_where_they_should(world: World, behaviour: Behaviour) -> None:
    rng = np.random.default_rng(0)
    share = world.viewers.activity / world.viewers.activity.sum()
    viewers = rng.choice(world.viewers.size, 50_000, p=share)
    creators = rng.integers(0, world.creators.size, 50_000)
    contexts = [Context(hour, 2, 0) for hour in range(24)]
    means = [behaviour.probability(OutcomeKind.FOLLOW, viewers, creators, 0.0, c).mean() for c in contexts]
    assert np.mean(means) == pytest.approx(0.015, rel=0.1)
    chances = behaviour.probability(OutcomeKind.FOLLOW, viewers, creators, 0.0, EVENING)
    assert np.quantile(chances, 0.02) > 0.002
    assert np.quantile(chances, 0.92) < 0.06
    assert np.quantile(chances, 0.99) > 4 * np.median(chances)


def test_every_stated_cause_moves_the_probability(world: World, behaviour: Behaviour) -> None:
    viewers, creators = np.arange(world.viewers.size), np.full(world.viewers.size, 4)
    chances = behaviour.probability(OutcomeKind.FOLLOW, viewers, creators, 0.0, EVENING)
    interested = world.viewers.has_interest(world.creators.categories[[4]])[:, 0]
    assert chances[interested].mean() > 1.5 * chances[~interested].mean()
    friends = world.laotie[:, 4]
    assert chances[friends].mean() > 1.3 * chances[~friends].mean()
    base = (viewers[:50], creators[:50])
    reference = behaviour.probability(OutcomeKind.FOLLOW, *base, 0.0, EVENING)
    fitting = Context(20, 1, int(world.creators.categories[4]))
    assert (behaviour.probability(OutcomeKind.FOLLOW, *base, 0.0, fitting) > reference).all()
    assert (behaviour.probability(OutcomeKind.FOLLOW, *base, 0.3, EVENING) > reference).all()
    assert (behaviour.probability(OutcomeKind.FOLLOW, *base, 0.0, Context(4, 1, 0)) < reference).all()
    assert (behaviour.probability(OutcomeKind.FOLLOW, *base, 0.0, Context(20, 4, 0)) < reference).all()
    assert (behaviour.probability(OutcomeKind.FOLLOW, *base, 0.0, EVENING, earlier=3) < reference).all()


def test_probabilities_of_all_kinds_of_nobody_and_one(behaviour: Behaviour) -> None:
    for kind in KINDS:
        none = behaviour.probability(kind, np.zeros(0, np.int64), np.zeros(0, np.int64), 0.0, EVENING)
        one = behaviour.probability(kind, np.zeros(1, np.int64), np.zeros(1, np.int64), 0.0, EVENING)
        assert none.shape == (0,)
        assert 0 < one[0] < 1


def test_follows_take_minutes_to_hours() -> None:
    rng = np.random.default_rng(2)
    delays = draw_delays_ms(OutcomeKind.FOLLOW, rng, 20_000)
    assert MS_PER_MINUTE < np.median(delays) < MS_PER_HOUR
    assert 0.08 < (delays > 2 * MS_PER_HOUR).mean() < 0.35
    assert delays.max() < 7 * MS_PER_DAY
    assert np.median(draw_delays_ms(OutcomeKind.CLICK, rng, 2_000)) < MS_PER_MINUTE


def test_who_leaves_leaves_early_and_kept_fans_stay() -> None:
    rng = np.random.default_rng(2)
    delays = draw_unfollow_delays_ms(np.full(40_000, 0.6), rng)
    assert (delays == -1).mean() == pytest.approx(0.6, abs=0.01)
    gone = delays[delays >= 0]
    for days, share in ((1, 0.25), (7, 0.5), (30, 1.0)):
        assert (gone <= days * MS_PER_DAY).mean() == pytest.approx(share, abs=0.02)
