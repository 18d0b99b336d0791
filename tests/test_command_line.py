"""`fanbid`: help without anything installed, exit codes, clean refusals, and the kernel cache's key."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import fanbid
from tests.sources import ROOT


def run(*arguments: str, isolated: bool = False) -> subprocess.CompletedProcess[str]:
    flags = ["-I", "-S"] if isolated else []
    command = [sys.executable, *flags, str(ROOT / "fanbid.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A subcommand `act` whose module does what the test gives it."""
    module = ModuleType("act_command")
    module.configure = lambda parser: parser.add_argument("--count", type=int)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "act_command", module)
    monkeypatch.setitem(fanbid.COMMANDS, "act", fanbid.Command("act_command", "acts", "Acts."))
    monkeypatch.setattr(fanbid, "_stop_on_sigterm", lambda: None)
    return module


def test_help_needs_nothing_installed_and_names_every_command() -> None:
    done = run("--help", isolated=True)
    assert done.returncode == 0, done.stderr
    listed = [name for name, command in fanbid.COMMANDS.items() if command.summary]
    assert [name for name in listed if f"    {name} " not in done.stdout] == []
    assert "fanbid demo" in done.stdout
    assert "==SUPPRESS==" not in done.stdout


def test_without_a_command_help_is_shown() -> None:
    assert run(isolated=True).stdout == run("--help", isolated=True).stdout


def test_bench_help_names_every_benchmark() -> None:
    done = run("bench", "--help", isolated=True)
    assert done.returncode == 0
    assert [name for name in fanbid.BENCHES if not re.search(rf"^    {name}\s", done.stdout, re.MULTILINE)] == []


@pytest.mark.parametrize("arguments", [["sreve"], ["bench", "everything"], ["--quick"], ["bench", "--quick"]])
def test_a_wrong_name_exits_with_2_and_says_what_there_is(arguments: list[str]) -> None:
    done = run(*arguments, isolated=True)
    assert done.returncode == 2
    assert "usage: fanbid" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "name", [*(n for n in fanbid.COMMANDS if n != "bench"), *(f"bench {n}" for n in fanbid.BENCHES)]
)
def test_every_command_explains_itself(name: str) -> None:
    done = run(*name.split(), "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: fanbid {name}")
    assert "--" in done.stdout


def test_a_command_is_run_and_its_answer_is_the_exit_code(command: ModuleType) -> None:
    command.main = lambda args: args.count  # type: ignore[attr-defined]
    assert fanbid.main(["act", "--count", "3"]) == 3


def test_a_refused_value_is_one_line_and_exit_2(command: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(args: object) -> int:
        raise ValueError("--count 7: not in 1..3")

    command.main = refuse  # type: ignore[attr-defined]
    assert fanbid.main(["act"]) == 2
    assert capsys.readouterr().err == "fanbid act: --count 7: not in 1..3\n"


@pytest.mark.parametrize("name", fanbid.READY_FILE_COMMANDS)
@pytest.mark.parametrize("form", ["--ready-file FILE", "--ready-file=FILE", "variable"])
def test_what_a_killed_program_left_as_its_ready_file_is_gone_before_anything_else(
    name: str, form: str, command: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stale = tmp_path / "ready.json"
    stale.write_text('{"pid": 1}')
    seen: list[bool] = []
    monkeypatch.setattr(fanbid, "prepare_kernel_cache", lambda: seen.append(stale.exists()))
    monkeypatch.setitem(fanbid.COMMANDS, name, fanbid.COMMANDS["act"])
    command.configure = lambda parser: parser.add_argument(fanbid.READY_FILE)  # type: ignore[attr-defined]
    command.main = lambda *_: 0  # type: ignore[attr-defined]
    monkeypatch.setenv("FANBID_READY_FILE", str(stale if form == "variable" else tmp_path / "other.json"))
    words = [] if form == "variable" else form.replace("FILE", str(stale)).split()
    assert fanbid.main([name, *words]) == 0
    assert seen == [form == "variable" and name != "serve"]  # the variable is one of `serve` alone


@pytest.mark.parametrize("name", fanbid.READY_FILE_COMMANDS)
def test_a_ready_file_that_cannot_be_written_is_refused_before_anything_else(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fanbid, "prepare_kernel_cache", lambda: pytest.fail("too late"))
    for path, why in (
        (tmp_path / "none" / "ready", f"its folder {tmp_path / 'none'} does not exist"),
        (tmp_path, "a folder; must name a file"),
        (Path("/dev/null"), "no plain file; must name one, there or to be made"),
    ):
        assert fanbid.main([name, "--ready-file", str(path)]) == 2
        assert capsys.readouterr().err == f"fanbid {name}: --ready-file '{path}': {why}\n"
    monkeypatch.setenv("FANBID_READY_FILE", "")
    if name == "serve":
        assert fanbid.main([name]) == 2
        assert capsys.readouterr().err == "fanbid serve: FANBID_READY_FILE '': empty; must name a path\n"


@pytest.mark.parametrize("words", ["token list", "keys list", "ledger verify", "ledger show 1", "outbox list"])
def test_what_works_beside_a_server_reads_the_variable_of_its_folder(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fanbid, "_stop_on_sigterm", lambda: None)
    monkeypatch.delenv("FANBID_DATA", raising=False)
    assert fanbid.main(words.split()) == 2
    assert ": --data: required, the data directory of the server; or set FANBID_DATA" in capsys.readouterr().err
    monkeypatch.setenv("FANBID_DATA", str(tmp_path / "named"))
    assert fanbid.main(words.split()) in (1, 2)  # nothing is there
    assert str(tmp_path / "named") in capsys.readouterr().err


def test_a_bug_is_not_hidden(command: ModuleType) -> None:
    def fail(args: object) -> int:
        raise ZeroDivisionError

    command.main = fail  # type: ignore[attr-defined]
    with pytest.raises(ZeroDivisionError):
        fanbid.main(["act"])


def test_an_interrupt_is_quiet_and_exits_130(command: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(args: object) -> int:
        raise KeyboardInterrupt

    command.main = interrupted  # type: ignore[attr-defined]
    assert fanbid.main(["act"]) == 130
    assert capsys.readouterr().err == ""


def test_a_missing_package_is_named(command: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    def needs(args: object) -> int:
        raise ModuleNotFoundError("No module named 'numba'", name="numba")

    command.main = needs  # type: ignore[attr-defined]
    assert fanbid.main(["act"]) == 2
    assert "numba" in capsys.readouterr().err


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small project: a kernel, constants that it imports, a module that it does not."""
    for name, text in {
        "pacing/kernels.py": "from numba import njit\nfrom pacing import sizes\n",
        "pacing/sizes.py": "WIDTH = 4\n",
        "pacing/other.py": "import json\n",
    }.items():
        path = tmp_path / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "root"


def cache_name(tree: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    return fanbid.prepare_kernel_cache(tree).name


def test_kernel_cache_is_made_and_set(tree: Path) -> None:
    folder = fanbid.prepare_kernel_cache(tree)
    assert folder.is_dir()
    assert os.environ["NUMBA_CACHE_DIR"] == str(folder)


def test_a_cache_folder_that_is_set_is_respected(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tree / "mine"))
    assert fanbid.prepare_kernel_cache(tree) == tree / "mine"


def test_kernel_cache_follows_kernels_their_constants_and_switches(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [cache_name(tree, monkeypatch)]
    (tree / "pacing/kernels.py").write_text("from numba import njit\nfrom pacing import sizes\nX = 1\n")
    names.append(cache_name(tree, monkeypatch))
    (tree / "pacing/sizes.py").write_text("WIDTH = 5\n")
    names.append(cache_name(tree, monkeypatch))
    monkeypatch.setenv("NUMBA_BOUNDSCHECK", "1")
    names.append(cache_name(tree, monkeypatch))
    assert len(set(names)) == len(names)


def test_kernel_cache_ignores_what_no_kernel_imports(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = cache_name(tree, monkeypatch)
    (tree / "pacing/other.py").write_text("import csv\n")
    assert cache_name(tree, monkeypatch) == before


def test_caches_that_nobody_used_for_two_weeks_are_removed(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = fanbid.prepare_kernel_cache(tree)
    old, recent = folder.with_name("kernels-old"), folder.with_name("kernels-recent")
    for other in (old, recent):
        other.mkdir()
    os.utime(old, (0, 0))
    cache_name(tree, monkeypatch)
    assert folder.is_dir()
    assert recent.is_dir()
    assert not old.exists()
