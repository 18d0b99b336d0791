"""`fanbid demo`: a simulated short-video market around the engine, to watch or to measure."""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.live import LiveSettings, results_table, run_live
from benchmarks.market.results import MarketResult
from benchmarks.market.run import QUICK, Market, MarketSettings
from benchmarks.market.tuning import TUNING_SEEDS, tune_baselines
from benchmarks.output import Scalar, add_output_arguments, print_table, progress, write_json
from benchmarks.study import POLICIES, SEED_COLUMNS, SeedResult, figures, run_study, seed_rows

DEFAULT_SPEED = 360.0
MAX_SEEDS = 1_000
_TUNING_WEIGHT = 1.0
_EXPLAINED = (
    ("overspend_micros_max", "charged beyond a budget, worst campaign", "0"),
    ("expected_cost_to_target_max", "charges over true expectation, over target, worst campaign", "<= 1.10"),
    ("fans_to_fixed", "fans over those of the best fixed bid", ">= 1.15"),
    ("fans_to_unpaced", "fans over those of bidding target times probability", ">= 1.15"),
    ("spend_to_optimum", "spend over that of the budget-only optimum", ">= 0.90"),
)

_QUICK_NOTE = (
    "--quick is too small for the figures wanted: they are of a whole day of the full market, over several seeds;\n"
    "leave --quick out, and see --seeds."
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `demo`."""
    add_output_arguments(parser)
    parser.add_argument("--virtual-hours", type=float, default=24.0, metavar="H", help="how much of a day; default 24")
    parser.add_argument(
        "--speed",
        type=float,
        metavar="N",
        help=f"virtual seconds per second; 0: as fast as it goes; default {DEFAULT_SPEED:.0f}, with --quick 0",
    )
    parser.add_argument("--headless", action="store_true", help="no server, no dashboard: measure policies in process")
    parser.add_argument(
        "--seeds", metavar="N|LIST", help="with --headless: how many seeds from --seed on, or which, as in 3,5,8"
    )
    parser.add_argument(
        "--seed", type=int, default=1, metavar="S", help="of the market; the same seed plays the same day"
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="keep what the programs store; empty or new")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="with --headless: save pictures of the study to DIR")


def parse_seeds(text: str | None, seed: int) -> list[int]:
    """The seeds that --seeds and --seed name: a count starts at `seed`.

    Raises:
        ValueError: not a count or a list of seeds, or a seed twice.
    """
    if text is None:
        return [seed]
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"--seeds {text!r}: not a number, or numbers with commas between") from None
    if "," not in text:
        if not 1 <= numbers[0] <= MAX_SEEDS:
            raise ValueError(f"--seeds {text!r}: not in 1..{MAX_SEEDS}")
        return list(range(seed, seed + numbers[0]))
    if len(set(numbers)) != len(numbers) or min(numbers) < 0:
        raise ValueError(f"--seeds {text!r}: a seed is given twice, or is negative")
    return numbers


def market_settings(quick: bool, hours: float) -> MarketSettings:
    """How large and how long a market the flags ask for.

    Raises:
        ValueError: hours out of range.
    """
    if not math.isfinite(hours) or not 0.1 <= hours <= 24:
        raise ValueError(f"--virtual-hours {hours}: not in 0.1..24")
    return replace(QUICK if quick else MarketSettings(), hours=hours)


def main(args: argparse.Namespace) -> int:
    """Run the demo; answers the exit code.

    Raises:
        ValueError: a flag cannot be used.
    """
    settings = market_settings(args.quick, args.virtual_hours)
    if args.seed < 0:
        raise ValueError(f"--seed {args.seed}: negative")
    if args.headless:
        for flag, given in (("--speed", args.speed), ("--data", args.data)):
            if given is not None:
                raise ValueError(f"{flag} {given}: not with --headless, which starts no server and waits for nothing")
        return _measure(args, settings)
    if args.seeds is not None or args.plots is not None:
        raise ValueError("--seeds and --plots: only with --headless")
    return _watch(args, settings)


def _watch(args: argparse.Namespace, settings: MarketSettings) -> int:
    if args.speed is None:
        args.speed = 0.0 if args.quick else DEFAULT_SPEED
    if not math.isfinite(args.speed) or args.speed < 0:
        raise ValueError(f"--speed {args.speed}: not 0 or more")
    if args.data is not None:
        if args.data.exists() and any(args.data.iterdir()):
            raise ValueError(f"--data {args.data}: not empty; the demo's virtual day needs a folder of its own")
        return _watch_in(args, settings, args.data)
    with tempfile.TemporaryDirectory(prefix="fanbid-demo-") as folder:
        return _watch_in(args, settings, Path(folder))


def _watch_in(args: argparse.Namespace, settings: MarketSettings, folder: Path) -> int:
    result = run_live(LiveSettings(args.seed, settings, args.speed, folder, stay=not args.quick))
    print_table(*results_table(result))
    write_json(args.json, live_figures(result))
    return 0


def live_figures(result: MarketResult) -> dict[str, Scalar]:
    """One watched run as a flat object."""
    ratios = [ratio for c in result.campaigns if (ratio := c.expected_cost_to_target) is not None]
    optimum = sum(c.optimum_micros for c in result.campaigns)
    spend = sum(c.charged_micros for c in result.campaigns)
    return {
        "seed": result.seed,
        "overspend_micros_max": max(c.overspend_micros for c in result.campaigns),
        "unexplained_micros_max": max(abs(c.unexplained_micros) for c in result.campaigns),
        "expected_cost_to_target_max": max(ratios, default=0.0),
        "spend_to_optimum": spend / optimum if optimum else 0.0,
        "fans": result.fans(),
        "fans_drawn": result.fans(expected=False),
        "refused_rows": sum(result.refused_rows.values()),
        "requests": result.requests,
        "slots": result.slots,
    }


def _measure(args: argparse.Namespace, settings: MarketSettings) -> int:
    seeds = parse_seeds(args.seeds, args.seed)
    total = _TUNING_WEIGHT + len(seeds) * len(POLICIES)
    with progress(total, "market days") as bar:
        bar.advance(0, "choosing the baselines' bids on other seeds")
        baselines = tune_baselines(seeds, 1 if args.quick else TUNING_SEEDS)
        bar.advance(_TUNING_WEIGHT, "preparing markets")
        results = run_study(seeds, settings, baselines, POLICIES, bar.advance)
    if len(seeds) == 1:
        print_table(*results_table(results[0].by_policy["engine"]))
    print_table("seeds", SEED_COLUMNS, seed_rows(results))
    shown = figures(results, baselines)
    print_study(shown, args.quick)
    write_json(args.json, shown)
    if args.plots is not None:
        _plot(args.plots, seeds, settings, results)
    return 0


def print_study(shown: Mapping[str, Scalar], quick: bool) -> None:
    """Print a study's figures beside what is wanted of them; and under them, that a quick one is no measure of that."""
    rows = [(name, shown[name], wanted, meaning) for name, meaning, wanted in _EXPLAINED]
    print_table("study", ("figure", "value", "wanted", "meaning"), rows)
    if quick:
        print(_QUICK_NOTE)


def _plot(folder: Path, seeds: Sequence[int], settings: MarketSettings, results: Sequence[SeedResult]) -> None:
    from benchmarks.market import plots

    made = [
        plots.plot_market(Market(seeds[0], settings), folder),
        plots.plot_campaigns([result.by_policy["engine"] for result in results], folder),
        plots.plot_policies({policy: [r.by_policy[policy] for r in results] for policy in POLICIES}, folder),
    ]
    print("pictures:", ", ".join(str(path) for path in made))
