from __future__ import annotations

import threading
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from pyroaring import BitMap

from targeting.segments import fresh as fresh_module
from targeting.segments import store as store_module
from targeting.segments.generations import NEVER_MS
from targeting.segments.memberships import NO_MEMBERSHIPS, build_memberships, patched
from targeting.segments.reference import lists_of, segments_by_row
from targeting.segments.store import Change, SegmentStore

pytestmark = pytest.mark.kernels

NAMES = ("a", "b", "c", "fans:1")
ROWS = 40


def lists(memberships, rows):
    ptr, segments = memberships.of_rows(np.array(rows, np.int64))
    return [segments[a:b].tolist() for a, b in pairwise(ptr)]


row_sets = st.lists(st.integers(0, ROWS - 1), max_size=20)


class StoreAgainstSets(RuleBasedStateMachine):
    """A store that builds a new base often, against a dictionary of sets of (row, expiry date)."""

    shows_at_once = True

    def __init__(self) -> None:
        super().__init__()
        self.store = SegmentStore()
        self.dated: dict[str, set[tuple[int, int]]] = {}
        self.now_ms = 100

    def sets(self) -> dict[str, set[int]]:
        return {name: {row for row, _ in dated} for name, dated in self.dated.items()}

    def by_row(self, rows: list[int]) -> list[list[int]]:
        sets = self.sets()
        return lists_of(segments_by_row([set()] * 64 + [sets[name] for name in self.store.names]), rows)

    @rule(
        name=st.sampled_from(NAMES),
        rows=row_sets,
        change=st.sampled_from(Change),
        lives_ms=st.sampled_from((None, None, 1, 2, 3)),
    )
    def put(self, name: str, rows: list[int], change: Change, lives_ms: int | None) -> None:
        date = NEVER_MS if lives_ms is None else self.now_ms + lives_ms
        dated = self.dated.setdefault(name, set())
        if change is Change.REPLACE:
            self.dated[name] = {(row, date) for row in rows}
        elif change is Change.ADD:
            dated |= {(row, date) for row in rows}
        else:
            self.dated[name] = {(row, until) for row, until in dated if row not in rows}
        members = self.store.put(name, np.array(rows, np.int64), change, date)
        assert members == len({row for row, _ in self.dated[name]})

    @rule(name=st.sampled_from(NAMES))
    def name_only(self, name: str) -> None:
        self.store.segment_idx(name)
        self.dated.setdefault(name, set())

    @rule(by_ms=st.integers(0, 2))
    def expire(self, by_ms: int) -> None:
        self.now_ms += by_ms
        self.store.expire(self.now_ms)
        for name, dated in self.dated.items():
            self.dated[name] = {(row, date) for row, date in dated if date == NEVER_MS or date > self.now_ms}
            assert self.store.expiry_dates(name) == {date for _, date in self.dated[name]} - {NEVER_MS}

    @rule()
    def publish(self) -> None:
        memberships = self.store.memberships()
        assert self.store.memberships() is memberships is self.store.current
        rows = [-1, *range(ROWS), 10**9]
        assert lists(memberships, rows) == self.by_row(rows)

    @invariant()
    def holds_the_sets(self) -> None:
        assert self.store.names == list(self.dated)
        for name, members in self.sets().items():
            assert set(self.store.members(name)) == members
            assert self.store.rows(name).tolist() == sorted(members)
        if self.shows_at_once:
            assert lists(self.store.current, list(range(ROWS))) == self.by_row(list(range(ROWS)))


class CrowdedStoreAgainstSets(StoreAgainstSets):
    """The same where few changes fit over a picture."""

    shows_at_once = False


@pytest.mark.parametrize(("machine", "fresh_most"), [(StoreAgainstSets, 4_096), (CrowdedStoreAgainstSets, 6)])
def test_store_against_sets_with_patches(
    monkeypatch: pytest.MonkeyPatch, machine: type[StoreAgainstSets], fresh_most: int
) -> None:
    monkeypatch.setattr(store_module, "PATCH_FLOOR", 12)
    monkeypatch.setattr(fresh_module, "FRESH_MOST", fresh_most)
    run_state_machine_as_test(machine, settings=settings(max_examples=20, stateful_step_count=20))


def test_an_expiry_too_large_to_be_laid_over_is_shown_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fresh_module, "FRESH_MOST", 2)
    store = SegmentStore()
    store.put("a", np.arange(5), Change.REPLACE, 50)
    store.put("a", np.arange(3, 9), Change.ADD)
    store.memberships()
    store.expire(49)
    assert lists(store.current, range(4)) == [[64]] * 4
    store.expire(50)
    assert lists(store.current, range(4)) == [[], [], [], [64]]
    store.expire(50)
    assert store.rows("a").tolist() == [3, 4, 5, 6, 7, 8]


@given(st.lists(st.frozensets(st.integers(0, 30)), max_size=6), st.data())
def test_a_patch_equals_a_new_base(before, draws):
    after = [draws.draw(st.frozensets(st.integers(0, 35))) for _ in before]
    base = build_memberships([BitMap(rows) for rows in before])
    numbers = range(len(before))
    patch = patched(base, {k: BitMap(before[k]) for k in numbers}, {k: BitMap(after[k]) for k in numbers})
    rows = range(-1, 40)
    assert lists(patch, rows) == lists(build_memberships([BitMap(rows) for rows in after]), rows)
    assert patch.patch_size <= sum(map(len, before)) + sum(map(len, after))


def test_nothing_known():
    assert lists(NO_MEMBERSHIPS, [-1, 0, 5]) == [[], [], []]
    assert lists(NO_MEMBERSHIPS, []) == []
    assert SegmentStore().memberships() is NO_MEMBERSHIPS
    assert len(SegmentStore().members("nobody")) == 0


def test_an_older_picture_never_changes():
    store = SegmentStore()
    store.put("a", np.arange(10), Change.ADD)
    first = store.memberships()
    store.put("a", np.arange(5), Change.REMOVE)
    store.put("b", np.arange(3), Change.ADD)
    second = store.memberships()
    assert lists(first, range(4)) == [[64]] * 4
    assert lists(second, range(6)) == [[65], [65], [65], [], [], [64]]


def test_numbers_are_for_good_and_interests_are_taken():
    store = SegmentStore()
    assert [store.segment_idx(f"interest:{code}") for code in (0, 63)] == [0, 63]
    assert [store.segment_idx(name) for name in ("a", "b", "a")] == [64, 65, 64]
    with pytest.raises(ValueError, match="interest:3"):
        store.put("interest:3", np.arange(2), Change.ADD)
    assert store.names == ["a", "b"]


@pytest.mark.parametrize("rows", [[-1], [3, 2**31], [2**32]])
def test_rows_out_of_range_are_refused_whole(rows):
    store = SegmentStore()
    store.put("a", np.arange(3), Change.ADD)
    with pytest.raises(ValueError, match="rows"):
        store.put("a", np.array(rows, np.int64), Change.ADD)
    assert store.rows("a").tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="4"):
        store.put("a", np.arange(3), 4)


@given(st.frozensets(st.integers(0, 2**17), max_size=50), st.integers(0, 3))
def test_portable_bytes_go_round(rows, runs):
    rows = rows | set(range(1000 * runs, 1000 * runs + 300 * runs))
    store = SegmentStore()
    store.put("a", np.array(sorted(rows), np.int64), Change.REPLACE)
    raw = store.export_bytes("a")
    assert set(BitMap.deserialize(raw)) == rows  # what any Roaring library reads
    assert store.import_bytes("b", raw, Change.REPLACE, 2**18) == len(rows)
    assert store.members("b") == store.members("a")


def test_bytes_that_are_no_bitmap_are_refused_whole():
    store = SegmentStore()
    store.put("a", np.arange(3), Change.ADD)
    with pytest.raises(ValueError, match="segment 'a': 7 bytes that are no portable Roaring bitmap"):
        store.import_bytes("a", b"roaring", Change.ADD, 2**31)
    assert store.rows("a").tolist() == [0, 1, 2]


def test_rows_that_nobody_has_are_not_imported():
    store = SegmentStore()
    with pytest.raises(ValueError, match=r"row 9, not in 0\.\.8"):
        store.import_bytes("a", BitMap([1, 9]).serialize(), Change.ADD, 9)
    assert len(store.members("a")) == 0


def test_writers_and_publishers_at_once():
    store = SegmentStore()

    def write(name: str) -> None:
        for k in range(200):
            store.put(name, np.arange(k, 3 * k), Change.REPLACE)
            store.memberships()

    writers = [threading.Thread(target=write, args=(name,)) for name in ("a", "b", "c")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    by_number = [set()] * 64 + [set(store.members(name)) for name in store.names]
    assert lists(store.memberships(), range(700)) == lists_of(segments_by_row(by_number), range(700))
