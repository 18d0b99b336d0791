"""Sums by key (an hour, a day) of which only the newest are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

_FIRST_ROWS = 4


class HourTable:
    """Rows of sums, i8[columns] and one f8, by a whole-number key that grows with time.

    Holds the `capacity` greatest keys; what is told about older ones is dropped. Not thread-safe.
    """

    def __init__(self, capacity: int, columns: int) -> None:
        self._capacity = capacity
        self._columns = columns
        self._row_of: dict[int, int] = {}
        self._counts = np.zeros((min(capacity, _FIRST_ROWS), columns), np.int64)
        self._expected = np.zeros(len(self._counts), np.float64)

    def add(self, keys: np.ndarray, counts: np.ndarray, expected: np.ndarray) -> None:
        """Add rows to the sums of their keys.

        Args:
            keys: i8[n].
            counts: i8[n, columns].
            expected: f8[n].
        """
        if not len(keys):
            return
        if keys[0] == keys[-1] and (keys == keys[0]).all():
            self._add_one(int(keys[0]), counts.sum(axis=0), float(expected.sum()))
            return
        for key in np.unique(keys).tolist():
            chosen = keys == key
            self._add_one(key, counts[chosen].sum(axis=0), float(expected[chosen].sum()))

    def get(self, key: int) -> tuple[np.ndarray, float]:
        """The sums of one key: i8[columns] and the f8; zeros if nothing is kept of it."""
        row = self._row_of.get(key)
        if row is None:
            return np.zeros(self._columns, np.int64), 0.0
        return self._counts[row], float(self._expected[row])

    def keys_from(self, first: int) -> list[int]:
        """The kept keys that are at least `first`, ascending."""
        return sorted(key for key in self._row_of if key >= first)

    @staticmethod
    def pack(tables: Sequence[HourTable], columns: int, prefix: str) -> dict[str, np.ndarray]:
        """Many tables as a few arrays, whose names start with `prefix`; `unpack` reads them."""
        sizes = [len(table._row_of) for table in tables]
        rows = [list(table._row_of.values()) for table in tables]
        empty_counts, empty_expected = np.zeros((0, columns), np.int64), np.zeros(0, np.float64)
        return {
            f"{prefix}ptr": np.concatenate(([0], np.cumsum(sizes, dtype=np.int64))),
            f"{prefix}keys": np.array([key for table in tables for key in table._row_of], np.int64),
            f"{prefix}counts": np.concatenate(
                [empty_counts, *(t._counts[r] for t, r in zip(tables, rows, strict=True))]
            ),
            f"{prefix}expected": np.concatenate(
                [empty_expected, *(t._expected[r] for t, r in zip(tables, rows, strict=True))]
            ),
        }

    @staticmethod
    def unpack(
        arrays: Mapping[str, np.ndarray], capacity: int, columns: int, prefix: str, count: int
    ) -> list[HourTable]:
        """The `count` tables that `pack` wrote.

        Raises:
            ValueError: the arrays do not fit together.
        """
        ptr, keys = arrays[f"{prefix}ptr"], arrays[f"{prefix}keys"]
        counts, expected = arrays[f"{prefix}counts"], arrays[f"{prefix}expected"]
        if len(ptr) != count + 1 or counts.shape != (len(keys), columns) or expected.shape != (len(keys),):
            raise ValueError(f"{prefix}: {len(keys)} keys for {counts.shape} sums of {count} tables")
        if ptr[0] != 0 or ptr[-1] != len(keys) or (ptr[1:] < ptr[:-1]).any():
            raise ValueError(f"{prefix}ptr: must ascend from 0 to {len(keys)}")
        bounds = ptr.tolist()
        return [
            HourTable(capacity, columns)._filled(keys[low:high], counts[low:high], expected[low:high])
            for low, high in pairwise(bounds)
        ]

    def _filled(self, keys: np.ndarray, counts: np.ndarray, expected: np.ndarray) -> HourTable:
        """This empty table with one row for each of these keys, which differ."""
        if len(keys) > self._capacity:
            raise ValueError(f"{len(keys)} keys in a table of {self._capacity}")
        spare = max(len(self._counts) - len(keys), 0)
        self._row_of = dict(zip(keys.tolist(), range(len(keys)), strict=True))
        if len(self._row_of) != len(keys):
            raise ValueError("a key is there twice")
        self._counts = np.concatenate((counts, np.zeros((spare, self._columns), np.int64)))
        self._expected = np.concatenate((expected, np.zeros(spare)))
        return self

    def _add_one(self, key: int, counts: np.ndarray, expected: float) -> None:
        row = self._row_of.get(key)
        if row is None:
            row = self._new_row(key)
            if row is None:
                return
        self._counts[row] += counts
        self._expected[row] += expected

    def _new_row(self, key: int) -> int | None:
        """A zeroed row for a key that has none; None if the key is older than all that are kept."""
        row = len(self._row_of)
        if row == self._capacity:
            oldest = min(self._row_of)
            if key < oldest:
                return None
            row = self._row_of.pop(oldest)
            self._counts[row] = 0
            self._expected[row] = 0.0
        elif row == len(self._counts):
            grown = min(2 * row, self._capacity) - row
            self._counts = np.concatenate((self._counts, np.zeros((grown, self._columns), np.int64)))
            self._expected = np.concatenate((self._expected, np.zeros(grown)))
        self._row_of[key] = row
        return row
