"""Viewers: from 64-bit ids to dense rows, and what is known of each."""

from __future__ import annotations

import threading

import numpy as np

from targeting.attributes import CARDINALITIES, STORED_DIMENSION_COUNT
from targeting.kernels import find_rows, insert_rows

MAX_VIEWERS = 2**31
_FIRST_CAPACITY = 1024


class ViewerTable:
    """Rows by id, attributes and interests by row. Rows are never given up.

    Any thread may read, without a lock: writers fill arrays before they show a row, and a table that outgrows its arrays
    swaps whole ones in. Writers take turns.

    Attributes:
        attributes: u2[capacity, STORED_DIMENSION_COUNT], codes; 0: unknown.
        interest_masks: u8[capacity], bit k: interest k.
        ids: u8[capacity].
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.size = 0
        self.attributes = np.zeros((_FIRST_CAPACITY, STORED_DIMENSION_COUNT), np.uint16)
        self.interest_masks = np.zeros(_FIRST_CAPACITY, np.uint64)
        self.ids = np.zeros(_FIRST_CAPACITY, np.uint64)
        self._slots = _empty_slots(4 * _FIRST_CAPACITY)

    def rows_of(self, viewer_ids: np.ndarray) -> np.ndarray:
        """Row of each id (u8[n]) as i8[n]; -1: not known."""
        rows = np.empty(len(viewer_ids), np.int64)
        slot_ids, slot_rows = self._slots
        find_rows(slot_ids, slot_rows, np.ascontiguousarray(viewer_ids, np.uint64), rows)
        return rows

    def ensure(self, viewer_ids: np.ndarray) -> np.ndarray:
        """Row of each id (u8[n]) as i8[n]; ids that are not known become known, with nothing but their id."""
        with self._lock:
            return self._ensure(np.ascontiguousarray(viewer_ids, np.uint64))

    def put(self, viewer_ids: np.ndarray, attributes: np.ndarray, interest_masks: np.ndarray) -> np.ndarray:
        """Add viewers, or replace what is known of them.

        Args:
            viewer_ids: u8[n].
            attributes: u2[n, STORED_DIMENSION_COUNT].
            interest_masks: u8[n].

        Returns:
            Their rows, i8[n].

        Raises:
            ValueError: shapes differ, or a code is out of its dimension's range.
        """
        n = len(viewer_ids)
        if attributes.shape != (n, STORED_DIMENSION_COUNT) or interest_masks.shape != (n,):
            raise ValueError(
                f"attributes {attributes.shape}, interest_masks {interest_masks.shape}: must be "
                f"({n}, {STORED_DIMENSION_COUNT}) and ({n},)"
            )
        too_high = attributes >= np.array(CARDINALITIES[:STORED_DIMENSION_COUNT])
        if too_high.any():
            row, dimension = np.argwhere(too_high)[0]
            raise ValueError(
                f"attributes[{row}, {dimension}] {attributes[row, dimension]}: not in 0..{CARDINALITIES[dimension] - 1}"
            )
        with self._lock:
            rows = self._ensure(np.ascontiguousarray(viewer_ids, np.uint64))
            self.attributes[rows] = attributes
            self.interest_masks[rows] = interest_masks
        return rows

    def _ensure(self, viewer_ids: np.ndarray) -> np.ndarray:
        self._grow(self.size + len(viewer_ids))
        rows = np.empty(len(viewer_ids), np.int64)
        slot_ids, slot_rows = self._slots
        first = self.size
        after = insert_rows(slot_ids, slot_rows, viewer_ids, first, rows)
        fresh = rows >= first
        self.ids[rows[fresh]] = viewer_ids[fresh]
        self.size = after
        return rows

    def _grow(self, needed: int) -> None:
        """Make room for `needed` rows, at most half of the slots taken."""
        if needed > MAX_VIEWERS:
            raise ValueError(f"viewers: {needed}; at most {MAX_VIEWERS}")
        capacity = len(self.ids)
        if needed <= capacity:
            return
        while capacity < needed:
            capacity *= 2
        slots = _empty_slots(4 * capacity)
        insert_rows(*slots, self.ids[: self.size], 0, np.empty(self.size, np.int64))
        self.attributes = _grown(self.attributes, capacity)
        self.interest_masks = _grown(self.interest_masks, capacity)
        self.ids = _grown(self.ids, capacity)
        self._slots = slots


def _empty_slots(size: int) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros(size, np.uint64), np.full(size, -1, np.int64)


def _grown(values: np.ndarray, capacity: int) -> np.ndarray:
    grown = np.zeros((capacity, *values.shape[1:]), values.dtype)
    grown[: len(values)] = values
    return grown
