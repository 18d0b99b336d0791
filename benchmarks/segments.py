"""`fanbid bench segments`: probes, counts and set algebra of segments, beside pyroaring in the same run.

Every answer is compared before anything is timed. The batch of a probe is a request's viewers: rows in any order. Of
pyroaring, two ways of probing are timed: `batch & segment` where the batch is a bitmap already, the least that it can
take, and the same with making that bitmap of the rows.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import and_, or_, sub

import numpy as np
from pyroaring import BitMap

from benchmarks.output import ProgressBar, Scalar, add_output_arguments, print_table, progress, write_json
from benchmarks.pairs import Pair, time_pair
from targeting.segments.probe.copies import SegmentProbe
from targeting.segments.store import Change, SegmentStore

SIZES = (1_000_000, 10_000_000)
BATCH_SIZES = (64, 256, 1_000)
BATCHES = 8
"""Different batches of each size, probed in turn, so that nothing learns one by heart."""
STEPS = 10
OTHER = "other"
_SEED = 23
_OPERATIONS: dict[str, Callable[[BitMap, BitMap], BitMap]] = {"and": and_, "or": or_, "minus": sub}


@dataclass(frozen=True)
class Shape:
    """What a segment looks like: its share of the viewers, at random (run_length 0) or in runs of about a length."""

    name: str
    share: float
    run_length: int = 0

    def draw(self, viewers: int, rng: np.random.Generator) -> np.ndarray:
        """Rows of the members, ascending (u4[m])."""
        if self.run_length:
            count = max(1, round(self.share * viewers / self.run_length))
            starts = rng.integers(0, viewers, count)
            lengths = rng.integers(1, 2 * self.run_length, count)
            runs = [np.arange(a, min(a + n, viewers)) for a, n in zip(starts.tolist(), lengths.tolist(), strict=True)]
            return np.unique(np.concatenate(runs)).astype(np.uint32)
        if self.share < 0.05:
            return np.sort(rng.choice(viewers, max(1, round(self.share * viewers)), replace=False)).astype(np.uint32)
        return np.flatnonzero(rng.random(viewers) < self.share).astype(np.uint32)


SHAPES = (
    Shape("sparse_1e-4", 1e-4),
    Shape("sparse_1e-3", 1e-3),
    Shape("sparse_1e-2", 1e-2),
    Shape("dense_10pc", 0.1),
    Shape("dense_50pc", 0.5),
    Shape("clustered_short", 0.005, 150),
    Shape("clustered_long", 0.05, 1_500),
    Shape("clustered_regions", 0.4, 50_000),
)


@dataclass(frozen=True)
class _Case:
    """A stored segment, its probe, and pyroaring's bitmap of the same members."""

    shape: Shape
    viewers: int
    store: SegmentStore
    bitmap: BitMap
    other: BitMap

    @property
    def key(self) -> str:
        return (
            f"{self.shape.name}_{self.viewers // 1_000_000 or self.viewers}{'m' if self.viewers >= 1_000_000 else ''}"
        )


def _optimized(rows: np.ndarray) -> BitMap:
    """A bitmap in the form that pyroaring's own documentation recommends."""
    bitmap = BitMap(rows)
    bitmap.run_optimize()
    return bitmap


def _put_in_steps(store: SegmentStore, name: str, rows: np.ndarray, viewers: int, rng: np.random.Generator) -> None:
    """Put a segment as it comes about: put whole, some of it wrong, then changed in small steps."""
    late, wrong = rng.choice(rows, max(1, len(rows) // 50)), rng.integers(0, viewers, max(1, len(rows) // 50))
    store.put(name, np.concatenate([np.setdiff1d(rows, late), wrong]), Change.REPLACE)
    for part in np.array_split(late, STEPS):
        store.put(name, part, Change.ADD)
    for part in np.array_split(np.setdiff1d(wrong, rows), STEPS):
        store.put(name, part, Change.REMOVE)


def _cases(viewers: int, shapes: Sequence[Shape]) -> Iterator[_Case]:
    for number, shape in enumerate(shapes):
        rng = np.random.default_rng([_SEED, viewers, number])
        store = SegmentStore()
        rows, others = shape.draw(viewers, rng), shape.draw(viewers, rng)
        _put_in_steps(store, shape.name, rows, viewers, rng)
        _put_in_steps(store, OTHER, others, viewers, rng)
        yield _Case(shape, viewers, store, _optimized(rows), _optimized(others))


@dataclass(frozen=True)
class _Batches:
    """The same batches as rows (u4[n] each) and as bitmaps."""

    rows: list[np.ndarray]
    bitmaps: list[BitMap]
    out: np.ndarray

    @classmethod
    def drawn(cls, viewers: int, size: int) -> _Batches:
        rng = np.random.default_rng([_SEED, viewers, size])
        rows = [rng.choice(viewers, size, replace=False).astype(np.uint32) for _ in range(BATCHES)]
        return cls(rows, [BitMap(batch) for batch in rows], np.empty(size, np.uint8))


def _check_probe(probe: SegmentProbe, batches: _Batches, bitmap: BitMap) -> None:
    """Compare masks and counts with pyroaring's answer.

    Raises:
        AssertionError: they differ.
    """
    for rows, batch in zip(batches.rows, batches.bitmaps, strict=True):
        probe.mask(rows, batches.out)
        found = batch & bitmap
        if BitMap(rows[batches.out.view(np.bool_)]) != found or probe.count(rows) != len(found):
            raise AssertionError(f"{probe.form}: {probe.count(rows)} of the batch, pyroaring {len(found)}")


def _time_probes(probe: SegmentProbe, batches: _Batches, bitmap: BitMap, seconds: float) -> dict[str, Pair]:
    """Masks and counts; *raw*: pyroaring makes the batch's bitmap, too."""

    def mask() -> None:
        for rows in batches.rows:
            probe.mask(rows, batches.out)

    def count() -> None:
        for rows in batches.rows:
            probe.count(rows)

    def intersect() -> None:
        for batch in batches.bitmaps:
            batch & bitmap

    def intersect_raw() -> None:
        for rows in batches.rows:
            BitMap(rows) & bitmap

    def cardinality() -> None:
        for batch in batches.bitmaps:
            batch.intersection_cardinality(bitmap)

    def cardinality_raw() -> None:
        for rows in batches.rows:
            BitMap(rows).intersection_cardinality(bitmap)

    against = {
        "probe": (mask, intersect),
        "probe_raw": (mask, intersect_raw),
        "count": (count, cardinality),
        "count_raw": (count, cardinality_raw),
    }
    pairs = {name: time_pair(ours, theirs, seconds) for name, (ours, theirs) in against.items()}
    return {name: Pair(p.ours_ns / BATCHES, p.theirs_ns / BATCHES, p.ratio) for name, p in pairs.items()}


def _time_algebra(case: _Case, seconds: float) -> dict[str, Pair]:
    """Set operations on the bitmaps that the store has after small changes, beside the same on bitmaps made whole.

    Raises:
        AssertionError: their results differ.
    """
    mine, mine_too, a, b = case.store.members(case.shape.name), case.store.members(OTHER), case.bitmap, case.other
    pairs = {}
    for label, operation in _OPERATIONS.items():

        def ours(operation: Callable[[BitMap, BitMap], BitMap] = operation) -> BitMap:
            return operation(mine, mine_too)

        def theirs(operation: Callable[[BitMap, BitMap], BitMap] = operation) -> BitMap:
            return operation(a, b)

        if ours() != theirs():
            raise AssertionError(f"{case.key}: {label} differs from pyroaring's")
        pairs[label] = time_pair(ours, theirs, seconds)
    return pairs


@dataclass
class _Results:
    """What is measured, as figures and as rows of two tables."""

    figures: dict[str, Scalar]
    probes: list[list[object]]
    algebra: list[list[object]]
    ratios: dict[str, list[float]]

    def note_probes(self, case: _Case, size: int, form: str, size_bytes: int, pairs: dict[str, Pair]) -> None:
        for name, pair in pairs.items():
            key = f"{name}_{case.key}_{size}"
            self.figures[f"{key}_ns"], self.figures[f"{key}_to_pyroaring"] = pair.ours_ns, pair.ratio
            self.ratios.setdefault(name, []).append(pair.ratio)
            if case.shape.name.startswith("dense"):
                self.ratios.setdefault(f"dense_{name}", []).append(pair.ratio)
        probe, count = pairs["probe"], pairs["count"]
        self.probes.append(
            [
                case.key, form, size_bytes // 1_000, size, probe.ours_ns, probe.ratio, pairs["probe_raw"].ratio,
                count.ours_ns, count.ratio, pairs["count_raw"].ratio,
            ]
        )  # fmt: skip

    def note_algebra(self, case: _Case, pairs: dict[str, Pair]) -> None:
        for name, pair in pairs.items():
            self.figures[f"{name}_{case.key}_ns"] = pair.ours_ns
            self.figures[f"{name}_{case.key}_of_pyroaring"] = 1 / pair.ratio
            self.ratios.setdefault("algebra", []).append(1 / pair.ratio)
        cells = [cell for pair in pairs.values() for cell in (pair.ours_ns / 1_000, 1 / pair.ratio)]
        self.algebra.append([case.key, *cells])

    def summed_up(self) -> dict[str, Scalar]:
        """The figures, the extremes first."""
        worst: dict[str, Scalar] = {
            "probe_to_pyroaring_min": min(self.ratios["probe"]),
            "probe_raw_to_pyroaring_min": min(self.ratios["probe_raw"]),
            "algebra_of_pyroaring_max": max(self.ratios["algebra"]),
        }
        if "dense_count" in self.ratios:
            worst["dense_count_to_pyroaring_min"] = min(self.ratios["dense_count_raw"])
            worst["dense_count_prepared_to_pyroaring_min"] = min(self.ratios["dense_count"])
        return worst | self.figures


def measure(
    sizes: Sequence[int], shapes: Sequence[Shape], batch_sizes: Sequence[int], seconds: float, bar: ProgressBar
) -> _Results:
    """Compare and time every shape among each number of viewers; `seconds` for each pair of times."""
    results = _Results({}, [], [], {})
    for viewers in sizes:
        batches = {size: _Batches.drawn(viewers, size) for size in batch_sizes}
        for case in _cases(viewers, shapes):
            probe = case.store.probe(case.shape.name)
            for size, drawn in batches.items():
                _check_probe(probe, drawn, case.bitmap)
                pairs = _time_probes(probe, drawn, case.bitmap, seconds)
                results.note_probes(case, size, probe.form, probe.size_bytes, pairs)
                bar.advance(1, case.key)
            results.note_algebra(case, _time_algebra(case, seconds))
            bar.advance(1)
    return results


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `bench segments`."""
    add_output_arguments(parser)


def main(args: argparse.Namespace) -> int:
    """Compare and time segments of 1M and 10M viewers; answers the exit code."""
    seconds = 0.02 if args.quick else 0.5
    with progress(len(SIZES) * len(SHAPES) * (len(BATCH_SIZES) + 1), "segments") as bar:
        results = measure(SIZES, SHAPES, BATCH_SIZES, seconds, bar)
    columns = (
        "segment",
        "form",
        "kB",
        "batch",
        "probe ns",
        "/ pyroaring",
        "/ + bitmap",
        "count ns",
        "/ pyr.",
        "/ + bitmap",
    )
    print_table(
        "which of a batch's viewers are in a segment: times ours, and pyroaring's over ours", columns, results.probes
    )
    algebra = [name for label in _OPERATIONS for name in (f"{label} µs", "of pyroaring's")]
    print_table(
        "set algebra on what the store holds, and its share of pyroaring's time",
        ("segments", *algebra),
        results.algebra,
    )
    figures = results.summed_up()
    worst = [[key, value] for key, value in figures.items() if key.endswith(("_min", "_max"))]
    print_table("the worst of all", ("figure", "ratio"), worst)
    write_json(args.json, figures)
    return 0
