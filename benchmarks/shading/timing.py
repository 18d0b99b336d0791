"""Nanoseconds a bid, in batches over 64 segments, beside two yardsticks on the same values."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from auction.landscape.kernels import shade_batch
from benchmarks.shading.kernels import golden_batch, search_batch
from benchmarks.shading.run import learned_world
from benchmarks.shading.worlds import SEGMENTS, UNIT_MICROS, VALUE_MEDIAN, VALUE_SIGMA, WORLDS

BIDS = 20_000
GOLDEN_STEPS = 30
"""Narrows the bracket to a millionth of its width."""


def time_bids(auctions: int, seconds: float) -> dict[str, float]:
    """CPU nanoseconds per bid of the shipped shading, without and with floors, of the bare search, and of golden
    section.

    The four take turns for `seconds`; the fastest batch of each counts, as whatever else runs can only add to a time.
    The landscapes are those that `auctions` with full feedback taught, 64 segments with different scales.
    """
    landscape = learned_world("segments64", "full", 0, auctions).snapshot()
    rng = np.random.default_rng(5)
    values = UNIT_MICROS * VALUE_MEDIAN * np.exp(VALUE_SIGMA * rng.standard_normal(BIDS))
    segments = rng.integers(0, SEGMENTS, BIDS).astype(np.int32)
    which = WORLDS["segments64"].leaves()[segments]
    no_floors, bids = np.zeros(BIDS, np.int64), np.zeros(BIDS, np.int64)
    floors = np.rint(values * rng.uniform(0.0, 0.6, BIDS)).astype(np.int64)
    mus, sigmas = np.log(UNIT_MICROS) + rng.normal(0.0, 0.5, SEGMENTS), np.full(SEGMENTS, 0.6)
    sides: dict[str, Callable[[], None]] = {
        "ns_per_bid": lambda: shade_batch(values, no_floors, which, landscape, bids),
        "floor_ns_per_bid": lambda: shade_batch(values, floors, which, landscape, bids),
        "search_ns_per_bid": lambda: search_batch(values, which, landscape, bids),
        "golden_ns_per_bid": lambda: golden_batch(values, segments, mus, sigmas, GOLDEN_STEPS, bids),
    }
    fastest_ns: dict[str, int] = {}
    for side in sides.values():
        side()
    until_s = time.perf_counter() + seconds
    while not fastest_ns or time.perf_counter() < until_s:
        for name, side in sides.items():
            started_ns = time.thread_time_ns()
            side()
            taken_ns = time.thread_time_ns() - started_ns
            fastest_ns[name] = min(fastest_ns.get(name, taken_ns), taken_ns)
    return {name: taken_ns / BIDS for name, taken_ns in fastest_ns.items()}
