"""The search for similar creators against its plain form."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from targeting.graph.similar import lists
from targeting.graph.similar.kernels import NOBODY, FollowRows, Least, fill_similar
from targeting.graph.similar.lists import FollowsCopy, SimilarCreator, Standards
from targeting.graph.similar.reference import similar_creators

pytestmark = pytest.mark.kernels

ACCOUNTS = 7
IDS = (70, 10, 2**64 - 1, 40, 30, 60, 20)  # not in the order of the rows, so that ties by id are none by row
pairs_strategy = st.frozensets(st.tuples(st.integers(0, ACCOUNTS - 1), st.integers(0, ACCOUNTS - 1)), max_size=40)
TWINS = frozenset((fan, creator) for fan in (0, 1, 2) for creator in (3, 4, 5, 6))


def no_test(least_common: int) -> Standards:
    """Whoever has so many fans in common is similar, by chance or not."""
    return Standards(least_common, least_cosine=0.0, least_lift=1e-9, luck=1e9)


standards_strategy = st.builds(
    Standards,
    least_common=st.integers(1, 3),
    least_cosine=st.sampled_from([0.0, 0.3, 0.5, 1.0]),
    least_lift=st.sampled_from([1e-9, 0.5, 1.0, 1.5]),
    luck=st.sampled_from([1e9, 7.0, 1.0]),
)


def found(pairs: frozenset[tuple[int, int]], most: int, standards: Standards) -> dict[int, list[SimilarCreator]]:
    columns = np.array(sorted(pairs), np.int32).reshape(-1, 2)
    ids = np.array(IDS, np.uint64)
    by_row = dict(FollowsCopy(columns[:, 0], columns[:, 1], ids).find_similar(range(ACCOUNTS), most, standards))
    return {
        IDS[row]: [SimilarCreator(IDS[one.row], one.common, one.fans, one.lift) for one in similar]
        for row, similar in by_row.items()
    }


def in_common(similar: list[SimilarCreator]) -> list[tuple[int, int]]:
    return [(one.creator_id, one.common) for one in similar]


@settings(max_examples=100, deadline=None)
@given(pairs=pairs_strategy, most=st.integers(0, 8), standards=standards_strategy)
@example(pairs=frozenset(), most=3, standards=no_test(1))
@example(pairs=frozenset({(0, 1)}), most=3, standards=no_test(1))
@example(pairs=TWINS, most=2, standards=no_test(1))
@example(pairs=TWINS, most=1, standards=no_test(4))
@example(pairs=TWINS, most=3, standards=Standards(1, 1.0, 1.0, 1e9))  # as many as chance gives are none beyond it
@example(pairs=frozenset({(0, 1), (0, 2), (3, 4)}), most=3, standards=Standards(1, 1.0, 1.5, 2.0))
def test_lists_are_what_they_mean(pairs: frozenset[tuple[int, int]], most: int, standards: Standards) -> None:
    by_id = {(IDS[a], IDS[b]) for a, b in pairs}
    assert found(pairs, most, standards) == {
        creator: similar_creators(by_id, creator, most, standards) for creator in IDS
    }


@pytest.mark.parametrize("at_a_time", [1, 3, ACCOUNTS])
def test_creators_come_in_parts(monkeypatch: pytest.MonkeyPatch, at_a_time: int) -> None:
    whole = found(TWINS, 3, no_test(1))
    monkeypatch.setattr(lists, "_AT_A_TIME", at_a_time)
    assert found(TWINS, 3, no_test(1)) == whole


def test_equals_stand_by_id_and_the_first_of_them_stay() -> None:
    twins = found(TWINS, 2, no_test(3))
    assert in_common(twins[IDS[3]]) == [(20, 3), (30, 3)] and in_common(twins[IDS[6]]) == [(30, 3), (40, 3)]
    assert found(TWINS, 9, no_test(4))[IDS[3]] == []


def test_a_smaller_creator_with_the_same_fans_in_common_comes_first() -> None:
    fans = frozenset((fan, 3) for fan in (0, 1)) | frozenset((fan, 4) for fan in (0, 1, 2))
    pairs = fans | frozenset((fan, 5) for fan in (0, 1))
    assert in_common(found(pairs, 5, no_test(2))[IDS[3]]) == [(60, 2), (30, 2)]


def test_no_creators_no_accounts_and_creators_that_nobody_knew() -> None:
    none, ids = np.zeros(0, np.int32), np.zeros(0, np.uint64)
    assert dict(FollowsCopy(none, none, ids).find_similar([])) == {}
    assert dict(FollowsCopy(none, none, ids).find_similar([5])) == {5: ()}
    rows, common = np.full((0, 3), NOBODY, np.int32), np.zeros((0, 3), np.int32)
    ptr = np.zeros(1, np.int32)
    follows, least = FollowRows(ptr, none, ptr, none, ids), Least(1, 0.0, 1.0, 0.0)
    fill_similar(np.zeros(0, np.int64), follows, least, none, none, np.zeros(3), rows, common, np.zeros((0, 3)))


def test_scratch_is_clean_and_what_was_in_the_answer_does_not_matter() -> None:
    following_ptr, following = np.array([0, 2, 3, 3, 3], np.int32), np.array([2, 3, 2], np.int32)
    follower_ptr, by_followed = np.array([0, 0, 0, 2, 3], np.int32), np.array([0, 1, 0], np.int32)
    follows = FollowRows(follower_ptr, by_followed, following_ptr, following, np.arange(4, dtype=np.uint64))
    counts = np.zeros(4, np.int32)
    rows, common, lifts = np.full((2, 2), 99, np.int32), np.full((2, 2), 99, np.int32), np.full((2, 2), 99.0)
    fill_similar(
        np.array([2, 1]), follows, Least(1, 0.0, 0.5, 0.0), counts, np.full(4, 77, np.int32), np.full(2, np.nan),
        rows, common, lifts,
    )  # fmt: skip
    assert rows.tolist() == [[3, NOBODY], [NOBODY, NOBODY]] and common.tolist() == [[1, 0], [0, 0]]
    assert lifts.tolist() == [[1.0, 0.0], [0.0, 0.0]]  # the one follow of others goes to 3, whoever it is of
    assert not counts.any()
