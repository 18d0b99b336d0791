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
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.void]]:
    """The campaigns to solve: those of which most has changed, and as many of those that were solved longest ago.

    Args:
        rows: i8[n] of the state, of the campaigns of PACING_ACCOUNT[n] `accounts`.
        limit: solve so many; at least half of those go by age alone, so each campaign is solved at least every
            ceil(n / (limit - limit // 2)) ticks.

    Returns:
        Their positions, ascending, and what holds for all n while they are not solved: PACING_PLAN[n].
    """
    change, age_ms, plans = np.empty(len(rows)), np.empty(len(rows)), np.empty(len(rows), PACING_PLAN)
    kernels.look_over(
        rows, accounts, now_ms, state.solved_at_ms, state.refreshed_at_ms, state.explored_at_ms, state.day_start_at_ms,
        state.day_end_at_ms, state.target, state.last_spend, state.last_left, state.alpha, state.away, state.planned,
        state.plan_rate, state.budget_dual, state.cost_dual, change, age_ms, plans,
    )  # fmt: skip
    if limit >= len(rows):
        return np.arange(len(rows)), plans
    changed = limit // 2
    turn = np.zeros(len(rows), np.bool_)
    turn[np.argpartition(change, -changed)[-changed:]] = True
    age_ms[turn] = -1.0
    turn[np.argpartition(age_ms, changed - limit)[changed - limit :]] = True
    return np.flatnonzero(turn), plans


def plans_in_force(
    state: CampaignState, rows: Rows, accounts: npt.NDArray[np.void], now_ms: int
) -> npt.NDArray[np.void]:
    """PACING_PLAN[n] of campaigns as they were solved last."""
    plans = np.empty(len(rows), PACING_PLAN)
    kernels.show_plans(
        rows, accounts, now_ms, state.solved_at_ms, state.day_start_at_ms, state.alpha, state.planned, state.plan_rate,
        state.budget_dual, state.cost_dual, plans,
    )  # fmt: skip
    return plans
