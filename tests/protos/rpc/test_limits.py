"""The limits of a gRPC server against clients that misbehave on real sockets: each is cut off, others are served."""

from __future__ import annotations

import gzip
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from auction.status import refuse
from protos.rpc.health_service import MAX_WATCHERS, REFLECTION_THREADS, Health, Status, add_health_and_reflection
from protos.rpc.limits import MAX_METADATA_BYTES, MAX_REQUEST_BYTES, MAX_STREAMS_PER_CONNECTION, SERVER_OPTIONS
from protos.rpc.refusals import MessageMissing
from protos.rpc.server import Receive, RpcServer
from tests.protos.rpc.http2 import (
    GOAWAY,
    HEADERS,
    MAX_CONCURRENT_STREAMS,
    MAX_HEADER_LIST_SIZE,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    call_head,
    frame,
    headers,
    message,
    raw_peer,
)

PATH = "/test.Echo/Call"
WORKERS = 2
MESSAGE_TIMEOUT_S = 0.3
SHORT_MS = {
    "grpc.server_handshake_timeout_ms": 1_000,
    "grpc.http2.settings_timeout": 1_000,
    "grpc.max_connection_idle_ms": 800,
    "grpc.keepalive_time_ms": 1_000,
    "grpc.keepalive_timeout_ms": 500,
    "grpc.http2.ping_timeout_ms": 500,
}
WAIT_S = 20.0


class Unforeseen(RuntimeError):
    pass


def echo(receive: Receive, _: grpc.ServicerContext) -> bytes:
    raw = receive()
    if raw == b"fail":
        raise Unforeseen("a secret path")
    return raw


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[str, Health]]:
    assert set(SHORT_MS) <= set(dict(SERVER_OPTIONS))
    server = RpcServer(WORKERS, refuse, message_timeout_s=MESSAGE_TIMEOUT_S, options=SHORT_MS)
    server.add_unary("test.Echo", {"Call": echo})
    health = add_health_and_reflection(server, ())
    address = server.bind("127.0.0.1:0")
    server.start()
    yield address, health
    server.stop(0.2)


@pytest.fixture(scope="module")
def address(served: tuple[str, Health]) -> str:
    return served[0]


@pytest.fixture
def channel(address: str) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        yield channel


def call(channel: grpc.Channel, raw: bytes, **keywords: object) -> bytes:
    return channel.unary_unary(PATH)(raw, timeout=WAIT_S, wait_for_ready=True, **keywords)


def refusal(channel: grpc.Channel, path: str, raw: bytes, **keywords: object) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as error:
        channel.unary_unary(path)(raw, timeout=WAIT_S, wait_for_ready=True, **keywords)
    return error.value.code(), error.value.details()


STALLED = {
    "nothing": [],
    "half a preface": [PREFACE[:10]],
    "a preface": [PREFACE],
    "settings that are never acknowledged": [PREFACE, frame(SETTINGS)],
    "half a TLS greeting": [b"\x16\x03"],
    "something else": [bytes(range(256))],
    "HTTP/1.1": [b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"],
}


@pytest.mark.parametrize("sent", STALLED.values(), ids=STALLED.keys())
def test_a_connection_that_never_becomes_one_is_closed(address: str, sent: list[bytes]) -> None:
    with raw_peer(address) as peer:
        peer.send(*sent)
        assert peer.seconds_until_closed(WAIT_S) < WAIT_S


BROKEN = {
    "nothing": [],
    "half a frame's head": [b"\x00\x00"],
    "half a header block": [frame(HEADERS, 0, 1, headers(PATH)[:20])],
    "a call that says nothing": [call_head(PATH)],
    "half a message": [call_head(PATH), message(b"abc", flags=0, length=100)],
    "a frame larger than allowed": [frame(9, 0, 1, b"", length=0xFFFFFF)],
    "headers that cannot be decoded": [frame(HEADERS, 4, 1, b"\xff" * 40)],
    "a frame on a stream that is none": [frame(0, 0, 2, b"abc")],
    "settings of a wrong length": [frame(SETTINGS, 0, 0, b"abc")],
}


@pytest.mark.parametrize("sent", BROKEN.values(), ids=BROKEN.keys())
def test_a_connection_that_stalls_or_talks_nonsense_is_closed(address: str, sent: list[bytes]) -> None:
    with raw_peer(address) as peer:
        peer.greet()
        peer.send(*sent)
        assert peer.seconds_until_closed(WAIT_S) < WAIT_S


def test_a_connection_whose_other_end_is_gone_is_closed(address: str) -> None:
    with raw_peer(address) as watcher:
        watcher.greet()
        # An open call keeps the connection from being idle, so that only the missing pong can end it.
        watcher.send(call_head("/grpc.health.v1.Health/Watch"), message(b""))
        assert watcher.seconds_until_closed(WAIT_S, answer_pings=False) < WAIT_S


def test_too_many_pings_end_a_connection(address: str) -> None:
    with raw_peer(address) as peer:
        peer.greet()
        # As few as will do: bytes that the server leaves unread would make its farewell a reset.
        peer.send(*[frame(PING, 0, 0, bytes(8))] * (2 + dict(SERVER_OPTIONS)["grpc.http2.max_ping_strikes"]))
        farewells = [body for kind, _, _, body in peer.frames(WAIT_S) if kind == GOAWAY]
    assert b"too_many_pings" in farewells[-1]


def test_connections_beyond_the_limit_are_closed_at_once() -> None:
    most = 3
    with another_server(max_allowed_incoming_connections=most) as crowded, ExitStack() as peers:
        taken = [peers.enter_context(raw_peer(crowded)) for _ in range(most)]
        for peer in taken:
            peer.greet()
            assert next(peer.frames(WAIT_S))[0] == SETTINGS
        with raw_peer(crowded) as late:
            assert late.seconds_until_closed(WAIT_S) < WAIT_S
        taken[0].close()
        deadline_s = time.monotonic() + WAIT_S
        while True:  # the place is free as soon as the server has noticed
            with grpc.insecure_channel(crowded, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
                try:
                    assert channel.unary_unary(PATH)(b"served", timeout=WAIT_S) == b"served"
                    break
                except grpc.RpcError:
                    assert time.monotonic() < deadline_s


@contextmanager
def another_server(**options: int) -> Iterator[str]:
    server = RpcServer(WORKERS, refuse, options={f"grpc.{name}": value for name, value in options.items()})
    server.add_unary("test.Echo", {"Call": echo})
    add_health_and_reflection(server, ())
    address = server.bind("127.0.0.1:0")
    server.start()
    try:
        yield address
    finally:
        server.stop(0.2)


def test_a_connection_that_is_too_old_is_closed_with_its_calls() -> None:
    with (
        another_server(max_connection_age_ms=300, max_connection_age_grace_ms=300) as address,
        raw_peer(address) as peer,
    ):
        peer.greet()
        peer.send(call_head("/grpc.health.v1.Health/Watch"), message(b""))
        assert peer.seconds_until_closed(WAIT_S) < WAIT_S


def test_calls_beyond_the_limit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protos.rpc.server.MAX_CALLS", 2)
    with another_server() as address, grpc.insecure_channel(address) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch
        streams = [watch(health_pb2.HealthCheckRequest()) for _ in range(2)]
        assert all(next(stream).status == Status.SERVING for stream in streams)
        assert refusal(channel, PATH, b"x")[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
        for stream in streams:
            stream.cancel()


def test_what_the_server_announces(address: str) -> None:
    with raw_peer(address) as peer:
        peer.send(PREFACE, frame(SETTINGS))
        body = next(body for kind, flags, _, body in peer.frames(WAIT_S) if kind == SETTINGS and not flags)
    told = dict(struct.iter_unpack(">HI", body))
    assert told[MAX_CONCURRENT_STREAMS] == MAX_STREAMS_PER_CONNECTION == 256
    assert told[MAX_HEADER_LIST_SIZE] == MAX_METADATA_BYTES


def test_calls_that_send_nothing_do_not_keep_others_waiting(address: str, channel: grpc.Channel) -> None:
    with raw_peer(address) as peer:
        peer.greet()
        for k in range(4 * WORKERS):
            peer.send(call_head(PATH, stream=2 * k + 1), message(b"abc", 2 * k + 1, flags=0, length=100))
        assert call(channel, b"served") == b"served"
        ended = sum(kind in (HEADERS, RST_STREAM) for kind, *_ in peer.frames(WAIT_S))
        assert ended >= 4 * WORKERS


def test_open_streams_of_health_and_reflection_do_not_keep_others_waiting(
    served: tuple[str, Health], channel: grpc.Channel
) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while served[1].open_watchers:  # of a test before, whose stream has just ended
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    watch = health_pb2_grpc.HealthStub(channel).Watch
    streams = [watch(health_pb2.HealthCheckRequest()) for _ in range(MAX_WATCHERS)]
    assert all(next(stream).status == Status.SERVING for stream in streams)
    with pytest.raises(grpc.RpcError) as error:
        next(watch(health_pb2.HealthCheckRequest()))
    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    ask = channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
    go_on = threading.Event()
    silent = [ask(_nothing_until(go_on)) for _ in range(2 * WORKERS + REFLECTION_THREADS)]
    assert call(channel, b"served") == b"served"
    for stream in silent:  # each is ended, by the server, since it says nothing
        with pytest.raises(grpc.RpcError):
            next(stream)
    go_on.set()
    for stream in streams:
        stream.cancel()


def _nothing_until(event: threading.Event) -> Iterator[bytes]:
    event.wait(WAIT_S)
    yield from ()


def test_health_tells_changes(served: tuple[str, Health], channel: grpc.Channel) -> None:
    health = served[1]
    health.set(Status.SERVING, ("test.Echo",))
    stream = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service="test.Echo"))
    assert next(stream).status == Status.SERVING
    health.set(Status.NOT_SERVING, ("test.Echo",))
    assert next(stream).status == Status.NOT_SERVING
    stream.cancel()


def test_messages_up_to_a_mebibyte_are_taken(channel: grpc.Channel) -> None:
    largest = bytes(MAX_REQUEST_BYTES)
    assert call(channel, largest) == largest
    code, text = refusal(channel, PATH, largest + b"x")
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in text


def test_a_message_that_unpacks_to_more_is_refused(address: str, channel: grpc.Channel) -> None:
    packed = gzip.compress(bytes(64 * MAX_REQUEST_BYTES))
    assert len(packed) < MAX_REQUEST_BYTES
    with grpc.insecure_channel(address, options=[("grpc.max_send_message_length", -1)]) as large:
        code, _ = refusal(large, PATH, bytes(64 * MAX_REQUEST_BYTES), compression=grpc.Compression.Gzip)
    assert code in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNIMPLEMENTED)
    assert call(channel, b"served") == b"served"


def test_metadata_that_is_too_large_is_refused(channel: grpc.Channel) -> None:
    assert call(channel, b"x", metadata=(("note", "x" * (MAX_METADATA_BYTES // 2)),)) == b"x"
    code, _ = refusal(channel, PATH, b"x", metadata=(("note", "x" * 2 * MAX_METADATA_BYTES),))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert call(channel, b"served") == b"served"


def test_what_nobody_foresaw_is_unavailable_and_says_nothing_internal(channel: grpc.Channel) -> None:
    code, text = refusal(channel, PATH, b"fail")
    assert code is grpc.StatusCode.UNAVAILABLE
    assert "Unforeseen" not in text and "secret" not in text


OPEN_CALLS = ("/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch")


@pytest.mark.parametrize("path", OPEN_CALLS)
def test_bad_bytes_to_calls_that_need_no_token(channel: grpc.Channel, path: str) -> None:
    code, text = refusal(channel, path, b"\xff\xff")
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert text == "request: 2 bytes that are no grpc.health.v1.HealthCheckRequest"


def test_bad_bytes_to_reflection(channel: grpc.Channel) -> None:
    stream = channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
    with pytest.raises(grpc.RpcError) as error:
        list(stream(iter([b"\xff\xff"]), timeout=WAIT_S))
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_call_without_a_message_is_told_so(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as error:
        channel.stream_unary(PATH)(iter(()), timeout=WAIT_S)
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error.value.details() == "request: the call ended without its message"


@pytest.mark.parametrize("patient", [True, False])
def test_a_conversation_may_pause_where_that_is_meant(patient: bool) -> None:
    server = RpcServer(WORKERS, refuse, message_timeout_s=MESSAGE_TIMEOUT_S)

    def converse(receive: Receive, _: grpc.ServicerContext) -> Iterator[bytes]:
        while True:
            try:
                yield receive()
            except MessageMissing:
                return

    server.add_streams("test.Talk", {"Talk": converse}, ThreadPoolExecutor(1), patient=patient)
    address = server.bind("127.0.0.1:0")
    server.start()
    go_on = threading.Event()

    def messages() -> Iterator[bytes]:
        yield b"one"
        go_on.wait(WAIT_S)
        yield b"two"

    with grpc.insecure_channel(address) as channel:
        stream = channel.stream_stream("/test.Talk/Talk")(messages(), timeout=WAIT_S, wait_for_ready=True)
        assert next(stream) == b"one"
        time.sleep(3 * MESSAGE_TIMEOUT_S)
        go_on.set()
        if patient:
            assert list(stream) == [b"two"]
        else:
            with pytest.raises(grpc.RpcError):
                list(stream)
    server.stop(0.2)


def test_calls_that_do_not_exist_are_unimplemented(channel: grpc.Channel) -> None:
    for path in ("/test.Echo/Other", "/test.Other/Call", "/x", "/grpc.health.v1.Health/List"):
        assert refusal(channel, path, b"")[0] is grpc.StatusCode.UNIMPLEMENTED
