"""The look-up of viewers as a plain dictionary. For tests and benches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


def rows_found(row_of: Mapping[int, int], viewer_ids: Iterable[int]) -> list[int]:
    """Row of each viewer; -1: not there."""
    return [row_of.get(viewer_id, -1) for viewer_id in viewer_ids]


def rows_inserted(row_of: dict[int, int], viewer_ids: Iterable[int]) -> list[int]:
    """Row of each viewer; those that are not there get the next one, in order."""
    return [row_of.setdefault(viewer_id, len(row_of)) for viewer_id in viewer_ids]
