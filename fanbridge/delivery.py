"""How far the bridge has come, in one small SQLite file: positions, cursors, outcomes that wait, and what was pulled.

Every method is one transaction that is durable when it returns.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fanbridge.events import FAN_CHANGE, FAN_OUTCOME, HIGH_TIERS, RETENTION, RETENTION_DAYS, Rows
from pacing.clocks import MS_PER_DAY
from pacing.durable import transaction

DELIVERY_FILE = "delivery.sqlite"
_REMEMBERED_MS = 31 * MS_PER_DAY

_SCHEMA = """
CREATE TABLE IF NOT EXISTS positions (name TEXT PRIMARY KEY, sequence INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS cursors (name TEXT PRIMARY KEY, cursor TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS waiting (
    lease_id INTEGER NOT NULL, hold_seq INTEGER NOT NULL, kind INTEGER NOT NULL,
    outcome BLOB NOT NULL, dead INTEGER NOT NULL, attempts INTEGER NOT NULL, due_at_ms INTEGER NOT NULL,
    reason TEXT NOT NULL, since_at_ms INTEGER NOT NULL,
    PRIMARY KEY (lease_id, hold_seq, kind)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS waiting_by_due ON waiting (dead, due_at_ms);
CREATE TABLE IF NOT EXISTS fans (
    viewer_id INTEGER NOT NULL, creator_id INTEGER NOT NULL, tier INTEGER NOT NULL, stage INTEGER NOT NULL,
    PRIMARY KEY (viewer_id, creator_id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS retention (
    viewer_id INTEGER NOT NULL, creator_id INTEGER NOT NULL, days INTEGER NOT NULL,
    kept INTEGER NOT NULL, judged_at_ms INTEGER NOT NULL,
    PRIMARY KEY (creator_id, viewer_id, days)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS risen (
    viewer_id INTEGER NOT NULL, creator_id INTEGER NOT NULL, tier INTEGER NOT NULL, stage INTEGER NOT NULL,
    changed_at_ms INTEGER NOT NULL, PRIMARY KEY (viewer_id, creator_id)
) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Waiting:
    """An outcome that could not be delivered yet (parked), or that the service refused (dead)."""

    outcome: Rows  # FAN_OUTCOME[1]
    attempts: int
    due_at_ms: int
    reason: str
    since_at_ms: int

    @property
    def key(self) -> tuple[int, int, int]:
        """(lease_id, hold_seq, kind)."""
        row = self.outcome[0]
        return int(row["lease_id"]), int(row["hold_seq"]), int(row["kind"])


class Delivery:
    """The delivery state in `path`, or in main memory when that is None. Any thread may call any method."""

    def __init__(self, path: Path | None) -> None:
        """Open the file, or make it.

        Raises:
            ValueError: the file is no such state, or cannot be opened.
        """
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path or ":memory:", check_same_thread=False, isolation_level=None)
        try:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            with transaction(self._db):
                _lay_out(self._db)
            _check_sound(self._db)
        except (sqlite3.Error, UnicodeDecodeError) as error:  # the latter about a message that quotes damaged bytes
            self._db.close()
            raise ValueError(f"delivery state {path}: {error}") from error

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def cursor(self, name: str) -> str:
        """The cursor of a stream; empty before the first page."""
        found = self._fetch("SELECT cursor FROM cursors WHERE name = ?", (name,))
        return found[0][0] if found else ""

    def save_cursor(self, name: str, cursor: str) -> None:
        """Note how far a stream was pulled."""
        with self._transaction():
            self._put_cursor(name, cursor)

    def position(self) -> int:
        """The last ledger row that the outbox has dealt with; 0 before the first."""
        found = self._fetch("SELECT sequence FROM positions WHERE name = 'outbox'", ())
        return found[0][0] if found else 0

    def save_outcomes(self, sequence: int, parked: Sequence[Waiting], dead: Sequence[Waiting]) -> None:
        """Move the outbox to `sequence`, together with the outcomes before it that could not be delivered."""
        with self._transaction():
            self._db.execute("INSERT OR REPLACE INTO positions VALUES ('outbox', ?)", (sequence,))
            self._put_waiting(parked, dead)

    def settle_parked(self, delivered: Sequence[Waiting], parked: Sequence[Waiting], dead: Sequence[Waiting]) -> None:
        """Note what became of parked outcomes: gone, to be tried again, or dead."""
        with self._transaction():
            self._db.executemany(
                "DELETE FROM waiting WHERE lease_id = ? AND hold_seq = ? AND kind = ?",
                [_signed_key(waiting) for waiting in delivered],
            )
            self._put_waiting(parked, dead)

    def parked_due(self, now_ms: int, limit: int) -> list[Waiting]:
        """Parked outcomes whose next attempt is due, longest due first."""
        condition = "WHERE dead = 0 AND due_at_ms <= ? ORDER BY due_at_ms, lease_id, hold_seq, kind LIMIT ?"
        return self._waiting(condition, (now_ms, limit))

    def dead_letters(self, limit: int) -> list[Waiting]:
        """Refused outcomes, oldest first."""
        return self._waiting("WHERE dead = 1 ORDER BY since_at_ms, lease_id, hold_seq, kind LIMIT ?", (limit,))

    def revive(self, keys: Sequence[tuple[int, int, int]] | None, now_ms: int) -> int:
        """Park dead outcomes again, due now and with a clean record: those of `keys`, or all; answers how many."""
        update = "UPDATE waiting SET dead = 0, attempts = 0, due_at_ms = ? WHERE dead = 1"
        with self._transaction():
            if keys is None:
                return self._db.execute(update, (now_ms,)).rowcount
            one = f"{update} AND lease_id = ? AND hold_seq = ? AND kind = ?"
            return sum(self._db.execute(one, (now_ms, *map(_signed, key))).rowcount for key in keys)

    def waiting_counts(self) -> tuple[int, int]:
        """How many outcomes are parked, and how many dead."""
        counts = dict(self._fetch("SELECT dead, count(*) FROM waiting GROUP BY dead", ()))
        return counts.get(0, 0), counts.get(1, 0)

    def swap_fans(self, changes: Rows, cursor: str) -> Rows:
        """Save the tier and stage of each fan in `changes` (FAN_CHANGE[n], no fan twice) and the cursor behind them.

        Answers FAN_CHANGE[n]: what was known of the same fans before, zeros where nothing was.
        """
        before = changes.copy()
        before["tier"] = before["stage"] = before["changed_at_ms"] = 0
        keys = list(zip(_signed_list(changes["viewer_id"]), _signed_list(changes["creator_id"]), strict=True))
        now = zip(changes["tier"].tolist(), changes["stage"].tolist(), strict=True)
        with self._transaction():
            for i, key in enumerate(keys):
                query = "SELECT tier, stage FROM fans WHERE viewer_id = ? AND creator_id = ?"
                known = self._db.execute(query, key).fetchone()
                if known is not None:
                    before[i]["tier"], before[i]["stage"] = known
            self._db.executemany(
                "INSERT OR REPLACE INTO fans VALUES (?, ?, ?, ?)",
                [(*key, *standing) for key, standing in zip(keys, now, strict=True)],
            )
            self._put_risen(changes)
            self._put_cursor("tiers", cursor)
        return before

    def _put_risen(self, changes: Rows) -> None:
        """Note since when the fans in FAN_CHANGE[n] have been of a high tier, and who is no longer."""
        high = np.isin(changes["tier"], HIGH_TIERS)
        fallen, risen = changes[~high], changes[high]
        keys = zip(_signed_list(fallen["viewer_id"]), _signed_list(fallen["creator_id"]), strict=True)
        self._db.executemany("DELETE FROM risen WHERE viewer_id = ? AND creator_id = ?", keys)
        rows = zip(*(_signed_list(risen[name]) for name in FAN_CHANGE.names or ()), strict=True)
        self._db.executemany("INSERT OR IGNORE INTO risen VALUES (?, ?, ?, ?, ?)", rows)

    def latest_risen(self) -> Rows:
        """FAN_CHANGE[n] of fans who have been of a high tier since some instant within 31 days before the latest of
        these, oldest first."""
        found = self._fetch(
            "SELECT viewer_id, creator_id, tier, stage, changed_at_ms FROM risen "
            "WHERE changed_at_ms >= (SELECT max(changed_at_ms) FROM risen) - ? ORDER BY changed_at_ms",
            (_REMEMBERED_MS,),
        )
        unsigned = [(viewer_id % 2**64, creator_id % 2**64, *rest) for viewer_id, creator_id, *rest in found]
        return np.array(unsigned, FAN_CHANGE)

    def fans(self) -> Rows:
        """Every fan's saved tier and stage, as FAN_CHANGE rows ordered by creator and viewer."""
        found = self._fetch("SELECT viewer_id, creator_id, tier, stage, 0 FROM fans ORDER BY creator_id, viewer_id", ())
        return _rows(found, FAN_CHANGE)

    def save_retention(self, rows: Rows, cursor: str) -> None:
        """Keep RETENTION[n], the later word on the same fan and days winning, and the cursor behind them."""
        columns = (_signed_list(rows[name]) for name in RETENTION.names or ())
        with self._transaction():
            self._db.executemany("INSERT OR REPLACE INTO retention VALUES (?, ?, ?, ?, ?)", zip(*columns, strict=True))
            self._put_cursor("retention", cursor)

    def latest_retention(self) -> Rows:
        """RETENTION[n] of what was judged within 31 days before the latest judgement, oldest first."""
        found = self._fetch(
            "SELECT viewer_id, creator_id, days, kept, judged_at_ms FROM retention "
            "WHERE judged_at_ms >= (SELECT max(judged_at_ms) FROM retention) - ? ORDER BY judged_at_ms",
            (_REMEMBERED_MS,),
        )
        unsigned = [(viewer_id % 2**64, creator_id % 2**64, *rest) for viewer_id, creator_id, *rest in found]
        return np.array(unsigned, RETENTION)

    def kept_counts(self, creator_id: int) -> dict[int, tuple[int, int]]:
        """For 1, 7 and 30 days: how many gained fans of this creator were judged, and how many of them were kept."""
        found = self._fetch(
            "SELECT days, count(*), sum(kept) FROM retention WHERE creator_id = ? GROUP BY days", (_signed(creator_id),)
        )
        counts = {days: (judged, kept) for days, judged, kept in found}
        return {days: counts.get(days, (0, 0)) for days in RETENTION_DAYS}

    def _put_cursor(self, name: str, cursor: str) -> None:
        self._db.execute("INSERT OR REPLACE INTO cursors VALUES (?, ?)", (name, cursor))

    def _put_waiting(self, parked: Sequence[Waiting], dead: Sequence[Waiting]) -> None:
        rows = [
            (
                *_signed_key(waiting),
                waiting.outcome.tobytes(),
                is_dead,
                waiting.attempts,
                waiting.due_at_ms,
                waiting.reason,
                waiting.since_at_ms,
            )
            for is_dead, some in ((0, parked), (1, dead))
            for waiting in some
        ]
        self._db.executemany("INSERT OR REPLACE INTO waiting VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)

    def _waiting(self, condition: str, arguments: tuple[int, ...]) -> list[Waiting]:
        query = f"SELECT outcome, attempts, due_at_ms, reason, since_at_ms FROM waiting {condition}"
        return [Waiting(np.frombuffer(row[0], FAN_OUTCOME), *row[1:]) for row in self._fetch(query, arguments)]

    def _fetch(self, query: str, arguments: tuple[Any, ...]) -> list[Any]:
        with self._lock:
            return self._db.execute(query, arguments).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock, transaction(self._db):
            yield


def _lay_out(db: sqlite3.Connection) -> None:
    """Make the tables that are not there yet, within the transaction of the caller. A file from before rises were kept
    has its tiers pulled once more from the beginning: it has that table and no cursor, or neither is changed."""
    kept_rises = db.execute("SELECT 1 FROM sqlite_master WHERE name = 'risen'").fetchone()
    for statement in _SCHEMA.split(";")[:-1]:
        db.execute(statement)
    if kept_rises is None:
        db.execute("DELETE FROM cursors WHERE name = 'tiers'")


def _check_sound(db: sqlite3.Connection) -> None:
    """Refuse a damaged file now, and not in the middle of a delivery.

    Raises:
        sqlite3.DatabaseError: pages, or the names of columns, are not what was written.
    """
    (verdict,) = db.execute("PRAGMA integrity_check(1)").fetchone()
    if verdict != "ok":
        raise sqlite3.DatabaseError(verdict)
    fresh = sqlite3.connect(":memory:")
    try:
        fresh.executescript(_SCHEMA)
        if _columns(db) != _columns(fresh):
            raise sqlite3.DatabaseError("tables or columns of other names")
    finally:
        fresh.close()


def _columns(db: sqlite3.Connection) -> list[tuple[str, str]]:
    query = "SELECT m.name, c.name FROM sqlite_master AS m JOIN pragma_table_info(m.name) AS c WHERE m.type = 'table'"
    return sorted(db.execute(query).fetchall())


def _rows(records: list[Any], dtype: np.dtype[Any]) -> Rows:
    rows = np.zeros(len(records), dtype=dtype)
    if records:
        columns = np.array(records, dtype=np.int64)
        for position, field in enumerate(dtype.names or ()):
            rows[field] = columns[:, position].astype(dtype[field])
    return rows


def _signed(number: int) -> int:
    """A 64-bit id as SQLite's signed integer."""
    return number - 2**64 if number >= 2**63 else number


def _signed_list(numbers: npt.NDArray[Any]) -> list[int]:
    signed: list[int] = numbers.astype(np.int64).tolist()
    return signed


def _signed_key(waiting: Waiting) -> tuple[int, ...]:
    return tuple(map(_signed, waiting.key))
