"""Roaring bitmaps in their portable format, from bytes that nobody vouches for.

Format: https://github.com/RoaringBitmap/RoaringFormatSpec.
"""

from __future__ import annotations

import numpy as np
from pyroaring import BitMap

_COOKIE_WITH_RUNS = 12347
_FEWEST_WITH_OFFSETS = 4  # a bitmap with runs and fewer containers than this has no offset table
_MOST_IN_ARRAY = 4096  # values; a container with more is a bitset
_BITSET_BYTES = 8192


def bitmap_from_bytes(raw: bytes) -> BitMap:
    """The bitmap that the portable bytes describe.

    Raises:
        ValueError: they are cut short, run on, or contradict themselves.
    """
    try:
        bitmap = BitMap.deserialize(raw)
        sound = _bitsets_hold_what_they_claim(raw)
    except (ValueError, TypeError, IndexError, MemoryError):
        sound = False
    if not sound:
        raise ValueError(f"{len(raw)} bytes that are no portable Roaring bitmap")
    return bitmap


def _bitsets_hold_what_they_claim(raw: bytes) -> bool:
    """Whether every bitset container has as many bits as the header says, and nothing follows the last container.

    The library checks sizes and order, not this; a bitset with more bits than claimed would be written past the end of
    an array.
    """
    cookie = int.from_bytes(raw[:4], "little")
    if cookie & 0xFFFF == _COOKIE_WITH_RUNS:
        count = (cookie >> 16) + 1
        run_flags = np.unpackbits(np.frombuffer(raw, np.uint8, -(-count // 8), 4), bitorder="little")
        at = 4 + -(-count // 8)
    else:
        count = int.from_bytes(raw[4:8], "little")
        run_flags = np.zeros(count, np.uint8)
        at = 8
    claimed = np.frombuffer(raw, np.dtype("<u2"), 2 * count, at)[1::2].astype(np.int64) + 1
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
                return False
            at += _BITSET_BYTES
    return at == len(raw)
