"""The search for similar creators against its plain form."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from targeting.graph.similar import lists
from targeting.graph.similar.kernels import NOBODY, fill_similar
from targeting.graph.similar.lists import FollowsCopy
from targeting.graph.similar.reference import similar_creators

pytestmark = pytest.mark.kernels

ACCOUNTS = 7
IDS = (70, 10, 2**64 - 1, 40, 30, 60, 20)  # not in the order of the rows, so that ties by id are none by row
pairs_strategy = st.frozensets(st.tuples(st.integers(0, ACCOUNTS - 1), st.integers(0, ACCOUNTS - 1)), max_size=40)
TWINS = frozenset((fan, creator) for fan in (0, 1, 2) for creator in (3, 4, 5, 6))


def found(pairs: frozenset[tuple[int, int]], most: int, least: int) -> dict[int, list[tuple[int, int]]]:
    columns = np.array(sorted(pairs), np.int32).reshape(-1, 2)
    ids = np.array(IDS, np.uint64)
    by_row = dict(FollowsCopy(columns[:, 0], columns[:, 1], ids).find_similar(range(ACCOUNTS), most, least))
    return {IDS[row]: [(IDS[one.row], one.common) for one in similar] for row, similar in by_row.items()}


@settings(max_examples=60, deadline=None)
@given(pairs=pairs_strategy, most=st.integers(0, 8), least=st.integers(1, 3))
@example(pairs=frozenset(), most=3, least=1)
@example(pairs=frozenset({(0, 1)}), most=3, least=1)
@example(pairs=TWINS, most=2, least=1)
@example(pairs=TWINS, most=1, least=4)
def test_lists_are_what_they_mean(pairs: frozenset[tuple[int, int]], most: int, least: int) -> None:
    by_id = {(IDS[a], IDS[b]) for a, b in pairs}
    expected = {creator: similar_creators(by_id, creator, most, least) for creator in IDS}
    assert found(pairs, most, least) == expected


@pytest.mark.parametrize("at_a_time", [1, 3, ACCOUNTS])
def test_creators_come_in_parts(monkeypatch: pytest.MonkeyPatch, at_a_time: int) -> None:
    whole = found(TWINS, most=3, least=1)
    monkeypatch.setattr(lists, "_AT_A_TIME", at_a_time)
    assert found(TWINS, most=3, least=1) == whole


def test_equals_stand_by_id_and_the_first_of_them_stay() -> None:
    twins = found(TWINS, most=2, least=3)
    assert twins[IDS[3]] == [(20, 3), (30, 3)] and twins[IDS[6]] == [(30, 3), (40, 3)]
    assert found(TWINS, most=9, least=4)[IDS[3]] == []


def test_a_smaller_creator_with_the_same_fans_in_common_comes_first() -> None:
    fans = frozenset((fan, 3) for fan in (0, 1)) | frozenset((fan, 4) for fan in (0, 1, 2))
    pairs = fans | frozenset((fan, 5) for fan in (0, 1))
    assert found(pairs, most=5, least=2)[IDS[3]] == [(60, 2), (30, 2)]


def test_no_creators_no_accounts_and_creators_that_nobody_knew() -> None:
    none, ids = np.zeros(0, np.int32), np.zeros(0, np.uint64)
    assert dict(FollowsCopy(none, none, ids).find_similar([])) == {}
    assert dict(FollowsCopy(none, none, ids).find_similar([5])) == {5: ()}
    rows, common = np.full((0, 3), NOBODY, np.int32), np.zeros((0, 3), np.int32)
    ptr = np.zeros(1, np.int32)
    fill_similar(np.zeros(0, np.int64), ptr, none, ptr, none, ids, 1, none, none, np.zeros(3), rows, common)


def test_scratch_is_clean_and_what_was_in_the_answer_does_not_matter() -> None:
    followers, followed = np.array([0, 0, 1], np.int32), np.array([2, 3, 2], np.int32)
    following_ptr, following = np.array([0, 2, 3, 3, 3], np.int32), np.array([2, 3, 2], np.int32)
    follower_ptr, by_followed = np.array([0, 0, 0, 2, 3], np.int32), np.array([0, 1, 0], np.int32)
    counts = np.zeros(4, np.int32)
    rows, common = np.full((2, 2), 99, np.int32), np.full((2, 2), 99, np.int32)
    fill_similar(
        np.array([2, 1]), follower_ptr, by_followed, following_ptr, following, np.arange(4, dtype=np.uint64), 1,
        counts, np.full(4, 77, np.int32), np.full(2, np.nan), rows, common,
    )  # fmt: skip
    assert rows.tolist() == [[3, NOBODY], [NOBODY, NOBODY]] and common.tolist() == [[1, 0], [0, 0]]
    assert not counts.any() and len(followers) == len(followed)
