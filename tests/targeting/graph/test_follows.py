from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from targeting.graph.follows import FollowGraph
from targeting.segments.store import SegmentStore
from targeting.viewers import ViewerTable

ACCOUNTS = (3, 5, 7, 11, 13, 2**64 - 1)
edges = st.lists(st.tuples(st.sampled_from(ACCOUNTS), st.sampled_from(ACCOUNTS)), min_size=1, max_size=6)


def columns(pairs):
    return np.array([x for x, _ in pairs], np.uint64), np.array([y for _, y in pairs], np.uint64)


def fans_in(pairs: set[tuple[int, int]], creator: int) -> set[int]:
    return {x for x, y in pairs if y == creator}


def laotie_in(pairs: set[tuple[int, int]], creator: int) -> set[int]:
    """From the definition: friends of fans, who are neither fans nor the creator."""
    fans = fans_in(pairs, creator)
    return {a for x, y in pairs for a, b in ((x, y), (y, x)) if b in fans} - fans - {creator}


class GraphAgainstPairs(RuleBasedStateMachine):
    """A follow graph and its segments against a plain set of pairs."""

    def __init__(self) -> None:
        super().__init__()
        self.viewers, self.segments = ViewerTable(), SegmentStore()
        self.graph = FollowGraph(self.viewers, self.segments)
        self.pairs: set[tuple[int, int]] = set()
        self.watched: set[int] = set()

    def ids(self, rows) -> set[int]:
        return {int(self.viewers.ids[row]) for row in rows}

    @rule(pairs=edges)
    def put(self, pairs: list[tuple[int, int]]) -> None:
        self.graph.put(*columns(pairs))
        self.pairs |= set(pairs)

    @rule(pairs=edges)
    def remove(self, pairs: list[tuple[int, int]]) -> None:
        self.graph.remove(*columns(pairs))
        self.pairs -= set(pairs)

    @rule(creator=st.sampled_from(ACCOUNTS))
    def watch(self, creator: int) -> None:
        self.graph.watch(creator)
        self.watched.add(creator)

    @rule()
    def refresh(self) -> None:
        self.graph.refresh()
        for creator in self.watched:
            assert self.ids(self.segments.members(f"fans:{creator}")) == fans_in(self.pairs, creator)
            assert self.ids(self.segments.members(f"laotie:{creator}")) == laotie_in(self.pairs, creator)
        assert len(self.segments.names) == 2 * len(self.watched)

    @invariant()
    def answers_from_the_pairs(self) -> None:
        assert self.graph.size == len(self.pairs)
        for creator in ACCOUNTS:
            assert self.ids(self.graph.fans_of(creator)) == fans_in(self.pairs, creator)
            assert self.ids(self.graph.laotie_of(creator)) == laotie_in(self.pairs, creator)


def test_graph_against_pairs() -> None:
    run_state_machine_as_test(GraphAgainstPairs, settings=settings(max_examples=40, stateful_step_count=25))


def test_through_whom_a_viewer_is_laotie():
    graph = FollowGraph(ViewerTable(), SegmentStore())
    graph.put(*columns([(1, 100), (2, 100), (3, 1), (2, 3), (4, 3)]))  # 1 and 2 are fans of 100; 3 is a friend of both
    assert set(graph.friends_among_fans(100, 3).tolist()) == {1, 2}
    assert graph.friends_among_fans(100, 4).tolist() == []
    assert graph.friends_among_fans(77, 88).tolist() == []


def test_columns_of_different_length_change_nothing():
    graph = FollowGraph(ViewerTable(), SegmentStore())
    for change in (graph.put, graph.remove):
        with pytest.raises(ValueError, match="1 for 2 follower_ids"):
            change(np.arange(2, dtype=np.uint64), np.arange(1, dtype=np.uint64))
    assert graph.size == 0


def test_unfollowing_someone_unknown_makes_nobody_known():
    viewers = ViewerTable()
    graph = FollowGraph(viewers, SegmentStore())
    graph.remove(*columns([(1, 2)]))
    assert (graph.size, viewers.size) == (0, 0)


def test_follows_and_refreshes_at_once():
    viewers, segments = ViewerTable(), SegmentStore()
    graph = FollowGraph(viewers, segments)
    graph.watch(1_000)

    def follow(first: int) -> None:
        for k in range(first, first + 100):
            graph.put(*columns([(k, 1_000), (k + 500, k)]))
            graph.refresh()

    threads = [threading.Thread(target=follow, args=(first,)) for first in (0, 100, 200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {int(viewers.ids[row]) for row in segments.members("fans:1000")} == set(range(300))
    assert {int(viewers.ids[row]) for row in segments.members("laotie:1000")} == set(range(500, 800))


def test_a_few_new_fans_are_seen_before_the_next_refresh():
    viewers, segments = ViewerTable(), SegmentStore()
    graph = FollowGraph(viewers, segments)
    graph.watch(100)
    graph.put(*columns([(1, 100), (2, 1)]))
    graph.refresh()
    fans, laotie = segments.segment_idx("fans:100"), segments.segment_idx("laotie:100")

    def seen(viewer_id: int) -> list[int]:
        return segments.current.of_rows(viewers.rows_of(np.array([viewer_id], np.uint64)))[1].tolist()

    assert (seen(1), seen(2)) == ([fans], [laotie])
    graph.put(*columns([(2, 100), (3, 100)]))
    assert (seen(2), seen(3)) == ([fans], [fans])
    graph.remove(*columns([(3, 100)]))
    assert seen(3) == []
    graph.refresh()
    assert (seen(1), seen(2), seen(3)) == ([fans], [fans], [])


def test_who_was_only_asked_for_is_let_go_and_who_is_watched_stays():
    viewers, segments = ViewerTable(), SegmentStore()
    graph = FollowGraph(viewers, segments)
    graph.put(*columns([(1, 100), (2, 1), (1, 200), (3, 300)]))

    def members(name: str) -> list[int]:
        return sorted(int(viewers.ids[row]) for row in segments.members(name))

    graph.watch(100)
    for creator_id in (100, 200, 300):
        graph.ask(creator_id)
    graph.refresh()
    assert (members("fans:100"), members("fans:200"), members("laotie:200")) == ([1], [1], [2, 100])
    graph.forget_asked()
    assert members("fans:200") == [1], "asked for since the last time"
    graph.ask(300)
    graph.watch(300)
    graph.forget_asked()
    graph.put(*columns([(4, 200), (5, 1), (6, 300), (7, 100)]))
    graph.refresh()
    assert (members("fans:200"), members("laotie:200"), len(graph._circles)) == ([], [], 2)
    assert (members("fans:100"), members("laotie:100"), members("fans:300")) == ([1, 7], [2, 5, 200], [3, 6])
    graph.remove(*columns([(1, 200)]))  # of one who is let go: changes nobody's count of watched creators
    graph.ask(200)
    graph.refresh()
    assert (members("fans:200"), sorted(graph.laotie_of(200))) == ([4], [])
    graph.forget_asked()
    graph.forget_asked()
    graph.put(*columns([(8, 7)]))
    graph.refresh()
    assert members("laotie:100") == [2, 5, 8] and members("fans:200") == []
