"""Compiled frequency counters: a set-associative table of (viewer, creator) pairs, bounded and never rehashed.

A pair lives in one of the eight ways of its set. When all ways are taken, the one untouched for longest gives way, so
a full table forgets old pairs and may let a viewer see a creator again: it errs towards one impression too many, never
towards unbounded memory.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

WAYS = 8


class CapTable(NamedTuple):
    """Counters of pairs; S is a power of two.

    Attributes:
        keys: u8[S, WAYS], hash of (viewer, creator); 0: free.
        days: i4[S, WAYS], the day that `shown` counts.
        shown: i4[S, WAYS], billed impressions on that day.
        offered: i4[S, WAYS], bids not yet decided.
        offered_until_ms: i8[S, WAYS], when undecided bids lapse.
        touched_at_ms: i8[S, WAYS].
    """

    keys: np.ndarray
    days: np.ndarray
    shown: np.ndarray
    offered: np.ndarray
    offered_until_ms: np.ndarray
    touched_at_ms: np.ndarray


@njit(cache=True, nogil=True)
def pair_key(viewer_id: np.uint64, creator_id: np.uint64) -> np.uint64:
    """A non-zero 64-bit hash of the pair (two rounds of the splitmix64 finaliser)."""
    h = np.uint64(viewer_id) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(creator_id)
    h ^= h >> np.uint64(30)
    h *= np.uint64(0xBF58476D1CE4E5B9)
    h ^= h >> np.uint64(27)
    h *= np.uint64(0x94D049BB133111EB)
    h ^= h >> np.uint64(31)
    return h if h != np.uint64(0) else np.uint64(1)


@njit(cache=True, nogil=True)
def find_way(table: CapTable, key: np.uint64) -> int:
    """The way of `key` in its set, or -1."""
    row = np.int64(key & np.uint64(table.keys.shape[0] - 1))
    for way in range(WAYS):
        if table.keys[row, way] == key:
            return way
    return -1


@njit(cache=True, nogil=True)
def times_seen(table: CapTable, key: np.uint64, day: int, now_ms: int) -> int:
    """Impressions of the pair on `day`, those that undecided bids may still become included."""
    way = find_way(table, key)
    if way < 0:
        return 0
    row = np.int64(key & np.uint64(table.keys.shape[0] - 1))
    seen = 0
    if table.days[row, way] == day:
        seen += table.shown[row, way]
    if now_ms < table.offered_until_ms[row, way]:
        seen += table.offered[row, way]
    return seen


@njit(cache=True, nogil=True)
def _claim_way(table: CapTable, key: np.uint64, day: int, now_ms: int) -> int:
    """The way of `key`, made in a free or the longest untouched one, with lapsed counts cleared."""
    row = np.int64(key & np.uint64(table.keys.shape[0] - 1))
    way = find_way(table, key)
    if way < 0:
        way = 0
        for other in range(WAYS):
            if table.keys[row, other] == np.uint64(0):
                way = other
                break
            if table.touched_at_ms[row, other] < table.touched_at_ms[row, way]:
                way = other
        table.keys[row, way] = key
        table.days[row, way] = day
        table.shown[row, way] = 0
        table.offered[row, way] = 0
        table.offered_until_ms[row, way] = 0
    if table.days[row, way] != day:
        table.days[row, way] = day
        table.shown[row, way] = 0
    if now_ms >= table.offered_until_ms[row, way]:
        table.offered[row, way] = 0
    table.touched_at_ms[row, way] = now_ms
    return way


@njit(cache=True, nogil=True)
def count_offers(
    table: CapTable, viewer_ids: np.ndarray, creator_ids: np.ndarray, day: int, now_ms: int, until_ms: int
) -> None:
    """Count one undecided bid for each pair (u8[n], u8[n]) until `until_ms`."""
    for i in range(viewer_ids.shape[0]):
        key = pair_key(viewer_ids[i], creator_ids[i])
        row = np.int64(key & np.uint64(table.keys.shape[0] - 1))
        way = _claim_way(table, key, day, now_ms)
        table.offered[row, way] += 1
        table.offered_until_ms[row, way] = max(table.offered_until_ms[row, way], until_ms)


@njit(cache=True, nogil=True)
def count_decided(
    table: CapTable,
    viewer_ids: np.ndarray,
    creator_ids: np.ndarray,
    shown: np.ndarray,
    day: int,
    now_ms: int,
) -> None:
    """Take one undecided bid of each pair back, and count an impression where `shown` (b1[n])."""
    for i in range(viewer_ids.shape[0]):
        key = pair_key(viewer_ids[i], creator_ids[i])
        if not shown[i] and find_way(table, key) < 0:
            continue
        row = np.int64(key & np.uint64(table.keys.shape[0] - 1))
        way = _claim_way(table, key, day, now_ms)
        if table.offered[row, way] > 0:
            table.offered[row, way] -= 1
        if shown[i]:
            table.shown[row, way] += 1


@njit(cache=True, nogil=True)
def extend_offers(table: CapTable, viewer_ids: np.ndarray, creator_ids: np.ndarray, now_ms: int, until_ms: int) -> None:
    """Keep the undecided bids of each pair until `until_ms`: they won, so the impression may follow."""
    for i in range(viewer_ids.shape[0]):
        key = pair_key(viewer_ids[i], creator_ids[i])
        row = np.int64(key & np.uint64(table.keys.shape[0] - 1))
        way = find_way(table, key)
        if way >= 0 and now_ms < table.offered_until_ms[row, way]:
            table.offered_until_ms[row, way] = max(table.offered_until_ms[row, way], until_ms)
