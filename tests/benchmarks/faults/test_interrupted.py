"""`fanbid bench faults` that is interrupted: what was played is shown, and nothing of the inside."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sources import ROOT

WORLDS = 5_000
IMPATIENT = (
    "import sys; from benchmarks import output; output._PLAIN_INTERVAL_S = 0.0;"
    "import fanbid; sys.exit(fanbid.main(sys.argv[1:]))"
)
"""The command, with a line of progress after each step."""


@pytest.mark.parametrize(("workers", "number"), [(2, signal.SIGINT), (2, signal.SIGTERM), (1, signal.SIGINT)])
def test_an_interrupt_of_all_processes_shows_what_was_played(
    workers: int, number: signal.Signals, tmp_path: Path
) -> None:
    figures = tmp_path / "figures.json"
    flags = ["--seeds", str(WORLDS), "--servers", "1", "--workers", str(workers), "--json", str(figures)]
    command = [sys.executable, "-c", IMPATIENT, "bench", "faults", *flags]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True, start_new_session=True) as running:
        assert running.stderr is not None
        first = running.stderr.readline()
        assert first.startswith("worlds: "), first + running.stderr.read()
        os.killpg(running.pid, number)
        shown, told = running.communicate(timeout=120)
    assert running.returncode == 130
    assert "Traceback" not in told + shown, told
    counted = re.match(rf"interrupted after (\d+) of {WORLDS} worlds\n", shown)
    assert counted and 1 <= int(counted[1]) < WORLDS
    assert "charged_over_micros" in shown
    assert json.loads(figures.read_text())["seeds"] == int(counted[1])
    with pytest.raises(ProcessLookupError):
        os.killpg(running.pid, 0)  # no worker is left
