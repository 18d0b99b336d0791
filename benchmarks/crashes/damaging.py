"""One damage at a time to a copy of a ledger's files, and what opening that copy comes to."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.crashes.killed import LEDGER_FILES
from pacing.budget.recovery import replay
from pacing.facts import OUTCOME, OutcomeKind
from pacing.ledger.errors import LedgerError
from pacing.ledger.log import Ledger

_ALL = 10**6
_MEMORY_DISK = Path("/dev/shm")
_OWNER_ID = 1


class Outcome(StrEnum):
    """What a damage comes to."""

    REFUSED = "refused"
    HARMLESS = "harmless"
    SILENTLY_WRONG = "silently wrong"


@dataclass(frozen=True, slots=True)
class Damage:
    """A file cut short at a byte (`bit` -1), or one bit of that byte flipped."""

    name: str
    place: int
    bit: int

    def applied(self, raw: bytes) -> bytes:
        """The file with the damage."""
        if self.bit < 0:
            return raw[: self.place]
        return raw[: self.place] + bytes([raw[self.place] ^ 1 << self.bit]) + raw[self.place + 1 :]

    def __str__(self) -> str:
        return f"{self.name} cut at {self.place}" if self.bit < 0 else f"{self.name} byte {self.place} bit {self.bit}"


def damages(files: dict[str, bytes], tail_bytes: int, bits: int, every: int, seed: int) -> Iterator[Damage]:
    """Every damage: to the tail of the main file, to all of the write-ahead log and of the anchor.

    Args:
        bits: how many bits of each byte are flipped, one at a time, drawn from the seed; 8: all.
        every: only each so manyth byte.
    """
    draw = random.Random(seed)
    for name in LEDGER_FILES:
        size = len(files[name])
        first = max(0, size - tail_bytes) if name == LEDGER_FILES[0] else 0
        for place in range(first + draw.randrange(every), size, every):
            yield Damage(name, place, -1)
            for bit in draw.sample(range(8), bits):
                yield Damage(name, place, bit)


def picture(ledger: Ledger) -> dict[str, Any]:
    """All that a ledger answers: rows, verdicts, what was told before, statements, and the accounts that follow."""
    rows, (judged, judgements) = ledger.read(0, _ALL), ledger.read_judged(0, _ALL)
    billable = rows["kind"] == OutcomeKind.BILLABLE
    statements = [
        (ledger.charges_of(campaign_id, 0, _ALL).tolist(), ledger.charged_at(campaign_id, _ALL))
        for campaign_id in np.unique(rows["decision"]["campaign_id"][billable]).tolist()
    ]
    accounts = replay(ledger, _OWNER_ID).store.accounts.values()
    return {
        "ends": (ledger.last_sequence, ledger.judged_sequence),
        "rows": rows.tobytes(),
        "own rows": ledger.read_money(0).tobytes(),
        "judged rows": judged.tobytes(),
        "verdicts": judgements.tobytes(),
        "told before": ledger.find_claims(rows).tolist(),
        "statements": statements,
        "accounts": [(a.campaign_id, a.flight, a.over_delivered_micros, a.days) for a in accounts],
    }


class Opener:
    """Opens damaged copies with the shipped ledger, in a folder in memory where there is one."""

    def __init__(self, files: dict[str, bytes], folder: Path) -> None:
        """Look at what the sound files say.

        Raises:
            LedgerError: they are not sound.
        """
        self._files = files
        self._folder = folder
        self._write({})
        ledger = Ledger(folder / LEDGER_FILES[0])
        try:
            self._expected = picture(ledger)
        finally:
            ledger.close()
        self._next = _further_row(self._expected["rows"])

    @property
    def rows(self) -> int:
        """How many rows the sound ledger has."""
        return int(self._expected["ends"][0])

    def _write(self, changed: dict[str, bytes]) -> None:
        for left in self._folder.iterdir():
            left.unlink()
        for name, raw in (self._files | changed).items():
            (self._folder / name).write_bytes(raw)

    def outcome(self, damage: Damage) -> tuple[Outcome, str]:
        """What opening, reading and going on with the damaged files comes to, and why."""
        self._write({damage.name: damage.applied(self._files[damage.name])})
        try:
            ledger = Ledger(self._folder / LEDGER_FILES[0])
            try:
                return self._read(ledger)
            finally:
                ledger.close()
        except LedgerError as refused:
            return Outcome.REFUSED, str(refused)
        except Exception as error:  # whatever it is, a start must not end with it
            return Outcome.SILENTLY_WRONG, f"{type(error).__name__}: {error}"

    def _read(self, ledger: Ledger) -> tuple[Outcome, str]:
        wrong = self._differences(picture(ledger))
        if wrong:
            return Outcome.SILENTLY_WRONG, f"opens with other {wrong}"
        if ledger.append(self._next) != self.rows + 1:
            return Outcome.SILENTLY_WRONG, "goes on at another row"
        after = ledger.read(0, _ALL).tobytes()
        if not after.startswith(self._expected["rows"]):
            return Outcome.SILENTLY_WRONG, "has other rows after the next one"
        return Outcome.HARMLESS, ""

    def _differences(self, found: dict[str, Any]) -> str:
        return ", ".join(name for name, value in self._expected.items() if found[name] != value)


def _further_row(rows: bytes) -> np.ndarray:
    """OUTCOME[1] that is in no ledger: the first of these rows, done by somebody else."""
    row = np.frombuffer(rows, OUTCOME)[:1].copy()
    row["kind"], row["has_token"] = OutcomeKind.LIKE, 0
    row["viewer_id"] = 2**63
    return row


@contextmanager
def opener(files: dict[str, bytes]) -> Iterator[Opener]:
    """An opener in a folder of its own, which goes away in the end."""
    place = _MEMORY_DISK if os.access(_MEMORY_DISK, os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="fanbid-damage-", dir=place))
    try:
        yield Opener(files, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
