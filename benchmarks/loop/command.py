"""`fanbid bench loop`: what it is worth that the engine hears who of the bought fans left, and which of them rose.

Campaigns that want kept fans, seven days of a simulated market in process: once with unfollows told as they happen,
once never told. With `--tiers`, unfollows and tiers are always told, and the campaigns once say that a fan of a high
tier is worth five others, and once nothing of the kind. Everything else is the same: viewers, slots, rivals, luck of
each slot, budgets.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.loop.run import KEPT_MARKET_DAYS, QUICK, LoopMarket, LoopSettings, run_arm
from benchmarks.loop.studies import LOSSES, TIERS, Pair, Study
from benchmarks.output import Scalar, add_output_arguments, print_table, progress, write_json
from benchmarks.workers import running

SEEDS, QUICK_SEEDS = 20, 2
EXIT_NOT_HELD = 1

Job = tuple[int, LoopSettings, Study]


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `fanbid bench loop`."""
    parser.add_argument("--tiers", action="store_true", help="what high_tier_worth is worth, instead of word of losses")
    parser.add_argument("--seeds", type=int, metavar="N", help=f"markets; default {SEEDS}")
    parser.add_argument("--first-seed", type=int, default=1, metavar="S", help="the first one's seed; default 1")
    parser.add_argument("--workers", type=int, metavar="W", help="processes; default: one for each core")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="save a picture of the gain to DIR")
    add_output_arguments(parser)


def main(args: argparse.Namespace) -> int:
    """Measure; answers 1 if a run of 20 seeds or more finds no gain, or any run overspent.

    Raises:
        ValueError: a flag cannot be used.
    """
    seeds = args.seeds if args.seeds is not None else QUICK_SEEDS if args.quick else SEEDS
    workers = args.workers if args.workers is not None else os.cpu_count() or 1
    checks = (("--seeds", seeds, 1, 1_000), ("--workers", workers, 1, 256), ("--first-seed", args.first_seed, 0, 2**31))
    for flag, value, low, high in checks:
        if not low <= value <= high:
            raise ValueError(f"{flag} {value}: not in {low}..{high}")
    study = TIERS if args.tiers else LOSSES
    settings = replace(QUICK if args.quick else LoopSettings(), with_tiers=study.with_tiers)
    names = range(args.first_seed, args.first_seed + seeds)
    print(
        f"{seeds} markets of {settings.days} days, 30 days of a fan in {KEPT_MARKET_DAYS}; {workers} workers",
        flush=True,
    )
    found: dict[int, Pair] = {}
    jobs = [(seed, settings, study) for seed in names]
    with running(_one, jobs, workers) as played, progress(seeds, "markets") as bar:
        for seed, pair in played:
            found[seed] = pair
            bar.advance(1, f"seed {seed}: {100 * study.gain(pair):+.1f} % {study.label} per yuan")
    pairs = [found[seed] for seed in names]
    shown = study.figures(pairs)
    _show(study, names, pairs, shown)
    if args.plots is not None:
        from benchmarks.loop.plots import plot_gains

        print(
            plot_gains([study.day_gains(pair) for pair in pairs], f"{study.label} per yuan: {study.title}", args.plots)
        )
    if args.quick:
        print("--quick is too small for a gain to show: few fans in three days say little of who stays; leave it out.")
    write_json(args.json, shown)
    gained = float(str(shown[f"{study.gain_names[0]}_low"])) > 0
    failed = (seeds >= SEEDS and not args.quick and not gained) or shown["overspend_micros_max"] != 0
    return EXIT_NOT_HELD if failed else 0


def _one(job: Job) -> tuple[int, Pair]:
    seed, settings, study = job
    market = LoopMarket(seed, settings)
    return seed, (run_arm(market, study.on), run_arm(market, study.off))


def _show(study: Study, seeds: Sequence[int], pairs: Sequence[Pair], shown: dict[str, Scalar]) -> None:
    rows: list[list[object]] = [[str(seed), *study.row(pair)] for seed, pair in zip(seeds, pairs, strict=True)]
    print_table(f"{len(pairs[0][0].fans)} days of each market", ("seed", *study.columns()), rows)
    ranges = [
        [name, *(100 * float(str(shown[name + end])) for end in ("", "_low", "_high"))] for name in study.gain_names
    ]
    print_table(study.title, ("figure", "%", "95 % from", "to"), ranges)
