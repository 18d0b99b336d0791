"""The fan service over real gRPC: what it answers, what it refuses and how, and the program around it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from hypothesis import given, settings
from hypothesis import strategies as st

from fanbridge.client import FanServiceClient
from fanbridge.events import FanServiceRefused, FanServiceUnavailable, Stage, Tier
from fanbridge.service.server import RunningService, ServiceSettings
from pacing.clocks import MS_PER_DAY, MS_PER_HOUR, SystemClock
from pacing.facts import OutcomeKind, RowStatus
from protos import bidding_pb2, fans_pb2
from tests.fanbridge.services import START_AT_MS, ServiceProcess, connected, events, outcomes, running_service

LIKE, FOLLOW, BILLABLE = OutcomeKind.LIKE, OutcomeKind.FOLLOW, OutcomeKind.BILLABLE


@pytest.fixture
def service(tmp_path: Path) -> Iterator[RunningService]:
    with running_service(tmp_path / "fans") as running:
        yield running


@pytest.fixture
def client(service: RunningService) -> Iterator[FanServiceClient]:
    with connected(service.address) as connection:
        yield connection


def test_enums_are_those_of_the_protocol() -> None:
    assert {f"TIER_{tier.name}": tier.value for tier in Tier} == dict(fans_pb2.Tier.items())
    assert {f"STAGE_{stage.name}": stage.value for stage in Stage} == dict(fans_pb2.Stage.items())
    told = {f"ROW_STATUS_{status.name}": status.value for status in RowStatus}
    assert told.items() <= dict(bidding_pb2.RowStatus.items()).items()


def test_events_come_back_by_cursor_and_move_fans(client: FanServiceClient) -> None:
    told = events(*[(i, 2**64 - i, 7, FOLLOW, START_AT_MS + i) for i in range(1, 6)])
    assert client.push_events(told).tolist() == [RowStatus.ACCEPTED] * 5
    assert client.push_events(told).tolist() == [RowStatus.DUPLICATE] * 5
    first = client.pull_events("", 3)
    rest = client.pull_events(first.next_cursor, 3)
    assert np.concatenate([first.rows, rest.rows]).tolist() == told.tolist()
    end = client.pull_events(rest.next_cursor, 3)
    assert (len(end.rows), end.next_cursor) == (0, rest.next_cursor)
    changes = client.pull_tiers("", 0)
    assert [row[:4] for row in changes.rows.tolist()] == [
        (2**64 - i, 7, Tier.POTENTIAL, Stage.GAINED) for i in range(1, 6)
    ]


def test_outcomes_count_once_and_are_not_echoed_as_events(client: FanServiceClient) -> None:
    told = outcomes((1, 1, BILLABLE, 5, 7, 900, START_AT_MS), (1, 1, FOLLOW, 5, 7, 0, START_AT_MS + 1))
    assert client.push_outcomes(told, ["fans:3,interest:7", ""]).tolist() == [RowStatus.ACCEPTED] * 2
    assert client.push_outcomes(told).tolist() == [RowStatus.DUPLICATE] * 2
    assert len(client.pull_events("", 10).rows) == 0
    assert client.pull_tiers("", 10).rows["stage"].tolist() == [Stage.GAINED]


@pytest.mark.parametrize(
    ("audiences", "problem"),
    [
        (["dancers"], "audiences: 1 texts, must be none or 2"),
        (["dancers", "Dancers!"], r"audiences\[1\] 'Dancers!'"),
        (["a" * 201, ""], r"audiences\[0\]"),
    ],
)
def test_audiences_that_are_none_are_refused(client: FanServiceClient, audiences: list[str], problem: str) -> None:
    told = outcomes((1, 1, BILLABLE, 5, 7, 900, START_AT_MS), (1, 1, FOLLOW, 5, 7, 0, START_AT_MS + 1))
    with pytest.raises(FanServiceRefused, match=problem):
        client.push_outcomes(told, audiences)
    assert client.push_outcomes(told).tolist() == [RowStatus.ACCEPTED] * 2


def test_virtual_time_follows_the_newest_row(client: FanServiceClient) -> None:
    client.push_events(events((1, 5, 7, FOLLOW, START_AT_MS)))
    client.push_events(events((2, 6, 8, LIKE, START_AT_MS + 8 * MS_PER_DAY)))
    judged = client.pull_retention("", 10).rows.tolist()
    assert judged == [(5, 7, 1, 1, START_AT_MS + MS_PER_DAY), (5, 7, 7, 1, START_AT_MS + 7 * MS_PER_DAY)]
    client.push_events(events((3, 6, 8, LIKE, START_AT_MS + 14 * MS_PER_DAY)))
    stages = {row[0]: row[3] for row in client.pull_tiers("", 10).rows.tolist()}
    assert stages[5] == Stage.SILENT


def test_virtual_time_goes_on_after_a_restart(tmp_path: Path) -> None:
    far_ahead = [START_AT_MS + days * MS_PER_DAY for days in (300, 600, 1_200)]
    taken = []
    for event_id, at_ms in enumerate(far_ahead, start=1):
        with running_service(tmp_path) as service, connected(service.address) as client:
            taken += client.push_events(events((event_id, 5, 7, LIKE, at_ms))).tolist()
    assert taken == [RowStatus.ACCEPTED, RowStatus.ACCEPTED, RowStatus.INVALID]


@pytest.mark.parametrize(
    "row",
    [
        (0, 5, 7, LIKE, START_AT_MS),
        (1, 0, 7, LIKE, START_AT_MS),
        (1, 5, 0, LIKE, START_AT_MS),
        (1, 5, 7, 0, START_AT_MS),
        (1, 5, 7, BILLABLE, START_AT_MS),
        (1, 5, 7, 16, START_AT_MS),
        (1, 5, 7, 2**32 - 1, START_AT_MS),
        (1, 5, 7, LIKE, 0),
        (1, 5, 7, LIKE, -(2**63)),
        (1, 5, 7, LIKE, 2**63 - 1),
    ],
)
def test_a_bad_event_is_refused_alone(client: FanServiceClient, row: tuple[int, ...]) -> None:
    good = [(10, 5, 7, LIKE, START_AT_MS), (11, 5, 7, LIKE, START_AT_MS + 1)]
    statuses = client.push_events(events(good[0], row, good[1]))
    assert statuses.tolist() == [RowStatus.ACCEPTED, RowStatus.INVALID, RowStatus.ACCEPTED]
    assert client.pull_events("", 10).rows["event_id"].tolist() == [10, 11]


def test_a_bad_outcome_is_refused_alone(client: FanServiceClient) -> None:
    rows = outcomes(
        (1, 1, BILLABLE, 5, 7, 0, START_AT_MS),
        (1, 2, BILLABLE, 5, 7, -1, START_AT_MS),
        (1, 3, LIKE, 5, 7, 1, START_AT_MS),
        (1, 4, OutcomeKind.LOSS, 5, 7, 0, START_AT_MS),
        (1, 5, LIKE, 5, 7, 0, START_AT_MS),
    )
    rows["campaign_id"][4] = 0
    invalid = RowStatus.INVALID
    assert client.push_outcomes(rows).tolist() == [RowStatus.ACCEPTED, invalid, invalid, invalid, invalid]


def test_requests_that_are_wrong_as_a_whole_name_field_and_range(
    service: RunningService, client: FanServiceClient
) -> None:
    with pytest.raises(FanServiceRefused, match=r"limit 10001: must be 1\.\.10000"):
        client.pull_tiers("", 10_001)
    with pytest.raises(FanServiceRefused, match="cursor 'elsewhere'"):
        client.pull_events("elsewhere", 10)
    with pytest.raises(FanServiceRefused, match=r"rows 5001: must be 0\.\.5000"):
        client.push_events(events(*[(i, 5, 7, LIKE, START_AT_MS) for i in range(1, 5_002)]))
    uneven = fans_pb2.PushEventsRequest(event_ids=[1, 2], viewer_ids=[1])
    assert "viewer_ids: 1 numbers, must be 2" in refusal(service.address, "PushEvents", uneven.SerializeToString())


def test_a_cursor_of_another_store_starts_from_the_beginning(client: FanServiceClient) -> None:
    client.push_events(events((1, 5, 7, LIKE, START_AT_MS)))
    assert len(client.pull_events("00000000.999", 10).rows) == 1


def refusal(address: str, method: str, raw: bytes) -> str:
    """Send raw bytes; answers the details of INVALID_ARGUMENT; empty when there was an answer."""
    with grpc.insecure_channel(address) as channel:
        try:
            channel.unary_unary(f"/fanbid.v1.FanService/{method}")(raw, timeout=10)
        except grpc.RpcError as error:
            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT, error
            return str(error.details())
    return ""


def test_arbitrary_bytes_never_break_the_service(service: RunningService, client: FanServiceClient) -> None:
    with grpc.insecure_channel(service.address) as channel:

        @settings(max_examples=150, deadline=None)
        @given(
            st.sampled_from(["PullTiers", "PullEvents", "PullRetention", "PushOutcomes", "PushEvents"]),
            st.binary(max_size=80),
        )
        def send(method: str, raw: bytes) -> None:
            try:
                channel.unary_unary(f"/fanbid.v1.FanService/{method}")(raw, timeout=10)
            except grpc.RpcError as error:
                assert error.code() is grpc.StatusCode.INVALID_ARGUMENT, error

        send()
    assert "no fanbid.v1.PullRequest" in refusal(service.address, "PullTiers", b"\xff\xff\xff")
    assert client.push_events(events((1, 5, 7, LIKE, START_AT_MS))).tolist() == [RowStatus.ACCEPTED]


def test_health_and_reflection(service: RunningService) -> None:
    with grpc.insecure_channel(service.address) as channel:
        asked = health_pb2.HealthCheckRequest(service="fanbid.v1.FanService")
        answer = health_pb2_grpc.HealthStub(channel).Check(asked, timeout=10)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        question = reflection_pb2.ServerReflectionRequest(file_containing_symbol="fanbid.v1.FanService")
        (found,) = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([question]), timeout=10)
        assert found.file_descriptor_response.file_descriptor_proto


def test_a_service_on_the_systems_time_takes_rows_of_now_only(tmp_path: Path) -> None:
    service = RunningService(ServiceSettings(tmp_path))
    now_ms = SystemClock().wall_ms()
    try:
        with connected(service.address) as client:
            told = events((1, 5, 7, LIKE, now_ms), (2, 5, 7, LIKE, now_ms + 2 * MS_PER_HOUR))
            assert client.push_events(told).tolist() == [RowStatus.ACCEPTED, RowStatus.INVALID]
    finally:
        service.stop()


def test_an_address_that_is_taken_is_named(tmp_path: Path, service: RunningService) -> None:
    with pytest.raises(ValueError, match=f"listen {service.address}"):
        RunningService(ServiceSettings(tmp_path / "other", service.address))


def test_a_store_that_cannot_answer_is_unavailable_and_says_nothing_internal(
    service: RunningService, client: FanServiceClient
) -> None:
    service.store.close()
    with pytest.raises(FanServiceUnavailable, match="the store cannot answer now"):
        client.push_events(events((1, 5, 7, LIKE, START_AT_MS)))


def test_the_program_keeps_what_it_acknowledged_and_ends_politely(tmp_path: Path) -> None:
    program = ServiceProcess(tmp_path)
    try:
        assert program.start()["grpc"] == program.address
        with connected(program.address) as client:
            client.push_events(events((1, 5, 7, FOLLOW, START_AT_MS)))
            program.kill()
            program.start()
            assert client.push_events(events((1, 5, 7, FOLLOW, START_AT_MS))).tolist() == [RowStatus.DUPLICATE]
            assert len(client.pull_tiers("", 10).rows) == 1
        assert program.end(signal.SIGTERM) == 0
    finally:
        program.kill()
