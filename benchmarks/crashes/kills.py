"""`fanbid bench kills`: a served engine killed under load, again and again, on the same folder.

Each life is `fanbid serve` in a process of its own, loaded with bids, wins, impressions, clicks and follows over gRPC,
and ended by SIGKILL at a drawn moment: mostly under load, now and then while it starts or recovers. In the end, every
row that was acknowledged must be in the ledger once, with its amount and a verdict; no campaign may be charged beyond
a budget; no hold sequence may have been used twice, and no lease by two lives; and `fanbid ledger verify` must agree.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import numpy as np

from benchmarks.crashes.lives import Killing, Lives, compile_kernels
from benchmarks.crashes.told import sums
from benchmarks.output import ProgressBar, Scalar, add_output_arguments, print_table, progress, write_json

KILLS, QUICK_KILLS = 1_000, 6
WORKERS = 2
EXIT_LOST = 1
_SHOWN_PROBLEMS = 20


class _Count:
    """Kills of all workers, on one bar."""

    def __init__(self, bar: ProgressBar) -> None:
        self._bar = bar
        self._done = 0
        self._lock = threading.Lock()

    def killed(self) -> None:
        """Count one."""
        with self._lock:
            self._done += 1
            self._bar.advance(1, f"{self._done} kills")


def run(kills: int, workers: int, seed: int, folder: Path, bar: ProgressBar) -> list[Lives]:
    """Kill so often in all, on as many folders side by side as there are workers. An interrupt ends the killing early,
    and what was told until then is held against the ledgers; a second one ends that too."""
    count, stopping = _Count(bar), threading.Event()
    shares = [kills // workers + (k < kills % workers) for k in range(workers)]
    with ThreadPoolExecutor(workers) as pool:
        killings = [Killing(folder / f"{k}", seed + 1_000 * k, count.killed, stopping) for k in range(workers)]
        futures = [pool.submit(killing.play, share) for killing, share in zip(killings, shares, strict=True)]
        try:
            wait(futures)
        except KeyboardInterrupt:
            bar.advance(0, "interrupted: looking at what is there")
        finally:
            stopping.set()
        return [future.result() for future in futures]


def figures_of(every: list[Lives]) -> dict[str, Scalar]:
    """The run as one flat object."""
    held, restarts = sums([lives.held for lives in every]), [s for lives in every for s in lives.restart_s]
    return {
        "kills": sum(lives.kills for lives in every),
        "kills_starting": sum(lives.kills_starting for lives in every),
        "acknowledged": held.acknowledged,
        "acknowledged_lost": held.lost,
        "charged_micros": held.charged_micros,
        "charged_over_micros": held.charged_over_micros,
        "over_delivered_micros": held.over_delivered_micros,
        "used_twice": sum(lives.used_twice for lives in every),
        "problems": sum(len(lives.problems) for lives in every),
        "restart_s_p50": round(float(np.median(restarts)), 3) if restarts else None,
        "restart_s_max": round(max(restarts), 3) if restarts else None,
    }


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `bench kills`."""
    add_output_arguments(parser)
    parser.add_argument("--kills", type=int, metavar="N", help=f"how often; default {KILLS}")
    parser.add_argument(
        "--workers", type=int, default=WORKERS, metavar="N", help=f"folders side by side; default {WORKERS}"
    )
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="draws the moments; default 1")


def main(args: argparse.Namespace) -> int:
    """Run it; 0 if nothing was lost, charged beyond a budget or otherwise wrong, 1 if anything was.

    Raises:
        ValueError: a flag is out of range.
    """
    kills = args.kills if args.kills is not None else QUICK_KILLS if args.quick else KILLS
    for flag, value, most in (("--kills", kills, 10**6), ("--workers", args.workers, 64)):
        if not 1 <= value <= most:
            raise ValueError(f"{flag} {value}: not in 1..{most}")
    with tempfile.TemporaryDirectory(prefix="fanbid-kills-") as name:
        with progress(1, "a first start, kernels compiled") as bar:
            compile_kernels(Path(name) / "first")
            bar.advance(1)
        with progress(kills, "killing") as bar:
            every = run(kills, min(args.workers, kills), args.seed, Path(name), bar)
    problems = Counter(problem for lives in every for problem in lives.problems)
    for problem, times in problems.most_common(_SHOWN_PROBLEMS):
        print(f"{problem} ({times} times)" if times > 1 else problem)
    figures = figures_of(every)
    print_table("a served engine, killed", ("figure", "value"), list(figures.items()))
    statuses: Counter[str] = sum((Counter(lives.statuses) for lives in every), Counter())
    print_table("answers to durable rows", ("status", "rows"), sorted(statuses.items()))
    write_json(args.json, figures)
    must_be_zero = ("acknowledged_lost", "charged_over_micros", "over_delivered_micros", "used_twice", "problems")
    return EXIT_LOST if any(figures[name] for name in must_be_zero) or not figures["acknowledged"] else 0
