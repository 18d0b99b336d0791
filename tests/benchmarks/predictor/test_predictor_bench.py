"""The predictor bench: its streams, its scores, that nobody sees the future, its output."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from auction.predictor.features import VIEWER_FEATURES
from benchmarks.predictor import command, rivals
from benchmarks.predictor.run import alone_features, serve_cold
from benchmarks.predictor.scores import bias, calibration_error, cost_error, excess_log_loss, first_rows, log_loss
from benchmarks.predictor.served import serve_stream
from benchmarks.predictor.stream import FREQUENCY_CAP, Stream, draw_stream

ROWS = 10_000
needs_learners = pytest.mark.skipif(len(rivals.installed()) < 2, reason="the extra 'learners' is not installed")


@pytest.fixture(scope="module")
def stream() -> Stream:
    return draw_stream(3, ROWS)


@pytest.fixture(scope="module")
def served(stream: Stream) -> np.ndarray:
    return serve_stream(stream)


def test_a_seed_gives_one_stream(stream: Stream) -> None:
    again, other = draw_stream(3, ROWS), draw_stream(4, ROWS)
    np.testing.assert_array_equal(again.features, stream.features)
    np.testing.assert_array_equal(again.labels, stream.labels)
    assert (other.features[:100] != stream.features[:100]).any()
    assert 0.9 * ROWS < len(stream) <= ROWS
    assert (np.diff(stream.at_ms) >= 0).all() and set(stream.day.tolist()) == {0, 1, 2}


def test_what_happens_is_what_is_likely(stream: Stream) -> None:
    spread = np.sqrt((stream.truth * (1 - stream.truth)).sum())
    assert abs(stream.labels.sum() - stream.truth.sum()) < 5 * spread
    assert 0.005 < stream.truth.mean() < 0.04
    assert stream.earlier.max() == FREQUENCY_CAP - 1


def test_new_campaigns_start_within_the_stream(stream: Stream) -> None:
    campaigns = stream.campaigns
    seen = np.array([np.flatnonzero(stream.campaign == c)[0] for c in range(len(campaigns.ids))])
    assert (seen[campaigns.is_new] >= 0.2 * len(stream)).all()
    assert (np.diff(np.sort(campaigns.creator_rows[~campaigns.is_known])) > 0).all()
    before = campaigns.creator_rows[~campaigns.is_new]
    assert not np.isin(campaigns.creator_rows[~campaigns.is_known], before).any()
    assert np.isin(campaigns.creator_rows[campaigns.is_new & campaigns.is_known], before).all()


def test_alone_a_new_campaign_shares_no_hash_but_the_viewers(stream: Stream) -> None:
    alone, campaigns = alone_features(stream), stream.campaigns
    is_new = campaigns.is_new[stream.campaign]
    np.testing.assert_array_equal(alone[~is_new], stream.features[~is_new])
    np.testing.assert_array_equal(alone[:, :VIEWER_FEATURES], stream.features[:, :VIEWER_FEATURES])
    which = np.flatnonzero(campaigns.is_new)[0]
    mine, others = stream.campaign == which, stream.campaign != which
    assert not np.isin(alone[mine, VIEWER_FEATURES:], alone[others, VIEWER_FEATURES:]).any()


def test_scores_are_what_they_say() -> None:
    p, truth = np.array([0.1, 0.3, 0.2, 0.4]), np.array([0.2, 0.2, 0.2, 0.2])
    assert log_loss(p[:2], np.array([True, False])) == pytest.approx(-(np.log(0.1) + np.log(0.7)) / 2)
    assert bias(p, truth) == pytest.approx(0.25)
    assert calibration_error(p, truth, np.array([0, 0, 2, 2])) == pytest.approx(0.25)
    assert calibration_error(p, truth, np.arange(4)) == pytest.approx(0.5)
    assert excess_log_loss(truth, truth) == 0.0
    by_hand = 0.2 * np.log(0.2 / 0.1) + 0.8 * np.log(0.8 / 0.9)
    assert excess_log_loss(p[:1], truth[:1]) == pytest.approx(by_hand)
    assert first_rows(np.array([1, 0, 1, 1, 0, 0]), 3, 2).tolist() == [True, True, True, False, True, False]


def test_errors_of_cost_are_judged_by_campaign_and_by_fans_had() -> None:
    labels = np.array([1, 0, 0, 1, 0, 0, 1, 1]) == 1
    campaign = np.array([5, 5, 7, 5, 5, 7, 7, 7])
    truth = np.full(8, 0.2)
    p = np.array([0.9, 0.1, 0.9, 0.1, 0.4, 0.9, 0.9, 0.1])
    # Campaign 5 has had a fan at its next two rows (p too low by half), two at its last (too high by twice); campaign 7
    # one at its last.
    assert cost_error(p, truth, labels, campaign, (1, 2, 9)) == pytest.approx((1.0 + 0.5 + 1.0) / 3)
    assert cost_error(p, truth, labels, campaign, (1, 9)) == pytest.approx((abs(0.6 / 0.6 - 1) + 1.0) / 2)
    assert cost_error(p, truth, labels, campaign, (8, 9)) == 0.0


def test_a_cold_start_knows_nothing_of_other_campaigns(stream: Stream) -> None:
    which = int(np.flatnonzero(stream.campaigns.is_new)[0])
    mine = stream.campaign == which
    one_new = replace(stream, campaigns=replace(stream.campaigns, is_new=np.arange(len(stream.campaigns.ids)) == which))
    cold = serve_cold(one_new)
    assert (cold[~mine] == 0).all() and (cold[mine] > 0).all()
    others = replace(one_new, labels=np.where(mine, stream.labels, ~stream.labels))
    np.testing.assert_array_equal(serve_cold(others), cold)
    assert len(stream.of_campaign(which)) == mine.sum()


def test_nothing_is_predicted_from_what_comes_later(stream: Stream, served: np.ndarray) -> None:
    half = len(stream) // 2
    labels = stream.labels.copy()
    labels[half:] = ~labels[half:]
    np.testing.assert_array_equal(serve_stream(replace(stream, labels=labels))[:half], served[:half])


def test_a_served_prediction_learns_what_was_told(stream: Stream, served: np.ndarray) -> None:
    late = stream.day == 2
    never = serve_stream(replace(stream, labels=np.zeros(len(stream), np.bool_)))
    assert abs(bias(served[late], stream.truth[late])) < 0.3
    assert bias(never[late], stream.truth[late]) < -0.6


@needs_learners
def test_two_implementations_of_ftrl_agree(stream: Stream) -> None:
    some = slice(0, 2_000)
    ours = rivals.river(stream.features[some], stream.labels[some], 0.1)
    theirs = rivals.vowpal_wabbit(stream.features[some], stream.labels[some], 0.1)
    # Vowpal Wabbit's weights are a row late, and its answers have six digits.
    assert np.abs(ours - theirs)[500:].mean() < 0.02 * theirs[500:].mean()


@needs_learners
def test_without_delay_handling_impressions_are_negatives_until_their_event_comes(stream: Stream) -> None:
    delayed = rivals.vowpal_wabbit_delayed(stream, 0.1)
    assert delayed.shape == stream.labels.shape
    alpha, at_once = rivals.best_vowpal_wabbit(stream.features, stream.labels, lambda p: log_loss(p, stream.labels))
    assert alpha in rivals.ALPHAS
    assert log_loss(at_once, stream.labels) < log_loss(delayed, stream.labels) + 0.002
    never = replace(stream, delays_ms=np.full(len(stream), 10**12))
    assert bias(rivals.vowpal_wabbit_delayed(never, 0.1)[-2_000:], stream.truth[-2_000:]) < -0.6


def arguments(*flags: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.configure(parser)
    return parser.parse_args(["--quick", "--workers", "1", *flags])


def test_without_other_learners_it_says_what_is_missing_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.predictor.rivals.importlib.util.find_spec", lambda name: None)
    assert command.main(arguments("--rows", str(ROWS), "--seeds", "1", "--json", str(tmp_path / "f.json"))) == 0
    missing = [line for line in capsys.readouterr().out.splitlines() if "is not installed" in line]
    assert len(missing) == 2 and all("pip install 'fanbid[learners]'" in line for line in missing)
    figures = json.loads((tmp_path / "f.json").read_text())
    assert figures["settled.fanbid_log_loss"] > figures["settled.truth_log_loss"] > 0
    assert [name for name in figures if "vowpal" in name or "river" in name] == []


@needs_learners
def test_the_command_ends_in_figures_of_all_learners(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(arguments("--rows", str(ROWS), "--json", str(tmp_path / "f.json"))) == 0
    figures = json.loads((tmp_path / "f.json").read_text())
    for name in ("vowpal_wabbit", "river"):
        less = figures[f"settled.{name}_log_loss"] - figures["settled.fanbid_log_loss"]
        assert figures[f"settled.{name}_less_fanbid_log_loss"] == pytest.approx(less)
        assert figures[f"settled.{name}_less_fanbid_log_loss_half_width"] > 0
        assert figures[f"{name}_examples_per_s"] > 0
    assert figures["new.known_creator.pooled_excess_log_loss"] > 0
    assert "Vowpal Wabbit" in capsys.readouterr().out


def test_claims_are_judged_by_their_figures() -> None:
    held = {
        "settled.vowpal_wabbit_less_fanbid_log_loss": 1e-5,
        "delayed.fanbid_bias": -0.019,
        "delayed.calibration_error.hour": 0.05,
        "delayed.calibration_error.hour_half_width": 0.2,
        "new.known_creator.cost_error_ratio": 0.5,
        "fanbid_examples_per_s": 1.5e6,
    }
    assert list(command.claims(held).values()) == [True] * 5
    for place, changes in enumerate(
        (
            {"settled.vowpal_wabbit_less_fanbid_log_loss": -1e-9},
            {"delayed.fanbid_bias": 0.021},
            {"delayed.calibration_error.hour": 0.051},
            {"new.known_creator.cost_error_ratio": 0.501},
            {"fanbid_examples_per_s": 1.4e6},
        )
    ):
        assert [not held for held in command.claims(held | changes).values()].index(True) == place
    del held["settled.vowpal_wabbit_less_fanbid_log_loss"]
    assert len(command.claims(held)) == 4


@pytest.mark.parametrize(
    ("flag", "value"), [("--rows", "9999"), ("--seeds", "0"), ("--workers", "0"), ("--first-seed", "-1")]
)
def test_numbers_out_of_range_are_refused(flag: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"{flag} {value}: not in"):
        command.main(arguments(flag, value))
