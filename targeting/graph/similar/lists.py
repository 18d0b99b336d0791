"""Which creators are similar: those whose fans overlap most with a creator's own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from pyroaring import BitMap
from scipy.sparse import csr_matrix

from targeting.graph.grouping import bitmap
from targeting.graph.similar.kernels import NOBODY, fill_similar

MOST_SIMILAR = 20
LEAST_COMMON = 5
"""Fans in common without which nobody is similar: two creators with one fan, whom they share, have a cosine of 1."""
_AT_A_TIME = 32
"""Creators whose lists are found in one compiled call; between two of these the search can be given up."""


@dataclass(frozen=True, slots=True)
class Similar:
    """One of a creator's similar creators.

    Attributes:
        row: the similar creator's.
        common: fans of both.
    """

    row: int
    common: int


class FollowsCopy:
    """The follows of one instant, by either end in compressed rows. Immutable; any thread may read."""

    def __init__(self, followers: np.ndarray, followed: np.ndarray, ids: np.ndarray) -> None:
        """Edges between rows (i4[E], i4[E]), each once, of accounts with these ids (u8[n])."""
        accounts = len(ids)
        self._ids = ids
        self._following = csr_matrix((np.ones(len(followers), np.int8), (followers, followed)), (accounts, accounts))
        self._followers = self._following.tocsc()

    def find_similar(
        self, creators: Sequence[int], most: int = MOST_SIMILAR, least_common: int = LEAST_COMMON
    ) -> Iterator[tuple[int, tuple[Similar, ...]]]:
        """Each creator with the most similar ones, by the cosine of their fans (`kernels.fill_similar`), best first.

        An account is a creator here as soon as enough of the fans follow it: the graph does not tell the two apart.

        Args:
            creators: rows; who has no account yet has nobody similar.
            most: how many are kept.
            least_common: fans in common that are needed.
        """
        accounts, by_followed, following = len(self._ids), self._followers, self._following
        counts, met, scores = np.zeros(accounts, np.int32), np.zeros(accounts, np.int32), np.zeros(most)
        for start in range(0, len(creators), _AT_A_TIME):
            asked = [creator for creator in creators[start : start + _AT_A_TIME] if creator < accounts]
            rows, common = np.full((len(asked), most), NOBODY, np.int32), np.zeros((len(asked), most), np.int32)
            fill_similar(
                np.array(asked, np.int64), by_followed.indptr, by_followed.indices, following.indptr,
                following.indices, self._ids, least_common, counts, met, scores, rows, common,
            )  # fmt: skip
            found = {creator: _listed(rows[i], common[i]) for i, creator in enumerate(asked)}
            for creator in creators[start : start + _AT_A_TIME]:
                yield creator, found.get(creator, ())

    def followers_of_any(self, similar: Iterable[Similar]) -> BitMap:
        """Rows of who follows any of them."""
        ptr, ends = self._followers.indptr, self._followers.indices
        return BitMap.union(BitMap(), *(bitmap(ends[ptr[one.row] : ptr[one.row + 1]]) for one in similar))


def _listed(rows: np.ndarray, common: np.ndarray) -> tuple[Similar, ...]:
    known = rows != NOBODY
    return tuple(map(Similar, rows[known].tolist(), common[known].tolist()))
