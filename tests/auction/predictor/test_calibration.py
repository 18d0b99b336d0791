"""Calibration factors and delay curves against known truths."""

from __future__ import annotations

import numpy as np
import pytest

from auction.predictor.calibration import Calibration, CalibrationSettings
from auction.predictor.delay import DelayCurve, remaining_probability
from pacing.clocks import MS_PER_HOUR, MS_PER_MINUTE
from pacing.facts import EARLIER_LEVELS, Goal

FANS = int(Goal.FANS)
SURE = 0.001


def fill(
    calibration: Calibration, campaign_id: int, expected: float, observed: int, spread: float = SURE, earlier: int = 0
) -> None:
    ids, levels = np.full(100, campaign_id, np.uint64), np.full(max(100, observed), earlier, np.uint8)
    calibration.add_expected(FANS, ids, np.full(100, expected / 100), np.full(100, spread), levels[:100])
    calibration.add_observed(FANS, ids[:1].repeat(observed), np.full(observed, spread), levels[:observed])


def test_factors_come_to_observed_over_expected_as_evidence_grows() -> None:
    calibration = Calibration(CalibrationSettings(strength=50, half_life=1e9))
    assert calibration.factor(FANS, 1) == 1.0
    fill(calibration, 1, 10, 15)
    early = calibration.factor(FANS, 1)
    fill(calibration, 1, 1_990, 2_985)
    assert 1.0 < early < 1.2
    assert calibration.factor(FANS, 1) == pytest.approx(1.5, rel=0.01)


def test_a_new_campaign_leans_on_its_goal_and_goals_are_apart() -> None:
    calibration = Calibration()
    fill(calibration, 1, 2_000, 1_000)
    assert calibration.factor(FANS, 2) == calibration.goal_factor(FANS)
    assert 0.4 < calibration.goal_factor(FANS) < 0.75
    assert calibration.goal_factor(int(Goal.PLAYS)) == 1.0


def test_what_the_model_called_a_guess_is_little_evidence() -> None:
    sure, guessed = Calibration(), Calibration()
    fill(sure, 1, 100, 200, spread=SURE)
    fill(guessed, 1, 100, 200, spread=1.0)
    assert sure.factor(FANS, 1) > 1.4
    assert guessed.factor(FANS, 1) < 1.1


def test_old_evidence_fades() -> None:
    calibration = Calibration(CalibrationSettings(half_life=100, strength=10))
    fill(calibration, 1, 1_000, 2_000)
    for _ in range(20):
        fill(calibration, 1, 50, 50)
    assert calibration.factor(FANS, 1) == pytest.approx(1.0, abs=0.1)


def test_earlier_impressions_and_campaigns_are_told_apart() -> None:
    rng = np.random.default_rng(6)
    true_campaign, true_earlier = np.array([1.0, 1.3, 0.8]), np.array([1.0, 0.85, 0.7, 0.6])
    calibration = Calibration(CalibrationSettings(strength=20, half_life=4_000))
    n, p = 4_000, 0.02
    for _ in range(150):
        # Campaigns differ in how often they are shown again, so neither factor can be read off its own sums.
        campaign = rng.integers(0, 3, n)
        earlier = np.minimum(rng.geometric(np.array([0.9, 0.6, 0.4])[campaign]) - 1, 3).astype(np.uint8)
        happened = rng.random(n) < p * true_campaign[campaign] * true_earlier[earlier]
        ids, sure = campaign.astype(np.uint64), np.full(n, SURE)
        calibration.add_expected(FANS, ids, np.full(n, p), sure, earlier)
        calibration.add_observed(FANS, ids[happened], sure[happened], earlier[happened])
    factors = np.array([calibration.factor(FANS, campaign_id) for campaign_id in range(3)])
    levels = calibration.earlier_factors(FANS)
    np.testing.assert_allclose(factors * levels[0], true_campaign, rtol=0.08)
    np.testing.assert_allclose(levels[1:4] / levels[0], true_earlier[1:], rtol=0.08)
    # What was never seen goes on like the last that was.
    assert levels[4:].tolist() == [levels[3]] * (EARLIER_LEVELS - 4)
    assert calibration.earlier_factors(int(Goal.PLAYS)).tolist() == [1.0] * EARLIER_LEVELS


def test_a_few_odd_rows_do_not_turn_a_level() -> None:
    calibration = Calibration()
    fill(calibration, 1, 1_000, 1_000)
    fill(calibration, 1, 1, 5, earlier=3)
    assert 1.0 < calibration.earlier_factors(FANS)[3] < 1.15


def test_campaigns_are_bounded_and_state_comes_back() -> None:
    calibration = Calibration(CalibrationSettings(campaigns=3))
    for campaign_id in (1, 2, 3, 4, 2, 5):
        fill(calibration, campaign_id, 500, 1_000)
    state = calibration.state()
    assert state["keys"][:, 1].tolist() == [4, 2, 5]
    other = Calibration()
    other.restore(state)
    assert other.factor(FANS, 2) == calibration.factor(FANS, 2)
    np.testing.assert_array_equal(other.earlier_factors(FANS), calibration.earlier_factors(FANS))
    with pytest.raises(ValueError, match="calibration: earlier"):
        other.restore({**state, "earlier": state["earlier"][:, :2]})
    with pytest.raises(ValueError, match="is negative"):
        other.restore({**state, "earlier": -state["earlier"]})
    with pytest.raises(ValueError, match="calibration: shapes"):
        other.restore({**state, "sums": state["sums"][:1]})
    with pytest.raises(ValueError, match="not positive"):
        CalibrationSettings(strength=0)


def simulate(curve: DelayCurve, median_ms: float, hours: float, rate: float, seed: int) -> int:
    """Impressions every ten seconds for some hours, events late; returns now."""
    rng = np.random.default_rng(seed)
    start_ms = 1_000 * MS_PER_HOUR
    at_ms = start_ms + np.arange(0, int(hours * MS_PER_HOUR), 10_000)
    delays_ms = (median_ms * rng.lognormal(0, 1.0, (len(at_ms), 20))).astype(np.int64)
    happened = rng.random((len(at_ms), 20)) < rate
    arrivals_ms = at_ms[:, None] + delays_ms
    for minute in range(int(hours * 60)):
        now_ms = start_ms + (minute + 1) * MS_PER_MINUTE
        for at in at_ms[(at_ms >= now_ms - MS_PER_MINUTE) & (at_ms < now_ms)].tolist():
            curve.add_impressions(at, 20 * 0.02)
        came = happened & (arrivals_ms >= now_ms - MS_PER_MINUTE) & (arrivals_ms < now_ms)
        curve.add_events(delays_ms[came])
        curve.refresh(now_ms)
    return start_ms


@pytest.mark.parametrize("rate", [0.02, 0.04])
def test_delays_are_learned_although_late_events_are_still_to_come(rate: float) -> None:
    curve = DelayCurve(median_ms=2 * MS_PER_MINUTE)
    median_ms = 60 * MS_PER_MINUTE
    simulate(curve, median_ms, 8, rate, 3)
    # Half of all events come within the true median, though p is off by a factor and many are still on their way.
    assert curve.arrived_share(np.array([median_ms]))[0] == pytest.approx(0.5, abs=0.08)
    assert curve.arrived_share(np.array([median_ms / np.e]))[0] == pytest.approx(0.159, abs=0.05)
    assert curve.delays_at(np.array([0.0, 1.0])).tolist()[0] == 0
    shares = np.array([0.1, 0.5, 0.9])
    np.testing.assert_allclose(curve.arrived_share(curve.delays_at(shares)), shares, atol=1e-3)


def test_a_curve_starts_from_its_prior_and_comes_back_from_state() -> None:
    curve = DelayCurve(median_ms=5 * MS_PER_MINUTE)
    assert curve.arrived_share(np.array([5 * MS_PER_MINUTE]))[0] == pytest.approx(0.5, abs=0.06)
    start_ms = simulate(curve, 20 * MS_PER_MINUTE, 1, 0.05, 4)
    other = DelayCurve(median_ms=5 * MS_PER_MINUTE)
    other.restore(curve.state())
    for one in (curve, other):
        one.add_impressions(start_ms + 2 * MS_PER_HOUR, 3.0)
        one.refresh(start_ms + 9 * MS_PER_HOUR)
    ages = np.array([1_000, 60_000, 3_600_000])
    np.testing.assert_array_equal(curve.arrived_share(ages), other.arrived_share(ages))
    with pytest.raises(ValueError, match="delay curve: events"):
        other.restore({**curve.state(), "events": np.zeros(3)})
    with pytest.raises(ValueError, match="median_ms 0"):
        DelayCurve(0)


def test_what_is_still_to_come_of_an_impression() -> None:
    assert remaining_probability(0.3, 0.0) == pytest.approx(0.3)
    assert remaining_probability(0.3, 1.0) == 0.0
    rng = np.random.default_rng(5)
    happens, early = rng.random(400_000) < 0.3, rng.random(400_000) < 0.6
    silent = ~(happens & early)
    assert remaining_probability(0.3, 0.6) == pytest.approx((happens & silent).sum() / silent.sum(), abs=0.005)
