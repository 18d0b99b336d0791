"""`fanbid bench lookalike GRAPH`: who follows a creator next, from a public follow graph with times.

ALS of `implicit`, user-kNN by idf-cosine, recent activity alone and the shipped lookalike, in one run: taught by the
past, judged by what came after; and again by a random split, where reciprocal links give most of what can be gained.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.lookalike.graphs import FORMATS, made_up_graph, read_graph
from benchmarks.lookalike.judge import SIZES, Case, Recall
from benchmarks.lookalike.rivals import ACTIVITY, ALS, ALS_GRID, KNN, QUICK_ALS_GRID, has_als
from benchmarks.lookalike.run import (
    SHIPPED,
    SHIPPED_RECIPROCAL,
    Settings,
    Teaching,
    Tuned,
    compare,
    random_halves,
    tune,
)
from benchmarks.output import ProgressBar, Scalar, add_output_arguments, print_table, progress, write_json
from targeting.lookalike.links import Links
from targeting.lookalike.picture import Picture
from targeting.lookalike.ranker import examples, fit_ranker

WINDOWS, QUICK_WINDOWS = 4, 1
CASES, QUICK_CASES = 1_000, 60
LEAST_TO_ALS, LEAST_TO_ACTIVITY, LEAST_RANDOM_TO_ALS = 1.7, 1.15, 1.07
EXIT_NOT_HELD = 1
_MADE_UP = (1_500, 12)
_NAMES = {
    ALS: "ALS (implicit), tuned",
    KNN: "user-kNN, idf-cosine",
    ACTIVITY: "recent activity alone, tuned",
    SHIPPED: "fanbid",
    SHIPPED_RECIPROCAL: "fanbid, with reciprocal links",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `fanbid bench lookalike`."""
    parser.add_argument("graph", type=Path, nargs="?", metavar="GRAPH", help=f"{FORMATS}; not needed with --made-up")
    parser.add_argument("--made-up", action="store_true", help="a small made-up graph, to see the command run")
    parser.add_argument("--windows", type=int, metavar="N", help=f"last windows that are foretold; default {WINDOWS}")
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="draws splits and samples; default 1")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="draw recall by size into DIR (matplotlib)")
    add_output_arguments(parser)


def main(args: argparse.Namespace) -> int:
    """Compare; answers 1 if a run of full size shows that a claim does not hold.

    Raises:
        ValueError: a flag cannot be used, or the graph cannot.
        FileNotFoundError: there is no such graph.
    """
    if (args.graph is None) != args.made_up:
        raise ValueError("GRAPH: give the path of a graph, or --made-up")
    windows = args.windows if args.windows is not None else QUICK_WINDOWS if args.quick else WINDOWS
    for flag, value, low, high in (("--windows", windows, 1, 20), ("--seed", args.seed, 0, 2**31)):
        if not low <= value <= high:
            raise ValueError(f"{flag} {value}: not in {low}..{high}")
    links = made_up_graph(*_MADE_UP, args.seed) if args.made_up else read_graph(args.graph)
    if links.end < windows + 4:
        raise ValueError(f"GRAPH: its times make {links.end} windows; {windows + 4} or more are needed")
    print(f"{links.accounts:,} accounts, {len(links.windows):,} follows, {links.end} windows of time", flush=True)
    if not has_als():
        print("ALS: not compared, implicit is not installed; pip install 'fanbid[lookalike]'")
    settings = Settings(QUICK_ALS_GRID if args.quick else ALS_GRID, QUICK_CASES if args.quick else CASES, args.seed)
    steps = (windows + 1) * (5 if has_als() else 4) + (2 * len(settings.grid) if has_als() else 0)
    with progress(steps, "lookalike", even=False) as bar:
        by_time, tuned = _by_time(links, windows, settings, bar)
        by_chance = _by_chance(links, settings, bar)
    found: dict[str, Scalar] = {"accounts": links.accounts, "follows": len(links.windows), "windows": windows}
    found |= _figures("", by_time) | _figures("random_", [by_chance])
    found["activity"] = tuned.activity
    if tuned.als is not None:
        found["als_factors"], found["als_alpha"] = tuned.als.factors, tuned.als.alpha
    _show(found, by_time, by_chance)
    if args.plots is not None:
        from benchmarks.lookalike.plots import plot_recall

        curves = {_NAMES[name]: _curve(by_time, name) for name in by_time[0][1]}
        print(f"recall by size: {plot_recall(curves, args.plots)}")
    verdicts = {} if args.quick or args.made_up else claims(found)
    if verdicts:
        print_table("claims", ("claim", "held"), list(verdicts.items()))
    write_json(args.json, found)
    return 0 if all(verdicts.values()) else EXIT_NOT_HELD


Split = tuple[list[Case], dict[str, Recall]]


def _by_time(links: Links, windows: int, settings: Settings, bar: ProgressBar) -> tuple[list[Split], Tuned]:
    """Each of the last windows, foretold from what came before it. Rivals are tuned on the window before them all."""
    teaching = Teaching(links, settings.seed)
    first = links.end - windows
    past = links.before(first - 1)
    tuned = tune(Picture(past, first - 1, settings.seed), past, links.only(first - 1), settings, bar)
    splits = []
    for cut in range(first, links.end):
        past = links.before(cut)
        rankers = {SHIPPED: teaching.ranker(cut, False), SHIPPED_RECIPROCAL: teaching.ranker(cut, True)}
        picture = Picture(past, cut, settings.seed)
        splits.append(compare(picture, past, links.only(cut), rankers, tuned, settings, bar))
    return splits, tuned


def _by_chance(links: Links, settings: Settings, bar: ProgressBar) -> Split:
    """A random fifth of all follows, foretold from the rest; tuned and taught by a random fifth of that rest."""
    known, held_out = random_halves(links, settings.seed)
    past, gained = random_halves(known, settings.seed + 1)
    before = Picture(past, links.end, settings.seed)
    tuned = tune(before, past, gained, settings, bar)
    rankers = {}
    for name, reciprocal in ((SHIPPED, False), (SHIPPED_RECIPROCAL, True)):
        taught = examples(before, past, gained, reciprocal, settings.seed)
        rankers[name] = fit_ranker([taught], reciprocal)
    return compare(Picture(known, links.end, settings.seed), known, held_out, rankers, tuned, settings, bar)


def _curve(splits: Sequence[Split], name: str) -> np.ndarray:
    return np.mean([found[name].mean for _, found in splits], axis=0)


def _figures(prefix: str, splits: Sequence[Split]) -> dict[str, Scalar]:
    """Means over the splits, and the shipped one's ratio to each other."""
    found: dict[str, Scalar] = {f"{prefix}creators": sum(len(judged) for judged, _ in splits)}
    held_out = sum(len(case.held_out) for judged, _ in splits for case in judged)
    found[f"{prefix}held_out"] = held_out
    recalls, pooled = {}, {}
    for name in splits[0][1]:
        recalls[name] = float(_curve(splits, name)[SIZES.index(1.0)])
        pooled[name] = float(np.mean([of[name].pooled for _, of in splits]))
        found[f"{prefix}recall_{name}"] = recalls[name]
        found[f"{prefix}pooled_recall_{name}"] = pooled[name]
    for shipped, said in ((SHIPPED, ""), (SHIPPED_RECIPROCAL, "reciprocal_")):
        for name in (ALS, KNN, ACTIVITY):
            if recalls.get(name):
                found[f"{prefix}{said}recall_to_{name}"] = recalls[shipped] / recalls[name]
                found[f"{prefix}{said}pooled_recall_to_{name}"] = pooled[shipped] / pooled[name]
    return found


def claims(found: Mapping[str, Scalar]) -> dict[str, bool]:
    """What is claimed, by its words, and whether the figures speak for it; without reciprocal links throughout."""
    figures = {name: value for name, value in found.items() if isinstance(value, float)}
    wanted = (
        (f"by time, at least {LEAST_TO_ALS:g} of ALS", "recall_to_als", LEAST_TO_ALS),
        (f"by time, at least {LEAST_TO_ACTIVITY:g} of recent activity", "recall_to_activity", LEAST_TO_ACTIVITY),
        (f"at random, at least {LEAST_RANDOM_TO_ALS:g} of ALS", "random_recall_to_als", LEAST_RANDOM_TO_ALS),
        ("at random, no less than user-kNN", "random_recall_to_knn", 1.0),
        ("by time, no less than user-kNN", "recall_to_knn", 1.0),
    )
    return {words: figures[name] >= least for words, name, least in wanted if name in figures}


def _show(found: Mapping[str, Scalar], by_time: Sequence[Split], by_chance: Split) -> None:
    title = f"by time: {found['creators']:,} creators, {found['held_out']:,} followers that came after"
    _table(title, {name: _curve(by_time, name) for name in by_time[0][1]}, found, "")
    title = f"at random: {found['random_creators']:,} creators, {found['random_held_out']:,} followers held out"
    _table(title, {name: by_chance[1][name].mean for name in by_chance[1]}, found, "random_")


def _table(title: str, curves: Mapping[str, np.ndarray], found: Mapping[str, Scalar], prefix: str) -> None:
    heads = ("recall in an audience of", *(f"{size:g}x held out" for size in SIZES), "pooled, 1x")
    rows = [
        (_NAMES[name], *(f"{value:.4f}" for value in curve), f"{found[f'{prefix}pooled_recall_{name}']:.4f}")
        for name, curve in curves.items()
    ]
    print_table(title, heads, rows)
    ratios = [
        (_NAMES[name], *(_ratio(found, f"{prefix}{said}recall_to_{name}") for said in ("", "reciprocal_")))
        for name in (ALS, KNN, ACTIVITY)
    ]
    print_table("fanbid's recall at 1x, to that of", ("method", "without reciprocal links", "with"), ratios)


def _ratio(found: Mapping[str, Scalar], name: str) -> str:
    value = found.get(name)
    return f"{value:.3f}" if isinstance(value, float) else "-"
