"""Which creators are similar: those whose fans overlap most with a creator's own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

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


def find_similar(
    creators: Sequence[int],
    followers: np.ndarray,
    followed: np.ndarray,
    ids: np.ndarray,
    most: int = MOST_SIMILAR,
    least_common: int = LEAST_COMMON,
) -> Iterator[tuple[int, tuple[Similar, ...]]]:
    """Each creator with the most similar ones, by the cosine of their fans (see `kernels.fill_similar`), best first.

    An account is a creator here as soon as enough of the fans follow it: the graph does not tell the two apart.

    Args:
        creators: rows; who has no account yet has nobody similar.
        followers, followed: i4[E], rows, each edge once.
        ids: u8[n], of the accounts by row.
        most: how many are kept.
        least_common: fans in common that are needed.
    """
    accounts = len(ids)
    following = csr_matrix((np.ones(len(followers), np.int8), (followers, followed)), (accounts, accounts))
    by_followed = following.tocsc()
    counts, met, scores = np.zeros(accounts, np.int32), np.zeros(accounts, np.int32), np.zeros(most)
    for start in range(0, len(creators), _AT_A_TIME):
        asked = [creator for creator in creators[start : start + _AT_A_TIME] if creator < accounts]
        rows, common = np.full((len(asked), most), NOBODY, np.int32), np.zeros((len(asked), most), np.int32)
        fill_similar(
            np.array(asked, np.int64), by_followed.indptr, by_followed.indices, following.indptr, following.indices,
            ids, least_common, counts, met, scores, rows, common,
        )  # fmt: skip
        found = {creator: _listed(rows[i], common[i]) for i, creator in enumerate(asked)}
        for creator in creators[start : start + _AT_A_TIME]:
            yield creator, found.get(creator, ())


def _listed(rows: np.ndarray, common: np.ndarray) -> tuple[Similar, ...]:
    known = rows != NOBODY
    return tuple(map(Similar, rows[known].tolist(), common[known].tolist()))
