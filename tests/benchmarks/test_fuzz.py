"""The fuzzer: it finds what is planted, draws the same from a seed, and finds nothing in what is shipped."""

from __future__ import annotations

import json
from pathlib import Path

import grpc
import pytest

import fanbid
from benchmarks.fuzz import decoders, doors
from benchmarks.fuzz.decoders import Target, _feed, fuzz_decoders
from benchmarks.fuzz.findings import Findings
from benchmarks.fuzz.mutation import MAX_INPUT_BYTES, Mutator
from benchmarks.fuzz.run import MAX_GROWTH_BYTES, FuzzResult
from protos import bidding_pb2, campaigns_pb2


class Bar:
    def __init__(self) -> None:
        self.done = 0.0

    def advance(self, n: float = 1, note: str = "") -> None:
        self.done += n


def test_a_seed_draws_the_same_inputs() -> None:
    drawn = []
    for _ in range(2):
        mutator = Mutator(7)
        drawn.append(
            [mutator.input_from([b"abc", b"\x08\x01"]) for _ in range(50)]
            + [mutator.message_bytes(bidding_pb2.BidRequest.DESCRIPTOR) for _ in range(50)]
            + [mutator.json_bytes({"name": "x"}) for _ in range(50)]
        )
    assert drawn[0] == drawn[1]
    assert len(set(drawn[0])) > 100
    assert max(map(len, drawn[0])) <= MAX_INPUT_BYTES


def test_messages_of_every_type_can_be_drawn() -> None:
    mutator = Mutator(1)
    for module in (bidding_pb2, campaigns_pb2):
        for descriptor in module.DESCRIPTOR.message_types_by_name.values():
            for _ in range(20):
                mutator.message(descriptor).SerializeToString()


def test_what_is_planted_is_found() -> None:
    mutator, bar = Mutator(3), Bar()

    def take(raw: bytes) -> None:
        if b"\xff" in raw:
            raise ZeroDivisionError("planted")
        if len(raw) % 2:
            raise ValueError("odd")

    findings = _feed(Target("planted", lambda: mutator.input_from([b"abcd"]), take), 500, bar)
    assert findings.failed and findings.taken and findings.refused
    assert findings.inputs == bar.done == 500
    assert "ZeroDivisionError: planted" in findings.failures[0]
    memory = doors.Memory(0, 0)
    assert not FuzzResult([findings], [], memory).is_clean
    assert FuzzResult([], [], memory).is_clean
    assert not FuzzResult([], [], doors.Memory(1, MAX_GROWTH_BYTES + 2)).is_clean


def test_an_unforeseen_error_is_told_apart_from_a_refusal() -> None:
    def take(raw: bytes) -> None:
        raise {b"v": ValueError, b"t": TypeError}[raw]("x")

    seen = iter([b"v", b"t"])
    through = Target("through", lambda: next(seen), decoders._through(take), (decoders.Refused,))
    findings = _feed(through, 2, Bar())
    assert (findings.refused, findings.failed) == (1, 1)


def test_the_decoders_take_or_refuse_everything() -> None:
    found = fuzz_decoders(3_000, 11, Bar())
    assert [text for findings in found for text in findings.failures] == []
    names = {findings.target for findings in found}
    assert {"bid request", "report", "bearer token", "segment", "expression", "ledger", "Bidding/Report"} <= names
    taken = {findings.target for findings in found if findings.taken}
    assert {"bid request", "report", "Bidding/Bid", "Audience/PutFollows"} <= taken, "some inputs must be good"


def test_the_command_ends_in_a_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.fuzz.run.SERVED_SHARE", 1)
    monkeypatch.setattr("benchmarks.fuzz.doors.WARM_INPUTS", 200)
    assert fanbid.main(["bench", "fuzz", "--inputs", "400", "--json", str(tmp_path / "f.json")]) == 0
    shown = capsys.readouterr().out
    assert "gRPC Bidding/Bid" in shown and "REST routes" in shown
    figures = json.loads((tmp_path / "f.json").read_text())
    assert figures["found"] == 0 and figures["served_inputs"] >= 300
    assert fanbid.main(["bench", "fuzz", "--inputs", "0"]) == fanbid.EXIT_BAD_INPUT


def test_a_status_that_none_may_see_is_a_finding() -> None:
    class Answer(grpc.RpcError):
        def __init__(self, code: grpc.StatusCode, text: str) -> None:
            self._code, self._text = code, text

        def code(self) -> grpc.StatusCode:
            return self._code

        def details(self) -> str:
            return self._text

    findings = Findings("x")
    doors._judge(findings, b"", None)
    doors._judge(findings, b"", Answer(grpc.StatusCode.INVALID_ARGUMENT, "at 9"))
    for code in (grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAVAILABLE):
        doors._judge(findings, b"", Answer(code, "x"))
    doors._judge(findings, b"", Answer(grpc.StatusCode.NOT_FOUND, "Exception calling application: x"))
    assert (findings.taken, findings.refused, findings.failed) == (1, 1, 4)
