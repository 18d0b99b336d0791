"""Probes of segments, in every form, against sets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pyroaring import BitMap

from targeting.segments.probe import copies as copies_module
from targeting.segments.probe.copies import ProbeCopies, SegmentProbe, dense_words, hashed_members
from targeting.segments.probe.kernels import (
    FREE_SLOT,
    HEADER_SLOTS,
    NOBODY,
    count_dense,
    count_hashed,
    count_runs,
    fill_bits,
    find_runs,
    mask_dense,
    mask_hashed,
    mask_runs,
    place_members,
)
from targeting.segments.probe.reference import bits_set, rows_found, runs_of
from targeting.segments.store import Change, SegmentStore

pytestmark = pytest.mark.kernels

TOP = 2**30 - 1


@st.composite
def row_sets(draw: st.DrawFn) -> frozenset[int]:
    """Few rows anywhere, and runs of neighbours, also across containers."""
    rows = set(draw(st.lists(st.integers(0, 3 * 2**16), max_size=20)))
    for _ in range(draw(st.integers(0, 3))):
        first = draw(st.sampled_from((0, 31, 32, 65_500, 131_000)))
        rows |= set(range(first, first + draw(st.integers(0, 80)), draw(st.sampled_from((1, 2)))))
    return frozenset(rows)


def asked(members: frozenset[int], others: list[int]) -> list[int]:
    """Members, their neighbours, and others; some twice."""
    near = [row + by for row in sorted(members)[:40] for by in (0, 1) if row + by <= TOP]
    return [*near, *others, *near[:3], 0, TOP, int(NOBODY)]


@given(row_sets(), st.lists(st.integers(0, TOP), max_size=20), st.booleans())
@example(frozenset(), [], True)
@example(frozenset([0]), [0], True)
@example(frozenset([TOP]), [], False)
def test_forms_against_sets(members: frozenset[int], others: list[int], optimized: bool) -> None:
    bitmap = BitMap(members)
    if optimized:
        bitmap.run_optimize()
    rows = asked(members, others)
    found = rows_found(members, rows)
    batch, out = np.array(rows, np.uint32), np.empty(len(rows), np.uint8)
    table = hashed_members(bitmap)
    assert table is not None
    runs = np.array(runs_of(members), np.uint32).reshape(-1)
    forms = [(mask_hashed, count_hashed, table), (mask_runs, count_runs, runs)]
    if not members or max(members) < 2**20:
        forms.append((mask_dense, count_dense, dense_words(bitmap)))
    for mask, count, copied in forms:
        mask(copied, batch, out)
        assert out.tolist() == found
        assert count(copied, batch) == sum(found)


@pytest.mark.parametrize(
    ("form", "most_bytes", "floor", "most_runs"),
    [("dense", 2**20, 2**17, 2), ("hashed", 2**20, 0, 2), ("roaring", 0, 0, 2), ("runs", 2**20, 0, 3)],
)
def test_a_probe_has_the_form_that_there_is_room_for(
    monkeypatch: pytest.MonkeyPatch, form: str, most_bytes: int, floor: int, most_runs: int
) -> None:
    monkeypatch.setattr(copies_module, "DENSE_FLOOR_BYTES", floor)
    monkeypatch.setattr(copies_module, "MOST_RUNS", most_runs)
    members = BitMap([3, 70_000, 999_999])
    probe = SegmentProbe(members, most_bytes)
    rows, out = np.array([3, 4, 3, 999_999, NOBODY], np.uint32), np.empty(5, np.uint8)
    probe.mask(rows, out)
    assert (probe.form, out.tolist(), probe.count(rows)) == (form, [1, 0, 1, 1, 0], 3)
    assert (probe.size_bytes == 0) == (form == "roaring")
    for count in (0, 1):
        probe.mask(rows[:count], out[:count])
        assert probe.count(rows[:count]) == count


@given(row_sets(), st.booleans())
@example(frozenset(), True)
@example(frozenset(range(60_000, 140_000)), True)
@example(frozenset([2**32 - 1]), False)
def test_runs_of_portable_bytes(members: frozenset[int], optimized: bool) -> None:
    bitmap = BitMap(members)
    if optimized:
        bitmap.run_optimize()
    raw, wanted = np.frombuffer(bitmap.serialize(), np.uint8), runs_of(members)
    out = np.zeros(2 * len(wanted), np.uint32)
    assert find_runs(raw, out) == len(wanted)
    assert out.reshape(-1, 2).tolist() == [list(run) for run in wanted]
    if wanted:
        assert find_runs(raw, out[:-2]) == -1


def test_bitsets_pass_for_many_runs() -> None:
    raw = np.frombuffer(BitMap(range(0, 20_000, 2)).serialize(), np.uint8)
    assert find_runs(raw, np.zeros(8, np.uint32)) == -1


@given(row_sets(), st.booleans())
@example(frozenset(), True)
def test_bits_of_portable_bytes(members: frozenset[int], optimized: bool) -> None:
    bitmap = BitMap(members) | BitMap(range(2**16, 2**16 + 9000, 2))
    if optimized:
        bitmap.run_optimize()
    size = bitmap.max() // 8 + 1
    out = np.zeros(size, np.uint8)
    fill_bits(np.frombuffer(bitmap.serialize(), np.uint8), out)
    assert out.tobytes() == bits_set(bitmap, size)


def test_bits_of_nothing() -> None:
    out = np.zeros(0, np.uint8)
    fill_bits(np.frombuffer(BitMap().serialize(), np.uint8), out)


def test_a_table_that_is_too_small_is_refused() -> None:
    members, table = np.arange(3, dtype=np.uint32), np.empty(HEADER_SLOTS + 2, np.uint32)
    assert not place_members(members, np.uint32(2**31 + 1), np.uint32(2**31 + 3), table)
    assert place_members(members[:2], np.uint32(2**31 + 1), np.uint32(2**31 + 3), table)
    assert place_members(members[:0], np.uint32(2**31 + 1), np.uint32(2**31 + 3), table)
    assert table[HEADER_SLOTS:].tolist() == [FREE_SLOT, FREE_SLOT]


def test_copies_stay_within_their_bound_and_the_hottest_stay() -> None:
    copies = ProbeCopies(most_bytes=100)
    members = [BitMap([k]) for k in range(3)]
    first = copies.of(0, members[0])
    while_bytes = first.size_bytes
    assert 0 < while_bytes <= 50
    room = 100 // while_bytes
    for k in range(1, room + 5):
        copies.of(k, members[k % 3])
        assert copies.of(0, members[0]) is first  # asked for again and again: stays
        assert copies.size_bytes <= 100
    assert copies.of(1, members[1]) is not None
    changed = copies.of(0, members[1])
    assert changed is not first and changed.count(np.array([1], np.uint32)) == 1


def test_the_store_probes_what_is_so_now() -> None:
    store = SegmentStore()
    rows = np.array([1, 2, 9], np.uint32)
    assert store.probe("a").count(rows) == 0
    store.put("a", np.array([1, 2]), Change.REPLACE)
    before = store.probe("a")
    assert store.probe("a") is before
    store.put("a", np.array([9]), Change.ADD)
    assert (before.count(rows), store.probe("a").count(rows)) == (2, 3)
