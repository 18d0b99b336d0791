"""What probing a segment means: asking a set, row by row. For tests and benches."""

from __future__ import annotations

from collections.abc import Iterable, Set


def rows_found(members: Set[int], rows: Iterable[int]) -> list[bool]:
    """Whether each row is a member."""
    return [row in members for row in rows]


def bits_set(members: Iterable[int], size_bytes: int) -> bytes:
    """The members as a bitset of bytes: bit k of byte j is member 8 j + k."""
    whole = 0
    for row in members:
        whole |= 1 << row
    return whole.to_bytes(size_bytes, "little")


def runs_of(members: Iterable[int]) -> list[tuple[int, int]]:
    """First and last of each run of neighbours."""
    runs: list[tuple[int, int]] = []
    for row in sorted(members):
        if runs and runs[-1][1] == row - 1:
            runs[-1] = (runs[-1][0], row)
        else:
            runs.append((row, row))
    return runs
