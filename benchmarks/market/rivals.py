"""What others bid for a slot: several kinds of buyers, so the highest bid has clusters, gaps and a long tail.

Performance buyers know something about a viewer's worth, so the dear viewers are on average the good ones.
"""

from __future__ import annotations

import numpy as np

from benchmarks.market.behaviour import Context
from benchmarks.market.world import Viewers, World

BASE_FLOOR_MICROS = 6_000
CARD_RATES_MICROS = (24_000, 60_000)
"""What two reservation buyers pay, whoever the viewer is."""
PERFORMANCE_MEDIAN_MICROS = 34_000
FLOOR_STEP_MICROS = 500

_FLOOR_BY_TIER = np.array([1.0, 1.8, 1.3, 1.0])
_FLOOR_BY_PLACEMENT = np.array([1.0, 1.4, 1.0, 0.8, 0.7])
_LEVEL_BY_HOUR = 1.0 + 0.32 * np.cos((np.arange(24) - 20.0) * 2 * np.pi / 24)
_LEVEL_BY_PLACEMENT = np.array([1.0, 1.15, 1.0, 0.8, 0.65])
_LEVEL_BY_TIER = np.array([0.9, 1.25, 1.05, 0.85])

# Shares of who bids highest: nobody, a buyer at the reserve, two on rate cards, performance buyers.
_KIND_SHARES = np.cumsum([0.06, 0.10, 0.16, 0.10])


def draw_floors(viewers: Viewers, rows: np.ndarray, context: Context) -> np.ndarray:
    """Reserves i8[n]: by region tier and placement, in steps; nothing random."""
    level = BASE_FLOOR_MICROS * _FLOOR_BY_TIER[viewers.region_tiers[rows]] * _FLOOR_BY_PLACEMENT[context.placement]
    return (np.round(level / FLOOR_STEP_MICROS) * FLOOR_STEP_MICROS).astype(np.int64)


def viewer_worth(world: World, rows: np.ndarray) -> np.ndarray:
    """What performance buyers make of each viewer, f8[n], around 1, from openness, activity and device."""
    viewers = world.viewers
    log_worth = (
        0.55 * viewers.openness[rows]
        + 0.12 * np.log(viewers.activity[rows])
        + 0.06 * (viewers.device_tiers[rows].astype(np.float64) - 3)
    )
    return np.exp(log_worth)


def draw_rivals(
    rng: np.random.Generator, world: World, rows: np.ndarray, context: Context, floors_micros: np.ndarray
) -> np.ndarray:
    """The highest competing bid for each slot, i8[n]; 0 where there is none.

    Args:
        floors_micros: i8[n]; who bids below a floor does not bid.
    """
    n = len(rows)
    tiers = world.viewers.region_tiers[rows]
    kind = np.searchsorted(_KIND_SHARES, rng.random(n), side="right")
    level = _LEVEL_BY_HOUR[context.hour] * _LEVEL_BY_PLACEMENT[context.placement] * _LEVEL_BY_TIER[tiers]
    performance = PERFORMANCE_MEDIAN_MICROS * level * viewer_worth(world, rows) * rng.lognormal(0, 0.55, n)
    evening = 1.15 if context.hour >= 18 else 1.0
    cards = [rate * evening * rng.normal(1, 0.015, n) for rate in CARD_RATES_MICROS]
    # The dearer card is for large cities only.
    kind = np.where((kind == 3) & (tiers != 1) & (tiers != 2), 4, kind)
    bids = np.select([kind == 0, kind == 1, kind == 2, kind == 3], [0.0, floors_micros, *cards], performance)
    bids = bids.astype(np.int64)
    return np.where(bids >= floors_micros, bids, 0)
