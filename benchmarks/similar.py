"""`fanbid bench similar`: finding similar creators in a made-up follow graph, beside the same by scipy.sparse.

Who is active and who is famous follows power laws; on top, some creators share an audience. The other side multiplies
sparse matrices, the followers of 32 creators by the whole graph at a time, and applies the same standards to what they
have in common with whole columns. Answers are compared before anything is told.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from scipy.sparse import csr_matrix

from benchmarks.output import ProgressBar, Scalar, add_output_arguments, print_table, progress, write_json
from targeting.graph.similar.lists import MOST_SIMILAR, STANDARDS, FollowsCopy, Similar

SIZES = ((1_000_000, 100_000, 10_000_000), (200_000, 50_000, 2_000_000))
"""Viewers, creators and follows drawn."""
QUICK_SIZES = ((50_000, 10_000, 500_000),)
ASKED = 256
"""Creators whose lists are made."""
GROUP, SHARED_AUDIENCE, SHARED_PERCENT = 8, 400, 50
"""So many creators share an audience of so many viewers, of whom each is followed by so many in a hundred."""
REPEATS = 5
_AT_A_TIME = 32
_SEED = 17

Found = TypeVar("Found")


@dataclass(frozen=True)
class Graph:
    """Follows (rows, i4[E] each, no pair twice); viewers come first, then creators. `asked`: creators' rows."""

    followers: np.ndarray
    followed: np.ndarray
    ids: np.ndarray
    asked: list[int]


@dataclass(frozen=True)
class Timed:
    """CPU seconds of both sides, by repetition in turn, and of the copy that ours begins with."""

    copy_s: float
    ours_s: list[float]
    sparse_s: list[float]
    listed: int
    equal: bool


def make_graph(viewers: int, creators: int, follows: int) -> Graph:
    """A graph of this size, always the same. Half of those asked for share an audience with others."""
    rng = np.random.default_rng([_SEED, viewers])
    who = _drawn(rng, viewers, 1.5, follows)
    whom = viewers + _drawn(rng, creators, 1.0, follows)
    shared = min(ASKED, creators) // 2 // GROUP * GROUP
    pairs = [who * 2**32 + whom]
    for first in range(viewers, viewers + shared, GROUP):
        audience = rng.choice(viewers, min(SHARED_AUDIENCE, viewers), replace=False)
        for creator in range(first, first + GROUP):
            fans = audience[rng.random(len(audience)) * 100 < SHARED_PERCENT]
            pairs.append(fans * 2**32 + creator)
    once = np.unique(np.concatenate(pairs))
    others = rng.choice(np.arange(viewers + shared, viewers + creators), min(ASKED, creators) - shared, replace=False)
    asked = [*range(viewers, viewers + shared), *others.tolist()]
    ids = rng.permutation(viewers + creators).astype(np.uint64) + np.uint64(1)
    return Graph((once >> 32).astype(np.int32), (once & (2**32 - 1)).astype(np.int32), ids, asked)


def _drawn(rng: np.random.Generator, count: int, exponent: float, n: int) -> np.ndarray:
    """n of `count`, by weights of a power law."""
    steps = np.cumsum(rng.pareto(exponent, count) + 1.0)
    return np.searchsorted(steps, rng.random(n) * steps[-1]).astype(np.int64)


def by_sparse(graph: Graph, follows: csr_matrix, followers: csr_matrix) -> Iterator[tuple[int, tuple[Similar, ...]]]:
    """Each creator that is asked for with the similar ones, from products of sparse matrices.

    Args:
        graph: for ids, and who is asked for.
        follows: i4 ones, n x n: row follows column.
        followers: the same, turned round.
    """
    fans = np.diff(followers.indptr).astype(np.int64)
    following = np.diff(follows.indptr).astype(np.int64)
    compared = int(np.count_nonzero(fans >= STANDARDS.least_common))
    evidence = math.log(max(compared, 1) / STANDARDS.luck)
    for start in range(0, len(graph.asked), _AT_A_TIME):
        asked = graph.asked[start : start + _AT_A_TIME]
        rows = followers[asked]
        in_common = rows @ follows
        for i, creator in enumerate(asked):
            part = slice(in_common.indptr[i], in_common.indptr[i + 1])
            others, common = in_common.indices[part], in_common.data[part].astype(np.int64)
            kept = (others != creator) & (common >= STANDARDS.least_common)
            others, common = others[kept], common[kept]
            theirs, own = fans[others], fans[creator]
            members = rows.indices[rows.indptr[i] : rows.indptr[i + 1]]
            by_chance = theirs * (int((following[members] - 1).sum()) / max(len(graph.followers) - int(own), 1))
            mean = STANDARDS.least_lift * by_chance
            kept = common * common >= STANDARDS.least_cosine * STANDARDS.least_cosine * (own * theirs)
            kept &= (common > mean) & (common * np.log(common / mean) - common + mean >= evidence)
            others, common, theirs, by_chance = others[kept], common[kept], theirs[kept], by_chance[kept]
            best = np.lexsort((graph.ids[others], -(common * common / theirs)))[:MOST_SIMILAR]
            columns = others[best], common[best], theirs[best], (common / by_chance)[best]
            yield creator, tuple(map(Similar, *(column.tolist() for column in columns)))


def time_both(graph: Graph, bar: ProgressBar) -> Timed:
    """Make all lists by either side, again and again in turn. Advances the bar by REPEATS + 1."""
    accounts = len(graph.ids)
    ones = np.ones(len(graph.followers), np.int32)
    follows = csr_matrix((ones, (graph.followers, graph.followed)), (accounts, accounts))
    followers = follows.T.tocsr()
    copy, copy_s = _timed(lambda: FollowsCopy(graph.followers, graph.followed, graph.ids))
    ours, _ = _timed(lambda: dict(copy.find_similar(graph.asked)))  # compiles
    bar.advance(1)
    ours_s, sparse_s, equal = [], [], True
    for _ in range(REPEATS):
        ours, taken_s = _timed(lambda: dict(copy.find_similar(graph.asked)))
        ours_s.append(taken_s)
        theirs, taken_s = _timed(lambda: dict(by_sparse(graph, follows, followers)))
        sparse_s.append(taken_s)
        equal = equal and ours == theirs
        bar.advance(1)
    return Timed(copy_s, ours_s, sparse_s, sum(map(len, ours.values())), equal)


def _timed(call: Callable[[], Found]) -> tuple[Found, float]:
    began_s = time.thread_time()
    found = call()
    return found, time.thread_time() - began_s


def figures_of(graph: Graph, timed: Timed) -> dict[str, Scalar]:
    """Ratios are medians of pairs; milliseconds are of one creator's list."""
    ratios = [theirs / ours for ours, theirs in zip(timed.ours_s, timed.sparse_s, strict=True)]
    return {
        "follows": len(graph.followers),
        "creators_asked": len(graph.asked),
        "similar_found": timed.listed,
        "equal": timed.equal,
        "copy_s": timed.copy_s,
        "list_ms": 1_000 * statistics.median(timed.ours_s) / len(graph.asked),
        "sparse_list_ms": 1_000 * statistics.median(timed.sparse_s) / len(graph.asked),
        "similar_to_sparse": statistics.median(ratios),
    }


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `bench similar`."""
    add_output_arguments(parser)


def main(args: argparse.Namespace) -> int:
    """Find similar creators both ways; 1 if the answers differ."""
    sizes = QUICK_SIZES if args.quick else SIZES
    found: dict[int, dict[str, Scalar]] = {}
    with progress(sum(drawn * (2 + REPEATS) for *_, drawn in sizes), "similar") as bar:
        for viewers, creators, drawn in sizes:
            graph = make_graph(viewers, creators, drawn)
            bar.advance(drawn, f"{len(graph.followers):,} follows")
            found[drawn] = figures_of(graph, time_both(graph, _Scaled(bar, drawn)))
    columns = list(next(iter(found.values())))
    print_table(
        f"similar creators: {ASKED} lists, of up to {MOST_SIMILAR}",
        ("follows drawn", *columns),
        [[f"{drawn:,}", *figures.values()] for drawn, figures in found.items()],
    )
    names = {drawn: f"{drawn // 1_000_000}m" if drawn >= 1_000_000 else f"{drawn // 1_000}k" for drawn in found}
    write_json(args.json, {f"{key}_{names[drawn]}": one for drawn, of in found.items() for key, one in of.items()})
    return 0 if all(figures["equal"] for figures in found.values()) else 1


@dataclass(frozen=True)
class _Scaled:
    """A bar whose units count for more: work grows with the graph."""

    bar: ProgressBar
    factor: int

    def advance(self, n: float = 1, note: str = "") -> None:
        self.bar.advance(n * self.factor, note)
