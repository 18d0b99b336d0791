"""House rules that no linter knows: who may import what, what kernels may do, names, lengths, unfinished work."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import fanbid
from tests.sources import ROOT, Source, python_sources, text_files

MAX_LINES = 500
BANNED_NAMES = {"user", "price", "data", "manager", "process"}
NAMED_BY_OTHERS = {
    ("auction/config.py", "data"),  # a setting is named like its flag, and the flag is --data
    ("tests", "data"),  # Hypothesis calls its interactive draws so
}
VAGUE_MODULES = {"utils", "util", "common", "helpers", "misc"}

COMMAND_MODULES = {command.module for command in (*fanbid.COMMANDS.values(), *fanbid.BENCHES.values())}
PRINTING = {
    "fanbid.py",
    "dev.py",
    "benchmarks/output.py",
    *(module.replace(".", "/") + ".py" for module in COMMAND_MODULES),
}

# Modules of constants and dtypes, which numba freezes into compiled code; `prepare_kernel_cache` hashes them too.
CONSTANT_MODULES = {
    "auction.bid.columns",
    "auction.bid.nobid",
    "auction.predictor.features",
    "pacing.clocks",
    "pacing.control.grid",
    "pacing.facts",
    "pacing.money",
    "targeting.attributes",
}
KERNEL_LIBRARIES = {"__future__", "math", "typing", "numpy", "numba"}

SQLITE_FILES = {
    "pacing/ledger/log.py",
    "pacing/ledger/reading.py",
    "pacing/ledger/copies.py",
    "pacing/ledger/arrivals.py",
    "auction/campaigns/store.py",
    "fanbridge/service/store.py",
    "fanbridge/service/health/reader.py",
    "fanbridge/service/insights.py",
    "fanbridge/delivery.py",
}
WIRE_FILE = re.compile(
    r"(.*/)?(\w*wire\w*|\w*service\w*|server|status)\.py|auction/rest/.*|protos/rpc/.*|fanbridge/service/.*|"
    r"(fanbridge|auction/audience)/client\.py"
)
WITHOUT_WIRE = ("protos.rpc.tls", "protos.rpc.ready_file")
WIRE_PACKAGES = {"grpc", "grpc_health", "grpc_reflection", "google", "protos"}


def shipped() -> list[Source]:
    return [source for source in python_sources() if source.folder.partition("/")[0] not in ("tests", "benchmarks")]


def packages_imported(source: Source) -> set[str]:
    return {name.partition(".")[0] for name in source.imports()}


def bound_names(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Names that the file gives to something, bare or as an attribute, with their lines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, node.lineno


def compiled_functions(source: Source) -> Iterator[tuple[ast.FunctionDef, dict[str, object]]]:
    """Functions under a numba decorator, with that decorator's keywords."""
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.FunctionDef):
            continue
        for decorator in node.decorator_list:
            target = decorator.func if isinstance(decorator, ast.Call) else decorator
            if ast.unparse(target).rpartition(".")[2] in ("njit", "jit", "vectorize", "guvectorize"):
                keywords = decorator.keywords if isinstance(decorator, ast.Call) else []
                yield node, {word.arg or "": ast.unparse(word.value) for word in keywords}


def test_files_stay_short() -> None:
    lengths = {source.path: source.text.count("\n") for source in python_sources()}
    assert {path: lines for path, lines in lengths.items() if lines > MAX_LINES} == {}


def test_no_vague_module_names() -> None:
    parts = {
        source.path: set(source.path.removesuffix(".py").split("/")) & VAGUE_MODULES for source in python_sources()
    }
    assert {path for path, vague in parts.items() if vague} == set()


def test_no_banned_bare_names() -> None:
    found = [
        f"{source.path}:{line} {name}"
        for source in python_sources()
        for name, line in bound_names(source.tree)
        if not name.isupper()
        and name.strip("_").lower() in BANNED_NAMES
        and not {(source.path, name), (source.path.partition("/")[0], name)} & NAMED_BY_OTHERS
    ]
    assert found == []


def test_only_the_command_line_prints() -> None:
    found = [
        f"{source.path}:{node.lineno}"
        for source in python_sources()
        if source.path not in PRINTING and not source.path.startswith("tests/")
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert found == []


def test_kernels_import_arrays_kernels_and_constants_only() -> None:
    found = []
    for source in python_sources():
        if source.name != "kernels.py":
            continue
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules = [node.module or ""]
                if modules[0].rpartition(".")[2] != "kernels" and modules[0] not in CONSTANT_MODULES:
                    modules = [f"{node.module}.{alias.name}" for alias in node.names]
            else:
                continue
            found += [
                f"{source.path}:{node.lineno} {module}"
                for module in modules
                if module.partition(".")[0] not in KERNEL_LIBRARIES
                and module.rpartition(".")[2] != "kernels"
                and module not in CONSTANT_MODULES
            ]
    assert found == []


def test_constant_modules_compile_nothing() -> None:
    compiled = {s.path for s in python_sources() if any(compiled_functions(s)) and s.name != "kernels.py"}
    constants = {module.replace(".", "/") + ".py" for module in CONSTANT_MODULES}
    assert compiled & constants == set()
    assert {path for path in constants if not (ROOT / path).is_file()} == set()


def test_compiled_functions_are_cached_and_free_of_the_gil() -> None:
    found = [
        f"{source.path}:{function.lineno} {function.name} {keywords}"
        for source in shipped()
        for function, keywords in compiled_functions(source)
        if source.name != "kernels.py" or keywords.get("cache") != "True" or keywords.get("nogil") != "True"
    ]
    assert found == []


def test_no_fast_math_anywhere() -> None:
    found = [source.path for source in python_sources() if re.search(r"\bfastmath\s*=", source.text)]
    assert found == []


def test_every_folder_of_kernels_has_a_plain_reference() -> None:
    folders = {source.folder for source in python_sources() if source.name == "kernels.py"}
    assert {folder for folder in folders if not (ROOT / folder / "reference.py").is_file()} == set()


def test_references_serve_tests_and_benchmarks_only() -> None:
    found = [
        f"{source.path} {name}"
        for source in shipped()
        if source.name != "reference.py"
        for name in source.imports()
        if name.rpartition(".")[2] == "reference"
    ]
    assert found == []


def test_sqlite_stays_in_the_stores() -> None:
    assert {source.path for source in shipped() if "sqlite3" in packages_imported(source)} <= SQLITE_FILES


def test_redis_stays_in_its_own_files() -> None:
    assert {s.path for s in shipped() if "redis" in packages_imported(s) and "redis" not in s.name} == set()


def test_wire_packages_stay_at_the_edge() -> None:
    found = set()
    for source in shipped():
        names = {name for name in source.imports() if not name.startswith(WITHOUT_WIRE)}
        if {name.partition(".")[0] for name in names} & WIRE_PACKAGES:
            found.add(source.path)
    assert {path for path in found if not WIRE_FILE.fullmatch(path)} == set()


def test_nobody_imports_the_command_line() -> None:
    found = {source.path for source in python_sources() if "fanbid" in packages_imported(source)}
    assert {path for path in found if not path.startswith("tests/")} <= {"conftest.py"}


def test_no_unfinished_work_and_no_machine_paths() -> None:
    words = [
        "TO" + "DO",
        "FIX" + "ME",
        "Not" + "ImplementedError",
        "pytest.sk" + "ip",
        "importorsk" + "ip",
        "xf" + "ail",
        "pragma: no " + "cover",
        "/ro" + "ot/",
        "/ho" + "me/",
        "/wo" + "rk/",
        "/tm" + "p/",
    ]
    pattern = re.compile("|".join(map(re.escape, words)))
    found = [
        f"{path.relative_to(ROOT)}:{number} {line.strip()[:80]}"
        for path in text_files()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if pattern.search(line)
    ]
    assert found == []
