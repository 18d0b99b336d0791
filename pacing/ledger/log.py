"""The ledger: a log of outcomes in SQLite, durable before it is acknowledged, with a hash chain and an anchor.

Callers that append at the same time share one commit: whoever gets the commit lock takes along everything that is
waiting. A commit is two syncs, the write-ahead log's and then the anchor's; a caller is answered after both.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pacing.durable import sync_folder
from pacing.ledger import index
from pacing.ledger.anchor import EMPTY_HEAD, Anchor, Mark
from pacing.ledger.errors import LedgerDamaged, LedgerError, LedgerUnavailable
from pacing.ledger.reading import JUDGED, ROWS, LedgerReads, is_full
from pacing.ledger.rows import FIRST_MONEY_KIND, MONEY, as_outcomes, check_outcomes

logger = logging.getLogger(__name__)

_PRAGMAS = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA cache_size = -65536",
    "PRAGMA wal_autocheckpoint = 16384",  # pages; only where nobody calls `checkpoint`
    "PRAGMA journal_size_limit = 67108864",
)


@dataclass(frozen=True, slots=True)
class Appended:
    """What became of n outcomes.

    Attributes:
        sequences: u8[n]; 0: told before, not appended again.
        amounts_micros: i8[n], the amount under which the outcome is in the ledger, now or from before.
        last_sequence: the ledger is durable up to here.
    """

    sequences: np.ndarray
    amounts_micros: np.ndarray
    last_sequence: int


class _Ticket:
    """Rows of one caller, waiting for a commit."""

    __slots__ = ("amounts", "error", "is_done", "last_sequence", "rows", "sequences", "unique")

    def __init__(self, rows: np.ndarray, unique: bool) -> None:
        self.rows = rows
        self.unique = unique
        self.sequences = np.zeros(len(rows), np.uint64)
        self.amounts = rows["price_micros"].copy()
        self.last_sequence = 0
        self.is_done = False
        self.error: LedgerError | None = None


class Ledger(LedgerReads):
    """One open ledger. Any thread may call any method; readers do not wait for a commit."""

    def __init__(self, path: Path | None) -> None:
        """Open or create the ledger in the file `path`, its anchor beside it; None: in main memory, gone at the end.

        Raises:
            LedgerInUse: another process has it open.
            LedgerDamaged: it is shorter than, or different from, what was acknowledged.
        """
        self.path = path
        self.notes: list[str] = []
        self._queue: list[_Ticket] = []
        self._queue_lock = threading.Lock()
        self._commit_lock = threading.Lock()
        self._broken: LedgerError | None = None
        self._anchor = None if path is None else Anchor(path.with_suffix(".anchor"))
        try:
            self._open(path)
        except BaseException as error:
            if self._anchor is not None:
                self._anchor.close()
            if isinstance(error, sqlite3.Error | UnicodeDecodeError):  # the latter: a message that quotes damaged bytes
                raise LedgerDamaged(f"ledger {path}: {error}") from None
            raise

    def _open(self, path: Path | None) -> None:
        is_new = path is None or not path.exists()
        mark = Mark() if self._anchor is None else self._anchor.mark
        if is_new and mark.row_count:
            raise LedgerDamaged(f"ledger {path}: missing, and its anchor knows {mark.row_count} rows")
        self._db = self._connect(path)
        self._db.executescript(ROWS.schema() + JUDGED.schema() + index.SCHEMA)
        if path is None:
            self._reader, self._read_lock = self._db, self._commit_lock
        else:
            self._reader, self._read_lock = self._connect(path), threading.Lock()
        self._mark = self._checked_mark(mark)
        if self._anchor is not None and (self._mark.revision != mark.revision or self._anchor.was_torn or is_new):
            self._anchor.write(self._mark)
            sync_folder(self._anchor.path.parent)

    @staticmethod
    def _connect(path: Path | None) -> sqlite3.Connection:
        db = sqlite3.connect(path or ":memory:", check_same_thread=False, isolation_level=None)
        for pragma in _PRAGMAS:
            db.execute(pragma)
        return db

    def _checked_mark(self, mark: Mark) -> Mark:
        """Compare the chains with the anchor, and re-hash what lies behind the last snapshot, with its indexes.

        A crash between the two syncs of a commit leaves one batch that the anchor does not know: it is kept.
        """
        if self._anchor is None:
            return mark
        if self._anchor.was_torn:
            self.notes.append("one of the anchor's two marks was unreadable; it is written anew")
        ahead = 0
        for table, sequence, head in (
            (ROWS, mark.row_count, mark.row_head),
            (JUDGED, mark.judged_sequence, mark.judged_head),
        ):
            last, _ = table.end(self._db)
            if last < sequence:
                raise LedgerDamaged(f"ledger {self.path}: {table.name} end at {last}, {sequence} were acknowledged")
            if table.head_at(self._db, sequence) != head:
                raise LedgerDamaged(f"ledger {self.path}: {table.name} differ from what was acknowledged")
            ahead += table.count_after(self._db, sequence)
        if ahead > 1:
            raise LedgerDamaged(f"ledger {self.path}: {ahead} batches that its anchor does not know")
        self._rehash(*index.snapshot_position(self._db))
        row_count, row_head = ROWS.end(self._db)
        judged_sequence, judged_head = JUDGED.end(self._db)
        return Mark(mark.revision + 1, row_count, row_head, judged_sequence, judged_head)

    def _rehash(self, sequence: int, judged_sequence: int) -> None:
        parts: list[np.ndarray] = []
        for table, after in ((ROWS, min(sequence, judged_sequence)), (JUDGED, judged_sequence)):
            last, head = table.end(self._db)
            seen, seen_head = 0, EMPTY_HEAD
            batches = [np.zeros(0, table.dtype)]
            for batch in table.batches(self._db, after):
                seen, seen_head = batch.last, batch.head
                batches.append(batch.rows)
            if seen and (seen, seen_head) != (last, head):
                raise LedgerDamaged(f"ledger {self.path}: {table.name} end at {seen}, not at {last}")
            rows = np.concatenate(batches)
            parts.append(rows[rows["sequence"] > after])
        self._check_indexes(*parts)

    def _check_indexes(self, rows: np.ndarray, judgements: np.ndarray) -> None:
        """Compare what was noted beside the last rows with the rows: an index has no chain of its own."""
        outcomes = rows[rows["kind"] < FIRST_MONEY_KIND]
        judged = outcomes[np.isin(outcomes["sequence"], judgements["sequence"])]
        if len(judged) != len(judgements):
            raise LedgerDamaged(f"ledger {self.path}: there are verdicts on rows that are not there")
        try:
            same_claims = index.check_claims(self._db, outcomes)
            same_charges = index.check_charges(self._db, judged, judgements)
        except (TypeError, ValueError, OverflowError) as error:
            raise LedgerDamaged(f"ledger {self.path}: beside the rows is what nobody wrote there: {error}") from None
        if not same_claims:
            raise LedgerDamaged(f"ledger {self.path}: what was told before differs from the rows")
        if not same_charges:
            raise LedgerDamaged(f"ledger {self.path}: the statements differ from rows and verdicts")

    def append(self, rows: np.ndarray) -> int:
        """Append outcomes, those told before left out, and answer the sequence up to which the ledger is durable.

        Args:
            rows: OUTCOME[n]; `sequence` is ignored.

        Raises:
            ValueError: another layout, or a kind that the ledger does not keep.
            LedgerUnavailable: nothing is durable, nothing was appended.
        """
        return self.append_claims(rows).last_sequence

    def append_claims(self, rows: np.ndarray) -> Appended:
        """`append`, telling what became of each row. Raises the same."""
        check_outcomes(rows)
        if not len(rows):
            return Appended(np.zeros(0, np.uint64), np.zeros(0, np.int64), self.last_sequence)
        ticket = self._submit(_Ticket(rows, unique=True))
        return Appended(ticket.sequences, ticket.amounts, ticket.last_sequence)

    def append_money(self, rows: np.ndarray) -> int:
        """Append the ledger's own rows about caps and leases, all in one commit; answers the last one's sequence.

        Args:
            rows: MONEY[n], at least one.

        Raises:
            LedgerUnavailable: nothing is durable, nothing was appended.
        """
        if rows.dtype != MONEY or not len(rows):
            raise ValueError(f"rows: {len(rows)} of {rows.dtype.itemsize} bytes; must be MONEY[n], n at least 1")
        ticket = self._submit(_Ticket(as_outcomes(rows), unique=False))
        return int(ticket.sequences[-1])

    def _submit(self, ticket: _Ticket) -> _Ticket:
        with self._queue_lock:
            self._queue.append(ticket)
        with self._commit_lock:
            if not ticket.is_done:
                with self._queue_lock:
                    tickets, self._queue = self._queue, []
                self._commit(tickets)
        if ticket.error is not None:
            raise ticket.error
        return ticket

    def _commit(self, tickets: Sequence[_Ticket]) -> None:
        """Append the rows of all tickets in one transaction, in the order of the queue."""
        try:
            with self._transaction() as marks:
                fresh = [_fresh_rows(self._db, ticket) for ticket in tickets]
                first = self._mark.row_count + 1
                parts = [ticket.rows[mask] for ticket, mask in zip(tickets, fresh, strict=True)]
                rows = parts[0] if len(parts) == 1 else np.concatenate(parts)
                sequences = np.arange(first, first + len(rows), dtype=np.uint64)
                rows["sequence"] = sequences
                if len(rows):
                    last = first + len(rows) - 1
                    marks["row_head"] = ROWS.put(self._db, first, last, self._mark.row_head, rows)
                    marks["row_count"] = last
        except LedgerError as error:
            for ticket in tickets:
                ticket.error, ticket.is_done = error, True
            return
        for ticket, mask in zip(tickets, fresh, strict=True):
            count = int(mask.sum())
            ticket.sequences[mask], sequences = sequences[:count], sequences[count:]
            ticket.last_sequence, ticket.is_done = self._mark.row_count, True

    @contextmanager
    def _transaction(self) -> Iterator[dict[str, Any]]:
        """A transaction that ends with the anchor synced to the marks put into the given dict. Needs the commit lock.

        Raises:
            LedgerUnavailable: not durable. After a failed sync nobody knows what the disk has, so that is for good; a
                disk that was full may have room the next time.
        """
        if self._broken is not None:
            raise self._broken
        marks: dict[str, Any] = {}
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield marks
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise LedgerUnavailable(f"ledger {self.path}: {error}") from error
        try:
            self._db.execute("COMMIT")
            if marks:
                mark = Mark(**{**_fields(self._mark), **marks, "revision": self._mark.revision + 1})
                if self._anchor is not None:
                    self._anchor.write(mark)
                self._mark = mark
        except (sqlite3.Error, OSError) as error:
            if self._left_nothing(error):
                raise LedgerUnavailable(f"ledger {self.path}: {error}") from error
            self._broken = LedgerUnavailable(f"ledger {self.path}: {error}; restart to see what is on disk")
            logger.critical("%s", self._broken)
            raise self._broken from error

    def _left_nothing(self, error: Exception) -> bool:
        """Whether a commit that failed for want of room was rolled back: its pages could not all be written, so there
        was no sync yet whose outcome nobody knows."""
        if not isinstance(error, sqlite3.Error) or not is_full(error):
            return False
        try:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            ends = (*ROWS.end(self._db), *JUDGED.end(self._db))
        except sqlite3.Error:
            return False
        mark = self._mark
        return ends == (mark.row_count, mark.row_head, mark.judged_sequence, mark.judged_head)

    def append_judgements(self, judged_to: int, rows: np.ndarray, judgements: np.ndarray) -> None:
        """Store, durably, the verdicts on the outcomes between the last judged sequence and `judged_to`.

        Args:
            judged_to: a sequence behind `judged_sequence`, at most `last_sequence`.
            rows: OUTCOME[n], all outcomes in between.
            judgements: JUDGEMENT[n], one for each.

        Raises:
            ValueError: the two do not belong together, or `judged_to` is out of range.
            LedgerUnavailable: nothing was stored.
        """
        if not np.array_equal(rows["sequence"], judgements["sequence"]):
            raise ValueError(f"judgements: {len(judgements)} for {len(rows)} rows, or of other rows")
        with self._commit_lock:
            before, last = self._mark.judged_sequence, self._mark.row_count
            if not before < judged_to <= last:
                raise ValueError(f"judged_to {judged_to}: not in {before + 1}..{last}")
            with self._transaction() as marks:
                marks["judged_head"] = JUDGED.put(self._db, before + 1, judged_to, self._mark.judged_head, judgements)
                marks["judged_sequence"] = judged_to
                index.add_charges(self._db, rows, judgements)

    def save_position(self, follower: str, sequence: int) -> None:
        """Note, durably, up to where a follower has read."""
        with self._commit_lock, self._transaction():
            index.save_position(self._db, follower, sequence)

    def save_snapshot(self, sequence: int, judged_sequence: int, body: bytes) -> None:
        """Keep the state that rows up to `sequence` and verdicts up to `judged_sequence` lead to."""
        with self._commit_lock, self._transaction():
            index.save_snapshot(self._db, sequence, judged_sequence, body)

    def checkpoint(self) -> None:
        """Move the write-ahead log into the main file without making writers wait. Call every few seconds."""
        if self.path is not None:
            with self._reading() as db:
                db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def close(self) -> None:
        """Close the files; appends fail from now on."""
        with self._commit_lock:
            self._broken = self._broken or LedgerUnavailable(f"ledger {self.path}: closed")
            if self.path is not None:
                with self._read_lock:
                    self._reader.close()
            self._db.close()
            if self._anchor is not None:
                self._anchor.close()
                self._anchor = None


def _fresh_rows(db: sqlite3.Connection, ticket: _Ticket) -> np.ndarray:
    """Which rows of a ticket were not told before, b1[n]; notes them as told."""
    if not ticket.unique:
        return np.ones(len(ticket.rows), np.bool_)
    fresh, amounts = index.add_claims(db, ticket.rows)
    ticket.amounts = amounts
    return fresh


def _fields(mark: Mark) -> dict[str, Any]:
    return {name: getattr(mark, name) for name in Mark.__slots__}
