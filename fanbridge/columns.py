"""How rows become the columns of a message and back: which field is which column, and the two conversions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fanbridge.events import Rows

CHANGE_COLUMNS = {
    "viewer_id": "viewer_ids",
    "creator_id": "creator_ids",
    "tier": "tiers",
    "stage": "stages",
    "changed_at_ms": "changed_at_ms",
}
EVENT_COLUMNS = {
    "event_id": "event_ids",
    "viewer_id": "viewer_ids",
    "creator_id": "creator_ids",
    "kind": "kinds",
    "occurred_at_ms": "occurred_at_ms",
}
RETENTION_COLUMNS = {
    "viewer_id": "viewer_ids",
    "creator_id": "creator_ids",
    "days": "days",
    "kept": "kept",
    "judged_at_ms": "judged_at_ms",
}
OUTCOME_COLUMNS = {
    "lease_id": "lease_ids",
    "hold_seq": "hold_seqs",
    "kind": "kinds",
    "viewer_id": "viewer_ids",
    "creator_id": "creator_ids",
    "campaign_id": "campaign_ids",
    "creative_id": "creative_ids",
    "price_micros": "prices_micros",
    "occurred_at_ms": "occurred_at_ms",
    "ledger_sequence": "ledger_sequences",
}
"""Field of the row layout to column of the message."""


def to_columns(rows: Rows, columns: Mapping[str, str]) -> dict[str, list[int]]:
    """The rows as keyword arguments of a message: one list of numbers per column."""
    return {column: rows[field].tolist() for field, column in columns.items()}


def from_columns(message: Any, dtype: np.dtype[Any], columns: Mapping[str, str]) -> Rows:
    """The columns of a message as rows of `dtype`, in order.

    Raises:
        ValueError: the columns differ in length; the text names the first that does.
    """
    count = len(getattr(message, next(iter(columns.values()))))
    rows = np.zeros(count, dtype=dtype)
    for field, column in columns.items():
        numbers: Sequence[int] = getattr(message, column)
        if len(numbers) != count:
            raise ValueError(f"{column}: {len(numbers)} numbers, must be {count} like the first column")
        rows[field] = np.fromiter(numbers, dtype=dtype[field], count=count)
    return rows
