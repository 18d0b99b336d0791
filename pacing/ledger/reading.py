"""What can be asked of a ledger: by the process that writes it, and by others, which neither lock nor change it."""

from __future__ import annotations

import sqlite3
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import islice
from pathlib import Path
from urllib.parse import quote

import numpy as np

from pacing.facts import JUDGEMENT, OUTCOME
from pacing.ledger import index
from pacing.ledger.anchor import EMPTY_HEAD, Mark, read_mark
from pacing.ledger.chained import Batch, ChainedTable
from pacing.ledger.errors import LedgerDamaged, LedgerUnavailable
from pacing.ledger.rows import FIRST_MONEY_KIND, as_money

ROWS = ChainedTable("batches", OUTCOME)
JUDGED = ChainedTable("judgements", JUDGEMENT)
_BATCHES_AT_A_TIME = 256


def open_read_only(path: Path) -> sqlite3.Connection:
    """A connection that neither changes a file nor keeps its writer out.

    Raises:
        LedgerDamaged: SQLite cannot open it.
    """
    try:
        return sqlite3.connect(
            f"file:{quote(str(path.resolve()))}?mode=ro", uri=True, check_same_thread=False, isolation_level=None
        )
    except sqlite3.Error as error:
        raise LedgerDamaged(f"ledger {path}: {error}") from None


def is_full(error: sqlite3.Error) -> bool:
    """Whether the disk had no room; the low byte of an extended code is the primary one."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL


class JudgedReads:
    """Questions to rows and verdicts up to their mark. Any thread may ask."""

    path: Path | None
    _reader: sqlite3.Connection
    _read_lock: threading.Lock
    _mark: Mark
    _barren = (0, 0)
    """Behind the first sequence, up to the second, lie no outcomes: who waits for some need not read the ledger's own
    rows again and again."""

    @property
    def last_sequence(self) -> int:
        """The ledger is durable up to this row; 0: empty."""
        return self._mark.row_count

    @property
    def judged_sequence(self) -> int:
        """Every row up to this one has its verdict."""
        return self._mark.judged_sequence

    @property
    def judged_end(self) -> tuple[int, bytes]:
        """The judged sequence, and the head of the verdicts' chain there."""
        mark = self._mark
        return mark.judged_sequence, mark.judged_head

    def judged_head_at(self, sequence: int) -> bytes | None:
        """The head of the verdicts' chain behind `sequence`; None: no batch of verdicts ends there."""
        if not 0 <= sequence <= self._mark.judged_sequence:
            return None
        with self._reading() as db:
            return JUDGED.head_at(db, sequence)

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._read_lock:
            try:
                yield self._reader
            except sqlite3.Error as error:
                if is_full(error):
                    raise LedgerUnavailable(f"ledger {self.path}: {error}") from error
                raise LedgerDamaged(f"ledger {self.path}: {error}") from error

    def rows_at(self, sequences: np.ndarray) -> np.ndarray:
        """The rows of these sequences (u8[n], ascending), as OUTCOME[n].

        Raises:
            LedgerDamaged: one is not there, or what is stored is not what was acknowledged.
        """
        with self._reading() as db:
            return ROWS.rows_at(db, sequences)

    def read_judged(self, after: int, limit: int) -> tuple[np.ndarray, np.ndarray]:
        """Up to `limit` outcomes behind sequence `after` that have verdicts, as (OUTCOME[n], JUDGEMENT[n]) row by row.

        Raises:
            LedgerDamaged: what is stored is not what was acknowledged.
        """
        until = self._mark.judged_sequence
        low, high = self._barren
        if low <= after <= high:
            after = high
        else:
            low = after
        with self._reading() as db:
            rows = ROWS.read(db, after, until, limit, FIRST_MONEY_KIND)
            judgements = JUDGED.read(db, after, until, len(rows))
        if not np.array_equal(rows["sequence"], judgements["sequence"]):
            raise LedgerDamaged(f"ledger {self.path}: rows behind {after} do not have one verdict each")
        if not len(rows) and limit > 0:
            self._barren = (low, max(after, until))
        return rows, judgements


class ChargeReads(ABC):
    """Questions to a list of charges, in a ledger or elsewhere. Any thread may ask."""

    @abstractmethod
    def _reading(self) -> AbstractContextManager[sqlite3.Connection]:
        """The connection to ask, one question at a time."""

    def charges_of(self, campaign_id: int, after: int, limit: int) -> np.ndarray:
        """A campaign's charges (judged billable rows) behind a place in the list, as CHARGE[n], oldest first;
        `sequence` is that place: of a ledger, the row."""
        with self._reading() as db:
            return index.charges_of(db, campaign_id, after, limit)

    def charged_at(self, campaign_id: int, place: int) -> tuple[int, int]:
        """What a campaign was charged, and what was delivered over its budgets, in micros, up to a place."""
        with self._reading() as db:
            return index.charged_at(db, campaign_id, place)


class LedgerReads(JudgedReads, ChargeReads):
    """Questions to a ledger up to its mark. Any thread may ask."""

    def find_claims(self, rows: np.ndarray) -> np.ndarray:
        """The amounts under which OUTCOME[n] are in the ledger already, i8[n]; -1: not told before."""
        with self._reading() as db:
            return index.find_claims(db, rows)

    def read(self, after: int, limit: int) -> np.ndarray:
        """Up to `limit` outcomes behind sequence `after`, oldest first, as OUTCOME[n], without the ledger's own rows.

        Raises:
            LedgerDamaged: what is stored is not what was acknowledged.
        """
        with self._reading() as db:
            return ROWS.read(db, after, self._mark.row_count, limit, FIRST_MONEY_KIND)

    def read_money(self, after: int) -> np.ndarray:
        """The ledger's own rows behind sequence `after`, as MONEY[n]. Raises as `read`."""
        with self._reading() as db:
            parts = [b.rows[b.rows["kind"] >= FIRST_MONEY_KIND] for b in ROWS.batches(db, after)]
        rows = np.concatenate([np.zeros(0, OUTCOME), *parts])
        return as_money(rows[(rows["sequence"] > after) & (rows["sequence"] <= self._mark.row_count)])

    def position(self, follower: str) -> int:
        """Up to where a follower has read; 0: it has not begun."""
        with self._reading() as db:
            return index.position(db, follower)

    def load_snapshot(self) -> tuple[int, int, bytes] | None:
        """The newest undamaged snapshot up to the mark: (sequence, judged_sequence, body)."""
        with self._reading() as db:
            return index.load_snapshot(db, self._mark.row_count, self._mark.judged_sequence)


class LedgerFile(LedgerReads):
    """A ledger as it was when this was opened, read only, whether or not a server is writing on.

    It takes no lock that keeps a server out or makes it wait: the anchor is read without its lock, and the tables over
    a read-only connection, each answer a short transaction of SQLite's write-ahead log.
    """

    path: Path

    def __init__(self, path: Path) -> None:
        """Open the ledger in the file `path`, with its anchor beside it.

        Raises:
            FileNotFoundError: there is no ledger.
            LedgerDamaged: it is shorter than, or different from, what was acknowledged.
        """
        if not path.exists():
            raise FileNotFoundError(f"{path}: no ledger here")
        self.path = path
        self._mark = read_mark(path.with_suffix(".anchor"))
        self._read_lock = threading.Lock()
        self._reader = open_read_only(path)
        try:
            self._check_ends()
        except BaseException:
            self._reader.close()
            raise

    def _check_ends(self) -> None:
        mark = self._mark
        for table, sequence, head in (
            (ROWS, mark.row_count, mark.row_head),
            (JUDGED, mark.judged_sequence, mark.judged_head),
        ):
            with self._reading() as db:
                last, found = table.end(db)[0], table.head_at(db, sequence)
            if last < sequence:
                raise LedgerDamaged(f"ledger {self.path}: {table.name} end at {last}, {sequence} were acknowledged")
            if found != head:
                raise LedgerDamaged(f"ledger {self.path}: {table.name} differ from what was acknowledged")

    def chain(self, table: ChainedTable) -> Iterator[Batch]:
        """Every batch up to the mark, from the first, each checked against its hash and the one before it.

        Raises:
            LedgerDamaged: a batch is missing or altered, or the chain ends elsewhere than the anchor says.
        """
        mark = self._mark
        until, until_head = (
            (mark.row_count, mark.row_head) if table is ROWS else (mark.judged_sequence, mark.judged_head)
        )
        after, head = 0, EMPTY_HEAD
        while after < until:
            part, damage = self._next_batches(table, after, head)
            for batch in part:
                if batch.first <= until:
                    after, head = batch.last, batch.head
                    yield batch
            if damage is not None:
                raise damage
            if not part:
                break
        if (after, head) != (until, until_head):
            raise LedgerDamaged(f"ledger {self.path}: {table.name} end at {after}, the anchor says {until}")

    def _next_batches(self, table: ChainedTable, after: int, head: bytes) -> tuple[list[Batch], LedgerDamaged | None]:
        """Some batches, in one short transaction, and what is wrong behind them."""
        part: list[Batch] = []
        try:
            with self._reading() as db:
                part.extend(islice(table.batches(db, after, head), _BATCHES_AT_A_TIME))
        except LedgerDamaged as damage:
            return part, damage
        return part, None

    def count_charges(self) -> int:
        """How many charges the statements list."""
        with self._reading() as db:
            return index.count_charges(db, self._mark.judged_sequence)

    def close(self) -> None:
        """Close the file."""
        with self._read_lock:
            self._reader.close()
