"""Whose turn it is to be solved anew, where there are too many campaigns for all, and what holds for the others."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pacing.control.settings import PACING_PLAN
from pacing.control.state import CampaignState
from pacing.control.turns import kernels

Rows = npt.NDArray[np.int64]


def whose_turn(
    state: CampaignState, rows: Rows, accounts: npt.NDArray[np.void], now_ms: int, limit: int
) -> npt.NDArray[np.int64]:
    """Positions, ascending, of the campaigns to solve: those of which most has changed, and as many of the oldest.

    Args:
        rows: i8[n] of the state, of the campaigns of PACING_ACCOUNT[n] `accounts`.
        limit: solve so many; at least half of those go by age alone, so each campaign is solved at least every
            ceil(n / (limit - limit // 2)) ticks.
    """
    if limit >= len(rows):
        return np.arange(len(rows))
    change, age_ms = np.empty(len(rows)), np.empty(len(rows))
    kernels.rate_change(
        rows, accounts, now_ms, state.solved_at_ms, state.refreshed_at_ms, state.explored_at_ms, state.day_start_at_ms,
        state.day_end_at_ms, state.target, state.last_spend, state.last_left, state.alpha, state.away, change, age_ms,
    )  # fmt: skip
    changed = limit // 2
    turn = np.zeros(len(rows), np.bool_)
    turn[np.argpartition(change, -changed)[-changed:]] = True
    age_ms[turn] = -1.0
    turn[np.argpartition(age_ms, changed - limit)[changed - limit :]] = True
    return np.flatnonzero(turn)


def plans_in_force(
    state: CampaignState, rows: Rows, accounts: npt.NDArray[np.void], now_ms: int
) -> npt.NDArray[np.void]:
    """PACING_PLAN[n] of campaigns as they were solved last, be that now or some ticks ago."""
    plans = np.empty(len(rows), PACING_PLAN)
    kernels.show_plans(
        rows, accounts, now_ms, state.solved_at_ms, state.day_start_at_ms, state.alpha, state.planned, state.plan_rate,
        state.budget_dual, state.cost_dual, plans,
    )  # fmt: skip
    return plans
