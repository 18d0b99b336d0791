"""The last word of each pair leads to the graph that all words lead to."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from auction.told_follows import ToldFollows
from pacing.facts import JUDGEMENT, OUTCOME, OutcomeKind, Verdict
from targeting.graph.follows import FollowGraph
from targeting.segments.store import SegmentStore
from targeting.viewers import ViewerTable

words = st.tuples(
    st.sampled_from([OutcomeKind.FOLLOW, OutcomeKind.UNFOLLOW, OutcomeKind.CLICK]),
    st.integers(1, 4),
    st.sampled_from([101, 102]),
    st.sampled_from([Verdict.ATTRIBUTED, Verdict.ORGANIC, Verdict.REPEAT]),
)


def graph() -> tuple[FollowGraph, ViewerTable]:
    viewers = ViewerTable()
    follows = FollowGraph(viewers, SegmentStore())
    follows.watch(101)
    follows.watch(102)
    follows.put(np.array([3, 4], np.uint64), np.array([101, 102], np.uint64))  # by an operator, before
    return follows, viewers


def picture(follows: FollowGraph, viewers: ViewerTable) -> list[list[int]]:
    fans = [sorted(viewers.ids[follows.fans_of(creator).to_array()].tolist()) for creator in (101, 102)]
    return [*fans, sorted(viewers.ids[: viewers.size].tolist())]


@limits(max_examples=100)
@given(st.lists(words, max_size=14), st.lists(st.integers(0, 14), max_size=3))
def test_restored_as_followed(told: list[tuple], cuts: list[int]) -> None:
    rows, judgements = np.zeros(len(told), OUTCOME), np.zeros(len(told), JUDGEMENT)
    expected = {101: {3}, 102: {4}}
    for i, (kind, viewer, creator, verdict) in enumerate(told):
        rows[i]["kind"], rows[i]["viewer_id"], rows[i]["creator_id"] = kind, viewer, creator
        judgements[i]["verdict"] = verdict
        if kind == OutcomeKind.FOLLOW and verdict != Verdict.REPEAT:
            expected[creator].add(viewer)
        elif kind == OutcomeKind.UNFOLLOW:
            expected[creator].discard(viewer)
    live, viewers = graph()
    follows = ToldFollows(live)
    edges = [0, *sorted(min(cut, len(told)) for cut in cuts), len(told)]
    for start, end in pairwise(edges):
        follows.follow(rows[start:end], judgements[start:end])
        follows.state()
    now = picture(live, viewers)
    assert now[:2] == [sorted(expected[101]), sorted(expected[102])]
    again, viewers_again = graph()
    restored = ToldFollows(again)
    restored.restore(follows.state())
    assert picture(again, viewers_again) == now
    assert all(np.array_equal(restored.state()[name], values) for name, values in follows.state().items())
