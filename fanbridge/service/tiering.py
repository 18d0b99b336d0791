"""Which tier a fan is in: a few stated rules on what they did lately.

A fan has *points*, engagement weighted by kind, and *support*, the number of gifts and orders; both halve every
`half_life_days`. Everything here is a pure function; a day is `day_ms` long, so that studies can shorten it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from fanbridge.events import Tier
from pacing.clocks import MS_PER_DAY
from pacing.facts import OutcomeKind

POINTS_OF_KIND = {
    OutcomeKind.PLAY: 0.25,
    OutcomeKind.CLICK: 0.5,
    OutcomeKind.LIKE: 1.0,
    OutcomeKind.PROFILE_VISIT: 1.0,
    OutcomeKind.PRODUCT_CLICK: 2.0,
    OutcomeKind.LIVE_VISIT: 2.0,
    OutcomeKind.COMMENT: 3.0,
    OutcomeKind.SHARE: 4.0,
    OutcomeKind.FOLLOW: 4.0,
    OutcomeKind.GIFT: 10.0,
    OutcomeKind.ORDER: 15.0,
    OutcomeKind.UNFOLLOW: 0.0,
}
SUPPORT_KINDS = frozenset({OutcomeKind.GIFT, OutcomeKind.ORDER})


@dataclass(frozen=True)
class TierRules:
    """Thresholds. A follower is in the highest tier whose conditions all hold; others are potential at most.

    - iron: points >= `iron_points` and support >= `iron_support`
    - high-value: points >= `high_value_points` and support >= `high_value_support`
    - active: points >= `active_points`
    - potential: follows, or points >= `potential_points`
    """

    day_ms: int = MS_PER_DAY
    half_life_days: float = 14.0
    potential_points: float = 0.5
    active_points: float = 6.0
    high_value_points: float = 12.0
    high_value_support: float = 0.5
    iron_points: float = 30.0
    iron_support: float = 1.5

    def __post_init__(self) -> None:
        if self.day_ms < 1:
            raise ValueError(f"day_ms {self.day_ms}: must be 1 or more")
        if not self.half_life_days > 0:
            raise ValueError(f"half_life_days {self.half_life_days}: must be above 0")

    @property
    def half_life_ms(self) -> float:
        """How long until points and support are worth half."""
        return self.half_life_days * self.day_ms


@dataclass(frozen=True)
class Engagement:
    """What a fan's past is worth at `at_ms`; both figures halve from there on."""

    points: float = 0.0
    support: float = 0.0
    at_ms: int = 0


def decay(engagement: Engagement, at_ms: int, rules: TierRules) -> Engagement:
    """The same past seen from `at_ms`; an instant before its last event sees it undiminished."""
    if at_ms <= engagement.at_ms:
        return engagement
    keep = 2.0 ** ((engagement.at_ms - at_ms) / rules.half_life_ms)
    return Engagement(engagement.points * keep, engagement.support * keep, at_ms)


def add_event(engagement: Engagement, kind: OutcomeKind, occurred_at_ms: int, rules: TierRules) -> Engagement:
    """Count one event. Their order does not matter: a late one counts what it has faded to by now."""
    latest_ms = max(engagement.at_ms, occurred_at_ms)
    seen = decay(engagement, latest_ms, rules)
    worth = 2.0 ** ((occurred_at_ms - latest_ms) / rules.half_life_ms)
    return Engagement(
        seen.points + POINTS_OF_KIND[kind] * worth,
        seen.support + (worth if kind in SUPPORT_KINDS else 0.0),
        latest_ms,
    )


def tier_at(engagement: Engagement, follows: bool, at_ms: int, rules: TierRules) -> Tier:
    """The tier at `at_ms`."""
    seen = decay(engagement, at_ms, rules)
    points, support = seen.points, seen.support
    if not follows:
        return Tier.POTENTIAL if points >= rules.potential_points else Tier.UNSPECIFIED
    if points >= rules.iron_points and support >= rules.iron_support:
        return Tier.IRON
    if points >= rules.high_value_points and support >= rules.high_value_support:
        return Tier.HIGH_VALUE
    return Tier.ACTIVE if points >= rules.active_points else Tier.POTENTIAL


def tier_reason(engagement: Engagement, follows: bool, at_ms: int, rules: TierRules) -> str:
    """Why the fan is in the tier of `at_ms`, as a plain sentence: what there is, and what this and the next take."""
    seen = decay(engagement, at_ms, rules)
    have = (
        f"{seen.points:.1f} points and {seen.support:.1f} gifts and orders, what is {rules.half_life_days:g} days old"
    )
    have += " counting half"
    iron = f"{rules.iron_points:g} points and {rules.iron_support:g} gifts and orders"
    high_value = f"{rules.high_value_points:g} points and {rules.high_value_support:g} gifts and orders"
    tier = tier_at(engagement, follows, at_ms, rules)
    if not follows:
        verb = "engages" if tier is Tier.POTENTIAL else "hardly engages"
        return f"Does not follow, {verb}: {have}; potential takes {rules.potential_points:g} points or a follow."
    if tier is Tier.IRON:
        return f"Iron: follows, with {have}; it takes {iron}."
    if tier is Tier.HIGH_VALUE:
        return f"High-value: follows, with {have}; it takes {high_value}, and iron {iron}."
    if tier is Tier.ACTIVE:
        return f"Active: follows, with {have}; it takes {rules.active_points:g} points, and high-value {high_value}."
    return f"Potential: follows, with {have}; active takes {rules.active_points:g} points."


def next_fall_at_ms(engagement: Engagement, at_ms: int, rules: TierRules) -> int | None:
    """The first instant after `at_ms` at which points or support fall below a threshold; None: never."""
    seen = decay(engagement, at_ms, rules)
    reached = [
        figure / threshold
        for figure, thresholds in (
            (seen.points, (rules.potential_points, rules.active_points, rules.high_value_points, rules.iron_points)),
            (seen.support, (rules.high_value_support, rules.iron_support)),
        )
        for threshold in thresholds
        if threshold > 0 and figure >= threshold
    ]
    if not reached:
        return None
    return max(at_ms, seen.at_ms) + math.floor(rules.half_life_ms * math.log2(min(reached))) + 1
