"""What a pacing plan says about one campaign, and the settings of the controller that makes it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

PACING_PLAN = np.dtype(
    [
        ("campaign_id", "<u8"),
        ("alpha_micros", "<f8"),  # worth of one expected goal event until the next tick; 0: do not bid
        ("planned_day_spend_micros", "<i8"),  # what pacing meant to have spent by now on this budget day
        ("budget_dual", "<f8"),  # shadow price of budget, events per micro; 0: budget does not bind
        ("cost_dual", "<f8"),  # shadow price of the target cost, events per micro; 0: the target does not bind
    ]
)
"""One campaign's plan, in force from one tick to the next.

Symbols: alpha_micros is alpha = (1 + lambda * C) / (mu + lambda), budget_dual is mu, cost_dual is lambda, C is the
    target cost.
"""


_LEAST_MARGIN = 1e-3  # of alpha over the target, as a share of it


def cost_weights(plans: npt.NDArray[np.void], target_cost_micros: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """How much the target cost weighs beside the budget, lambda * C, f8[n]: 0 without a target, and where the budget is
    what binds; else C / (alpha - C), as if the target bound.

    That is what `cost_dual` says where the target is known to bind. Where it is not yet known what does, a campaign
    bids about its target: caution then counts heads.

    Args:
        plans: PACING_PLAN[n].
        target_cost_micros: i8[n], that the plans were made for; 0: none.
    """
    target = target_cost_micros.astype(np.float64)
    margin = np.maximum(plans["alpha_micros"] - target, np.maximum(_LEAST_MARGIN * target, 1e-9))
    return np.where(plans["budget_dual"] > 0.0, 0.0, target / margin)


@dataclass(frozen=True, slots=True)
class PacerSettings:
    """How the controller weighs what it knows.

    Attributes:
        cost_excess_exponent: how hard the target cost is. Infinite: spend over expected events stays at or under the
            target. A
            finite q: a day that ends over target is worth min(1, (target / cost) ** q) of its events, and the plan
                maximises that.
        target_sd: standard deviation of log(alpha / target cost) before anything is known of a campaign whose market's
            past days are known; the less certain the forecast, the nearer alpha stays to the target.
        cold_target_sd: the same where no past days are known.
        refresh_ms: a campaign's forecast is made anew when it is this old (and whenever a time-of-day bucket turns).
        refresh_limit: at most so many forecasts in one tick; the oldest first.
        solve_all: up to so many campaigns are all solved at every tick; with more, the platform is crowded.
        solve_limit: of a crowd, so many campaigns are solved at a tick: half of them those that were solved longest
            ago, the others those of which most has changed.
        crowded_refresh_limit: of a crowd, at most so many forecasts in one tick, beside those of new and of edited
            campaigns: half of them of what is old, half of where the multiplier left its forecast's range.
        memory_ms: observations of price and cost lose weight with this time constant.
        prior_rows: the shape of past days' curves counts as much as this many auctions of the campaign's own.
        cold_prior_rows: the same for the shape that is assumed where no past days are known.
        max_alpha_micros: alpha never exceeds this.
        max_deficit_share: a day that ended over its target leaves at most this share of the next day's budget to make
            good.
    """

    cost_excess_exponent: float = math.inf
    target_sd: float = 0.3
    cold_target_sd: float = 0.6
    refresh_ms: int = 300_000
    refresh_limit: int = 500
    solve_all: int = 2_000
    solve_limit: int = 500
    crowded_refresh_limit: int = 40
    memory_ms: int = 21_600_000
    prior_rows: float = 3_000.0
    cold_prior_rows: float = 300.0
    max_alpha_micros: float = 1e12
    max_deficit_share: float = 0.05

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            ValueError: a setting is out of range; the text names it.
        """
        for name, low, high in (
            ("cost_excess_exponent", 0.5, math.inf),
            ("target_sd", 0.01, 10.0),
            ("cold_target_sd", 0.01, 10.0),
            ("refresh_ms", 1, 86_400_000),
            ("refresh_limit", 1, 10_000_000),
            ("solve_all", 0, 10_000_000),
            ("solve_limit", 2, 10_000_000),
            ("crowded_refresh_limit", 2, 10_000_000),
            ("memory_ms", 1_000, 30 * 86_400_000),
            ("prior_rows", 1.0, 1e9),
            ("cold_prior_rows", 1.0, 1e9),
            ("max_alpha_micros", 1.0, 1e13),
            ("max_deficit_share", 0.0, 1.0),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name} {value!r}: outside {low}..{high}")
