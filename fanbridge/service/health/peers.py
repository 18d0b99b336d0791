"""Where a creator stands among those with about as many fans: by percentile, and only among enough of them.

Peers are never named, and nothing is said of fewer than SMALLEST_COHORT.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

SMALLEST_COHORT = 10
"""Peers, the creator not counted, without which nothing is said of them."""
LEAST_FANS = 10
"""Creators with fewer fans have no peers: their rates jump with every single fan."""
FIGURES = ("net_follows_per_100_fans", "unfollows_per_100_fans", "active_share")


@dataclass(frozen=True)
class Everybody:
    """All creators in one period, by ascending id.

    Attributes:
        creator_ids: i8[n], signed, as SQLite keeps them.
        fans: i8[n], at the beginning.
        follows, unfollows: i8[n], in the period.
        active_fan_days: i8[n], fans with a sign of life, by day, summed.
        days: the length of the period.
    """

    creator_ids: npt.NDArray[np.int64]
    fans: npt.NDArray[np.int64]
    follows: npt.NDArray[np.int64]
    unfollows: npt.NDArray[np.int64]
    active_fan_days: npt.NDArray[np.int64]
    days: int

    def figures(self, at: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """FIGURES of the creators at these places, f8[3, k]; they need fans."""
        fans = self.fans[at]
        net = self.follows[at] - self.unfollows[at]
        return np.array(
            [100 * net / fans, 100 * self.unfollows[at] / fans, self.active_fan_days[at] / fans / self.days]
        )


@dataclass(frozen=True)
class Standing:
    """A creator's figures, in the order of FIGURES, and where they lie among `creators` peers."""

    creators: int
    least_fans: int
    most_fans: int
    values: tuple[float, ...]
    percentiles: tuple[float, ...]


def band_of(fans: int) -> tuple[int, int]:
    """The sizes of who counts as a peer, least and most fans: from half as many to twice as many."""
    return max(fans // 2, LEAST_FANS), 2 * fans


def standing_of(everybody: Everybody, creator_id: int) -> Standing | None:
    """Where the creator stands; None: too few fans, or too few peers."""
    own = int(np.searchsorted(everybody.creator_ids, creator_id))
    if own == len(everybody.creator_ids) or everybody.creator_ids[own] != creator_id:
        return None
    if everybody.fans[own] < LEAST_FANS:
        return None
    least, most = band_of(int(everybody.fans[own]))
    peers = np.flatnonzero((everybody.fans >= least) & (everybody.fans <= most))
    peers = peers[peers != own]
    if len(peers) < SMALLEST_COHORT:
        return None
    values = everybody.figures(np.array([own]))
    others = everybody.figures(peers)
    less, as_much = (others < values).sum(axis=1), (others == values).sum(axis=1)
    percentiles = 100 * (less + as_much / 2) / len(peers)
    return Standing(len(peers), least, most, tuple(values[:, 0].tolist()), tuple(percentiles.tolist()))
