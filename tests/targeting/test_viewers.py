from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from targeting import ids as id_table
from targeting import viewers as viewer_table
from targeting.attributes import CARDINALITIES, STORED_DIMENSION_COUNT
from targeting.ids import IdTable
from targeting.reference import rows_found, rows_inserted
from targeting.viewers import ViewerTable

pytestmark = pytest.mark.kernels

some_ids = st.one_of(
    st.integers(0, 30), st.sampled_from([2**63, 2**64 - 1, 1 << 32, 7 << 40]), st.integers(0, 2**64 - 1)
)
id_lists = st.lists(some_ids, max_size=40)


def u8(values: list[int]) -> np.ndarray:
    return np.array(values, np.uint64)


def nothing_known(n: int) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros((n, STORED_DIMENSION_COUNT), np.uint16), np.zeros(n, np.uint64)


@settings(max_examples=50)
@given(st.lists(id_lists, max_size=6), id_lists)
def test_id_table_is_a_dictionary(batches: list[list[int]], asked: list[int]) -> None:
    table, row_of = IdTable(256), dict[int, int]()
    for batch in batches:
        assert table.insert(u8(batch)).tolist() == rows_inserted(row_of, batch)
    assert table.find(u8(asked)).tolist() == rows_found(row_of, asked)
    assert table.size == len(row_of)
    assert table.ids[: table.size].tolist() == list(row_of)


def test_full_slots_of_a_small_table_wrap_round() -> None:
    table = IdTable(4)
    many = u8(list(range(100, 104)))
    assert table.insert(many).tolist() == [0, 1, 2, 3]
    table.grow(8)
    assert table.find(many).tolist() == [0, 1, 2, 3]
    assert table.capacity == 8
    assert id_table.capacity_for(9, 8) == 16
    assert id_table.capacity_for(8, 8) == 8


class ViewerMachine(RuleBasedStateMachine):
    """The table against a dictionary of what is known of each viewer."""

    def __init__(self) -> None:
        super().__init__()
        self.table = ViewerTable()
        self.row_of: dict[int, int] = {}
        self.known: dict[int, tuple[list[int], int]] = {}

    def _arrived(self, batch: list[int], rows: np.ndarray) -> None:
        assert rows.tolist() == rows_inserted(self.row_of, batch)
        for viewer_id in batch:
            self.known.setdefault(viewer_id, ([0] * STORED_DIMENSION_COUNT, 0))

    @rule(batch=id_lists)
    def ensure(self, batch: list[int]) -> None:
        self._arrived(batch, self.table.ensure(u8(batch)))

    @rule(batch=id_lists, seed=st.integers(0, 2**32 - 1))
    def put(self, batch: list[int], seed: int) -> None:
        rng = np.random.default_rng(seed)
        attributes = rng.integers(0, CARDINALITIES[:STORED_DIMENSION_COUNT], (len(batch), STORED_DIMENSION_COUNT))
        masks = rng.integers(0, 2**64, len(batch), np.uint64)
        self._arrived(batch, self.table.put(u8(batch), attributes.astype(np.uint16), masks))
        for viewer_id, codes, mask in zip(batch, attributes.tolist(), masks.tolist(), strict=True):
            self.known[viewer_id] = (codes, mask)

    @rule(first=st.integers(1, 2**50), count=st.integers(0, 1500))
    def grow(self, first: int, count: int) -> None:
        batch = list(range(first, first + count))
        self._arrived(batch, self.table.ensure(u8(batch)))

    @rule(batch=id_lists)
    def look_up(self, batch: list[int]) -> None:
        assert self.table.rows_of(u8(batch)).tolist() == rows_found(self.row_of, batch)

    @invariant()
    def agrees(self) -> None:
        size = self.table.size
        assert size == len(self.row_of)
        assert self.table.ids[:size].tolist() == list(self.row_of)
        ids = list(self.known)
        rows = [self.row_of[viewer_id] for viewer_id in ids]
        assert self.table.attributes[rows].reshape(-1, STORED_DIMENSION_COUNT).tolist() == [
            self.known[viewer_id][0] for viewer_id in ids
        ]
        assert self.table.interest_masks[rows].tolist() == [self.known[viewer_id][1] for viewer_id in ids]


ViewerMachine.TestCase.settings = settings(max_examples=15, stateful_step_count=12)
TestViewerMachine = ViewerMachine.TestCase


@pytest.mark.parametrize("dimension", range(STORED_DIMENSION_COUNT))
def test_code_out_of_range_changes_nothing(dimension: int) -> None:
    table = ViewerTable()
    attributes, masks = nothing_known(2)
    attributes[1, dimension] = CARDINALITIES[dimension]
    with pytest.raises(ValueError, match=rf"attributes\[1, {dimension}\] {CARDINALITIES[dimension]}: not in 0\.\."):
        table.put(u8([1, 2]), attributes, masks)
    assert table.size == 0


def test_negative_codes_and_wrong_shapes_are_refused() -> None:
    table = ViewerTable()
    attributes, masks = nothing_known(1)
    with pytest.raises(ValueError, match="-1: not in 0"):
        table.put(u8([1]), attributes.astype(np.int64) - 1, masks)
    for bad in (attributes[:, :3], attributes[0]):
        with pytest.raises(ValueError, match="must be"):
            table.put(u8([1]), bad, masks)
    with pytest.raises(ValueError, match="must be"):
        table.put(u8([1]), attributes, np.zeros(2, np.uint64))
    assert table.size == 0


def test_too_many_viewers_are_refused_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viewer_table, "MAX_VIEWERS", 1500)
    table = ViewerTable()
    table.ensure(np.arange(1500, dtype=np.uint64))
    capacity = len(table.ids)
    assert table.ensure(np.arange(1500, dtype=np.uint64)).tolist() == list(range(1500))
    assert len(table.ids) == capacity
    with pytest.raises(ValueError, match="viewers: 2100; at most 1500"):
        table.ensure(np.arange(5000, 5600, dtype=np.uint64))
    assert table.size == 1500
    assert table.rows_of(u8([5000])).tolist() == [-1]


def test_readers_see_whole_viewers_while_the_table_grows() -> None:
    table, stop, wrong = ViewerTable(), threading.Event(), list[str]()
    last = 40_000

    def read() -> None:
        asked, known = np.arange(1, last + 1, dtype=np.uint64), np.zeros(last, np.bool_)
        while not stop.is_set():
            rows = table.rows_of(asked)
            seen = rows >= 0
            if (table.ids[rows[seen]] != asked[seen]).any():
                wrong.append("a row shows another viewer's id")
            if (rows[seen] != np.flatnonzero(seen)).any():
                wrong.append("a viewer is in another row than its turn")
            if (known & ~seen).any():
                wrong.append("a viewer went away")
            known = seen
            time.sleep(0)

    reader = threading.Thread(target=read)
    reader.start()
    for first in range(1, last + 1, 2000):
        table.ensure(np.arange(first, first + 2000, dtype=np.uint64))
    stop.set()
    reader.join()
    assert wrong == []
    assert table.size == last
