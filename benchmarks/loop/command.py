"""`fanbid bench loop`: what it is worth that the engine hears who of the bought fans left.

Campaigns that want kept fans, seven days of a simulated market in process: once with unfollows told as they happen,
once never told. Everything else is the same: viewers, slots, rivals, luck of each slot, budgets.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.loop.run import KEPT_MARKET_DAYS, QUICK, Arm, LoopMarket, LoopSettings, run_arm
from benchmarks.output import Scalar, add_output_arguments, print_table, progress, write_json
from benchmarks.shading.command import interval
from benchmarks.workers import running

SEEDS, QUICK_SEEDS = 20, 2
EXIT_NOT_HELD = 1

Job = tuple[int, LoopSettings]
Pair = tuple[Arm, Arm]
"""One seed with the loop on, and with it off."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `fanbid bench loop`."""
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
    settings = QUICK if args.quick else LoopSettings()
    names = range(args.first_seed, args.first_seed + seeds)
    print(
        f"{seeds} markets of {settings.days} days, 30 days of a fan in {KEPT_MARKET_DAYS}; {workers} workers",
        flush=True,
    )
    found: dict[int, Pair] = {}
    with running(_one, [(seed, settings) for seed in names], workers) as played, progress(seeds, "markets") as bar:
        for seed, pair in played:
            found[seed] = pair
            bar.advance(1, f"seed {seed}: {100 * gain(pair):+.1f} % kept fans per yuan")
    pairs = [found[seed] for seed in names]
    shown = figures(pairs)
    _show(names, pairs, shown)
    if args.plots is not None:
        from benchmarks.loop.plots import plot_gains

        print(plot_gains([day_gains(pair) for pair in pairs], args.plots))
    if args.quick:
        print("--quick is too small for a gain to show: few fans in three days say little of who stays; leave it out.")
    write_json(args.json, shown)
    gained = float(str(shown["kept_fans_per_yuan_gain_low"])) > 0
    failed = (seeds >= SEEDS and not args.quick and not gained) or shown["overspend_micros_max"] != 0
    return EXIT_NOT_HELD if failed else 0


def _one(job: Job) -> tuple[int, Pair]:
    seed, settings = job
    market = LoopMarket(seed, settings)
    return seed, (run_arm(market, loop=True), run_arm(market, loop=False))


def gain(pair: Pair, drawn: bool = False) -> float:
    """How many more kept fans a yuan buys with the loop on: by true probabilities, or as drawn."""
    on, off = pair
    return on.kept_per_yuan(drawn) / off.kept_per_yuan(drawn) - 1


def day_gains(pair: Pair) -> np.ndarray:
    """`gain` of each day alone, f8[days]."""
    on, off = (arm.expected_kept / arm.spend_micros for arm in pair)
    gains: np.ndarray = on / off - 1
    return gains


def figures(pairs: Sequence[Pair]) -> dict[str, Scalar]:
    """All markets as one flat object. Intervals are of 95 %, over the markets, each held against itself."""
    mean, half_width = interval([gain(pair) for pair in pairs])
    drawn, drawn_half_width = interval([gain(pair, drawn=True) for pair in pairs])
    by_day = np.mean([day_gains(pair) for pair in pairs], axis=0)
    on, off = ([pair[arm] for pair in pairs] for arm in (0, 1))
    return {
        "seeds": len(pairs),
        "days": len(by_day),
        "kept_fans_per_yuan_gain": mean,
        "kept_fans_per_yuan_gain_low": mean - half_width,
        "kept_fans_per_yuan_gain_high": mean + half_width,
        "kept_fans_drawn_per_yuan_gain": drawn,
        "kept_fans_drawn_per_yuan_gain_low": drawn - drawn_half_width,
        "kept_fans_drawn_per_yuan_gain_high": drawn + drawn_half_width,
        "first_day_gain": float(by_day[0]),
        "last_day_gain": float(by_day[-1]),
        "fans_per_yuan_gain": float(np.mean([_per_yuan(a.fans, a) / _per_yuan(b.fans, b) - 1 for a, b in pairs])),
        "kept_share_on": _sum(on, "expected_kept") / _sum(on, "fans"),
        "kept_share_off": _sum(off, "expected_kept") / _sum(off, "fans"),
        "spend_on_to_off": _sum(on, "spend_micros") / _sum(off, "spend_micros"),
        "losses_told_on": sum(arm.lost_told for arm in on),
        "losses_told_off": sum(arm.lost_told for arm in off),
        "overspend_micros_max": max(arm.overspend_micros for pair in pairs for arm in pair),
    }


def _per_yuan(events: np.ndarray, arm: Arm) -> float:
    return float(events.sum() / arm.spend_micros.sum() * 1e6)


def _sum(arms: Sequence[Arm], name: str) -> float:
    return float(sum(getattr(arm, name).sum() for arm in arms))


def _show(seeds: Sequence[int], pairs: Sequence[Pair], shown: dict[str, Scalar]) -> None:
    columns = ("seed", "yuan, on", "off", "fans, on", "off", "kept, on", "off", "gain per yuan, %", "last day, %")
    rows: list[list[object]] = []
    for seed, (on, off) in zip(seeds, pairs, strict=True):
        row: list[object] = [str(seed)]
        for name, unit in (("spend_micros", 1e6), ("fans", 1.0), ("expected_kept", 1.0)):
            row += [float(getattr(arm, name).sum()) / unit for arm in (on, off)]
        rows.append([*row, 100 * gain((on, off)), 100 * float(day_gains((on, off))[-1])])
    print_table(f"{len(pairs[0][0].fans)} days of each market", columns, rows)
    names = ("kept_fans_per_yuan_gain", "kept_fans_drawn_per_yuan_gain")
    ranges = [[name, *(100 * float(str(shown[name + end])) for end in ("", "_low", "_high"))] for name in names]
    print_table("the loop on against off", ("figure", "%", "95 % from", "to"), ranges)
