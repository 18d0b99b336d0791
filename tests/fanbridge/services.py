"""Real fan services for the tests, in this process or in one that can be killed, faults in between; a small ledger."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from fanbridge.client import FanServiceClient
from fanbridge.events import FAN_EVENT, FAN_OUTCOME, Rows
from fanbridge.service.server import RunningService, ServiceSettings
from pacing.facts import JUDGEMENT, OUTCOME, OutcomeKind, Verdict

START_AT_MS = 1_750_000_000_000
ROOT = Path(__file__).resolve().parents[2]
_READY_TIMEOUT_S = 60


@contextmanager
def running_service(
    folder: Path, *, listen: str = "127.0.0.1:0", interceptors: tuple[Any, ...] = (), day_ms: int = 86_400_000
) -> Iterator[RunningService]:
    """The service in this process, on virtual time."""
    settings = ServiceSettings(folder, listen, virtual_start_at_ms=START_AT_MS, day_ms=day_ms)
    service = RunningService(settings, interceptors)
    try:
        yield service
    finally:
        service.stop()


@contextmanager
def connected(address: str, deadline_ms: int = 10_000) -> Iterator[FanServiceClient]:
    client = FanServiceClient(address, deadline_ms=deadline_ms)
    try:
        yield client
    finally:
        client.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ServiceProcess:
    """The program `fan-service` on a fixed port; survives as often as it is started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address = f"127.0.0.1:{free_port()}"
        self._ready = folder / "ready.json"
        self._running: subprocess.Popen[bytes] | None = None

    def start(self) -> dict[str, Any]:
        self._ready.unlink(missing_ok=True)
        command = [sys.executable, str(ROOT / "fanbid.py"), "fan-service", "--data", str(self.folder)]
        flags = ["--listen", self.address, "--ready-file", str(self._ready), "--virtual-clock", str(START_AT_MS)]
        self._running = subprocess.Popen(command + flags, cwd=ROOT)
        give_up_at = time.monotonic() + _READY_TIMEOUT_S
        while not self._ready.exists():
            if self._running.poll() is not None or time.monotonic() > give_up_at:
                raise RuntimeError(f"the fan service did not come up: exit code {self._running.poll()}")
            time.sleep(0.02)
        ready: dict[str, Any] = json.loads(self._ready.read_text())
        return ready

    def end(self, signal_number: int) -> int:
        """Send a signal and wait for the end; answers the exit code."""
        assert self._running is not None
        os.kill(self._running.pid, signal_number)
        code = self._running.wait(timeout=_READY_TIMEOUT_S)
        self._running = None
        return code

    def kill(self) -> None:
        if self._running is not None:
            self.end(signal.SIGKILL)


class LosesReplies(grpc.ServerInterceptor):
    """Lets calls of the fan service do their work and then loses some of the answers, or refuses before any work."""

    def __init__(self, seed: int, lost: float, refused: float) -> None:
        self._random = random.Random(seed)
        self._lost = lost
        self._refused = refused
        self.faults = 0

    def intercept_service(self, continuation: Callable[..., Any], details: Any) -> Any:
        handler = continuation(details)
        if handler is None or "FanService" not in details.method:
            return handler

        def faulty(messages: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
            draw = self._random.random()
            if draw < self._refused:
                self.faults += 1
                context.abort(grpc.StatusCode.UNAVAILABLE, "fault before the work")
            answer: bytes = handler.stream_unary(messages, context)
            if draw > 1 - self._lost:
                self.faults += 1
                context.abort(grpc.StatusCode.UNAVAILABLE, "fault after the work")
            return answer

        return grpc.stream_unary_rpc_method_handler(faulty)


class RowLog:
    """A ledger in memory, as far as the bridge needs one: rows, judgements, and how far the judge has come."""

    def __init__(self) -> None:
        self.rows = np.zeros(0, OUTCOME)
        self.judgements = np.zeros(0, JUDGEMENT)

    def append(self, rows: Rows) -> int:
        rows = rows.copy()
        rows["sequence"] = np.arange(len(self.rows) + 1, len(self.rows) + len(rows) + 1)
        self.rows = np.concatenate([self.rows, rows])
        return len(self.rows)

    def read(self, after: int, limit: int) -> Rows:
        return self.rows[after : after + limit]

    def judge_all(self, verdict: Callable[[Any], Verdict]) -> None:
        """Judge what is not judged yet; conversions go to the impression that their own decision names."""
        fresh = self.rows[len(self.judgements) :]
        judgements = np.zeros(len(fresh), JUDGEMENT)
        judgements["sequence"] = fresh["sequence"]
        judgements["verdict"] = [verdict(row) for row in fresh]
        for name in ("campaign_id", "creative_id", "lease_id", "hold_seq"):
            judgements[name] = fresh["decision"][name]
        self.judgements = np.concatenate([self.judgements, judgements])

    def read_judged(self, after: int, limit: int) -> tuple[Rows, Rows]:
        end = min(after + limit, len(self.judgements))
        return self.rows[after:end], self.judgements[after:end]


def ledger_rows(
    count: int, kinds: list[OutcomeKind], *, first_seq: int = 1, creator_id: int = 7, occurred_at_ms: int = START_AT_MS
) -> Rows:
    """Tokened rows about `count` impressions of lease 1, the kinds in turn."""
    rows = np.zeros(count, OUTCOME)
    rows["kind"] = [kinds[i % len(kinds)] for i in range(count)]
    rows["has_token"] = 1
    rows["occurred_at_ms"] = occurred_at_ms + np.arange(count)
    rows["viewer_id"] = rows["decision"]["viewer_id"] = 1 + np.arange(count) // len(kinds)
    rows["creator_id"] = rows["decision"]["creator_id"] = creator_id
    rows["price_micros"] = np.where(rows["kind"] == OutcomeKind.BILLABLE, 1_000 + np.arange(count), 0)
    rows["decision"]["lease_id"] = 1
    rows["decision"]["hold_seq"] = first_seq + np.arange(count) // len(kinds)
    rows["decision"]["campaign_id"] = 50
    rows["decision"]["creative_id"] = 60
    return rows


def outcomes(*columns: tuple[int, ...]) -> Rows:
    """FAN_OUTCOME rows of (lease_id, hold_seq, kind, viewer_id, creator_id, price_micros, occurred_at_ms)."""
    rows = np.zeros(len(columns), FAN_OUTCOME)
    names = ("lease_id", "hold_seq", "kind", "viewer_id", "creator_id", "price_micros", "occurred_at_ms")
    for name, numbers in zip(names, zip(*columns, strict=True), strict=True):
        rows[name] = numbers
    rows["campaign_id"] = 50
    return rows


def events(*columns: tuple[int, ...]) -> Rows:
    """FAN_EVENT rows of (event_id, viewer_id, creator_id, kind, occurred_at_ms)."""
    return np.array(list(columns), FAN_EVENT)
