"""`fanbid bench recovery`: how much longer a start takes with a million rows in the ledger.

The shipped engine lives a day in this process, on a virtual clock, and leaves its folder as a crash would; beside it,
one with the same campaigns and no traffic. Both are started, in turn, each time on a fresh copy: `fanbid serve` from
the start of its process to ready, and in another process the opening of the services alone. Files come from the page
cache.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.crashes.past import leave_past
from benchmarks.output import ProgressBar, Scalar, add_output_arguments, print_table, progress, write_json
from benchmarks.serving import ROOT, start_child

ROWS, QUICK_ROWS = 1_000_000, 6_000
ROUNDS, QUICK_ROUNDS = 7, 2
SIDES = ("full", "empty")
FIGURES = (("ready_s", "ready_extra_s"), ("open_s", "recovery_extra_s"), ("open_cpu_s", "recovery_extra_cpu_s"))
_LABELS = ("whole start, to ready", "opening the services", "of that, the processor")


def leave_sides(folder: Path, rows: int, seed: int) -> int:
    """A folder with a past and one without; how many rows the first has in its ledger."""
    end_at_ms = time.time_ns() // 1_000_000
    with progress(rows, "a day of traffic") as bar:
        found = leave_past(folder / "full", rows, end_at_ms, seed, bar.advance)
    leave_past(folder / "empty", 0, end_at_ms, seed, lambda _: None)
    return found


def copied(folder: Path, target: Path) -> Path:
    """A copy that is on the disk, so that no sync of a start waits for the copying."""
    shutil.copytree(folder, target)
    for path in filter(Path.is_file, target.rglob("*")):
        with path.open("rb") as file:
            os.fsync(file.fileno())
    return target


def start_s(folder: Path) -> float:
    """Seconds from the start of a `fanbid serve` to ready; it is killed then."""
    began_s = time.perf_counter()
    child = start_child("serve", ["serve", "--data", str(folder), "--no-rest", "--listen", "127.0.0.1:0"], folder)
    taken_s = time.perf_counter() - began_s
    child.kill()
    return taken_s


def open_s(folder: Path) -> tuple[float, float]:
    """Seconds that opening the services takes, in a process of its own; and seconds of the processor."""
    command = [sys.executable, "-m", "benchmarks.crashes.opening", str(folder)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    wall_s, cpu_s = map(float, done.stdout.split())
    return wall_s, cpu_s


def measure(folder: Path, rounds: int, bar: ProgressBar) -> dict[str, np.ndarray]:
    """Times of each side, f8[rounds, 3]: whole start, opening alone, and the processor's time in opening; the sides
    take turns in being first."""
    times: dict[str, list[tuple[float, ...]]] = {side: [] for side in SIDES}
    for number in range(rounds):
        for side in SIDES if number % 2 else reversed(SIDES):
            copy = copied(folder / side, folder / "copy")
            taken_s = start_s(copy), *open_s(copy)
            shutil.rmtree(copy)
            times[side].append(taken_s)
            bar.advance(1, f"{side}: ready after {taken_s[0]:.2f} s, opened in {taken_s[1]:.2f} s")
    return {side: np.array(taken) for side, taken in times.items()}


def figures_of(rows: int, times: dict[str, np.ndarray]) -> dict[str, Scalar]:
    """The run as one flat object: medians in seconds, and what the past adds to them."""
    figures: dict[str, Scalar] = {"rows": rows, "rounds": len(times["full"])}
    medians = {side: np.median(times[side], axis=0).tolist() for side in SIDES}
    for k, (name, extra) in enumerate(FIGURES):
        figures[extra] = round(medians["full"][k] - medians["empty"][k], 3)
        figures |= {f"{name}_{side}": round(medians[side][k], 3) for side in SIDES}
    return figures


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `bench recovery`."""
    add_output_arguments(parser)
    parser.add_argument("--rows", type=int, metavar="N", help=f"in the ledger, at least; default {ROWS}")
    parser.add_argument("--rounds", type=int, metavar="N", help=f"starts of each side; default {ROUNDS}")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="draws the day; default 1")


def main(args: argparse.Namespace) -> int:
    """Run it.

    Raises:
        ValueError: a flag is out of range.
    """
    rows = args.rows if args.rows is not None else QUICK_ROWS if args.quick else ROWS
    rounds = args.rounds if args.rounds is not None else QUICK_ROUNDS if args.quick else ROUNDS
    for flag, value, most in (("--rows", rows, 10**8), ("--rounds", rounds, 1_000)):
        if not 1 <= value <= most:
            raise ValueError(f"{flag} {value}: not in 1..{most}")
    with tempfile.TemporaryDirectory(prefix="fanbid-recovery-") as name:
        folder = Path(name)
        rows = leave_sides(folder, rows, args.seed)
        with progress(2 * rounds, "starting") as bar:
            figures = figures_of(rows, measure(folder, rounds, bar))
    table = [
        [label, *(figures[f"{name}_{side}"] for side in SIDES), figures[extra]]
        for label, (name, extra) in zip(_LABELS, FIGURES, strict=True)
    ]
    print_table("seconds to start, medians", ("what", f"{rows:,} rows", "empty", "extra"), table)
    write_json(args.json, figures)
    return 0
