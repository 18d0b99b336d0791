"""The kernels of turns in plain Python: slow, differently put, the meaning of the compiled ones."""

from __future__ import annotations

from collections.abc import Mapping

NEW, AT_ONCE, EXPLORING = 3e12, 2e12, 1e12

Facts = Mapping[str, float]
"""One campaign's fields of PACING_ACCOUNT, or what was remembered of it, by name."""


def left_of(account: Facts) -> float:
    """Micros that may still be spent today."""
    day = account["day_cap_micros"] - account["day_spend_micros"]
    return min(day, account["flight_cap_micros"] - account["flight_spend_micros"])


def change(account: Facts, known: Facts, now_ms: int) -> float:
    """How much has changed for a campaign since it was solved; see kernels.rate_change."""
    ends = [account["day_end_at_ms"], *([account["end_at_ms"]] if account["end_at_ms"] > 0 else [])]
    left, age_ms = left_of(account), now_ms - known["solved_at_ms"]
    spent = account["day_spend_micros"] - known["last_spend"]
    same_day = (account["day_start_at_ms"], min(ends)) == (known["day_start_at_ms"], known["day_end_at_ms"])
    aim = account["target_cost_micros"]
    same_facts = same_day and 0.98 * aim <= known["target"] <= 1.02 * aim
    same_budget = abs(known["last_left"] - spent - left) <= 0.5
    bids_as_it_may = (known["alpha"] > 0) == (left > 0)
    if known["refreshed_at_ms"] <= 0:
        return NEW
    if known["away"] or not (same_facts and same_budget and bids_as_it_may):
        return AT_ONCE + age_ms
    if known["explored_at_ms"] == known["solved_at_ms"]:
        return EXPLORING + age_ms
    return spent / max(known["last_left"], 1.0) + age_ms / max(min(ends) - known["solved_at_ms"], 1)


def plan(account: Facts, known: Facts, now_ms: int) -> tuple[float, int, float, float]:
    """Multiplier, planned spend and both duals that hold now; see kernels.show_plans."""
    planned = 0
    if known["day_start_at_ms"] == account["day_start_at_ms"]:
        reached = known["planned"] + known["plan_rate"] * (now_ms - known["solved_at_ms"])
        planned = int(min(reached, account["day_cap_micros"]))
    if left_of(account) <= 0:
        return 0.0, planned, 0.0, 0.0
    return known["alpha"], planned, known["budget_dual"], known["cost_dual"]


def rows_of(campaign_ids: list[int], wanted: list[int]) -> list[int]:
    """Where each wanted campaign stands in the list, -1: nowhere."""
    return [campaign_ids.index(campaign_id) if campaign_id in campaign_ids else -1 for campaign_id in wanted]
