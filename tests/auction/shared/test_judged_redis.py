"""Judged rows reach every other server's copy, each once and in order, whatever Redis and the servers lose."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from auction.shared import judged_redis
from auction.shared.judged_redis import LIVE_MS, JudgedConsumer, JudgedPublisher, list_origins
from auction.shared.judged_relay import JudgedRelay
from benchmarks.redis_servers import RedisServer, redis_cluster, redis_server
from pacing.clocks import VirtualClock
from pacing.facts import JUDGEMENT, OutcomeKind, Verdict
from pacing.ledger.copies import Copies
from pacing.ledger.log import Ledger
from pacing.ledger.owners import as_seen_from, qualified
from pacing.redis_link import Command, RedisLink
from tests.pacing.ledger.judging import judge
from tests.pacing.rows import START_MS

MOST_OWNERS = 4
WITHOUT_SHRINKING = (Phase.explicit, Phase.reuse, Phase.generate)  # a failure is told in a minute, not in ten


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture(autouse=True)
def small_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    """Entries of 4 rows and streams of 24, so that every edge is met often."""
    sizes = {"ENTRY_ROWS": 4, "CALL_ENTRIES": 3, "KEPT_SEQUENCES": 24, "WINDOW_SEQUENCES": 20}
    for name, size in sizes.items():
        monkeypatch.setattr(judged_redis, name, size)


class Server:
    """One owner: its ledger, and what exchanges rows."""

    def __init__(self, folder: Path, link: RedisLink, owner_id: int, clock: VirtualClock) -> None:
        self.folder, self.owner_id = folder, owner_id
        self._link, self._clock = link, clock
        folder.mkdir()
        self.told = 0
        self.is_away = False
        self.open()

    def open(self) -> None:
        self.ledger = Ledger(self.folder / "ledger.sqlite")
        self.copies = Copies(self.folder / "peers", self.owner_id)
        self.publisher = JudgedPublisher(self.ledger, self._link, self.owner_id, self._clock.monotonic_ms)
        self.consumer = JudgedConsumer(self.copies, self._link, self.owner_id)
        self.relay = JudgedRelay(self.copies, self._link, self.owner_id, self._clock.monotonic_ms)

    def close(self) -> None:
        self.ledger.close()
        self.copies.close()

    def judge(self, count: int, money: int = 0) -> None:
        judge(self.ledger, range(self.told + 1, self.told + 1 + count), money)
        self.told += count

    def check(self, origin: Server, is_whole: bool = False) -> None:
        """The copy of `origin` is what it judged, up to some row."""
        copy = self.copies.of(origin.owner_id)
        rows, judgements = copy.read_judged(0, 10**6)
        expected_rows, expected_words = origin.ledger.read_judged(0, 10**6)
        count = len(rows)
        told_count = int(np.searchsorted(expected_rows["sequence"], copy.judged_sequence, side="right"))
        assert count == told_count
        if is_whole:
            assert copy.judged_sequence == origin.ledger.judged_sequence
        expected_words["billed_sequence"] = as_seen_from(
            self.owner_id, origin.owner_id, expected_words["billed_sequence"]
        )
        for found, expected in ((rows, expected_rows[:count]), (judgements, expected_words[:count])):
            expected["sequence"] |= np.uint64(qualified(origin.owner_id, 0))
            assert np.array_equal(found, expected)


class InterruptedLink:
    """A way to Redis on which something happens between what a publisher sees and what it does about it."""

    def __init__(self, link: RedisLink, happen: Callable[[], None]) -> None:
        self._link, self._happen = link, happen

    def run(self, commands: Sequence[Command]) -> list[Any]:
        if any(judged_redis._APPEND in command for command in commands):
            self._happen()
        return self._link.run(commands)


class Exchange(RuleBasedStateMachine):
    """Servers judge, tell, take, die, forget and join; Redis loses its last writes, streams, or everything."""

    redis: RedisServer

    @initialize(leaver=st.integers(0, 3))
    def begin(self, leaver: int) -> None:
        self.leaver = leaver
        self.redis.ask("FLUSHALL")
        self.folder = TemporaryDirectory(prefix="fanbid-judged-")
        self.clock = VirtualClock(START_MS)
        self.link = RedisLink(self.redis.url)
        self.servers: list[Server] = []
        self.noted: list[tuple[bytes, Any]] = []
        for _ in range(3):
            self.join()

    def join(self) -> None:
        number = len(self.servers) + 1
        self.servers.append(Server(Path(self.folder.name) / str(number), self.link, number, self.clock))

    def one(self, which: int) -> Server:
        """One of those that are there."""
        here = self.here()
        return here[which % len(here)]

    def here(self) -> list[Server]:
        return [server for server in self.servers if not server.is_away]

    @precondition(lambda self: len(self.here()) > 1)
    @rule(which=st.integers(0, 3))
    def one_goes_away(self, which: int) -> None:
        self.one(which).is_away = True

    @precondition(lambda self: len(self.here()) < len(self.servers))
    @rule()
    def all_come_back(self) -> None:
        for server in self.servers:
            server.is_away = False

    @rule(which=st.integers(0, 3))
    def one_tells_for_others(self, which: int) -> None:
        """Those that are away; or, as it has not heard of them for long enough, some that are there."""
        self.one(which).publisher.step()
        self.one(which).relay.step(self.one(which).publisher.present)

    @precondition(lambda self: len(self.servers) < MOST_OWNERS)
    @rule()
    def a_new_server_joins(self) -> None:
        self.join()

    @rule(which=st.integers(0, 3), count=st.integers(0, 40), money=st.integers(1, 9))
    def rows_are_judged(self, which: int, count: int, money: int) -> None:
        self.one(which).judge(count, money)

    @rule(which=st.integers(0, 3), times=st.integers(1, 3))
    def one_tells(self, which: int, times: int) -> None:
        for _ in range(times):
            self.one(which).publisher.step()

    @rule(which=st.integers(0, 3), times=st.integers(1, 3))
    def one_takes(self, which: int, times: int) -> None:
        taker = self.one(which)
        others = [server for server in self.servers if server is not taker]
        for _ in range(times):
            taker.consumer.step([server.owner_id for server in others])
        for origin in others:
            taker.check(origin)

    @rule(which=st.integers(0, 3))
    def one_starts_again(self, which: int) -> None:
        self.one(which).close()
        self.one(which).open()

    @rule(which=st.integers(0, 3))
    def one_loses_its_copies(self, which: int) -> None:
        self.one(which).close()
        shutil.rmtree(self.one(which).folder / "peers")
        self.one(which).open()

    @rule()
    def redis_is_replicated(self) -> None:
        """What a failover would find."""
        self.noted = [(key, self.redis.ask("DUMP", key)) for key in self.redis.ask("KEYS", "*")]

    @rule()
    def redis_fails_over(self) -> None:
        self.redis.ask("FLUSHALL")
        for key, dumped in self.noted:
            self.redis.ask("RESTORE", key, 0, dumped)

    @rule(which=st.integers(0, 3))
    def redis_fails_over_while_one_tells(self, which: int) -> None:
        teller = self.one(which)
        link = InterruptedLink(self.link, self.redis_fails_over)
        JudgedPublisher(teller.ledger, link, teller.owner_id, self.clock.monotonic_ms).step()  # type: ignore[arg-type]

    @rule()
    def redis_comes_back_empty(self) -> None:
        self.redis.ask("FLUSHALL")

    @rule(which=st.integers(0, 3))
    def a_stream_is_gone_or_trimmed(self, which: int) -> None:
        for key in self.redis.ask("KEYS", f"*judged:{self.one(which).owner_id}}}:rows*"):
            self.redis.ask("XTRIM", key, "MAXLEN", which % 2)

    @rule()
    def nobody_is_heard_of_for_a_while(self) -> None:
        self.clock.advance_to(self.clock.wall_ms() + LIVE_MS)

    def teardown(self) -> None:
        if not hasattr(self, "servers"):
            return
        # One leaves for good, when only one other has its last rows.
        if len(self.here()) > 1:
            leaver = self.one(self.leaver)
            leaver.judge(5)
            leaver.is_away = True
            for _ in range(100):
                leaver.publisher.step()
                self.one(self.leaver).consumer.step([leaver.owner_id])
            for key in self.redis.ask("KEYS", f"*judged:{leaver.owner_id}}}:rows*"):
                self.redis.ask("DEL", key)
        here = self.here()
        # Of who is away comes as much as anybody has who is there; of the others all.
        pairs = [(server, origin) for server in here for origin in self.servers if origin is not server]
        expected = {origin.owner_id: origin.ledger.judged_sequence for origin in here}
        for server, origin in pairs:
            if origin.is_away:
                held = server.copies.of(origin.owner_id).judged_sequence
                expected[origin.owner_id] = max(expected.get(origin.owner_id, 0), held)
        for _ in range(400):
            self.clock.advance_to(self.clock.wall_ms() + LIVE_MS // 10)
            for server in here:
                server.consumer.step([s.owner_id for s in self.servers if s is not server])
                server.publisher.step()
                server.relay.step(server.publisher.present)
            ends = [server.copies.of(origin.owner_id).judged_sequence for server, origin in pairs]
            wanted = [expected[origin.owner_id] for _, origin in pairs]
            if all(end >= want for end, want in zip(ends, wanted, strict=True)):
                break
        # What an owner that is away had written to Redis, and nobody had taken, comes too.
        assert all(end >= want for end, want in zip(ends, wanted, strict=True)), (ends, wanted)
        for server, origin in pairs:
            server.check(origin, is_whole=not origin.is_away)
        for server in self.servers:
            server.close()
        self.link.close()
        self.folder.cleanup()


def test_nothing_is_lost_or_doubled(redis: RedisServer) -> None:
    Exchange.redis = redis
    run_state_machine_as_test(
        Exchange, settings=settings(max_examples=12, stateful_step_count=25, phases=WITHOUT_SHRINKING)
    )


@pytest.fixture
def pair(redis: RedisServer, tmp_path: Path) -> Iterator[tuple[Server, Server]]:
    """An origin with 300 judged rows in Redis's reach, and a consumer that has none of them yet."""
    redis.ask("FLUSHALL")
    link, clock = RedisLink(redis.url), VirtualClock(START_MS)
    origin, consumer = (Server(tmp_path / str(n), link, n, clock) for n in (1, 2))
    origin.judge(300)
    while origin.publisher.step():
        pass
    yield origin, consumer
    origin.close()
    consumer.close()
    link.close()


def test_streams_stay_short_while_a_new_server_reads_everything(
    redis: RedisServer, pair: tuple[Server, Server]
) -> None:
    origin, consumer = pair
    longest = 0
    while consumer.copies.of(1).judged_sequence < 300:
        consumer.consumer.step([1])
        origin.publisher.step()
        longest = max(longest, sum(redis.ask("XLEN", key) for key in redis.ask("KEYS", "*:rows*")))
    assert longest * judged_redis.ENTRY_ROWS <= 24 + 20 + 4 * judged_redis.ENTRY_ROWS
    consumer.check(origin, is_whole=True)
    origin.publisher.step()
    assert redis.ask("KEYS", "*:rows:*") == []


def test_what_a_failover_took_leaves_no_hole(redis: RedisServer, pair: tuple[Server, Server]) -> None:
    origin, consumer = pair
    key = "fanbid:{judged:1}:rows"
    noted = redis.ask("DUMP", key)
    origin.judge(8)
    assert origin.publisher.step() == 8
    origin.judge(8)

    def fail_over() -> None:
        redis.ask("DEL", key)
        redis.ask("RESTORE", key, 0, noted)

    link = InterruptedLink(origin._link, fail_over)
    publisher = JudgedPublisher(origin.ledger, link, 1, origin._clock.monotonic_ms)  # type: ignore[arg-type]
    assert publisher.step() == 0
    assert redis.ask("DUMP", key) == noted
    assert origin.publisher.step() == 12
    assert origin.publisher.step() == 4
    for _ in range(40):
        consumer.consumer.step([1])
        origin.publisher.step()
    consumer.check(origin, is_whole=True)


def test_a_copy_that_was_lost_half_way_is_told_again_from_the_start(pair: tuple[Server, Server]) -> None:
    origin, consumer = pair
    for _ in range(5):
        consumer.consumer.step([1])
        origin.publisher.step()
    assert 20 < consumer.copies.of(1).judged_sequence < 200
    consumer.close()
    shutil.rmtree(consumer.folder / "peers")
    consumer.open()
    for _ in range(60):
        consumer.consumer.step([1])
        origin.publisher.step()
    consumer.check(origin, is_whole=True)


def test_whoever_is_gone_is_told_nothing_of_its_own(redis: RedisServer, pair: tuple[Server, Server]) -> None:
    origin, consumer = pair
    consumer.consumer.step([1])
    origin.publisher.step()
    assert redis.ask("KEYS", "*:rows:*") == [b"fanbid:{judged:1}:rows:2"]
    assert redis.ask("PTTL", "fanbid:{judged:1}:rows:2") > 0
    redis.ask("DEL", "fanbid:{judged:1}:rows:2")
    consumer._clock.advance_to(START_MS + LIVE_MS)
    assert origin.publisher.step() == 0
    assert redis.ask("KEYS", "*:rows:*") == []
    consumer.consumer.step([1])
    assert origin.publisher.step() > 0


def test_entries_that_are_none_hold_up_their_origin_alone(
    redis: RedisServer, pair: tuple[Server, Server], caplog: pytest.LogCaptureFixture
) -> None:
    origin, consumer = pair
    redis.ask("XADD", "fanbid:{judged:3}:rows", "5-1", "rows", b"short", "judgements", b"")
    while consumer.copies.of(1).judged_sequence < 300:
        consumer.consumer.step([3, 1])
        origin.publisher.step()
    assert consumer.copies.of(3).judged_sequence == 0
    assert len([record for record in caplog.records if "owner 3" in record.message]) == 1


def test_an_older_folder_in_place_of_what_was_published_is_told(
    pair: tuple[Server, Server], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    origin, _ = pair
    older = Server(tmp_path / "older", origin._link, 1, origin._clock)
    older.judge(10)
    assert older.publisher.step() == older.publisher.step() == 0
    told = [record.message for record in caplog.records if record.levelname == "CRITICAL"]
    assert len(told) == 1
    assert "judged up to row 10, but others have rows up to 300" in told[0]
    older.close()


def leave(origin: Server, redis: RedisServer) -> None:
    """Stop for good, with nothing left in Redis and the folder gone."""
    origin.close()
    shutil.rmtree(origin.folder)
    redis.ask("FLUSHALL")


def test_who_stays_tells_for_one_that_left(redis: RedisServer, pair: tuple[Server, Server], tmp_path: Path) -> None:
    origin, stays = pair
    while stays.copies.of(1).judged_sequence < 300:
        stays.consumer.step([1])
        origin.publisher.step()
    expected = stays.copies.of(1).read_judged(0, 1_000)
    link, clock = stays._link, stays._clock
    leave(origin, redis)
    other = Server(tmp_path / "3", link, 3, clock)
    late = Server(tmp_path / "4", link, 4, clock)
    assert list_origins(link, [2, *stays.copies.origins()]) == {1, 2}
    longest, known = 0, list_origins(link, [3])
    assert known == {1, 2, 3}
    for step in range(60):
        for server in (stays, other, *([late] if step > 20 else [])):
            server.consumer.step([i for i in (1, 2, 3, 4) if i != server.owner_id])
            server.publisher.step()
            server.relay.step(server.publisher.present)
        longest = max(longest, sum(redis.ask("XLEN", key) for key in redis.ask("KEYS", "*judged:1}:rows*")))
    for server in (other, late):
        for found, wanted in zip(server.copies.of(1).read_judged(0, 1_000), expected, strict=True):
            assert np.array_equal(found, wanted)
    assert longest * judged_redis.ENTRY_ROWS <= 24 + 2 * 20 + 4 * judged_redis.ENTRY_ROWS
    assert redis.ask("KEYS", "*judged:1}:rows:*") == []
    for server in (other, late):
        server.close()


def test_rows_that_name_rows_of_the_teller_are_passed_on_as_they_were(
    redis: RedisServer, pair: tuple[Server, Server], tmp_path: Path
) -> None:
    origin, stays = pair
    rows = origin.ledger.read_judged(0, 4)[0]
    rows["sequence"] += 300
    rows["kind"], rows["decision"]["hold_seq"] = OutcomeKind.CLICK, rows["decision"]["hold_seq"] + 1_000
    origin.ledger.append(rows)
    words = np.zeros(4, JUDGEMENT)
    words["sequence"], words["verdict"] = rows["sequence"], Verdict.ATTRIBUTED
    words["billed_sequence"] = [0, 7, qualified(2, 8), qualified(3, 9)]  # of none, of 1, of who stays, of who joins
    origin.ledger.append_judgements(origin.ledger.last_sequence, rows, words)
    while stays.copies.of(1).judged_sequence < 304:
        stays.consumer.step([1])
        origin.publisher.step()
    link, clock = stays._link, stays._clock
    leave(origin, redis)
    late = Server(tmp_path / "3", link, 3, clock)
    for _ in range(40):
        late.consumer.step([1, 2])
        stays.consumer.step([1, 3])
        stays.publisher.step()
        stays.relay.step(stays.publisher.present)
    told = [server.copies.of(1).read_judged(300, 10)[1]["billed_sequence"].tolist() for server in (stays, late)]
    assert told == [[0, qualified(1, 7), 8, qualified(3, 9)], [0, qualified(1, 7), qualified(2, 8), 9]]
    late.close()


def test_on_a_cluster(tmp_path: Path) -> None:
    with redis_cluster(masters=3) as cluster:
        link, clock = RedisLink(cluster.url), VirtualClock(START_MS)
        servers = [Server(tmp_path / str(n), link, n, clock) for n in (1, 2, 3)]
        for server in servers:
            server.judge(100, money=3)
        for _ in range(40):
            for server in servers:
                server.consumer.step([other.owner_id for other in servers if other is not server])
                server.publisher.step()
        for server in servers:
            for origin in servers:
                if origin is not server:
                    server.check(origin, is_whole=True)
        for server in servers:
            server.close()
        link.close()
