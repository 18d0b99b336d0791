"""The follow graph at one instant, and what it says of every account beside a list of seeds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from targeting.lookalike.kernels import (
    COSINE,
    FROM_SEEDS,
    LATELY_TO_SEEDS,
    RECENT_COSINE,
    SIMILARITIES,
    TO_SEEDS,
    fill_norms,
    fill_similarities,
)
from targeting.lookalike.links import Links, Side, side

LATENT = 48
_LATENT_ROUNDS = 4
FADING = (0.3, 0.5, 0.8)
"""What a window's follows count for, of the next one's: the rates at which activity may fade."""
_FLOOR = 1e-3
"""Share of a list's largest similarity that stands for none."""
ACCOUNT_FEATURES = (
    "follows in the last window", "one before", "two before", "follows ever", "follows, fading to .3 a window",
    "to .5", "to .8", "followers in the last window", "followers, fading", "followers ever", "windows since the last",
    "windows since the first",
)  # fmt: skip
PAIR_FEATURES = (
    "cosine", "recent cosine", "followers' cosine", "follows seeds", "followed by seeds", "lately follows seeds",
    "lately followed by seeds", "follows rarely followed seeds", "followed by seeds that follow few",
    "share of recent cosine", "latent", "fading activity times cosine",
)  # fmt: skip
RECIPROCAL_FEATURES = ("the creator follows", "the creator follows lately")


@dataclass(frozen=True, slots=True)
class Similarity:
    """How every account stands to one list.

    Attributes:
        raw: f8[n, SIMILARITIES], columns as in `kernels`.
        latent: f8[n], product with the list in the latent space.
        mutual: f8[n, 2], 1.0 where the creator of the list follows the account, and how lately; None: not to be read.
    """

    raw: np.ndarray
    latent: np.ndarray
    mutual: np.ndarray | None

    @property
    def cosine(self) -> np.ndarray:
        """Sum of idf-cosines to the seeds, by whom both follow (f8[n])."""
        return self.raw[:, COSINE]


class Picture:
    """The follow graph from the start of a window on. Immutable; any thread may read.

    Attributes:
        following, followers: the follows by either end.
        activity: f8[n], follows of each account, an older window counting for .3 of the next.
        fading: by rate of FADING, the same with that rate.
        recent_follows: f8[n], follows in the last window alone; ties are broken by those ever made.
        is_known: b1[n], accounts that follow anybody.
    """

    def __init__(self, links: Links, cut: int, seed: int = 1) -> None:
        self.cut = cut
        self.accounts = links.accounts
        self.following: Side = side(links, links.followers, links.followed, cut)
        self.followers: Side = side(links, links.followed, links.followers, cut)
        gained, made = self.followers.degrees, self.following.degrees
        self._followed_rarity = np.maximum(np.log(links.accounts / (1.0 + gained)), 0.1)
        self._follower_rarity = np.maximum(np.log(links.accounts / (1.0 + made)), 0.1)
        self._norms = self._norms_of(self.following, self._followed_rarity)
        self._back_norms = self._norms_of(self.followers, self._follower_rarity)
        self.is_known = made > 0
        self._account_features(links)
        self._latent = self._latent_space(seed)
        everybody = np.flatnonzero(self.is_known)
        similar = self._similarities(everybody, made[everybody].astype(np.float64), None)
        self._recent_cosine_to_all = np.maximum(similar[:, RECENT_COSINE], 1e-9)

    def beside(
        self,
        seeds: np.ndarray,
        creator: int | None = None,
        reciprocal: bool = False,
        skipped: np.ndarray | None = None,
    ) -> Similarity:
        """How every account stands to the seeds.

        Args:
            seeds: integers [s], rows.
            creator: row of the account whose followers the seeds are; None for a list.
            reciprocal: whether it counts whom the creator follows.
            skipped: rows of accounts of which it counts for nothing who follows them.
        """
        found = self._similarities(seeds, np.ones(len(seeds)), skipped)
        latent = self._latent @ self._latent[seeds].sum(axis=0)
        mutual = None
        if reciprocal:
            mutual = np.zeros((self.accounts, 2))
            if creator is not None:
                own = slice(self.following.ptr[creator], self.following.ptr[creator + 1])
                mutual[self.following.ends[own], 0] = 1.0
                mutual[self.following.ends[own], 1] = self.following.weights[own]
        return Similarity(found, latent, mutual)

    def features(self, similarity: Similarity, rows: np.ndarray) -> np.ndarray:
        """What the ranker reads of some accounts (i8[m]) beside a list.

        Returns:
            f4[m, F]: ACCOUNT_FEATURES, PAIR_FEATURES, and RECIPROCAL_FEATURES where they are to be read.
        """
        raw, latent = similarity.raw[rows], similarity.latent[rows]
        columns = [_relative(raw[:, column], similarity.raw[:, column]) for column in range(TO_SEEDS)]
        columns += [np.log(0.5 + raw[:, column]) for column in (TO_SEEDS, FROM_SEEDS)]
        columns += [np.log(0.2 + raw[:, column]) for column in range(LATELY_TO_SEEDS, SIMILARITIES)]
        share = similarity.raw[:, RECENT_COSINE] / self._recent_cosine_to_all
        columns += [_relative(share[rows], share)]
        columns += [np.maximum(latent, 0.0) / max(float(similarity.latent.max(initial=0.0)), 1e-9)]
        columns += [columns[0] + np.log(0.01 + self.activity[rows])]
        if similarity.mutual is not None:
            columns += list(similarity.mutual[rows].T)
        return np.column_stack([self._of_accounts[rows], *columns]).astype(np.float32)

    def feature_names(self, reciprocal: bool) -> tuple[str, ...]:
        """What the columns of `features` are."""
        return ACCOUNT_FEATURES + PAIR_FEATURES + (RECIPROCAL_FEATURES if reciprocal else ())

    def _similarities(self, seeds: np.ndarray, weights: np.ndarray, skipped: np.ndarray | None) -> np.ndarray:
        mask = np.zeros(self.accounts, np.bool_)
        if skipped is not None:
            mask[skipped] = True
        found = np.zeros((self.accounts, SIMILARITIES))
        fill_similarities(
            seeds.astype(np.int64), weights, self.following.ptr, self.following.ends, self.following.weights,
            self.followers.ptr, self.followers.ends, self.followers.weights, self._followed_rarity,
            self._follower_rarity, self._norms, self._back_norms, mask, found,
        )  # fmt: skip
        return found

    def _norms_of(self, of: Side, rarity: np.ndarray) -> np.ndarray:
        norms = np.zeros((self.accounts, 2))
        fill_norms(of.ptr, of.ends, of.weights, rarity, norms)
        return norms

    def _account_features(self, links: Links) -> None:
        ages = self.cut - 1 - links.windows.astype(np.int64)

        def made(weights: np.ndarray) -> np.ndarray:
            return np.bincount(links.followers, weights, links.accounts)

        def gained(weights: np.ndarray) -> np.ndarray:
            return np.bincount(links.followed, weights, links.accounts)

        last, first = np.full(links.accounts, float(self.cut)), np.zeros(links.accounts)
        np.minimum.at(last, links.followers, ages)
        np.maximum.at(first, links.followers, ages)
        in_window = [made((ages == age).astype(np.float64)) for age in range(3)]
        fading = {rate: made(rate**ages) for rate in FADING}
        ever, gained_ever = made(np.ones(len(ages))), gained(np.ones(len(ages)))
        self.activity = fading[FADING[0]]
        self.fading = fading
        self.recent_follows = in_window[0] + 1e-6 * ever
        columns = [np.log(0.5 + column) for column in (*in_window, ever)]
        columns += [np.log(0.1 + column) for column in fading.values()]
        columns += [np.log(0.5 + column) for column in (gained((ages == 0) * 1.0), gained(0.5**ages), gained_ever)]
        self._of_accounts = np.column_stack([*columns, np.log1p(last), np.log1p(first)])

    def _latent_space(self, seed: int) -> np.ndarray:
        """Each account by whom it follows, as a unit vector: a randomised truncated SVD (Halko et al. 2011)."""
        rows = np.repeat(np.arange(self.accounts), self.following.degrees)
        values = self._followed_rarity[self.following.ends] / np.maximum(self._norms[rows, 0], 1e-9)
        matrix = csr_matrix((values, self.following.ends, self.following.ptr), (self.accounts, self.accounts))
        width = min(LATENT, self.accounts)
        basis = matrix @ np.random.default_rng(seed).standard_normal((self.accounts, width))
        for _ in range(_LATENT_ROUNDS):
            basis = matrix @ (matrix.T @ np.linalg.qr(basis)[0])
        basis = np.linalg.qr(basis)[0]
        left, strength, _ = np.linalg.svd((matrix.T @ basis).T, full_matrices=False)
        places = basis @ left * strength
        lengths = np.linalg.norm(places, axis=1, keepdims=True)
        return places / np.maximum(lengths, 1e-9)


def _relative(values: np.ndarray, of_all: np.ndarray) -> np.ndarray:
    """Logarithm of some similarities as a share of the list's largest."""
    top = float(of_all.max(initial=0.0))
    return np.log(_FLOOR + values / top) if top > 0.0 else np.full(len(values), np.log(_FLOOR))
