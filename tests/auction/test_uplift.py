"""How far a bid follows what a fan may become: by the duals of budget and target, about a mean of 1."""

from __future__ import annotations

import numpy as np
import pytest

from auction.learning import Learner
from auction.predictor.predictor import Predictor
from auction.rising_fans import HEARING_MS
from auction.uplift import KEPT_MS, TierUplift
from fanbridge.events import FAN_CHANGE, Tier
from pacing.clocks import MS_PER_HOUR
from pacing.control.settings import PACING_PLAN, cost_weights

IDS = np.array([5, 6, 7], np.uint64)
WORTHS = np.array([3.0, 1.0, 2.0])
NOW_MS = 1_800_000_000_000


def told_learner(predictor: Predictor) -> Learner:
    """One that heard of some tier."""
    learner = Learner(predictor)
    rows = np.zeros(1, FAN_CHANGE)
    rows["tier"] = Tier.POTENTIAL
    learner.kept_fans.told_tiers(rows)
    learner.tick(NOW_MS - HEARING_MS)
    learner.tick(NOW_MS)
    return learner


@pytest.fixture
def uplift() -> TierUplift:
    predictor = Predictor()
    return TierUplift(told_learner(predictor), predictor)


def multipliers(uplift: TierUplift, place: int, h: np.ndarray) -> np.ndarray:
    level, slope = uplift.columns(IDS, WORTHS)[1][place]
    return np.asarray(level + slope * h)


def test_there_are_no_columns_until_a_tier_was_told_and_a_campaign_asks(uplift: TierUplift) -> None:
    predictor = Predictor()
    for columns in (
        TierUplift(Learner(predictor), predictor).columns(IDS, WORTHS),
        uplift.columns(IDS, np.ones(3)),
        uplift.columns(IDS[:0], WORTHS[:0]),
    ):
        assert [len(column) for column in columns] == [0, 0]
    rise_calibration, uplifts = uplift.columns(IDS, WORTHS)
    assert rise_calibration.tolist() == [1.0, 0.0, 1.0]
    assert uplifts.tolist() == [[1.0, 0.0]] * 3, "neutral until measured"
    uplift.count(IDS[:1], np.array([10.0]), np.array([1.0]), NOW_MS)
    assert uplift.columns(IDS, WORTHS)[1].tolist() == [[1.0, 0.0]] * 3, "and until planned"
    uplift.note_plans(IDS[:1], np.zeros(1))
    assert uplift.columns(IDS, WORTHS)[1][1:].tolist() == [[1.0, 0.0]] * 2


@pytest.mark.parametrize("target_micros", [0, 900_000, 1_800_000])
def test_a_multiplier_is_that_of_the_two_duals_about_a_mean_of_one(uplift: TierUplift, target_micros: int) -> None:
    plan = np.zeros(1, PACING_PLAN)
    plan["alpha_micros"] = 2e6  # if only the target binds: C + 1 / lambda
    weight = cost_weights(plan, np.array([target_micros]))
    assert weight == pytest.approx(target_micros / (2e6 - target_micros))
    rng = np.random.default_rng(2)
    v, h = rng.uniform(0, 0.02, 4_000), rng.beta(1, 6, 4_000)
    uplift.count(IDS[:1], np.array([v.sum()]), np.array([v @ h]), NOW_MS)
    uplift.note_plans(IDS[:1], weight)
    got = multipliers(uplift, 0, h)
    r = 1 + (WORTHS[0] - 1) * h
    r /= (v @ r) / v.sum()
    np.testing.assert_allclose(got, (r + weight) / (1 + weight), rtol=1e-12)
    assert v @ got / v.sum() == pytest.approx(1.0)
    # Where only the target binds, that is alpha r - C (r - 1), of which the target's own part counts heads alone.
    np.testing.assert_allclose(got * 2e6, 2e6 * r - target_micros * (r - 1), rtol=1e-12)
    assert got.min() > 0


def test_a_target_weighs_nothing_beside_a_budget_that_binds_and_nearly_all_where_alpha_is_the_target() -> None:
    plans = np.zeros(5, PACING_PLAN)
    plans["alpha_micros"] = [8e5, 1e6, 5e5, 0.0, 3e6]
    plans["budget_dual"][0] = 1 / 8e5
    weights = cost_weights(plans, np.array([10**6, 10**6, 10**6, 10**6, 0]))
    assert weights.tolist() == pytest.approx([0.0, 1_000.0, 1_000.0, 1_000.0, 0.0])


def test_the_mean_follows_the_audience_within_hours(uplift: TierUplift) -> None:
    assert uplift.mean(5) is None
    one = np.array([1.0])
    uplift.count(IDS[:1], one, 0.1 * one, NOW_MS)
    assert uplift.mean(5) == pytest.approx(0.1)
    uplift.count(IDS[:1], one, 0.4 * one, NOW_MS + 2 * MS_PER_HOUR)
    assert uplift.mean(5) == pytest.approx((0.5 * 0.1 + 0.4) / 1.5)
    uplift.count(IDS[:1], 0 * one, 0 * one, NOW_MS + 2 * MS_PER_HOUR)
    assert uplift.mean(5) == pytest.approx(0.3)
    assert uplift.mean(6) is None


def test_plans_that_go_to_and_fro_are_smoothed(uplift: TierUplift) -> None:
    uplift.count(IDS[:1], np.array([1.0]), np.array([0.2]), NOW_MS)
    uplift.note_plans(IDS[:1], np.zeros(1))
    free = multipliers(uplift, 0, np.ones(1))[0]
    for _ in range(300):
        uplift.note_plans(IDS[:1], np.array([1_000.0]))
        uplift.note_plans(IDS[:1], np.zeros(1))
    assert multipliers(uplift, 0, np.ones(1))[0] - 1 == pytest.approx((free - 1) / 2, rel=0.06)


def test_campaigns_that_ended_are_forgotten_within_a_day_and_those_that_run_are_not(uplift: TierUplift) -> None:
    """Each hour's campaigns run for that hour; one runs on. Their number stays that of a day's."""
    one = np.ones(1)
    largest = 0
    for hour in range(72):
        now_ms = NOW_MS + hour * MS_PER_HOUR
        ids = np.append(np.arange(100 * hour, 100 * hour + 20, dtype=np.uint64) + np.uint64(1_000), np.uint64(5))
        uplift.count(ids, np.ones(21), np.full(21, 0.1), now_ms)
        uplift.note_plans(ids, np.zeros(21))
        largest = max(largest, len(uplift))
    assert largest == 20 * KEPT_MS // MS_PER_HOUR + 1
    assert multipliers(uplift, 0, one)[0] > 1, "the one that runs on"
    assert uplift.mean(100 * 71 + 1_000) is not None and uplift.mean(1_000) is None
    nobody = np.zeros(0, np.uint64), np.zeros(0), np.zeros(0)
    uplift.count(*nobody, now_ms + 2 * KEPT_MS)
    assert len(uplift) == 0
    assert uplift.columns(IDS, WORTHS)[1].tolist() == [[1.0, 0.0]] * 3, "neutral until measured again"


def test_a_campaign_that_goes_on_after_a_long_pause_is_measured_anew(uplift: TierUplift) -> None:
    one = np.ones(1)
    uplift.count(IDS[:1], 1_000 * one, 500 * one, NOW_MS)
    uplift.note_plans(IDS[:1], np.array([1_000.0]))
    later_ms = NOW_MS + KEPT_MS
    uplift.count(IDS[1:2], one, one, later_ms)
    assert uplift.mean(5) is None
    uplift.count(IDS[:1], one, 0.1 * one, later_ms)
    uplift.note_plans(IDS[:1], np.zeros(1))
    assert uplift.mean(5) == pytest.approx(0.1)
    assert multipliers(uplift, 0, one)[0] == pytest.approx(3 / 1.2), "by the plan of now"


def test_what_is_kept_within_a_day_survives_a_night_without_supply(uplift: TierUplift) -> None:
    one = np.ones(1)
    uplift.count(IDS[:1], one, 0.4 * one, NOW_MS)
    uplift.count(IDS[1:2], one, 0.4 * one, NOW_MS + KEPT_MS - 1)
    assert uplift.mean(5) == pytest.approx(0.4)
