"""What every command that measures shows: progress on stderr, a table on stdout, and one flat JSON object in a file."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from protos.rpc.ready_file import new_file

Scalar = str | int | float | bool | None

PLAIN_WIDTH = 140
_PLAIN_INTERVAL_S = 5.0


class ProgressBar(Protocol):
    """How far a piece of work has come; never further than its total, also where that was reckoned too small."""

    def advance(self, n: float = 1, note: str = "") -> None:
        """Count `n` more units as done; a note that is not empty replaces the one shown."""


def add_output_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the two flags that every command that measures has: --quick and --json."""
    parser.add_argument("--quick", action="store_true", help="the same code on a small case, in seconds")
    parser.add_argument(
        "--json", type=_json_file, metavar="FILE", help="write the figures as one flat JSON object to FILE"
    )


def _json_file(text: str) -> Path:
    try:
        return new_file(text)
    except ValueError as refused:
        raise argparse.ArgumentTypeError(f"{text!r}: {refused}") from None


class _RichBar:
    def __init__(self, progress: Progress, label: str, total: float) -> None:
        self._progress, self._total = progress, total
        self._done = 0.0
        self._task = progress.add_task(label, total=total, note="")

    def advance(self, n: float = 1, note: str = "") -> None:
        self._done = min(self._done + n, self._total)
        if note:
            self._progress.update(self._task, completed=self._done, note=note)
        else:
            self._progress.update(self._task, completed=self._done)


class _PlainBar:
    """One line at most every few seconds, for logs and pipes."""

    def __init__(self, label: str, total: float, even: bool) -> None:
        self._label, self._total, self._even = label, total, even
        self._done, self._note, self._shown = 0.0, "", ""
        self._shown_at_s = self._began_at_s = time.monotonic()

    def advance(self, n: float = 1, note: str = "") -> None:
        self._done = min(self._done + n, self._total)
        self._note = note or self._note
        if time.monotonic() - self._shown_at_s >= _PLAIN_INTERVAL_S:
            self.show()

    def show(self) -> None:
        """Print how far it is, unless that is what the last line says."""
        self._shown_at_s = time.monotonic()
        share = math.floor(100 * self._done / self._total) if self._total else 100
        parts = [f"{self._label}: {share} %", self._time_left(), self._note]
        line = "  ".join(part for part in parts if part)
        if line != self._shown:
            print(line, file=sys.stderr, flush=True)
        self._shown = line

    def _time_left(self) -> str:
        """What the rest takes at the pace so far; nothing before there is one, or when all is done."""
        if not self._even or not 0 < self._done < self._total:
            return ""
        left_s = (time.monotonic() - self._began_at_s) * (self._total - self._done) / self._done
        return f"{left_s / 60:.0f} min left" if left_s >= 120 else f"{left_s:.0f} s left"


@contextmanager
def progress(total: float, label: str, even: bool = True) -> Iterator[ProgressBar]:
    """Show how far a piece of work of `total` units has come: a bar on a terminal, else a line every few seconds.

    Args:
        even: units take about the same time each, so that what is left can be told.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        bar = _PlainBar(label, total, even)
        yield bar
        bar.show()
        return
    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()]
    columns += [TimeRemainingColumn()] if even else []
    columns += [TextColumn("{task.fields[note]}")]
    with Progress(*columns, console=console) as shown:
        yield _RichBar(shown, label, total)


def make_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    """A table whose first column is flushed left and whose others are flushed right.

    Raises:
        ValueError: a row has another number of cells than there are columns.
    """
    table = Table(title=title, title_justify="left")
    for position, column in enumerate(columns):
        table.add_column(column, justify="left" if position == 0 else "right", no_wrap=position == 0)
    for number, row in enumerate(rows):
        if len(row) != len(columns):
            raise ValueError(f"rows[{number}]: {len(row)} cells for {len(columns)} columns")
        table.add_row(*(_cell(value) for value in row))
    return table


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table to stdout; floats with four significant digits, whole numbers with thousands separated."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=PLAIN_WIDTH)
    console.print(make_table(title, columns, rows))


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return _float_cell(value)
    return str(value)


def _float_cell(value: float) -> str:
    if not math.isfinite(value):
        return "-"
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def write_json(path: Path | None, figures: Mapping[str, Scalar]) -> None:
    """Write figures as one flat JSON object, whole or not at all; does nothing without a path.

    Raises:
        OSError: the path's folder is not there or not writable.
        ValueError: a value is not a finite number, text, boolean or null.
    """
    if path is None:
        return
    for key, value in figures.items():
        if value is not None and not isinstance(value, str | bool | int | float):
            raise ValueError(f"{key}: {type(value).__name__}; must be a number, text, boolean or null")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{key}: {value}; must be finite")
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(json.dumps(dict(figures), indent=2) + "\n", encoding="utf-8")
    partial.replace(path)
