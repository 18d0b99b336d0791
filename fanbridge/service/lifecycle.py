"""Which stage of life a fan is in, when it changes by itself, and whether a gained fan was kept.

    gained ─▶ activated ─▶ retained        engaged since following; still engaging 30 days after it
       └──────────┴───────────┴─▶ silent   nothing at all for 14 days; the next event leads back
                                    └─▶ lost   60 days silent, or an unfollow; a new follow starts over

Everything here is a pure function of a fan's dates; a day is `day_ms` long, so that studies can shorten it.
"""

from __future__ import annotations

from dataclasses import dataclass

from fanbridge.events import RETENTION_DAYS, Stage
from pacing.clocks import MS_PER_DAY
from pacing.facts import OutcomeKind

NEVER_MS = -1
"""Stands for the instant of something that has not happened."""

ENGAGING_KINDS = frozenset(
    {
        OutcomeKind.LIKE,
        OutcomeKind.COMMENT,
        OutcomeKind.SHARE,
        OutcomeKind.GIFT,
        OutcomeKind.ORDER,
        OutcomeKind.LIVE_VISIT,
        OutcomeKind.PROFILE_VISIT,
        OutcomeKind.PRODUCT_CLICK,
    }
)
"""What makes a follower an active one. A play or a click ends silence, but is not yet engagement."""


@dataclass(frozen=True)
class LifecycleRules:
    """The periods, in days of `day_ms`."""

    day_ms: int = MS_PER_DAY
    retained_after_days: int = 30
    silent_after_days: int = 14
    lost_after_days: int = 60

    def __post_init__(self) -> None:
        if self.day_ms < 1:
            raise ValueError(f"day_ms {self.day_ms}: must be 1 or more")
        if not 0 < self.silent_after_days < self.lost_after_days:
            raise ValueError(
                f"silent_after_days {self.silent_after_days}: must lie between 0 and "
                f"lost_after_days {self.lost_after_days}"
            )


@dataclass(frozen=True)
class FanDates:
    """When a fan last did what; NEVER_MS where it has not happened. Dates of one kind only ever move forward."""

    followed_at_ms: int = NEVER_MS
    unfollowed_at_ms: int = NEVER_MS
    engaged_at_ms: int = NEVER_MS
    active_at_ms: int = NEVER_MS  # any event but an unfollow

    @property
    def follows(self) -> bool:
        """Whether the last follow came after the last unfollow."""
        return self.followed_at_ms > self.unfollowed_at_ms


def add_event(dates: FanDates, kind: OutcomeKind, occurred_at_ms: int) -> FanDates:
    """Note one event; the order in which events arrive does not matter."""
    if kind == OutcomeKind.UNFOLLOW:
        return FanDates(
            dates.followed_at_ms,
            max(dates.unfollowed_at_ms, occurred_at_ms),
            dates.engaged_at_ms,
            dates.active_at_ms,
        )
    return FanDates(
        max(dates.followed_at_ms, occurred_at_ms) if kind == OutcomeKind.FOLLOW else dates.followed_at_ms,
        dates.unfollowed_at_ms,
        max(dates.engaged_at_ms, occurred_at_ms) if kind in ENGAGING_KINDS else dates.engaged_at_ms,
        max(dates.active_at_ms, occurred_at_ms),
    )


def stage_at(dates: FanDates, at_ms: int, rules: LifecycleRules) -> Stage:
    """The stage at `at_ms`. Who never followed has none."""
    if not dates.follows:
        return Stage.UNSPECIFIED if dates.unfollowed_at_ms == NEVER_MS else Stage.LOST
    silence_ms = at_ms - dates.active_at_ms
    if silence_ms >= rules.lost_after_days * rules.day_ms:
        return Stage.LOST
    if silence_ms >= rules.silent_after_days * rules.day_ms:
        return Stage.SILENT
    if dates.engaged_at_ms <= dates.followed_at_ms:
        return Stage.GAINED
    if dates.engaged_at_ms - dates.followed_at_ms >= rules.retained_after_days * rules.day_ms:
        return Stage.RETAINED
    return Stage.ACTIVATED


def stage_reason(dates: FanDates, at_ms: int, rules: LifecycleRules) -> str:
    """Why the fan is in the stage of `at_ms`, as a plain sentence."""

    def days(from_ms: int, to_ms: int = at_ms) -> str:
        return f"{(to_ms - from_ms) / rules.day_ms:.1f} days"

    stage = stage_at(dates, at_ms, rules)
    if not dates.follows:
        if stage is Stage.LOST:
            return f"Lost: unfollowed {days(dates.unfollowed_at_ms)} ago; a new follow starts over."
        return "In no stage: never followed."
    if stage in (Stage.SILENT, Stage.LOST):
        limits = f"silent takes {rules.silent_after_days} days, lost {rules.lost_after_days}"
        return f"{stage.name.capitalize()}: follows, but did nothing for {days(dates.active_at_ms)}; {limits}."
    if stage is Stage.GAINED:
        return f"Gained: followed {days(dates.followed_at_ms)} ago, and has not engaged since."
    engaged = f"last engaged {days(dates.followed_at_ms, dates.engaged_at_ms)} after the follow"
    return f"{stage.name.capitalize()}: {engaged}; retained takes {rules.retained_after_days} days."


def next_change_at_ms(dates: FanDates, at_ms: int, rules: LifecycleRules) -> int | None:
    """The first instant after `at_ms` at which the stage changes without an event; None: never."""
    if not dates.follows:
        return None
    for days in (rules.silent_after_days, rules.lost_after_days):
        change_at_ms = dates.active_at_ms + days * rules.day_ms
        if change_at_ms > at_ms:
            return change_at_ms
    return None


def retention_due_at_ms(gained_at_ms: int, step: int, rules: LifecycleRules) -> int | None:
    """When judgement number `step` (0, 1, 2: after 1, 7, 30 days) of a fan falls due; None: all are given."""
    if gained_at_ms == NEVER_MS or step >= len(RETENTION_DAYS):
        return None
    return gained_at_ms + RETENTION_DAYS[step] * rules.day_ms


def kept_at(dates: FanDates, gained_at_ms: int, due_at_ms: int) -> bool:
    """Whether a fan gained at `gained_at_ms` followed at `due_at_ms`, as the last follow and unfollow tell."""
    left = gained_at_ms <= dates.unfollowed_at_ms <= due_at_ms
    came_back = dates.unfollowed_at_ms < dates.followed_at_ms <= due_at_ms
    return not left or came_back
