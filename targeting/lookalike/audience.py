"""Lookalike audiences: the accounts that are most like a list of seeds, and how good the choice is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from targeting.lookalike.picture import Picture
from targeting.lookalike.ranker import Ranker, candidates

MIN_LIST = 10
MAX_SIZE = 1_000_000
MAX_SEEDS = 2_000_000
HELD_OUT_SHARE = 0.2
MOST_HELD_OUT = 20_000
MIN_POOL = 1_000
_COMMON_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Quality:
    """How many seeds that were held out an audience of the same size finds.

    Attributes:
        held_out: seeds that were held out; they were not known to the choice that is measured.
        recall: share of them in the audience.
        activity_recall: share of them in an equally large audience of the most active accounts.
    """

    held_out: int
    recall: float
    activity_recall: float

    @property
    def lift(self) -> float | None:
        """Recall over what activity alone finds; None where that finds nobody."""
        return self.recall / self.activity_recall if self.activity_recall > 0.0 else None


@dataclass(frozen=True, slots=True)
class Lookalike:
    """An audience.

    Attributes:
        rows: i8[k], best first; fewer than were asked for where there are no more accounts.
        quality: of such a choice, measured on seeds that were held out.
        learned: whether there was anything learned to rank by. Not whether that ranked it: this hangs on the very seeds
            that were held out, whom nobody is to be told of.
    """

    rows: np.ndarray
    quality: Quality
    learned: bool


def ranked_scores(
    picture: Picture,
    ranker: Ranker | None,
    seeds: np.ndarray,
    creator: int | None = None,
    size: int = 0,
    skipped: np.ndarray | None = None,
) -> np.ndarray:
    """Score of every account (f8[n]) as one of the seeds' kind; those that are no candidates: minus infinity.

    Args:
        picture: the follow graph.
        ranker: what ranks; None: activity times cosine, for a graph that says too little to learn from.
        seeds: integers [s], rows; they are no candidates.
        creator: row of the account whose followers the seeds are; None for a list.
        size: of the audience that is wanted.
        skipped: rows of accounts of which it counts for nothing who follows them.
    """
    reciprocal = ranker is not None and ranker.reciprocal
    similarity = picture.beside(seeds, creator, reciprocal, skipped)
    excluded = np.zeros(picture.accounts, np.bool_)
    excluded[seeds] = True
    if creator is not None:
        excluded[creator] = True
    pool = candidates(picture, similarity, excluded, max(MIN_POOL, 2 * size))
    scores = np.full(picture.accounts, -np.inf)
    if ranker is None:
        scores[pool] = picture.activity[pool] * (similarity.cosine[pool] + 1e-3 * similarity.cosine.max(initial=0.0))
    else:
        scores[pool] = ranker.scores(picture.features(similarity, pool))
    return scores


def expand(
    picture: Picture, ranker: Ranker | None, seeds: np.ndarray, size: int, creator: int | None = None, seed: int = 1
) -> Lookalike:
    """Choose the accounts most like the seeds, and measure such a choice.

    What was learned from follows that came in no order of time, as when they were put in bulk, can rank worse than what
    needs no learning: if that finds clearly more of the held-out seeds, it ranks.

    Args:
        picture: the follow graph.
        ranker: what was learned; None where nothing could be.
        seeds: integers [s], distinct rows. None of them is in the audience.
        size: how many are wanted, 1..MAX_SIZE.
        creator: row of the account whose followers the seeds are; None for a list.
        seed: draws the seeds that are held out.

    Raises:
        ValueError: too few or too many seeds, or the size is out of range.
    """
    check_wanted(len(seeds), size)
    quality = measure(picture, ranker, seeds, size, creator, seed)
    learned = ranker is not None
    if learned:
        plain = measure(picture, None, seeds, size, creator, seed)
        if _finds_clearly_more(plain, quality):
            ranker, quality = None, plain
    rows = best_rows(ranked_scores(picture, ranker, seeds, creator, size), size)
    return Lookalike(rows, quality, learned)


def _finds_clearly_more(one: Quality, other: Quality) -> bool:
    """By more than three standard deviations of the difference of two counts."""
    hits, other_hits = one.recall * one.held_out, other.recall * other.held_out
    return hits - other_hits > 3.0 * math.sqrt(hits + other_hits)


def check_wanted(seed_count: int, size: int) -> None:
    """See to it that an audience can be made of so many seeds, at this size.

    Raises:
        ValueError: it cannot.
    """
    if not MIN_LIST <= seed_count <= MAX_SEEDS:
        raise ValueError(f"seeds: {seed_count} known viewers; must be {MIN_LIST} to {MAX_SEEDS}")
    if not 1 <= size <= MAX_SIZE:
        raise ValueError(f"size {size}: not in 1..{MAX_SIZE}")


def measure(
    picture: Picture, ranker: Ranker | None, seeds: np.ndarray, size: int, creator: int | None, seed: int
) -> Quality:
    """Hold out a share of the seeds, choose from the others, and count.

    What most seeds follow is left out: a list of somebody's followers would tell the others by that alone.
    """
    shuffled = np.random.default_rng(seed).permutation(np.sort(seeds))
    count = min(max(1, round(HELD_OUT_SHARE * len(seeds))), MOST_HELD_OUT)
    held_out, known = shuffled[:count], shuffled[count:]
    common = accounts_most_follow(picture, known)
    chosen = best_rows(ranked_scores(picture, ranker, known, creator, size, common), size)
    activity = np.where(picture.is_known, picture.recent_follows, -np.inf)
    activity[known] = -np.inf
    active = best_rows(activity, size)
    return Quality(count, *(float(np.isin(held_out, rows).mean()) for rows in (chosen, active)))


def accounts_most_follow(picture: Picture, seeds: np.ndarray) -> np.ndarray:
    """Rows that more than half of the seeds follow (i8[k])."""
    followed = np.zeros(picture.accounts, np.int64)
    for row in seeds.tolist():
        followed[picture.following.of(row)] += 1
    return np.flatnonzero(followed > _COMMON_SHARE * len(seeds))


def best_rows(scores: np.ndarray, size: int) -> np.ndarray:
    """The rows of the highest scores (i8[<= size]), best first; of equals the lower row; never minus infinity."""
    allowed = np.flatnonzero(scores > -np.inf)
    if len(allowed) > size:
        threshold = np.partition(scores[allowed], len(allowed) - size)[len(allowed) - size]
        allowed = allowed[scores[allowed] >= threshold]
    order = np.lexsort((allowed, -scores[allowed]))
    return allowed[order[:size]]
