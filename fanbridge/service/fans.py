"""One fan: what is remembered of a viewer's relation to a creator, and how events and time move it.

Pure: the functions answer a new Fan and what happened on the way; the store keeps them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from fanbridge.events import RETENTION_DAYS, Stage, Tier
from fanbridge.service import lifecycle, tiering
from fanbridge.service.lifecycle import NEVER_MS, FanDates, LifecycleRules
from fanbridge.service.tiering import Engagement, TierRules
from pacing.clocks import MS_PER_DAY
from pacing.facts import OutcomeKind

FOREVER_MS = 2**63 - 1
"""The review date of a fan whom time alone does not change."""


@dataclass(frozen=True)
class FanRules:
    """Everything that decides tiers, stages and retention."""

    tiers: TierRules
    lifecycle: LifecycleRules

    @classmethod
    def with_day(cls, day_ms: int = MS_PER_DAY) -> FanRules:
        """The standard rules with days of `day_ms`."""
        return cls(TierRules(day_ms=day_ms), LifecycleRules(day_ms=day_ms))


@dataclass(frozen=True)
class Fan:
    """A viewer's relation to one creator, with the tier and stage last told."""

    engagement: Engagement = field(default_factory=Engagement)
    dates: FanDates = field(default_factory=FanDates)
    gained_at_ms: int = NEVER_MS  # the follow that retention is counted from
    retention_step: int = 0  # how many of the retention judgements are given
    tier: Tier = Tier.UNSPECIFIED
    stage: Stage = Stage.UNSPECIFIED
    review_at_ms: int = FOREVER_MS  # when time alone next changes something


@dataclass(frozen=True)
class Kept:
    """A retention judgement: whether the fan was still there `days` days after being gained."""

    days: int
    kept: bool
    judged_at_ms: int


@dataclass(frozen=True)
class Moved:
    """A step from one stage of life to another; UNSPECIFIED: was no fan before, or is none any more."""

    from_stage: Stage
    to_stage: Stage
    moved_at_ms: int


@dataclass(frozen=True)
class Ranked:
    """A step from one tier to another; UNSPECIFIED: was worth none before, or is any more."""

    from_tier: Tier
    to_tier: Tier
    ranked_at_ms: int


@dataclass(frozen=True)
class Stirred:
    """The first sign of life of a follower on a day. Who gives no other for long enough turns silent."""

    stirred_at_ms: int


Happening = Kept | Moved | Ranked | Stirred


def apply_event(fan: Fan, kind: OutcomeKind, occurred_at_ms: int, rules: FanRules) -> tuple[Fan, list[Happening]]:
    """The fan at the time of one more event, and what happened until then, oldest first."""
    fan, before = catch_up(fan, occurred_at_ms - 1, rules)
    acted = _add_event(fan, kind, occurred_at_ms, rules)
    stirred: list[Happening] = [Stirred(occurred_at_ms)] if _stirs(fan.dates, acted.dates, rules) else []
    acted, now = review(acted, occurred_at_ms, rules)
    return acted, before + stirred + now


def catch_up(fan: Fan, at_ms: int, rules: FanRules) -> tuple[Fan, list[Happening]]:
    """Let time pass until `at_ms`, one review at each date that falls due: every step is judged as of its date."""
    happened: list[Happening] = []
    while fan.review_at_ms <= at_ms:
        fan, due = review(fan, fan.review_at_ms, rules)
        happened += due
    return fan, happened


def _stirs(before: FanDates, after: FanDates, rules: FanRules) -> bool:
    """Whether an event was the first sign of life on its day of who follows now; late events are none."""
    day_ms = rules.lifecycle.day_ms
    is_new_day = after.active_at_ms // day_ms > before.active_at_ms // day_ms
    return after.follows and (is_new_day or not before.follows)


def _add_event(fan: Fan, kind: OutcomeKind, occurred_at_ms: int, rules: FanRules) -> Fan:
    dates = lifecycle.add_event(fan.dates, kind, occurred_at_ms)
    gained_at_ms, retention_step = fan.gained_at_ms, fan.retention_step
    judged_all = retention_step >= len(RETENTION_DAYS)
    is_gain = gained_at_ms == NEVER_MS or (judged_all and not fan.dates.follows)
    if kind == OutcomeKind.FOLLOW and dates.follows and is_gain:
        gained_at_ms, retention_step = occurred_at_ms, 0
    return replace(
        fan,
        engagement=tiering.add_event(fan.engagement, kind, occurred_at_ms, rules.tiers),
        dates=dates,
        gained_at_ms=gained_at_ms,
        retention_step=retention_step,
    )


def review(fan: Fan, at_ms: int, rules: FanRules) -> tuple[Fan, list[Happening]]:
    """Tier, stage and next review date at `at_ms`; retention judgements that fell due, changes of stage and tier."""
    happened: list[Happening] = []
    step = fan.retention_step
    due_at_ms = lifecycle.retention_due_at_ms(fan.gained_at_ms, step, rules.lifecycle)
    while due_at_ms is not None and due_at_ms <= at_ms:
        happened.append(
            Kept(RETENTION_DAYS[step], lifecycle.kept_at(fan.dates, fan.gained_at_ms, due_at_ms), due_at_ms)
        )
        step += 1
        due_at_ms = lifecycle.retention_due_at_ms(fan.gained_at_ms, step, rules.lifecycle)
    tier = tiering.tier_at(fan.engagement, fan.dates.follows, at_ms, rules.tiers)
    stage = lifecycle.stage_at(fan.dates, at_ms, rules.lifecycle)
    if stage != fan.stage:
        happened.append(Moved(fan.stage, stage, at_ms))
    if tier != fan.tier:
        happened.append(Ranked(fan.tier, tier, at_ms))
    dates_ahead = (
        due_at_ms,
        lifecycle.next_change_at_ms(fan.dates, at_ms, rules.lifecycle),
        tiering.next_fall_at_ms(fan.engagement, at_ms, rules.tiers),
    )
    reviewed = replace(
        fan,
        retention_step=step,
        tier=tier,
        stage=stage,
        review_at_ms=min((date for date in dates_ahead if date is not None), default=FOREVER_MS),
    )
    return reviewed, happened
