"""What turning segments round means: sets by viewer. For tests and benches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def segments_by_row(members: Sequence[Iterable[int]]) -> dict[int, list[int]]:
    """Each row's segments, ascending; rows without any are left out.

    Args:
        members: each segment's rows; position: the segment's number.
    """
    lists: dict[int, list[int]] = {}
    for segment, rows in enumerate(members):
        for row in set(rows):
            lists.setdefault(row, []).append(segment)
    return lists


def lists_of(lists: dict[int, list[int]], rows: Iterable[int]) -> list[list[int]]:
    """The segments of each row; none for a row that nothing is known of."""
    return [lists.get(row, []) for row in rows]
