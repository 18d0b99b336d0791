"""The loop bench: loyalty and rises that the market has, arms that differ by one thing alone, figures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import fanbid
from benchmarks.loop.command import EXIT_NOT_HELD
from benchmarks.loop.run import FAN_DAY_MS, Arm, LoopMarket, LoopSettings, run_arm
from benchmarks.loop.studies import LOSSES, TIERS
from benchmarks.loop.world import LoyalBehaviour, RisingBehaviour
from benchmarks.market.run import MarketSettings
from benchmarks.market.world import WorldSettings, make_world
from pacing.facts import Goal

TINY = LoopSettings(
    days=1,
    budget_share=8.0,
    market=MarketSettings(slots_per_day=8_000, viewers_per_request=256, world=WorldSettings(viewers=1_500)),
)


def test_segments_differ_in_how_long_fans_stay_and_not_as_they_do_in_following() -> None:
    world = make_world(4, WorldSettings(viewers=6_000))
    behaviour = LoyalBehaviour(world)
    viewers = np.arange(6_000)
    kept = behaviour.kept_probability(viewers, np.full(6_000, 2))
    assert 0.4 < kept.mean() < 0.75
    groups = world.viewers.age_bands * 4 + world.viewers.genders
    means = [kept[groups == group].mean() for group in np.unique(groups) if (groups == group).sum() > 100]
    assert max(means) - min(means) > 0.2
    assert abs(np.corrcoef(kept, world.affinity[:, 2])[0, 1]) < 0.6
    np.testing.assert_array_equal(kept, LoyalBehaviour(world).kept_probability(viewers, np.full(6_000, 2)))


def test_arms_differ_by_what_is_told_and_by_nothing_else() -> None:
    market = LoopMarket(3, TINY)
    assert {campaign.goal for campaign in market.campaigns} == {Goal.KEPT_FANS}
    days: list[int] = []
    on, off = run_arm(market, LOSSES.on, tick=lambda: days.append(1)), run_arm(market, LOSSES.off)
    assert len(days) == TINY.days
    assert on.lost_told > 0 and off.lost_told == 0
    assert on.overspend_micros == off.overspend_micros == 0
    assert on.spend_micros.sum() > 0 and off.expected_kept.sum() > 0
    assert (on.expected_kept < on.fans).all() and (off.kept <= off.fans * 2).all()
    assert on.expected_high.sum() == on.high.sum() == on.risen_told == 0, "no tiers in this study"


def test_of_those_who_stay_some_rise_by_odds_of_their_own_whoever_buys_them() -> None:
    world = make_world(4, WorldSettings(viewers=6_000))
    behaviour, viewers = RisingBehaviour(world), np.arange(6_000)
    creators = np.full(6_000, 2)
    kept, high = behaviour.kept_probability(viewers, creators), behaviour.high_probability(viewers, creators)
    np.testing.assert_array_equal(kept, LoyalBehaviour(world).kept_probability(viewers, creators))
    assert 0.05 < high.mean() < 0.25 and abs(np.corrcoef(kept, high)[0, 1]) < 0.3
    groups = world.viewers.age_bands * 4 + world.viewers.genders
    means = [high[groups == group].mean() for group in np.unique(groups) if (groups == group).sum() > 100]
    assert max(means) > 2 * min(means), "a thing to learn"
    delays = behaviour.rise_delays_ms(viewers, creators, FAN_DAY_MS)
    risen = delays >= 0
    assert risen.mean() == pytest.approx(high.mean(), abs=0.02)
    assert high[risen].mean() > 1.3 * high[~risen].mean()
    assert 10 * FAN_DAY_MS < delays[risen].mean() < 18 * FAN_DAY_MS and delays.max() < 30 * FAN_DAY_MS
    np.testing.assert_array_equal(delays, RisingBehaviour(world).rise_delays_ms(viewers, creators, FAN_DAY_MS))


def test_tiers_are_told_to_both_arms_and_asked_for_by_one() -> None:
    market = LoopMarket(3, replace(TINY, with_tiers=True))
    on, off = run_arm(market, TIERS.on), run_arm(market, TIERS.off)
    assert min(on.risen_told, off.risen_told) > 0 and min(on.lost_told, off.lost_told) > 0
    assert on.overspend_micros == off.overspend_micros == 0
    assert (on.expected_high < on.expected_kept).all() and 0 < on.high.sum() < on.kept.sum()
    assert on.expected_kept.tolist() != off.expected_kept.tolist(), "bids follow"


def arm(kept: float, told: int = 0, overspend: int = 0, high: float = 0.0) -> Arm:
    of_both = np.full(2, 1e6), np.full(2, 10.0), np.array([5.0, kept]), np.full(2, 6.0)
    return Arm(*of_both, told, overspend, np.array([1.0, high]), np.full(2, 1.0), 2 * told)


def test_figures_hold_each_market_against_itself() -> None:
    found = LOSSES.figures([(arm(7.0, 9), arm(5.0)), (arm(6.0, 4), arm(5.0))])
    assert found["kept_fans_per_yuan_gain"] == pytest.approx((0.2 + 0.1) / 2)
    low, high = found["kept_fans_per_yuan_gain_low"], found["kept_fans_per_yuan_gain_high"]
    assert isinstance(low, float) and isinstance(high, float)
    assert low < 0 < high  # two markets prove nothing
    assert found["first_day_gain"] == 0.0 and found["last_day_gain"] == pytest.approx(0.3)
    assert (found["losses_told_on"], found["losses_told_off"]) == (13, 0)
    assert found["spend_on_to_off"] == 1.0
    assert not [name for name in found if "high_" in name or "rises" in name]


def test_a_fan_of_a_high_tier_counts_for_its_worth_in_both_arms() -> None:
    found = TIERS.figures([(arm(5.0, 9, high=3.0), arm(5.0, high=1.0)), (arm(4.0, 1, high=2.0), arm(5.0, high=1.0))])
    # Worth 5: kept and four times those of a high tier.
    gains = ((10 + 4 * 4) / (10 + 4 * 2) - 1, (9 + 4 * 3) / (10 + 4 * 2) - 1)
    assert found["fans_worth_per_yuan_gain"] == pytest.approx(sum(gains) / 2)
    assert found["fans_worth_drawn_per_yuan_gain"] == 0.0
    assert found["high_fans_per_yuan_gain"] == pytest.approx((1.0 + 0.5) / 2)
    assert found["kept_fans_per_yuan_gain"] == pytest.approx((0.0 - 0.1) / 2)
    assert found["high_share_off"] == pytest.approx(0.2) and found["high_tier_worth"] == 5.0
    assert (found["rises_told_on"], found["rises_told_off"]) == (20, 0)


def test_the_command_ends_with_figures_and_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.loop.command._one", lambda job: (job[0], (arm(6.0 + job[0], 3), arm(5.0))))
    path = tmp_path / "loop.json"
    flags = ["--workers", "1", "--seeds", "20", "--json", str(path), "--plots", str(tmp_path)]
    assert fanbid.main(["bench", "loop", *flags]) == 0
    assert json.loads(path.read_text())["kept_fans_per_yuan_gain_low"] > 0
    assert (tmp_path / "loop.png").stat().st_size > 5_000
    monkeypatch.setattr("benchmarks.loop.command._one", lambda job: (job[0], (arm(5.0, 3, high=job[0]), arm(5.0))))
    assert fanbid.main(["bench", "loop", "--tiers", *flags]) == 0
    assert json.loads(path.read_text())["fans_worth_per_yuan_gain_low"] > 0
    monkeypatch.setattr("benchmarks.loop.command._one", lambda job: (job[0], (arm(4.0), arm(5.0))))
    assert fanbid.main(["bench", "loop", "--workers", "1", "--seeds", "20"]) == EXIT_NOT_HELD
    monkeypatch.setattr("benchmarks.loop.command._one", lambda job: (job[0], (arm(6.0, overspend=1), arm(5.0))))
    assert fanbid.main(["bench", "loop", "--workers", "1", "--quick"]) == EXIT_NOT_HELD
    assert fanbid.main(["bench", "loop", "--seeds", "0"]) == fanbid.EXIT_BAD_INPUT
