"""What outlives a crash: a ledger on a disk that can be full, and a process that can die at any of its commits."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from pacing.ledger.anchor import Mark
from pacing.ledger.errors import LedgerUnavailable
from pacing.ledger.log import JUDGED, ROWS, Ledger

_RAM_FOLDER = Path("/dev/shm")


class Crash(BaseException):
    """The simulated process is dead from here on. No code under test may catch it."""


class CrashPoint(Enum):
    """Where in a commit a process dies."""

    BEFORE_COMMIT = "before the commit"
    BETWEEN_SYNCS = "between the log's sync and the anchor's"
    AFTER_COMMIT = "after the commit, before the answer"


class Watcher(Protocol):
    """Is told what has become durable, in order, before the caller is."""

    def rows_durable(self, rows: np.ndarray) -> None:
        """OUTCOME[n] with their sequences, the ledger's own rows included."""

    def verdicts_durable(self, rows: np.ndarray, judgements: np.ndarray) -> None:
        """OUTCOME[n] that got the verdicts JUDGEMENT[n]."""


class Disk:
    """The durable half of a server. Closed with `close`.

    Attributes:
        is_full: no commit succeeds.
    """

    def __init__(self, watcher: Watcher) -> None:
        self.watcher = watcher
        self.is_full = False
        self._commits_left: int | None = None
        self._crash_point = CrashPoint.AFTER_COMMIT

    def arm(self, commits: int, point: CrashPoint) -> None:
        """Let the process die at a commit, after `commits` more of them."""
        self._commits_left, self._crash_point = commits, point

    def disarm(self) -> None:
        """Let the process live on."""
        self._commits_left = None

    def next_commit(self) -> CrashPoint | None:
        """Count a commit; where in it the process dies.

        Raises:
            LedgerUnavailable: the disk is full.
        """
        if self.is_full:
            raise LedgerUnavailable("no space left")
        if self._commits_left is None:
            return None
        self._commits_left -= 1
        return self._crash_point if self._commits_left < 0 else None

    def open(self) -> Ledger:
        """The ledger as the last process left it."""
        raise AssertionError

    def crash(self) -> None:
        """Forget what the process had open."""
        self.disarm()

    def close(self) -> None:
        """Drop everything."""


class _WatchedLedger(Ledger):
    """The shipped ledger, with commits that fail and kill as its disk says."""

    def __init__(self, disk: Disk, path: Path | None) -> None:
        self._disk = disk
        self._point: CrashPoint | None = None
        super().__init__(path)
        if self._anchor is not None:
            self._write_anchor = self._anchor.write
            self._anchor.write = self._write_or_die  # type: ignore[method-assign]

    def _write_or_die(self, mark: Mark) -> None:
        if self._point is CrashPoint.BETWEEN_SYNCS:
            raise Crash
        self._write_anchor(mark)

    @contextmanager
    def _transaction(self) -> Iterator[dict[str, Any]]:
        self._point = self._disk.next_commit()
        with super()._transaction() as marks:
            yield marks
            if self._point is CrashPoint.BEFORE_COMMIT:
                raise Crash
        if self._point is not None:
            raise Crash

    def _commit(self, tickets: Sequence[Any]) -> None:
        super()._commit(tickets)
        for ticket in tickets:
            if ticket.error is None:
                fresh = ticket.sequences > 0
                rows = ticket.rows[fresh]
                rows["sequence"] = ticket.sequences[fresh]
                self._disk.watcher.rows_durable(rows)

    def append_judgements(self, judged_to: int, rows: np.ndarray, judgements: np.ndarray) -> None:
        super().append_judgements(judged_to, rows, judgements)
        self._disk.watcher.verdicts_durable(rows, judgements)


class _MemoryLedger(_WatchedLedger):
    """A ledger in main memory that outlives its process."""

    def __init__(self, disk: Disk, db: sqlite3.Connection) -> None:
        self._durable = db
        super().__init__(disk, None)

    def _connect(self, path: Path | None) -> sqlite3.Connection:  # type: ignore[override]
        return self._durable

    def _checked_mark(self, mark: Mark) -> Mark:
        return Mark(1, *ROWS.end(self._db), *JUDGED.end(self._db))


class MemoryDisk(Disk):
    """Keeps what was committed in main memory: fast, and without the anchor."""

    def __init__(self, watcher: Watcher) -> None:
        super().__init__(watcher)
        self._db = Ledger._connect(None)

    def open(self) -> Ledger:
        """See `Disk.open`."""
        return _MemoryLedger(self, self._db)

    def close(self) -> None:
        """See `Disk.close`."""
        self._db.close()


class FolderDisk(Disk):
    """Keeps a ledger's files, with write-ahead log and anchor, in a folder of main memory where there is one."""

    def __init__(self, watcher: Watcher) -> None:
        super().__init__(watcher)
        self._folder = tempfile.TemporaryDirectory(dir=_RAM_FOLDER if _RAM_FOLDER.is_dir() else None)
        self._life = 0
        self._ledger: Ledger | None = None

    def open(self) -> Ledger:
        """See `Disk.open`."""
        place = Path(self._folder.name) / str(self._life)
        place.mkdir(exist_ok=True)
        self._ledger = _WatchedLedger(self, place / "ledger.sqlite")
        return self._ledger

    def crash(self) -> None:
        """Copy the files as they lie there; what the dead process had open, its lock included, stays with the old."""
        super().crash()
        before, after = (Path(self._folder.name) / str(self._life + more) for more in (0, 1))
        shutil.copytree(before, after)
        if self._ledger is not None:
            self._ledger.close()
        shutil.rmtree(before)
        self._life += 1

    def close(self) -> None:
        """See `Disk.close`."""
        if self._ledger is not None:
            self._ledger.close()
        self._folder.cleanup()
