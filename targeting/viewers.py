"""Viewers: from 64-bit ids to dense rows, and what is known of each."""

from __future__ import annotations

import threading

import numpy as np

from targeting.attributes import CARDINALITIES, STORED_DIMENSION_COUNT
from targeting.ids import IdTable, capacity_for, grown_rows

MAX_VIEWERS = 2**30
_FIRST_CAPACITY = 1024


class ViewerTable:
    """Rows by id, attributes and interests by row. Rows are never given up.

    Any thread may read, without a lock: writers fill arrays before they show a row, and a table that outgrows its
    arrays swaps whole ones in. So ask for rows first, and take the arrays after that. Writers take turns.

    Attributes:
        attributes: u2[capacity, STORED_DIMENSION_COUNT], codes; 0: unknown.
        interest_masks: u8[capacity], bit k: interest k.
        revision: how many rows were put, or became known.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._table = IdTable(_FIRST_CAPACITY)
        self.attributes = np.zeros((_FIRST_CAPACITY, STORED_DIMENSION_COUNT), np.uint16)
        self.interest_masks = np.zeros(_FIRST_CAPACITY, np.uint64)
        self.revision = 0

    @property
    def size(self) -> int:
        """Viewers that are known."""
        return self._table.size

    @property
    def ids(self) -> np.ndarray:
        """u8[capacity], ids by row."""
        return self._table.ids

    def rows_of(self, viewer_ids: np.ndarray) -> np.ndarray:
        """Row of each id (u8[n]) as i8[n]; -1: not known."""
        return self._table.find(viewer_ids)

    def ensure(self, viewer_ids: np.ndarray) -> np.ndarray:
        """Row of each id (u8[n]) as i8[n]; ids that are not known become known, with nothing but their id.

        Raises:
            ValueError: there would be more than MAX_VIEWERS.
        """
        with self._lock:
            return self._ensure(viewer_ids)

    def put(self, viewer_ids: np.ndarray, attributes: np.ndarray, interest_masks: np.ndarray) -> np.ndarray:
        """Add viewers, or replace what is known of them; of an id that comes twice, the last holds.

        Args:
            viewer_ids: u8[n].
            attributes: u2[n, STORED_DIMENSION_COUNT].
            interest_masks: u8[n].

        Returns:
            Their rows, i8[n].

        Raises:
            ValueError: shapes differ, a code is out of its dimension's range, or there would be more than MAX_VIEWERS.
        """
        n = len(viewer_ids)
        if attributes.shape != (n, STORED_DIMENSION_COUNT) or interest_masks.shape != (n,):
            raise ValueError(
                f"attributes {attributes.shape}, interest_masks {interest_masks.shape}: must be "
                f"({n}, {STORED_DIMENSION_COUNT}) and ({n},)"
            )
        too_high = (attributes < 0) | (attributes >= np.array(CARDINALITIES[:STORED_DIMENSION_COUNT]))
        if too_high.any():
            row, dimension = np.argwhere(too_high)[0]
            raise ValueError(
                f"attributes[{row}, {dimension}] {attributes[row, dimension]}: not in 0..{CARDINALITIES[dimension] - 1}"
            )
        with self._lock:
            rows = self._ensure(viewer_ids)
            self.attributes[rows] = attributes
            self.interest_masks[rows] = interest_masks
            self.revision += n
        return rows

    def _ensure(self, viewer_ids: np.ndarray) -> np.ndarray:
        needed = self._table.size + len(viewer_ids)
        if needed > self._table.capacity:
            strangers = np.sort(viewer_ids[self._table.find(viewer_ids) < 0])  # by hash, np.unique is slower here
            needed = self._table.size + int((strangers[1:] != strangers[:-1]).sum()) + min(len(strangers), 1)
            if needed > MAX_VIEWERS:
                raise ValueError(f"viewers: {needed}; at most {MAX_VIEWERS}")
            self._grow(capacity_for(needed, self._table.capacity))
        before = self._table.size
        rows = self._table.insert(viewer_ids)
        self.revision += self._table.size - before
        return rows

    def _grow(self, capacity: int) -> None:
        if capacity == self._table.capacity:
            return
        self.attributes = grown_rows(self.attributes, capacity)
        self.interest_masks = grown_rows(self.interest_masks, capacity)
        self._table.grow(capacity)
