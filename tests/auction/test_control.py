"""A crowd of campaigns: what is new or edited is planned, paid for and published ahead of the round of all others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from auction import control
from auction.config import ServeConfig
from auction.services import Services, build_services
from benchmarks.match.updates import TARGET_COST_MICROS, has_bid, make_campaign, take_in
from targeting.expressions import Segment
from targeting.segments.store import Change

CROWD, VIEWER = 12, 10**12


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch) -> Iterator[Services]:
    """An engine whose scheduler does not run, with as many campaigns as make a crowd."""
    monkeypatch.setattr(control, "CROWDED", CROWD - 2)
    services = build_services(ServeConfig(no_rest=True, no_bridge=True))
    try:
        rows = services.viewers.ensure(np.array([VIEWER], np.uint64))
        services.segments.put("only", rows, Change.REPLACE)
        for campaign_id in range(1, CROWD + 1):
            take_in(services, make_campaign(campaign_id, Segment("nobody"), services.clock.wall_ms()))
        services.bank.tick()
        for _ in range(3):
            services.steer()
        yield services
    finally:
        services.close()


def test_a_new_campaign_bids_before_the_next_round(services: Services) -> None:
    assert not has_bid(services, VIEWER)
    new = make_campaign(CROWD + 1, Segment("only"), services.clock.wall_ms())
    take_in(services, new)
    assert not has_bid(services, VIEWER)
    services._publish_changes()
    assert 0 < services.control.multiplier_micros(CROWD + 1) <= TARGET_COST_MICROS
    assert has_bid(services, VIEWER)
    services.registry.take_over(replace(new, target_cost_micros=TARGET_COST_MICROS // 10, version=2))
    services._publish_changes()
    assert 0 < services.control.multiplier_micros(CROWD + 1) <= TARGET_COST_MICROS // 10


def test_many_new_campaigns_wait_for_the_round(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "PLANNED_AHEAD", 2)
    for campaign_id in range(CROWD + 1, CROWD + 4):
        take_in(services, make_campaign(campaign_id, Segment("only"), services.clock.wall_ms()))
    services._publish_changes()
    assert services.control.multiplier_micros(CROWD + 1) == 0
    services.steer()
    services.steer()
    assert all(services.control.multiplier_micros(i) > 0 for i in range(CROWD + 1, CROWD + 4))


def test_what_is_published_while_all_standings_are_read_is_not_taken_back(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    accounts, now_ms = services.control._accounts, services.clock.wall_ms()
    before, gather = services.registry.get(1), accounts.gather
    assert before is not None and services.control.multiplier_micros(1) > TARGET_COST_MICROS // 10

    def gather_slowly(*asked: Any) -> np.ndarray:
        found = gather(*asked)
        services.registry.take_over(replace(before, target_cost_micros=TARGET_COST_MICROS // 10, version=2))
        take_in(services, make_campaign(CROWD + 1, Segment("only"), now_ms))
        services._publish_changes()
        return found

    with monkeypatch.context() as patch:
        patch.setattr(accounts, "gather", gather_slowly)
        services.steer()
    for _ in range(2):
        assert 0 < services.control.multiplier_micros(1) <= TARGET_COST_MICROS // 10
        assert services.control.multiplier_micros(CROWD + 1) > 0 and has_bid(services, VIEWER)
        services.steer()


def test_a_campaign_that_is_paused_before_it_was_published_is_not_planned(services: Services) -> None:
    new = make_campaign(CROWD + 1, Segment("only"), services.clock.wall_ms())
    take_in(services, new)
    services.registry.take_over(replace(new, end_at_ms=services.clock.wall_ms() - 1, version=2))
    services._publish_changes()
    assert services.control.multiplier_micros(CROWD + 1) == 0
    assert not has_bid(services, VIEWER)


def test_plans_are_told_in_turn(services: Services) -> None:
    told = [services.control.planned(5)[0].tolist() for _ in range(CROWD)]
    assert all(len(ids) == 5 for ids in told)
    assert {sum(ids.count(i) for ids in told) for i in range(1, CROWD + 1)} == {5}
    assert sorted(services.control.planned(CROWD)[0].tolist()) == list(range(1, CROWD + 1))
