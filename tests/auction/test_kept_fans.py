"""Which gained fans are kept: segments that differ, fans too young to tell, judgements, restarts."""

from __future__ import annotations

import numpy as np
import pytest

from auction.kept_fans import GainedFans, KeptFans, KeptFigures
from auction.predictor.features import Feature
from auction.predictor.kernels import hash_feature
from auction.predictor.predictor import Predictor
from auction.predictor.settings import PredictorSettings
from pacing.clocks import MS_PER_DAY, MS_PER_HOUR
from pacing.facts import MAX_FEATURES

START_MS = 1_800_000_000_000
LOSS = np.array([0.15, 0.30, 0.45, 0.65])
RETENTION = np.dtype(
    [("viewer_id", "<u8"), ("creator_id", "<u8"), ("days", "<u4"), ("kept", "<u4"), ("judged_at_ms", "<i8")]
)


def features_of(segments: np.ndarray) -> np.ndarray:
    """Hashes that are alike but for those of the viewers' segment: u4[n, 16]."""
    columns = [np.full(len(segments), hash_feature(int(Feature.BIAS), np.uint64(0)), np.uint32)]
    columns += [np.full(len(segments), 1_000 * j, np.uint32) for j in range(1, MAX_FEATURES)]
    for column in (Feature.AGE_BAND, Feature.CREATOR_BY_AGE_GENDER, Feature.CATEGORY_BY_AGE_GENDER):
        columns[column] = columns[column] + np.asarray(segments, np.uint32)
    return np.stack(columns, axis=1)


class Fans:
    """Fans gained through some days, a quarter of those who leave on the first day, half within a week."""

    def __init__(self, count: int, days: int, seed: int = 3) -> None:
        rng = np.random.default_rng(seed)
        self.at_ms = START_MS + np.sort(rng.integers(0, days * MS_PER_DAY, count))
        self.segments = rng.integers(0, len(LOSS), count)
        self.leaves = rng.random(count) < LOSS[self.segments]
        days_kept = np.interp(rng.random(count), [0, 0.25, 0.5, 1], [0, 1, 7, 30])
        self.left_at_ms = self.at_ms + (days_kept * MS_PER_DAY).astype(np.int64)
        self.sequences = np.arange(1, count + 1, dtype=np.uint64)

    def of(self, which: np.ndarray) -> GainedFans:
        sequences, features = self.sequences[which], features_of(self.segments[which])
        creators, campaigns = np.full(len(sequences), 77, np.uint64), np.full(len(sequences), 5, np.uint64)
        return GainedFans(sequences, sequences + np.uint64(900), creators, campaigns, self.at_ms[which], features)

    def play(self, kept: KeptFans, days: int, unfollows: bool = True, since_day: int = 0) -> int:
        """Tell what happens in these days, hour by hour, and nothing of what comes after; the instant then."""
        for hour in range(24 * since_day, 24 * days):
            low, high = START_MS + hour * MS_PER_HOUR, START_MS + (hour + 1) * MS_PER_HOUR
            kept.gained(self.of((self.at_ms >= low) & (self.at_ms < high)), high)
            gone = self.leaves & (self.left_at_ms >= low) & (self.left_at_ms < high)
            if unfollows and gone.any():
                kept.left(self.sequences[gone], self.left_at_ms[gone])
            kept.tick(high)
        return START_MS + 24 * days * MS_PER_HOUR


def learned(predictor: Predictor) -> np.ndarray:
    return predictor.kept_probability(np.full(4, 5, np.uint64), features_of(np.arange(4)))[0]


def test_segments_are_told_apart_before_any_fan_is_thirty_days_old() -> None:
    fans, predictor = Fans(24_000, 12), Predictor()
    kept = KeptFans(predictor)
    now_ms = fans.play(kept, 12)
    known = (fans.leaves & (fans.left_at_ms < now_ms)).mean()
    assert known < 0.7 * LOSS.mean(), "most who will leave have not left"
    found = learned(predictor)
    assert (np.diff(found) < -0.07).all()
    np.testing.assert_allclose(found, 1 - LOSS, atol=0.08)
    assert abs(found.mean() - (1 - LOSS).mean()) < 0.04  # by the share of those who left so far, it would be 0.12
    # A segment that nobody knows leans on all the others, and is known less well.
    unseen, unseen_sd = predictor.kept_probability(np.array([5], np.uint64), features_of(np.array([60])))
    _, seen_sd = predictor.kept_probability(np.array([5], np.uint64), features_of(np.array([1])))
    assert unseen[0] == pytest.approx((1 - LOSS).mean(), abs=0.1) and unseen_sd[0] > 1.1 * seen_sd[0]


def test_the_expected_figure_is_what_comes_true() -> None:
    fans = Fans(6_000, 12, seed=8)
    kept = KeptFans(Predictor())
    now_ms = fans.play(kept, 12)
    early = kept.figures(5, now_ms)
    assert early.gained == 6_000 and early.kept == 0
    assert early.lost == int((fans.leaves & (fans.left_at_ms < now_ms)).sum())
    stay = int((~fans.leaves).sum())
    assert early.gained - early.lost > 1.35 * stay, "most who will leave have not left"
    assert early.expected == pytest.approx(stay, rel=0.14)  # of what nobody has seen yet, the prior tells
    now_ms = fans.play(kept, 43, since_day=12)
    late = kept.figures(5, now_ms)
    assert late.kept == stay == late.gained - late.lost
    assert late.expected == late.kept
    assert kept.figures(6, now_ms) == KeptFigures()


def test_judgements_tell_the_same_as_unfollows_and_once() -> None:
    fans, predictor = Fans(12_000, 36, seed=4), Predictor()
    kept = KeptFans(predictor)
    for day in range(36):
        now_ms = fans.play(kept, day + 1, unfollows=False, since_day=day)
        for days in (1, 7, 30):
            judged_at_ms = fans.at_ms + days * MS_PER_DAY
            due = (judged_at_ms <= now_ms) & (judged_at_ms > now_ms - MS_PER_DAY)
            rows = np.zeros(int(due.sum()), RETENTION)
            rows["viewer_id"], rows["creator_id"], rows["days"] = fans.sequences[due] + 900, 77, days
            rows["kept"] = ~(fans.leaves & (fans.left_at_ms <= judged_at_ms))[due]
            rows["judged_at_ms"] = judged_at_ms[due]
            for _ in range(2):  # the bridge may hand on a page twice
                kept.judged(rows)
    kept.tick(now_ms)
    found = learned(predictor)
    assert (np.diff(found) < -0.05).all()
    np.testing.assert_allclose(found, 1 - LOSS, atol=0.08)
    known = np.zeros(len(fans.at_ms), bool)
    for days in (1, 7, 30):
        judged_at_ms = fans.at_ms + days * MS_PER_DAY
        known |= fans.leaves & (fans.left_at_ms <= judged_at_ms) & (judged_at_ms <= now_ms)
    assert kept.figures(5, now_ms).lost == int(known.sum())


def test_where_nobody_tells_who_leaves_nothing_is_learned() -> None:
    predictor = Predictor(PredictorSettings(kept_share=0.6))
    kept = KeptFans(predictor)
    now_ms = Fans(3_000, 6).play(kept, 40, unfollows=False)
    np.testing.assert_allclose(learned(predictor), 0.6, atol=1e-6)
    assert kept.figures(5, now_ms).kept == 3_000


def test_the_oldest_fans_make_room_and_stay_counted() -> None:
    fans, kept = Fans(3_000, 10), KeptFans(Predictor(), capacity=1_000)
    now_ms = fans.play(kept, 10)
    figures = kept.figures(5, now_ms)
    assert len(kept) == 1_000 and figures.gained == 3_000
    assert (~fans.leaves).sum() < figures.expected < figures.gained - figures.lost
    kept.gained(fans.of(np.arange(3_000) < 2_500)._replace(sequences=np.arange(5_000, 7_500, dtype=np.uint64)), now_ms)
    assert len(kept) == 1_000 and kept.figures(5, now_ms).gained == 5_500


def test_what_is_saved_goes_on_to_the_bit() -> None:
    fans = Fans(4_000, 12)
    whole, first = KeptFans(Predictor()), KeptFans(Predictor())
    fans.play(whole, 6)
    saved_at_ms = fans.play(first, 6)
    predictor = Predictor()
    resumed = KeptFans(predictor)
    predictor.restore(first._predictor.state())
    resumed.restore(first.state())
    resumed.tick(saved_at_ms)  # a start: fits wait for a minute after it
    now_ms = fans.play(whole, 12, since_day=6)
    fans.play(resumed, 12, since_day=6)
    assert resumed.figures(5, now_ms) == whole.figures(5, now_ms)
    np.testing.assert_array_equal(learned(predictor), learned(whole._predictor))
    for name, values in whole.state().items():
        np.testing.assert_array_equal(resumed.state()[name], values, err_msg=name)


def test_states_of_no_use_are_refused() -> None:
    kept = KeptFans(Predictor(), MS_PER_DAY // 30)
    Fans(50, 2).play(kept, 2)
    with pytest.raises(ValueError, match="kept after"):
        KeptFans(Predictor()).restore(kept.state())
    for name, values in (("fates", np.full(50, 9, np.uint8)), ("pairs", np.zeros((3, 2), np.uint64))):
        with pytest.raises(ValueError, match="kept fans"):
            KeptFans(Predictor(), MS_PER_DAY // 30).restore(kept.state() | {name: values})
    with pytest.raises(ValueError, match="fan_day_ms 5"):
        KeptFans(Predictor(), 5)
