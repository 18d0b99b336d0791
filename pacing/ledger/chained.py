"""A table of batches of fixed-size rows, each batch carrying the hash of all that came before it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from pacing.ledger.anchor import EMPTY_HEAD, chained
from pacing.ledger.errors import LedgerDamaged


class Batch(NamedTuple):
    """One stored batch, checked: rows with sequences in first..last, ascending; not every sequence need have one."""

    first: int
    last: int
    head: bytes
    rows: np.ndarray


def _is_well_formed(first: Any, last: Any, previous_head: Any, head: Any, body: Any) -> bool:
    """Whether the columns of a batch have the types and ranges that they were written with."""
    if not (isinstance(first, int) and isinstance(last, int) and 0 <= first <= last):
        return False
    return all(isinstance(column, bytes) for column in (previous_head, head, body))


class ChainedTable:
    """Batches of rows of one dtype, which has a field `sequence`. Holds no connection: every method is given one."""

    def __init__(self, name: str, dtype: np.dtype[Any]) -> None:
        self.name = name
        self.dtype = dtype
        self._select = f"SELECT first_sequence, last_sequence, previous_head, head, body FROM {name}"

    def schema(self) -> str:
        """The statement that creates the table."""
        return (
            f"CREATE TABLE IF NOT EXISTS {self.name} (first_sequence INTEGER PRIMARY KEY, "
            "last_sequence INTEGER NOT NULL, previous_head BLOB NOT NULL, head BLOB NOT NULL, body BLOB NOT NULL);"
        )

    def put(self, db: Any, first: int, last: int, previous_head: bytes, rows: np.ndarray) -> bytes:
        """Add a batch and answer the chain's new head."""
        body = rows.tobytes()
        head = chained(previous_head, last, body)
        db.execute(f"INSERT INTO {self.name} VALUES (?, ?, ?, ?, ?)", (first, last, previous_head, head, body))
        return head

    def end(self, db: Any) -> tuple[int, bytes]:
        """Last sequence and head; zeros when there is no batch."""
        found = db.execute(
            f"SELECT last_sequence, head FROM {self.name} ORDER BY first_sequence DESC LIMIT 1"
        ).fetchone()
        if found is None:
            return 0, EMPTY_HEAD
        if not _is_well_formed(found[0], found[0], EMPTY_HEAD, found[1], b""):
            raise LedgerDamaged(f"ledger {self.name}: the last batch is not what was written")
        return found[0], found[1]

    def head_at(self, db: Any, sequence: int) -> bytes | None:
        """The head behind the batch that ends at `sequence`; None: no batch ends there."""
        if sequence == 0:
            return EMPTY_HEAD
        found = db.execute(
            f"SELECT last_sequence, head FROM {self.name} WHERE first_sequence <= ? "
            "ORDER BY first_sequence DESC LIMIT 1",
            (sequence,),
        ).fetchone()
        return found[1] if found and found[0] == sequence else None

    def count_after(self, db: Any, sequence: int) -> int:
        """How many batches begin behind `sequence`."""
        return int(db.execute(f"SELECT count(*) FROM {self.name} WHERE first_sequence > ?", (sequence,)).fetchone()[0])

    def batches(self, db: Any, after: int, head: bytes | None = None) -> Iterator[Batch]:
        """Batches from the one that holds the sequence after `after` on, each checked against hash and neighbour.

        Args:
            head: if given, what the chain's head behind `after` must be.

        Raises:
            LedgerDamaged: a batch is not what was written, or one is missing.
        """
        cursor = db.execute(
            f"{self._select} WHERE first_sequence >= (SELECT coalesce(max(first_sequence), 0) FROM {self.name} "
            "WHERE first_sequence <= ?) ORDER BY first_sequence",
            (after + 1,),
        )
        expected = None if head is None else (after + 1, head)
        for first, last, previous_head, found, body in cursor:
            if expected is None and first == 1:
                expected = (1, EMPTY_HEAD)
            if expected is not None and expected != (first, previous_head):
                raise LedgerDamaged(f"ledger {self.name}: batch {expected[0]} is missing or altered")
            if not _is_well_formed(first, last, previous_head, found, body) or len(body) % self.dtype.itemsize:
                raise LedgerDamaged(f"ledger {self.name}: batch behind {after} is not what was written")
            if chained(previous_head, last, body) != found:
                raise LedgerDamaged(f"ledger {self.name}: batch {first}..{last} is not what was written")
            expected = (last + 1, found)
            yield Batch(first, last, found, np.frombuffer(body, self.dtype))

    def read(self, db: Any, after: int, until: int, limit: int, below_kind: int | None = None) -> np.ndarray:
        """Up to `limit` rows with sequences in after+1 .. until, oldest first; if given, of kinds below `below_kind`.

        Raises:
            LedgerDamaged: what is stored is not what was written.
        """
        parts: list[np.ndarray] = []
        count = 0
        for batch in self.batches(db, after):
            if batch.first > until or count >= limit:
                break
            rows = batch.rows
            wanted = (rows["sequence"] > after) & (rows["sequence"] <= until)
            if below_kind is not None:
                wanted &= rows["kind"] < below_kind
            part = rows if wanted.all() else rows[wanted]
            parts.append(part)
            count += len(part)
        joined = np.empty(count, self.dtype)  # numpy's concatenate works out the common type anew for each part
        at = 0
        for part in parts:
            joined[at : at + len(part)] = part
            at += len(part)
        return joined[:limit]

    def rows_at(self, db: Any, sequences: np.ndarray) -> np.ndarray:
        """The rows of these sequences (u8[n], ascending).

        Raises:
            LedgerDamaged: one is not there, or what is stored is not what was written.
        """
        found = np.zeros(len(sequences), self.dtype)
        done = 0
        while done < len(sequences):
            batch = next(self.batches(db, int(sequences[done]) - 1), None)
            last = done if batch is None else int(np.searchsorted(sequences, batch.last, side="right"))
            wanted = sequences[done:last]
            places = np.searchsorted(batch.rows["sequence"], wanted) if batch is not None else wanted
            if batch is None or not len(wanted) or places[-1] >= len(batch.rows):
                raise LedgerDamaged(f"ledger {self.name}: row {sequences[done]} is missing")
            found[done:last] = batch.rows[places]
            done = last
        if not np.array_equal(found["sequence"], sequences):
            raise LedgerDamaged(f"ledger {self.name}: rows of {sequences[0]}..{sequences[-1]} are missing")
        return found
