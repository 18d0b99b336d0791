"""Learning, from what the follow graph did lately, which accounts join a list of seeds next.

Every account that gained followers in a past window is an example: its followers before the window are the seeds, those
that it gained are the yes, and the other candidates the no. A line on logarithms takes most of it; shallow trees
correct it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from targeting.lookalike.kernels import FROM_SEEDS, RECENT_COSINE
from targeting.lookalike.links import Links
from targeting.lookalike.picture import Picture, Similarity
from targeting.lookalike.trees.forest import Forest, ForestSettings, grow_forest
from targeting.lookalike.trees.linear import Line, fit_line

MIN_SEEDS = 20
MIN_GAINED = 3
LABEL_WINDOWS = 3
MAX_EXAMPLES = 250
"""Accounts that one window teaches at most."""
_TRAINING_POOL = 700
_KEPT_NO = 0.15
_RIDGE = 300.0
_LEAST_YES = 50
_EXAMPLES_SHARE, _PICTURE_SHARE = 0.8, 0.3
"""For who waits: about what gathering examples takes of learning, the rest is fitting; and of that, the pictures."""


@dataclass(frozen=True, slots=True)
class Ranker:
    """Says how likely accounts are to join a list. Immutable; any thread may read.

    Attributes:
        line: log odds on the features of a picture.
        forest: what corrects them.
        reciprocal: whether it reads whom the creator of a list follows.
    """

    line: Line
    forest: Forest
    reciprocal: bool

    def scores(self, features: np.ndarray) -> np.ndarray:
        """Log odds (f8[n]) for rows of a picture's features (f4[n, F])."""
        scores = self.line.scores(features)
        self.forest.add_to(scores, features)
        return scores


def candidates(picture: Picture, similarity: Similarity, excluded: np.ndarray, each: int) -> np.ndarray:
    """Accounts (i8[m], ascending) that one of the simple scores puts among its `each` best.

    Args:
        picture: the follow graph.
        similarity: of its accounts to the seeds.
        excluded: b1[n], accounts that cannot be chosen; nor can those that follow nobody.
        each: how many each score may name.
    """
    allowed = np.flatnonzero(picture.is_known & ~excluded)
    if len(allowed) <= each:
        return allowed
    activity = picture.activity[allowed]
    simple = [
        activity * similarity.cosine[allowed],
        activity,
        activity * np.log(2.0 + similarity.raw[allowed, FROM_SEEDS]),
        similarity.raw[allowed, RECENT_COSINE] + 1e-9 * activity,
        similarity.latent[allowed],
    ]
    if similarity.mutual is not None:
        simple.append(activity * (0.2 + similarity.mutual[allowed, 0]))
    named = [np.argpartition(-score, each)[:each] for score in simple]
    return allowed[np.unique(np.concatenate(named))]


def train_ranker(
    links: Links,
    reciprocal: bool = False,
    seed: int = 1,
    settings: ForestSettings | None = None,
    tell: Callable[[float], None] = lambda share: None,
) -> Ranker:
    """Learn from the last windows of the links.

    Args:
        links: all that is in the past.
        reciprocal: whether to read whom the creator of a list follows.
        seed: draws which accounts are examples.
        settings: how trees are grown.
        tell: called as it goes with the share that is done, of 1.

    Raises:
        ValueError: the links do not say enough to learn from.
    """
    parts = []
    windows = range(links.end - 1, max(links.end - 1 - LABEL_WINDOWS, 0), -1)
    for i, window in enumerate(windows):

        def told(share: float, i: int = i) -> None:
            tell((i + share) / len(windows) * _EXAMPLES_SHARE)

        def found(share: float) -> None:
            told(_PICTURE_SHARE + (1.0 - _PICTURE_SHARE) * share)

        past = links.before(window)
        if len(past.windows):
            picture = Picture(past, window)
            parts.append(examples(picture, past, links.only(window), reciprocal, seed + window, found))
        told(1.0)
    return fit_ranker(parts, reciprocal, settings)


Examples = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Features f4[n, F], labels b1[n], weights f8[n]."""


def fit_ranker(parts: list[Examples], reciprocal: bool, settings: ForestSettings | None = None) -> Ranker:
    """Learn from examples.

    Raises:
        ValueError: they hold too few followers that were gained.
    """
    gained = sum(int(labels.sum()) for _, labels, _ in parts)
    if gained < _LEAST_YES:
        raise ValueError(
            f"follows: {gained} of the last windows went to accounts with at least {MIN_SEEDS} followers that gained "
            f"at least {MIN_GAINED}; a ranker needs {_LEAST_YES}"
        )
    values, labels, weights = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    line = fit_line(values, labels, weights, _RIDGE)
    return Ranker(line, grow_forest(values, labels, weights, line.scores(values), settings), reciprocal)


def examples(
    picture: Picture,
    past: Links,
    gained: Links,
    reciprocal: bool,
    seed: int,
    tell: Callable[[float], None] = lambda share: None,
) -> Examples:
    """What one window teaches: every candidate that joined, and a sample of those that did not, weighing for all."""
    random = np.random.default_rng(seed)
    parts = [(np.empty((0, 0), np.float32), np.empty(0, np.bool_), np.empty(0))]
    gains = _gains(picture, past, gained, random)
    for i, (creator, joined) in enumerate(gains):
        tell(i / len(gains))
        seeds = picture.followers.of(creator)
        similarity = picture.beside(seeds, creator, reciprocal)
        excluded = np.zeros(picture.accounts, np.bool_)
        excluded[seeds] = excluded[creator] = True
        pool = candidates(picture, similarity, excluded, _TRAINING_POOL)
        labels = np.isin(pool, joined)
        kept = labels | (random.random(len(pool)) < _KEPT_NO)
        weights = np.where(labels, 1.0, 1.0 / _KEPT_NO)
        parts.append((picture.features(similarity, pool[kept]), labels[kept], weights[kept]))
    if len(parts) == 1:
        return np.empty((0, len(picture.feature_names(reciprocal))), np.float32), parts[0][1], parts[0][2]
    values, labels, weights = (np.concatenate(columns) for columns in zip(*parts[1:], strict=True))
    return values, labels, weights


def _gains(picture: Picture, past: Links, gained: Links, random: np.random.Generator) -> list[tuple[int, np.ndarray]]:
    """Accounts that had enough followers and gained some, with those (i4[k]); a sample where there are many."""
    had, more = picture.followers.degrees, np.bincount(gained.followed, minlength=past.accounts)
    creators = np.flatnonzero((had >= MIN_SEEDS) & (more >= MIN_GAINED))
    if len(creators) > MAX_EXAMPLES:
        creators = np.sort(random.choice(creators, MAX_EXAMPLES, replace=False))
    order = np.argsort(gained.followed, kind="stable")
    ends, starts = gained.followers[order], np.searchsorted(gained.followed[order], creators)
    return [
        (creator, ends[start : start + int(more[creator])])
        for creator, start in zip(creators.tolist(), starts.tolist(), strict=True)
    ]
