"""Churn alarms: how often they ring when nothing happens, that they ring when something does, and what they suggest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from auction.rest.convert import create_request
from auction.rest.shapes import NewCampaign
from fanbridge.events import FAN_EVENT, FAN_OUTCOME, Stage
from fanbridge.service import churn
from fanbridge.service.churn import (
    Alarm,
    ChurnRules,
    DayCounts,
    _poisson_tails,
    _rank_tails,
    alarms_of,
    e_values,
    tail_probabilities,
)
from fanbridge.service.fans import FanRules
from fanbridge.service.insights import Insights
from fanbridge.service.store import FanStore
from fanbridge.service.winback import Bought, win_back
from pacing.facts import OutcomeKind

DAY_MS = 1_000
RULES = FanRules.with_day(DAY_MS)
CREATOR = 2**63 + 7
FIRST_DAY = 1_000
World = Callable[[np.random.Generator, int], DayCounts]


def counted(counts: np.ndarray, at_risk: np.ndarray) -> DayCounts:
    return DayCounts(FIRST_DAY, counts, at_risk, np.zeros(counts.shape[1]))


def steady(rng: np.random.Generator, days: int) -> DayCounts:
    """A creator to whom nothing happens: rates and numbers of fans of any size, and growth."""
    growth = np.exp(np.linspace(0, rng.normal(0, 1), days)) * rng.uniform(0.7, 1.4, (2, days))
    at_risk = np.ceil(10 ** rng.uniform(1, 4, (2, 1)) * growth)
    return counted(rng.poisson(10 ** rng.uniform(-3, -0.5, (2, 1)) * at_risk).astype(float), at_risk)


def uneven(rng: np.random.Generator, days: int) -> DayCounts:
    """The same with days that vary by far more than chance, and another rate at weekends."""
    steady_days = steady(rng, days)
    weekend = np.where(np.arange(days) % 7 < 2, rng.uniform(0.7, 1.4), 1.0)
    means = 0.1 * steady_days.at_risk * rng.gamma(4.0, 0.25, (2, days)) * weekend
    return counted(rng.poisson(means).astype(float), steady_days.at_risk)


@pytest.mark.parametrize(("world", "least_rise"), [(steady, 1.0), (steady, 1.1), (uneven, 1.0), (uneven, 1.1)])
def test_false_alarms_are_no_more_frequent_than_stated(world: World, least_rise: float) -> None:
    rng = np.random.default_rng(5)
    rules, days, creators = ChurnRules(20, least_rise), 100, 120
    rung = sum(len(alarms_of(world(rng, days), rules)) for _ in range(creators))
    assert rung <= days * creators / 20
    if least_rise == 1.0:
        assert rung > 0  # so the bound was put to the test


def test_without_ranks_days_that_vary_would_ring_too_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(churn, "_rank_tails", lambda counts, *_: np.zeros_like(counts))
    rng = np.random.default_rng(5)
    assert sum(len(alarms_of(uneven(rng, 100), ChurnRules(20))) for _ in range(30)) > 2 * 100 * 30 / 20


def test_tails_of_a_steady_rate_are_uniform_or_larger_and_e_values_at_most_one_on_average() -> None:
    rng = np.random.default_rng(6)
    counts = rng.poisson(np.full((2_000, 30), 3.0)).astype(float)
    p = _poisson_tails(counts, np.full(counts.shape, 50.0), 1.0)
    assert (tail_probabilities(counts, np.full(counts.shape, 50.0), 1.0) >= p).all()
    for level in (0.01, 0.05, 0.2, 0.5):
        assert (p <= level).mean() <= level + 0.003
    assert e_values(p).mean() <= 1.0
    assert abs(np.corrcoef(p[:, 10], p[:, 11])[0, 1]) < 0.08


def test_ranks_of_a_day_among_those_before() -> None:
    counts = np.array([[4.0, 2.0, 8.0, 4.0, 0.0]])
    at_risk = np.array([[10.0, 10.0, 10.0, 5.0, 0.0]])
    assert _rank_tails(counts, at_risk, 1.0).tolist() == [[1.0, 1.0, 1 / 3, 2 / 4, 1.0]]
    assert _rank_tails(counts, at_risk, 2.0).tolist() == [[1.0, 1.0, 2 / 3, 3 / 4, 1.0]]


def test_a_doubled_rate_rings_within_days() -> None:
    rng = np.random.default_rng(7)
    waits = []
    for _ in range(20):
        counts = rng.poisson(np.r_[np.full(60, 20.0), np.full(30, 40.0)], (2, 90)).astype(float)
        counts[0] = rng.poisson(20.0, 90)
        (first, *_) = alarms_of(counted(counts, np.full((2, 90), 1_000.0)), ChurnRules()) or [None]
        assert first is not None
        waits.append(first.day - FIRST_DAY - 59)
        if first.day >= FIRST_DAY + 60:
            assert first.what == "unfollowed"
            assert first.fans > 1.3 * first.expected
    assert sorted(waits)[2] >= 1 and np.median(waits) <= 9


def test_a_burst_that_was_to_be_expected_does_not_ring() -> None:
    rng = np.random.default_rng(8)
    at_risk = np.full((2, 80), 500.0)
    at_risk[0, 60:63] = 20_000.0
    counts = rng.poisson(0.02 * at_risk).astype(float)
    assert alarms_of(counted(counts, at_risk), ChurnRules()) == []


def test_days_without_fans_never_ring() -> None:
    assert alarms_of(counted(np.zeros((2, 1_000)), np.zeros((2, 1_000))), ChurnRules(2)) == []
    assert alarms_of(DayCounts.empty(5, 5), ChurnRules()) == []


def test_only_steps_out_of_life_count_as_churn() -> None:
    days = DayCounts.empty(10, 14)
    days.add_moves(10, False, True, Stage.GAINED, 8)
    days.add_moves(11, True, False, Stage.LOST, 2)
    days.add_moves(12, True, False, Stage.SILENT, 3)
    days.add_moves(13, False, False, Stage.LOST, 3)
    days.add_moves(14, True, False, Stage.LOST, 1)  # not over yet
    days.add_stirred(12, 5)
    assert days.counts.tolist() == [[0, 0, 3, 0], [0, 2, 0, 0]]
    assert days.at_risk.tolist() == [[0, 0, 5, 0], [0, 8, 6, 3]]


def lives(leave_on: int, days: int, rng: np.random.Generator) -> np.ndarray:
    """Events of 120 fans who act three days in ten; half of them stop on a day. FAN_EVENT[n] in order of time."""
    acts = rng.random((120, days)) < 0.3
    acts[:60, leave_on:] = False
    fan, day = np.nonzero(acts)
    rows = np.zeros(120 + len(fan), FAN_EVENT)
    rows["viewer_id"] = np.r_[np.arange(120), fan] + 1
    rows["kind"] = np.r_[np.full(120, OutcomeKind.FOLLOW), np.full(len(fan), OutcomeKind.LIKE)]
    rows["occurred_at_ms"] = FIRST_DAY * DAY_MS + np.r_[np.zeros(120, int), day * DAY_MS + 500]
    rows["creator_id"] = CREATOR
    rows = rows[np.argsort(rows["occurred_at_ms"], kind="stable")]
    rows["event_id"] = 1 + np.arange(len(rows))
    return rows


def bought(count: int) -> np.ndarray:
    """Impressions of 40,000 micros each, every second of which gains a fan of another life. FAN_OUTCOME[2 * count]."""
    rows = np.zeros(2 * count, FAN_OUTCOME)
    rows["lease_id"], rows["hold_seq"] = 1, 1 + np.arange(2 * count) // 2
    rows["kind"] = np.tile([OutcomeKind.BILLABLE, OutcomeKind.FOLLOW], count)
    rows["price_micros"] = np.tile([1_500_000, 0], count)
    rows["viewer_id"], rows["creator_id"] = 10_000 + np.arange(2 * count) // 2, CREATOR
    rows["campaign_id"], rows["creative_id"] = 5, 77
    rows["occurred_at_ms"] = (FIRST_DAY + 50) * DAY_MS
    return rows


def test_fans_who_stop_ring_an_alarm_and_get_a_campaign_that_the_engine_takes(tmp_path: Path) -> None:
    store = FanStore(tmp_path / "fans.sqlite", RULES)
    rows = lives(40, 75, np.random.default_rng(9))
    for day in range(75):
        now_ms = (FIRST_DAY + day + 1) * DAY_MS - 1
        store.push_events(rows[rows["occurred_at_ms"] // DAY_MS == FIRST_DAY + day], now_ms)
        store.review(now_ms)
    store.push_outcomes(bought(6), now_ms)
    insights = Insights(tmp_path / "fans.sqlite", RULES)
    assert insights.creators() == [CREATOR]
    assert insights.alarms(CREATOR, (FIRST_DAY + 44) * DAY_MS) == []  # who stopped on day 40 is silent 44 to 53
    (alarm,) = insights.alarms(CREATOR, now_ms)
    assert alarm.what == "turned silent"
    assert FIRST_DAY + 42 <= alarm.since_day <= alarm.day <= FIRST_DAY + 53
    assert alarm.fans > 5 * alarm.expected
    suggested = insights.win_back(CREATOR, now_ms, "Asia/Shanghai")
    assert suggested is not None
    assert suggested.audience >= 60
    assert suggested.campaign["total_budget_micros"] == max(10**6, alarm.excess * 1_500_000)
    assert suggested.campaign["creatives"] == [{"creative_id": "77"}]
    campaign = create_request(NewCampaign(**suggested.campaign), "").campaign
    assert [node.segment.segment_id for node in campaign.targeting.any.of] == [
        f"stage:silent:{CREATOR}",
        f"stage:lost:{CREATOR}",
    ]
    assert insights.win_back(CREATOR, now_ms + 31 * DAY_MS, "Asia/Shanghai") is None
    insights.close()
    store.close()


def test_a_suggestion_says_what_it_does_not_know() -> None:
    alarm = Alarm(100, 98, "unfollowed", 3, 1.0)
    suggested = win_back(7, alarm, 9, Bought(0, 0), None, "UTC")
    assert suggested.campaign["creatives"] == []
    assert suggested.campaign["daily_budget_micros"] == 1_000_000
    assert any("1000000 micros are assumed" in reason for reason in suggested.reasons)
    assert any("Name a creative" in reason for reason in suggested.reasons)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: ChurnRules(1), "days_between_false_alarms 1"),
        (lambda: ChurnRules(least_rise=0.9), "least_rise 0.9"),
    ],
)
def test_rules_out_of_range_are_refused(make: object, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        make()  # type: ignore[operator]
