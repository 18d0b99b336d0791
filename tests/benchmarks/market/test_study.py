from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.demo import configure, live_figures, main, market_settings, parse_seeds, print_study
from benchmarks.live import RESULT_COLUMNS, results_table
from benchmarks.market import plots
from benchmarks.market.oracle import Slots
from benchmarks.market.results import CampaignResult, MarketResult
from benchmarks.market.run import QUICK, MarketSettings
from benchmarks.market.tuning import Baselines, play_day
from benchmarks.study import SEED_COLUMNS, SeedResult, figures, seed_rows
from pacing.facts import Goal

BASELINES = Baselines(fixed_bid_micros=20_000, unpaced_multiplier_micros=900_000)


def campaign(**changes: object) -> CampaignResult:
    base = CampaignResult(
        name="one",
        campaign_id=1,
        goal=Goal.FANS,
        is_target_cost=True,
        is_tight=False,
        budget_micros=100_000_000,
        target_cost_micros=1_000_000,
        charged_micros=90_000_000,
        market_micros=90_000_000,
        over_delivered_micros=0,
        bids=5_000,
        impressions=2_000,
        events=95,
        true_events=99,
        expected_events=100.0,
        predicted_events=98.0,
        optimum_micros=100_000_000.0,
        optimum_events=125.0,
        constrained_micros=100_000_000.0,
        constrained_events=120.0,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def result(policy: str, *campaigns: CampaignResult, seed: int = 1) -> MarketResult:
    return MarketResult(seed, policy, campaigns, 10, 2_560, {}, {"502": 3}, 2.0, 1.0)


def seed_result(seed: int, engine: float, fixed: float, unpaced: float) -> SeedResult:
    by_policy = {"engine": engine, "fixed": fixed, "unpaced": unpaced}
    return SeedResult(
        seed, {name: result(name, campaign(expected_events=fans), seed=seed) for name, fans in by_policy.items()}
    )


def test_figures_of_a_study() -> None:
    results = [seed_result(1, 100, 50, 80), seed_result(2, 60, 50, 40)]
    shown = figures(results, BASELINES)
    assert shown["fans_to_fixed"] == pytest.approx(160 / 100)
    assert shown["fans_to_unpaced"] == pytest.approx(160 / 120)
    assert shown["fans_to_fixed_min"] == pytest.approx(1.2)
    assert shown["spend_to_optimum"] == pytest.approx(0.9)
    assert shown["overspend_micros_max"] == 0
    assert shown["expected_cost_to_target_max"] == pytest.approx(1.5)
    assert shown["fixed_bid_micros"] == 20_000
    rows = seed_rows(results)
    assert [row[0] for row in rows] == ["1", "2"]
    assert all(len(row) == len(SEED_COLUMNS) for row in rows)


def test_the_worst_of_any_policy_and_campaign_counts() -> None:
    over = campaign(charged_micros=100_000_007, market_micros=100_000_000)
    automatic = campaign(target_cost_micros=0, is_target_cost=False, expected_events=1.0)
    study = SeedResult(1, {"engine": result("engine", campaign(), automatic), "fixed": result("fixed", over)})
    shown = figures([study], BASELINES)
    assert shown["overspend_micros_max"] == 7
    assert shown["unexplained_micros_max"] == 7
    assert shown["expected_cost_to_target_max"] == pytest.approx(0.9)
    assert "fans_to_unpaced" not in shown


def test_an_interval_holds_the_cost_and_narrows_with_events() -> None:
    few, many = campaign(events=10), campaign(events=1_000)
    widths = []
    for c in (few, many):
        interval = c.cost_interval_micros()
        assert interval is not None and c.cost_micros is not None
        assert interval[0] < c.cost_micros < interval[1]
        widths.append((interval[1] - interval[0]) / c.cost_micros)
    assert widths[1] < widths[0] / 5
    assert campaign(events=0).cost_interval_micros() is None
    # Exact Poisson limits of ten events: 4.7954 and 18.3904.
    assert few.cost_interval_micros() == pytest.approx((90e6 / 18.3904, 90e6 / 4.7954), rel=1e-4)


def test_a_digest_leaves_out_the_time_it_took() -> None:
    first = result("engine", campaign())
    assert replace(first, elapsed_s=9.0, engine_s=8.0).digest() == first.digest()
    assert result("engine", campaign(bids=5_001)).digest() != first.digest()


def test_tables_and_flat_figures_of_one_run() -> None:
    one = result("engine", campaign(), campaign(events=0, expected_events=0.0, target_cost_micros=0))
    title, columns, rows = results_table(one)
    assert "2,560 slots" in title
    assert columns == RESULT_COLUMNS
    assert all(len(row) == len(columns) for row in rows)
    flat = live_figures(one)
    assert flat["expected_cost_to_target_max"] == pytest.approx(0.9)
    assert flat["spend_to_optimum"] == pytest.approx(0.9)


@pytest.mark.parametrize(
    "text, seed, seeds",
    [(None, 4, [4]), ("3", 1, [1, 2, 3]), ("2", 7, [7, 8]), ("9,4,6", 1, [9, 4, 6]), ("5,", 1, None)],
)
def test_seeds_as_a_count_or_a_list(text: str | None, seed: int, seeds: list[int] | None) -> None:
    if seeds is None:
        with pytest.raises(ValueError, match="--seeds"):
            parse_seeds(text, seed)
    else:
        assert parse_seeds(text, seed) == seeds


@pytest.mark.parametrize("text", ["0", "1001", "x", "3,3", "1,-2", ""])
def test_senseless_seeds_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="--seeds"):
        parse_seeds(text, 1)


def test_market_sizes() -> None:
    assert market_settings(True, 6) == replace(QUICK, hours=6)
    assert market_settings(False, 24) == MarketSettings()
    for hours in (0.0, 25.0, float("nan")):
        with pytest.raises(ValueError, match="--virtual-hours"):
            market_settings(True, hours)


@pytest.mark.parametrize(
    "flags, named",
    [
        (["--seed", "-1"], "--seed"),
        (["--seeds", "3"], "--seeds"),
        (["--speed", "-2"], "--speed"),
        (["--speed", "nan"], "--speed"),
        (["--headless", "--seeds", "0"], "--seeds"),
        (["--headless", "--speed", "0"], "--speed 0.0: not with --headless"),
        (["--headless", "--data", "kept"], "--data kept: not with --headless"),
    ],
)
def test_flags_that_make_no_sense_are_refused_before_anything_starts(flags: list[str], named: str) -> None:
    parser = argparse.ArgumentParser()
    configure(parser)
    with pytest.raises(ValueError, match=named):
        main(parser.parse_args(flags))


def test_a_quick_study_says_that_it_is_too_small(capsys: pytest.CaptureFixture[str]) -> None:
    figures = dict.fromkeys(
        ("overspend_micros_max", "expected_cost_to_target_max", "fans_to_fixed", "fans_to_unpaced", "spend_to_optimum"),
        0.5,
    )
    print_study(figures, quick=False)
    whole = capsys.readouterr().out
    print_study(figures, quick=True)
    quick = capsys.readouterr().out
    assert quick.startswith(whole)
    assert quick[len(whole) :].startswith("--quick is too small for the figures wanted")
    assert "fans_to_fixed" in whole and "too small" not in whole


def test_a_data_folder_in_use_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").write_bytes(b"x")
    parser = argparse.ArgumentParser()
    configure(parser)
    with pytest.raises(ValueError, match="--data"):
        main(parser.parse_args(["--data", str(tmp_path)]))


def _slots(n: int) -> Slots:
    rng = np.random.default_rng(3)
    values = rng.lognormal(-4, 0.5, (n, 2)).astype(np.float32)
    return Slots(values, np.full(n, 20_000), np.arange(n), rng.permutation(n), np.arange(2), np.array([True, True]))


def test_a_played_day_keeps_to_its_budgets() -> None:
    slots = _slots(3_000)
    budgets = np.array([5_000_000.0, 20_000_000.0])
    alone = play_day(slots, budgets, np.zeros(2), base_micros=25_000.0)
    # Both bid alike, so a sold slot costs the other's bid while both have money, and 20,000 after.
    cheapest = budgets / 20_000 * slots.values.mean()
    assert (alone > 0).all()
    assert (alone <= cheapest * 1.15).all()
    assert play_day(slots, budgets, np.zeros(2), base_micros=19_000.0).sum() == 0
    assert play_day(slots, budgets, np.full(2, 1.3e6)).sum() > alone.sum()


def test_pictures_are_drawn(tmp_path: Path) -> None:
    results = [result("engine", campaign(), campaign(name="two", target_cost_micros=0), seed=s) for s in (1, 2)]
    made = [
        plots.plot_campaigns(results, tmp_path),
        plots.plot_policies({"engine": results, "fixed": results}, tmp_path),
    ]
    assert [path.name for path in made] == ["campaigns.png", "policies.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in made)
