"""What is remembered at rest and awake is one thing: held against an ordered dict that keeps every value awake."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from auction.remembered import Key, Remembered, Row, key_columns, signed

small = st.integers(0, 4)
keys = st.tuples(small, st.sampled_from([0, 1, 2**63, 2**64 - 1]))
operations = st.lists(
    st.one_of(
        st.tuples(st.just("add"), keys, small),
        st.tuples(st.just("change"), keys, small),
        st.tuples(st.just("pop"), keys),
        st.tuples(st.just("forget"), st.integers(0, 6), small),
        st.tuples(st.just("rest")),
        st.tuples(st.just("again")),
    ),
    max_size=40,
)


def make() -> Remembered[list[int]]:
    return Remembered(3, list, value_of, lookups=((0, 1), (2, 2)))


def value_of(row: Row) -> list[int]:
    return [row[0], row[1], signed(row[2])]


def wake(remembered: Remembered[list[int]], key: Key) -> list[int] | None:
    remembered.wake(np.array([key], np.uint64))
    return remembered.get(key)


@limits(max_examples=200)
@given(operations)
def test_rest_changes_nothing(steps: list[tuple]) -> None:
    remembered, plain = make(), OrderedDict[Key, int]()
    for step in steps:
        if step[0] == "add" and wake(remembered, step[1]) is None:
            remembered.add(step[1], [*step[1], -step[2]])
            plain[step[1]] = -step[2]
        elif step[0] == "change":
            value = wake(remembered, step[1])
            assert (value is None) == (step[1] not in plain)
            if value is not None:
                value[2] = plain[step[1]] = step[2] + 10
        elif step[0] == "pop":
            wake(remembered, step[1])
            value = remembered.pop(step[1])
            assert (None if value is None else value[2]) == plain.pop(step[1], None)
        elif step[0] == "forget":
            list(remembered.forget(step[1], lambda value, limit=-step[2]: value[2] > limit))
            while plain and (len(plain) > step[1] or next(iter(plain.values())) > -step[2]):
                plain.popitem(last=False)
        elif step[0] == "rest":
            remembered.rest()
        elif step[0] == "again":
            rows, remembered = remembered.rows(), make()
            remembered.restore(rows)
        assert len(remembered) == len(plain)
    assert [value_of(row) for row in remembered.rows().tolist()] == [[*key, value] for key, value in plain.items()]


def test_every_row_of_a_pair_is_woken_once() -> None:
    remembered = make()
    for first in range(50):
        remembered.add((first, 7), [first, 7, first % 5])
    remembered.rest()
    assert remembered.awake == 0
    threes = key_columns(np.array([3, 3, 9]), np.array([3, 3, 9]))
    assert [value[0] for value in remembered.wake(threes, 1)] == list(range(3, 50, 5))
    assert remembered.wake(threes, 1) == []
    assert remembered.awake == 10 and len(remembered) == 50
    assert remembered.get((3, 7)) == [3, 7, 3] and remembered.get((4, 7)) is None


def test_those_that_go_are_named_if_they_were_awake() -> None:
    remembered = make()
    for first in range(6):
        remembered.add((first, 0), [first, 0, 0])
    remembered.rest()
    remembered.wake(np.array([[1, 0], [4, 0]], np.uint64))
    remembered.add((9, 0), [9, 0, 0])
    assert [value[0] for value in remembered.forget(1, lambda value: False)] == [1, 4]
    assert [value[0] for value in remembered.forget(9, lambda value: True)] == [9]
    assert len(remembered) == 0
