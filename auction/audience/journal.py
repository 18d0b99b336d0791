"""A journal of what was accepted about audiences, so that a restart knows it again."""

from __future__ import annotations

import os
import struct
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_HEAD = struct.Struct("<IIB")  # body length, CRC-32 of kind and body, kind
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
                length, _, kind = _HEAD.unpack(file.read(_HEAD.size))
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

    def rewrite(self, records: Iterator[tuple[int, bytes]]) -> None:
        """Replace all records by these, whole or not at all."""
        part = self._path.with_name(self._path.name + ".part")
        with self._lock:
            with part.open("wb") as file:
                for kind, body in records:
                    file.write(_record(kind, body))
                file.flush()
                os.fsync(file.fileno())
                end = file.tell()
            self._file.close()
            part.replace(self._path)
            self._file = self._path.open("r+b")
            self._file.seek(end)
            self._end = end

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
                head = file.read(_HEAD.size)
                if len(head) < _HEAD.size:
                    return start
                length, checksum, kind = _HEAD.unpack(head)
                body = file.read(min(length, MAX_BODY_BYTES))
                if len(body) == length and zlib.crc32(body, kind) == checksum:
                    continue
                if start + _HEAD.size + length < size:
                    raise ValueError(f"journal {self._path}: the record at byte {start} is damaged")
                return start


def _record(kind: int, body: bytes) -> bytes:
    return _HEAD.pack(len(body), zlib.crc32(body, kind), kind) + body
