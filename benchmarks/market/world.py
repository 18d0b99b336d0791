"""Who lives in the simulated market: viewers, creators, and who follows whom.

A world is drawn from its seed alone. Nothing here is known to the engine except what a platform would tell it:
attributes, interests and follows. What viewers would do is in `behaviour`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse

ZONE = "Asia/Shanghai"
FIRST_VIEWER_ID = 5_000_000_001
VIEWER_ID_STEP = 17
FIRST_CREATOR_ID = 7_001
REGION_COUNT = 32
AGE_BANDS = 7  # codes 1..6; 0 unknown
CATEGORIES = np.array([3, 7, 11, 14, 18, 23, 27, 31, 36, 42, 48, 55], np.int64)
TASTE_COUNT = 12
LATENT_SIZE = 4
MEAN_VIEWER_FOLLOWS = 4.0
HOMOPHILY = 0.6
RECIPROCITY = 0.35

_REGION_TIERS = np.array([0] + [1] * 4 + [2] * 12 + [3] * 16, np.int64)
_AGE_WEIGHTS = np.array([0.04, 0.17, 0.26, 0.22, 0.15, 0.10, 0.06])
_GENDER_WEIGHTS = np.array([0.03, 0.49, 0.47, 0.01])


@dataclass(frozen=True, slots=True)
class WorldSettings:
    """How large a world is."""

    viewers: int = 40_000
    creators: int = 16

    def __post_init__(self) -> None:
        if not 1_000 <= self.viewers <= 2_000_000:
            raise ValueError(f"viewers {self.viewers}: not in 1000..2000000")
        if not 12 <= self.creators <= 40:
            raise ValueError(f"creators {self.creators}: not in 12..40")


@dataclass(frozen=True)
class Viewers:
    """n viewers, a column per field.

    Attributes:
        ids: u8[n].
        regions, age_bands, genders, os, networks, device_tiers: u4[n], codes as on the wire; 0 unknown.
        interest_masks: u8[n], bit k: interested in category k.
        activity: f8[n], how often a viewer is there, mean 1.
        openness: f8[n], how readily a viewer follows anyone; the engine never sees it.
        tastes: i8[n], which crowd a viewer belongs to; the engine never sees it.
        latent: f4[n, LATENT_SIZE], what attributes do not tell.
    """

    ids: np.ndarray
    regions: np.ndarray
    age_bands: np.ndarray
    genders: np.ndarray
    os: np.ndarray
    networks: np.ndarray
    device_tiers: np.ndarray
    interest_masks: np.ndarray
    activity: np.ndarray
    openness: np.ndarray
    tastes: np.ndarray
    latent: np.ndarray

    @property
    def size(self) -> int:
        """How many viewers."""
        return len(self.ids)

    @property
    def region_tiers(self) -> np.ndarray:
        """i8[n]: 1 for the largest cities to 3; 0 unknown."""
        return _REGION_TIERS[self.regions]

    def has_interest(self, categories: np.ndarray) -> np.ndarray:
        """b1[n, len(categories)]: whether each viewer is interested in each category."""
        return (self.interest_masks[:, None] >> categories.astype(np.uint64)[None, :]) & np.uint64(1) == 1


@dataclass(frozen=True)
class Creators:
    """m creators.

    Attributes:
        ids: u8[m].
        categories: i8[m], 1 to 63.
        appeal: f8[m], how easily a creator is followed, on the log-odds scale.
        product_appeal: f8[m], the same for product clicks.
        audience: f4[m, 7, 4], log-odds by age band and gender.
        region_affinity: f4[m, 33], log-odds by region.
        latent: f4[m, LATENT_SIZE].
    """

    ids: np.ndarray
    categories: np.ndarray
    appeal: np.ndarray
    product_appeal: np.ndarray
    audience: np.ndarray
    region_affinity: np.ndarray
    latent: np.ndarray

    @property
    def size(self) -> int:
        """How many creators."""
        return len(self.ids)


@dataclass(frozen=True)
class World:
    """Viewers, creators and follows as they are before the first simulated day.

    Attributes:
        affinity: f4[n, m], log-odds of each viewer for each creator, friends not counted.
        fans: b1[n, m], who follows whom already.
        friend_from, friend_to: i8[edges], viewers (rows) that follow other viewers.
    """

    seed: int
    viewers: Viewers
    creators: Creators
    affinity: np.ndarray
    fans: np.ndarray
    friend_from: np.ndarray
    friend_to: np.ndarray

    @cached_property
    def laotie(self) -> np.ndarray:
        """b1[n, m]: the viewer follows, or is followed by, a viewer who follows the creator."""
        return friends_of(self.fans, self.friend_from, self.friend_to)


def friends_of(fans: np.ndarray, friend_from: np.ndarray, friend_to: np.ndarray) -> np.ndarray:
    """Who is one step, in either direction, from a fan: b1[n, m] from fans b1[n, m] and the edges."""
    n = len(fans)
    ones = np.ones(len(friend_from), np.float32)
    edges = sparse.csr_matrix((ones, (friend_from, friend_to)), shape=(n, n))
    return np.asarray((edges + edges.T) @ fans.astype(np.float32)) > 0


def make_world(seed: int, settings: WorldSettings | None = None) -> World:
    """Draw a world; the same seed and settings give the same world."""
    settings = settings or WorldSettings()
    rng = np.random.default_rng([seed, 1])
    viewers = _draw_viewers(rng, settings.viewers)
    creators = _draw_creators(rng, settings.creators)
    affinity = _affinity(viewers, creators)
    fans = _draw_fans(rng, viewers, creators, affinity)
    friend_from, friend_to = _draw_friends(rng, viewers)
    return World(seed, viewers, creators, affinity, fans, friend_from, friend_to)


def _draw_viewers(rng: np.random.Generator, n: int) -> Viewers:
    region_weights = np.r_[0.03, 1.0 / np.arange(3, 3 + REGION_COUNT) ** 0.7]
    regions = rng.choice(REGION_COUNT + 1, n, p=region_weights / region_weights.sum())
    age_bands = rng.choice(AGE_BANDS, n, p=_AGE_WEIGHTS)
    genders = rng.choice(4, n, p=_GENDER_WEIGHTS)
    tiers = _REGION_TIERS[regions]
    wealth = rng.normal(0, 1, n) - 0.4 * (tiers - 2) + 0.15 * (age_bands - 3)
    device_tiers = np.clip(np.round(3 + wealth), 1, 5).astype(np.int64)
    os_codes = np.where(rng.random(n) < 0.08 + 0.12 * (device_tiers - 1), 2, 1)
    networks = rng.choice(np.array([1, 3, 4, 5]), n, p=[0.52, 0.02, 0.26, 0.20])
    tastes = _draw_tastes(rng, age_bands, genders)
    activity = rng.lognormal(0, 0.8, n)
    openness = 0.28 * rng.normal(0, 1, n) + 0.10 * (3 - age_bands) * (age_bands > 0) - 0.06 * (device_tiers - 3)
    return Viewers(
        ids=(FIRST_VIEWER_ID + VIEWER_ID_STEP * np.arange(n)).astype(np.uint64),
        regions=regions.astype(np.uint32),
        age_bands=age_bands.astype(np.uint32),
        genders=genders.astype(np.uint32),
        os=os_codes.astype(np.uint32),
        networks=networks.astype(np.uint32),
        device_tiers=device_tiers.astype(np.uint32),
        interest_masks=_draw_interests(rng, tastes),
        activity=activity / activity.mean(),
        openness=openness,
        tastes=tastes,
        latent=rng.normal(0, 1, (n, LATENT_SIZE)).astype(np.float32),
    )


def _draw_tastes(rng: np.random.Generator, age_bands: np.ndarray, genders: np.ndarray) -> np.ndarray:
    """Which crowd each viewer belongs to: likelier some for an age and gender than others."""
    leaning = rng.normal(0, 0.7, (AGE_BANDS, 4, TASTE_COUNT))
    weights = np.exp(leaning)[age_bands, genders]
    cumulative = np.cumsum(weights, axis=1)
    draw = rng.random(len(age_bands)) * cumulative[:, -1]
    return (draw[:, None] > cumulative).sum(axis=1).astype(np.int64)


def _draw_interests(rng: np.random.Generator, tastes: np.ndarray) -> np.ndarray:
    """Interest masks u8[n]: a few interests each, those of the crowd likelier."""
    chance = np.full((TASTE_COUNT, 64), 0.02)
    for taste in range(TASTE_COUNT):
        chance[taste, rng.choice(CATEGORIES, 4, replace=False)] = 0.45
        chance[taste, rng.choice(64, 4, replace=False)] += 0.15
    chance[:, 0] = 0.0
    masks = np.zeros(len(tastes), np.uint64)
    for interest in range(1, 64):
        has = rng.random(len(tastes)) < chance[tastes, interest]
        masks |= has.astype(np.uint64) << np.uint64(interest)
    return masks


def _draw_creators(rng: np.random.Generator, m: int) -> Creators:
    audience = rng.normal(0, 0.32, (m, AGE_BANDS, 4))
    audience[:, 0, :] = 0.0
    audience[:, :, 0] = 0.0
    return Creators(
        ids=(FIRST_CREATOR_ID + np.arange(m)).astype(np.uint64),
        categories=CATEGORIES[np.arange(m) % len(CATEGORIES)],
        appeal=np.clip(rng.normal(0, 0.3, m), -0.6, 0.6),
        product_appeal=np.clip(rng.normal(0, 0.3, m), -0.6, 0.6),
        audience=audience.astype(np.float32),
        region_affinity=np.c_[np.zeros(m), rng.normal(0, 0.18, (m, REGION_COUNT))].astype(np.float32),
        latent=rng.normal(0, 0.25 / np.sqrt(LATENT_SIZE), (m, LATENT_SIZE)).astype(np.float32),
    )


def _affinity(viewers: Viewers, creators: Creators) -> np.ndarray:
    """Log-odds f4[n, m] of each viewer for each creator: interest, age and gender, region, openness, hidden taste."""
    interested = viewers.has_interest(creators.categories)
    affinity = np.where(interested, 0.75, -0.1).astype(np.float32)
    affinity += creators.audience[:, viewers.age_bands, viewers.genders].T
    affinity += creators.region_affinity[:, viewers.regions].T
    affinity += viewers.openness[:, None].astype(np.float32)
    affinity += viewers.latent @ creators.latent.T
    return affinity


def _draw_fans(rng: np.random.Generator, viewers: Viewers, creators: Creators, affinity: np.ndarray) -> np.ndarray:
    """b1[n, m]: 0.5 % to 4 % of the viewers follow a creator already, the fitting and the active ones sooner."""
    fans = np.zeros((viewers.size, creators.size), bool)
    for creator in range(creators.size):
        weights = np.exp(1.3 * affinity[:, creator].astype(np.float64)) * np.sqrt(viewers.activity)
        count = int(viewers.size * rng.uniform(0.005, 0.04))
        fans[rng.choice(viewers.size, count, replace=False, p=weights / weights.sum()), creator] = True
    return fans


def _draw_friends(rng: np.random.Generator, viewers: Viewers) -> tuple[np.ndarray, np.ndarray]:
    """Edges between viewers, without repeats: mostly within a crowd, a share of them returned."""
    n = viewers.size
    degree = np.minimum(rng.geometric(1 / (1 + MEAN_VIEWER_FOLLOWS / (1 + RECIPROCITY)), n) - 1, 200)
    source = np.repeat(np.arange(n), degree)
    by_taste = np.argsort(viewers.tastes, kind="stable")
    starts = np.searchsorted(viewers.tastes[by_taste], np.arange(TASTE_COUNT + 1))
    low, high = starts[viewers.tastes[source]], starts[viewers.tastes[source] + 1]
    same = by_taste[low + (rng.random(len(source)) * (high - low)).astype(np.int64)]
    target = np.where(rng.random(len(source)) < HOMOPHILY, same, rng.integers(0, n, len(source)))
    returned = rng.random(len(source)) < RECIPROCITY
    pairs = np.unique(
        np.r_[source * n + target, target[returned] * n + source[returned]][
            np.r_[source != target, (source != target)[returned]]
        ]
    )
    return pairs // n, pairs % n
