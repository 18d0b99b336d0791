"""Worlds to bid in whose prices are known: distributions of the least winning bid, what becomes of them in time and
by segment, and the most that anybody could get out of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from auction.landscape.segments import HOUR_BLOCKS, PLACEMENTS, REGION_TIERS

UNIT_MICROS = 20_000.0
"""What a price of 1 is; the distributions have their medians there, or near it."""
VALUE_MEDIAN, VALUE_SIGMA = 1.6, 0.6
FLOORS = (0.0, 0.6, 1.0)
SEGMENTS = 64

_VALUE_STEPS, _BID_STEPS = 4_000, 12_000
_LOWEST, _HIGHEST = 0.005, 300.0


@dataclass(frozen=True)
class Prices:
    """A distribution of least winning bids, in units.

    Attributes:
        draw: (generator, n) to f8[n].
        win_probs: F, which is P(price <= bid), of f8[n] bids.
        atoms: prices of a probability of their own.
    """

    draw: Callable[[np.random.Generator, int], np.ndarray]
    win_probs: Callable[[np.ndarray], np.ndarray]
    atoms: tuple[float, ...] = ()


def _mixture(medians: tuple[float, ...], sigma: float, weights: tuple[float, ...]) -> Prices:
    """Log-normal clusters of one width."""
    logs, shares = np.log(medians), np.array(weights)

    def draw(rng: np.random.Generator, n: int) -> np.ndarray:
        return np.exp(rng.normal(logs[rng.choice(len(logs), n, p=shares)], sigma))

    def win_probs(bids: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore"):
            return ndtr((np.log(bids)[..., None] - logs) / sigma) @ shares

    return Prices(draw, win_probs)


def _uniform(low: float, high: float) -> Prices:
    return Prices(lambda rng, n: rng.uniform(low, high, n), lambda bids: np.clip((bids - low) / (high - low), 0.0, 1.0))


def _lomax(shape: float, scale: float) -> Prices:
    """Pareto of the second kind: a share of the prices is out of all proportion."""
    return Prices(
        lambda rng, n: scale * rng.pareto(shape, n), lambda bids: 1.0 - (1.0 + np.maximum(bids, 0.0) / scale) ** -shape
    )


def _discrete(atoms: tuple[float, ...], weights: tuple[float, ...]) -> Prices:
    values, sums = np.array(atoms), np.concatenate(([0.0], np.cumsum(weights)))
    return Prices(
        lambda rng, n: rng.choice(values, n, p=np.array(weights)),
        lambda bids: sums[np.searchsorted(values, bids * (1 + 1e-12), side="right")],
        atoms,
    )


DISTRIBUTIONS = {
    "lognormal": _mixture((1.0,), 0.6, (1.0,)),
    "clustered": _mixture((0.5, 1.0, 2.2), 0.05, (0.35, 0.4, 0.25)),
    "uniform": _uniform(0.2, 1.8),
    "heavy": _lomax(1.5, 1.7),
    "discrete": _discrete((0.4, 0.7, 1.0, 1.5, 2.5), (0.15, 0.25, 0.3, 0.2, 0.1)),
}


class Oracle:
    """The most that one impression can bring, in expectation, to who knows its price distribution.

    Found by trying bids 0.1 % apart, and every atom, for values 0.3 % apart. Between two values it is interpolated; the
    best surplus is convex in the value, so that errs upwards. All in all it is exact to a part in 100,000.
    """

    def __init__(self, prices: Prices, floor: float = 0.0) -> None:
        bids = np.unique(np.concatenate((np.geomspace(_LOWEST, _HIGHEST, _BID_STEPS), prices.atoms, (floor,))))
        bids = bids[(bids >= floor) & (bids > 0.0)]
        won = prices.win_probs(bids)
        self._values = np.geomspace(_LOWEST, _HIGHEST, _VALUE_STEPS)
        self._floor = floor
        self._best = np.array([max(float(((value - bids) * won).max()), 0.0) for value in self._values])

    def surplus(self, values: np.ndarray) -> np.ndarray:
        """Of values f8[n], in units; 0 where the floor is above the value."""
        return np.where(values >= self._floor, np.interp(values, self._values, self._best), 0.0)


@dataclass(frozen=True)
class World:
    """What is auctioned.

    Attributes:
        prices: at level 1.
        level: the factor on all prices at each auction, of f8[n] shares 0..1 of the run that have passed.
        segments: 1, or SEGMENTS of different factors on prices and values.
        has_floors: each slot has one of FLOORS; the price is then not under it.
    """

    prices: Prices
    level: Callable[[np.ndarray], np.ndarray] = np.ones_like
    segments: int = 1
    has_floors: bool = False

    def leaves(self) -> np.ndarray:
        """The landscapes of the segments, i4[segments]: all placements and tiers at one time of day."""
        if self.segments == 1:
            return np.zeros(1, np.int32)
        places, tiers = np.divmod(np.arange(PLACEMENTS * REGION_TIERS), REGION_TIERS)
        return (places * HOUR_BLOCKS * REGION_TIERS + tiers).astype(np.int32)[: self.segments]

    def segment_factors(self, rng: np.random.Generator) -> np.ndarray:
        """How dear each segment is, f8[segments]: by placement, and less so by tier."""
        if self.segments == 1:
            return np.ones(1)
        places = np.repeat(rng.normal(0.0, 0.5, PLACEMENTS), REGION_TIERS)
        return np.exp(places + rng.normal(0.0, 0.3, PLACEMENTS * REGION_TIERS))[: self.segments]

    def segment_shares(self) -> np.ndarray:
        """How much of the traffic each has, f8[segments]: the largest 64 times as much as the smallest of 64."""
        ranks = 1.0 + np.random.default_rng(self.segments).permutation(self.segments)
        return (1.0 / ranks) / (1.0 / ranks).sum()


def _swinging(passed: np.ndarray) -> np.ndarray:
    """Up by half, down by a third, and back, once and a half times in the run."""
    return np.exp(math.log(1.5) * np.sin(3.0 * math.pi * passed))


def _jumping(passed: np.ndarray) -> np.ndarray:
    """Up by half at 0.4 of the run, and down to four fifths at 0.7."""
    return np.where(passed < 0.4, 1.0, np.where(passed < 0.7, 1.5, 0.8))


WORLDS = {
    **{name: World(prices) for name, prices in DISTRIBUTIONS.items()},
    "drift": World(DISTRIBUTIONS["lognormal"], level=_swinging),
    "drift_clustered": World(DISTRIBUTIONS["clustered"], level=_swinging),
    "jump": World(DISTRIBUTIONS["clustered"], level=_jumping),
    "segments64": World(DISTRIBUTIONS["lognormal"], segments=SEGMENTS),
    "floors": World(DISTRIBUTIONS["lognormal"], has_floors=True),
}
