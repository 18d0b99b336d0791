"""Which gained fans rise to a high tier: segments alike but for that, words that come early, twice or too late."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from auction.config import ServeConfig
from auction.kept_fans import KeptFans
from auction.learning import Learner
from auction.predictor.predictor import Predictor
from auction.predictor.settings import PredictorSettings
from auction.rising_fans import HEARING_MS, HIGH_TIERS
from auction.services import build_services
from fanbridge.events import FAN_CHANGE, Tier
from pacing.clocks import MS_PER_DAY, MS_PER_HOUR, MS_PER_MINUTE
from pacing.ledger.owners import Positions
from tests.auction.test_kept_fans import START_MS, Fans, features_of

RISES = np.array([0.02, 0.06, 0.14, 0.30])


def tiers_of(fans: Fans, which: np.ndarray, tier: int, at_ms: np.ndarray | int) -> np.ndarray:
    """That these fans are of a tier from these instants on: FAN_CHANGE[n]."""
    rows = np.zeros(int(which.sum()), FAN_CHANGE)
    rows["viewer_id"], rows["creator_id"] = fans.sequences[which] + np.uint64(900), 77
    rows["tier"], rows["changed_at_ms"] = tier, at_ms
    return rows


class RisingPopulation(Fans):
    """Fans alike in who stays, of whom some rise, most of them in the second and third week."""

    def __init__(self, count: int, days: int, seed: int = 5) -> None:
        super().__init__(count, days, seed)
        rng = np.random.default_rng(seed + 100)
        self.leaves = rng.random(count) < 0.3
        self.rises = rng.random(count) < RISES[self.segments]
        self.rose_at_ms = self.at_ms + (rng.gamma(4, 3.5, count).clip(0.01, 29.9) * MS_PER_DAY).astype(np.int64)

    def play_tiers(self, kept: KeptFans, days: int, since_day: int = 0) -> int:
        """`play` these days, with what a fan service tells of tiers every hour."""
        for hour in range(24 * since_day, 24 * days):
            low, high = START_MS + hour * MS_PER_HOUR, START_MS + (hour + 1) * MS_PER_HOUR
            new = (self.at_ms >= low) & (self.at_ms < high)
            kept.gained(self.of(new), high)
            kept.told_tiers(tiers_of(self, new, int(Tier.POTENTIAL), self.at_ms[new]))
            rose = self.rises & (self.rose_at_ms >= low) & (self.rose_at_ms < high)
            for _ in range(2):  # the bridge may hand on a page twice
                kept.told_tiers(
                    tiers_of(self, rose, int(Tier.IRON if hour % 2 else Tier.HIGH_VALUE), self.rose_at_ms[rose])
                )
            kept.tick(high)
        return START_MS + 24 * days * MS_PER_HOUR


def learned(predictor: Predictor) -> np.ndarray:
    """Of the fans that are gained in each segment, how many rise."""
    campaigns, features = np.full(4, 5, np.uint64), features_of(np.arange(4))
    kept, _ = predictor.kept_probability(campaigns, features)
    return predictor.predict_rise(features)[0] * predictor.rise_factors(campaigns) * kept


def test_tiers_are_those_of_the_contract() -> None:
    assert HIGH_TIERS == (Tier.HIGH_VALUE, Tier.IRON)


def test_segments_are_told_apart_while_most_who_will_rise_have_not() -> None:
    fans, predictor = RisingPopulation(12_000, 16), Predictor()
    kept = KeptFans(predictor)
    now_ms = fans.play_tiers(kept, 16)
    known = fans.rises & (fans.rose_at_ms < now_ms)
    assert known.mean() < 0.35 * RISES.mean(), "most who will rise have not risen"
    assert kept.figures(5, now_ms).risen == int(known.sum())
    found = learned(predictor)
    assert found.mean() == pytest.approx(RISES.mean(), rel=0.35)  # by those who rose so far, a third of it
    np.testing.assert_allclose(found / found.mean(), RISES / RISES.mean(), rtol=0.3, atol=0.05)


def test_who_soon_leaves_is_not_held_for_likelier_to_rise_if_kept() -> None:
    """Segments differ in who stays alone: of who does, as many rise in each."""
    fans, predictor = RisingPopulation(4_000, 14), Predictor()
    fans.leaves = Fans(4_000, 14, seed=5).leaves
    fans.rises = ~fans.leaves & (np.random.default_rng(8).random(4_000) < 0.2)
    kept = KeptFans(predictor)
    for day in range(24):
        low, high = START_MS + day * MS_PER_DAY, START_MS + (day + 1) * MS_PER_DAY
        kept.gained(fans.of((fans.at_ms >= low) & (fans.at_ms < high)), high)
        gone = fans.leaves & (fans.left_at_ms >= low) & (fans.left_at_ms < high)
        kept.left(fans.sequences[gone], fans.left_at_ms[gone])
        rose = fans.rises & (fans.rose_at_ms >= low) & (fans.rose_at_ms < high)
        kept.told_tiers(tiers_of(fans, rose, int(Tier.IRON), fans.rose_at_ms[rose]))
        kept.tick(high)
    campaigns, features = np.full(4, 5, np.uint64), features_of(np.arange(4))
    stays, _ = predictor.kept_probability(campaigns, features)
    assert stays[0] > 1.5 * stays[3]
    of_kept = predictor.predict_rise(features)[0] * predictor.rise_factors(campaigns)
    np.testing.assert_allclose(of_kept, 0.2, rtol=0.25)


def test_where_nobody_tells_tiers_nothing_is_learned() -> None:
    predictor = Predictor(PredictorSettings(rise_share=0.1))
    kept, fans = KeptFans(predictor), Fans(3_000, 6)
    fans.play(kept, 40)
    assert not kept.knows_tiers
    np.testing.assert_allclose(predictor.predict_rise(features_of(np.arange(4)))[0], 0.1, atol=1e-6)
    # The first word of a tier is one of all fans' silence, too.
    kept.told_tiers(tiers_of(fans, fans.sequences == 1, int(Tier.ACTIVE), int(fans.at_ms[0])))
    now_ms = START_MS + 40 * MS_PER_DAY
    for after_ms in (0, HEARING_MS - 1):
        kept.tick(now_ms + after_ms)
        assert not kept.knows_tiers, "more may be told at once"
    for after_ms in (HEARING_MS, HEARING_MS + MS_PER_MINUTE):
        kept.tick(now_ms + after_ms)
    assert kept.knows_tiers and (learned(predictor) < 0.02).all()


def test_a_fan_service_that_is_new_here_teaches_what_it_would_have_taught_all_along() -> None:
    """All its fans' tiers in some pages, after the fans have come, and none before."""
    fans, together, late = RisingPopulation(6_000, 20), Predictor(), Predictor()
    now_ms = fans.play_tiers(KeptFans(together), 20)
    kept = KeptFans(late)
    for day in range(20):
        low, high = START_MS + day * MS_PER_DAY, START_MS + (day + 1) * MS_PER_DAY
        kept.gained(fans.of((fans.at_ms >= low) & (fans.at_ms < high)), high)
        kept.tick(high)
    risen = fans.rises & (fans.rose_at_ms < now_ms)
    for minute in range(12):
        page = fans.sequences % np.uint64(5) == minute
        kept.told_tiers(tiers_of(fans, page & ~risen, int(Tier.ACTIVE), fans.at_ms[page & ~risen]))
        kept.told_tiers(tiers_of(fans, page & risen, int(Tier.IRON), fans.rose_at_ms[page & risen]))
        kept.tick(now_ms + minute * MS_PER_MINUTE)
    assert kept.figures(5, now_ms).risen == int(risen.sum())
    found, wanted = learned(late), learned(together)
    np.testing.assert_allclose(found, wanted, rtol=0.4)
    assert (np.diff(found) > 0.01).all() and found[3] > 5 * found[0]


@pytest.mark.parametrize(
    ("after_ms", "counts"),
    [(-2 * MS_PER_HOUR, 0), (-60_000, 1), (0, 1), (30 * MS_PER_DAY, 1), (30 * MS_PER_DAY + 1, 0)],
)
@pytest.mark.parametrize("is_early", [False, True])
def test_a_rise_counts_within_thirty_days_though_its_word_may_overtake_that_of_the_follow(
    after_ms: int, counts: int, is_early: bool
) -> None:
    fans, kept = Fans(1, 1), KeptFans(Predictor())
    told = tiers_of(fans, fans.sequences == 1, int(Tier.HIGH_VALUE), int(fans.at_ms[0]) + after_ms)
    now_ms = int(fans.at_ms[0]) + 31 * MS_PER_DAY
    steps = [lambda: kept.told_tiers(told), lambda: kept.gained(fans.of(fans.sequences == 1), now_ms)]
    for step in steps if is_early else reversed(steps):
        step()
        kept.tick(now_ms)
        kept.tick(now_ms + HEARING_MS)
    assert kept.figures(5, now_ms).risen == counts


def test_tiers_below_high_and_unknown_ones_are_no_rise() -> None:
    fans, kept = Fans(5, 1), KeptFans(Predictor())
    now_ms = fans.play(kept, 1)
    for tier in (0, int(Tier.POTENTIAL), int(Tier.ACTIVE), 9):
        kept.told_tiers(tiers_of(fans, fans.sequences > 0, tier, now_ms))
    kept.tick(now_ms)
    kept.tick(now_ms + HEARING_MS)
    assert kept.figures(5, now_ms).risen == 0 and kept.knows_tiers


def test_the_oldest_fans_make_room_and_their_rises_stay_counted() -> None:
    fans, kept = RisingPopulation(3_000, 10), KeptFans(Predictor(), capacity=1_000)
    now_ms = fans.play_tiers(kept, 10)
    before = kept.figures(5, now_ms).risen
    assert 0 < before < int((fans.rises & (fans.rose_at_ms < now_ms)).sum()), "of who was forgotten, nobody hears"
    everybody = fans.of(fans.sequences > 2_000)
    kept.gained(everybody._replace(sequences=everybody.sequences + np.uint64(10_000)), now_ms)
    assert kept.figures(5, now_ms).risen >= before


def test_what_is_saved_goes_on_to_the_bit() -> None:
    fans = RisingPopulation(2_000, 12)
    whole, first = KeptFans(Predictor()), KeptFans(Predictor())
    fans.play_tiers(whole, 8)
    saved_at_ms = fans.play_tiers(first, 8)
    predictor = Predictor()
    resumed = KeptFans(predictor)
    predictor.restore(first._predictor.state())
    resumed.restore(first.state())
    assert resumed.knows_tiers
    resumed.tick(saved_at_ms)  # a start: fits wait for a minute after it
    now_ms = fans.play_tiers(whole, 14, since_day=8)
    fans.play_tiers(resumed, 14, since_day=8)
    assert resumed.figures(5, now_ms) == whole.figures(5, now_ms)
    np.testing.assert_array_equal(learned(predictor), learned(whole._predictor))
    for name, values in whole.state().items():
        np.testing.assert_array_equal(resumed.state()[name], values, err_msg=name)


def heard(learner: Learner) -> Learner:
    """Hears of some tier, the lowest."""
    rows = np.zeros(1, FAN_CHANGE)
    rows["tier"] = Tier.POTENTIAL
    learner.kept_fans.told_tiers(rows)
    return learner


def restarted(learner: Learner, folder: Path) -> Learner:
    """What a next process makes of what this one saved."""
    learner.save(folder / "learner.npz", Positions())
    other = Learner(Predictor())
    other.load(folder / "learner.npz")
    return other


def test_hearing_goes_on_over_restarts_and_counts_no_time_between_them(tmp_path: Path) -> None:
    learner, now_ms = Learner(Predictor()), START_MS
    learner.tick(now_ms)
    learner = restarted(learner, tmp_path)
    learner.tick(now_ms + MS_PER_DAY)
    assert not learner.kept_fans.knows_tiers, "nobody told of any"
    heard(learner)
    for _ in range(5):  # none of these runs lasts for ten minutes
        now_ms += MS_PER_DAY
        assert not learner.kept_fans.knows_tiers
        for after_ms in (0, HEARING_MS // 10, HEARING_MS // 5):
            learner.tick(now_ms + after_ms)
        learner = restarted(learner, tmp_path)
    assert learner.kept_fans.knows_tiers
    learner.tick(now_ms - MS_PER_DAY)
    assert learner.kept_fans.knows_tiers, "whatever the clock says"


def test_a_clock_that_is_set_back_lengthens_hearing_by_nothing_but_what_it_repeats() -> None:
    learner = heard(Learner(Predictor()))
    for at_ms in (0, HEARING_MS // 2, -MS_PER_DAY, -MS_PER_DAY + HEARING_MS // 2 - 1):
        learner.tick(START_MS + at_ms)
        assert not learner.kept_fans.knows_tiers
    learner.tick(START_MS - MS_PER_DAY + HEARING_MS // 2)
    assert learner.kept_fans.knows_tiers


def test_a_server_that_is_started_again_goes_on_hearing(tmp_path: Path) -> None:
    config = ServeConfig(data=tmp_path, virtual_clock=START_MS)
    for run in range(2):
        services = build_services(config)
        try:
            if run == 0:
                heard(services.learner)
            assert not services.learner.kept_fans.knows_tiers
            services.scheduler.advance_to(services.clock.wall_ms() + (6 - run) * MS_PER_MINUTE)
            assert services.learner.kept_fans.knows_tiers == (run == 1)
        finally:
            services.close()
    services = build_services(config)
    try:
        assert services.learner.kept_fans.knows_tiers, "before anything is told again"
    finally:
        services.close()


@pytest.mark.parametrize(
    ("name", "values", "text"),
    [
        ("risen", np.zeros(3, bool), "rising fans: 50 instants and 3 marks of 50 fans"),
        ("hearing_left_ms", np.array(-1), "rising fans: hearing_left_ms -1"),
        ("hearing_left_ms", np.array(HEARING_MS + 1), f"rising fans: hearing_left_ms {HEARING_MS + 1}"),
        ("is_heard", np.array(False), "rising fans: hearing_left_ms 0"),
        ("prior_variances", np.zeros(16), "rising fans: a prior variance is not positive"),
        ("prior_variances", np.ones(3), "rising fans: 3 prior variances of 16 features"),
        ("told_since", np.array(-1), "rising fans: told_since -1"),
    ],
)
def test_a_state_of_other_fans_or_out_of_range_is_refused(name: str, values: np.ndarray, text: str) -> None:
    kept = KeptFans(Predictor())
    RisingPopulation(50, 2).play_tiers(kept, 2)
    with pytest.raises(ValueError, match=text):
        KeptFans(Predictor()).restore(kept.state() | {f"rising_{name}": values})


def test_a_learner_of_before_hearing_was_kept_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "learner.npz"
    learner = Learner(Predictor())
    learner.save(path, Positions())
    with np.load(path) as saved:
        arrays = {name: saved[name] for name in saved.files if "hear" not in name}
    np.savez(path, **{**arrays, "learner_version": np.array(7), "fans.rising_is_told": np.array(True)})
    with pytest.raises(ValueError, match="not a learner's state of version"):
        learner.load(path)
    assert not learner.kept_fans.knows_tiers
