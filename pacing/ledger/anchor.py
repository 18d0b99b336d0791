"""The anchor: a small file that says how long the ledger is and how its chain ends, synced before acknowledgements.

SQLite recovers from a damaged write-ahead log by dropping its tail without a word. The anchor is what notices.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct
from dataclasses import dataclass
from pathlib import Path

from pacing.ledger.errors import LedgerDamaged, LedgerInUse

HEAD_BYTES = 32
EMPTY_HEAD = bytes(HEAD_BYTES)
_MAGIC = b"fanbid\x00\x01"
_LAYOUT = struct.Struct(f"<8sQQ{HEAD_BYTES}sQ{HEAD_BYTES}s")
_DIGEST_BYTES = 16
_SLOT_BYTES = 4096
"""Each of the two slots has a disk page of its own, so a torn write damages one of them."""


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a ledger goes.

    Attributes:
        revision: counts the anchor's writes.
        row_count, row_head: rows, and the chain's head behind them.
        judged_sequence, judged_head: the same of judgements.
    """

    revision: int = 0
    row_count: int = 0
    row_head: bytes = EMPTY_HEAD
    judged_sequence: int = 0
    judged_head: bytes = EMPTY_HEAD

    def packed(self) -> bytes:
        """The mark with its digest."""
        body = _LAYOUT.pack(
            _MAGIC, self.revision, self.row_count, self.row_head, self.judged_sequence, self.judged_head
        )
        return body + hashlib.blake2b(body, digest_size=_DIGEST_BYTES).digest()


def _unpacked(raw: bytes) -> Mark | None:
    body, digest = raw[: _LAYOUT.size], raw[_LAYOUT.size : _LAYOUT.size + _DIGEST_BYTES]
    if len(body) < _LAYOUT.size or hashlib.blake2b(body, digest_size=_DIGEST_BYTES).digest() != digest:
        return None
    magic, *fields = _LAYOUT.unpack(body)
    return Mark(*fields) if magic == _MAGIC else None


def _newest(raw: bytes, path: Path) -> tuple[Mark, bool]:
    """The newest mark of an anchor's bytes, and whether one of the two was unreadable.

    Raises:
        LedgerDamaged: neither is readable although something was written.
    """
    if not raw:
        return Mark(), False
    slots = [raw[:_SLOT_BYTES], raw[_SLOT_BYTES:]]
    marks = [mark for mark in map(_unpacked, slots) if mark is not None]
    if not marks:
        raise LedgerDamaged(f"ledger anchor {path}: {len(raw)} bytes, no readable mark")
    blank = sum(not any(slot) for slot in slots)
    newest = max(marks, key=lambda mark: mark.revision)
    return newest, len(marks) + (blank if newest.revision <= 1 else 0) < 2


def read_mark(path: Path) -> Mark:
    """The newest mark of an anchor that another process may be writing, without its lock.

    A write under way damages one of the two slots at most, so the other is what was acknowledged before.

    Raises:
        LedgerDamaged: there is no anchor, or no readable mark.
    """
    try:
        return _newest(path.read_bytes(), path)[0]
    except FileNotFoundError:
        raise LedgerDamaged(f"ledger anchor {path}: missing") from None


class Anchor:
    """The open anchor file. It is also the lock that keeps a second process out. Used by one thread at a time."""

    def __init__(self, path: Path) -> None:
        """Open or create the file and lock it.

        Raises:
            LedgerInUse: another process holds it.
            LedgerDamaged: neither slot is readable although something was written.
        """
        self.path = path
        self.was_torn = False
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.mark = self._load()
        except BlockingIOError:
            os.close(self._fd)
            raise LedgerInUse(f"ledger anchor {path}: another process has this ledger open") from None
        except BaseException:
            os.close(self._fd)
            raise

    def _load(self) -> Mark:
        mark, self.was_torn = _newest(os.pread(self._fd, 2 * _SLOT_BYTES, 0), self.path)
        return mark

    def write(self, mark: Mark) -> None:
        """Put `mark`, whose revision is one more than the present one's, on disk before returning.

        Raises:
            OSError: it is not known to be there.
        """
        os.pwrite(self._fd, mark.packed().ljust(_SLOT_BYTES, b"\0"), mark.revision % 2 * _SLOT_BYTES)
        os.fdatasync(self._fd)
        self.mark = mark

    def close(self) -> None:
        """Close the file and give up the lock."""
        os.close(self._fd)


def chained(head: bytes, sequence: int, body: bytes) -> bytes:
    """The chain's head after one more piece, which starts at `sequence`."""
    digest = hashlib.blake2b(head, digest_size=HEAD_BYTES)
    digest.update(sequence.to_bytes(8, "little"))
    digest.update(body)
    return digest.digest()
