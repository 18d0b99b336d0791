"""Keeps the landscapes that bids were shaded with, and which snapshot had which, so that a bid can be derived again.

A landscape is addressed by the hash of what decides bids in it, and stored once a file: the leaves of the present hours
and of the next, as no other can be asked for while its snapshot serves. A snapshot's version is
`start << 32 | count`: each start of a server has a number and files of its own, so no two snapshots share a version.
An entry says from which version on a landscape was in use. It is durable before that snapshot serves, so a crash loses
none. Where the disk refuses an entry, bidding goes on with start number 0, of which there are no entries: such bids,
and those of a lost folder, are "not retained" to whoever looks them up. What is kept: KEPT_DAYS, and at most about
MAX_TOTAL_BYTES.
"""

from __future__ import annotations

import hashlib
import logging
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import numpy as np

from auction.audience.journal import Journal, sound_records
from auction.landscape.kernels import Landscape, build_envelope
from auction.landscape.segments import HOUR_BLOCKS, HOURS_PER_BLOCK, leaves_of_blocks
from pacing.clocks import MS_PER_DAY, MS_PER_SECOND, Clock
from pacing.days import local_hour
from pacing.durable import sync_folder

logger = logging.getLogger(__name__)

LANDSCAPES_FOLDER = "landscapes"
KEPT_DAYS = 31
MAX_TOTAL_BYTES = 4 * 1024**3
START_SHIFT = 32
_SUFFIX = ".landscapes"
_ENTRY = 1
_HEAD = struct.Struct("<Q32s")  # first version, address
_SIZES = struct.Struct("<III")  # bins, landscapes, distinct rows


def raw_bytes(landscape: Landscape, leaves: np.ndarray) -> bytes:
    """What decides the bids on some leaves (b1[L]): edges, and each distinct row of F once; the other leaves are 0.

    Envelopes are left out: they follow from F.
    """
    win_probs = landscape.win_probs
    count, bins = win_probs.shape
    rows: dict[bytes, int] = {bytes(8 * bins): 0}
    places = np.zeros(count, "<u4")
    for idx in np.flatnonzero(leaves).tolist():
        places[idx] = rows.setdefault(win_probs[idx].astype("<f8").tobytes(), len(rows))
    edges = landscape.edges_micros.astype("<i8").tobytes()
    return b"".join((_SIZES.pack(bins, count, len(rows)), edges, places.tobytes(), *rows))


def address_of(raw: bytes) -> bytes:
    """The hash, 32 bytes, by which a landscape is known."""
    return hashlib.blake2b(raw, digest_size=32).digest()


def landscape_of(raw: bytes) -> Landscape:
    """The landscape that `raw_bytes` made these bytes of, its envelopes built anew.

    Raises:
        ValueError: the bytes are nothing of the kind.
    """
    try:
        bins, count, distinct = _SIZES.unpack_from(raw)
        at = _SIZES.size
        edges = np.frombuffer(raw, "<i8", bins, at)
        places = np.frombuffer(raw, "<u4", count, at + 8 * bins)
        rows = np.frombuffer(raw, "<f8", distinct * bins, at + 8 * bins + 4 * count).reshape(distinct, bins)
        win_probs = rows[places]
    except (struct.error, IndexError) as error:
        raise ValueError(f"landscape: {error}") from None
    counts = np.zeros(count, np.int32)
    starts, bids = np.zeros((count, bins + 1)), np.zeros((count, bins + 1), np.int64)
    for idx in range(count):
        counts[idx] = build_envelope(edges, win_probs[idx], starts[idx], bids[idx])
    return Landscape(edges, win_probs, counts, starts, bids)


class LandscapeArchive:
    """Numbers snapshots, and writes down their landscapes. Used by the one thread that publishes."""

    def __init__(self, folder: Path, clock: Clock, zone: str) -> None:
        """Begin a new start in `folder`, which is made if it is not there; landscapes go by the hours of `zone`."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._clock = clock
        self._zone = zone
        latest = max((_start_and_day(path)[0] for path in _files(folder)), default=0)
        self._start = max(latest + 1, clock.wall_ms() // MS_PER_SECOND)
        self._count = 0
        self._day = -1
        self._journal: Journal | None = None
        self._kept: set[bytes] = set()
        self._present: tuple[Landscape, int] | None = None
        self._address = b""

    def next_version(self, landscape: Landscape) -> int:
        """A version for the next snapshot, whose landscape this is; the two are durable together on return."""
        self._count += 1
        now_ms = self._clock.wall_ms()
        day, block = now_ms // MS_PER_DAY, local_hour(now_ms, self._zone) // HOURS_PER_BLOCK
        present = self._present
        if present is not None and present[0] is landscape and present[1] == block and day == self._day:
            return self._version
        try:
            raw = raw_bytes(landscape, leaves_of_blocks((block, (block + 1) % HOUR_BLOCKS)))
            if self._journal is None or day != self._day:
                self._open(day)
            self._write(raw)
            self._present = landscape, block
        except (OSError, ValueError) as error:
            logger.warning("landscapes: %s; bids shaded with this one cannot be derived again", error)
            self._begin_again()
            return self._count
        return self._version

    @property
    def _version(self) -> int:
        return self._start << START_SHIFT | self._count

    def _open(self, day: int) -> None:
        if self._journal is not None:
            self._journal.close()
        self._journal = None
        self._journal = Journal(self._folder / f"{self._start:010d}-{day:06d}{_SUFFIX}")
        self._day = day
        self._kept.clear()
        self._address = b""
        sync_folder(self._folder)
        _forget_old(self._folder, day)

    def _write(self, raw: bytes) -> None:
        assert self._journal is not None
        address = address_of(raw)
        if address != self._address:
            body = b"" if address in self._kept else zlib.compress(raw, 1)
            self._journal.append(_ENTRY, _HEAD.pack(self._version, address) + body)
            self._kept.add(address)
            self._address = address

    def _begin_again(self) -> None:
        """Take the next start number at the next attempt: nobody knows what the disk has of this one."""
        self.close()
        self._start += 1
        self._present, self._address, self._day = None, b"", -1

    def close(self) -> None:
        """Close the file."""
        if self._journal is not None:
            self._journal.close()
            self._journal = None


class RetainedLandscapes:
    """What an archive has, read without changing anything, also beside a server that writes it."""

    def __init__(self, folder: Path) -> None:
        """Look through all files; what is behind a record that is not whole is as good as not retained."""
        entries: list[tuple[int, bytes]] = []
        self._places: dict[bytes, tuple[Path, int, int]] = {}
        for path in _files(folder):
            for offset, kind, body in _records(path):
                if kind != _ENTRY or len(body) < _HEAD.size:
                    continue
                version, address = _HEAD.unpack_from(body)
                entries.append((version, address))
                if len(body) > _HEAD.size:
                    self._places[address] = (path, offset + _HEAD.size, len(body) - _HEAD.size)
        entries.sort()
        self._versions = np.array([version for version, _ in entries], np.uint64)
        self._addresses = [address for _, address in entries]
        self.load = lru_cache(maxsize=8)(self._load)

    def addresses_of(self, versions: np.ndarray) -> list[bytes | None]:
        """The address of the landscape that each snapshot of u8[n] versions had; None: not retained."""
        places = np.searchsorted(self._versions, versions, side="right") - 1
        found: list[bytes | None] = []
        for version, place in zip(versions.tolist(), places.tolist(), strict=True):
            known = place >= 0 and int(self._versions[place]) >> START_SHIFT == version >> START_SHIFT
            address = self._addresses[place] if known else None
            found.append(address if address in self._places else None)
        return found

    def _load(self, address: bytes) -> Landscape:
        """The landscape of an address that `addresses_of` gave; the last few stay in memory.

        Raises:
            ValueError: what is stored hashes to something else.
            FileNotFoundError: its file was removed meanwhile.
        """
        path, offset, length = self._places[address]
        with path.open("rb") as file:
            file.seek(offset)
            try:
                raw = zlib.decompress(file.read(length))
            except zlib.error as error:
                raise ValueError(f"landscape {address.hex()[:16]}: {error}") from None
        if address_of(raw) != address:
            raise ValueError(f"landscape {address.hex()[:16]}: hashes to {address_of(raw).hex()[:16]}")
        return landscape_of(raw)


def _start_and_day(path: Path) -> tuple[int, int]:
    start, _, day = path.name.removesuffix(_SUFFIX).partition("-")
    return int(start), int(day)


def _files(folder: Path) -> Iterator[Path]:
    """The archive's files, oldest first."""
    for path in sorted(folder.glob(f"*-*{_SUFFIX}")):
        if path.name.removesuffix(_SUFFIX).replace("-", "").isdigit():
            yield path


def _records(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """A file's records; none of one that the server removed meanwhile."""
    with suppress(FileNotFoundError):
        yield from sound_records(path)


def _forget_old(folder: Path, today: int) -> None:
    """Remove files that are too old, then the oldest while there is too much; never the newest."""
    files = list(_files(folder))[:-1]
    left = sum(path.stat().st_size for path in files)
    for path in files:
        if _start_and_day(path)[1] < today - KEPT_DAYS or left > MAX_TOTAL_BYTES:
            left -= path.stat().st_size
            path.unlink()
