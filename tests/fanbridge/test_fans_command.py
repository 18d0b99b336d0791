"""`fanbid fans` beside a store that is open: reasons, a table of transitions, churn and the campaign against it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import fanbid
from fanbridge.service.server import STORE_FILE
from fanbridge.service.store import FanStore
from pacing.facts import OutcomeKind
from tests.fanbridge.services import events
from tests.fanbridge.test_churn import CREATOR, DAY_MS, FIRST_DAY, RULES, lives

AT_MS = (FIRST_DAY + 75) * DAY_MS - 1
FLAGS = ["--day-ms", str(DAY_MS), "--at-ms", str(AT_MS)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    made = tmp_path_factory.mktemp("fans")
    store = FanStore(made / STORE_FILE, RULES)
    rows = lives(40, 75, np.random.default_rng(9))
    for day in range(75):
        store.push_events(rows[rows["occurred_at_ms"] // DAY_MS == FIRST_DAY + day], (FIRST_DAY + day) * DAY_MS + 999)
        store.review((FIRST_DAY + day) * DAY_MS + 999)
    told = [(10**6 + i, 5, 7, kind, AT_MS - 20 * DAY_MS) for i, kind in enumerate([OutcomeKind.FOLLOW] * 2)]
    store.push_events(events(*told), AT_MS)
    yield made
    store.close()


def said(capsys: pytest.CaptureFixture[str], folder: Path, *words: str) -> str:
    assert fanbid.main(["fans", *words, "--data", str(folder), *FLAGS]) == 0
    return capsys.readouterr().out


def test_reasons_transitions_and_churn(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    why = said(capsys, folder, "explain", "5", "--creator", "7").splitlines()
    assert why[0].startswith("tier   potential   Potential: follows, with 1.5 points")
    assert why[1] == (
        "stage  silent      Silent: follows, but did nothing for 20.0 days; silent takes 14 days, lost 60."
    )
    table = said(capsys, folder, "transitions", "--creator", "7", "--days", "30").splitlines()
    assert [line.split() for line in table[:3]] == [
        ["day", "(UTC)", "none>gained", "gained>silent"],
        ["1970-01-01", "1", "0"],
        ["1970-01-01", "0", "1"],
    ]
    assert table[3] == "0 gained, 0 activated, 0 retained, 1 silent, 0 lost"
    churn = said(capsys, folder, "churn", "--creator", str(CREATOR))
    assert "at most one false alarm in 365 days" in churn
    assert "fans turned silent in" in churn
    campaign = json.loads(churn[churn.index("{") : churn.rindex("}") + 1])
    assert campaign["targeting"]["any"][1] == {"segment": f"stage:lost:{CREATOR}"}
    assert "no alarm" in said(capsys, folder, "churn", "--creator", "7")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["explain", "99", "--creator", "7"], "viewer 99: nothing is known"),
        (["explain", "0", "--creator", "7"], "viewer 0: not in 1.."),
        (["transitions", "--creator", "0"], "--creator 0: not in 1.."),
        (["transitions", "--creator", "7", "--days", "0"], "--days 0: not in 1..400"),
        (["churn", "--creator", "7", "--days-between-false-alarms", "1"], "days_between_false_alarms 1: not in 2.."),
    ],
)
def test_refusals(folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str) -> None:
    assert fanbid.main(["fans", *words, "--data", str(folder), *FLAGS]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("raw", [b"", b"nonsense" * 1_000])
def test_a_file_that_no_fan_service_made(tmp_path: Path, capsys: pytest.CaptureFixture[str], raw: bytes) -> None:
    (tmp_path / STORE_FILE).write_bytes(raw)
    assert fanbid.main(["fans", "churn", "--creator", "7", "--data", str(tmp_path)]) == 2
    assert f"{tmp_path / STORE_FILE}: " in capsys.readouterr().err


def test_a_folder_whose_service_has_stopped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    FanStore(tmp_path / STORE_FILE, RULES).close()
    assert fanbid.main(["fans", "churn", "--creator", "7", "--data", str(tmp_path)]) == 0
    assert "no alarm" in capsys.readouterr().out


def test_a_folder_without_a_fan_service(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fanbid.main(["fans", "churn", "--creator", "7", "--data", str(tmp_path)]) == 2
    assert "a fan service makes it" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
