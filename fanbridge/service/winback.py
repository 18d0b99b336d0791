"""A ready-made campaign to win back fans after a churn alarm, in the words of the engine's REST interface."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fanbridge.events import Stage, stage_segment
from fanbridge.service.churn import Alarm

LEAST_BUDGET_MICROS = 1_000_000
"""What the engine takes as a daily budget, at least."""
_LEAST_FANS_BOUGHT = 5
_UNKNOWN_COST_MICROS = 1_000_000
_RUN_DAYS = 7


@dataclass(frozen=True)
class Bought:
    """What a creator's ads cost lately, and the fans that they gained."""

    spend_micros: int
    fans: int


@dataclass(frozen=True)
class WinBack:
    """A suggestion.

    Attributes:
        campaign: the body of `POST /api/campaigns`; a creative must be named where none is known.
        reasons: why this audience, this goal and this budget, one sentence each.
    """

    alarm: Alarm
    audience: int
    campaign: dict[str, Any]
    reasons: tuple[str, ...]


def win_back(
    creator_id: int, alarm: Alarm, audience: int, bought: Bought, creative_id: int | None, zone: str
) -> WinBack:
    """A week's campaign for the fans of a creator who are silent or lost: no dearer than to buy as many new fans as the
    alarm says were lost too many."""
    if bought.fans >= _LEAST_FANS_BOUGHT and bought.spend_micros > 0:
        cost_micros = bought.spend_micros // bought.fans
        known = f"{bought.fans} fans bought in the last 30 days cost {cost_micros} micros each"
    else:
        cost_micros = _UNKNOWN_COST_MICROS
        known = (
            f"fewer than {_LEAST_FANS_BOUGHT} fans were bought in the last 30 days, so {cost_micros} micros are assumed"
        )
    total_micros = max(LEAST_BUDGET_MICROS, alarm.excess * cost_micros)
    daily_micros = max(LEAST_BUDGET_MICROS, -(-total_micros // _RUN_DAYS))
    stages = (Stage.SILENT, Stage.LOST)
    campaign: dict[str, Any] = {
        "name": f"Win back fans of {creator_id}",
        "goal": "profile_visits",
        "bid_mode": "automatic",
        "daily_budget_micros": daily_micros,
        "total_budget_micros": total_micros,
        "zone": zone,
        "creatives": [] if creative_id is None else [{"creative_id": str(creative_id)}],
        "targeting": {"any": [{"segment": stage_segment(stage, creator_id)} for stage in stages]},
        "include_fans": True,
    }
    reasons = (
        alarm.sentence,
        f"Audience: the {audience} fans of this creator who are silent or lost; most of them still follow, so present "
        "fans are included.",
        "Goal: a visit to the profile ends the silence, and can lead to a new follow.",
        f"Budget: {alarm.excess} fans more than expected, at what a new fan costs ({known}); over {_RUN_DAYS} days.",
        *(["Name a creative: none of this creator's is known."] if creative_id is None else []),
    )
    return WinBack(alarm, audience, campaign, reasons)
