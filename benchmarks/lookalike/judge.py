"""Recall of held-out followers, creator by creator."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.lookalike.rivals import Score
from targeting.lookalike.links import Links
from targeting.lookalike.picture import Picture

MIN_HELD_OUT = 5
SIZES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""Of an audience, in held-out followers."""


@dataclass(frozen=True, slots=True)
class Case:
    """One creator: followers that are known, and those that are to be found.

    Attributes:
        creator: row.
        seeds, held_out: i4[k], rows.
    """

    creator: int
    seeds: np.ndarray
    held_out: np.ndarray


@dataclass(frozen=True, slots=True)
class Recall:
    """How much was found.

    Attributes:
        mean: by size (f8[len(SIZES)]), mean over the creators.
        pooled: share of all held-out followers that were found, at the held-out count.
        by_creator: f8[cases], at the held-out count.
    """

    mean: np.ndarray
    pooled: float
    by_creator: np.ndarray


def cases(picture: Picture, held_out: Links, min_seeds: int, most: int, seed: int) -> list[Case]:
    """Creators with enough seeds before and enough followers after; a sample of `most` where there are more."""
    gained = np.bincount(held_out.followed, minlength=picture.accounts)
    creators = np.flatnonzero((picture.followers.degrees >= min_seeds) & (gained >= MIN_HELD_OUT))
    if len(creators) > most:
        creators = np.sort(np.random.default_rng(seed).choice(creators, most, replace=False))
    order = np.argsort(held_out.followed, kind="stable")
    starts = np.searchsorted(held_out.followed[order], creators)
    ends = held_out.followers[order]
    return [
        Case(creator, picture.followers.of(creator), ends[start : start + int(gained[creator])])
        for creator, start in zip(creators.tolist(), starts.tolist(), strict=True)
    ]


def recall(judged: Sequence[Case], score: Score, accounts: int, seed: int) -> Recall:
    """Rank all accounts but the seeds and the creator, and count. Ties are broken by chance, the same for all."""
    chance = np.random.default_rng(seed).random(accounts)
    found = np.array([list(_shares(case, score, chance)) for case in judged]).reshape(-1, len(SIZES))
    at_count = found[:, SIZES.index(1.0)]
    held_out = np.array([len(case.held_out) for case in judged])
    return Recall(found.mean(axis=0), float((at_count * held_out).sum() / held_out.sum()), at_count)


def _shares(case: Case, score: Score, chance: np.ndarray) -> Iterator[float]:
    scores = np.asarray(score(case.creator, case.seeds), np.float64).copy()
    scores[case.seeds] = scores[case.creator] = -np.inf
    most = min(len(scores), round(SIZES[-1] * len(case.held_out)))
    best = np.argpartition(-scores, most - 1)[:most]
    edge = scores[best].min()
    best = np.union1d(best, np.flatnonzero(scores == edge))
    best = best[np.lexsort((chance[best], -scores[best]))]
    for size in SIZES:
        wanted = max(1, round(size * len(case.held_out)))
        yield float(np.isin(best[:wanted], case.held_out).sum()) / len(case.held_out)
