"""Past days: what is kept of them, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pacing.control.grid import CURVE_BINS, Z_LOW, Z_STEP
from pacing.control.history import MarketHistory
from pacing.control.outlook import Outlook
from pacing.control.prior import MarketPrior
from pacing.control.state import LEVEL, PRICE, TRAFFIC
from tests.pacing.control.market import dear_mornings, diurnal, draw_day, history_of


def _history(days: int = 3) -> MarketHistory:
    return history_of([draw_day(i, auctions=12_000, traffic=diurnal, price_at=dear_mornings) for i in range(days)])


def test_a_saved_history_comes_back(tmp_path: Path) -> None:
    history = _history()
    history.save(tmp_path / "history.npz")
    again = MarketHistory.load(tmp_path / "history.npz")
    assert (again.bucket == history.bucket).all()
    assert again.probability == pytest.approx(history.probability, rel=1e-6)
    assert again.prices_micros == pytest.approx(history.prices_micros, rel=1e-6)
    assert (again.buckets, again.days) == (48, 3)


def test_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(ValueError, match="has no bucket"):
        MarketHistory.load(tmp_path / "other.npz")


@pytest.mark.parametrize(
    ("column", "value", "match"),
    [
        ("bucket", 48, r"bucket.*0\.\.47"),
        ("day", 3, r"day.*0\.\.2"),
        ("probability", 0.0, "probability"),
        ("probability", np.nan, "probability"),
        ("prices_micros", -1.0, "prices_micros"),
        ("told_micros", np.inf, "told_micros"),
    ],
)
def test_values_out_of_range_are_named(column: str, value: float, match: str) -> None:
    history = _history()
    bad = getattr(history, column).copy()
    bad[0] = value
    with pytest.raises(ValueError, match=match):
        replace(history, **{column: bad})


def test_columns_of_other_lengths_are_named() -> None:
    history = _history()
    with pytest.raises(ValueError, match="series"):
        replace(history, series=history.series[:-1])
    with pytest.raises(ValueError, match="midnight_offset_ms -1"):
        replace(history, midnight_offset_ms=-1)
    with pytest.raises(ValueError, match="has no rows"):
        MarketPrior.from_history(
            replace(history, **{n: getattr(history, n)[:0] for n in
                                ("day", "bucket", "group", "series", "probability", "prices_micros", "told_micros")})
        )  # fmt: skip


def test_the_prior_finds_the_time_of_day() -> None:
    prior = MarketPrior.from_history(_history())
    centre = (np.arange(48) + 0.5) / 48
    traffic = np.exp(prior.mean_log[TRAFFIC, 0])
    assert np.corrcoef(traffic, diurnal(centre))[0, 1] > 0.97
    assert np.corrcoef(prior.mean_log[PRICE, 0], np.log(dear_mornings(centre)))[0, 1] > 0.95
    assert np.exp(prior.mean_log[LEVEL, 0]) == pytest.approx(0.02 * np.exp(0.125), rel=0.05)


def test_the_prior_prices_what_a_multiplier_buys() -> None:
    """Value and cost at a multiplier, summed over the day, are those of the past days themselves."""
    history = _history()
    prior = MarketPrior.from_history(history)
    alpha = 6e5
    bucket = np.arange(48)
    level, log_price = prior.mean_log[LEVEL, 0], prior.mean_log[PRICE, 0]
    bins = (np.log(alpha) + level - log_price - Z_LOW) / Z_STEP
    curves = [
        np.array([np.interp(bins[t], np.arange(CURVE_BINS), c[0, t]) for t in bucket])
        for c in (prior.value_curve, prior.cost_curve)
    ]
    impressions = history.impressions.mean(0)
    won = alpha * history.probability > history.prices_micros[:, 0]
    assert (impressions * np.exp(level) * curves[0]).sum() == pytest.approx(
        history.probability[won].sum() / 3, rel=0.02
    )
    assert (impressions * np.exp(log_price) * curves[1]).sum() == pytest.approx(
        history.prices_micros[won, 0].sum() / 3, rel=0.02
    )


def test_groups_that_days_agree_on_keep_their_level() -> None:
    history = _history()
    other = replace(
        history, group=np.full(len(history.day), 9), series=np.ones(len(history.day), np.int64),
        probability=history.probability * 3,
    )  # fmt: skip
    columns = ("day", "bucket", "group", "series", "probability", "prices_micros", "told_micros")
    both = replace(history, **{n: np.concatenate([getattr(history, n), getattr(other, n)]) for n in columns})
    prior = MarketPrior.from_history(both)
    assert set(prior.group_of) == {3, 9}
    gap = prior.mean_log[LEVEL, prior.group_of[9]] - prior.mean_log[LEVEL, prior.group_of[3]]
    assert gap == pytest.approx(np.log(3), rel=0.05)


def test_what_was_observed_is_expected_to_last_as_long_as_past_days_say() -> None:
    """Past days whose level is drawn anew every 12 buckets: the outlook learns blocks, not a fixed half-life."""
    rng = np.random.default_rng(3)
    days, per_bucket = 30, 40
    level = np.repeat(0.5 * rng.standard_normal((days, 4)), 12, axis=1)
    day, bucket = (a.ravel() for a in np.meshgrid(np.arange(days), np.arange(48), indexing="ij"))
    day, bucket = np.repeat(day, per_bucket), np.repeat(bucket, per_bucket)
    rows = len(day)
    history = MarketHistory(
        day=day, bucket=bucket, group=np.zeros(rows, np.int64), series=np.zeros(rows, np.int64),
        probability=0.01 * np.exp(level[day, bucket] + 0.2 * rng.standard_normal(rows)),
        prices_micros=np.full((rows, 1), 1e4) * np.exp(0.5 * rng.standard_normal((rows, 1))),
        exposure=np.ones(1), impressions=np.full((days, 48), 1e4),
    )  # fmt: skip
    outlook = Outlook(MarketPrior.from_history(history))
    deviation = np.zeros((1, 3, 48))
    deviation[0, LEVEL, :6] = 0.8
    unseen = np.full((1, 3), np.inf)
    mean, covariance = outlook.expect(0, 6, deviation, 6, np.zeros((1, 3)), unseen)
    assert mean[0, LEVEL, 6:12] == pytest.approx(0.8, abs=0.1)  # the rest of the block
    assert np.abs(mean[0, LEVEL, 14:]).max() < 0.35  # other blocks: next to nothing
    assert covariance[LEVEL, 8, 8] < 0.1 * covariance[LEVEL, 30, 30]


def test_nothing_observed_is_the_prior_itself() -> None:
    prior = MarketPrior.unknown(12)
    outlook = Outlook(prior)
    unseen = np.full((2, 3), np.inf)
    mean, covariance = outlook.expect(5, 0, np.ones((2, 3, 12)), 5, np.zeros((2, 3)), unseen)
    assert not mean.any()
    assert covariance == pytest.approx(prior.covariance)


def _three_days(log_price: np.ndarray) -> MarketHistory:
    """Three days of 48 buckets, 200 rows each, at mean log prices f8[3, 48]."""
    rng = np.random.default_rng(5)
    day, bucket = (np.repeat(a.ravel(), 200) for a in np.meshgrid(np.arange(3), np.arange(48), indexing="ij"))
    rows = len(day)
    prices = np.exp(9 + log_price[day, bucket] + 0.5 * rng.standard_normal(rows))
    return MarketHistory(
        day=day, bucket=bucket, group=np.zeros(rows, np.int64), series=np.zeros(rows, np.int64),
        probability=0.01 * np.exp(0.3 * rng.standard_normal(rows)), prices_micros=prices[:, None],
        exposure=np.ones(1), impressions=np.full((3, 48), 1e4),
    )  # fmt: skip


def test_three_days_are_enough_to_tell_what_lasts_from_what_passes() -> None:
    """Prices drawn anew every half hour say nothing of the next; a day's own level says something of all the day."""
    rng = np.random.default_rng(7)
    passing = MarketPrior.from_history(_three_days(0.4 * rng.standard_normal((3, 48)))).covariance[PRICE]
    lasting = MarketPrior.from_history(_three_days(np.broadcast_to([[-0.4], [0.0], [0.4]], (3, 48)))).covariance[PRICE]
    assert passing[10, 12] < 0.25 * passing[10, 10]
    assert lasting[10, 40] > 0.9 * lasting[10, 10]
    assert np.linalg.eigvalsh(passing).min() >= 0 and np.linalg.eigvalsh(lasting).min() > -1e-9


def test_chance_ups_and_downs_of_three_days_are_no_time_of_day() -> None:
    rng = np.random.default_rng(8)
    mean = MarketPrior.from_history(_three_days(0.4 * rng.standard_normal((3, 48)))).mean_log[PRICE, 0]
    assert mean.std() < 0.05


def test_a_shift_stays_and_what_was_before_it_tells_nothing() -> None:
    """A price that left what past days span is expected to stay; unshifted, it would come back."""
    outlook = Outlook(MarketPrior.from_history(_three_days(np.zeros((3, 48)))))
    deviation, raw, variance = np.zeros((1, 3, 48)), np.zeros((1, 3)), np.full((1, 3), np.inf)
    raw[0, PRICE], variance[0, PRICE] = 0.5, 0.001
    usual, _ = outlook.expect(0, 20, deviation, 20, raw, variance)
    shifted, _ = outlook.expect(0, 20, deviation, 20, raw, variance, shifted=1 << PRICE)
    assert shifted[0, PRICE, 20:] == pytest.approx(0.5, abs=0.05)
    assert usual[0, PRICE, 40] < 0.4
    deviation[0, PRICE, 20] = 0.5
    later, _ = outlook.expect(0, 21, deviation, 21, np.zeros((1, 3)), np.full((1, 3), np.inf), 1 << PRICE, 1)
    assert later[0, PRICE, 21:] == pytest.approx(0.5, abs=0.05)
