"""A journal of what was accepted about audiences, so that a restart knows it again."""

from __future__ import annotations

import os
import struct
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_FIELDS = struct.Struct("<IIB")  # body length, CRC-32 of kind and body, kind
_CHECK = struct.Struct("<I")  # CRC-32 of the fields: a length that is damaged must not pass for a record cut short
_HEAD_BYTES = _FIELDS.size + _CHECK.size
_CHUNK_BYTES = 1 << 20
MAX_BODY_BYTES = 64 * 1024 * 1024


class Journal:
    """Records in the order in which they were accepted, each durable before `append` returns. Any thread may call.

    A record that a crash cut short was never acknowledged: it is dropped when the journal is opened.
    """

    def __init__(self, path: Path) -> None:
        """Open or create the journal.

        Raises:
            ValueError: a record in the middle is damaged.
        """
        self._path = path
        self._lock = threading.Lock()
        self._end = self._sound_end()
        self._file: BinaryIO = path.open("r+b")
        self._file.truncate(self._end)
        self._file.seek(self._end)

    @property
    def size_bytes(self) -> int:
        """Bytes of all records."""
        return self._end

    def records(self) -> Iterator[tuple[int, bytes]]:
        """All records, oldest first, as (kind 0..255, body)."""
        with self._path.open("rb") as file:
            while file.tell() < self._end:
                length, _, kind = _FIELDS.unpack_from(file.read(_HEAD_BYTES))
                yield kind, file.read(length)

    def append(self, kind: int, body: bytes) -> None:
        """Write one record and sync it.

        Raises:
            ValueError: the body is longer than MAX_BODY_BYTES.
        """
        if len(body) > MAX_BODY_BYTES:
            raise ValueError(f"journal record: {len(body)} bytes; at most {MAX_BODY_BYTES}")
        record = _record(kind, body)
        with self._lock:
            self._file.write(record)
            self._file.flush()
            os.fdatasync(self._file.fileno())
            self._end += len(record)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._file.close()

    def _sound_end(self) -> int:
        """Where the last whole record ends."""
        self._path.touch(mode=0o600)
        size = self._path.stat().st_size
        with self._path.open("rb") as file:
            while True:
                start = file.tell()
                head = file.read(_HEAD_BYTES)
                if len(head) < _HEAD_BYTES:
                    return start
                is_whole, is_last = _read_body(file, head, size)
                if not is_whole and not is_last:
                    raise ValueError(f"journal {self._path}: the record at byte {start} is damaged")
                if not is_whole:
                    return start


def sound_records(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """The whole records of a journal that somebody else may be writing, as (offset of the body, kind, body)."""
    size = path.stat().st_size
    with path.open("rb") as file:
        while len(head := file.read(_HEAD_BYTES)) == _HEAD_BYTES:
            offset = file.tell()
            if not _read_body(file, head, size)[0]:
                return
            length, _, kind = _FIELDS.unpack_from(head)
            file.seek(offset)
            yield offset, kind, file.read(length)


def _read_body(file: BinaryIO, head: bytes, size: int) -> tuple[bool, bool]:
    """Read the record that `head` begins; whether it is whole, and whether nothing was written behind it."""
    if _CHECK.unpack_from(head, _FIELDS.size)[0] != zlib.crc32(head[: _FIELDS.size]):
        return False, _is_zeros(file)  # a crash can leave a file that grew before its content came
    length, checksum, kind = _FIELDS.unpack_from(head)
    body = file.read(length)
    return len(body) == length and zlib.crc32(body, kind) == checksum, file.tell() == size


def _is_zeros(file: BinaryIO) -> bool:
    while chunk := file.read(_CHUNK_BYTES):
        if any(chunk):
            return False
    return True


def _record(kind: int, body: bytes) -> bytes:
    fields = _FIELDS.pack(len(body), zlib.crc32(body, kind), kind)
    return fields + _CHECK.pack(zlib.crc32(fields)) + body
