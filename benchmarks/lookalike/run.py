"""The two comparisons: by time, which counts, and by a random split, which flatters whoever knows the links."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from benchmarks.lookalike.judge import Case, Recall, cases, recall
from benchmarks.lookalike.rivals import (
    ACTIVITY,
    ALS,
    KNN,
    AlsSettings,
    Score,
    activity_scores,
    als_score,
    has_als,
    knn_score,
)
from benchmarks.output import ProgressBar
from targeting.lookalike.audience import ranked_scores
from targeting.lookalike.links import Links
from targeting.lookalike.picture import Picture
from targeting.lookalike.ranker import LABEL_WINDOWS, MIN_SEEDS, Examples, Ranker, examples, fit_ranker

SHIPPED, SHIPPED_RECIPROCAL = "fanbid", "fanbid_reciprocal"
HELD_OUT_SHARE = 0.2
_WIDEST = 2_000
"""Size that candidates are chosen for: the plot shows audiences larger than the held-out count."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What is compared.

    Attributes:
        grid: settings of ALS to choose from.
        most_cases: creators that one split judges at most.
        seed: draws splits and samples.
    """

    grid: Sequence[AlsSettings]
    most_cases: int
    seed: int


@dataclass(slots=True)
class Teaching:
    """Examples by window and by whether reciprocal links are read; each is made once."""

    links: Links
    seed: int
    made: dict[tuple[int, bool], Examples] = field(default_factory=dict)

    def ranker(self, cut: int, reciprocal: bool) -> Ranker:
        """The shipped ranker, taught by the windows before the cut."""
        windows = range(cut - 1, max(cut - 1 - LABEL_WINDOWS, 0), -1)
        return fit_ranker([self._examples(window, reciprocal) for window in windows], reciprocal)

    def _examples(self, window: int, reciprocal: bool) -> Examples:
        key = window, reciprocal
        if key not in self.made:
            past = self.links.before(window)
            picture = Picture(past, window, self.seed)
            self.made[key] = examples(picture, past, self.links.only(window), reciprocal, self.seed + window)
        return self.made[key]


@dataclass(frozen=True, slots=True)
class Tuned:
    """What was chosen on a split before the ones that are judged."""

    als: AlsSettings | None
    activity: str


def tune(picture: Picture, past: Links, held_out: Links, settings: Settings, bar: ProgressBar) -> Tuned:
    """Choose the rivals' settings: those that find most of the followers that were held out."""
    judged = _judged(picture, held_out, settings)
    activity = _best(judged, activity_scores(picture), picture.accounts, settings.seed)
    best: tuple[float, AlsSettings | None] = -1.0, None
    for choice in settings.grid if has_als() else ():
        found = recall(judged, als_score(past, choice, settings.seed), picture.accounts, settings.seed)
        best = max(best, (float(found.by_creator.mean()), choice), key=lambda pair: pair[0])
        bar.advance(1, f"ALS {choice.factors} factors, alpha {choice.alpha:g}")
    return Tuned(best[1], activity)


def _best(judged: Sequence[Case], scores: dict[str, Score], accounts: int, seed: int) -> str:
    means = {name: float(recall(judged, score, accounts, seed).by_creator.mean()) for name, score in scores.items()}
    return max(means, key=lambda name: means[name])


def _judged(picture: Picture, held_out: Links, settings: Settings) -> list[Case]:
    found = cases(picture, held_out, MIN_SEEDS, settings.most_cases, settings.seed)
    if not found:
        raise ValueError(f"GRAPH: no account has {MIN_SEEDS} followers before a split and gains enough after it")
    return found


def compare(
    picture: Picture,
    past: Links,
    held_out: Links,
    rankers: dict[str, Ranker],
    tuned: Tuned,
    settings: Settings,
    bar: ProgressBar,
) -> tuple[list[Case], dict[str, Recall]]:
    """All methods on one split."""
    scores: dict[str, Score] = {KNN: knn_score(picture), ACTIVITY: activity_scores(picture)[tuned.activity]}
    if tuned.als is not None:
        scores[ALS] = als_score(past, tuned.als, settings.seed)
    for name, ranker in rankers.items():
        scores[name] = _shipped(picture, ranker)
    judged = _judged(picture, held_out, settings)
    found = {}
    for name, score in scores.items():
        found[name] = recall(judged, score, picture.accounts, settings.seed)
        bar.advance(1, name)
    return judged, found


def _shipped(picture: Picture, ranker: Ranker) -> Score:
    def score(creator: int, seeds: np.ndarray) -> np.ndarray:
        return ranked_scores(picture, ranker, seeds, creator, _WIDEST)

    return score


def random_halves(links: Links, seed: int) -> tuple[Links, Links]:
    """The follows without a random share, and that share."""
    held_out = np.random.default_rng(seed).random(len(links.windows)) < HELD_OUT_SHARE
    return links.taken(~held_out), links.taken(held_out)
