from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pyroaring import BitMap

from targeting.segments.portable import bitmap_from_bytes

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
