"""`fanbid fans`: why a fan is where they are, how fans moved between stages, and churn, from a fan service's folder."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from fanbridge.events import STAGE_NAMES, TIER_NAMES, Stage
from fanbridge.service.churn import ChurnRules
from fanbridge.service.fans import FanRules
from fanbridge.service.insights import Insights
from fanbridge.service.server import STORE_FILE
from pacing.clocks import MS_PER_DAY, SystemClock

MAX_DAYS = 400
_MAX_ID = 2**64 - 1
_MAX_AT_MS = 4_102_444_800_000


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's flags."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    explaining = actions.add_parser("explain", help="say why a viewer has this tier and this stage at a creator")
    explaining.add_argument("viewer", type=int, help="the viewer's id")
    moving = actions.add_parser("transitions", help="count steps between stages, day by day")
    moving.add_argument("--days", type=int, default=14, metavar="N", help="the last so many; default 14")
    churning = actions.add_parser("churn", help="list churn alarms, and suggest a campaign to win fans back")
    churning.add_argument("--zone", default="Asia/Shanghai", help="of the suggested campaign; default Asia/Shanghai")
    churning.add_argument(
        "--days-between-false-alarms", type=int, default=ChurnRules().days_between_false_alarms, metavar="DAYS"
    )
    for action in (explaining, moving, churning):
        action.add_argument("--creator", type=int, required=True, metavar="ID", help="whose fans")
        action.add_argument("--data", type=Path, required=True, help="folder of the fan service, running or not")
        action.add_argument("--day-ms", type=int, default=MS_PER_DAY, help="as it was started with")
        action.add_argument("--at-ms", type=int, metavar="MS", help="as of this instant; default: now")


def main(args: argparse.Namespace) -> int:
    """Run the command; 0 when done.

    Raises:
        ValueError: a flag is out of range, or nothing is known of the viewer.
        FileNotFoundError: the folder has no file of a fan service.
    """
    at_ms = SystemClock().wall_ms() if args.at_ms is None else args.at_ms
    for flag, number, most in (("--creator", args.creator, _MAX_ID), ("--at-ms", at_ms, _MAX_AT_MS)):
        if not 1 <= number <= most:
            raise ValueError(f"{flag} {number}: not in 1..{most}")
    churn = ChurnRules(getattr(args, "days_between_false_alarms", ChurnRules().days_between_false_alarms))
    insights = Insights(args.data / STORE_FILE, FanRules.with_day(args.day_ms), churn)
    try:
        if args.action == "explain":
            _explain(insights, args.viewer, args.creator, at_ms)
        elif args.action == "transitions":
            _show_transitions(insights, args.creator, args.days, at_ms)
        else:
            _show_churn(insights, args.creator, args.zone, at_ms)
    finally:
        insights.close()
    return 0


def _explain(insights: Insights, viewer_id: int, creator_id: int, at_ms: int) -> None:
    if not 1 <= viewer_id <= _MAX_ID:
        raise ValueError(f"viewer {viewer_id}: not in 1..{_MAX_ID}")
    found = insights.explain(viewer_id, creator_id, at_ms)
    if found is None:
        raise ValueError(f"viewer {viewer_id}: nothing is known of them and creator {creator_id}")
    print(f"tier   {TIER_NAMES.get(found.tier, 'none'):<11} {found.tier_reason}")
    print(f"stage  {STAGE_NAMES.get(found.stage, 'none'):<11} {found.stage_reason}")


def _show_transitions(insights: Insights, creator_id: int, days: int, at_ms: int) -> None:
    """A line for each day with steps, a column for each kind of step, and what is in each stage now."""
    if not 1 <= days <= MAX_DAYS:
        raise ValueError(f"--days {days}: not in 1..{MAX_DAYS}")
    steps = insights.transitions(creator_id, at_ms // insights.day_ms - days + 1)
    kinds = sorted({(one.from_stage, one.to_stage) for one in steps})
    columns = [f"{STAGE_NAMES.get(old, 'none')}>{STAGE_NAMES.get(new, 'none')}" for old, new in kinds]
    counts: Counter[tuple[int, Stage, Stage]] = Counter()
    for one in steps:
        counts[one.day, one.from_stage, one.to_stage] += one.fans
    print("  ".join([f"{'day (UTC)':<10}", *columns]).rstrip())
    for day in sorted({one.day for one in steps}):
        cells = [f"{counts[day, old, new]:>{len(name)}}" for (old, new), name in zip(kinds, columns, strict=True)]
        print("  ".join([_date(day * insights.day_ms), *cells]))
    print(", ".join(f"{fans} {STAGE_NAMES[stage]}" for stage, fans in insights.stages(creator_id).items()))


def _show_churn(insights: Insights, creator_id: int, zone: str, at_ms: int) -> None:
    """Every alarm, what its rate means, and the campaign that answers the latest."""
    print(insights.churn_rules.statement)
    alarms = insights.alarms(creator_id, at_ms)
    for alarm in alarms:
        print(f"{_date(alarm.day * insights.day_ms)}  {alarm.sentence}")
    if not alarms:
        print("no alarm")
    suggested = insights.win_back(creator_id, at_ms, zone)
    if suggested is not None:
        print("\nA campaign that answers the latest, for POST /api/campaigns of the engine:")
        print(json.dumps(suggested.campaign, indent=2, ensure_ascii=False))
        for reason in suggested.reasons:
            print(f"- {reason}")


def _date(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d")
