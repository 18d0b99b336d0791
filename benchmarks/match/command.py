"""`fanbid bench match`: who is eligible, of 10,000 and of 100,000 campaigns, beside other ways to find out."""

from __future__ import annotations

import argparse

import numpy as np

from benchmarks.match.run import FIRST, Contest, time_round
from benchmarks.match.updates import measure_updates
from benchmarks.match.workload import draw_audiences, make_viewers
from benchmarks.output import ProgressBar, Scalar, add_output_arguments, print_table, progress, write_json
from targeting.segments.store import SegmentStore

SIZES, VIEWERS = (10_000, 100_000), 2_000
QUICK_SIZES, QUICK_VIEWERS = (1_000, 10_000), 500
UPDATES, QUICK_UPDATES = (100_000, 30, 15.0), (2_500, 3, 2.0)
"""Campaigns that run, how many are created, edited and paused meanwhile, and seconds of bids before."""
_SEED = 11
_SMALL, _LARGE = "10k", "100k"
_RATIOS = (
    (f"match_to_sets_{_SMALL}", ("sets", _SMALL), ("match", _SMALL)),
    (f"match_to_tuned_sets_{_SMALL}", ("tuned_sets", _SMALL), ("match", _SMALL)),
    (f"match_to_kindex_{_SMALL}", ("kindex", _SMALL), ("match", _SMALL)),
    (f"match_to_kindex_{_LARGE}", ("kindex", _LARGE), ("match", _LARGE)),
    (f"time_{_LARGE}_to_{_SMALL}", ("match", _LARGE), ("match", _SMALL)),
    (f"first64_to_all_{_SMALL}", ("first64", _SMALL), ("match", _SMALL)),
    (f"first64_to_all_{_LARGE}", ("first64", _LARGE), ("match", _LARGE)),
    (f"cached_to_all_{_SMALL}", ("cached", _SMALL), ("match", _SMALL)),
    (f"cached_to_all_{_LARGE}", ("cached", _LARGE), ("match", _LARGE)),
)
"""Name, numerator and denominator: whose time, at which size."""
_SHOWN = {
    "match": "all matches",
    "first64": f"first {FIRST} in rank order",
    "cached": f"first {FIRST} of a kept row",
    "kindex": "counting k-index, all",
    "sets": "sets, all",
    "tuned_sets": "sets, tuned, all",
}

Times = dict[tuple[str, str], list[float]]


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `bench match`."""
    add_output_arguments(parser)


def main(args: argparse.Namespace) -> int:
    """Time everybody at both sizes; answers the exit code."""
    sizes = dict(zip((_SMALL, _LARGE), QUICK_SIZES if args.quick else SIZES, strict=True))
    rounds, viewers = (3, QUICK_VIEWERS) if args.quick else (9, VIEWERS)
    figures: dict[str, Scalar] = {"campaigns_small": sizes[_SMALL], "campaigns_large": sizes[_LARGE], "rounds": rounds}
    with progress(6 + rounds, "matching") as bar:
        contests = _contests(sizes, viewers, bar)
        figures["segments_per_viewer"] = len(contests[_SMALL].viewers.segments) / viewers
        for name, contest in contests.items():
            figures[f"matches_per_viewer_{name}"] = contest.check_agreement(3) / viewers
            bar.advance(1, f"{sizes[name]:,} campaigns: all find the same")
        times: Times = {}
        for _ in range(rounds):
            for name, contest in contests.items():
                for what, taken_ns in time_round(contest, 4 if name == _SMALL else 0).items():
                    times.setdefault((what, name), []).append(taken_ns)
            bar.advance(1, "timing")
    with progress(2, "updating") as bar:
        updates = measure_updates(*(QUICK_UPDATES if args.quick else UPDATES), _SEED, bar)
    figures |= {"campaigns_updating": (QUICK_UPDATES if args.quick else UPDATES)[0], **updates}
    _tell_times(times, sizes, figures)
    _tell_ratios(times, figures)
    print_table(
        f"campaigns created, edited and paused among {figures['campaigns_updating']:,} while bids run",
        ("", "value"),
        [[name, value] for name, value in updates.items()],
    )
    write_json(args.json, figures)
    return 0


def _contests(sizes: dict[str, int], viewers: int, bar: ProgressBar) -> dict[str, Contest]:
    store = SegmentStore()
    bar.advance(0, "drawing viewers")
    audience = make_viewers(viewers, store, _SEED)
    contests = {}
    for name, count in sizes.items():
        bar.advance(1, f"drawing {count:,} campaigns")
        clauses_of = draw_audiences(count, _SEED)
        bar.advance(1, f"indexing {count:,} campaigns")
        contests[name] = Contest(clauses_of, audience, store)
    return contests


def _tell_times(times: Times, sizes: dict[str, int], figures: dict[str, Scalar]) -> None:
    rows: list[list[object]] = []
    for (what, name), taken in sorted(times.items(), key=lambda entry: (entry[0][1] == _LARGE, entry[0][0])):
        low, middle, high = _spread(taken)
        figures[f"{what}_ns_{name}"] = middle
        rows.append([_SHOWN[what], f"{sizes[name]:,}", low, middle, high])
    print_table("CPU ns a viewer", ("", "campaigns", "least", "median", "most"), rows)


def _tell_ratios(times: Times, figures: dict[str, Scalar]) -> None:
    """Ratios are of the same round, so that what else runs on the machine is in both."""
    rows: list[list[object]] = []
    for name, above, below in _RATIOS:
        low, middle, high = _spread((np.array(times[above]) / np.array(times[below])).tolist())
        figures |= {name: middle, f"{name}_min": low, f"{name}_max": high}
        rows.append([name, low, middle, high])
    print_table("ratios, over the rounds", ("", "least", "median", "most"), rows)


def _spread(values: list[float]) -> tuple[float, float, float]:
    return min(values), float(np.median(values)), max(values)
