"""The project's own files, as the checks of the tidy tests read them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
INSTALLED_FOLDERS = ("auction", "benchmarks", "fanbridge", "pacing", "protos", "rpc", "targeting")
FOLDERS = (*INSTALLED_FOLDERS, "tests")


@dataclass(frozen=True)
class Source:
    """One Python file that somebody wrote: its path from the root, text and tree."""

    path: str

    @cached_property
    def text(self) -> str:
        return (ROOT / self.path).read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.path)

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def folder(self) -> str:
        return self.path.rpartition("/")[0]

    def imports(self) -> Iterator[str]:
        """Dotted names of all that is imported anywhere in the file; for `from a import b` both a and a.b."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert not node.level, f"{self.path}: imports are absolute"
                yield node.module or ""
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


def python_sources() -> list[Source]:
    """Every Python file of the project but the generated ones, by path."""
    top = [path.name for path in ROOT.glob("*.py")]
    nested = [path.relative_to(ROOT).as_posix() for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    return [Source(path) for path in sorted([*top, *nested]) if "_pb2" not in path]


def text_files() -> list[Path]:
    """Every text file of the project that somebody wrote, Python or not."""
    endings = {".py", ".md", ".toml", ".txt", ".html", ".js", ".css", ".lua", ".proto", ".cfg"}
    named = [ROOT / name for name in (".importlinter", ".gitignore", ".gitattributes", ".ci/run")]
    top = [path for path in ROOT.iterdir() if path.suffix in endings]
    nested = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.suffix in endings]
    written = [path for path in [*named, *top, *nested] if "_pb2" not in path.name and "vendor" not in path.parts]
    return sorted(path for path in written if path.is_file())
