"""When viewers are there: slots through a day, in requests of many viewers.

Traffic and rival bids are drawn from the seed and the day alone, never from what the engine does. So every policy meets
the same slots, and an oracle may look at all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

import numpy as np

from benchmarks.market.behaviour import PLACEMENT_COUNT, Context
from benchmarks.market.rivals import draw_floors, draw_rivals
from benchmarks.market.world import AGE_BANDS, CATEGORIES, ZONE, World
from pacing.clocks import MS_PER_HOUR
from pacing.days import day_of_key, zone_of
from pacing.facts import AuctionType

FIRST_DAY_KEY = 20260303
FIRST_PRICE_SHARE = 0.15

HOURLY_TRAFFIC = np.array(
    (
        *(0.62, 0.40, 0.26, 0.18, 0.16, 0.20, 0.36, 0.58, 0.72, 0.76, 0.80, 0.92),
        *(1.22, 1.18, 0.92, 0.86, 0.90, 1.02, 1.24, 1.48, 1.72, 1.82, 1.60, 1.08),
    )
)
"""Relative traffic by local hour: a trough before dawn, a rise at noon, a peak in the evening."""

_PLACEMENT_SHARES = np.array([0.55, 0.20, 0.15, 0.10])
_SLOTS_PER_HOUR = 6


@dataclass(frozen=True, slots=True)
class DaySpec:
    """One simulated stretch of time.

    Attributes:
        day: 0 is the day on which campaigns run; earlier ones are negative.
        start_at_ms, end_at_ms: the stretch.
        slots: how many slots it has in expectation, in all.
        viewers_per_request: how many slots one request offers.
        first_price_share: of the requests.
    """

    day: int
    start_at_ms: int
    end_at_ms: int
    slots: int
    viewers_per_request: int = 256
    first_price_share: float = FIRST_PRICE_SHARE

    @property
    def hours(self) -> float:
        """Length in hours."""
        return (self.end_at_ms - self.start_at_ms) / MS_PER_HOUR


def day_spec(day: int, slots_per_day: int, hours: float = 24.0, viewers_per_request: int = 256) -> DaySpec:
    """The stretch of `hours` from local midnight of a day, with the share of its slots that fall into those hours.

    Raises:
        ValueError: hours not in 0.1..24, or a slot count or request size that makes no sense.
    """
    if not 0.1 <= hours <= 24:
        raise ValueError(f"hours {hours}: not in 0.1..24")
    if not 16 <= viewers_per_request <= 1_000:
        raise ValueError(f"viewers_per_request {viewers_per_request}: not in 16..1000")
    if slots_per_day < 10 * viewers_per_request:
        raise ValueError(f"slots_per_day {slots_per_day}: fewer than ten requests of {viewers_per_request}")
    start = day_of_key(FIRST_DAY_KEY, ZONE).start_at_ms + day * 24 * MS_PER_HOUR
    edges = np.r_[0, np.cumsum(HOURLY_TRAFFIC)] / HOURLY_TRAFFIC.sum()
    share = float(np.interp(hours, np.arange(25), edges))
    end = start + round(hours * MS_PER_HOUR)
    return DaySpec(day, start, end, round(slots_per_day * share), viewers_per_request)


@dataclass(frozen=True, slots=True)
class SlotRequest:
    """n free slots at one instant, and what the engine's rivals bid for them.

    Attributes:
        number: position in the day, from 0.
        viewer_rows: i8[n], each viewer once.
        floors_micros: i8[n], reserves.
        rivals_micros: i8[n], the highest competing bid; 0: none.
    """

    number: int
    at_ms: int
    at: AuctionType
    context: Context
    viewer_rows: np.ndarray
    floors_micros: np.ndarray
    rivals_micros: np.ndarray


class Traffic:
    """All requests of one day. Iterating again gives the same requests."""

    def __init__(self, world: World, spec: DaySpec) -> None:
        self._world = world
        self.spec = spec
        self._cumulative = _presence(world)

    def times_ms(self) -> np.ndarray:
        """Instants of the requests, ascending, i8[requests]."""
        rng = np.random.default_rng([self._world.seed, 2, self.spec.day + 1_000])
        slots = max(1, round(self.spec.hours * _SLOTS_PER_HOUR))
        edges_ms = np.linspace(self.spec.start_at_ms, self.spec.end_at_ms, slots + 1)
        level = np.array([HOURLY_TRAFFIC[local_hour(int(at))] for at in edges_ms[:-1]])
        level = _smoothed(level) * np.exp(_wander(rng, slots))
        count = max(1, round(self.spec.slots * rng.lognormal(0, 0.05) / self.spec.viewers_per_request))
        share = np.r_[0, np.cumsum(level)] / level.sum()
        return np.interp((np.arange(count) + rng.random(count)) / count, share, edges_ms).astype(np.int64)

    def __iter__(self) -> Iterator[SlotRequest]:
        for number, at_ms in enumerate(self.times_ms()):
            yield self._request(number, int(at_ms))

    def _request(self, number: int, at_ms: int) -> SlotRequest:
        rng = np.random.default_rng([self._world.seed, 3, self.spec.day + 1_000, number])
        hour = local_hour(at_ms)
        placement = 1 + int(rng.choice(PLACEMENT_COUNT, p=_PLACEMENT_SHARES))
        context = Context(hour, placement, int(rng.choice(CATEGORIES)))
        rows = self._who(rng, hour)
        at = AuctionType.FIRST_PRICE if rng.random() < self.spec.first_price_share else AuctionType.SECOND_PRICE
        floors = draw_floors(self._world.viewers, rows, context)
        return SlotRequest(
            number=number,
            at_ms=at_ms,
            at=at,
            context=context,
            viewer_rows=rows,
            floors_micros=floors,
            rivals_micros=draw_rivals(rng, self._world, rows, context, floors),
        )

    def _who(self, rng: np.random.Generator, hour: int) -> np.ndarray:
        """Distinct viewers, drawn by how often each is there at this hour."""
        n = self.spec.viewers_per_request
        cumulative = self._cumulative[hour]
        found = np.zeros(0, np.int64)
        while len(found) < n:
            drawn = np.searchsorted(cumulative, rng.random(2 * n), side="right")
            both = np.r_[found, drawn]
            found = both[np.sort(np.unique(both, return_index=True)[1])]
        return found[:n]


def _presence(world: World) -> np.ndarray:
    """Cumulative share f8[24, n] of each hour's slots by viewer: the young stay up later."""
    hours = np.arange(24)[:, None]
    peak = 21.0 + np.array([0.0, 1.5, 1.0, 0.0, -0.5, -1.0, -2.0])[None, :AGE_BANDS]
    by_age = np.exp(0.45 * np.cos((hours - peak) * 2 * np.pi / 24))
    weights = by_age[:, world.viewers.age_bands] * world.viewers.activity[None, :]
    cumulative = np.cumsum(weights, axis=1)
    return cumulative / cumulative[:, -1:] * (1 - 1e-12)


def _smoothed(level: np.ndarray) -> np.ndarray:
    """Hourly steps blurred over an hour and a half; ends kept."""
    width = _SLOTS_PER_HOUR
    padded = np.r_[np.full(width, level[0]), level, np.full(width, level[-1])]
    return np.convolve(padded, np.ones(width + 3) / (width + 3), mode="same")[width:-width]


def _wander(rng: np.random.Generator, n: int) -> np.ndarray:
    """Slowly changing noise f8[n] on the log scale (first-order autoregression)."""
    out, value = np.zeros(n), 0.0
    for i, shock in enumerate(rng.normal(0, 0.06, n)):
        value = 0.85 * value + shock
        out[i] = value
    return out


@lru_cache(maxsize=65_536)
def _hour_starting(hour_start_ms: int) -> int:
    return datetime.fromtimestamp(hour_start_ms / 1000, tz=zone_of(ZONE)).hour


def local_hour(at_ms: int) -> int:
    """Hour of the day in the market's zone, whose offset is whole hours."""
    return _hour_starting(at_ms - at_ms % MS_PER_HOUR)
