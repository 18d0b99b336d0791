"""A compiled binary heap of (due instant, item): what waits for its time, in an order that does not depend on how it
was added."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def _precedes(due_ms: np.ndarray, items: np.ndarray, a: int, b: int) -> bool:
    return due_ms[a] < due_ms[b] or (due_ms[a] == due_ms[b] and items[a] < items[b])


@njit(cache=True, nogil=True)
def _swap(due_ms: np.ndarray, items: np.ndarray, a: int, b: int) -> None:
    held_ms, held_item = due_ms[a], items[a]
    due_ms[a], items[a] = due_ms[b], items[b]
    due_ms[b], items[b] = held_ms, held_item


@njit(cache=True, nogil=True)
def push_all(due_ms: np.ndarray, items: np.ndarray, size: int, new_due_ms: np.ndarray, new_items: np.ndarray) -> int:
    """Add n entries (i8[n], i8[n]) to the heap of `size` in i8[capacity] arrays with room for them; the new size."""
    for i in range(new_items.shape[0]):
        place = size
        due_ms[place] = new_due_ms[i]
        items[place] = new_items[i]
        size += 1
        while place > 0:
            above = (place - 1) >> 1
            if not _precedes(due_ms, items, place, above):
                break
            _swap(due_ms, items, place, above)
            place = above
    return size


@njit(cache=True, nogil=True)
def pop_due(
    due_ms: np.ndarray, items: np.ndarray, size: int, now_ms: int, out_due_ms: np.ndarray, out_items: np.ndarray
) -> int:
    """Take entries due at or before `now_ms`, earliest first (ties by item), into i8[k] and i8[k] until these are full.

    Returns:
        How many were taken; the heap has that many fewer.
    """
    taken = 0
    while size > 0 and taken < out_items.shape[0] and due_ms[0] <= now_ms:
        out_due_ms[taken] = due_ms[0]
        out_items[taken] = items[0]
        taken += 1
        size -= 1
        due_ms[0] = due_ms[size]
        items[0] = items[size]
        place = 0
        while True:
            below = 2 * place + 1
            if below >= size:
                break
            if below + 1 < size and _precedes(due_ms, items, below + 1, below):
                below += 1
            if not _precedes(due_ms, items, below, place):
                break
            _swap(due_ms, items, place, below)
            place = below
    return taken
