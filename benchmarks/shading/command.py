"""`fanbid bench shading`: what the price landscapes and the shading of first-price bids are worth.

Bids with the shipped learner and kernels in worlds whose price distribution is known, with every kind of feedback, and
counts the expected surplus as a share of what an oracle gets that knows the distribution at every moment. Learning is
included: each run starts from nothing.
"""

from __future__ import annotations

import argparse
import math
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy.stats import t as student

from benchmarks.output import Scalar, add_output_arguments, print_table, progress, write_json
from benchmarks.shading.run import KINDS, Share, run_world
from benchmarks.shading.timing import time_bids
from benchmarks.shading.worlds import WORLDS
from benchmarks.workers import running

AUCTIONS, QUICK_AUCTIONS = 200_000, 4_000
SEEDS, QUICK_SEEDS = 10, 2
CONFIDENCE = 0.95
_TIMED_SECONDS, _QUICK_TIMED_SECONDS = 3.0, 0.2

Job = tuple[str, str, int, int]
"""World, kind of feedback, seed, auctions."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `fanbid bench shading`."""
    parser.add_argument("--auctions", type=int, metavar="N", help=f"of each run; default {AUCTIONS:,}")
    parser.add_argument("--seeds", type=int, metavar="N", help=f"runs of each kind; default {SEEDS}")
    parser.add_argument("--first-seed", type=int, default=0, metavar="S", help="the first one's seed; default 0")
    parser.add_argument("--world", action="append", choices=list(WORLDS), help="only this one; may be given again")
    parser.add_argument("--feedback", action="append", choices=list(KINDS), help="only this one; may be given again")
    parser.add_argument("--workers", type=int, metavar="W", help="processes; default: one for each core")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="save a picture of the shares to DIR")
    add_output_arguments(parser)


def _play(job: Job) -> tuple[Job, Share]:
    return job, run_world(*job)


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and half the width of its 95 % interval by Student's t; 0 for a single value."""
    n = len(values)
    if n < 2:
        return float(values[0]), 0.0
    spread = float(np.std(values, ddof=1)) / math.sqrt(n)
    return float(np.mean(values)), float(student.ppf(0.5 + CONFIDENCE / 2, n - 1)) * spread


def figures(shares: Mapping[tuple[str, str], Sequence[Share]]) -> dict[str, Scalar]:
    """Of all runs, by world and kind of feedback."""
    found: dict[str, Scalar] = {}
    for (world, kind), runs in shares.items():
        mean, half_width = interval([run.share for run in runs])
        key = f"{world}.{kind}"
        found[f"{key}.share"], found[f"{key}.half_width"] = mean, half_width
        found[f"{key}.late_share"] = float(np.mean([run.late_share for run in runs]))
        found[f"{key}.fraction_share"] = float(np.mean([run.fraction_share for run in runs]))
    found["violations"] = sum(run.violations for runs in shares.values() for run in runs)
    return found


def _rows(found: Mapping[str, Scalar], worlds: Sequence[str], kinds: Sequence[str]) -> list[list[object]]:
    rows: list[list[object]] = []
    for world in worlds:
        cells = [f"{found[f'{world}.{kind}.share']:.4f} ±{found[f'{world}.{kind}.half_width']:.4f}" for kind in kinds]
        rows.append([world, *cells, found[f"{world}.{kinds[0]}.fraction_share"]])
    return rows


def _late_rows(found: Mapping[str, Scalar], worlds: Sequence[str], kinds: Sequence[str]) -> list[list[object]]:
    return [[world, *(f"{found[f'{world}.{kind}.late_share']:.4f}" for kind in kinds)] for world in worlds]


def _checked(name: str, value: int, low: int, high: int) -> int:
    if not low <= value <= high:
        raise ValueError(f"{name} {value}: not in {low}..{high}")
    return value


def main(args: argparse.Namespace) -> int:
    """Run every world with every kind of feedback; answers 1 if a bid broke its bounds."""
    worlds, kinds = args.world or list(WORLDS), args.feedback or list(KINDS)
    auctions = args.auctions if args.auctions is not None else QUICK_AUCTIONS if args.quick else AUCTIONS
    seeds = args.seeds if args.seeds is not None else QUICK_SEEDS if args.quick else SEEDS
    _checked("--auctions", auctions, 1_000, 10_000_000)
    _checked("--seeds", seeds, 1, 10_000)
    _checked("--first-seed", args.first_seed, 0, 2**31)
    workers = _checked("--workers", args.workers if args.workers is not None else os.cpu_count() or 1, 1, 256)
    last = args.first_seed + seeds
    jobs = [
        (world, kind, seed, auctions) for seed in range(args.first_seed, last) for world in worlds for kind in kinds
    ]
    times = time_bids(auctions // 4, _QUICK_TIMED_SECONDS if args.quick else _TIMED_SECONDS)
    shares: defaultdict[tuple[str, str], list[Share]] = defaultdict(list)
    with running(_play, jobs, workers) as played, progress(len(jobs), "runs") as bar:
        for (world, kind, _, _), share in played:
            shares[world, kind].append(share)
            bar.advance(1, f"{world}, {kind}")
    found = figures(shares) | times | {"auctions": auctions, "seeds": seeds}
    print_table(
        f"share of the oracle's surplus, {auctions:,} auctions, {seeds} seeds",
        ("world", *kinds, "best fraction"),
        _rows(found, worlds, kinds),
    )
    print_table("the same over the second half", ("world", *kinds), _late_rows(found, worlds, kinds))
    print_table(
        "ns per bid, 64 segments",
        ("shading", "with floors", "bare search", "golden section"),
        [list(times.values())],
    )
    print(f"bids under their floor or above their value: {found['violations']}")
    if args.plots is not None:
        from benchmarks.shading.plots import plot_shares

        pairs = {pair: interval([run.share for run in runs]) for pair, runs in shares.items()}
        print("picture:", plot_shares(pairs, worlds, kinds, args.plots))
    write_json(args.json, found)
    return 1 if found["violations"] else 0
