from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pyroaring import BitMap

from targeting.segments import portable
from targeting.segments.portable import bitmap_from_bytes, ids_from_bytes, ids_to_bytes

WORD = 2**32


@st.composite
def bitmaps(draw: st.DrawFn) -> BitMap:
    """Bitmaps with array, bitset and run containers, few and many."""
    bitmap = BitMap(draw(st.lists(st.integers(0, WORD - 1), max_size=30)))
    for _ in range(draw(st.integers(0, 5))):
        first = draw(st.integers(0, 8)) * 2**16
        step = draw(st.sampled_from((1, 2, 3, 100)))
        bitmap |= BitMap(range(first, first + draw(st.integers(0, 2**16)), step))
    if draw(st.booleans()):
        bitmap.run_optimize()
    return bitmap


@given(bitmaps())
def test_what_a_roaring_library_writes_is_read(bitmap):
    assert bitmap_from_bytes(bitmap.serialize()) == bitmap


@given(bitmaps(), st.randoms(use_true_random=False))
def test_a_damaged_bitmap_is_refused_or_sound(bitmap, random):
    raw = bytearray(bitmap.serialize())
    raw[random.randrange(len(raw))] ^= 1 << random.randrange(8)
    try:
        damaged = bitmap_from_bytes(bytes(raw))
    except ValueError:
        return
    values = list(damaged)
    assert len(values) == len(damaged)
    assert values == sorted(set(values))


@given(bitmaps(), st.integers(1, 20))
def test_bytes_cut_short_or_running_on_are_refused(bitmap, by):
    raw = bitmap.serialize()
    for wrong in (raw[:-by], raw + b"\0" * by):
        with pytest.raises(ValueError, match="no portable Roaring bitmap"):
            bitmap_from_bytes(wrong)


@given(st.binary(max_size=60))
@example(b"")
def test_noise_never_gets_further_than_an_error(raw):
    try:
        assert len(bitmap_from_bytes(raw)) >= 0
    except ValueError as refused:
        assert "no portable Roaring bitmap" in str(refused)


def test_a_bitset_with_more_bits_than_it_claims():
    raw = bytearray(BitMap(range(0, 20_000, 2)).serialize())
    raw[-1] ^= 1
    with pytest.raises(ValueError, match="no portable Roaring bitmap"):
        bitmap_from_bytes(bytes(raw))


PUBLISHED = [*range(0, 100_000, 1_000), *range(300_000, 600_000, 3), *range(700_000, 800_000)]
"""What the format's published test files hold, as testdata/README.md of RoaringFormatSpec has it."""

PUBLISHED_SHA256 = {
    "bitmapwithruns.bin": "1f1909bfdd354fa2f0694fe88b8076833ca5383ad9fc3f68f2709c84a2ab70e3",
    "bitmapwithoutruns.bin": "d719ae2e0150a362ef7cf51c361527585891f01460b1a92bcfb6a7257282a442",
    "portable_bitmap64.bin": "b5a553a759167f5f9ccb3fa21552d943b4c73235635b753376f4faf62067d178",
    "bitmap64.bin": "a0f752256dbbc2ca67659c4bedb0ac5b67f18fbef76d65e0cc95bfa442eb0a6a",
}


def sha256(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def test_the_published_files_byte_for_byte():
    ids = np.array(PUBLISHED, np.uint64)
    with_runs = ids_to_bytes(ids[::-1])
    without_runs = bytes(BitMap(PUBLISHED, optimize=False).serialize())
    assert sha256(with_runs) == PUBLISHED_SHA256["bitmapwithruns.bin"]
    assert sha256(without_runs) == PUBLISHED_SHA256["bitmapwithoutruns.bin"]
    for raw in (with_runs, without_runs):
        assert ids_from_bytes(raw).tolist() == PUBLISHED
        assert bytes(bitmap_from_bytes(raw).serialize()) == raw


def test_the_published_files_of_64_bit_values_byte_for_byte():
    half = {*range(0x9001), *range(0xA000, 0x10001), 0x20000, 0x20005, *range(0x80000, 0x90000, 2)}
    both = np.array([base << 32 | low for base in (0, 1) for low in sorted(half)], np.uint64)
    assert sha256(ids_to_bytes(both)) == PUBLISHED_SHA256["portable_bitmap64.bin"]
    apart = np.array([*range(0, 2**16, 2), *range(2**32, 2**32 + 1_000_000), 2**48], np.uint64)
    raw = ids_to_bytes(apart)
    assert sha256(raw) == PUBLISHED_SHA256["bitmap64.bin"]
    assert (ids_from_bytes(raw) == apart).all()


def test_the_layout_of_a_small_bitmap_byte_for_byte():
    """Two containers, the second of runs: cookie with the count, run flags, keys and cardinalities, no offsets."""
    raw = ids_to_bytes(np.array([5, 9, *range(2**16 + 11, 2**16 + 16)], np.uint64))
    described = "3b3001000200000100010004000500090001000b000400"
    assert raw.hex() == described
    wide = ids_to_bytes(np.array([2**32 + 5], np.uint64))
    assert wide.hex() == "0100000000000000010000003a3000000100000000000000100000000500"


@given(
    st.lists(st.one_of(st.integers(0, 2**64 - 1), st.integers(0, 300), st.integers(2**32, 2**32 + 300)), max_size=60)
)
def test_ids_go_round(ids):
    assert ids_from_bytes(ids_to_bytes(np.array(ids, np.uint64))).tolist() == sorted(set(ids))


@given(st.lists(st.integers(2**32, 2**34), min_size=1, max_size=20), st.randoms(use_true_random=False))
def test_damaged_ids_are_refused_or_sound(ids, random):
    raw = bytearray(ids_to_bytes(np.array(ids, np.uint64)))
    raw[random.randrange(len(raw))] ^= 1 << random.randrange(8)
    for damaged in (bytes(raw), bytes(raw[:-1]), bytes(raw) + b"\0"):
        try:
            read = ids_from_bytes(damaged).tolist()
        except ValueError:
            continue
        assert read == sorted(set(read))


def test_buckets_out_of_order_and_too_many_values_are_refused(monkeypatch):
    one = ids_to_bytes(np.array([2**32 + 5], np.uint64))
    bucket = one[8:]
    with pytest.raises(ValueError, match="no portable Roaring bitmap"):
        ids_from_bytes((2).to_bytes(8, "little") + 2 * bucket)
    many = ids_to_bytes(np.arange(1_000, dtype=np.uint64))
    assert len(many) < 20  # a run: a few bytes claim a lot
    monkeypatch.setattr(portable, "MAX_IDS", 999)
    with pytest.raises(ValueError, match="1000 values; at most 999"):
        ids_from_bytes(many)


def test_a_count_of_buckets_that_looks_like_a_cookie():
    ids = np.arange(12_346, dtype=np.uint64) << np.uint64(32)
    assert ids_to_bytes(ids)[:2] == (12_346).to_bytes(2, "little")
    assert (ids_from_bytes(ids_to_bytes(ids)) == ids).all()
