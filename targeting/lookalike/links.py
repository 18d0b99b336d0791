"""Follows as the lookalike reads them: who follows whom, and in which window of time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from targeting.lookalike.kernels import fill_compressed

WINDOWS = 40
_HALF_LIFE = 1.0
"""Windows after which a follow counts as half as recent."""


@dataclass(frozen=True, slots=True)
class Links:
    """Follows between accounts, each once, oldest first.

    Attributes:
        accounts: how many accounts there are; rows are 0 to accounts - 1.
        followers, followed: i4[E], rows.
        windows: i2[E], ascending, the window of time in which each was made; 0 is the first.
    """

    accounts: int
    followers: np.ndarray
    followed: np.ndarray
    windows: np.ndarray

    @property
    def end(self) -> int:
        """The window after the last: from here, everything lies in the past."""
        return int(self.windows[-1]) + 1 if len(self.windows) else 0

    def before(self, window: int) -> Links:
        """The follows of earlier windows."""
        count = int(np.searchsorted(self.windows, window))
        return Links(self.accounts, self.followers[:count], self.followed[:count], self.windows[:count])

    def only(self, window: int) -> Links:
        """The follows of one window."""
        return self.taken(self.windows == window)

    def taken(self, mask: np.ndarray) -> Links:
        """Some of the follows (b1[E])."""
        return Links(self.accounts, self.followers[mask], self.followed[mask], self.windows[mask])

    def without_self(self) -> Links:
        """Without those who follow themselves."""
        return self.taken(self.followers != self.followed)


@dataclass(frozen=True, slots=True)
class Side:
    """Follows by one of their ends, in compressed rows.

    Attributes:
        ptr: i8[n + 1].
        ends: i4[E], the other end.
        weights: f4[E], 1 for the last window before the cut, halving with each window of age.
    """

    ptr: np.ndarray
    ends: np.ndarray
    weights: np.ndarray

    def of(self, row: int) -> np.ndarray:
        """The other ends of one row (i4[k])."""
        return self.ends[self.ptr[row] : self.ptr[row + 1]]

    @property
    def degrees(self) -> np.ndarray:
        """How many follows each row has (i8[n])."""
        return np.diff(self.ptr)


def window_of_times(times: np.ndarray) -> np.ndarray:
    """The window (i2[E]) of each follow from its time.

    Few distinct times are windows as they are; else there are WINDOWS, with about as many follows in each. Follows of
    one time are never split.
    """
    distinct, position, counts = np.unique(times, return_inverse=True, return_counts=True)
    if len(distinct) <= WINDOWS:
        return position.astype(np.int16)
    ahead = np.concatenate([[0], np.cumsum(counts)[:-1]])
    of_distinct = ahead * WINDOWS // max(len(times), 1)
    return np.unique(of_distinct[position], return_inverse=True)[1].astype(np.int16)


def links_from_times(accounts: int, followers: np.ndarray, followed: np.ndarray, times: np.ndarray) -> Links:
    """Links from follows in any order; of one that comes repeatedly, the first counts.

    Args:
        accounts: how many accounts there are.
        followers, followed: integers [E], rows.
        times: [E], in any unit; only their order matters.

    Raises:
        ValueError: the columns differ in length, or a row is out of range.
    """
    if not len(followers) == len(followed) == len(times):
        raise ValueError(f"times: {len(times)} for {len(followers)} followers and {len(followed)} followed")
    for name, rows in (("followers", followers), ("followed", followed)):
        if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < accounts:
            raise ValueError(f"{name}: rows {rows.min()}..{rows.max()}, not in 0..{accounts - 1}")
    order = np.argsort(times, kind="stable")
    keys = followers[order].astype(np.int64) * accounts + followed[order]
    _, first = np.unique(keys, return_index=True)
    chosen = order[np.sort(first)]
    windows = window_of_times(times[chosen])
    return Links(
        accounts, followers[chosen].astype(np.int32), followed[chosen].astype(np.int32), windows
    ).without_self()


def side(links: Links, keys: np.ndarray, ends: np.ndarray, cut: int) -> Side:
    """The follows by `keys`, as they look from the start of window `cut`."""
    weights = (0.5 ** ((cut - 1 - links.windows) / _HALF_LIFE)).astype(np.float32)
    ptr = np.zeros(links.accounts + 1, np.int64)
    found = Side(ptr, np.empty(len(keys), np.int32), np.empty(len(keys), np.float32))
    fill_compressed(keys, ends, weights, found.ptr, found.ends, found.weights)
    return found
