"""Durable copies of what other owners' ledgers have judged, one file each, in the order of the origin and without gaps.

A copy is not the truth, its origin's ledger is: it has no anchor, and one that is damaged is fetched again, from the
origin or, once that is gone, from another copy.
"""

from __future__ import annotations

import logging
import re
import sqlite3
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pacing.durable import transaction
from pacing.facts import JUDGEMENT, OUTCOME
from pacing.ledger.anchor import Mark
from pacing.ledger.errors import LedgerDamaged, LedgerError, LedgerUnavailable
from pacing.ledger.owners import SEQUENCE_MASK, as_seen_from, qualified
from pacing.ledger.reading import JUDGED, ROWS, JudgedReads, open_read_only

logger = logging.getLogger(__name__)

_PRAGMAS = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA journal_size_limit = 67108864",
)
_FILE = re.compile(r"owner-([1-9][0-9]{0,4})\.sqlite")


class GapInRows(LedgerError):
    """Rows that lie behind the next one: what is between has to come first."""


class JudgedPart(NamedTuple):
    """What an owner judged from row `first` to row `last` of its ledger, its own rows about money left out.

    rows and judgements, OUTCOME[n] and JUDGEMENT[n], one for one, carry sequences as the owner has them.
    """

    first: int
    last: int
    rows: np.ndarray
    judgements: np.ndarray


class JudgedCopy(JudgedReads):
    """The copy of one owner's judged rows. One thread writes, any thread may read.

    What is read carries qualified sequences (see `pacing.ledger.owners`); positions and `rows_at` are in those of the
    origin.
    """

    path: Path

    def __init__(self, path: Path, origin_id: int, own_id: int) -> None:
        """Open or create the copy of `origin_id`'s rows in the file `path`, for the owner `own_id`.

        Raises:
            LedgerDamaged: the file is no such copy.
        """
        self.path = path
        self.origin_id = origin_id
        self._own_id = own_id
        self._read_lock = threading.Lock()
        opened: list[sqlite3.Connection] = []
        try:
            for _ in range(2):
                opened.append(self._connect())
            self._db, self._reader = opened
            self._db.executescript(ROWS.schema() + JUDGED.schema())
            self._mark = self._found_mark()
        except (sqlite3.Error, LedgerDamaged) as error:
            for connection in opened:
                connection.close()
            raise LedgerDamaged(f"copy {path}: {error}") from None

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, check_same_thread=False, isolation_level=None)
        try:
            for pragma in _PRAGMAS:
                db.execute(pragma)
        except sqlite3.Error:
            db.close()
            raise
        return db

    def _found_mark(self) -> Mark:
        last, row_head = ROWS.end(self._db)
        judged, judged_head = JUDGED.end(self._db)
        if last != judged:
            raise LedgerDamaged(f"rows end at {last}, judgements at {judged}")
        return Mark(0, last, row_head, judged, judged_head)

    def take(self, parts: Iterable[JudgedPart]) -> int:
        """Add parts, in order, in one transaction; what is there already is passed over. Answers how many rows came.

        Raises:
            GapInRows: a part begins behind the next row; those before it were taken.
            ValueError: a part is none; nothing of it, and nothing behind it, was taken.
            LedgerUnavailable: nothing was taken.
        """
        mark, count = self._mark, 0
        refused: Exception | None = None
        try:
            with transaction(self._db):
                try:
                    for part in parts:
                        rest = self._behind(mark, part)
                        if rest is not None:
                            mark, count = self._put(mark, rest), count + len(rest.rows)
                except (GapInRows, ValueError) as error:
                    refused = error
        except sqlite3.Error as error:
            raise LedgerUnavailable(f"copy {self.path}: {error}") from error
        self._mark = mark
        if refused is not None:
            raise refused
        return count

    def _behind(self, mark: Mark, part: JudgedPart) -> JudgedPart | None:
        """What of a part lies behind the copy's end; None: nothing."""
        first, last, rows, judgements = part
        _check(part)
        if last <= mark.row_count:
            return None
        if first > mark.row_count + 1:
            raise GapInRows(f"copy {self.path}: ends at {mark.row_count}, and rows from {first} came")
        wanted = rows["sequence"] > mark.row_count
        return JudgedPart(mark.row_count + 1, last, rows[wanted], judgements[wanted])

    def _put(self, mark: Mark, part: JudgedPart) -> Mark:
        told = part.judgements.copy()
        told["billed_sequence"] = as_seen_from(self._own_id, self.origin_id, told["billed_sequence"])
        row_head = ROWS.put(self._db, part.first, part.last, mark.row_head, part.rows)
        judged_head = JUDGED.put(self._db, part.first, part.last, mark.judged_head, told)
        return Mark(0, part.last, row_head, part.last, judged_head)

    def read_judged(self, after: int, limit: int) -> tuple[np.ndarray, np.ndarray]:
        """Up to `limit` rows behind the origin's sequence `after`, as OUTCOME[n] and JUDGEMENT[n], qualified.

        Raises:
            LedgerDamaged: what is stored is not what was taken; the text names the file.
        """
        try:
            rows, judgements = super().read_judged(after, limit)
        except LedgerDamaged as damage:
            raise LedgerDamaged(f"copy {self.path}: {damage}") from None
        for table in (rows, judgements):
            table["sequence"] |= np.uint64(qualified(self.origin_id, 0))
        return rows, judgements

    def read_as_told(self, after: int, limit: int) -> tuple[np.ndarray, np.ndarray]:
        """`read_judged` with every sequence as the origin has it: what `take` was given, for who passes it on."""
        rows, judgements = self.read_judged(after, limit)
        for table in (rows, judgements):
            table["sequence"] &= np.uint64(SEQUENCE_MASK)
        judgements["billed_sequence"] = as_seen_from(self.origin_id, self._own_id, judgements["billed_sequence"])
        return rows, judgements

    def close(self) -> None:
        """Close the file."""
        with self._read_lock:
            self._reader.close()
        self._db.close()


class CopyFile:
    """Rows of a copy that another process may be writing, read only."""

    def __init__(self, path: Path) -> None:
        """Open the copy in the file `path`.

        Raises:
            FileNotFoundError: there is none.
            LedgerDamaged: it cannot be opened.
        """
        if not path.exists():
            raise FileNotFoundError(f"{path}: no copy here")
        self.path = path
        self._reader = open_read_only(path)

    def rows_at(self, sequences: np.ndarray) -> np.ndarray:
        """The rows of these sequences of the origin (u8[n], ascending), as OUTCOME[n].

        Raises:
            LedgerDamaged: one is not there, or what is stored is not what was taken.
        """
        try:
            return ROWS.rows_at(self._reader, sequences)
        except (sqlite3.Error, LedgerDamaged) as error:
            raise LedgerDamaged(f"copy {self.path}: {error}") from None

    def close(self) -> None:
        """Close the file."""
        self._reader.close()


def copy_path(folder: Path, origin_id: int) -> Path:
    """The file of the copy of an owner's rows."""
    return folder / f"owner-{origin_id}.sqlite"


class Copies:
    """All copies of a server, in one folder. One thread takes rows in, any thread reads."""

    def __init__(self, folder: Path, own_id: int) -> None:
        """Open what is in `folder`. A copy that is damaged is set aside, to be fetched again."""
        self._folder = folder
        self._own_id = own_id
        self._copies: dict[int, JudgedCopy] = {}
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in sorted(folder.iterdir()):
            named = _FILE.fullmatch(path.name)
            if named and int(named[1]) != own_id:
                self.of(int(named[1]))

    def origins(self) -> list[int]:
        """Owners of whom there is a copy, ascending."""
        return sorted(self._copies)

    def of(self, origin_id: int) -> JudgedCopy:
        """The copy of an owner's rows, made where there is none."""
        copy = self._copies.get(origin_id)
        if copy is None:
            copy = self._opened(copy_path(self._folder, origin_id), origin_id)
            self._copies = {**self._copies, origin_id: copy}
        return copy

    def _opened(self, path: Path, origin_id: int) -> JudgedCopy:
        try:
            return JudgedCopy(path, origin_id, self._own_id)
        except LedgerDamaged as damage:
            logger.warning("%s; set aside as %s.damaged, and fetched again", damage, path.name)
            for suffix in ("-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            path.replace(path.with_name(f"{path.name}.damaged"))
            return JudgedCopy(path, origin_id, self._own_id)

    def close(self) -> None:
        """Close all files."""
        for copy in self._copies.values():
            copy.close()
        self._copies = {}


def _check(part: JudgedPart) -> None:
    """Refuse what cannot come from a ledger.

    Raises:
        ValueError: layouts, lengths or sequences do not belong together.
    """
    first, last, rows, judgements = part
    if rows.dtype != OUTCOME or judgements.dtype != JUDGEMENT:
        raise ValueError("rows: must be OUTCOME[n] and JUDGEMENT[n]")
    sequences = rows["sequence"]
    if not 1 <= first <= last or not np.array_equal(sequences, judgements["sequence"]):
        raise ValueError(f"rows {first}..{last}: {len(rows)} rows and {len(judgements)} judgements of other rows")
    inside = not len(rows) or (first <= sequences[0] and sequences[-1] <= last)
    if not inside or (sequences[1:] <= sequences[:-1]).any():
        raise ValueError(f"rows {first}..{last}: sequences outside of that, or not ascending")
