"""Tiering, lifecycle and retention as tables: what fans did, and what they are then."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanbridge.events import EVENT_KINDS, Stage, Tier
from fanbridge.service import lifecycle, tiering
from fanbridge.service.fans import (
    FOREVER_MS,
    Fan,
    FanRules,
    Happening,
    Kept,
    Moved,
    Stirred,
    apply_event,
    catch_up,
    review,
)
from fanbridge.service.lifecycle import FanDates, LifecycleRules
from fanbridge.service.tiering import Engagement, TierRules
from pacing.facts import OutcomeKind as K

DAY_MS = 1_000
DAY_0 = 1_000_000
RULES = FanRules.with_day(DAY_MS)


def day(number: float) -> int:
    return DAY_0 + round(number * DAY_MS)


def fan_after(history: list[tuple[float, K]]) -> tuple[Fan, list[Kept]]:
    fan, happened = lived(history)
    return fan, [one for one in happened if isinstance(one, Kept)]


def lived(history: list[tuple[float, K]]) -> tuple[Fan, list[Happening]]:
    fan, happened = Fan(), []
    for when, kind in history:
        fan, due = apply_event(fan, kind, day(when), RULES)
        happened += due
    return fan, happened


@pytest.mark.parametrize(
    ("history", "at_day", "stage"),
    [
        ([(0, K.LIKE)], 1, Stage.UNSPECIFIED),
        ([(0, K.FOLLOW)], 0, Stage.GAINED),
        ([(0, K.FOLLOW)], 13.999, Stage.GAINED),
        ([(0, K.FOLLOW), (2, K.PLAY)], 15.9, Stage.GAINED),
        ([(0, K.FOLLOW), (2, K.LIKE)], 3, Stage.ACTIVATED),
        ([(0, K.LIKE), (1, K.FOLLOW)], 2, Stage.GAINED),
        ([(0, K.FOLLOW)], 14, Stage.SILENT),
        ([(0, K.FOLLOW), (5, K.LIKE)], 19, Stage.SILENT),
        ([(0, K.FOLLOW), (5, K.LIKE), (20, K.PLAY)], 20, Stage.ACTIVATED),
        ([(0, K.FOLLOW), (29.999, K.GIFT)], 30, Stage.ACTIVATED),
        ([(0, K.FOLLOW), (30, K.GIFT)], 30, Stage.RETAINED),
        ([(0, K.FOLLOW), (30, K.GIFT)], 44, Stage.SILENT),
        ([(0, K.FOLLOW), (30, K.GIFT)], 90, Stage.LOST),
        ([(0, K.FOLLOW), (3, K.UNFOLLOW)], 3, Stage.LOST),
        ([(0, K.UNFOLLOW)], 0, Stage.LOST),
        ([(0, K.FOLLOW), (3, K.UNFOLLOW), (4, K.LIKE)], 4, Stage.LOST),
        ([(0, K.FOLLOW), (3, K.UNFOLLOW), (5, K.FOLLOW)], 5, Stage.GAINED),
        ([(0, K.FOLLOW), (0, K.UNFOLLOW)], 0, Stage.LOST),
        ([(0, K.FOLLOW)], 60, Stage.LOST),
        ([(0, K.FOLLOW), (61, K.LIKE)], 61, Stage.RETAINED),
    ],
)
def test_stage(history: list[tuple[float, K]], at_day: float, stage: Stage) -> None:
    fan, _ = catch_up(fan_after(history)[0], day(at_day), RULES)
    assert fan.stage == stage


@pytest.mark.parametrize(
    ("history", "at_day", "tier"),
    [
        ([(0, K.PLAY)], 0, Tier.UNSPECIFIED),
        ([], 0, Tier.UNSPECIFIED),
        ([(0, K.LIKE)], 0, Tier.POTENTIAL),
        ([(0, K.LIKE)], 14, Tier.POTENTIAL),
        ([(0, K.LIKE)], 14.001, Tier.UNSPECIFIED),
        ([(0, K.FOLLOW)], 13, Tier.POTENTIAL),
        ([(0, K.FOLLOW)], 500, Tier.POTENTIAL),
        ([(0, K.FOLLOW), (0, K.SHARE)], 0, Tier.ACTIVE),
        ([(0, K.FOLLOW), (0, K.SHARE)], 5.8, Tier.ACTIVE),
        ([(0, K.FOLLOW), (0, K.SHARE)], 5.9, Tier.POTENTIAL),
        ([(0, K.SHARE)] * 10, 0, Tier.POTENTIAL),
        ([(0, K.FOLLOW)] + [(0, K.SHARE)] * 10, 0, Tier.ACTIVE),
        ([(0, K.FOLLOW), (0, K.ORDER)], 0, Tier.HIGH_VALUE),
        ([(0, K.FOLLOW), (0, K.ORDER)], 9.2, Tier.HIGH_VALUE),
        ([(0, K.FOLLOW), (0, K.ORDER)], 9.3, Tier.ACTIVE),
        ([(0, K.FOLLOW), (0, K.ORDER), (0, K.ORDER), (0, K.GIFT)], 0, Tier.IRON),
        ([(0, K.FOLLOW), (0, K.ORDER), (0, K.ORDER), (0, K.GIFT)], 7.7, Tier.IRON),
        ([(0, K.FOLLOW), (0, K.ORDER), (0, K.ORDER), (0, K.GIFT)], 8, Tier.HIGH_VALUE),
        ([(0, K.FOLLOW), (0, K.ORDER), (0, K.ORDER), (0, K.GIFT), (1, K.UNFOLLOW)], 1, Tier.POTENTIAL),
    ],
)
def test_tier(history: list[tuple[float, K]], at_day: float, tier: Tier) -> None:
    fan, _ = catch_up(fan_after(history)[0], day(at_day), RULES)
    assert fan.tier == tier
    reason = tiering.tier_reason(fan.engagement, fan.dates.follows, day(at_day), RULES.tiers)
    begins = "Does not follow" if not fan.dates.follows else tier.name.capitalize().replace("_", "-") + ": follows"
    assert reason.startswith(begins)


def test_the_reason_of_a_tier_has_its_figures_and_what_it_takes() -> None:
    fan, _ = fan_after([(0, K.FOLLOW), (0, K.ORDER), (0, K.ORDER), (0, K.GIFT)])
    assert tiering.tier_reason(fan.engagement, True, day(0), RULES.tiers) == (
        "Iron: follows, with 44.0 points and 3.0 gifts and orders, what is 14 days old counting half; "
        "it takes 30 points and 1.5 gifts and orders."
    )
    assert "with 22.0 points and 1.5 gifts" in tiering.tier_reason(fan.engagement, True, day(14), RULES.tiers)


@pytest.mark.parametrize(
    ("history", "at_day", "reason"),
    [
        ([(0, K.LIKE)], 1, "In no stage: never followed."),
        ([(0, K.FOLLOW)], 2, "Gained: followed 2.0 days ago, and has not engaged since."),
        (
            [(0, K.FOLLOW), (5, K.LIKE)],
            6,
            "Activated: last engaged 5.0 days after the follow; retained takes 30 days.",
        ),
        (
            [(0, K.FOLLOW), (31, K.LIKE)],
            31,
            "Retained: last engaged 31.0 days after the follow; retained takes 30 days.",
        ),
        ([(0, K.FOLLOW)], 15, "Silent: follows, but did nothing for 15.0 days; silent takes 14 days, lost 60."),
        ([(0, K.FOLLOW)], 61, "Lost: follows, but did nothing for 61.0 days; silent takes 14 days, lost 60."),
        ([(0, K.FOLLOW), (3, K.UNFOLLOW)], 4, "Lost: unfollowed 1.0 days ago; a new follow starts over."),
    ],
)
def test_the_reason_of_a_stage(history: list[tuple[float, K]], at_day: float, reason: str) -> None:
    fan, _ = fan_after(history)
    assert lifecycle.stage_reason(fan.dates, day(at_day), RULES.lifecycle) == reason


def test_each_step_between_stages_is_told_at_its_own_time() -> None:
    _, happened = lived([(0, K.FOLLOW), (3, K.LIKE), (33, K.LIKE), (34, K.UNFOLLOW)])
    none, gained, activated, retained, silent, lost = Stage
    assert [one for one in happened if isinstance(one, Moved)] == [
        Moved(none, gained, day(0)),
        Moved(gained, activated, day(3)),
        Moved(activated, silent, day(17)),
        Moved(silent, retained, day(33)),
        Moved(retained, lost, day(34)),
    ]
    _, later = catch_up(fan_after([(0, K.FOLLOW)])[0], day(100), RULES)
    moved = [one for one in later if isinstance(one, Moved)]
    assert moved == [Moved(gained, silent, day(14)), Moved(silent, lost, day(60))]


def test_a_sign_of_life_counts_once_a_day_and_only_of_followers() -> None:
    history = [(0, K.LIKE), (0.2, K.FOLLOW), (0.4, K.LIKE), (1.1, K.PLAY), (1.2, K.LIKE), (0.9, K.LIKE)]
    _, happened = lived([*history, (2, K.UNFOLLOW), (3, K.LIKE)])
    assert [one for one in happened if isinstance(one, Stirred)] == [Stirred(day(0.2)), Stirred(day(1.1))]


@pytest.mark.parametrize(
    ("history", "kept"),
    [
        ([(0, K.FOLLOW)], [True, True, True]),
        ([(0, K.FOLLOW), (1, K.UNFOLLOW)], [False, False, False]),
        ([(0, K.FOLLOW), (1.001, K.UNFOLLOW)], [True, False, False]),
        ([(0, K.FOLLOW), (8, K.UNFOLLOW)], [True, True, False]),
        ([(0, K.FOLLOW), (31, K.UNFOLLOW)], [True, True, True]),
        ([(0, K.FOLLOW), (0.5, K.UNFOLLOW), (3, K.FOLLOW)], [False, True, True]),
        ([(0, K.FOLLOW), (2, K.UNFOLLOW), (3, K.FOLLOW), (8, K.UNFOLLOW)], [True, True, False]),
        ([(0, K.LIKE)], []),
        ([(0, K.UNFOLLOW)], []),
    ],
)
def test_retention_after_1_7_and_30_days(history: list[tuple[float, K]], kept: list[bool]) -> None:
    fan, judgements = fan_after(history)
    fan, due = catch_up(fan, day(40), RULES)
    judgements += [one for one in due if isinstance(one, Kept)]
    assert [judgement.kept for judgement in judgements] == kept
    assert [judgement.days for judgement in judgements] == [1, 7, 30][: len(kept)]
    assert [judgement.judged_at_ms for judgement in judgements] == [day(1), day(7), day(30)][: len(kept)]


def test_a_fan_who_comes_back_after_all_judgements_is_gained_anew() -> None:
    fan, _ = fan_after([(0, K.FOLLOW), (31, K.UNFOLLOW), (40, K.FOLLOW)])
    assert fan.gained_at_ms == day(40)
    _, happened = catch_up(fan, day(100), RULES)
    judgements = [one for one in happened if isinstance(one, Kept)]
    assert [(judgement.days, judgement.kept) for judgement in judgements] == [(1, True), (7, True), (30, True)]


def test_a_repeated_follow_does_not_restart_retention() -> None:
    fan, _ = fan_after([(0, K.FOLLOW), (3, K.FOLLOW)])
    assert fan.gained_at_ms == day(0)


histories = st.lists(st.tuples(st.integers(0, 90), st.sampled_from(sorted(tiering.POINTS_OF_KIND))), max_size=12)


@given(histories, st.integers(0, 200), st.randoms(use_true_random=False))
def test_the_order_of_arrival_does_not_decide_tier_or_stage(
    history: list[tuple[float, K]], wait: int, shuffling: object
) -> None:
    shuffled = list(history)
    shuffling.shuffle(shuffled)  # type: ignore[attr-defined]
    end = day(max([when for when, _ in history], default=0) + wait)
    one, other = (review(fan_after(events)[0], end, RULES)[0] for events in (history, shuffled))
    assert one.dates == other.dates
    assert one.stage == other.stage
    assert one.engagement.points == pytest.approx(other.engagement.points)
    assert one.engagement.support == pytest.approx(other.engagement.support)


@given(histories, st.integers(0, 200))
def test_reviews_at_their_dates_find_all_that_time_changes(history: list[tuple[float, K]], wait: int) -> None:
    """A fan who is looked at only when a review is due stands, at any instant, where a fresh look would put them."""
    fan, _ = fan_after(sorted(history))
    at_ms = day(max([when for when, _ in history], default=0) + wait)
    caught_up, _ = catch_up(fan, at_ms, RULES)
    fresh, _ = review(fan, at_ms, RULES)
    assert (caught_up.tier, caught_up.stage) == (fresh.tier, fresh.stage)
    assert caught_up.review_at_ms > at_ms


def test_who_does_nothing_is_never_reviewed() -> None:
    assert review(Fan(), day(0), RULES)[0].review_at_ms == FOREVER_MS


def test_points_halve_and_late_events_count_less() -> None:
    rules = TierRules(day_ms=DAY_MS)
    early = tiering.add_event(Engagement(), K.GIFT, day(0), rules)
    assert tiering.decay(early, day(14), rules).points == pytest.approx(5.0)
    assert tiering.decay(early, day(-3), rules) == early
    late = tiering.add_event(tiering.add_event(Engagement(), K.LIKE, day(14), rules), K.GIFT, day(0), rules)
    assert (late.points, late.support) == (pytest.approx(6.0), pytest.approx(0.5))


def test_every_event_kind_has_points_and_no_threshold_is_out_of_order() -> None:

    assert set(tiering.POINTS_OF_KIND) == EVENT_KINDS
    rules = TierRules()
    assert rules.potential_points < rules.active_points < rules.high_value_points < rules.iron_points


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: TierRules(day_ms=0), "day_ms 0"),
        (lambda: TierRules(half_life_days=float("nan")), "half_life_days nan"),
        (lambda: LifecycleRules(day_ms=-1), "day_ms -1"),
        (lambda: LifecycleRules(silent_after_days=60), "silent_after_days 60"),
    ],
)
def test_rules_out_of_range_are_refused(make: object, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        make()  # type: ignore[operator]


def test_dates_of_an_unfollow_are_no_activity() -> None:
    dates = lifecycle.add_event(FanDates(), K.UNFOLLOW, day(3))
    assert dates == dataclasses.replace(FanDates(), unfollowed_at_ms=day(3))
    assert lifecycle.next_change_at_ms(dates, day(3), RULES.lifecycle) is None
