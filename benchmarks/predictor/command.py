"""`fanbid bench predictor`: what the predictor of goal events is worth.

The shipped learner beside two FTRL learners on the same stream; the shipped follower as a server runs it, with follows
that come minutes to days late; and campaigns that start within the stream, with and without what others taught.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence

from benchmarks.output import Scalar, add_output_arguments, print_table, progress, write_json
from benchmarks.predictor.rivals import MODULES, RIVER, VOWPAL_WABBIT, installed
from benchmarks.predictor.run import FIRST_FANS, FIRST_IMPRESSIONS, PARTS, SHIPPED, run_part
from benchmarks.predictor.timing import time_learners
from benchmarks.shading.command import interval
from benchmarks.workers import running

ROWS, QUICK_ROWS = 1_000_000, 12_000
SEEDS, QUICK_SEEDS = 10, 2
JUDGED_ROWS = 800_000
"""Fewer say too little for a verdict."""
MOST_BIAS = 0.02
MOST_CALIBRATION_ERROR = 0.05
MOST_COST_ERROR_RATIO = 0.5
LEAST_EXAMPLES_PER_S = 1_500_000.0
EXIT_NOT_HELD = 1
_TIMED_ROWS = 200_000
_TIMED_ROUNDS, _QUICK_TIMED_ROUNDS = 5, 1
_NAMES = {SHIPPED: "fanbid", VOWPAL_WABBIT: "Vowpal Wabbit, FTRL", RIVER: "river, FTRL"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `fanbid bench predictor`."""
    parser.add_argument("--rows", type=int, metavar="N", help=f"impressions of each stream; default {ROWS:,}")
    parser.add_argument("--seeds", type=int, metavar="N", help=f"streams; default {SEEDS}")
    parser.add_argument("--first-seed", type=int, default=1, metavar="S", help="the first one's seed; default 1")
    parser.add_argument("--workers", type=int, metavar="W", help="processes; default: one for each core")
    add_output_arguments(parser)


def main(args: argparse.Namespace) -> int:
    """Measure; answers 1 if a run of full size shows that a claim does not hold.

    Raises:
        ValueError: a flag cannot be used.
    """
    rows = args.rows if args.rows is not None else QUICK_ROWS if args.quick else ROWS
    seeds = args.seeds if args.seeds is not None else QUICK_SEEDS if args.quick else SEEDS
    workers = args.workers if args.workers is not None else os.cpu_count() or 1
    checks = (("--rows", rows, 10_000, 10_000_000), ("--seeds", seeds, 1, 1_000), ("--workers", workers, 1, 256))
    for flag, value, low, high in (*checks, ("--first-seed", args.first_seed, 0, 2**31)):
        if not low <= value <= high:
            raise ValueError(f"{flag} {value}: not in {low}..{high}")
    rivals = installed()
    for name in sorted(set(MODULES) - set(rivals)):
        print(f"{_NAMES[name]}: not compared, {MODULES[name]} is not installed; pip install 'fanbid[learners]'")
    print(f"{seeds} streams of {rows:,} impressions, {workers} workers", flush=True)
    times = time_learners(min(rows, _TIMED_ROWS), rivals, _QUICK_TIMED_ROUNDS if args.quick else _TIMED_ROUNDS)
    found = _figures(_play(range(args.first_seed, args.first_seed + seeds), rows, rivals, workers))
    found |= times | {"rows": rows, "seeds": seeds}
    _show(found, rivals)
    verdicts = claims(found) if rows >= JUDGED_ROWS else {}
    if verdicts:
        print_table("claims", ("claim", "held"), list(verdicts.items()))
    write_json(args.json, found)
    return 0 if all(verdicts.values()) else EXIT_NOT_HELD


Job = tuple[str, int, int, list[str]]
"""Part of a run, seed, rows, rivals."""


def _play(seeds: Sequence[int], rows: int, rivals: list[str], workers: int) -> list[dict[str, float]]:
    """The figures of each stream."""
    jobs = [(part, seed, rows, rivals) for seed in seeds for part in PARTS]
    found: dict[int, dict[str, float]] = {seed: {} for seed in seeds}
    with running(_one, jobs, workers) as played, progress(len(jobs), "streams") as bar:
        for seed, part in played:
            found[seed] |= part
            bar.advance(1)
    # In the same order whoever came first, so that figures and their sums are the same.
    return [{name: run[name] for name in sorted(run)} for run in found.values()]


def _one(job: Job) -> tuple[int, dict[str, float]]:
    return job[1], run_part(*job)


def _figures(runs: Sequence[Mapping[str, float]]) -> dict[str, Scalar]:
    """Mean over the streams of each figure, and half the width of its 95 % interval."""
    found: dict[str, Scalar] = {}
    for name in runs[0]:
        found[name], found[f"{name}_half_width"] = interval([run[name] for run in runs])
    return found


def claims(found: Mapping[str, Scalar]) -> dict[str, bool]:
    """What is claimed, by its words, and whether the figures speak for it: means lie on the right side."""
    figures = {name: float(value) for name, value in found.items() if isinstance(value, int | float)}
    held = {}
    rival = f"settled.{VOWPAL_WABBIT}_less_fanbid_log_loss"
    if rival in figures:
        held["log-loss at most Vowpal Wabbit's"] = figures[rival] >= 0.0
    held[f"bias under delay within {100 * MOST_BIAS:g} %"] = abs(figures["delayed.fanbid_bias"]) <= MOST_BIAS
    errors = [value for name, value in figures.items() if _is_error(name)]
    held[f"calibration error at most {MOST_CALIBRATION_ERROR:g} in every kind of segment"] = (
        max(errors) <= MOST_CALIBRATION_ERROR
    )
    held["error of cost per fan after 1 to 50 fans, known creators: at most half of a cold start's"] = (
        figures["new.known_creator.cost_error_ratio"] <= MOST_COST_ERROR_RATIO
    )
    fast = figures["fanbid_examples_per_s"] >= LEAST_EXAMPLES_PER_S
    held[f"at least {LEAST_EXAMPLES_PER_S / 1e6:g} million examples a second"] = fast
    return held


def _is_error(name: str) -> bool:
    return name.startswith("delayed.calibration_error.") and not name.endswith("_half_width")


def _cell(found: Mapping[str, Scalar], name: str, digits: int = 5) -> str:
    return f"{found[name]:.{digits}f} ±{found[f'{name}_half_width']:.{digits}f}" if name in found else "-"


def _show(found: Mapping[str, Scalar], rivals: Sequence[str]) -> None:
    size = f"{found['rows']:,} impressions, {found['seeds']} streams"
    columns = ("learner", "log-loss", "less fanbid's", "bias", "examples a second")
    print_table(f"every label known at once: {size}", columns, _settled_rows(found, rivals))
    print_table("follows come minutes to days late", ("learner", "log-loss", "bias"), _delayed_rows(found, rivals))
    kinds = [[name.rpartition(".")[2], _cell(found, name, 4)] for name in found if _is_error(name)]
    print_table("fanbid, as served: calibration error by kind of segment", ("segments", "error"), kinds)
    heads = ("campaigns of", "log-loss above the truth's", "bias", "|bias| by campaign")
    print_table(f"the first {FIRST_IMPRESSIONS:,} impressions of new campaigns", heads, _new_rows(found))
    title = f"error of cost per fan after {FIRST_FANS[0]} to {FIRST_FANS[-1] - 1} fans"
    sides = ("campaigns of", "with pooled priors", "viewers only", "cold", "pooled over cold")
    print_table(title, sides, _first_fans_rows(found))


def _settled_rows(found: Mapping[str, Scalar], rivals: Sequence[str]) -> list[list[object]]:
    rows: list[list[object]] = [
        [
            _NAMES[name],
            _cell(found, f"settled.{name}_log_loss"),
            _cell(found, f"settled.{name}_less_fanbid_log_loss"),
            _cell(found, f"settled.{name}_bias", 4),
            f"{found[f'{name}_examples_per_s']:,.0f}",
        ]
        for name in (SHIPPED, *rivals)
    ]
    rows.append(["the truth", _cell(found, "settled.truth_log_loss"), "-", "-", "-"])
    rows.append(["the mean rate, in hindsight", _cell(found, "settled.base_log_loss"), "-", "-", "-"])
    return rows


def _delayed_rows(found: Mapping[str, Scalar], rivals: Sequence[str]) -> list[list[object]]:
    sides = {SHIPPED: "fanbid, as served"}
    if VOWPAL_WABBIT in rivals:
        sides[VOWPAL_WABBIT] = "Vowpal Wabbit, FTRL: a negative at once, a positive later"
    return [
        [said, _cell(found, f"delayed.{name}_log_loss"), _cell(found, f"delayed.{name}_bias", 4)]
        for name, said in sides.items()
    ]


def _new_rows(found: Mapping[str, Scalar]) -> list[list[object]]:
    rows: list[list[object]] = []
    for group, words in (("known_creator", "known creators"), ("new_creator", "new creators")):
        for prior, said in (("pooled", "with pooled priors"), ("alone", "without")):
            name = f"new.{group}.{prior}"
            rows.append(
                [
                    f"{words}, {said}",
                    _cell(found, f"{name}_excess_log_loss"),
                    _cell(found, f"{name}_bias", 3),
                    _cell(found, f"{name}_campaign_error", 3),
                ]
            )
        rows.append([f"{words}, what pooling gains", _cell(found, f"new.{group}.pooled_gain_log_loss"), "-", "-"])
    return rows


def _first_fans_rows(found: Mapping[str, Scalar]) -> list[list[object]]:
    names = ("pooled_cost_error", "alone_cost_error", "cold_cost_error", "cost_error_ratio")
    groups = (("known_creator", "known creators"), ("new_creator", "new creators"))
    return [[words, *(_cell(found, f"new.{group}.{name}", 3) for name in names)] for group, words in groups]
