"""What the shipped lookalike is held against: ALS of `implicit`, user-kNN by idf-cosine, and recent activity alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
from scipy.sparse import csr_matrix

from targeting.lookalike.links import Links
from targeting.lookalike.picture import Picture

ALS, KNN, ACTIVITY = "als", "knn", "activity"
Score = Callable[[int, np.ndarray], np.ndarray]
"""From a creator's row and the seeds to a score of every account (f8[n])."""


@dataclass(frozen=True, slots=True)
class AlsSettings:
    """Of implicit's alternating least squares.

    Attributes:
        factors: of each account.
        regularization: as `implicit` means it.
        alpha: confidence in a follow over one that is not there.
    """

    factors: int
    regularization: float
    alpha: float


ALS_GRID = tuple(
    AlsSettings(factors, regularization, alpha)
    for factors in (8, 16, 32, 64)
    for regularization, alpha in ((0.05, 1.0), (0.05, 20.0), (10.0, 20.0))
)
QUICK_ALS_GRID = (AlsSettings(32, 0.05, 20.0),)
_ALS_ROUNDS = 15


def has_als() -> bool:
    """Whether `implicit` is installed."""
    return find_spec("implicit") is not None


def als_score(links: Links, settings: AlsSettings, seed: int) -> Score:
    """Learn factors from the follows; an account scores the product of its own and the creator's."""
    from implicit.als import AlternatingLeastSquares

    follows = csr_matrix(
        (np.ones(len(links.windows), np.float32), (links.followers, links.followed)), (links.accounts, links.accounts)
    )
    model = AlternatingLeastSquares(
        factors=settings.factors, regularization=settings.regularization, alpha=settings.alpha,
        iterations=_ALS_ROUNDS, random_state=seed, num_threads=1,
    )  # fmt: skip
    model.fit(follows, show_progress=False)
    return lambda creator, seeds: model.user_factors @ model.item_factors[creator]


def knn_score(picture: Picture) -> Score:
    """Sum of the idf-cosines between whom an account follows and whom each seed follows."""
    return lambda creator, seeds: picture.beside(seeds).cosine


def activity_scores(picture: Picture) -> dict[str, Score]:
    """How many follows an account made lately, by how fast they fade; the same for every list."""
    kinds = {"last window": picture.recent_follows}
    kinds |= {f"fading to {rate:g}": activity for rate, activity in picture.fading.items()}
    return {name: _constant(activity) for name, activity in kinds.items()}


def _constant(scores: np.ndarray) -> Score:
    return lambda creator, seeds: scores
