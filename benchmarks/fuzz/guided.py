"""Inputs that coverage guides: those that reach something new are kept and changed further (libFuzzer, by atheris).

Each worker is a program of its own, since libFuzzer never gives back a process that it has.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.fuzz.findings import Findings, together
from benchmarks.fuzz.sets import Fed, LastInput
from benchmarks.output import ProgressBar, progress

START_S = 120
"""Within this time a worker has begun; kernels may have to be compiled."""
_POLL_S = 0.5
_COVERAGE = re.compile(rb"cov: (\d+) ft: \d+ corp: (\d+)")


class GuidedWorker:
    """A worker, from its start to what it found."""

    def __init__(self, folder: Path, seconds: float, seed: int, part: int, parts: int) -> None:
        folder.mkdir()
        self._folder = folder
        self._log = folder / "log"
        command = [sys.executable, "-m", "benchmarks.fuzz.guided_worker"]
        command += [str(folder), f"{seconds:.0f}", str(seed), str(part), str(parts)]
        root = Path(__file__).resolve().parents[2]
        environment = {**os.environ, "TMPDIR": str(folder)}  # libFuzzer leaves no time to remove temporary files
        with self._log.open("wb") as log:
            self.child = subprocess.Popen(command, cwd=root, env=environment, stdout=log, stderr=subprocess.STDOUT)

    @property
    def coverage(self) -> str:
        """What libFuzzer counted last; nothing before it has begun."""
        found = _COVERAGE.findall(self._log.read_bytes()[-20_000:])
        return f"{int(found[-1][0]):,} edges, {int(found[-1][1]):,} inputs kept" if found else ""

    def result(self) -> Fed:
        """What it found; an end that is none of its own is a finding too.

        Nothing is said about memory: atheris keeps the result of each comparison of arrays for ever.
        """
        told = self._folder / "told.json"
        kept: list[Any] = json.loads(told.read_text(encoding="utf-8")) if told.exists() else []
        findings = [Findings(**each) for each in kept]
        if self.child.returncode:
            last = self._folder / "last"
            _, target, raw = (LastInput(last).text() if last.exists() else None) or ("", "worker", b"")
            death = Findings(target)
            tail = self._log.read_bytes()[-2_000:].decode("utf-8", "replace")
            death.fail(raw, f"the process ended with code {self.child.returncode}\n{tail}")
            findings.append(death)
        return Fed(findings)


def fuzz_guided(seconds: float, seed: int, workers: int) -> Fed:
    """Let `workers` workers look for `seconds`; what they found together."""
    with tempfile.TemporaryDirectory(prefix="fanbid-fuzz-") as name:
        started = [GuidedWorker(Path(name) / str(part), seconds, seed + part, part, workers) for part in range(workers)]
        try:
            with progress(seconds, "guided") as bar:
                _wait(started, seconds, bar)
        finally:
            for worker in started:
                if worker.child.poll() is None:
                    worker.child.kill()
                worker.child.wait()
        results = [worker.result() for worker in started]
    return Fed(together(findings for result in results for findings in result.findings))


def _wait(workers: list[GuidedWorker], seconds: float, bar: ProgressBar) -> None:
    """Until all have ended, or are long overdue; time counts from when the first has begun."""
    overdue_s = time.monotonic() + seconds + START_S + 60
    while not workers[0].coverage and workers[0].child.poll() is None and time.monotonic() < overdue_s:
        time.sleep(_POLL_S)
    began_s = shown_s = time.monotonic()
    while any(worker.child.poll() is None for worker in workers):
        time.sleep(_POLL_S)
        now_s = time.monotonic()
        bar.advance(max(0.0, min(now_s, began_s + seconds) - shown_s), workers[0].coverage)
        shown_s = now_s
        if now_s > overdue_s:
            return
