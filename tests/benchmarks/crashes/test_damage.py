"""The damager's bench: some bytes of each file, and a ledger that hides a damage is caught."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import fanbid
from benchmarks.crashes.damaging import Damage, Outcome, damages, opener
from benchmarks.crashes.killed import LEDGER_FILES
from pacing.facts import JUDGEMENT, Verdict
from pacing.ledger import index
from pacing.ledger.log import Ledger
from tests.pacing.rows import billables


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "figures.json"
    assert fanbid.main(["bench", "damage", "--quick", "--every", "5003", "--json", str(path)]) == 0
    assert "silently wrong" in capsys.readouterr().out
    figures = json.loads(path.read_text())
    assert figures["silently_wrong"] == 0
    assert figures["damages"] == figures["refused"] + figures["harmless"] > 50
    assert min(figures["refused"], figures["log_bytes"], figures["tail_bytes"]) > 0
    assert fanbid.main(["bench", "damage", "--bits", "9"]) == fanbid.EXIT_BAD_INPUT


ODD_MICROS = 0x2345_6789_ABCD


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A ledger's files: 400 rows in the main file, one of them of an odd amount, and 20 in the write-ahead log."""
    folder = tmp_path_factory.mktemp("ledger")
    for first, count in ((0, 400), (400, 20)):
        ledger = Ledger(folder / LEDGER_FILES[0])
        rows = billables(range(first, first + count))
        rows["price_micros"][5] = ODD_MICROS + first
        ledger.append(rows)
        rows = ledger.read(first, count)
        judgements = np.zeros(count, JUDGEMENT)
        judgements["sequence"], judgements["verdict"] = rows["sequence"], Verdict.DUPLICATE
        ledger.append_judgements(ledger.last_sequence, rows, judgements)
        if first:
            left = {name: (folder / name).read_bytes() for name in LEDGER_FILES}
        ledger.close()
    return left


def test_every_place_comes_once(files: dict[str, bytes]) -> None:
    sizes = [5_000, len(files[LEDGER_FILES[1]]), len(files[LEDGER_FILES[2]])]
    every = list(damages(files, 5_000, 1, 1, 1))
    assert len(every) == len(set(every)) == 2 * sum(sizes)
    assert {damage.place for damage in every if damage.name == LEDGER_FILES[2]} == set(range(sizes[2]))
    some = list(damages(files, 5_000, 8, 100, 1))
    assert len(set(some)) == pytest.approx(9 * sum(sizes) / 100, rel=0.05)


def test_an_altered_index_is_refused_and_would_be_seen(
    files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    amount = ODD_MICROS.to_bytes(6, "big")  # as the indexes store it; the rows have it the other way round
    main_file = files[LEDGER_FILES[0]]
    places = [place for place in range(len(main_file)) if main_file.startswith(amount, place)]
    every = [Damage(LEDGER_FILES[0], place + 5, 0) for place in places]
    assert len(every) == 2
    with opener(files) as opens:
        whys = {opens.outcome(damage) for damage in every}
        assert {outcome for outcome, _ in whys} == {Outcome.REFUSED}
        assert {why.split(": ")[1] for _, why in whys} == {
            "what was told before differs from the rows",
            "the statements differ from rows and verdicts",
        }
        monkeypatch.setattr(index, "check_claims", lambda *_: True)
        monkeypatch.setattr(index, "check_charges", lambda *_: True)
        assert {opens.outcome(damage) for damage in every} == {
            (Outcome.SILENTLY_WRONG, "opens with other told before"),
            (Outcome.SILENTLY_WRONG, "opens with other statements"),
        }


def test_a_crash_is_silently_wrong(files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> bool:
        raise IndexError("list index out of range")

    with opener(files) as opens:
        monkeypatch.setattr(index, "check_claims", fail)
        outcome, why = opens.outcome(Damage(LEDGER_FILES[2], 8_000, 0))
    assert (outcome, why) == (Outcome.SILENTLY_WRONG, "IndexError: list index out of range")
