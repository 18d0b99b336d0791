"""`fanbid bench reach`: how fast and how right the reach of an audience is told, beside brute force in the same run.

Audiences are drawn as creators choose them (`benchmarks/workload.py`). Brute force evaluates the expression itself on
whole columns of all viewers, without clauses, samples or Roaring.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from pyroaring import BitMap

from benchmarks.output import ProgressBar, Scalar, add_output_arguments, print_table, progress, write_json
from benchmarks.workload import (
    DENSEST_SEGMENT,
    SEGMENTS,
    SPARSEST_SEGMENT,
    Audience,
    draw_targetings,
    make_audience,
    segment_name,
)
from targeting.attributes import STORED_DIMENSION_COUNT
from targeting.expressions import All, Any, Attribute, Expression, Interests, Not, Segment
from targeting.reach.counter import EXACT_BELOW, Reach, ReachCounter
from targeting.segments.store import Change, SegmentStore
from targeting.viewers import ViewerTable

VIEWERS, QUICK_VIEWERS = 10_000_000, 1_000_000
AUDIENCES, QUICK_AUDIENCES = 120, 60
REPEATS = 7
DRAWN_SEGMENTS = 200
"""Each stands for several of the SEGMENTS."""
PROMISED_ERROR = 0.03
"""Of counts above EXACT_BELOW; below, they are exact."""
_CREATOR = 5
_SEED = 31
_PUT_AT_A_TIME = 1_000_000


@dataclass(frozen=True)
class World:
    """Viewers and segments, as they are stored and as plain columns."""

    audience: Audience
    members: dict[str, np.ndarray]
    viewers: ViewerTable
    segments: SegmentStore


@dataclass(frozen=True)
class Counted:
    """One audience: what it was told to hold, what it holds, and CPU nanoseconds of the first and of a later call."""

    told: Reach
    true: int
    first_ns: float
    later_ns: float
    brute_ns: float

    @property
    def is_broad(self) -> bool:
        """Whether it is above EXACT_BELOW."""
        return self.true > EXACT_BELOW

    @property
    def error(self) -> float:
        """Relative."""
        return abs(self.told.count - self.true) / max(self.true, 1)

    @property
    def keeps_promise(self) -> bool:
        """Whether it is as precise as is promised."""
        return self.error <= PROMISED_ERROR if self.is_broad else self.told.count == self.true


def make_world(viewers: int, bar: ProgressBar) -> World:
    """Viewers and SEGMENTS segments, DRAWN_SEGMENTS of them different; always the same. Advances the bar by 2."""
    rng = np.random.default_rng([_SEED, viewers])
    audience = make_audience(viewers, _SEED, segments=0)
    table, store = ViewerTable(), SegmentStore()
    for begin in range(0, viewers, _PUT_AT_A_TIME):
        part = slice(begin, begin + _PUT_AT_A_TIME)
        table.put(audience.ids[part], audience.attributes[part], audience.interest_masks[part])
    bar.advance(1, f"{viewers:,} viewers")
    densities = np.exp(rng.uniform(np.log(SPARSEST_SEGMENT), np.log(DENSEST_SEGMENT), DRAWN_SEGMENTS))
    drawn = [np.unique(rng.integers(0, viewers, int(density * viewers), dtype=np.uint32)) for density in densities]
    bitmaps = [BitMap(rows) for rows in drawn]
    members = {}
    for number in range(SEGMENTS):
        name = segment_name(number)
        members[name] = drawn[number % DRAWN_SEGMENTS]
        store.put_members(name, bitmaps[number % DRAWN_SEGMENTS], Change.REPLACE)
    bar.advance(1, f"{SEGMENTS:,} segments")
    return World(audience, members, table, store)


def brute_mask(world: World, node: Expression) -> np.ndarray:
    """Whether each viewer is held (b1[n]); conditions on what a request brings are taken to suit."""
    match node:
        case All(of=of):
            return np.logical_and.reduce([brute_mask(world, part) for part in of])
        case Any(of=of):
            return np.logical_or.reduce([brute_mask(world, part) for part in of])
        case Not(of=part):
            return ~brute_mask(world, part)
        case Attribute(dimension=dimension, codes=codes):
            if dimension >= STORED_DIMENSION_COUNT:
                return np.ones(world.audience.size, np.bool_)
            return np.isin(world.audience.attributes[:, dimension], np.array(codes, np.uint16))
        case Interests(codes=codes):
            return (world.audience.interest_masks & np.uint64(sum(1 << code for code in codes))) != 0
        case Segment(name=name):
            mask = np.zeros(world.audience.size, np.bool_)
            mask[world.members[name]] = True
            return mask
    raise ValueError(f"targeting {node!r:.80}: not one that this workload draws")


def _timed_ns(call: Callable[[], object]) -> float:
    started_ns = time.thread_time_ns()
    call()
    return time.thread_time_ns() - started_ns


def count_all(world: World, audiences: list[Expression], bar: ProgressBar) -> list[Counted]:
    """Count each audience by both ways; the whole of what a creator's call does is timed, compiling included."""
    counter = ReachCounter(world.viewers, world.segments)
    counter.count(All(()), _CREATOR, True)  # draws the sample
    counted = []
    for audience in audiences:

        def count(audience: Expression = audience) -> Reach:
            return counter.count(audience, _CREATOR, False)

        first_ns = _timed_ns(count)
        later_ns = statistics.median(_timed_ns(count) for _ in range(REPEATS))
        began_ns = time.thread_time_ns()
        true = int(brute_mask(world, audience).sum())
        brute_ns = time.thread_time_ns() - began_ns
        counted.append(Counted(count(), true, first_ns, later_ns, brute_ns))
        bar.advance(1)
    return counted


def figures_of(counted: list[Counted]) -> dict[str, Scalar]:
    """Times in microseconds; errors of broad audiences, relative."""
    broad, narrow = [one for one in counted if one.is_broad], [one for one in counted if not one.is_broad]
    figures: dict[str, Scalar] = {
        "audiences": len(counted),
        "audiences_broad": len(broad),
        "audiences_sampled": sum(one.told.error > 0 for one in counted),
        "promises_broken": sum(not one.keeps_promise for one in counted),
        "p50_us": _us([one.later_ns for one in counted], 50),
    }
    for name, group in (("broad", broad), ("narrow", narrow)):
        if group:
            for percentile in (50, 95):
                figures[f"{name}_p{percentile}_us"] = _us([one.later_ns for one in group], percentile)
            figures[f"{name}_first_p50_us"] = _us([one.first_ns for one in group], 50)
            figures[f"{name}_brute_p50_us"] = _us([one.brute_ns for one in group], 50)
            figures[f"{name}_error_p50"] = float(np.median([one.error for one in group]))
            figures[f"{name}_error_max"] = max(one.error for one in group)
    return figures


def _us(taken_ns: list[float], percentile: float) -> float:
    return float(np.percentile(taken_ns, percentile)) / 1_000


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `bench reach`."""
    add_output_arguments(parser)


def main(args: argparse.Namespace) -> int:
    """Count audiences both ways; 1 if a count is off by more than is promised."""
    viewers, audiences = (QUICK_VIEWERS, QUICK_AUDIENCES) if args.quick else (VIEWERS, AUDIENCES)
    with progress(2 + audiences, "reach") as bar:
        world = make_world(viewers, bar)
        counted = count_all(world, draw_targetings(audiences, _SEED), bar)
    figures = figures_of(counted)
    print_table(
        f"reach among {viewers:,} viewers; broad: more than {EXACT_BELOW:,}",
        ("audiences", "how many", "p50 µs", "p95 µs", "first p50 µs", "brute p50 µs", "error p50", "error max"),
        [
            [name, len([one for one in counted if one.is_broad == is_broad])]
            + [
                figures.get(f"{name}_{key}")
                for key in ("p50_us", "p95_us", "first_p50_us", "brute_p50_us", "error_p50", "error_max")
            ]
            for name, is_broad in (("broad", True), ("narrow", False))
        ],
    )
    print_table("in all", ("figure", "value"), [[key, figures[key]] for key in list(figures)[:5]])
    write_json(args.json, {"viewers": viewers, **figures})
    return 1 if figures["promises_broken"] else 0
