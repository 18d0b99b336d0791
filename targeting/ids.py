"""From 64-bit ids to dense numbers."""

from __future__ import annotations

import numpy as np

from targeting.kernels import find_rows, insert_rows


class IdTable:
    """Rows by id, in order of arrival; never given up.

    One thread at a time may write. Any thread may read at any time, without a lock: a row is written before it can be
    found, and a table that outgrows its arrays swaps whole ones in.

    Attributes:
        ids: u8[capacity], by row.
        size: rows in use.
    """

    def __init__(self, capacity: int) -> None:
        self.ids = np.zeros(capacity, np.uint64)
        self.size = 0
        self._slots = _empty_slots(4 * capacity)

    @property
    def capacity(self) -> int:
        """Rows that there is room for."""
        return len(self.ids)

    def find(self, ids: np.ndarray) -> np.ndarray:
        """Row of each id (u8[n]) as i8[n]; -1: not there."""
        rows = np.empty(len(ids), np.int64)
        slot_ids, slot_rows = self._slots
        find_rows(slot_ids, slot_rows, np.ascontiguousarray(ids, np.uint64), rows)
        return rows

    def insert(self, ids: np.ndarray) -> np.ndarray:
        """Row of each id (u8[n]) as i8[n]; those that are not there get the next. There must be room for n more."""
        ids = np.ascontiguousarray(ids, np.uint64)
        known = self.find(ids)
        if not (known < 0).any():
            return known
        rows = np.empty(len(ids), np.int64)
        self.size = insert_rows(*self._slots, ids, self.size, self.ids, rows)
        return rows

    def grow(self, capacity: int) -> None:
        """Make room for `capacity` rows (a power of two), a quarter of the slots taken at most."""
        slots = _empty_slots(4 * capacity)
        grown = np.zeros(capacity, np.uint64)
        insert_rows(*slots, self.ids[: self.size], 0, grown, np.empty(self.size, np.int64))
        self.ids = grown
        self._slots = slots


def grown_rows(values: np.ndarray, capacity: int) -> np.ndarray:
    """A copy with room for `capacity` rows; what is new is 0."""
    grown = np.zeros((capacity, *values.shape[1:]), values.dtype)
    grown[: len(values)] = values
    return grown


def capacity_for(needed: int, capacity: int) -> int:
    """The first capacity, doubling from the present one, that holds `needed` rows."""
    while capacity < needed:
        capacity *= 2
    return capacity


def _empty_slots(size: int) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros(size, np.uint64), np.full(size, -1, np.int64)
