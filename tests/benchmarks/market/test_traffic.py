from __future__ import annotations

from datetime import datetime

import numpy as np
import pytest

from benchmarks.market.behaviour import Behaviour, Context
from benchmarks.market.rivals import CARD_RATES_MICROS, draw_floors, draw_rivals
from benchmarks.market.traffic import HOURLY_TRAFFIC, SlotRequest, Traffic, day_spec, local_hour
from benchmarks.market.world import ZONE, World, WorldSettings, make_world
from pacing.days import zone_of
from pacing.facts import AuctionType, OutcomeKind


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(3, WorldSettings(viewers=12_000))


@pytest.fixture(scope="module")
def requests(world: World) -> list[SlotRequest]:
    return list(Traffic(world, day_spec(0, 120_000, viewers_per_request=100)))


def test_a_day_is_the_same_every_time(world: World, requests: list[SlotRequest]) -> None:
    again = list(Traffic(world, day_spec(0, 120_000, viewers_per_request=100)))
    assert [r.at_ms for r in again] == [r.at_ms for r in requests]
    assert all(np.array_equal(a.rivals_micros, b.rivals_micros) for a, b in zip(again, requests, strict=True))
    before = next(iter(Traffic(world, day_spec(-1, 120_000, viewers_per_request=100))))
    assert not np.array_equal(before.viewer_rows, requests[0].viewer_rows)


def test_traffic_follows_the_hours_of_the_day(requests: list[SlotRequest]) -> None:
    spec = day_spec(0, 120_000, viewers_per_request=100)
    assert len(requests) == pytest.approx(1_200, rel=0.25)
    times = [r.at_ms for r in requests]
    assert times == sorted(times)
    assert spec.start_at_ms <= times[0] and times[-1] < spec.end_at_ms
    assert datetime.fromtimestamp(spec.start_at_ms / 1000, zone_of(ZONE)).hour == 0
    by_hour = np.bincount([r.context.hour for r in requests], minlength=24)
    assert by_hour[21] > 4 * by_hour[4]
    assert np.corrcoef(by_hour, HOURLY_TRAFFIC)[0, 1] > 0.9
    assert all(r.context.hour == local_hour(r.at_ms) for r in requests)


def test_a_part_of_a_day_has_its_share_of_slots() -> None:
    whole, night = day_spec(0, 100_000), day_spec(0, 100_000, hours=6)
    assert night.end_at_ms - night.start_at_ms == 6 * 3_600_000
    assert night.slots / whole.slots == pytest.approx(HOURLY_TRAFFIC[:6].sum() / HOURLY_TRAFFIC.sum(), rel=0.01)


@pytest.mark.parametrize("arguments", [{"hours": 0}, {"hours": 25}, {"viewers_per_request": 4}, {"slots_per_day": 10}])
def test_a_day_refuses_senseless_sizes(arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        day_spec(0, **{"slots_per_day": 100_000, **arguments})


def test_no_viewer_twice_in_a_request_and_the_active_more_often(world: World, requests: list[SlotRequest]) -> None:
    assert all(len(np.unique(r.viewer_rows)) == 100 for r in requests)
    seen = np.bincount(np.concatenate([r.viewer_rows for r in requests]), minlength=world.viewers.size)
    assert np.corrcoef(seen, world.viewers.activity)[0, 1] > 0.8


def test_both_kinds_of_auction_and_every_placement(requests: list[SlotRequest]) -> None:
    first = np.mean([r.at is AuctionType.FIRST_PRICE for r in requests])
    assert first == pytest.approx(0.15, abs=0.04)
    assert {r.context.placement for r in requests} == {1, 2, 3, 4}


def test_rival_bids_are_no_single_bell(world: World) -> None:
    rng = np.random.default_rng(1)
    rows = np.repeat(np.arange(world.viewers.size), 4)
    context = Context(hour=12, placement=1, content_category=3)
    floors = draw_floors(world.viewers, rows, context)
    bids = draw_rivals(rng, world, rows, context, floors)
    assert 0.03 < (bids == 0).mean() < 0.2
    assert ((bids == 0) | (bids >= floors)).all()
    assert ((bids == floors) & (bids > 0)).mean() > 0.05
    # Count the bids around each rate card, and as many micros away on either side: peaks with valleys between.
    for card in CARD_RATES_MICROS:
        width = 0.03 * card
        near, below, above = (np.sum(np.abs(bids - centre) < width) for centre in (card, 0.85 * card, 1.15 * card))
        assert near > 2 * below
        assert near > 2 * above


def test_rivals_pay_more_in_the_evening_and_for_better_viewers(world: World) -> None:
    rng = np.random.default_rng(1)
    rows = np.arange(world.viewers.size)

    def mean(hour: int, chosen: np.ndarray) -> float:
        context = Context(hour, 2, 3)
        floors = draw_floors(world.viewers, chosen, context)
        return float(np.mean(draw_rivals(rng, world, chosen, context, floors)))

    assert mean(20, rows) > 1.2 * mean(5, rows)
    chances = Behaviour(world).probability(OutcomeKind.FOLLOW, rows, rows % 16, 0.0, Context(12, 2, 3))
    dear = np.argsort(chances)
    assert mean(12, dear[-3_000:]) > 1.04 * mean(12, dear[:3_000])


def test_floors_depend_on_region_and_placement_only(world: World) -> None:
    rows = np.arange(2_000)
    first, fourth = (draw_floors(world.viewers, rows, Context(12, placement, 3)) for placement in (1, 4))
    assert (first > fourth).all()
    tiers = world.viewers.region_tiers[rows]
    for tier in (1, 2, 3):
        assert len(np.unique(first[tiers == tier])) == 1
    assert first[tiers == 1][0] > first[tiers == 3][0]
