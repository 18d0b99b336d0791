"""`fanbid ledger` on the command line: what it prints, and with which exit code it ends."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest

from auction.audit import command
from pacing.facts import OutcomeKind
from tests.auction.audit.ledgers import copy_of, forge, serve_some
from tests.auction.bid.engines import Engine


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    folder = tmp_path_factory.mktemp("served")
    engine = Engine(folder)
    campaign_id = serve_some(engine, rounds=2)
    engine.close()
    return folder, campaign_id


def run(*arguments: object) -> int:
    parser = argparse.ArgumentParser(prog="fanbid ledger")
    command.configure(parser)
    return command.main(parser.parse_args([str(argument) for argument in arguments]))


def test_a_long_check_tells_how_far_it_is(
    served: tuple[Path, int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "QUIET_S", 60.0)
    assert run("verify", "--data", served[0]) == 0
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(command, "QUIET_S", 0.0)
    assert run("verify", "--data", served[0]) == 0
    shown = capsys.readouterr()
    labels = [line.partition(":")[0] for line in shown.err.splitlines()]
    assert list(dict.fromkeys(labels)) == ["hash chain of the rows", "hash chain of the verdicts", "charges and bids"]
    assert shown.out.splitlines()[-1].startswith("no difference; checked in ")


def test_a_difference_is_told_with_row_field_record_and_derivation(
    served: tuple[Path, int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copy_of(served[0], tmp_path / "copy")
    places: list[int] = []

    def change(rows: np.ndarray, judgements: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        places.append(int(np.flatnonzero(rows["kind"] == OutcomeKind.BILLABLE)[6]))
        rows["price_micros"][places[0]] = 20_001
        return rows, judgements

    forge(folder, change)
    assert run("verify", "--data", folder) == 1
    assert capsys.readouterr().out.splitlines() == [
        f"first difference: row {places[0] + 1}, price_micros",
        "  recorded: 20001",
        "  derived:  at most the bid, 20000",
    ]


def test_a_table_pages_and_adds_up(served: tuple[Path, int], capsys: pytest.CaptureFixture[str]) -> None:
    folder, campaign_id = served
    lines, after = [], 0
    while True:
        assert run("show", campaign_id, "--data", folder, "--limit", 20, "--after", after) == 0
        head, *page, last = capsys.readouterr().out.splitlines()
        assert head.split()[0] == "row"
        lines += [line for line in page if not line.startswith("more")]
        if not page[-1].startswith("more: --after "):
            break
        after = int(page[-1].rpartition(" ")[2])
    assert len(lines) > 20 and last.startswith("charged ") and " at row " in last
    assert len({line.split()[0] for line in lines}) == len(lines)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [((0,), "CAMPAIGN 0"), ((1, "--limit", -1), "--limit -1"), ((1, "--after", -1), "--after -1")],
)
def test_what_is_out_of_range_is_refused(served: tuple[Path, int], arguments: tuple[object, ...], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        run("show", *arguments, "--data", served[0])


def test_a_damaged_ledger_is_said_so(
    served: tuple[Path, int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copy_of(served[0], tmp_path / "copy")
    (folder / "ledger.anchor").write_bytes(b"x" * 8192)
    assert run("show", 1, "--data", folder) == 1
    assert "no readable mark" in capsys.readouterr().err
    assert run("verify", "--data", folder) == 1
    assert capsys.readouterr().out.startswith("first difference: row 0, file")


@pytest.mark.parametrize("shape", [(), ("--csv",), ("--json",)])
def test_a_campaign_that_nobody_knows_is_refused(
    served: tuple[Path, int], capsys: pytest.CaptureFixture[str], shape: tuple[str, ...]
) -> None:
    folder, campaign_id = served
    with pytest.raises(ValueError, match=rf"CAMPAIGN {campaign_id + 999}: nothing is known of it in {folder}"):
        run("show", campaign_id + 999, "--data", folder, *shape)
    assert capsys.readouterr().out == ""


def test_a_campaign_without_charges_has_an_empty_statement(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    engine = Engine(tmp_path)
    campaign_id = engine.create().campaign_id
    engine.close()
    assert run("show", campaign_id, "--data", tmp_path) == 0
    head, last = capsys.readouterr().out.splitlines()
    assert head.split()[0] == "row" and last.startswith("charged 0.00 in all")
    (tmp_path / "campaigns.sqlite").unlink()
    with pytest.raises(ValueError, match="nothing is known of it"):
        run("show", campaign_id, "--data", tmp_path)
