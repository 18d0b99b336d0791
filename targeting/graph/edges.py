"""Follow edges in arrays that grow as needed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from targeting.graph.kernels import (
    COUNT,
    FOLLOWERS,
    FOLLOWING,
    GIVEN_BACK,
    NONE,
    USED,
    Edges,
    add_edges,
    are_close,
    copy_side,
    fill_slots,
    mark_circle,
    remove_edges,
)
from targeting.ids import capacity_for, grown_rows

MAX_EDGES = 2**30
_FIRST_CAPACITY = 1024
_FIRST_TOLD = 2**17  # pairs: few enough to stay in the cache, many enough that a large batch is told in few pieces


class EdgeTable:
    """Edges between rows, each once. Callers take turns.

    Changes answer with the pairs (creator, row) of watched creators whose closeness may have changed, in pieces: two i4
    arrays each, in which a pair may come repeatedly. What changes is done by the time that the last piece was taken.
    """

    def __init__(self) -> None:
        self._edges = Edges(
            ends=np.zeros((_FIRST_CAPACITY, 2), np.int32),
            links=np.full((_FIRST_CAPACITY, 4), NONE, np.int32),
            heads=np.full((_FIRST_CAPACITY, 2), NONE, np.int32),
            degrees=np.zeros((_FIRST_CAPACITY, 2), np.int32),
            slots=np.full(2 * _FIRST_CAPACITY, NONE, np.int32),
            watched=np.zeros(_FIRST_CAPACITY, np.uint8),
            fan_of=np.zeros(_FIRST_CAPACITY, np.int32),
            counters=np.array([0, NONE, 0], np.int64),
        )
        self._told = (np.empty(_FIRST_TOLD, np.int32), np.empty(_FIRST_TOLD, np.int32))

    @property
    def size(self) -> int:
        """How many edges there are."""
        return int(self._edges.counters[COUNT])

    def add(self, followers: np.ndarray, followed: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Add edges between rows (i8[n], i8[n]); those that are there already change nothing.

        Raises:
            ValueError: there would be more than MAX_EDGES.
        """
        if len(followers):
            self._make_room(1 + int(max(followers.max(), followed.max())), len(followers))
        return self._changed(add_edges, followers, followed)

    def remove(self, followers: np.ndarray, followed: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Take edges between rows (i8[n], i8[n]) away; those that are not there change nothing."""
        return self._changed(remove_edges, followers, followed)

    def watch(self, row: int) -> None:
        """Tell pairs of this creator from now on."""
        self._make_room(row + 1, 0)
        if not self._edges.watched[row]:
            self._edges.watched[row] = 1
            self._edges.fan_of[self.followers(row)] += 1

    def unwatch(self, row: int) -> None:
        """Tell no more pairs of this creator."""
        if self._edges.watched[row]:
            self._edges.watched[row] = 0
            self._edges.fan_of[self.followers(row)] -= 1

    def are_watched(self, rows: np.ndarray) -> np.ndarray:
        """Which of the rows (i8[n]) are watched (b1[n])."""
        beyond = rows >= len(self._edges.watched)
        return (self._edges.watched[np.where(beyond, 0, rows)] > 0) & ~beyond

    def in_order(self) -> tuple[np.ndarray, np.ndarray]:
        """All edges (i4[n], i4[n]), in the order in which they came.

        One that was put in the place of an edge that was taken away stands where that one stood.
        """
        used, given_back = int(self._edges.counters[USED]), int(self._edges.counters[GIVEN_BACK])
        live = np.ones(used, np.bool_)
        while given_back != NONE:
            live[given_back] = False
            given_back = int(self._edges.links[given_back, 0])
        ends = self._edges.ends[:used][live]
        return ends[:, 0], ends[:, 1]

    def following(self, row: int) -> np.ndarray:
        """Whom the row follows (i4[n])."""
        return self._side(row, FOLLOWING)

    def followers(self, row: int) -> np.ndarray:
        """Who follows the row (i4[n])."""
        return self._side(row, FOLLOWERS)

    def follower_count(self, row: int) -> int:
        """How many follow the row."""
        return int(self._edges.degrees[row, FOLLOWERS]) if 0 <= row < len(self._edges.degrees) else 0

    def circle(self, fans: np.ndarray) -> np.ndarray:
        """Rows (i8[n], ascending) that follow one of the fans (i4[m]) or are followed by one."""
        marks = np.zeros(len(self._edges.heads), np.bool_)
        mark_circle(self._edges, fans, marks)
        return np.flatnonzero(marks)

    def are_close(self, creator: int, rows: np.ndarray) -> np.ndarray:
        """Which of the rows (i8[n]) follow a fan of the creator or are followed by one (b1[n])."""
        close = np.zeros(len(rows), np.bool_)
        known = rows < len(self._edges.heads)
        found = np.empty(int(known.sum()), np.bool_)
        are_close(self._edges, creator, rows[known], found)
        close[known] = found
        return close

    def _side(self, row: int, side: int) -> np.ndarray:
        if not 0 <= row < len(self._edges.heads):
            return np.empty(0, np.int32)
        found = np.empty(self._edges.degrees[row, side], np.int32)
        copy_side(self._edges, row, side, found)
        return found

    def _changed(  # type: ignore[no-untyped-def]
        self, kernel, followers: np.ndarray, followed: np.ndarray
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        start = 0
        while start < len(followers):
            creators, rows = self._told
            after, told = kernel(self._edges, followers, followed, start, creators, rows)
            if told:
                yield creators[:told], rows[:told]
            if after == start and not told:
                self._told = (np.empty(2 * len(creators), np.int32), np.empty(2 * len(rows), np.int32))
            start = after

    def _make_room(self, rows: int, more_edges: int) -> None:
        edges = self._edges
        if rows > len(edges.heads):
            capacity = capacity_for(rows, len(edges.heads))
            heads = np.full((capacity, 2), NONE, np.int32)
            heads[: len(edges.heads)] = edges.heads
            edges = edges._replace(
                heads=heads,
                degrees=grown_rows(edges.degrees, capacity),
                watched=grown_rows(edges.watched, capacity),
                fan_of=grown_rows(edges.fan_of, capacity),
            )
        needed = int(edges.counters[USED]) + more_edges
        if needed > len(edges.ends):
            if needed > MAX_EDGES:
                raise ValueError(f"follows: {needed}; at most {MAX_EDGES}")
            capacity = capacity_for(needed, len(edges.ends))
            edges = edges._replace(
                ends=grown_rows(edges.ends, capacity),
                links=grown_rows(edges.links, capacity),
                slots=np.full(2 * capacity, NONE, np.int32),
            )
            fill_slots(edges)
        self._edges = edges
