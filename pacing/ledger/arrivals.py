"""The charges of every owner's ledger in the order in which they came to be known here: what a statement lists where
several servers share budgets.

Each charge gets a number of arrival, once and for good, and the totals of its campaign at that number. So a list that
is read page by page never moves, and what comes later stands behind it. Everything can be built anew from the ledger
and the copies, in another order then.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from pacing.durable import transaction
from pacing.facts import OutcomeKind
from pacing.ledger import index
from pacing.ledger.errors import LedgerDamaged, LedgerUnavailable
from pacing.ledger.owners import Positions
from pacing.ledger.reading import ChargeReads, open_read_only

_SCHEMA = "CREATE TABLE IF NOT EXISTS arrivals (arrival INTEGER PRIMARY KEY, row INTEGER NOT NULL);"
_PRAGMAS = ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", "PRAGMA journal_size_limit = 67108864")


class ArrivalReads(ChargeReads):
    """Questions to the list; places in it are numbers of arrival. Any thread may ask.

    Attributes:
        positions: how far each ledger is in the list.
    """

    path: Path
    positions: Positions
    _last: int
    _reader: sqlite3.Connection
    _read_lock: threading.Lock

    @property
    def judged_sequence(self) -> int:
        """The last number of arrival; named as in a ledger, whose statement is read by the same code."""
        return self._last

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._read_lock:
            try:
                yield self._reader
            except sqlite3.Error as error:
                raise LedgerDamaged(f"list of charges {self.path}: {error}") from error

    def rows_of(self, arrivals: np.ndarray) -> np.ndarray:
        """The qualified sequences, u8[n], of charges with these numbers of arrival, u8[n].

        Raises:
            LedgerDamaged: there is no such number.
        """
        found = np.zeros(len(arrivals), np.int64)
        with self._reading() as db:
            for i, arrival in enumerate(arrivals.tolist()):
                row = db.execute("SELECT row FROM arrivals WHERE arrival = ?", (arrival,)).fetchone()
                if row is None:
                    raise LedgerDamaged(f"list of charges {self.path}: no charge has number {arrival}")
                found[i] = row[0]
        return found.view(np.uint64)


class Arrivals(ArrivalReads):
    """The list and how far each ledger is in it. One thread adds, any thread reads."""

    def __init__(self, path: Path) -> None:
        """Open or create the list in the file `path`; one that cannot be read is begun anew."""
        self.path = path
        self._read_lock = threading.Lock()
        try:
            self._open()
        except (sqlite3.Error, TypeError, ValueError):
            for suffix in ("", "-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            self._open()

    def _open(self) -> None:
        self._db, self._reader = self._connect(), self._connect()
        self._db.executescript(_SCHEMA + index.SCHEMA)
        self._last, self.positions = _ends(self._db)

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, check_same_thread=False, isolation_level=None)
        for pragma in _PRAGMAS:
            db.execute(pragma)
        return db

    def follow(self, rows: np.ndarray, judgements: np.ndarray) -> None:
        """Number the charges among judged rows; those that came before are passed over.

        Args:
            rows: OUTCOME[n], those of one ledger in its order, with qualified sequences.
            judgements: JUDGEMENT[n], one for each.

        Raises:
            LedgerUnavailable: nothing was taken.
        """
        fresh = self.positions.fresh(rows["sequence"])
        if not fresh.any():
            return
        positions = Positions.unpacked(self.positions.packed())
        positions.advance(rows["sequence"])
        billable = fresh & (rows["kind"] == OutcomeKind.BILLABLE)
        charged, words = rows[billable], judgements[billable]
        sequences = charged["sequence"].view(np.int64).tolist()
        arrivals = np.arange(self._last + 1, self._last + 1 + len(charged), dtype=np.uint64)
        charged["sequence"] = words["sequence"] = arrivals
        try:
            db = self._db
            with transaction(db):
                db.executemany("INSERT INTO arrivals VALUES (?, ?)", zip(arrivals.tolist(), sequences, strict=True))
                index.add_charges(db, charged, words)
                for owner_id, sequence in positions.packed().tolist():
                    index.save_position(db, str(owner_id), sequence)
        except sqlite3.Error as error:
            raise LedgerUnavailable(f"list of charges {self.path}: {error}") from error
        self._last += len(charged)
        self.positions = positions

    def close(self) -> None:
        """Close the file."""
        with self._read_lock:
            self._reader.close()
        self._db.close()


class ArrivalsFile(ArrivalReads):
    """The list as it was when this was opened, read only, whether or not a server is adding to it."""

    def __init__(self, path: Path) -> None:
        """Open the list in the file `path`.

        Raises:
            FileNotFoundError: there is none.
            LedgerDamaged: it cannot be read.
        """
        if not path.exists():
            raise FileNotFoundError(f"{path}: no list of charges here; a server with --redis makes it when it starts")
        self.path = path
        self._read_lock = threading.Lock()
        self._reader = open_read_only(path)
        try:
            with self._reading() as db:
                db.execute("BEGIN")
                self._last, self.positions = _ends(db)
                db.execute("COMMIT")
        except BaseException:
            self._reader.close()
            raise

    def close(self) -> None:
        """Close the file."""
        with self._read_lock:
            self._reader.close()


def _ends(db: sqlite3.Connection) -> tuple[int, Positions]:
    """The last number of arrival, and how far each ledger is in the list."""
    (last,) = db.execute("SELECT coalesce(max(arrival), 0) FROM arrivals").fetchone()
    found = db.execute("SELECT follower, sequence FROM positions").fetchall()
    return int(last), Positions({int(owner_id): int(sequence) for owner_id, sequence in found})
