"""Events by file, CSV or JSON lines: read as it comes, and taken whole or not at all.

Lines that are right are set aside in a file of rows. When the last has come and none was wrong, they are put together
by fan in a file that gets its final name, durably: from then on its events are taken, also by the next start if this
one is cut short. An event that was taken before is not taken twice, so the rows may be gone through again.

*Why by fan:* the store puts the events of a push in order of time, and lets its fans' time pass after it; what a later
push tells of an earlier day is late. So all events of a fan go in with one push, and what they come to does not depend
on the order of the lines.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fanbridge.events import EVENT_KINDS, FAN_EVENT, MAX_PUSH_ROWS, Rows
from fanbridge.service.row_order import in_order
from pacing.durable import sync_folder
from pacing.facts import OutcomeKind, RowStatus

FIELDS = FAN_EVENT.names or ()
MAX_LINE_BYTES = 1_000
MAX_EVENTS = 50_000_000
MAX_REJECTS_SHOWN = 100
_PART, _ORDERED, _COMPLETE = ".events.part", ".ordered.events.part", ".events.rows"
_KINDS = {kind.name.lower(): int(kind) for kind in EVENT_KINDS}
_CHUNK_ROWS = MAX_PUSH_ROWS

PushEvents = Callable[[Rows], list[int]]
"""Takes FAN_EVENT[n] for good; answers one RowStatus a row."""


@dataclass(frozen=True)
class Reject:
    """A line that cannot be taken, and why."""

    line: int
    reason: str


class FileRejected(ValueError):
    """A file with lines that cannot be taken; none of its events was.

    Attributes:
        rejects: the first MAX_REJECTS_SHOWN of them.
        count: how many there are.
    """

    def __init__(self, rejects: list[Reject], count: int) -> None:
        super().__init__(f"{count} lines cannot be taken, the first: line {rejects[0].line}: {rejects[0].reason}")
        self.rejects = rejects
        self.count = count


@dataclass(frozen=True)
class Taken:
    """What a file came to: events that were new, and events that were known by their id."""

    accepted: int
    duplicates: int


class EventFile:
    """One file on its way in: `feed` its bytes, then `take` it, or `drop` it. Use by one thread at a time."""

    def __init__(self, folder: Path, is_csv: bool, latest_at_ms: int) -> None:
        """Set lines aside in `folder`.

        Args:
            is_csv: CSV whose first line names the columns; else an object a line.
            latest_at_ms: no event may be later.
        """
        self._part = folder / f"{secrets.token_hex(8)}{_PART}"
        self._file = self._part.open("wb")
        self._header: list[str] | None = None
        self._is_csv = is_csv
        self._latest_at_ms = latest_at_ms
        self._rest = b""
        self._line = 0
        self._events = 0
        self._rows: list[tuple[int, ...]] = []
        self._rejects: list[Reject] = []
        self._reject_count = 0

    def feed(self, octets: bytes) -> None:
        """Read on."""
        *lines, self._rest = (self._rest + octets).split(b"\n")
        for line in lines:
            self._read(line)
        if len(self._rest) > MAX_LINE_BYTES:
            self._rest = self._rest[: MAX_LINE_BYTES + 1]  # enough to be refused as too long

    def take(self, push: PushEvents) -> Taken:
        """The whole file has been fed: take all its events.

        Raises:
            FileRejected: a line is wrong; nothing was taken.
        """
        if self._rest:
            self._read(self._rest)
        if self._is_csv and self._header is None:
            self._reject(f"no header; must name {', '.join(FIELDS)}")
        if self._reject_count:
            self.drop()
            raise FileRejected(self._rejects, self._reject_count)
        self._flush()
        self._file.close()
        ordered = self._part.with_name(self._part.name.removesuffix(_PART) + _ORDERED)
        try:
            _write_ordered(self._part, ordered)
            complete = self._part.with_name(self._part.name.removesuffix(_PART) + _COMPLETE)
            ordered.rename(complete)
        finally:
            ordered.unlink(missing_ok=True)
            self.drop()
        sync_folder(complete.parent)
        return _take_rows(complete, push)

    def drop(self) -> None:
        """Forget the file."""
        self._file.close()
        self._part.unlink(missing_ok=True)

    def _read(self, line: bytes) -> None:
        self._line += 1
        if len(line) > MAX_LINE_BYTES:
            self._reject(f"longer than {MAX_LINE_BYTES} bytes")
            return
        try:
            text = line.decode("utf-8-sig" if self._line == 1 else "utf-8").strip()
            if not text:
                return
            if self._is_csv and self._header is None:
                self._header = _header(text)
                return
            self._add(_row(self._fields(text), self._latest_at_ms))
        except ValueError as wrong:
            self._reject("not UTF-8" if isinstance(wrong, UnicodeDecodeError) else str(wrong))

    def _fields(self, text: str) -> dict[str, Any]:
        if not self._is_csv:
            return _object(text)
        cells = [cell.strip().strip('"') for cell in text.split(",")]
        header = self._header or []
        if len(cells) != len(header):
            raise ValueError(f"{len(cells)} cells; must be {len(header)} like the header")
        return dict(zip(header, cells, strict=True))

    def _add(self, row: tuple[int, ...]) -> None:
        self._events += 1
        if self._events > MAX_EVENTS:
            raise ValueError(f"more than {MAX_EVENTS} events")
        if not self._reject_count:
            self._rows.append(row)
            if len(self._rows) >= _CHUNK_ROWS:
                self._flush()

    def _flush(self) -> None:
        self._file.write(np.array(self._rows, FAN_EVENT).tobytes())
        self._file.flush()
        self._rows.clear()

    def _reject(self, reason: str) -> None:
        self._reject_count += 1
        if len(self._rejects) < MAX_REJECTS_SHOWN:
            self._rejects.append(Reject(max(self._line, 1), reason))


def finish_files(folder: Path, push: PushEvents) -> None:
    """At a start: take what was complete when the last program ended, and forget what was not."""
    for part in folder.glob(f"*{_PART}"):
        part.unlink()
    for complete in sorted(folder.glob(f"*{_COMPLETE}")):
        _take_rows(complete, push)


def _take_rows(path: Path, push: PushEvents) -> Taken:
    """Take the events of a complete file, and remove it."""
    accepted = taken = 0
    for rows in _whole_fans(path):
        statuses = push(rows)
        accepted += statuses.count(RowStatus.ACCEPTED)
        taken += len(statuses)
    path.unlink()
    return Taken(accepted, taken - accepted)


def _write_ordered(path: Path, ordered: Path) -> None:
    """Write the rows of a file to another, durably, those of a fan together."""
    rows = _mapped(path)
    order = np.lexsort((rows["viewer_id"], rows["creator_id"]))
    with ordered.open("wb") as file:
        for begin in range(0, len(rows), _CHUNK_ROWS):
            file.write(rows[order[begin : begin + _CHUNK_ROWS]].tobytes())
        file.flush()
        os.fsync(file.fileno())


def _whole_fans(path: Path) -> Iterator[Rows]:
    """The rows of an ordered file in pieces of about _CHUNK_ROWS that tear no fan apart, each by time."""
    rows, begin = _mapped(path), 0
    while begin < len(rows):
        end = min(begin + _CHUNK_ROWS, len(rows))
        while end < len(rows) and (rows[end]["viewer_id"], rows[end]["creator_id"]) == (
            rows[end - 1]["viewer_id"],
            rows[end - 1]["creator_id"],
        ):
            end += 1
        some = np.array(rows[begin:end])
        yield some[in_order(some)]
        begin = end


def _mapped(path: Path) -> Rows:
    if not path.stat().st_size:  # which cannot be mapped
        return np.zeros(0, FAN_EVENT)
    return np.memmap(path, FAN_EVENT, "r")


def _header(text: str) -> list[str]:
    names = [name.strip().strip('"') for name in text.split(",")]
    if sorted(names) != sorted(FIELDS):
        raise ValueError(f"header {text!r:.200}: must name {', '.join(FIELDS)}, each once")
    return names


def _object(text: str) -> dict[str, Any]:
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("not JSON") from None
    if not isinstance(fields, dict):
        raise ValueError("not a JSON object")
    if set(fields) != set(FIELDS):
        missing, unknown = sorted(set(FIELDS) - set(fields)), sorted(set(fields) - set(FIELDS))
        raise ValueError(
            "; ".join(
                f"{word} {', '.join(names)}" for word, names in (("without", missing), ("unknown", unknown)) if names
            )
        )
    return fields


def _row(fields: dict[str, Any], latest_at_ms: int) -> tuple[int, ...]:
    """FAN_EVENT of the fields of a line.

    Raises:
        ValueError: one is out of range; the text names field, value and range.
    """
    ids = [_number(name, fields[name], 2**64 - 1) for name in ("event_id", "viewer_id", "creator_id")]
    return (*ids, _kind(fields["kind"]), _number("occurred_at_ms", fields["occurred_at_ms"], latest_at_ms))


def _number(name: str, told: Any, most: int) -> int:
    if isinstance(told, str) and told.isascii() and told.isdigit() and len(told) <= 20:
        told = int(told)
    if not isinstance(told, int) or isinstance(told, bool) or not 1 <= told <= most:
        raise ValueError(f"{name} {told!r:.40}: must be 1..{most}")
    return told


def _kind(told: Any) -> int:
    if isinstance(told, str) and told.lower() in _KINDS:
        return _KINDS[told.lower()]
    number = int(told) if isinstance(told, str) and told.isascii() and told.isdigit() and len(told) <= 3 else told
    if isinstance(number, int) and not isinstance(number, bool) and number in EVENT_KINDS:
        return int(OutcomeKind(number))
    raise ValueError(f"kind {told!r:.40}: must be one of {', '.join(sorted(_KINDS))}")
