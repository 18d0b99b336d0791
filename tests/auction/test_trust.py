"""Predictions are believed as far as past days bear them out; that one broke is noticed, and only then."""

from __future__ import annotations

import numpy as np
import pytest

from auction.trust import Arrivals, Trust

PARTS = 100


def _day(rng: np.random.Generator, per_part: float, ratio: np.ndarray, delay_parts: int = 0) -> Arrivals:
    """A day of 100 parts whose events come `delay_parts` later; the running part is empty."""
    predicted = np.append(np.full(PARTS, per_part), 0.0)
    expected = np.concatenate([np.zeros(delay_parts), predicted])[: PARTS + 1]
    true = np.concatenate([np.zeros(delay_parts), predicted * np.append(ratio, 1.0)])[: PARTS + 1]
    arrived = np.where(np.arange(PARTS + 1) < PARTS + 1 - delay_parts, predicted, 0.0)
    return Arrivals(predicted, expected, rng.poisson(true).astype(float), arrived)


def _experienced() -> Trust:
    """A trust that has seen many days on which predictions were right."""
    trust, rng = Trust(), np.random.default_rng(1)
    for _ in range(100):
        trust.learn(400.0, float(rng.poisson(400)))
    return trust


def test_trust_grows_with_days_on_which_predictions_were_right_and_falls_with_others() -> None:
    rng, wrong = np.random.default_rng(2), Trust()
    for _ in range(100):
        wrong.learn(400.0, float(rng.poisson(400 * rng.gamma(1 / 0.09, 0.09))))
    assert _experienced().bias_sd < 0.06 < Trust().bias_sd < 0.24 < wrong.bias_sd < 0.36
    right = Trust()
    for _ in range(100):
        right.learn(800.0, float(rng.poisson(800)))
    assert right.bias_sd < 0.02  # far less than what counting leaves of one day: 0.035
    few = Trust()
    few.learn(3.0, 30.0)  # too few to say anything
    assert few.bias_sd == Trust().bias_sd


@pytest.mark.parametrize("per_part", [0.4, 3.0, 40.0])
def test_right_predictions_are_hardly_ever_thought_broken(per_part: float) -> None:
    trust, rng = _experienced(), np.random.default_rng(3)
    found = [trust.broke_at(_day(rng, per_part, np.ones(PARTS))) for _ in range(300)]
    assert sum(place >= 0 for place in found) <= 9


def test_a_break_is_found_where_it_was_and_corrected_after_it_alone() -> None:
    trust, rng = _experienced(), np.random.default_rng(4)
    truth = np.where(np.arange(PARTS) < 40, 1.0, 1 / 1.5)
    days = [_day(rng, 30.0, truth) for _ in range(15)]
    places = [trust.broke_at(day) for day in days]
    assert min(places) > 20 and 34 <= np.median(places) <= 42
    ratios = [trust.ratio(day, place) for day, place in zip(days, places, strict=True)]
    assert np.median([ratio.present for ratio in ratios]) == pytest.approx(1 / 1.5, rel=0.05)
    shares = [ratio.events / day.observed.sum() for ratio, day in zip(ratios, days, strict=True)]
    assert shares == pytest.approx(np.ones(15), rel=0.03)


def test_predictions_that_were_wrong_all_day_are_a_break_at_its_start() -> None:
    trust, rng = _experienced(), np.random.default_rng(5)
    day = _day(rng, 30.0, np.full(PARTS, 0.75))
    ratio = trust.ratio(day, trust.broke_at(day))
    assert ratio.present == pytest.approx(0.75, rel=0.05)
    assert ratio.events == pytest.approx(day.observed.sum(), rel=0.015)


def test_events_of_before_the_break_that_come_after_it_are_not_its() -> None:
    trust, rng = _experienced(), np.random.default_rng(6)
    day = _day(rng, 200.0, np.where(np.arange(PARTS) < 40, 1.0, 0.5), delay_parts=10)
    assert trust.ratio(day, 40).present == pytest.approx(0.5, rel=0.05)


def test_unbroken_it_is_the_gamma_posterior() -> None:
    trust = Trust(0.2)  # as much as 25 events
    day = Arrivals(*(np.array(column, float) for column in ([40, 20, 10], [30, 20, 5], [33, 27, 0], [40, 15, 0])))
    ratio = trust.ratio(day, -1)
    assert ratio.present == pytest.approx((25 + 60) / (25 + 55))
    assert ratio.events == pytest.approx(70 * ratio.present)
    assert ratio.known_events == pytest.approx(80)


def test_what_was_learned_is_kept_and_nonsense_is_refused() -> None:
    trust, other = _experienced(), Trust()
    other.restore(trust.state())
    assert other.bias_sd == trust.bias_sd
    for wrong in ([1.0], [*trust.state()[1:], float("nan")], [*trust.state()[1:], 1.0]):
        with pytest.raises(ValueError):
            other.restore(wrong)
    assert other.bias_sd == trust.bias_sd
