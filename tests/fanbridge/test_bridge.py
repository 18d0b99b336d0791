"""The whole bridge: outcomes out and tiers in, in lockstep and from its own thread, with and without a service."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest

from fanbridge.breaker import BackoffSettings, LinkState
from fanbridge.bridge import Bridge, BridgeSettings
from fanbridge.client import FanServiceClient
from fanbridge.delivery import Delivery
from fanbridge.events import FanServiceUnavailable, Rows
from fanbridge.outbox import OutboxSettings, select_outcomes
from pacing.clocks import MS_PER_DAY, SystemClock
from pacing.facts import OutcomeKind, RowStatus, Verdict
from pacing.ledger.followers import JudgeFollower
from pacing.ledger.log import Ledger
from protos import fans_pb2
from targeting.graph.follows import FollowGraph
from targeting.segments.store import SegmentStore
from targeting.viewers import ViewerTable
from tests.fanbridge.services import START_AT_MS, RowLog, connected, events, ledger_rows, running_service
from tests.fanbridge.sinks import Follows, Segments, Viewers

BILLABLE, FOLLOW, LIKE, GIFT = OutcomeKind.BILLABLE, OutcomeKind.FOLLOW, OutcomeKind.LIKE, OutcomeKind.GIFT


def judge(row: Rows) -> Verdict:
    """Charge impressions, attribute what came with a token, call the rest organic."""
    if row["kind"] == BILLABLE:
        return Verdict.CHARGED
    return Verdict.ATTRIBUTED if row["has_token"] else Verdict.ORGANIC


class Deployment:
    """A bridge with everything around it; the service is real."""

    def __init__(self, client: FanServiceClient, delivery: Delivery, settings: BridgeSettings | None = None) -> None:
        self.log, self.segments, self.viewers, self.follows = RowLog(), Segments(), Viewers(), Follows()
        self.retention: list[tuple[int, ...]] = []
        self.bridge = Bridge(
            client,
            delivery,
            viewers=self.viewers,
            segments=self.segments,
            append=lambda rows: self.log.append(rows),
            read_judged=self.log.read_judged,
            follows=self.follows,
            on_retention=lambda rows: self.retention.extend(rows.tolist()),
            settings=settings,
        )

    def step(self, now_ms: int) -> None:
        self.log.judge_all(judge)
        self.bridge.tick(now_ms)


def test_the_loop_closes_in_lockstep(tmp_path: Path) -> None:
    with running_service(tmp_path) as service, connected(service.address) as client:
        running = Deployment(client, Delivery(None))
        running.log.append(ledger_rows(20, [BILLABLE, FOLLOW]))
        running.step(START_AT_MS + 1_000)
        assert running.segments.viewers(running.viewers) == {
            "tier:potential:7": set(range(1, 11)),
            "stage:gained:7": set(range(1, 11)),
        }
        told = [(i, i, 7, GIFT, START_AT_MS + MS_PER_DAY + i) for i in range(1, 4)]
        client.push_events(events(*told, (9, 4, 7, OutcomeKind.UNFOLLOW, START_AT_MS + MS_PER_DAY)))
        running.step(START_AT_MS + MS_PER_DAY + 1_000)
        assert running.segments.viewers(running.viewers) == {
            "tier:potential:7": {4, 5, 6, 7, 8, 9, 10},
            "tier:high-value:7": {1, 2, 3},
            "stage:gained:7": {5, 6, 7, 8, 9, 10},
            "stage:activated:7": {1, 2, 3},
            "stage:lost:7": {4},
        }
        assert running.log.rows["kind"][20:].tolist() == [GIFT, GIFT, GIFT, OutcomeKind.UNFOLLOW]
        client.push_events(events((10, 1, 8, LIKE, START_AT_MS + MS_PER_DAY + 1_000)))
        running.step(START_AT_MS + MS_PER_DAY + 2_000)
        assert sorted(row[:4] for row in running.retention) == [(i, 7, 1, int(i != 4)) for i in range(1, 11)]
        assert running.bridge.kept_counts(7) == {1: (10, 9), 7: (0, 0), 30: (0, 0)}
        running.step(START_AT_MS + MS_PER_DAY + 3_000)
        status = running.bridge.status()
        assert (status.link, status.outcomes_delivered, status.events_appended) == (LinkState.UP, 20, 5)
        assert (status.outbox_position, status.outcomes_parked, status.outcomes_dead) == (25, 0, 0)


def test_the_same_steps_give_the_same_result(tmp_path: Path) -> None:
    def run(folder: Path) -> list[object]:
        with running_service(folder, day_ms=60_000) as service, connected(service.address) as client:
            running = Deployment(client, Delivery(None))
            random = np.random.default_rng(5)
            for step in range(30):
                rows = ledger_rows(30, [BILLABLE, FOLLOW, LIKE], first_seq=1 + 10 * step, occurred_at_ms=START_AT_MS)
                rows["occurred_at_ms"] += step * 60_000
                rows["viewer_id"] = rows["decision"]["viewer_id"] = random.integers(1, 40, 30)
                running.log.append(rows)
                running.step(START_AT_MS + step * 60_000)
            return [
                client.pull_tiers("", 10_000).rows.tolist(),
                client.pull_retention("", 10_000).rows.tolist(),
                running.retention,
                sorted(running.segments.viewers(running.viewers).items()),
            ]

    first = run(tmp_path / "first")
    assert first == run(tmp_path / "second")
    assert len(first[2]) > 20  # type: ignore[arg-type]


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for something that another thread does; gives up after a minute."""
    give_up_at = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < give_up_at, "it did not happen within a minute"
        time.sleep(0.005)


def test_the_own_thread_delivers_and_ends(tmp_path: Path) -> None:
    with running_service(tmp_path) as service, connected(service.address) as client:
        running = Deployment(client, Delivery(None), BridgeSettings(tick_interval_ms=5))
        running.log.append(ledger_rows(10, [BILLABLE, FOLLOW]))
        running.log.judge_all(judge)
        running.bridge.start(SystemClock())
        with pytest.raises(RuntimeError, match="started already"):
            running.bridge.start(SystemClock())
        wait_until(lambda: running.bridge.status().fans_changed == 5)
        running.bridge.close()
        assert "fanbridge" not in {thread.name for thread in threading.enumerate()}
        assert running.bridge.status().outbox_position == 10


def test_the_own_thread_survives_what_nobody_foresaw(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with running_service(tmp_path) as service, connected(service.address) as client:
        running = Deployment(client, Delivery(None), BridgeSettings(tick_interval_ms=5))
        running.log.append(ledger_rows(4, [BILLABLE]))
        judged, failures = running.log.read_judged, []

        def fail_twice(after: int, limit: int) -> tuple[Rows, Rows]:
            if len(failures) < 2:
                failures.append(after)
                raise OSError("disk full")
            return judged(after, limit)

        running.bridge.outbox._read_judged = fail_twice
        running.log.judge_all(judge)
        running.bridge.start(SystemClock())
        wait_until(lambda: running.bridge.outbox.position == 4)
        running.bridge.close()
        told = [record.message for record in caplog.records]
        assert told == ["outcomes could not be exchanged; trying again at every tick"]
        assert running.bridge.status().broken == ()


def test_one_stream_that_breaks_does_not_stop_the_others(tmp_path: Path) -> None:
    with running_service(tmp_path) as service, connected(service.address) as client:
        running = Deployment(client, Delivery(None))

        def no_room(rows: Rows) -> int:
            raise OSError("no room")

        append, running.log.append = running.log.append, no_room  # type: ignore[method-assign]
        client.push_events(events((1, 5, 7, FOLLOW, START_AT_MS), (2, 6, 8, LIKE, START_AT_MS + MS_PER_DAY)))
        running.step(START_AT_MS)
        status = running.bridge.status()
        assert status.broken == ("events",)
        assert (status.link, status.fans_changed, status.retention_judged) == (LinkState.UP, 2, 1)
        running.log.append = append  # type: ignore[method-assign]
        running.step(START_AT_MS)
        assert running.bridge.status().broken == ()
        assert running.log.rows["viewer_id"].tolist() == [5, 6]


@contextmanager
def odd_service(answer: Callable[[bytes, grpc.ServicerContext], bytes]) -> Iterator[str]:
    """A real gRPC server that answers every call of FanService with `answer`."""
    names = ("PullTiers", "PullEvents", "PullRetention", "PushOutcomes", "PushEvents")
    handlers = {name: grpc.unary_unary_rpc_method_handler(answer) for name in names}
    server = grpc.server(ThreadPoolExecutor(max_workers=2))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("fanbid.v1.FanService", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()


def test_a_service_that_hangs_is_left_after_the_deadline() -> None:
    release = threading.Event()

    def hang(request: bytes, context: grpc.ServicerContext) -> bytes:
        release.wait(30)
        return b""

    with odd_service(hang) as address, connected(address, deadline_ms=50) as client:
        running = Deployment(client, Delivery(None), BridgeSettings(backoff=BackoffSettings(1_000, 1_000, 1)))
        running.log.append(ledger_rows(2, [BILLABLE]))
        running.step(START_AT_MS)
        status = running.bridge.status()
        assert status.link is LinkState.DOWN
        assert "PushOutcomes" in status.last_failure
        assert "DEADLINE_EXCEEDED" in status.last_failure
        assert status.outbox_position == 0
        release.set()


@pytest.mark.parametrize(
    "raw",
    [
        fans_pb2.PullTiersResponse(viewer_ids=[1, 2], creator_ids=[1]).SerializeToString(),
        fans_pb2.PushOutcomesResponse(statuses=[1, 1, 1]).SerializeToString(),
        b"\xff\xff",
    ],
)
def test_senseless_answers_count_as_unavailable(raw: bytes) -> None:
    with odd_service(lambda request, context: raw) as address, connected(address) as client:
        with pytest.raises(FanServiceUnavailable, match="PullTiers"):
            client.pull_tiers("", 10)
        with pytest.raises(FanServiceUnavailable, match="PushOutcomes"):
            client.push_outcomes(select_outcomes(*judged_rows()))


def judged_rows() -> tuple[Rows, Rows]:
    log = RowLog()
    log.append(ledger_rows(2, [BILLABLE]))
    log.judge_all(judge)
    return log.rows, log.judgements


def test_statuses_that_this_side_does_not_know_are_no_delivery() -> None:
    raw = fans_pb2.PushOutcomesResponse(statuses=[RowStatus.ACCEPTED, 4_000_000_000]).SerializeToString()
    with odd_service(lambda request, context: raw) as address, connected(address) as client:
        assert client.push_outcomes(select_outcomes(*judged_rows())).tolist() == [RowStatus.ACCEPTED, 0]


def test_a_caller_without_rights_loses_nothing() -> None:
    def forbid(request: bytes, context: grpc.ServicerContext) -> bytes:
        context.abort(grpc.StatusCode.PERMISSION_DENIED, "who are you?")

    with odd_service(forbid) as address, connected(address) as client:
        running = Deployment(client, Delivery(None), BridgeSettings(outbox=OutboxSettings(push_rows=10)))
        running.log.append(ledger_rows(4, [BILLABLE]))
        running.step(START_AT_MS)
        status = running.bridge.status()
        assert (status.outbox_position, status.outcomes_dead, status.outcomes_parked) == (0, 0, 0)
        assert "who are you?" in status.last_failure


def test_a_closed_client_is_unavailable() -> None:
    client = FanServiceClient("127.0.0.1:1")
    client.close()
    with pytest.raises(FanServiceUnavailable):
        client.pull_tiers("", 1)
    with pytest.raises(ValueError, match="deadline_ms 0"):
        FanServiceClient("127.0.0.1:1", deadline_ms=0)


class TokenJudge:
    """Charges impressions, attributes what came with a token, calls the rest organic."""

    def judge(self, rows: Rows, judgements: Rows) -> Rows:
        judged = judgements.copy()
        judged["verdict"] = [judge(row) for row in rows]
        for name in ("campaign_id", "creative_id", "lease_id", "hold_seq"):
            judged[name] = rows["decision"][name]
        return judged


def test_the_loop_over_the_real_ledger_and_the_real_segments(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    judging = JudgeFollower(ledger, [TokenJudge()])
    segments, viewers = SegmentStore(), ViewerTable()
    follows = FollowGraph(viewers, segments)
    with running_service(tmp_path / "fans") as service, connected(service.address) as client:
        bridge = Bridge(
            client,
            Delivery(tmp_path / "delivery.sqlite"),
            viewers=viewers,
            segments=segments,
            append=ledger.append,
            read_judged=ledger.read_judged,
            follows=follows,
        )
        ledger.append(ledger_rows(6, [BILLABLE, FOLLOW]))
        bridge.tick(START_AT_MS)
        assert bridge.status().outbox_position == 0
        judging.catch_up()
        client.push_events(events((1, 9, 7, FOLLOW, START_AT_MS), (2, 1, 7, GIFT, START_AT_MS + 9)))
        bridge.tick(START_AT_MS + 10)
        judging.catch_up()
        bridge.tick(START_AT_MS + 20)
        assert (bridge.status().outbox_position, bridge.status().broken) == (8, ())
        assert service.store.outcome_count() == 6  # the organic follow stays out
        members = {
            name: sorted(viewers.ids[list(segments.members(name))].tolist())
            for name in segments.names
            if name.startswith(("tier:", "stage:"))
        }
        assert members == {
            "tier:potential:7": [2, 3, 9],
            "tier:high-value:7": [1],
            "stage:gained:7": [2, 3, 9],
            "stage:activated:7": [1],
        }
        assert viewers.ids[list(follows.fans_of(7))].tolist() == [9]
    ledger.close()
