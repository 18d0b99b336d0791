from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import pytest

from benchmarks import output
from benchmarks.output import add_output_arguments, make_table, print_table, progress, write_json


def test_flags_that_every_measuring_command_has() -> None:
    parser = argparse.ArgumentParser()
    add_output_arguments(parser)
    args = parser.parse_args(["--quick", "--json", "out.json"])
    assert args.quick is True
    assert args.json == Path("out.json")
    assert parser.parse_args([]).json is None


def test_a_json_file_that_cannot_be_written_is_refused_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = argparse.ArgumentParser()
    add_output_arguments(parser)
    deep = tmp_path / "deep" / "out.json"
    for path, why in ((deep, f"its folder {deep.parent} does not exist"), (tmp_path, "a folder; must name a file")):
        with pytest.raises(SystemExit) as refused:
            parser.parse_args(["--json", str(path)])
        assert refused.value.code == 2
        assert f"argument --json: '{path}': {why}" in capsys.readouterr().err
    with pytest.raises(FileNotFoundError):
        write_json(deep, {"a": 1})
    assert list(tmp_path.iterdir()) == []


def test_json_is_one_flat_object(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    figures = {"requests_per_s": 12.5, "seeds": 3, "ok": True, "note": "x", "missing": None}
    write_json(path, figures)
    assert json.loads(path.read_text()) == figures
    assert [p.name for p in path.parent.iterdir()] == ["figures.json"]


@pytest.mark.parametrize("value", [math.nan, math.inf, [1], {"a": 1}])
def test_json_refuses_what_is_not_flat_or_finite(tmp_path: Path, value: object) -> None:
    path = tmp_path / "figures.json"
    write_json(path, {"kept": 1})
    with pytest.raises(ValueError, match="p99_ms"):
        write_json(path, {"p99_ms": value})  # type: ignore[dict-item]
    assert json.loads(path.read_text()) == {"kept": 1}


def test_without_a_path_nothing_is_written() -> None:
    write_json(None, {"a": 1})


def test_table_shows_every_kind_of_cell(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("Results", ["name", "n", "share", "big", "none", "flag"], [["a", 12345, 0.123456, 98765.4, None, True]])
    shown = capsys.readouterr().out
    for cell in ("Results", "12,345", "0.1235", "98,765", "-", "yes"):
        assert cell in shown


def test_table_refuses_a_row_of_another_width() -> None:
    with pytest.raises(ValueError, match=r"rows\[1\]: 1 cells for 2 columns"):
        make_table("t", ["a", "b"], [[1, 2], [1]])


def test_progress_in_a_log_ends_with_its_last_note(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(4, "auctions") as bar:
        bar.advance(1, "first")
        bar.advance(3, "last")
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["auctions: 100 %  last"]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log gets a line at every step."""
    monkeypatch.setattr(output, "_PLAIN_INTERVAL_S", 0.0)


@pytest.mark.usefixtures("impatient")
def test_progress_in_a_log_says_each_thing_once(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(200, "auctions", even=False) as bar:
        bar.advance(199)
        bar.advance(1, "last")
        bar.advance(0)
    assert capsys.readouterr().err.splitlines() == ["auctions: 99 %", "auctions: 100 %  last"]


@pytest.mark.usefixtures("impatient")
def test_progress_goes_no_further_than_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(100, "inputs") as bar:
        bar.advance(101)
    assert capsys.readouterr().err.splitlines() == ["inputs: 100 %"]


@pytest.mark.usefixtures("impatient")
def test_time_left_is_told_where_units_take_the_same_time(capsys: pytest.CaptureFixture[str]) -> None:
    for even in (True, False):
        with progress(2, "bids", even) as bar:
            bar.advance(1)
            bar.advance(1)
        assert ("s left" in capsys.readouterr().err) is even


def test_a_bar_on_a_terminal_goes_no_further_than_its_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with progress(3, "inputs", even=False) as bar:
        bar.advance(2, "half")
        bar.advance(2)
    assert "3/3" in (shown := capsys.readouterr().err) and "4/3" not in shown


def test_progress_passes_an_error_on() -> None:
    with pytest.raises(RuntimeError, match="broken"), progress(1, "work"):
        raise RuntimeError("broken")
