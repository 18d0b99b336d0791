"""Plain stand-ins for what targeting keeps: rows by order of arrival, segments and follows as sets."""

from __future__ import annotations

import numpy as np


class Viewers:
    """Dense rows by order of arrival."""

    def __init__(self) -> None:
        self.row_of: dict[int, int] = {}

    def ensure(self, ids: np.ndarray) -> np.ndarray:
        return np.array([self.row_of.setdefault(int(viewer_id), len(self.row_of)) for viewer_id in ids], np.int64)


class Segments:
    """Sets of rows by name; changes numbered as in the protocol."""

    def __init__(self) -> None:
        self.members: dict[str, set[int]] = {}

    @property
    def names(self) -> list[str]:
        return list(self.members)

    def put(self, name: str, rows: np.ndarray, change: int) -> None:
        known, told = self.members.get(name, set()), set(rows.tolist())
        self.members[name] = {1: told, 2: known | told, 3: known - told}[change]

    def viewers(self, viewers: Viewers) -> dict[str, set[int]]:
        """The viewer ids in each segment that is not empty."""
        id_of = {row: viewer_id for viewer_id, row in viewers.row_of.items()}
        return {name: {id_of[row] for row in rows} for name, rows in self.members.items() if rows}


class Follows:
    """Pairs of follower and followed."""

    def __init__(self) -> None:
        self.pairs: set[tuple[int, int]] = set()

    def put(self, follower_ids: np.ndarray, followed_ids: np.ndarray) -> None:
        self.pairs |= set(zip(follower_ids.tolist(), followed_ids.tolist(), strict=True))

    def remove(self, follower_ids: np.ndarray, followed_ids: np.ndarray) -> None:
        self.pairs -= set(zip(follower_ids.tolist(), followed_ids.tolist(), strict=True))
