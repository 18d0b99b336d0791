"""What a server says while a failover of Redis keeps grants waiting, and while Redis refuses its scripts."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from benchmarks.redis_servers import RedisServer, redis_server, wait_until
from pacing.budget.epochs import EpochWatch
from pacing.budget.quarantine import NoGrants, Quarantine, clock_time
from pacing.budget.redis_store import RedisStore
from pacing.budget.shared import AWAY_MS, SharedStore
from pacing.budget.store import CapsRequest, Epoch, LeaseRequest
from pacing.clocks import SystemClock, VirtualClock
from pacing.days import local_day
from pacing.ledger.log import Ledger
from tests.pacing.rows import START_MS

ZONE = "UTC"
CREATOR = 9
QUARANTINE_MS = 700


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


def said(caplog: pytest.LogCaptureFixture, words: str) -> list[str]:
    return [record.message for record in caplog.records if words in record.message]


def request(lease: int) -> LeaseRequest:
    now_ms = SystemClock().wall_ms()
    return LeaseRequest(1 << 48 | lease, 5, local_day(now_ms, ZONE).day_key, now_ms, now_ms + 60_000, 1_000)


def test_a_quarantine_is_told_when_it_begins_and_when_it_is_over(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    clock, ledger = SystemClock(), Ledger(None)
    remote = RedisStore(server.url, 1, quarantine_ms=QUARANTINE_MS)
    store = SharedStore(remote, clock, 1)
    watch = EpochWatch(store, remote, ledger, clock)
    store.set_caps(CapsRequest(5, CREATOR, ZONE, 10**6, 10**6, clock.wall_ms()))
    watch.tick()
    assert store.acquire([request(1)]) != [None]
    assert watch.quarantine.state is None and said(caplog, "grants") == []
    server.ask("DEBUG", "CHANGE-REPL-ID")
    begun_ms = clock.wall_ms()
    for _ in range(3):
        watch.tick()
    state = watch.quarantine.state
    assert state is not None and state.reason == "failover"
    assert begun_ms + QUARANTINE_MS - 100 <= state.until_ms <= clock.wall_ms() + QUARANTINE_MS
    (line,) = said(caplog, "no grants until")
    assert line.startswith(f"no grants until {clock_time(state.until_ms)} (creators: 1): Redis was restarted")
    assert store.acquire([request(2)]) == [None]
    time.sleep(max(0.0, (state.until_ms - clock.wall_ms()) / 1_000))
    wait_until(lambda: watch.tick() or watch.quarantine.state is None, "the quarantine to be over")
    assert store.acquire([request(3)]) != [None]
    assert (len(said(caplog, "no grants")), len(said(caplog, "granting again"))) == (1, 1)
    remote.close()
    ledger.close()


def test_owners_that_grants_wait_for_are_named(caplog: pytest.LogCaptureFixture) -> None:
    clock = VirtualClock(START_MS)
    quarantine = Quarantine(clock)
    quarantine.note({CREATOR: Epoch(2, 5_000, (1, 2)), 8: Epoch(2, 4_000, ())})
    assert quarantine.state == NoGrants("failover", START_MS + 5_000) and quarantine.due() == []
    clock.advance_to(START_MS + 6_000)
    assert sorted(quarantine.due()) == [8, CREATOR]
    for _ in range(2):
        quarantine.note({CREATOR: Epoch(2, 0, (2,)), 8: Epoch(2, 0, ())})
    assert quarantine.state == NoGrants("owners")
    assert len(said(caplog, "no grants (creators: 1) until owners [2] have told")) == 1
    quarantine.note({CREATOR: Epoch(2, 0, ())})
    assert quarantine.state is None and len(said(caplog, "granting again")) == 1


def test_a_redis_that_refuses_scripts_is_told_once_though_it_answers_the_rest(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    clock = VirtualClock(START_MS)
    remote = RedisStore(server.url, 1, quarantine_ms=0)
    store = SharedStore(remote, clock, 1)
    store.set_caps(CapsRequest(5, CREATOR, ZONE, 10**6, 10**6, START_MS))

    def rounds() -> None:
        for lease in range(10, 14):
            clock.advance_to(clock.wall_ms() + AWAY_MS)
            store.refresh([5])
            store.acquire([request(lease)])
            clock.advance_to(clock.wall_ms() + AWAY_MS)
            store.tell()

    server.ask("ACL", "SETUSER", "default", "-evalsha", "-eval")
    rounds()
    (line,) = said(caplog, "budget store")
    assert line.startswith("budget store refuses acquire, bidding goes on") and "no permissions" in line
    assert not store.is_granting
    server.kill()
    rounds()
    assert len(said(caplog, "budget store away")) == 1, "another reason, told once"
    server.start()
    clock.advance_to(clock.wall_ms() + AWAY_MS)
    store.refresh([5])
    assert said(caplog, "budget store back") == [], "what was refused was not asked again yet"
    rounds()
    assert store.is_granting and len(said(caplog, "budget store back")) == 1
    remote.close()
