"""The fuzzer: it finds what is planted, draws the same from a seed, and finds nothing in what is shipped."""

from __future__ import annotations

import gc
import importlib.util
import json
import multiprocessing
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

import fanbid
from benchmarks.fuzz import decoders, doors
from benchmarks.fuzz.decoders import all_targets, fuzz_set
from benchmarks.fuzz.findings import Findings
from benchmarks.fuzz.memory import Memory
from benchmarks.fuzz.mutation import MAX_INPUT_BYTES, Mutator
from benchmarks.fuzz.run import MAX_LATE_GROWTH_BYTES, FuzzResult
from benchmarks.fuzz.sets import SET_INPUTS, Fed, InputSet, feed_sets, sets_of
from benchmarks.fuzz.targets import Target, as_client_sees, feed
from protos import bidding_pb2, campaigns_pb2
from protos.rpc.refusals import Refused


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


def planted(raw: bytes) -> None:
    """A decoder that cannot take 0xff."""
    if b"\xff" in raw:
        raise ZeroDivisionError("planted")
    if len(raw) % 2:
        raise ValueError("odd")


def test_what_is_planted_is_found() -> None:
    mutator, bar = Mutator(3), Bar()
    findings = feed(Target("planted", lambda: mutator.input_from([b"abcd"]), planted), 500, bar)
    assert findings.failed and findings.taken and findings.refused
    assert findings.inputs == bar.done == 500
    assert "ZeroDivisionError: planted" in findings.failures[0]
    assert not FuzzResult(Fed([findings]), []).is_clean
    assert FuzzResult(Fed(), []).is_clean


def test_memory_may_grow_at_first_but_not_for_ever() -> None:
    limit = MAX_LATE_GROWTH_BYTES
    assert FuzzResult(Fed(), [], Memory(0, 10 * limit, 11 * limit)).is_clean
    assert not FuzzResult(Fed(), [], Memory(0, 0, limit + 1)).is_clean
    assert not FuzzResult(Fed([], Memory(0, 0, limit + 1)), []).is_clean


def test_an_unforeseen_error_is_told_apart_from_a_refusal() -> None:
    def take(raw: bytes) -> None:
        raise {b"v": ValueError, b"t": TypeError}[raw]("x")

    seen = iter([b"v", b"t"])
    through = Target("through", lambda: next(seen), as_client_sees(take), (Refused,))
    findings = feed(through, 2, Bar())
    assert (findings.refused, findings.failed) == (1, 1)


def test_inputs_are_cut_into_sets_that_can_be_drawn_alone() -> None:
    cut = sets_of(2 * SET_INPUTS + 5, 40)
    assert [each.seed for each in cut] == [40, 41, 42]
    assert sum(each.inputs for each in cut) == 2 * SET_INPUTS + 5
    (alone,) = sets_of(cut[1].inputs, cut[1].seed)
    assert alone == cut[1]
    assert "--seed 41" in alone.command and f"--inputs {alone.inputs}" in alone.command


def test_the_decoders_take_or_refuse_everything() -> None:
    found = fuzz_set(9_000, 11, Bar())
    assert [text for findings in found for text in findings.failures] == []
    names = {findings.target for findings in found}
    assert {
        "bid request", "report", "columns of BidRequest", "bearer token", "segment", "expression", "audience", "ledger",
        "ledger anchor", "audience journal", "landscape archive", "key file", "campaign store", "delivery state",
        "state of the learner", "state of reports", "state of progress", "snapshot of budgets", "file of --history",
        "file of --model", "file of PACK", "body of a campaign", "query LiveQuery", "REST request",
        "answer of PullEvents", "FanService/PushEvents", "Bidding/Report",
    } <= names  # fmt: skip
    taken = {findings.target for findings in found if findings.taken}
    good = {"bid request", "report", "columns of BidRequest", "Bidding/Bid", "Audience/PutFollows", "body of a change"}
    assert good <= taken, "some inputs must be good"


def test_a_twin_that_reads_otherwise_than_the_public_class_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("auction.bid.wire._is_whole", lambda *_: True)
    mutator = Mutator(4)
    with all_targets(mutator) as targets:
        (target,) = (each for each in targets if each.name == "columns of BidRequest")
        findings = feed(target, 400, Bar())
    assert "Disagreement" in "".join(findings.failures)


@pytest.fixture
def frail_set(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Sets whose one target ends the process at some input."""

    def end_at(inputs: int, seed: int, bar: Bar, note: Callable[[str, bytes], None] | None = None) -> list[Findings]:
        for number in range(inputs):
            if note is not None:
                note("frail", b"%d" % number)
            if number == 7 and seed == 2:
                os._exit(9)
        bar.advance(inputs)
        return [Findings("frail", taken=inputs)]

    monkeypatch.setattr(decoders, "fuzz_set", end_at)
    context = multiprocessing.get_context("fork")
    monkeypatch.setattr("benchmarks.fuzz.sets.multiprocessing.get_context", lambda _: context)
    # What is collected in a forked process must not be what the parent left: gRPC's channels wait there for threads
    # that a fork does not copy.
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("frail_set")
def test_a_worker_that_dies_names_its_last_input() -> None:
    fed = feed_sets([InputSet(10, 1), InputSet(20, 2), InputSet(10, 3)], 2, Bar())
    (findings,) = fed.findings
    assert findings.failed == 1 and findings.taken == 20, "the other worker went on"
    assert f"frail={b'7'.hex()}\nthe process ended with code 9" in findings.failures[0]
    assert "--inputs 20 --seed 2" in findings.failures[0]


def test_several_workers_feed_every_set(capsys: pytest.CaptureFixture[str]) -> None:
    bar = Bar()
    fed = feed_sets([InputSet(150, 5), InputSet(150, 6)], 2, bar)
    assert [text for findings in fed.findings for text in findings.failures] == []
    assert sum(findings.inputs for findings in fed.findings) == bar.done >= 300
    assert fed.memory.before > 0


def test_the_command_ends_in_a_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.fuzz.doors.WARM_INPUTS", 200)
    flags = ["bench", "fuzz", "--inputs", "400", "--served", "400", "--json", str(tmp_path / "f.json")]
    assert fanbid.main(flags) == 0
    shown = capsys.readouterr().out
    assert "seed 1: 400 inputs" in shown and "gRPC Bidding/Bid" in shown and "REST routes" in shown
    figures = json.loads((tmp_path / "f.json").read_text())
    assert figures["found"] == 0 and figures["served_inputs"] >= 300


def test_an_input_is_fed_again_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fanbid.main(["bench", "fuzz", "--replay", "segment=00ff"]) == 0
    assert "segment" in capsys.readouterr().out
    (tmp_path / "finding").write_text("bid request=0a01\nand what it did", encoding="utf-8")
    assert fanbid.main(["bench", "fuzz", "--replay", f"@{tmp_path / 'finding'}"]) == 0


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["--inputs", "0", "--served", "0"], "one of --inputs and --served 1 or more"),
        (["--inputs", "-1"], "--inputs -1"),
        (["--workers", "0"], "--workers 0"),
        (["--replay", "segment=xy"], "'xy' is not hexadecimal"),
        (["--replay", "nothing=00"], "target 'nothing': must be one of bid request, "),
        (["--guided", "0"], "--guided 0"),
    ],
)
def test_flags_that_cannot_be_used(flags: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert fanbid.main(["bench", "fuzz", *flags]) == fanbid.EXIT_BAD_INPUT
    assert text in capsys.readouterr().err


def test_guided_without_atheris_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.fuzz.run.importlib.util.find_spec", lambda name: None)
    assert fanbid.main(["bench", "fuzz", "--guided", "5"]) == fanbid.EXIT_BAD_INPUT
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1 and "pip install 'fanbid[fuzz]'" in shown


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not installed")
def test_guided_inputs_reach_every_target_and_find_nothing(tmp_path: Path) -> None:
    assert fanbid.main(["bench", "fuzz", "--guided", "10", "--workers", "1", "--json", str(tmp_path / "g.json")]) == 0
    figures = json.loads((tmp_path / "g.json").read_text())
    assert figures["found"] == 0 and figures["decoder_targets"] > 50 and figures["decoder_inputs"] > 1_000


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
