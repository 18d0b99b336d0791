"""The shading bench: its oracle against brute force, its feedback against what each kind may tell, its output."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest

from auction.landscape.kernels import Landscape, build_envelope
from benchmarks.shading import command
from benchmarks.shading.kernels import golden_batch, search_batch
from benchmarks.shading.reference import best_lognormal_surplus, lognormal_surplus, piece_of
from benchmarks.shading.run import KINDS, _draw_slots, _expected_surplus, _oracle_surplus, feedback_of
from benchmarks.shading.worlds import DISTRIBUTIONS, UNIT_MICROS, WORLDS, Oracle


@pytest.mark.parametrize("name", sorted(DISTRIBUTIONS))
def test_distributions_draw_what_they_say(name: str) -> None:
    prices = DISTRIBUTIONS[name]
    drawn = prices.draw(np.random.default_rng(1), 40_000)
    for bid in (0.3, 0.4, 0.75, 1.0, 1.6, 3.0):
        expected = float(prices.win_probs(np.array([bid]))[0])
        assert (drawn <= bid * (1 + 1e-12)).mean() == pytest.approx(expected, abs=0.012)
    assert (np.diff(prices.win_probs(np.geomspace(0.01, 1e6, 500))) >= 0).all()


@pytest.mark.parametrize("name", ["clustered", "discrete", "floors", "drift", "segments64"])
def test_nobody_does_better_than_the_oracle(name: str) -> None:
    world, rng = WORLDS[name], np.random.default_rng(2)
    slots = _draw_slots(world, 300, rng)
    best = _oracle_surplus(name, slots)
    tried = np.zeros(300)
    atoms = np.array(world.prices.atoms)
    for bid in np.concatenate((np.geomspace(0.02, 20.0, 3_000), atoms)):
        bids = np.where(slots.values_micros >= bid * slots.scale_micros, bid * slots.scale_micros, 0.0)
        tried = np.maximum(tried, _expected_surplus(world, slots, bids))
    at_floor = np.where(slots.floors_micros <= slots.values_micros, slots.floors_micros, 0)
    tried = np.maximum(tried, _expected_surplus(world, slots, at_floor))
    assert (tried <= best * (1 + 1e-5) + 1e-6).all()
    # And it is no dream either: a grid comes as close as it is fine.
    assert tried.sum() == pytest.approx(best.sum(), rel=2e-3)


def test_under_a_floor_above_the_value_there_is_nothing_to_get() -> None:
    oracle = Oracle(DISTRIBUTIONS["uniform"], floor=1.0)
    # At 1.5, less than the floor would be bid; at the floor it is (1.5 - 1.0) * 0.8 / 1.6.
    assert oracle.surplus(np.array([0.99, 1.0, 1.5])) == pytest.approx([0.0, 0.0, 0.25], abs=5e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_feedback_tells_what_its_kind_may(kind: str) -> None:
    world, rng = WORLDS["floors"], np.random.default_rng(3)
    slots = _draw_slots(world, 2_000, rng)
    bids = np.rint(slots.values_micros * rng.uniform(0.0, 1.0, 2_000)).astype(np.int64)
    bids[:50] = 0
    rows = feedback_of(kind, slots, world.leaves(), bids, rng)
    assert (rows["bid_micros"] > 0).all()
    assert len(rows) == pytest.approx(1_950 * (0.5 if kind == "missing" else 1.0), rel=0.06)
    won, told = rows["won"] == 1, rows["min_bid_to_win_micros"] > 0
    assert (rows["min_bid_to_win_micros"][won & told] <= rows["bid_micros"][won & told]).all()
    assert (rows["min_bid_to_win_micros"][~won & told] > rows["bid_micros"][~won & told]).all()
    shares = {"full": (1, 1), "missing": (1, 1), "on_win": (1, 0), "on_loss": (0, 1), "win_loss": (0, 0)}
    expected = shares.get(kind, (0.5, 0.5))
    assert (told[won].mean(), told[~won].mean()) == pytest.approx(expected, abs=0.06 if kind == "mixed" else 0)


@pytest.mark.kernels
def test_yardsticks_are_what_they_say() -> None:
    values, mu, sigma = [9_000.0, 30_000.0, 90_000.0], np.log(UNIT_MICROS), 0.6
    bids, which = np.zeros(3, np.int64), np.zeros(3, np.int32)
    golden_batch(np.array(values), which, np.array([mu]), np.array([sigma]), 30, bids)
    for value, bid in zip(values, bids.tolist(), strict=True):
        best = best_lognormal_surplus(value, mu, sigma)
        assert lognormal_surplus(value, bid, mu, sigma) == pytest.approx(best, rel=1e-5)
    edges, starts, pieces = np.array([9_000, 12_000, 40_000]), np.zeros((1, 4)), np.zeros((1, 4), np.int64)
    win_probs = np.array([[0.3, 0.7, 1.0]])
    count = build_envelope(edges, win_probs[0], starts[0], pieces[0])
    landscape = Landscape(edges, win_probs, np.array([count], np.int32), starts, pieces)
    search_batch(np.array(values), which, landscape, bids)
    expected = [piece_of(starts[0, :count].tolist(), pieces[0, :count].tolist(), value) for value in values]
    assert bids.tolist() == expected


def test_intervals_cover_as_they_say() -> None:
    rng = np.random.default_rng(4)
    drawn = rng.normal(0.7, 0.1, (2_000, 5))
    covered = [abs(mean - 0.7) <= half for mean, half in (command.interval(row) for row in drawn.tolist())]
    assert np.mean(covered) == pytest.approx(command.CONFIDENCE, abs=0.02)


def test_the_command_ends_in_figures_and_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    command.configure(parser)
    flags = "--quick --auctions 1000 --world segments64 --feedback full --feedback win_loss"
    args = parser.parse_args(
        [*flags.split(), "--workers", "1", "--json", str(tmp_path / "f.json"), "--plots", str(tmp_path)]
    )
    assert command.main(args) == 0
    figures = json.loads((tmp_path / "f.json").read_text())
    assert figures["violations"] == 0
    for kind in ("full", "win_loss"):
        assert 0.2 < figures[f"segments64.{kind}.share"] < 1.0
        assert figures[f"segments64.{kind}.half_width"] > 0
    assert figures["ns_per_bid"] > 0
    assert (tmp_path / "shading.png").stat().st_size > 1_000
    assert "segments64" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flag", "value"), [("--auctions", "10"), ("--seeds", "0"), ("--workers", "0"), ("--first-seed", "-1")]
)
def test_numbers_out_of_range_are_refused(flag: str, value: str) -> None:
    parser = argparse.ArgumentParser()
    command.configure(parser)
    with pytest.raises(ValueError, match=f"{flag} {value}: not in"):
        command.main(parser.parse_args(["--quick", flag, value]))
