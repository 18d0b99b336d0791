"""What is done for every campaign at every tick, in one pass. `reference.py` says the same in plain Python.

Shapes: N campaigns in the state, n the rows of a call.
"""

from __future__ import annotations

import numpy as np
from numba import njit

NEW = 3e12
"""Change of a campaign that has no plan yet."""

AT_ONCE = 2e12
"""Change of one whose plan is of other facts than those that hold, and more by how many ms it has waited."""

BLOCK_ROWS = 1_024
LOW_HALF = np.uint64(0xFFFFFFFF)
SPREAD = np.uint64(0x9E3779B1)
"""Multiplier that spreads ids that lie close over all slots of a table (Fibonacci hashing)."""

EDITED_SHARE = 0.02
"""A target that moved by more than this share of itself was edited; by less, the day is just known better."""

EXPLORING = 1e12
"""Change of one that knows no price yet and raises its bid step by step, and more by its age in ms."""


@njit(cache=True, nogil=True)
def left_of(account):
    """What is left to spend of a PACING_ACCOUNT row, of the day and of the flight: micros."""
    day = account["day_cap_micros"] - account["day_spend_micros"]
    return min(day, account["flight_cap_micros"] - account["flight_spend_micros"])


@njit(cache=True, nogil=True)
def rate_change(
    row,
    accounts,
    now_ms,
    solved_at_ms,
    refreshed_at_ms,
    explored_at_ms,
    day_start_at_ms,
    day_end_at_ms,
    target,
    last_spend,
    last_left,
    alpha,
    away,
    out_change,
    out_age_ms,
):
    """How much has changed for each campaign since it was solved.

    Mostly it is the share of what was left to spend that has been spent, and of the time that was left that has passed.
    Otherwise it is NEW, AT_ONCE (another day, an edit of target, end or budget, nothing left any more or something
    again, back after a pause) or EXPLORING.

    Args:
        row: i8[n] into the columns [N]. accounts: PACING_ACCOUNT[n].
        solved_at_ms ... away: columns of CampaignState.
        out_change: f8[n]. out_age_ms: f8[n] since it was solved.
    """
    for i in range(len(row)):
        c = row[i]
        account = accounts[i]
        day_end_ms = account["day_end_at_ms"]
        end_ms = account["end_at_ms"]
        if end_ms <= 0 or end_ms > day_end_ms:
            end_ms = day_end_ms
        left = left_of(account)
        spent = account["day_spend_micros"] - last_spend[c]
        age_ms = now_ms - solved_at_ms[c]
        out_age_ms[i] = age_ms
        if refreshed_at_ms[c] <= 0:
            out_change[i] = NEW
            continue
        other_day = day_start_at_ms[c] != account["day_start_at_ms"] or day_end_at_ms[c] != end_ms
        aim = float(account["target_cost_micros"])
        edited = abs(target[c] - aim) > EDITED_SHARE * aim or abs(last_left[c] - spent - left) > 0.5
        if away[c] or other_day or edited or (left > 0) != (alpha[c] > 0.0):
            out_change[i] = AT_ONCE + age_ms
        elif explored_at_ms[c] == solved_at_ms[c]:
            out_change[i] = EXPLORING + age_ms
        else:
            out_change[i] = spent / max(last_left[c], 1.0) + age_ms / max(end_ms - solved_at_ms[c], 1)


@njit(cache=True, nogil=True)
def show_plans(
    row,
    accounts,
    now_ms,
    solved_at_ms,
    day_start_at_ms,
    alpha,
    planned,
    plan_rate,
    budget_dual,
    cost_dual,
    out_plans,
):
    """The plans in force: as solved, but no bid where nothing is left, and nothing planned yet of another day.

    Args:
        row: i8[n] into the columns [N]. accounts: PACING_ACCOUNT[n].
        solved_at_ms ... cost_dual: columns of CampaignState.
        out_plans: PACING_PLAN[n].
    """
    for i in range(len(row)):
        c = row[i]
        account = accounts[i]
        plan = out_plans[i]
        bids = left_of(account) > 0
        planned_spend = 0.0
        if day_start_at_ms[c] == account["day_start_at_ms"]:
            planned_spend = min(
                planned[c] + plan_rate[c] * (now_ms - solved_at_ms[c]), float(account["day_cap_micros"])
            )
        plan["campaign_id"] = account["campaign_id"]
        plan["alpha_micros"] = alpha[c] if bids else 0.0
        plan["planned_day_spend_micros"] = np.int64(planned_spend)
        plan["budget_dual"] = budget_dual[c] if bids else 0.0
        plan["cost_dual"] = cost_dual[c] if bids else 0.0


@njit(cache=True, nogil=True)
def look_over(
    row,
    accounts,
    now_ms,
    solved_at_ms,
    refreshed_at_ms,
    explored_at_ms,
    day_start_at_ms,
    day_end_at_ms,
    target,
    last_spend,
    last_left,
    alpha,
    away,
    planned,
    plan_rate,
    budget_dual,
    cost_dual,
    out_change,
    out_age_ms,
    out_plans,
):
    """`rate_change` and `show_plans` of everybody, block by block, so that accounts come from memory once."""
    for start in range(0, len(row), BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        rate_change(
            row[block], accounts[block], now_ms, solved_at_ms, refreshed_at_ms, explored_at_ms, day_start_at_ms,
            day_end_at_ms, target, last_spend, last_left, alpha, away, out_change[block], out_age_ms[block],
        )  # fmt: skip
        show_plans(
            row[block], accounts[block], now_ms, solved_at_ms, day_start_at_ms, alpha, planned, plan_rate, budget_dual,
            cost_dual, out_plans[block],
        )  # fmt: skip


@njit(cache=True, nogil=True)
def insert_ids(campaign_ids, first, out_rows):
    """Enter campaigns first.. into a table of their rows, by open addressing.

    Args:
        campaign_ids: u8[N], none twice.
        out_rows: i8[S] rows of the table, -1 where free; S is a power of two and above N.
    """
    mask = np.int64(len(out_rows) - 1)
    for row in range(first, len(campaign_ids)):
        slot = _slot_of(campaign_ids[row], mask)
        while out_rows[slot] >= 0:
            slot = (slot + 1) & mask
        out_rows[slot] = row


@njit(cache=True, nogil=True)
def find_rows(campaign_ids, table, wanted, out_rows):
    """Rows (i8[n], -1: none) of the campaigns `wanted` (u8[n]) in a table (i8[S]) of the rows of u8[N]."""
    mask = np.int64(len(table) - 1)
    for i in range(len(wanted)):
        slot = _slot_of(wanted[i], mask)
        row = table[slot]
        while row >= 0 and campaign_ids[row] != wanted[i]:
            slot = (slot + 1) & mask
            row = table[slot]
        out_rows[i] = row


@njit(cache=True, nogil=True)
def _slot_of(campaign_id, mask):
    """Where in a table of mask + 1 slots a campaign is looked for first; its product stays within 64 bits."""
    mixed = ((campaign_id ^ (campaign_id >> np.uint64(32))) & LOW_HALF) * SPREAD
    return np.int64((mixed ^ (mixed >> np.uint64(29))) & np.uint64(mask))
