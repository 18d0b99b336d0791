"""The heap of waiting impressions, and the room that bounds it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from auction.predictor.waiting.kernels import pop_due, push_all
from auction.predictor.waiting.reference import ReferenceHeap
from auction.predictor.waiting.waiting import WaitingRoom

pytestmark = pytest.mark.kernels

steps = st.lists(
    st.one_of(
        st.lists(st.integers(0, 6), max_size=9),  # due instants to push, many ties
        st.tuples(st.integers(0, 7), st.integers(0, 5)),  # now, most
    ),
    max_size=25,
)


@limits(max_examples=80)
@given(steps)
def test_heap_is_a_sorted_list(plan: list[list[int] | tuple[int, int]]) -> None:
    due_ms, items = np.zeros(300, np.int64), np.zeros(300, np.int64)
    size, item, reference = 0, 0, ReferenceHeap()
    for step in plan:
        if isinstance(step, list):
            new_items = np.arange(item, item + len(step))[::-1].copy()
            size = push_all(due_ms, items, size, np.array(step, np.int64), new_items)
            for due, which in zip(step, new_items.tolist(), strict=True):
                reference.push(due, which)
            item += len(step)
        else:
            now_ms, most = step
            out = np.zeros((2, most), np.int64)
            taken = pop_due(due_ms, items, size, now_ms, out[0], out[1])
            size -= taken
            assert list(zip(*out[:, :taken].tolist(), strict=True)) == reference.pop_due(now_ms, most)
    assert size == len(reference.entries)


def add(room: WaitingRoom, first: int, count: int, due_ms: int) -> None:
    sequences = np.arange(first, first + count, dtype=np.uint64)
    features = np.repeat(sequences[:, None], 16, axis=1).astype(np.uint32)
    goals = np.array([1, 2])
    due = np.stack([np.full(count, due_ms), np.full(count, due_ms + 10)], axis=1)
    room.add(sequences, sequences + np.uint64(100), sequences.astype(np.int64), features, sequences % 8, goals, due)


def test_impressions_are_released_once_for_each_goal_when_due() -> None:
    room = WaitingRoom(8)
    add(room, 1, 3, 50)
    assert len(room.release_due(49).goals) == 0
    first = room.release_due(55)
    assert first.goals.tolist() == [1, 1, 1]
    assert room.campaign_ids[first.slots].tolist() == [101, 102, 103]
    assert room.release_due(10_000).goals.tolist() == [2, 2, 2]
    assert len(room.release_due(10_000).goals) == 0
    assert room.features[room.slot_of(2)].tolist() == [2] * 16
    assert room.earlier[room.slot_of(2)] == 2


def test_what_makes_room_is_released_early_and_forgotten() -> None:
    room = WaitingRoom(4)
    add(room, 1, 4, 50)
    room.release_due(50)
    displaced = room.make_room(3, 51)
    assert displaced.goals.tolist() == [2, 2, 2]
    add(room, 5, 3, 60)
    assert room.slot_of(1) == -1
    assert room.slot_of(4) >= 0
    assert room.slot_of(7) >= 0
    later = room.release_due(1_000)
    assert sorted(zip(room.campaign_ids[later.slots].tolist(), later.goals.tolist(), strict=True)) == [
        (104, 2), (105, 1), (105, 2), (106, 1), (106, 2), (107, 1), (107, 2)
    ]  # fmt: skip


def test_memory_stays_bounded_when_nothing_ever_falls_due() -> None:
    room = WaitingRoom(64)
    for first in range(1, 20_000, 50):
        room.make_room(50, first)
        add(room, first, 50, 10**15)
    assert len(room) == 64
    assert len(room.state()["items"]) <= 4096
    with pytest.raises(ValueError, match="capacity 64"):
        add(room, 1, 65, 0)


def test_state_restores_to_the_same_releases() -> None:
    room, other = WaitingRoom(8), WaitingRoom(8)
    add(room, 1, 6, 50)
    room.release_due(50)
    room.make_room(4, 51)
    add(room, 7, 4, 70)
    other.restore(room.state())
    for now_ms in (60, 70, 80):
        ours, theirs = room.release_due(now_ms), other.release_due(now_ms)
        for mine, copied in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(mine, copied)
    assert other.slot_of(9) == room.slot_of(9)
    assert other.earlier[other.slot_of(9)] == 1
    with pytest.raises(ValueError, match=r"earlier 8; not in 0\.\.7"):
        other.restore({**room.state(), "earlier": np.full(8, 8, np.uint8)})
    with pytest.raises(ValueError, match="capacity 8, not 4"):
        WaitingRoom(4).restore(room.state())
