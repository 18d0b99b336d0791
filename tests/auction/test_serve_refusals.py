"""`fanbid serve` that cannot start: one line that names the flag, what is wrong and what helps; exit code 2."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import fanbid
from auction.array_files import load_arrays
from auction.config import BadSetting, ServeConfig
from auction.predictor.predictor import Predictor
from auction.services import build_services
from fanbridge.delivery import DELIVERY_FILE

Refused = Callable[..., str]


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Refused:
    """Starts a server that must not start; answers the one line that it prints."""
    monkeypatch.setattr(fanbid, "_stop_on_sigterm", lambda: None)

    def serve(*flags: str) -> str:
        assert fanbid.main(["serve", "--listen", "127.0.0.1:0", "--no-rest", "--no-bridge", *flags]) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1
        assert lines[0].startswith("fanbid serve: ")
        return lines[0]

    return serve


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder that a server closed in order."""
    folder = tmp_path / "served"
    build_services(ServeConfig(data=folder)).close()
    return folder


def test_a_folder_that_another_server_has_open(folder: Path, refused: Refused) -> None:
    services = build_services(ServeConfig(data=folder))
    try:
        line = refused("--data", str(folder))
    finally:
        services.close()
    assert f"--data {folder}: another server has this folder open; stop that one" in line


@pytest.mark.parametrize("name", ["ledger.sqlite", "ledger.anchor", "campaigns.sqlite"])
def test_a_damaged_file_is_named_with_what_helps(name: str, folder: Path, refused: Refused) -> None:
    for leftover in folder.glob(f"{name}-*"):
        leftover.unlink()
    (folder / name).write_bytes(b"no such file format " * 1_000)
    line = refused("--data", str(folder))
    assert f"--data {folder}: " in line
    assert name in line
    assert "put back a copy of the whole folder" in line


def test_a_data_folder_that_is_a_file_or_below_one(tmp_path: Path, refused: Refused) -> None:
    path = tmp_path / "notes.md"
    path.write_text("notes")
    for data in (path, path / "deeper"):
        assert f"--data {data}: " in (line := refused("--data", str(data)))
        assert "must be a folder" in line


def test_a_redis_where_nobody_answers(tmp_path: Path, refused: Refused) -> None:
    line = refused("--data", str(tmp_path / "new"), "--redis", "redis://name:secret@127.0.0.1:1")
    assert "--redis: redis redis://127.0.0.1:1: " in line and "secret" not in line


@pytest.mark.parametrize("flag", ["--history", "--model"])
@pytest.mark.parametrize("body", [b"# notes\n", b"", b"PK\x05\x06" + bytes(18)])
def test_a_file_that_is_no_archive_of_arrays(flag: str, body: bytes, tmp_path: Path, refused: Refused) -> None:
    path = tmp_path / "notes.npz"
    path.write_bytes(body)
    line = refused(flag, str(path))
    kind = "a history file of fanbid" if flag == "--history" else "a predictor state of fanbid"
    assert f"{flag} {path}: not {kind}" in line
    assert "pickle" not in line


def test_an_archive_that_is_cut_or_of_other_arrays(tmp_path: Path) -> None:
    path = tmp_path / "arrays.npz"
    np.savez(path, other=np.arange(1_000))
    load = Predictor().load
    with pytest.raises(BadSetting, match=r"--model .*: not a predictor state of fanbid; has no version"):
        load_arrays("--model", path, "a predictor state of fanbid", load)
    whole = path.read_bytes()
    path.write_bytes(whole[:200] + b"x" * 200 + whole[400:])
    with pytest.raises(BadSetting, match=r"--pack .*: not numbers; "):
        load_arrays("--pack", path, "numbers", lambda path: np.load(path)["other"])


def test_a_misspelt_variable_is_told_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fanbid, "_stop_on_sigterm", lambda: None)
    monkeypatch.setenv("FANBID_WROKERS", "8")
    assert fanbid.main(["serve", "--history", str(tmp_path / "none")]) == 2
    assert "warning: FANBID_WROKERS: no setting of this name, not read; FANBID_WORKERS?" in capsys.readouterr().err


def test_a_delivery_state_that_is_none_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fanbid, "_stop_on_sigterm", lambda: None)
    (folder / DELIVERY_FILE).write_bytes(b"no database " * 1_000)
    flags = ["--listen", "127.0.0.1:0", "--no-rest", "--fan-service", "127.0.0.1:9"]
    for words in (["serve", *flags], ["outbox", "list"]):
        assert fanbid.main([*words, "--data", str(folder)]) == 2
        told = capsys.readouterr().err.splitlines()
        assert told == [f"fanbid {words[0]}: delivery state {folder / DELIVERY_FILE}: file is not a database"]
    build_services(ServeConfig(data=folder)).close()  # the refused start gave the ledger up
