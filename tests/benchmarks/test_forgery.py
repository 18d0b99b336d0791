"""The liar's bench: nothing that it sends moves money; a notice that is true does, so that it would see if one did."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import fanbid
from benchmarks.forgery import attacks, make_world
from pacing.facts import OutcomeKind, RowStatus


def test_no_lie_is_believed_and_a_true_notice_shows(tmp_path: Path) -> None:
    with make_world() as world:
        before = world.money()
        for attack in attacks(world, np.random.default_rng(5)):
            assert set(world.report(attack.make(200)).tolist()) == {attack.expected}, attack.name
        assert world.money() == before
        kinds, prices = np.full(1, OutcomeKind.CLICK), np.zeros(1, np.int64)
        assert world.report((kinds, world.billed[:1], prices)).tolist() == [RowStatus.ACCEPTED]
        assert world.money() != before


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "figures.json"
    assert fanbid.main(["bench", "forgery", "--notices", "500", "--json", str(path)]) == 0
    assert "moved: 0 micros" in capsys.readouterr().out
    figures = json.loads(path.read_text())
    assert figures == {"notices": 500, "moved_micros": 0, "answered_otherwise": 0}
    assert fanbid.main(["bench", "forgery", "--notices", "0"]) == fanbid.EXIT_BAD_INPUT
