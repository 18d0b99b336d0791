"""Packaging: what is installed is complete, and installs exactly the versions that were tested."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import zipfile
from fnmatch import fnmatch
from importlib.metadata import packages_distributions, version
from pathlib import Path

import pytest

from tests.sources import INSTALLED_FOLDERS, ROOT, python_sources

CONSTRAINT = re.compile(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+")
NEVER_INSTALLED = {"__pycache__"}


def setup_constants() -> dict[str, object]:
    """What setup.py names in capitals, without running it."""
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    return {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id.isupper()
    }


def canonical(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found, requirement
    return re.sub(r"[-_.]+", "-", found[0]).lower()


def constraint_lines() -> list[str]:
    return (ROOT / "constraints.txt").read_text(encoding="utf-8").split()


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Names of the files in a wheel that is built from a copy of the sources."""
    copy = tmp_path_factory.mktemp("copy")
    for folder in INSTALLED_FOLDERS:
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "fanbid.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    wheels = tmp_path_factory.mktemp("wheels")
    build = f"from setuptools.build_meta import build_wheel; build_wheel({str(wheels)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=copy, check=True, capture_output=True, timeout=120)
    with zipfile.ZipFile(next(wheels.glob("*.whl"))) as wheel:
        return set(wheel.namelist())


def test_package_list_is_complete() -> None:
    folders = {path.parent for folder in INSTALLED_FOLDERS for path in (ROOT / folder).rglob("*.py")}
    packages = sorted(folder.relative_to(ROOT).as_posix().replace("/", ".") for folder in folders)
    assert setup_constants()["PACKAGES"] == packages


def test_every_package_has_an_init() -> None:
    packages = setup_constants()["PACKAGES"]
    assert isinstance(packages, list)
    assert [name for name in packages if not (ROOT / name.replace(".", "/") / "__init__.py").is_file()] == []


def test_wheel_holds_every_file_and_no_tests(wheel_names: set[str]) -> None:
    expected = {
        path.relative_to(ROOT).as_posix()
        for folder in INSTALLED_FOLDERS
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and not NEVER_INSTALLED & set(path.parts) and not fnmatch(path.name, "README*")
    }
    assert expected - wheel_names == set()
    assert "fanbid.py" in wheel_names
    assert {name for name in wheel_names if name.startswith("tests")} == set()


def test_constraints_are_names_and_exact_versions_once_each() -> None:
    lines = constraint_lines()
    assert [line for line in lines if not CONSTRAINT.fullmatch(line)] == []
    names = [canonical(line) for line in lines]
    assert len(names) == len(set(names))


def test_every_requirement_is_constrained() -> None:
    constants = setup_constants()
    requirements, extras = constants["REQUIREMENTS"], constants["EXTRAS"]
    assert isinstance(requirements, list)
    assert isinstance(extras, dict)
    wanted = {canonical(name) for name in [*requirements, *(name for names in extras.values() for name in names)]}
    assert wanted - {canonical(line) for line in constraint_lines()} == set()


def test_what_is_shipped_imports_only_what_it_requires() -> None:
    constants = setup_constants()
    requirements, extras = constants["REQUIREMENTS"], constants["EXTRAS"]
    assert isinstance(requirements, list)
    assert isinstance(extras, dict)
    optional = [name for extra, names in extras.items() if extra != "dev" for name in names]
    required = {canonical(name) for name in [*requirements, *optional]} | {
        "starlette",
        "pydantic",
    }  # fastapi's own face
    distributions = packages_distributions()
    own = {*INSTALLED_FOLDERS, *(path.stem for path in ROOT.glob("*.py")), "setuptools"}
    foreign = {
        (name.partition(".")[0], source.path)
        for source in python_sources()
        if not source.path.startswith(("tests/", "benchmarks/suite/")) and source.path not in ("setup.py", "dev.py")
        for name in source.imports()
        if name.partition(".")[0] not in own | set(sys.stdlib_module_names)
    }
    undeclared = {
        (package, path)
        for package, path in foreign
        if not required & {canonical(name) for name in distributions.get(package, [package])}
    }
    assert undeclared == set()


@pytest.mark.parametrize("package", ["numba", "numpy", "grpcio", "protobuf", "pyroaring", "fastapi"])
def test_the_tested_versions_are_the_constrained_ones(package: str) -> None:
    assert f"{package}=={version(package)}" in constraint_lines()


def test_dev_py_can_be_read_by_old_pythons_so_that_it_can_refuse_them() -> None:
    ast.parse((ROOT / "dev.py").read_text(encoding="utf-8"), feature_version=(3, 7))


def test_dev_py_needs_the_standard_library_only() -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(ROOT / "dev.py"), "--help"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    for command in ("setup", "run", "test", "bench", "lint", "protos"):
        assert re.search(rf"^  {command} ", done.stdout, re.MULTILINE), command


def test_ci_runs_tests_and_lint() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    text = Path(script).read_text(encoding="utf-8")
    assert "set -euo pipefail" in text
    assert text.index("dev.py test") < text.index("dev.py lint")
