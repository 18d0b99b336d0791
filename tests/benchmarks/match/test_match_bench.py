"""`fanbid bench match`, tiny: everybody finds the same, and a rival that finds something else is noticed."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest

from auction import control
from benchmarks.match import command, updates
from benchmarks.match.reference import counted_matches
from benchmarks.match.run import Contest, time_round
from benchmarks.match.workload import draw_audiences, make_viewers
from targeting.segments.store import SegmentStore


def make_contest(campaigns: int, viewers: int) -> Contest:
    store = SegmentStore()
    audience = make_viewers(viewers, store, 3, segments=60)
    return Contest(draw_audiences(campaigns, 3, segments=60), audience, store)


@pytest.mark.kernels
@pytest.mark.parametrize(("campaigns", "viewers"), [(1, 1), (130, 12)])
def test_everybody_finds_the_same(campaigns: int, viewers: int) -> None:
    contest = make_contest(campaigns, viewers)
    found = contest.check_agreement(viewers)
    counted = [counted_matches(contest.clauses_of, *viewer) for viewer in contest.facts(viewers)]
    assert contest.lists(contest.match_kindex) == counted
    assert found > 0 or campaigns == 1
    assert all(taken_ns > 0 for taken_ns in time_round(contest, 1).values())


def test_a_difference_is_noticed() -> None:
    contest = make_contest(130, 12)
    contest.index = contest.index._replace(include=np.zeros_like(contest.index.include))
    with pytest.raises(AssertionError, match="viewer"):
        contest.check_agreement(1)


def test_the_command_tells_all_its_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "QUICK_SIZES", (40, 200))
    monkeypatch.setattr(command, "QUICK_VIEWERS", 20)
    monkeypatch.setattr(command, "QUICK_UPDATES", (60, 1, 0.1))
    monkeypatch.setattr(updates, "VIEWERS", 100)
    monkeypatch.setattr(control, "CROWDED", 50)
    file = tmp_path / "figures.json"
    assert command.main(Namespace(quick=True, json=file)) == 0
    figures = json.loads(file.read_text())
    assert {
        "match_to_sets_10k",
        "match_to_kindex_10k",
        "time_100k_to_10k",
        "cached_to_all_100k_max",
        "edit_visible_s_p99",
    } < set(figures)
    assert figures["match_to_sets_10k_min"] <= figures["match_to_sets_10k"] <= figures["match_to_sets_10k_max"]
    assert "match_to_kindex_10k" in capsys.readouterr().out
