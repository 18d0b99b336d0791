"""Which creators are similar: those whose fans overlap most with a creator's own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from targeting.graph.similar.kernels import NOBODY, fill_similar

MOST_SIMILAR = 20
LEAST_COMMON = 5
"""Fans in common without which nobody is similar: two creators with one fan, whom they share, have a cosine of 1."""


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
    creators: list[int],
    followers: np.ndarray,
    followed: np.ndarray,
    ids: np.ndarray,
    most: int = MOST_SIMILAR,
    least_common: int = LEAST_COMMON,
) -> dict[int, tuple[Similar, ...]]:
    """The most similar creators of each creator, by the cosine of their fans (see `kernels.fill_similar`), best first.

    An account is a creator here as soon as enough of the fans follow it: the graph does not tell the two apart.

    Args:
        creators: rows.
        followers, followed: i4[E], rows, each edge once.
        ids: u8[n], of the accounts by row.
        most: how many are kept.
        least_common: fans in common that are needed.
    """
    accounts = len(ids)
    inside = [creator for creator in creators if creator < accounts]
    if not inside:
        return dict.fromkeys(creators, ())
    following = csr_matrix((np.ones(len(followers), np.int8), (followers, followed)), (accounts, accounts))
    by_followed = following.tocsc()
    rows = np.full((len(inside), most), NOBODY, np.int32)
    common = np.zeros((len(inside), most), np.int32)
    fill_similar(
        np.array(inside, np.int64), by_followed.indptr, by_followed.indices, following.indptr, following.indices,
        ids, least_common, np.zeros(accounts, np.int32), np.zeros(accounts, np.int32), np.zeros(most), rows, common,
    )  # fmt: skip
    found = {creator: _listed(rows[i], common[i]) for i, creator in enumerate(inside)}
    return {creator: found.get(creator, ()) for creator in creators}


def _listed(rows: np.ndarray, common: np.ndarray) -> tuple[Similar, ...]:
    known = rows != NOBODY
    return tuple(map(Similar, rows[known].tolist(), common[known].tolist()))
