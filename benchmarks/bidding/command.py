"""`fanbid bench bidding`: the shipped controller in simulated markets, beside the optimum that knows them."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from benchmarks.bidding import tables, ticks
from benchmarks.bidding.days import AUCTIONS, past_days
from benchmarks.bidding.scenarios import SCENARIOS, USUAL
from benchmarks.bidding.study import METHODS, MODES, PRICES, Result, run_case
from benchmarks.output import add_output_arguments, print_table, progress, write_json
from benchmarks.workers import running

SEEDS, QUICK_SEEDS = 10, 2
QUICK_AUCTIONS = 20_000
QUICK_SCENARIOS = (USUAL, "over_prediction")
_WARM_AUCTIONS = 3_000

Case = tuple[str, int, str]


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `fanbid bench bidding`."""
    parser.add_argument("--seeds", type=int, metavar="N", help=f"days of each scenario; default {SEEDS}")
    parser.add_argument("--first-seed", type=int, default=1, metavar="S", help="the first one's seed; default 1")
    parser.add_argument(
        "--scenarios", metavar="LIST", help=f"only these, with commas between: {', '.join(SCENARIOS)}; default all"
    )
    parser.add_argument("--plots", type=Path, metavar="DIR", help="save pictures to DIR")
    parser.add_argument("--workers", type=int, metavar="W", help="processes; default: one for each core")
    add_output_arguments(parser)


def main(args: argparse.Namespace) -> int:
    """Run the scenarios and print where the controller stands.

    Raises:
        ValueError: a flag cannot be used.
    """
    names, seeds, workers = _scenarios(args), _seeds(args), _workers(args)
    auctions = QUICK_AUCTIONS if args.quick else AUCTIONS
    # Cases that share past days come one after another, so that a worker makes them once.
    cases = [(name, seed, pricing) for seed in seeds for pricing in PRICES for name in _by_past(names)]
    run_case(USUAL, 0, PRICES[-1], METHODS[:1], _WARM_AUCTIONS)  # compiles, before workers are forked
    run = partial(_run, auctions=auctions)
    with running(run, cases, workers) as finished, progress(len(cases), "virtual days") as bar:
        results: list[Result] = []
        for some in finished:
            results += some
            bar.advance(1, some[0].scenario)
    campaigns = ticks.QUICK_CAMPAIGNS if args.quick else ticks.CAMPAIGNS
    tick_ms = _tick_ms(campaigns, ticks.QUICK_TICKS if args.quick else ticks.TICKS)
    shown = tables.figures(results, len(seeds), {ticks.figure_name(campaigns): tick_ms})
    _print(results)
    print(f"one tick of {campaigns:,} campaigns: {tick_ms:.1f} ms")
    if args.quick:
        print("--quick is too small for the goals: they are of whole days, over several seeds; leave --quick out.")
    write_json(args.json, shown)
    if args.plots is not None:
        from benchmarks.bidding import plots

        print("pictures:", ", ".join(str(path) for path in plots.save_all(results, args.plots)))
    return 0


def _print(results: Sequence[Result]) -> None:
    for mode in MODES:
        print_table(*tables.standing(results, mode))
    print_table(*tables.pace(results))
    for mode, pricing in tables.comparisons(results):
        print_table(*tables.rivals(results, mode, pricing))


def _tick_ms(campaigns: int, count: int) -> float:
    return ticks.median_tick_ms(past_days(SCENARIOS[USUAL], 0, QUICK_AUCTIONS), campaigns, count)


def _scenarios(args: argparse.Namespace) -> list[str]:
    if args.scenarios is None:
        return list(QUICK_SCENARIOS if args.quick else SCENARIOS)
    names = [name.strip() for name in args.scenarios.split(",")]
    for name in names:
        if name not in SCENARIOS:
            raise ValueError(f"--scenarios {name!r}: none of {', '.join(SCENARIOS)}")
    return list(dict.fromkeys(names))


def _seeds(args: argparse.Namespace) -> range:
    count = (QUICK_SEEDS if args.quick else SEEDS) if args.seeds is None else args.seeds
    for flag, value, low in (("--first-seed", args.first_seed, 0), ("--seeds", count, 1)):
        if not low <= value < 2**31:
            raise ValueError(f"{flag} {value}: not in {low}..{2**31 - 1}")
    return range(args.first_seed, args.first_seed + count)


def _workers(args: argparse.Namespace) -> int:
    workers = os.cpu_count() or 1 if args.workers is None else args.workers
    if not 1 <= workers <= 256:
        raise ValueError(f"--workers {workers}: not in 1..256")
    return int(workers)


def _by_past(names: Sequence[str]) -> list[str]:
    return sorted(names, key=lambda name: SCENARIOS[name].usual or name)


def _run(case: Case, auctions: int) -> list[Result]:
    name, seed, pricing = case
    return run_case(name, seed, pricing, METHODS, auctions)
