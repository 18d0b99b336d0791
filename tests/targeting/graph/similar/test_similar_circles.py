"""Who follows similar creators, edge by edge, against a plain set of pairs."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from targeting.graph.follows import FollowGraph
from targeting.graph.reference import fans
from targeting.graph.similar import circles
from targeting.graph.similar.lists import LEAST_COMMON, MOST_SIMILAR, FollowsCopy, Similar
from targeting.graph.similar.reference import similar_creators
from targeting.segments.store import SegmentStore
from targeting.viewers import ViewerTable

CREATORS = (100, 200, 300, 2**64 - 1)
FANS = tuple(range(1, 9))
some_fans = st.lists(st.sampled_from(FANS), min_size=1, max_size=8, unique=True)


def columns(pairs: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([x for x, _ in pairs], np.uint64), np.array([y for _, y in pairs], np.uint64)


class SimilarAgainstPairs(RuleBasedStateMachine):
    """Lists as they were when they were made last; segments as the pairs are now."""

    most_at_once = 256

    def __init__(self) -> None:
        super().__init__()
        self.viewers, self.segments = ViewerTable(), SegmentStore()
        self.graph = FollowGraph(self.viewers, self.segments)
        self.pairs: set[tuple[int, int]] = set()
        self.wanted: set[int] = set()
        self.lists: dict[int, list[tuple[int, int]]] = {}

    @rule(who=some_fans, creator=st.sampled_from(CREATORS))
    def put(self, who: list[int], creator: int) -> None:
        self.graph.put(*columns([(fan, creator) for fan in who]))
        self.pairs |= {(fan, creator) for fan in who}

    @rule(who=some_fans, creator=st.sampled_from(CREATORS))
    def remove(self, who: list[int], creator: int) -> None:
        self.graph.remove(*columns([(fan, creator) for fan in who]))
        self.pairs -= {(fan, creator) for fan in who}

    @rule(creator=st.sampled_from(CREATORS), fan=st.sampled_from(CREATORS))
    def follow_among_creators(self, creator: int, fan: int) -> None:
        self.graph.put(*columns([(fan, creator)]))
        self.pairs.add((fan, creator))

    @rule(creator=st.sampled_from(CREATORS))
    def want(self, creator: int) -> None:
        self.graph.similar.want(creator)
        self.wanted.add(creator)

    @rule(only_new=st.booleans())
    def renew(self, only_new: bool) -> None:
        self.graph.similar.renew(only_new)
        for creator in self.wanted:
            if not only_new or creator not in self.lists:
                self.lists[creator] = similar_creators(self.pairs, creator, MOST_SIMILAR, LEAST_COMMON)

    @invariant()
    def segments_and_lists_are_what_they_mean(self) -> None:
        self.graph.refresh()
        for creator, similar in self.lists.items():
            assert self.graph.similar.similar_to(creator) == similar
            follow = {fan for other, _ in similar for fan in fans(self.pairs, other)} - {creator}
            rows = self.segments.members(f"similar:{creator}")
            assert {int(self.viewers.ids[row]) for row in rows} == follow
            for fan in FANS:
                through = [one for one in similar if (fan, one[0]) in self.pairs]
                assert self.graph.similar.followed_by(creator, fan) == through


@pytest.mark.parametrize("most_at_once", [256, 0], ids=["at once", "at the next refresh"])
def test_similar_against_pairs(monkeypatch: pytest.MonkeyPatch, most_at_once: int) -> None:
    monkeypatch.setattr(circles, "MOST_AT_ONCE", most_at_once)
    run_state_machine_as_test(SimilarAgainstPairs, settings=settings(max_examples=25, stateful_step_count=25))


def star_graph() -> tuple[ViewerTable, SegmentStore, FollowGraph]:
    """Creators 100 and 200 share the fans 1..5; 6 follows 200 only; 300 has other fans."""
    viewers, segments = ViewerTable(), SegmentStore()
    graph = FollowGraph(viewers, segments)
    shared = [(fan, creator) for fan in range(1, 6) for creator in (100, 200)]
    graph.put(*columns([*shared, (6, 200), *((fan, 300) for fan in range(20, 30))]))
    graph.similar.want(100)
    graph.similar.renew(only_new=True)
    return viewers, segments, graph


def test_a_fresh_follow_of_a_similar_creator_is_seen_at_once_and_its_end_too() -> None:
    viewers, segments, graph = star_graph()
    segments.memberships()
    similar = segments.segment_idx("similar:100")

    def is_seen(viewer_id: int) -> bool:
        rows = viewers.rows_of(np.array([viewer_id], np.uint64))
        return similar in segments.current.of_rows(rows)[1].tolist()

    assert graph.similar.similar_to(100) == [(200, 5)] and is_seen(6)
    graph.put(*columns([(7, 200), (8, 300)]))
    assert is_seen(7) and not is_seen(8)
    graph.remove(*columns([(7, 200), (6, 200)]))
    assert not is_seen(7) and not is_seen(6)


def test_a_viewer_who_follows_another_similar_creator_stays() -> None:
    viewers, segments, graph = star_graph()
    graph.put(*columns([(fan, 400) for fan in (*range(1, 6), 6)]))
    graph.similar.renew(only_new=False)
    assert graph.similar.followed_by(100, 6) == [(200, 5), (400, 5)]
    graph.remove(*columns([(6, 200)]))
    row = int(viewers.rows_of(np.array([6], np.uint64))[0])
    assert row in segments.members("similar:100") and graph.similar.followed_by(100, 6) == [(400, 5)]
    graph.remove(*columns([(6, 400)]))
    assert row not in segments.members("similar:100")


def test_nothing_is_made_for_whom_nobody_asks_and_a_list_that_shrinks_to_none_leaves_nobody() -> None:
    _, segments, graph = star_graph()
    assert segments.names == ["similar:100"]
    assert graph.similar.similar_to(200) == [] and graph.similar.followed_by(12_345, 6) == []
    graph.remove(*columns([(1, 100)]))
    graph.similar.renew(only_new=True)
    assert graph.similar.similar_to(100) == [(200, 5)]  # as it was found
    graph.similar.renew(only_new=False)
    assert graph.similar.similar_to(100) == [] and not segments.members("similar:100")


def test_a_search_that_is_stopped_changes_nothing() -> None:
    _, segments, graph = star_graph()
    graph.remove(*columns([(1, 100)]))
    graph.similar.stop()
    graph.similar.renew(only_new=False)
    assert graph.similar.similar_to(100) == [(200, 5)] and len(segments.members("similar:100")) == 6


def test_follows_that_come_and_go_between_the_search_and_the_new_list_count(monkeypatch: pytest.MonkeyPatch) -> None:
    viewers, segments, graph = star_graph()
    graph.put(*columns([(fan, 400) for fan in (*range(1, 6), 9, 10)]))
    search = FollowsCopy.find_similar

    def meanwhile(self: FollowsCopy, creators: list[int]) -> Iterator[tuple[int, tuple[Similar, ...]]]:
        graph.put(*columns([(11, 400), (12, 300)]))  # 400 is not listed yet
        graph.remove(*columns([(9, 400), (6, 200)]))
        yield from search(self, creators)

    monkeypatch.setattr(FollowsCopy, "find_similar", meanwhile)
    graph.similar.renew(only_new=False)
    assert graph.similar.similar_to(100) == [(200, 5), (400, 5)]
    members = {int(viewers.ids[row]) for row in segments.members("similar:100")}
    assert members == {*range(1, 6), 10, 11}


def test_follows_while_lists_are_made_are_in_the_segments() -> None:
    viewers, segments, graph = star_graph()

    def follow(first: int) -> None:
        for fan in range(first, first + 60):
            graph.put(*columns([(fan, 200)]))

    threads = [threading.Thread(target=follow, args=(first,)) for first in (1_000, 2_000)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        graph.similar.renew(only_new=False)
    for thread in threads:
        thread.join()
    members = {int(viewers.ids[row]) for row in segments.members("similar:100")}
    assert members == {*range(1, 7), *range(1_000, 1_060), *range(2_000, 2_060)}
