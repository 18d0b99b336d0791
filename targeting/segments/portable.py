"""Roaring bitmaps in their portable formats, from bytes that nobody vouches for.

Format: https://github.com/RoaringBitmap/RoaringFormatSpec: that of 32-bit values, and its extension for 64-bit values.
"""

from __future__ import annotations

import numpy as np
from pyroaring import BitMap

MAX_IDS = 2**24
"""Values that a bitmap of ids may have: a few bytes of runs can claim billions."""

_COOKIE_WITHOUT_RUNS = 12346
_COOKIE_WITH_RUNS = 12347
_FEWEST_WITH_OFFSETS = 4  # a bitmap with runs and fewer containers than this has no offset table
_MOST_IN_ARRAY = 4096  # values; a container with more is a bitset
_BITSET_BYTES = 8192
_HIGH_BITS = np.uint64(32)
_DAMAGED = (ValueError, TypeError, IndexError, MemoryError)


def bitmap_from_bytes(raw: bytes) -> BitMap:
    """The bitmap that the portable bytes describe.

    Raises:
        ValueError: they are cut short, run on, or contradict themselves.
    """
    try:
        bitmap = BitMap.deserialize(raw)
        sound = _end_of_bitmap(raw, 0) == len(raw)
    except _DAMAGED:
        sound = False
    if not sound:
        raise ValueError(f"{len(raw)} bytes that are no portable Roaring bitmap")
    return bitmap


def ids_from_bytes(raw: bytes) -> np.ndarray:
    """The ids, ascending (u8[n]), of a portable bitmap of 32-bit or of 64-bit values.

    Raises:
        ValueError: it is neither, or has more than MAX_IDS values.
    """
    buckets = [(0, raw)]
    if int.from_bytes(raw[:4], "little") & 0xFFFF not in (_COOKIE_WITHOUT_RUNS, _COOKIE_WITH_RUNS) or not _is_one(raw):
        buckets = _buckets(raw)
    bitmaps = [(high, bitmap_from_bytes(part)) for high, part in buckets]
    count = sum(len(bitmap) for _, bitmap in bitmaps)
    if count > MAX_IDS:
        raise ValueError(f"a Roaring bitmap of {count} values; at most {MAX_IDS}")
    parts = [np.frombuffer(bitmap.to_array(), np.uint32) | np.uint64(high << 32) for high, bitmap in bitmaps]
    return np.concatenate([np.zeros(0, np.uint64), *parts])


def ids_to_bytes(ids: np.ndarray) -> bytes:
    """A portable bitmap of ids (u8[n], in any order): of 32-bit values if all are such, else of 64-bit values."""
    ordered = np.unique(ids.astype(np.uint64))
    highs = ordered >> _HIGH_BITS
    starts = np.flatnonzero(np.diff(highs, prepend=highs[:1] + np.uint64(1)))
    lows = np.split((ordered & np.uint64(0xFFFFFFFF)).astype(np.uint32), starts[1:])
    if not len(starts) or highs[-1] == 0:
        return _optimized(lows[0])
    parts = [len(starts).to_bytes(8, "little")]
    for high, low in zip(highs[starts].tolist(), lows, strict=True):
        parts += [int(high).to_bytes(4, "little"), _optimized(low)]
    return b"".join(parts)


def _optimized(values: np.ndarray) -> bytes:
    bitmap = BitMap(values)
    bitmap.run_optimize()
    return bytes(bitmap.serialize())


def _is_one(raw: bytes) -> bool:
    """Whether the bytes end where a bitmap of 32-bit values does; a count of buckets may look like its cookie."""
    try:
        return _end_of_bitmap(raw, 0) == len(raw)
    except _DAMAGED:
        return False


def _buckets(raw: bytes) -> list[tuple[int, bytes]]:
    """(upper half of its values, bitmap of their lower halves) of each bucket of a bitmap of 64-bit values.

    Raises:
        ValueError: the bytes are cut short, run on, or their buckets do not ascend.
    """
    buckets: list[tuple[int, bytes]] = []
    at, last = 8, -1
    try:
        for _ in range(int.from_bytes(raw[:8], "little")):
            high = int.from_bytes(raw[at : at + 4], "little")
            end = _end_of_bitmap(raw, at + 4)
            if high <= last or end > len(raw):
                break
            buckets.append((high, raw[at + 4 : end]))
            at, last = end, high
        sound = len(raw) >= 8 and len(buckets) == int.from_bytes(raw[:8], "little") and at == len(raw)
    except _DAMAGED:
        sound = False
    if not sound:
        raise ValueError(f"{len(raw)} bytes that are no portable Roaring bitmap")
    return buckets


def _end_of_bitmap(raw: bytes, begin: int) -> int:
    """Where the bitmap of 32-bit values that begins there ends; -1 if a bitset has not as many bits as the header says.

    The library checks sizes and order, not this; a bitset with more bits than claimed would be written past the end of
    an array.

    Raises:
        ValueError: the bytes end before.
    """
    cookie = int.from_bytes(raw[begin : begin + 4], "little")
    if cookie & 0xFFFF == _COOKIE_WITH_RUNS:
        count = (cookie >> 16) + 1
        run_flags = np.unpackbits(np.frombuffer(raw, np.uint8, -(-count // 8), begin + 4), bitorder="little")
        at = begin + 4 + -(-count // 8)
    elif cookie == _COOKIE_WITHOUT_RUNS:
        count = int.from_bytes(raw[begin + 4 : begin + 8], "little")
        at = begin + 8
        if count > len(raw):
            raise ValueError("more containers than bytes")
        run_flags = np.zeros(count, np.uint8)
    else:
        return -1
    header = np.frombuffer(raw[at : at + 4 * count], np.dtype("<u2"))
    claimed = header[1::2].astype(np.int64) + 1
    at += 4 * count
    if cookie & 0xFFFF != _COOKIE_WITH_RUNS or count >= _FEWEST_WITH_OFFSETS:
        at += 4 * count
    for container in range(count):
        if run_flags[container]:
            at += 2 + 4 * int.from_bytes(raw[at : at + 2], "little")
        elif claimed[container] <= _MOST_IN_ARRAY:
            at += 2 * int(claimed[container])
        else:
            words = np.frombuffer(raw, np.uint64, _BITSET_BYTES // 8, at)
            if int(np.bitwise_count(words).sum()) != claimed[container]:
                return -1
            at += _BITSET_BYTES
    return at
