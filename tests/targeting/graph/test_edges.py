from __future__ import annotations

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from targeting.graph import edges as edge_table
from targeting.graph.edges import EdgeTable
from targeting.graph.reference import close, fans, laotie

pytestmark = pytest.mark.kernels

ROWS = 12
pairs_strategy = st.lists(st.tuples(st.integers(0, ROWS - 1), st.integers(0, ROWS - 1)), max_size=30)


def columns(pairs: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([a for a, _ in pairs], np.int64), np.array([b for _, b in pairs], np.int64)


class EdgesAgainstPairs(RuleBasedStateMachine):
    """The table against a set of pairs; each change of who is close must have been told."""

    def __init__(self) -> None:
        super().__init__()
        self.table = EdgeTable()
        self.pairs: set[tuple[int, int]] = set()
        self.watched: set[int] = set()

    def _check_told(self, told: list[tuple[np.ndarray, np.ndarray]], before: set[tuple[int, int]]) -> None:
        changed = {
            (creator, row) for creator in self.watched for row in close(before, creator) ^ close(self.pairs, creator)
        }
        pairs = {pair for creators, rows in told for pair in zip(creators.tolist(), rows.tolist(), strict=True)}
        assert changed <= pairs
        assert {creator for creator, _ in pairs} <= self.watched

    @rule(pairs=pairs_strategy)
    def add(self, pairs: list[tuple[int, int]]) -> None:
        before = set(self.pairs)
        told = [(creators.copy(), rows.copy()) for creators, rows in self.table.add(*columns(pairs))]
        self.pairs |= set(pairs)
        self._check_told(told, before)
        for creators, rows in told:
            assert all(row in close(self.pairs, creator) for creator, row in zip(creators, rows, strict=True))

    @rule(pairs=pairs_strategy)
    def remove(self, pairs: list[tuple[int, int]]) -> None:
        self._take_away(pairs)

    @rule(share=st.integers(1, 3))
    def remove_many(self, share: int) -> None:
        self._take_away(sorted(self.pairs)[::share])

    @rule(row=st.integers(0, ROWS - 1))
    def watch(self, row: int) -> None:
        self.table.watch(row)
        self.watched.add(row)

    @invariant()
    def agrees(self) -> None:
        assert self.table.size == len(self.pairs)
        for row in range(ROWS):
            assert sorted(self.table.followers(row).tolist()) == sorted(fans(self.pairs, row))
            assert sorted(self.table.following(row).tolist()) == sorted(b for a, b in self.pairs if a == row)
            assert set(self.table.circle(self.table.followers(row)).tolist()) == close(self.pairs, row)
            found = self.table.are_close(row, np.arange(ROWS))
            assert set(np.flatnonzero(found).tolist()) == close(self.pairs, row)
        assert set(np.flatnonzero(self.table.are_watched(np.arange(ROWS))).tolist()) == self.watched

    def _take_away(self, pairs: list[tuple[int, int]]) -> None:
        before = set(self.pairs)
        told = [(creators.copy(), rows.copy()) for creators, rows in self.table.remove(*columns(pairs))]
        self.pairs -= set(pairs)
        self._check_told(told, before)


@pytest.mark.parametrize("capacity", [4, 256])
def test_edges_against_pairs(monkeypatch: pytest.MonkeyPatch, capacity: int) -> None:
    monkeypatch.setattr(
        edge_table, "_FIRST_CAPACITY", capacity
    )  # small: arrays grow, and pairs are told in many pieces
    monkeypatch.setattr(edge_table, "_FIRST_TOLD", capacity)
    run_state_machine_as_test(EdgesAgainstPairs, settings=settings(max_examples=12, stateful_step_count=15))


def test_no_edges_and_rows_beyond() -> None:
    table = EdgeTable()
    assert list(table.add(*columns([]))) == []
    assert list(table.remove(*columns([]))) == []
    assert [len(table.followers(row)) for row in (-1, 0, 10**6)] == [0, 0, 0]
    assert table.are_watched(np.array([0, 10**6])).tolist() == [False, False]
    assert table.circle(table.followers(5)).tolist() == []


def test_too_many_edges_are_refused_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge_table, "MAX_EDGES", 1500)
    table = EdgeTable()
    with pytest.raises(ValueError, match="follows: 1501; at most 1500"):
        table.add(np.arange(1501), np.arange(1501) + 1)
    assert table.size == 0


def test_reference_of_laotie() -> None:
    follows = {(1, 9), (1, 2), (3, 1), (4, 3), (9, 1)}  # 1 is a fan of 9
    assert fans(follows, 9) == {1}
    assert close(follows, 9) == {2, 3, 9}
    assert laotie(follows, 9) == {2, 3}


def test_edges_stand_in_the_order_in_which_they_came_but_for_places_given_back() -> None:
    table = EdgeTable()
    for pairs in ([(3, 1), (2, 1), (5, 4)], [(3, 1), (0, 1)]):
        list(table.add(*columns(pairs)))
    list(table.remove(*columns([(2, 1), (5, 4)])))
    assert [part.tolist() for part in table.in_order()] == [[3, 0], [1, 1]]
    list(table.add(*columns([(7, 6)])))
    assert [part.tolist() for part in table.in_order()] == [[3, 7, 0], [1, 6, 1]]
