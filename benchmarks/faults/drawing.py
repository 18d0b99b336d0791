"""Draws the scenario of a seed, of one server or of several."""

from __future__ import annotations

import random
from dataclasses import replace

from benchmarks.faults.scenario import Burst, Scenario, draw_scenario
from benchmarks.faults.shared_scenario import ClockStep, Failover, Partition, SharedPlan
from pacing.budget.redis_places import CLOCK_ERROR_MS
from pacing.budget.settings import BankSettings
from pacing.clocks import MS_PER_HOUR

MAX_SERVERS = 4
SHARED_RATE = 0.5
_WILD_RATE = 0.1


def draw_world(seed: int, requests: int, servers: int | None = None) -> Scenario:
    """The scenario of a seed, with so many bid requests in all; `servers` None: the seed decides how many there are."""
    scenario = draw_scenario(seed, requests)
    rng = random.Random(seed ^ 0x5A5E)
    drawn = rng.randint(2, MAX_SERVERS) if rng.random() < SHARED_RATE else 1
    count = drawn if servers is None else servers
    return scenario if count == 1 else _shared(rng, scenario, count)


def _shared(rng: random.Random, base: Scenario, servers: int) -> Scenario:
    settings = replace(
        base.settings,
        billing_ms=min(base.settings.billing_ms, 10_000),
        lease_ttl_ms=rng.choice((2_000, 5_000, 20_000)),
        hold_capacity=max(base.settings.hold_capacity, 1_024),
        doubt_ms=rng.choice((5_000, 20_000)),
        is_shared=True,
    )
    return replace(
        base,
        settings=settings,
        clock_steps=(),
        crashes=tuple(replace(crash, server=rng.randrange(servers)) for crash in base.crashes),
        cap_changes=tuple(replace(change, server=rng.randrange(servers)) for change in base.cap_changes),
        end_ms=base.bursts[-1].end_ms + 3 * settings.lock_ms,
        shared=_draw_plan(rng, base.bursts, settings, servers),
    )


def _draw_plan(rng: random.Random, bursts: tuple[Burst, ...], settings: BankSettings, servers: int) -> SharedPlan:
    masters = rng.choice((1, 1, 3))
    within = [rng.choice(bursts) for _ in range(12)]
    is_wild = rng.random() < _WILD_RATE
    widest_ms = MS_PER_HOUR if is_wild else settings.grace_ms // 2
    return SharedPlan(
        servers=servers,
        masters=masters,
        clock_errors_ms=tuple(_error_ms(rng, settings.grace_ms // 2) for _ in range(servers)),
        clock_steps=tuple(
            ClockStep(_within(rng, burst), rng.randrange(servers), _error_ms(rng, widest_ms))
            for burst in within[: rng.choice((0, 2, 6))]
        ),
        elsewhere_rate=rng.choice((0.0, 0.02, 0.1, 0.5)),
        lost_call_rate=rng.choice((0.0, 0.0, 0.001, 0.02)),
        quarantine_ms=settings.quarantine_ms,
        caps_delay_ms=rng.choice((10, 1_000, 10_000)),
        watch_ms=rng.choice((500, 1_000, 3_000)),
        partitions=_draw_partitions(rng, within, settings, servers),
        failovers=_draw_failovers(rng, within, settings, masters),
    )


def _error_ms(rng: random.Random, widest_ms: int) -> int:
    return round(rng.choice((-1, 1, rng.uniform(-1, 1))) * widest_ms)


def _within(rng: random.Random, burst: Burst) -> int:
    return burst.start_ms + rng.randrange(burst.end_ms - burst.start_ms)


def _draw_partitions(
    rng: random.Random, within: list[Burst], settings: BankSettings, servers: int
) -> tuple[Partition, ...]:
    partitions = []
    for burst in within[: rng.choice((0, 1, 3))]:
        start_ms = _within(rng, burst)
        longest_ms = rng.choice((500, settings.doubt_ms // 2, 3 * settings.doubt_ms))
        end_ms = start_ms + rng.randrange(1, longest_ms)
        partitions.append(Partition(start_ms, end_ms, rng.randrange(servers), rng.choice((0.0, 0.5, 1.0))))
    return tuple(partitions)


def _draw_failovers(
    rng: random.Random, within: list[Burst], settings: BankSettings, masters: int
) -> tuple[Failover, ...]:
    """Some, of which the second may come soon after the first."""
    failovers: list[Failover] = []
    for burst in within[6 : 6 + rng.choice((0, 1, 1, 2, 2))]:
        at_ms = _within(rng, burst)
        if failovers and rng.random() < 0.5:
            at_ms = failovers[-1].at_ms + rng.randrange(100, 2 * settings.lock_ms)
        failovers.append(
            Failover(
                at_ms=at_ms,
                master=rng.randrange(masters),
                down_ms=rng.choice((10, 500, 3_000)),
                lost_ms=rng.choice((0, 100, 1_000, 5_000)),
                clock_error_ms=round(rng.uniform(-1, 1) * (CLOCK_ERROR_MS - settings.grace_ms / 2)),
            )
        )
    return tuple(sorted(failovers, key=lambda failover: failover.at_ms))
