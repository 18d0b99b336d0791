"""`fanbid bench fans`: a million outcomes to the fan service, through lost calls, deaths and ten minutes without it.

The shipped ledger, outbox, breaker and gRPC client hand outcomes to the shipped fan service, which runs in a process
of its own and is killed with -9 now and then; the follower dies too, between a push and the note that it was made. Then
the service's file is held against what happened. Beside it: the same without trouble, and bare SQLite.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

from benchmarks.fans.latency import tier_to_segment_s
from benchmarks.fans.play import NO_TROUBLE, SPAN_MS, TICK_MS, Played, Run, Trouble, check_push_rows, raw_inserts_per_s
from benchmarks.fans.relay import Fault
from benchmarks.fans.truth import Traffic
from benchmarks.output import Scalar, add_output_arguments, print_table, progress, write_json

OUTCOMES, QUICK_OUTCOMES = 1_000_000, 20_000
PUSH_ROWS, QUICK_PUSH_ROWS = 500, 100
CLEAN_OUTCOMES, QUICK_CLEAN_OUTCOMES = 100_000, 10_000
CLEAN_PUSH_ROWS = 2_000
"""What a server pushes at once."""
LATENCY_ROUNDS, QUICK_LATENCY_ROUNDS = 20, 3
DEATHS, QUICK_DEATHS = 12, 2
FAULT_SHARE = 0.3
FAULTS = tuple(fault.value for fault in Fault)
SPEEDS = ("outcomes_per_s", "raw_per_s", "outcomes_to_raw", "troubled_outcomes_per_s")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `bench fans`."""
    add_output_arguments(parser)
    parser.add_argument("--outcomes", type=int, metavar="N", help=f"to hand over; default {OUTCOMES}")
    parser.add_argument(
        "--push-rows", type=int, metavar="N", help=f"of one call; fewer: more calls, more faults; default {PUSH_ROWS}"
    )
    parser.add_argument("--faults", type=float, default=FAULT_SHARE, metavar="SHARE", help="of calls; default 0.3")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="draws the faults; default 1")


def main(args: argparse.Namespace) -> int:
    """Run it; 1 when an outcome was not applied exactly once.

    Raises:
        ValueError: a flag is out of range.
    """
    outcomes = args.outcomes if args.outcomes is not None else QUICK_OUTCOMES if args.quick else OUTCOMES
    push_rows = args.push_rows if args.push_rows is not None else QUICK_PUSH_ROWS if args.quick else PUSH_ROWS
    if not 1_000 <= outcomes <= 10**8:
        raise ValueError(f"--outcomes {outcomes}: not in 1000..{10**8}")
    if not 0 <= args.faults <= 0.9:
        raise ValueError(f"--faults {args.faults}: not in 0..0.9")
    check_push_rows(push_rows)
    deaths = QUICK_DEATHS if args.quick else DEATHS
    trouble = Trouble(args.faults, deaths, deaths, seed=args.seed)
    with tempfile.TemporaryDirectory(prefix="fanbid-fans-") as name:
        figures = _measure(Path(name), outcomes, push_rows, trouble, args.quick)
    _show(figures)
    write_json(args.json, figures)
    return 1 if wrong(figures) else 0


def wrong(figures: dict[str, Scalar]) -> bool:
    """Whether anything was not applied exactly once."""
    must_be_none = ("lost", "twice", "altered", "invented", "fans_wrong", "waiting")
    return any(figures[key] for key in must_be_none) or figures["applied"] != figures["outcomes"]


def figures_of(traffic: Traffic, played: Played) -> dict[str, Scalar]:
    """What the troubled run came to."""
    calls = played.counts.get("calls", 0)
    faults = {key: played.counts.get(key, 0) for key in FAULTS}
    return {
        "outcomes": traffic.outcomes,
        "ledger_rows": traffic.rows,
        "applied": played.audit.applied,
        "lost": played.audit.lost,
        "twice": played.taken_twice,
        "altered": played.audit.altered,
        "invented": played.audit.invented,
        "waiting": played.waiting,
        "fans": played.audit.fans,
        "fans_wrong": played.audit.fans_wrong,
        "calls": calls,
        **faults,
        "fault_share": round(sum(faults.values()) / max(calls, 1), 3),
        "follower_deaths": played.counts.get("follower_deaths", 0),
        "outage_calls": played.counts.get("calls_cut", 0),
        "backlog_rows_max": played.backlog,
        "virtual_s": played.ticks * TICK_MS // 1_000,
        "troubled_outcomes_per_s": round(traffic.outcomes / played.wall_s),
    }


def _measure(folder: Path, outcomes: int, push_rows: int, trouble: Trouble, quick: bool) -> dict[str, Scalar]:
    troubled = Traffic(outcomes, SPAN_MS)
    clean = Traffic(min(outcomes, QUICK_CLEAN_OUTCOMES if quick else CLEAN_OUTCOMES), SPAN_MS)
    rounds = QUICK_LATENCY_ROUNDS if quick else LATENCY_ROUNDS
    for name in ("troubled", "clean", "latency"):
        (folder / name).mkdir()
    with progress(troubled.rows, "through trouble") as bar:
        figures = figures_of(troubled, Run(folder / "troubled", troubled, trouble, push_rows).play(bar))
    with progress(clean.rows, "without trouble") as bar:
        undisturbed = Run(folder / "clean", clean, NO_TROUBLE, CLEAN_PUSH_ROWS).play_at_once(bar)
    with progress(clean.outcomes, "bare SQLite") as bar:
        raw_per_s = raw_inserts_per_s(folder / "raw.sqlite", clean, CLEAN_PUSH_ROWS, bar.advance)
    with progress(rounds, "tiers to segments") as bar:
        taken_s = tier_to_segment_s(folder / "latency", rounds, bar)
    per_s = clean.outcomes / undisturbed.wall_s
    return figures | {
        "outcomes_per_s": round(per_s),
        "raw_per_s": round(raw_per_s),
        "outcomes_to_raw": round(per_s / raw_per_s, 4),
        "tier_to_segment_s_median": round(statistics.median(taken_s), 3),
        "tier_to_segment_s_max": round(max(taken_s), 3),
    }


def _show(figures: dict[str, Scalar]) -> None:
    counted = ("outcomes", "applied", "lost", "twice", "altered", "invented", "waiting", "fans", "fans_wrong")
    met = ("calls", *FAULTS, "follower_deaths", "fault_share", "outage_calls", "backlog_rows_max", "virtual_s")
    print_table("applied exactly once", ("what", "how many"), [(key, figures[key]) for key in counted])
    print_table("what it met", ("what", "how many"), [(key, figures[key]) for key in met])
    speed = (*SPEEDS, "tier_to_segment_s_median", "tier_to_segment_s_max")
    print_table("for scale", ("what", "figure"), [(key, figures[key]) for key in speed])
