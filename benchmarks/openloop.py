"""Open-loop load on a gRPC method: requests leave at appointed times, and latency counts from the appointment.

A server that stalls therefore shows long latencies for every request that should have been sent meanwhile, instead of
quietly receiving fewer of them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import numpy as np

from benchmarks.histogram import LatencyHistogram

TIMEOUT_S = 30.0
Metadata = tuple[tuple[str, str], ...]


@dataclass
class LoadResult:
    """What one stretch of load saw.

    Attributes:
        offered_per_s: appointed requests per second; 0 where as many as possible were sent.
        elapsed_s: from the first appointment to the last answer.
        latency: from the appointed start.
    """

    offered_per_s: float = 0.0
    elapsed_s: float = 0.0
    answered: int = 0
    failed: int = 0
    latency: LatencyHistogram = field(default_factory=LatencyHistogram)

    @property
    def answered_per_s(self) -> float:
        """Answers per second."""
        return self.answered / self.elapsed_s if self.elapsed_s > 0 else 0.0


class LoadTarget:
    """One method of one server, called with ready-made requests in turn. One thread at a time drives it.

    Args:
        on_answer: is given each answer's bytes, in a gRPC thread; it must be quick.
    """

    def __init__(
        self,
        channel: grpc.Channel,
        method: str,
        requests: Sequence[bytes],
        metadata: Metadata = (),
        on_answer: Callable[[bytes], None] | None = None,
    ) -> None:
        self._call = channel.unary_unary(method)
        self._requests = requests
        self._metadata = metadata
        self._on_answer = on_answer
        self._lock = threading.Lock()
        self._sent = 0

    def _send(self, due_s: float, result: LoadResult, done: Callable[[], None]) -> None:
        future = self._call.future(
            self._requests[self._sent % len(self._requests)], timeout=TIMEOUT_S, metadata=self._metadata
        )
        self._sent += 1

        def finish(answered: grpc.Future) -> None:
            result.latency.record(int((time.perf_counter() - due_s) * 1e6))
            failed = answered.exception() is not None
            with self._lock:
                result.failed += failed
                result.answered += not failed
            if not failed and self._on_answer is not None:
                self._on_answer(answered.result())
            done()

        future.add_done_callback(finish)

    def open_loop(self, per_s: float, seconds: float, seed: int = 1) -> LoadResult:
        """Send `per_s` requests a second on average, at exponential gaps, for `seconds`; wait for every answer.

        Raises:
            ValueError: the rate is not positive.
        """
        if per_s <= 0:
            raise ValueError(f"rate {per_s}: not positive")
        gaps = np.random.default_rng(seed).exponential(1 / per_s, max(1, round(per_s * seconds)))
        result = LoadResult(offered_per_s=per_s)
        finished = threading.Semaphore(0)
        started_s = time.perf_counter()
        for due_s in (started_s + np.cumsum(gaps)).tolist():
            ahead_s = due_s - time.perf_counter()
            if ahead_s > 0:
                time.sleep(ahead_s)
            self._send(due_s, result, finished.release)
        for _ in gaps:
            finished.acquire()
        result.elapsed_s = time.perf_counter() - started_s
        return result

    def saturate(self, outstanding: int, seconds: float) -> LoadResult:
        """Keep `outstanding` requests under way for `seconds`: how many a second the server answers at most."""
        result = LoadResult()
        free = threading.Semaphore(outstanding)
        started_s = time.perf_counter()
        while time.perf_counter() - started_s < seconds:
            free.acquire()
            self._send(time.perf_counter(), result, free.release)
        for _ in range(outstanding):
            free.acquire()
        result.elapsed_s = time.perf_counter() - started_s
        return result


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used, by /proc; 0 where there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / 100.0
