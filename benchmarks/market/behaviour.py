"""What viewers truly do after an impression, how late, and for how long.

Every probability is a logistic function of the viewer's affinity for the creator and of the context. The engine never
sees any of this; results are judged by it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.market.world import World
from pacing.clocks import MS_PER_DAY, MS_PER_HOUR, MS_PER_MINUTE
from pacing.facts import Goal, OutcomeKind

PLACEMENT_COUNT = 4
MEAN_FOLLOW_PROBABILITY = 0.015

KINDS = (
    OutcomeKind.CLICK,
    OutcomeKind.PLAY,
    OutcomeKind.PROFILE_VISIT,
    OutcomeKind.PRODUCT_CLICK,
    OutcomeKind.LIKE,
    OutcomeKind.FOLLOW,
)
"""What may follow an impression, in the order of the columns of `Behaviour.draw_uniforms`."""

KIND_OF_GOAL = {
    Goal.PLAYS: OutcomeKind.PLAY,
    Goal.FANS: OutcomeKind.FOLLOW,
    Goal.PROFILE_VISITS: OutcomeKind.PROFILE_VISIT,
    Goal.PRODUCT_CLICKS: OutcomeKind.PRODUCT_CLICK,
    Goal.KEPT_FANS: OutcomeKind.FOLLOW,
}

_MEANS = {
    OutcomeKind.CLICK: 0.05,
    OutcomeKind.PLAY: 0.30,
    OutcomeKind.PROFILE_VISIT: 0.03,
    OutcomeKind.PRODUCT_CLICK: 0.012,
    OutcomeKind.LIKE: 0.04,
    OutcomeKind.FOLLOW: MEAN_FOLLOW_PROBABILITY,
}
_SLOPES = {
    OutcomeKind.CLICK: 0.6,
    OutcomeKind.PLAY: 0.55,
    OutcomeKind.PROFILE_VISIT: 0.8,
    OutcomeKind.PRODUCT_CLICK: 0.7,
    OutcomeKind.LIKE: 0.7,
    OutcomeKind.FOLLOW: 1.0,
}
FRIEND_LOG_ODDS = 0.45
CONTENT_MATCH_LOG_ODDS = 0.25
REPEAT_LOG_ODDS = -0.12  # for each earlier impression of the same creator that day
_PLACEMENT_LOG_ODDS = np.array([0.0, 0.12, 0.0, -0.15, -0.28])  # by placement, 0 unknown
_HOUR_LOG_ODDS = 0.18 * np.cos((np.arange(24) - 20.5) * 2 * np.pi / 24)


@dataclass(frozen=True, slots=True)
class Context:
    """What a request tells about the slot: local hour 0..23, placement 1..4, category of what is being watched."""

    hour: int
    placement: int
    content_category: int


class Behaviour:
    """The true probabilities of one world. Read only; any thread may call any method."""

    def __init__(self, world: World) -> None:
        self._world = world
        # Friends count for every goal through the same affinity.
        self._score = world.affinity + FRIEND_LOG_ODDS * world.laotie.astype(np.float32)
        self._appeal = {kind: world.creators.appeal for kind in KINDS}
        self._appeal[OutcomeKind.PRODUCT_CLICK] = world.creators.product_appeal
        self._intercepts = {kind: self._intercept(kind) for kind in KINDS}

    def _intercept(self, kind: OutcomeKind) -> float:
        """The constant that gives the wanted mean over who is there, found by bisection."""
        rng = np.random.default_rng(11)
        rows = rng.choice(len(self._score), 2_000, p=self._world.viewers.activity / self._world.viewers.activity.sum())
        logits = _SLOPES[kind] * (self._score[rows] + self._appeal[kind][None, :])
        low, high = -12.0, 6.0
        for _ in range(50):
            middle = 0.5 * (low + high)
            if _logistic(logits + middle).mean() < _MEANS[kind]:
                low = middle
            else:
                high = middle
        return 0.5 * (low + high)

    def probability(
        self,
        kind: OutcomeKind,
        viewer_rows: np.ndarray,
        creator_rows: np.ndarray,
        qualities: np.ndarray | float,
        context: Context,
        earlier: np.ndarray | float = 0,
    ) -> np.ndarray:
        """True probability f8[k] that an impression is followed by `kind`, fans not told apart.

        Args:
            viewer_rows, creator_rows: i8[k].
            qualities: of the creatives, log-odds, f8[k] or one for all.
            context: of the request.
            earlier: impressions of this creator that the viewer had today, k or one for all.
        """
        slot = _PLACEMENT_LOG_ODDS[context.placement] + _HOUR_LOG_ODDS[context.hour]
        fits = self._world.creators.categories[creator_rows] == context.content_category
        logits = (
            self._score[viewer_rows, creator_rows].astype(np.float64)
            + self._appeal[kind][creator_rows]
            + qualities
            + slot
            + CONTENT_MATCH_LOG_ODDS * fits
            + REPEAT_LOG_ODDS * np.minimum(earlier, 6)
        )
        return _logistic(_SLOPES[kind] * logits + self._intercepts[kind])

    def kept_probability(self, viewer_rows: np.ndarray, creator_rows: np.ndarray) -> np.ndarray:
        """True probability f8[k] that a new fan is still one after 30 days."""
        return _logistic(0.75 + 0.5 * self._score[viewer_rows, creator_rows].astype(np.float64))

    def high_probability(self, viewer_rows: np.ndarray, creator_rows: np.ndarray) -> np.ndarray:
        """True probability f8[k] that a fan who is kept comes to be of a high tier; nobody does, unless a study says
        otherwise."""
        return np.zeros(len(viewer_rows))

    def rise_delays_ms(self, viewer_rows: np.ndarray, creator_rows: np.ndarray, day_ms: int) -> np.ndarray:
        """How long after following each fan who is kept rises to a high tier, i8[k]; -1: never."""
        return np.full(len(viewer_rows), -1, np.int64)


def _logistic(x: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-x))


def draw_delays_ms(kind: OutcomeKind, rng: np.random.Generator, n: int) -> np.ndarray:
    """How long after the impression each of n events comes, i8[n]: a follow takes minutes to hours, at most a week."""
    if kind is OutcomeKind.FOLLOW:
        quick = rng.lognormal(np.log(4 * MS_PER_MINUTE), 1.0, n)
        slow = rng.lognormal(np.log(2.5 * MS_PER_HOUR), 0.9, n)
        delays = np.where(rng.random(n) < 0.7, quick, slow)
    elif kind in (OutcomeKind.PROFILE_VISIT, OutcomeKind.PRODUCT_CLICK):
        delays = rng.lognormal(np.log(45_000), 0.8, n)
    else:
        delays = rng.lognormal(np.log(8_000), 0.5, n)
    return np.clip(delays, 500, 7 * MS_PER_DAY - 1).astype(np.int64)


def draw_unfollow_delays_ms(kept: np.ndarray, rng: np.random.Generator, day_ms: int = MS_PER_DAY) -> np.ndarray:
    """How long after following each fan leaves, i8[n]; -1 stays 30 days.

    A quarter of those who leave within 30 days do so on the first day, half within a week.

    Args:
        kept: f8[n], probability of staying 30 days.
        day_ms: how long a day is for fans; shorter in studies.
    """
    n = len(kept)
    share = rng.random(n)
    day = np.where(share < 0.25, share / 0.25, np.where(share < 0.5, 1 + 24 * (share - 0.25), 7 + 46 * (share - 0.5)))
    delays = np.maximum(day * day_ms, MS_PER_MINUTE).astype(np.int64)
    return np.where(rng.random(n) < kept, -1, delays)
