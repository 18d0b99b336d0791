"""Leases of shards, on a redis-server and a virtual time: one pacer at a time is heard, and is told everything once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from auction.shared.pace_redis import KEPT_MESSAGES, SHARDS, PaceBoard, Publication, shard_of
from benchmarks.redis_servers import RedisServer, redis_cluster, redis_server
from pacing.redis_link import RedisLink, RedisUnavailable

TTL_MS = 1_000
SHARD = 5


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as started:
        yield started


class Time:
    now_ms = 1_000_000

    def __call__(self) -> int:
        return self.now_ms


class LeaseMachine(RuleBasedStateMachine):
    """Three servers, one shard, answers that get lost; what they were granted, and what was told and taken."""

    link: RedisLink

    def __init__(self) -> None:
        super().__init__()
        self.link.run([("FLUSHALL",)])
        self.time = Time()
        self.boards = [PaceBoard(self.link, number, TTL_MS, self.time) for number in range(1, 4)]
        self.granted: list[tuple[int, int]] = []  # every (server, fence)
        self.holder: int | None = None
        self.until_ms = 0
        self.fence = 0
        self.plan = b""
        self.memory = b""
        self.told: list[bytes] = []
        self.sent: dict[int, list[tuple[int, bytes]]] = {0: [], 1: [], 2: []}
        self.taken: dict[int, int] = {}  # by server, the number that it will acknowledge
        self.gone = 0  # that many were acknowledged

    servers = st.integers(0, 2)

    @rule(milliseconds=st.integers(1, TTL_MS))
    def pass_time(self, milliseconds: int) -> None:
        self.time.now_ms += milliseconds

    @rule(server=servers)
    def claim(self, server: int) -> None:
        answer = self.boards[server].claim([SHARD])
        is_free = self.holder is None or self.time.now_ms >= self.until_ms
        if self.holder == server:
            assert answer == {SHARD: (self.fence, b"")}
        elif is_free:
            self.fence += 1
            assert answer == {SHARD: (self.fence, self.memory)}
            self.holder, self.taken[server] = server, 0
            self.granted.append((server, self.fence))
        else:
            assert answer == {}
            return
        self.until_ms = self.time.now_ms + TTL_MS

    @precondition(lambda self: self.granted)
    @rule(data=st.data(), with_memory=st.booleans(), gives_back=st.booleans(), lost=st.booleans())
    def publish(self, data: st.DataObject, with_memory: bool, gives_back: bool, lost: bool) -> None:
        """Under any lease that ever was, however late; the answer may be lost on its way."""
        server, fence = data.draw(st.sampled_from(self.granted))
        plan = f"{server} at {self.time.now_ms}".encode()
        memory = plan if with_memory else b""
        published = Publication(fence, plan, memory, self.taken[server], gives_back)
        accepted = self.boards[server].meet({SHARD: published}).accepted
        assert bool(accepted) == (self.holder == server and fence == self.fence)
        if not accepted:
            return
        self.plan, self.memory = plan, memory or self.memory
        first, messages = accepted[SHARD]
        self.gone = max(self.gone, published.taken)
        assert messages == self.told[self.gone :]
        assert first + len(messages) - 1 == len(self.told)
        if not lost:
            self.taken[server] = len(self.told)
        self.until_ms = self.time.now_ms + TTL_MS
        if gives_back:
            self.holder = None

    @rule(server=servers, again=st.booleans())
    def tell(self, server: int, again: bool) -> None:
        """A message, or once more one whose answer was lost."""
        sent = self.sent[server]
        if not again or not sent:
            message = f"{server}'s {len(sent)}".encode()
            sent.append((len(sent) + 1, message))
            self.told.append(message)
        self.boards[server].meet({}, [(SHARD, *sent[-1])])

    @rule(server=servers)
    def read(self, server: int) -> None:
        reading = self.boards[server].meet({}, marks={SHARD: b""}).readings[SHARD]
        assert reading.is_free == (self.holder is None or self.time.now_ms >= self.until_ms)
        assert reading.plan == self.plan
        again = self.boards[server].meet({}, marks={SHARD: reading.mark}).readings[SHARD]
        assert (again.mark, again.plan) == (reading.mark, b"")


def test_one_pacer_at_a_time_is_heard(server: RedisServer) -> None:
    link = RedisLink(server.url, timeout_ms=10_000)
    machine = type("Machine", (LeaseMachine,), {"link": link})
    run_state_machine_as_test(machine, settings=settings(max_examples=50, stateful_step_count=30))  # type: ignore[no-untyped-call]
    link.close()


def test_a_server_that_starts_again_is_another_one(server: RedisServer) -> None:
    """Under the same owner id: what its earlier process still has on the way is refused, and numbers begin anew."""
    link, time = RedisLink(server.url, timeout_ms=10_000), Time()
    link.run([("FLUSHALL",)])
    before, after = (PaceBoard(link, 1, TTL_MS, time) for _ in range(2))
    ((fence, _),) = before.claim([SHARD]).values()
    before.meet({}, [(SHARD, 7, b"before")])
    time.now_ms += TTL_MS
    ((later, _),) = after.claim([SHARD]).values()
    assert later == fence + 1
    assert before.meet({SHARD: Publication(fence, b"late")}).accepted == {}
    after.meet({}, [(SHARD, 1, b"after")])
    assert after.meet({SHARD: Publication(later, b"plan")}).accepted == {SHARD: (1, [b"before", b"after"])}
    link.close()


def test_messages_that_nobody_takes_are_bounded(server: RedisServer) -> None:
    link = RedisLink(server.url, timeout_ms=10_000)
    link.run([("FLUSHALL",)])
    board = PaceBoard(link, 1, TTL_MS, Time())
    board.meet({}, [(SHARD, number, b"%d" % number) for number in range(1, 2 * KEPT_MESSAGES)])
    ((fence, _),) = board.claim([SHARD]).values()
    ((first, messages),) = board.meet({SHARD: Publication(fence, b"")}).accepted.values()
    assert (first, len(messages), messages[-1]) == (KEPT_MESSAGES, KEPT_MESSAGES, b"%d" % (2 * KEPT_MESSAGES - 1))
    link.close()


def test_a_redis_that_lost_what_was_taken_hands_out_what_it_has(server: RedisServer) -> None:
    link = RedisLink(server.url, timeout_ms=10_000)
    link.run([("FLUSHALL",)])
    board = PaceBoard(link, 1, TTL_MS, Time())
    board.meet({}, [(SHARD, 1, b"new")])
    ((fence, _),) = board.claim([SHARD]).values()
    assert board.meet({SHARD: Publication(fence, b"", taken=5_000)}).accepted == {SHARD: (1, [b"new"])}
    link.close()


def test_pacers_are_counted_while_they_are_heard_of(server: RedisServer) -> None:
    link, time = RedisLink(server.url, timeout_ms=10_000), Time()
    link.run([("FLUSHALL",)])
    one, two = (PaceBoard(link, number, TTL_MS, time) for number in (1, 2))
    assert (one.meet({}).pacers, two.meet({}).pacers) == (1, 2)
    time.now_ms += TTL_MS
    assert one.meet({}).pacers == 2
    time.now_ms += 1
    assert one.meet({}).pacers == 1
    assert two.meet({}).pacers == 2
    assert two.meet({}, paces=False).pacers == 1
    link.close()


def test_without_a_time_of_its_own_leases_run_by_the_clock_of_redis(server: RedisServer) -> None:
    link = RedisLink(server.url, timeout_ms=10_000)
    link.run([("FLUSHALL",)])
    one, two = (PaceBoard(link, number) for number in (1, 2))
    assert one.claim([SHARD]) == {SHARD: (1, b"")}
    assert two.claim([SHARD]) == {}
    (seconds, _), until_ms = link.run([("TIME",), ("HGET", f"fanbid:{{pace:{SHARD}}}:lease", "until_ms")])
    assert 0 < int(until_ms) - 1_000 * int(seconds) <= 6_000
    link.close()


def test_a_cluster_will_do() -> None:
    with redis_cluster(masters=3) as cluster:
        link = RedisLink(cluster.url, timeout_ms=10_000)
        board = PaceBoard(link, 1)
        claimed = board.claim(range(SHARDS))
        assert len(claimed) == SHARDS
        publications = {shard: Publication(fence, b"plan") for shard, (fence, _) in claimed.items()}
        met = board.meet(
            publications, [(shard, 1, b"told") for shard in range(SHARDS)], dict.fromkeys(range(SHARDS), b"")
        )
        assert met.accepted == dict.fromkeys(range(SHARDS), (1, [b"told"]))
        assert {reading.plan for reading in met.readings.values()} == {b"plan"}
        link.close()


def test_a_redis_that_is_away_is_told_as_such(server: RedisServer) -> None:
    link = RedisLink(server.url, timeout_ms=50)
    board = PaceBoard(link, 1)
    board.meet({})
    with server.suspended(), pytest.raises(RedisUnavailable):
        board.meet({})
    link.close()


def test_shards_are_about_equal_and_for_good() -> None:
    counts = np.bincount(shard_of(np.arange(1, 64_001, dtype=np.uint64)), minlength=SHARDS)
    assert len(counts) == SHARDS
    assert (counts.min() > 900) and (counts.max() < 1_100)
    assert shard_of(np.array([1, 2, 2**64 - 1], np.uint64)).tolist() == [39, 15, 24]
