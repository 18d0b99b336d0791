from __future__ import annotations

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from benchmarks.market.behaviour import REPEAT_LOG_ODDS
from benchmarks.market.campaigns import TEMPLATES, audience_rows, campaign_message
from benchmarks.market.oracle import FREQUENCY_CAP, Slots, clear, equilibrium, remaining_values
from benchmarks.market.run import Market, MarketSettings
from benchmarks.market.world import WorldSettings
from pacing.facts import Goal
from protos import campaigns_pb2

SMALL = MarketSettings(slots_per_day=20_000, viewers_per_request=80, world=WorldSettings(viewers=6_000))


@pytest.fixture(scope="module")
def market() -> Market:
    return Market(8, SMALL)


def _slots(n: int, campaigns: int, seed: int = 0, viewers: int | None = None) -> Slots:
    rng = np.random.default_rng(seed)
    values = rng.lognormal(-4.2, 0.6, (n, campaigns)).astype(np.float32)
    values[rng.random(values.shape) < 0.2] = 0
    rows = np.arange(n) if viewers is None else np.sort(rng.integers(0, viewers, n))
    costs = rng.lognormal(10, 0.6, n).astype(np.int64)
    return Slots(values, costs, rows, rng.permutation(n), np.arange(campaigns), np.ones(campaigns, bool))


def _clear_plainly(slots: Slots, alphas: np.ndarray) -> tuple[list[float], list[float]]:
    spend, events = [0.0] * len(alphas), [0.0] * len(alphas)
    for row, cost in zip(slots.values.tolist(), slots.costs_micros.tolist(), strict=True):
        bids = [float(np.float32(value) * np.float32(alpha)) for value, alpha in zip(row, alphas, strict=True)]
        best = max(range(len(bids)), key=lambda k: bids[k])
        if bids[best] <= 0 or bids[best] < cost:
            continue
        others = [bid for k, bid in enumerate(bids) if slots.creator_rows[k] != slots.creator_rows[best]]
        spend[best] += max([float(cost), *others])
        events[best] += row[best]
    return spend, events


@pytest.mark.parametrize("creators", [[0, 1, 2], [0, 0, 1], [0, 0, 0]])
def test_clearing_is_a_second_price_auction_among_creators(creators: list[int]) -> None:
    drawn = _slots(300, 3)
    slots = replace(drawn, creator_rows=np.array(creators))
    alphas = np.array([1.5e6, 2e6, 1e6])
    cleared = clear(slots, alphas)
    spend, events = cleared.spend_micros, cleared.events
    assert cleared.won.sum(axis=1).max() == 1
    plain_spend, plain_events = _clear_plainly(slots, alphas)
    assert spend == pytest.approx(plain_spend, rel=1e-6)
    assert events == pytest.approx(plain_events, rel=1e-5)


def test_what_is_left_of_a_value_by_brute_force() -> None:
    slots = replace(_slots(120, 2, seed=2, viewers=9), ends_with_event=np.array([True, False]))
    rng = np.random.default_rng(6)
    won = np.zeros((120, 2), bool)
    won[np.arange(120), rng.integers(0, 2, 120)] = rng.random(120) < 0.7
    left = remaining_values(slots, won)
    shown: dict[tuple[int, int], int] = {}
    stays: dict[tuple[int, int], float] = {}
    for i, viewer in enumerate(slots.viewer_rows.tolist()):
        for k in (0, 1):
            key = viewer, k
            seen = shown.get(key, 0)
            plain = float(slots.values[i, k]) * math.exp(REPEAT_LOG_ODDS * seen) if seen < FREQUENCY_CAP else 0.0
            assert left[i, k] == pytest.approx(plain * (stays.get(key, 1.0) if k == 0 else 1.0), rel=1e-4)
            if won[i, k]:
                shown[key] = seen + 1
                stays[key] = stays.get(key, 1.0) * (1 - plain)


def test_a_sample_of_viewers_keeps_whole_viewers_in_order() -> None:
    slots = _slots(500, 2, viewers=60)
    sample = slots.of_every(4)
    assert set(sample.viewer_rows.tolist()) == {row for row in slots.viewer_rows.tolist() if row % 4 == 0}
    assert sorted(sample.times.tolist()) == list(range(sample.size))
    kept = slots.viewer_rows % 4 == 0
    assert np.array_equal(np.argsort(slots.times[kept]), np.argsort(sample.times))


def test_showing_the_same_viewers_again_brings_less() -> None:
    fresh = _slots(4_000, 2)
    few = replace(fresh, viewer_rows=np.sort(np.arange(4_000) % 40))
    budgets = np.full(2, 0.2 * fresh.costs_micros.sum())
    everyone, forty = (equilibrium(slots, budgets, np.full(2, np.inf)) for slots in (fresh, few))
    assert forty.events.sum() < 0.7 * everyone.events.sum()


def test_one_campaign_alone_gets_the_best_that_any_choice_of_slots_gives() -> None:
    slots = _slots(14, 1, seed=4)
    budget = 0.4 * slots.costs_micros[slots.values[:, 0] > 0].sum()
    best = 0.0
    for chosen in product((0.0, 1.0), repeat=slots.size):
        if slots.costs_micros @ np.array(chosen) <= budget:
            best = max(best, float(slots.values[:, 0] @ np.array(chosen)))
    optimum = equilibrium(slots, np.array([budget]), np.array([np.inf]))
    largest = float(slots.values.max())
    assert best - largest <= optimum.events[0] <= best + largest


def test_budgets_and_targets_both_bind() -> None:
    slots = _slots(20_000, 3)
    budgets = np.array([0.05, 0.08, 0.1]) * slots.costs_micros.sum()
    free = equilibrium(slots, budgets, np.full(3, np.inf))
    assert free.spend_micros == pytest.approx(budgets, rel=0.01)
    costs = free.spend_micros / free.events
    targets = np.array([np.inf, 0.8 * costs[1], 2 * costs[2]])
    both = equilibrium(slots, budgets, targets)
    assert both.spend_micros[1] / both.events[1] == pytest.approx(targets[1], rel=0.02)
    assert both.spend_micros[1] < 0.9 * budgets[1]
    assert both.spend_micros[[0, 2]] == pytest.approx(budgets[[0, 2]], rel=0.02)


def test_a_budget_that_buys_everything_is_not_spent() -> None:
    slots = _slots(2_000, 1)
    optimum = equilibrium(slots, np.array([1e15]), np.array([np.inf]))
    wanted = slots.values[:, 0] > 0
    assert optimum.spend_micros[0] == pytest.approx(slots.costs_micros[wanted].sum())
    assert optimum.events[0] == pytest.approx(slots.values.sum(), rel=1e-4)


def test_a_dozen_campaigns_of_both_modes_mostly_for_fans(market: Market) -> None:
    assert len(market.campaigns) == len(TEMPLATES) == 12
    assert sum(c.goal is Goal.FANS for c in market.campaigns) >= 8
    assert len({c.goal for c in market.campaigns}) >= 4
    assert sum(c.target_cost_micros == 0 for c in market.campaigns) >= 4
    assert sum(c.is_tight for c in market.campaigns) >= 3


def test_money_binds_some_campaigns_and_targets_others(market: Market) -> None:
    free, both = market.optima()
    budgets = np.array([c.daily_budget_micros for c in market.campaigns])
    assert free.spend_micros.sum() > 0.97 * budgets.sum()
    tight = np.array([c.is_tight for c in market.campaigns])
    assert (both.spend_micros[tight] < 0.95 * budgets[tight]).any()
    assert both.spend_micros[~tight].sum() > 0.9 * budgets[~tight].sum()
    reached = [
        both.spend_micros[k] / both.events[k] <= 1.02 * c.target_cost_micros
        for k, c in enumerate(market.campaigns)
        if c.target_cost_micros
    ]
    assert all(reached)


def test_messages_say_what_the_market_means(market: Market) -> None:
    world = market.world
    for campaign in market.campaigns:
        message = campaign_message(world, campaign, market.spec.end_at_ms)
        assert message.daily_budget_micros == campaign.daily_budget_micros >= 1_000_000
        assert message.total_budget_micros == message.daily_budget_micros
        is_target = message.bid_mode == campaigns_pb2.BID_MODE_TARGET_COST
        assert is_target == (message.target_cost_micros > 0)
        assert [c.creative_id for c in message.creatives] == list(campaign.creative_ids)
        assert {c.category for c in message.creatives} == {campaign.category}
        assert message.ByteSize() == campaigns_pb2.Campaign.FromString(message.SerializeToString()).ByteSize()


def test_audiences_hold_whom_their_targeting_names(market: Market) -> None:
    world, viewers = market.world, market.world.viewers
    by_name = {c.name: c for c in market.campaigns}
    rows = audience_rows(world, by_name["makeup basics"])
    assert rows.any() and set(viewers.genders[rows].tolist()) == {1}
    assert not (rows & world.fans[:, by_name["makeup basics"].creator_row]).any()
    targeting = campaign_message(world, by_name["city walks"], 1).targeting
    codes = set(targeting.attribute.codes)
    assert {int(r) for r in np.unique(viewers.regions[audience_rows(world, by_name["city walks"])])} <= codes
    assert not campaign_message(world, by_name["street food"], 1).targeting.WhichOneof("node")
    assert campaign_message(world, by_name["village kitchen"], 1).targeting.friends_of_fans
    everybody = audience_rows(world, by_name["street food"])
    assert everybody.sum() == (~world.fans[:, by_name["street food"].creator_row]).sum()
