"""Which creators are similar: those whose fans overlap most with a creator's own, beyond what chance gives."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from pyroaring import BitMap
from scipy.sparse import csr_matrix

from targeting.graph.grouping import bitmap
from targeting.graph.similar.kernels import NOBODY, FollowRows, Least, fill_similar

MOST_SIMILAR = 20
_AT_A_TIME = 32
"""Creators whose lists are found in one compiled call; between two of these the search can be given up."""


@dataclass(frozen=True, slots=True)
class Standards:
    """What the overlap of two creators' fans must come to, for them to be called similar.

    Attributes:
        least_common: fans in common.
        least_cosine: of the fans as sets: below, they have little to do with each other, however surely that little is
            no chance.
        least_lift: beyond doubt there are more than so many times as many in common as chance gives
            (`kernels.fill_similar`).
        luck: what may be left of the doubt: the probability that, where chance alone is at work, anybody at all stands
            in a creator's list. As many creators are compared, each is held to the part of it that falls to one
            (Bonferroni).
    """

    least_common: int = 5
    least_cosine: float = 0.05
    least_lift: float = 2.0
    luck: float = 0.001


STANDARDS = Standards()


@dataclass(frozen=True, slots=True)
class Similar:
    """One of a creator's similar creators.

    Attributes:
        row: the similar creator's.
        common: fans of both.
        fans: fans of the similar creator.
        lift: how many times what chance gives `common` is.
    """

    row: int
    common: int
    fans: int
    lift: float


@dataclass(frozen=True, slots=True)
class SimilarCreator:
    """`Similar` by the creator's id instead of the row."""

    creator_id: int
    common: int
    fans: int
    lift: float


class FollowsCopy:
    """The follows of one instant, by either end in compressed rows. Immutable; any thread may read."""

    def __init__(self, followers: np.ndarray, followed: np.ndarray, ids: np.ndarray) -> None:
        """Edges between rows (i4[E], i4[E]), each once, of accounts with these ids (u8[n])."""
        accounts = len(ids)
        self._ids = ids
        self._following = csr_matrix((np.ones(len(followers), np.int8), (followers, followed)), (accounts, accounts))
        self._followers = self._following.tocsc()
        self._fans = np.diff(self._followers.indptr)

    def find_similar(
        self, creators: Sequence[int], most: int = MOST_SIMILAR, standards: Standards = STANDARDS
    ) -> Iterator[tuple[int, tuple[Similar, ...]]]:
        """Each creator with the most similar ones, by the cosine of their fans (`kernels.fill_similar`), best first.

        An account is a creator here as soon as enough of the fans follow it: the graph does not tell the two apart.

        Args:
            creators: rows; who has no account yet has nobody similar.
            most: how many are kept.
            standards: what they must come up to.
        """
        accounts = len(self._ids)
        by_followed, following = self._followers, self._following
        follows = FollowRows(by_followed.indptr, by_followed.indices, following.indptr, following.indices, self._ids)
        least = self._least(standards)
        counts, met, scores = np.zeros(accounts, np.int32), np.zeros(accounts, np.int32), np.zeros(most)
        for start in range(0, len(creators), _AT_A_TIME):
            asked = [creator for creator in creators[start : start + _AT_A_TIME] if creator < accounts]
            rows, common = np.full((len(asked), most), NOBODY, np.int32), np.zeros((len(asked), most), np.int32)
            lifts = np.zeros((len(asked), most))
            fill_similar(np.array(asked, np.int64), follows, least, counts, met, scores, rows, common, lifts)
            found = {creator: self._listed(rows[i], common[i], lifts[i]) for i, creator in enumerate(asked)}
            for creator in creators[start : start + _AT_A_TIME]:
                yield creator, found.get(creator, ())

    def _least(self, standards: Standards) -> Least:
        """The standards among these accounts: all with enough fans are compared, met or not."""
        compared = np.count_nonzero(self._fans >= standards.least_common)
        return Least(
            common=standards.least_common,
            cosine=standards.least_cosine,
            lift=standards.least_lift,
            evidence=math.log(max(int(compared), 1) / standards.luck),
        )

    def _listed(self, rows: np.ndarray, common: np.ndarray, lifts: np.ndarray) -> tuple[Similar, ...]:
        known = rows != NOBODY
        fans = self._fans[rows[known]]
        return tuple(map(Similar, rows[known].tolist(), common[known].tolist(), fans.tolist(), lifts[known].tolist()))

    def follower_count(self, row: int) -> int:
        """How many follow the row."""
        return int(self._fans[row]) if row < len(self._fans) else 0

    def followers_of_any(self, similar: Iterable[Similar]) -> BitMap:
        """Rows of who follows any of them."""
        ptr, ends = self._followers.indptr, self._followers.indices
        return BitMap.union(BitMap(), *(bitmap(ends[ptr[one.row] : ptr[one.row + 1]]) for one in similar))
