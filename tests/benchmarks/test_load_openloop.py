from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest

from benchmarks.echo import METHOD, echo_server
from benchmarks.load import LoadSettings, configure, settings_from
from benchmarks.openloop import LoadTarget, cpu_seconds
from benchmarks.workload import draw_bid_requests, draw_targetings, make_audience, targeting_message, viewers_message
from protos import bidding_pb2
from targeting.expressions import Attribute, FansOf, compile_clauses
from targeting.validation import validate


class StallingServer:
    """Answers at once, except that it stalls once, for `stall_s`, at request number 20."""

    stall_s = 0.3

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.taken = 0

    def answer(self, raw: bytes, context: grpc.ServicerContext) -> bytes:
        with self._lock:
            self.taken += 1
            if self.taken == 20:
                time.sleep(self.stall_s)
        if raw == b"bad":
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "bad")
        return raw[::-1]


@pytest.fixture
def served() -> Iterator[tuple[StallingServer, grpc.Channel]]:
    behaviour = StallingServer()
    server = grpc.server(ThreadPoolExecutor(1))
    handler = grpc.unary_unary_rpc_method_handler(behaviour.answer)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Slow", {"Call": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield behaviour, channel
    server.stop(None).wait()


def test_a_stall_shows_as_latency_of_all_that_was_due_meanwhile(
    served: tuple[StallingServer, grpc.Channel],
) -> None:
    _, channel = served
    answers: list[bytes] = []
    target = LoadTarget(channel, "/test.Slow/Call", [b"ab", b"cd"], on_answer=answers.append)
    result = target.open_loop(200, 0.5)
    assert result.answered == result.latency.count == 100
    assert result.failed == 0
    assert set(answers) == {b"ba", b"dc"}
    # Of 100 requests at 200 a second, about 60 are due within the stall of 0.3 s; the mean one waits half of it.
    assert result.latency.percentile_us(75) > 60_000
    assert result.latency.percentile_us(100) > 0.8 * StallingServer.stall_s * 1e6


def test_saturation_keeps_no_more_under_way_than_it_says(served: tuple[StallingServer, grpc.Channel]) -> None:
    behaviour, channel = served
    behaviour.taken = 1_000_000
    result = LoadTarget(channel, "/test.Slow/Call", [b"x"]).saturate(4, 0.3)
    assert result.answered == behaviour.taken - 1_000_000 > 10
    assert result.answered_per_s == pytest.approx(result.answered / result.elapsed_s)


def test_refused_requests_count_as_failed(served: tuple[StallingServer, grpc.Channel]) -> None:
    answers: list[bytes] = []
    target = LoadTarget(served[1], "/test.Slow/Call", [b"bad", b"ok"], on_answer=answers.append)
    result = target.open_loop(500, 0.02)
    assert (result.answered, result.failed) == (5, 5)
    assert len(answers) == 5
    with pytest.raises(ValueError, match="rate 0"):
        target.open_loop(0, 1)


def test_echo_answers_from_another_process() -> None:
    with echo_server(b"answer", workers=2) as echo, grpc.insecure_channel(echo.address) as channel:
        assert channel.unary_unary(METHOD)(b"anything") == b"answer"
        assert cpu_seconds(echo.pid) > 0
    assert cpu_seconds(2**30) == 0.0


def _args(*flags: str) -> LoadSettings:
    parser = argparse.ArgumentParser()
    configure(parser)
    return settings_from(parser.parse_args(list(flags)))


def test_flags_choose_the_load() -> None:
    assert _args() == LoadSettings()
    assert _args("--campaigns", "7", "--viewers", "9", "--seconds", "2") == LoadSettings(7, 50_000, 9, 2.0)
    assert _args("--quick").campaigns < LoadSettings().campaigns
    for flag, value in (("--campaigns", "0"), ("--viewers", "1001"), ("--seconds", "0"), ("--rate", "nan")):
        with pytest.raises(ValueError, match=flag):
            _args(flag, value)


def test_requests_are_valid_and_viewers_differ() -> None:
    audience = make_audience(500, 3)
    requests = [bidding_pb2.BidRequest.FromString(raw) for raw in draw_bid_requests(audience, 5, 64, 3)]
    for request in requests:
        assert len(set(request.viewers.ids)) == 64
        assert request.at in (1, 2)
        assert request.bidfloor_micros > 0
    assert requests[0].viewers.ids != requests[1].viewers.ids
    message = viewers_message(audience, rows := np.arange(10))
    assert list(message.regions) == audience.attributes[rows, 0].tolist()
    assert draw_bid_requests(audience, 2, 64, 3) == draw_bid_requests(audience, 2, 64, 3)


def test_drawn_audiences_are_allowed_and_have_a_wire_form() -> None:
    for creator_id, targeting in enumerate(draw_targetings(200, 3), start=1):
        validate(targeting)
        assert 1 <= len(compile_clauses(targeting, creator_id, False)) <= 8
        assert targeting_message(targeting).WhichOneof("node") == "all"
    with pytest.raises(ValueError, match="not one that this workload draws"):
        targeting_message(FansOf((1,)))
    region = next(
        part for t in draw_targetings(50, 3) for part in t.of if isinstance(part, Attribute) and part.dimension == 0
    )
    assert targeting_message(region).attribute.dimension == 1
