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
from targeting.graph.similar.circles import EARLY_PERIOD_MS, FIRST_WAIT_MS, MOST_WAIT_MS, SimilarCreators
from targeting.graph.similar.lists import MOST_SIMILAR, FollowsCopy, Similar, SimilarCreator, Standards
from targeting.graph.similar.reference import similar_creators
from targeting.segments.store import SegmentStore
from targeting.viewers import ViewerTable

CREATORS = (100, 200, 300, 2**64 - 1)
FANS = tuple(range(1, 9))
BY_CHANCE_TOO = Standards(least_cosine=0.0, least_lift=1e-9, luck=1e9)
"""For graphs of a dozen accounts, where nothing is beyond chance."""
PERIOD_MS = 300_000
some_fans = st.lists(st.sampled_from(FANS), min_size=1, max_size=8, unique=True)


def columns(pairs: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([x for x, _ in pairs], np.uint64), np.array([y for _, y in pairs], np.uint64)


class SimilarAgainstPairs(RuleBasedStateMachine):
    """Lists as they were when they were made last; segments as the pairs are now."""

    most_at_once = 256

    def __init__(self) -> None:
        super().__init__()
        self.viewers, self.segments = ViewerTable(), SegmentStore()
        self.graph = FollowGraph(self.viewers, self.segments, BY_CHANCE_TOO)
        self.now_ms = 0
        self.pairs: set[tuple[int, int]] = set()
        self.wanted: set[int] = set()
        self.asked: set[int] = set()  # since others were forgotten
        self.lists: dict[int, list[SimilarCreator]] = {}

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
        self.asked.add(creator)

    @rule(kept=st.sets(st.sampled_from(CREATORS)))
    def forget_others(self, kept: set[int]) -> None:
        self.graph.similar.forget_others(kept)
        for creator in self.wanted - kept - self.asked:
            self.wanted.remove(creator)
            self.lists.pop(creator, None)
        self.asked = set()

    @rule()
    def renew(self) -> None:
        self.now_ms += PERIOD_MS
        self.graph.similar.renew(self.now_ms)
        self.find(self.wanted)

    @rule()
    def renew_new(self) -> None:
        self.graph.similar.renew_due(self.now_ms)  # no time has passed
        self.find(self.wanted - self.lists.keys())

    @rule()
    def renew_due(self) -> None:
        """Empty lists are made again while that is new; others where the fans became many more or fewer."""
        self.now_ms += FIRST_WAIT_MS
        before = {creator: self.graph.similar.similar_to(creator) for creator in self.lists}
        self.graph.similar.renew_due(self.now_ms)
        now = {creator: self.graph.similar.similar_to(creator) for creator in self.wanted}
        self.find({creator for creator in self.wanted if creator not in before or now[creator] != before[creator]})

    def find(self, creators: set[int]) -> None:
        for creator in creators:
            self.lists[creator] = similar_creators(self.pairs, creator, MOST_SIMILAR, BY_CHANCE_TOO)

    @invariant()
    def segments_and_lists_are_what_they_mean(self) -> None:
        self.graph.refresh()
        for creator, similar in self.lists.items():
            assert self.graph.similar.similar_to(creator) == similar
            follow = {fan for one in similar for fan in fans(self.pairs, one.creator_id)} - {creator}
            rows = self.segments.members(f"similar:{creator}")
            assert {int(self.viewers.ids[row]) for row in rows} == follow
            for fan in FANS:
                through = [one for one in similar if (fan, one.creator_id) in self.pairs]
                assert self.graph.similar.followed_by(creator, fan) == through
        for creator in set(CREATORS) - self.wanted:
            assert not self.graph.similar.similar_to(creator)
            assert not self.segments.members(f"similar:{creator}")


@pytest.mark.parametrize("most_at_once", [256, 0], ids=["at once", "at the next refresh"])
def test_similar_against_pairs(monkeypatch: pytest.MonkeyPatch, most_at_once: int) -> None:
    monkeypatch.setattr(circles, "MOST_AT_ONCE", most_at_once)
    run_state_machine_as_test(SimilarAgainstPairs, settings=settings(max_examples=25, stateful_step_count=25))


def told(similar: list[SimilarCreator]) -> list[tuple[int, int]]:
    """Who, and how many fans in common."""
    return [(one.creator_id, one.common) for one in similar]


def star_graph() -> tuple[ViewerTable, SegmentStore, FollowGraph]:
    """Creators 100 and 200 share the fans 1..5; 6 follows 200 only; 300 has other fans."""
    viewers, segments = ViewerTable(), SegmentStore()
    graph = FollowGraph(viewers, segments, BY_CHANCE_TOO)
    shared = [(fan, creator) for fan in range(1, 6) for creator in (100, 200)]
    graph.put(*columns([*shared, (6, 200), *((fan, 300) for fan in range(20, 30))]))
    graph.similar.want(100)
    graph.similar.renew_due(0)
    return viewers, segments, graph


def test_a_fresh_follow_of_a_similar_creator_is_seen_at_once_and_its_end_too() -> None:
    viewers, segments, graph = star_graph()
    segments.memberships()
    similar = segments.segment_idx("similar:100")

    def is_seen(viewer_id: int) -> bool:
        rows = viewers.rows_of(np.array([viewer_id], np.uint64))
        return similar in segments.current.of_rows(rows)[1].tolist()

    assert told(graph.similar.similar_to(100)) == [(200, 5)] and is_seen(6)
    graph.put(*columns([(7, 200), (8, 300)]))
    assert is_seen(7) and not is_seen(8)
    graph.remove(*columns([(7, 200), (6, 200)]))
    assert not is_seen(7) and not is_seen(6)


def test_a_viewer_who_follows_another_similar_creator_stays() -> None:
    viewers, segments, graph = star_graph()
    graph.put(*columns([(fan, 400) for fan in (*range(1, 6), 6)]))
    graph.similar.renew(PERIOD_MS)
    assert told(graph.similar.followed_by(100, 6)) == [(200, 5), (400, 5)]
    graph.remove(*columns([(6, 200)]))
    row = int(viewers.rows_of(np.array([6], np.uint64))[0])
    assert row in segments.members("similar:100") and told(graph.similar.followed_by(100, 6)) == [(400, 5)]
    graph.remove(*columns([(6, 400)]))
    assert row not in segments.members("similar:100")


def test_nothing_is_made_for_whom_nobody_asks_and_a_list_that_shrinks_to_none_leaves_nobody() -> None:
    _, segments, graph = star_graph()
    assert segments.names == ["similar:100"]
    assert told(graph.similar.similar_to(200)) == [] and told(graph.similar.followed_by(12_345, 6)) == []
    graph.remove(*columns([(1, 100)]))
    graph.similar.renew_due(0)
    assert told(graph.similar.similar_to(100)) == [(200, 5)]  # as it was found
    graph.similar.renew(PERIOD_MS)
    assert told(graph.similar.similar_to(100)) == [] and not segments.members("similar:100")


def test_a_search_that_is_stopped_changes_nothing() -> None:
    _, segments, graph = star_graph()
    graph.remove(*columns([(1, 100)]))
    graph.similar.stop()
    graph.similar.renew(PERIOD_MS)
    assert told(graph.similar.similar_to(100)) == [(200, 5)] and len(segments.members("similar:100")) == 6


def test_follows_that_come_and_go_between_the_search_and_the_new_list_count(monkeypatch: pytest.MonkeyPatch) -> None:
    viewers, segments, graph = star_graph()
    graph.put(*columns([(fan, 400) for fan in (*range(1, 6), 9, 10)]))
    search = FollowsCopy.find_similar

    def meanwhile(
        self: FollowsCopy, creators: list[int], standards: Standards
    ) -> Iterator[tuple[int, tuple[Similar, ...]]]:
        graph.put(*columns([(11, 400), (12, 300)]))  # 400 is not listed yet
        graph.remove(*columns([(9, 400), (6, 200)]))
        yield from search(self, creators, standards=standards)

    monkeypatch.setattr(FollowsCopy, "find_similar", meanwhile)
    graph.similar.renew(PERIOD_MS)
    assert told(graph.similar.similar_to(100)) == [(200, 5), (400, 5)]
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
        graph.similar.renew(PERIOD_MS)
    for thread in threads:
        thread.join()
    members = {int(viewers.ids[row]) for row in segments.members("similar:100")}
    assert members == {*range(1, 7), *range(1_000, 1_060), *range(2_000, 2_060)}


def test_of_two_searches_the_list_of_the_later_copy_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    viewers, segments, graph = star_graph()
    search = FollowsCopy.find_similar
    is_first = True

    def overtaken(
        self: FollowsCopy, creators: list[int], standards: Standards
    ) -> Iterator[tuple[int, tuple[Similar, ...]]]:
        """While the first search counts, follows come and another search copies, counts and swaps."""
        nonlocal is_first
        if is_first:
            is_first = False
            graph.put(*columns([(fan, 400) for fan in (*range(1, 6), 9)]))
            graph.remove(*columns([(1, 200)]))
            graph.similar.renew(2 * PERIOD_MS)
            assert told(graph.similar.similar_to(100)) == [(400, 5)]
        yield from search(self, creators, standards=standards)

    monkeypatch.setattr(FollowsCopy, "find_similar", overtaken)
    graph.put(*columns([(13, 300)]))
    graph.similar.renew(PERIOD_MS)
    assert told(graph.similar.similar_to(100)) == [(400, 5)]
    members = {int(viewers.ids[row]) for row in segments.members("similar:100")}
    assert members == {*range(1, 6), 9}


def test_a_creator_who_is_forgotten_while_being_looked_for_stays_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    _, segments, graph = star_graph()
    search = FollowsCopy.find_similar

    def meanwhile(
        self: FollowsCopy, creators: list[int], standards: Standards
    ) -> Iterator[tuple[int, tuple[Similar, ...]]]:
        for _ in range(2):
            graph.similar.forget_others(set())
        yield from search(self, creators, standards=standards)

    monkeypatch.setattr(FollowsCopy, "find_similar", meanwhile)
    graph.put(*columns([(13, 300)]))
    graph.similar.renew(PERIOD_MS)
    assert graph.similar.similar_to(100) == [] and not segments.members("similar:100")
    graph.put(*columns([(14, 200)]))  # nobody's list has 200 any more
    assert not segments.members("similar:100")


def test_only_creators_who_are_still_named_are_kept() -> None:
    _, segments, graph = star_graph()
    graph.similar.forget_others(set())
    assert len(segments.members("similar:100")) == 6  # it was wanted since the last time
    graph.similar.forget_others({100})
    graph.similar.forget_others({200})
    assert graph.similar.similar_to(100) == [] and not segments.members("similar:100")
    graph.similar.want(100)
    graph.similar.renew(PERIOD_MS)
    assert told(graph.similar.similar_to(100)) == [(200, 5)] and len(segments.members("similar:100")) == 6


def searches_until(graph: FollowGraph, monkeypatch: pytest.MonkeyPatch, until_ms: int) -> list[int]:
    """When (ms of a virtual clock) lists that are due are made again, while a stranger follows each second."""
    at_ms: list[int] = []
    search = SimilarCreators._search

    def noted(self: SimilarCreators, creators: list[int], now_ms: int) -> bool:
        at_ms.append(now_ms)
        return search(self, creators, now_ms)

    monkeypatch.setattr(SimilarCreators, "_search", noted)
    for now_ms in range(1_000, until_ms + 1, 1_000):
        graph.put(*columns([(100_000 + now_ms, 300)]))
        graph.similar.renew_due(now_ms)
    return at_ms


def test_an_empty_list_is_made_again_less_and_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, graph = star_graph()
    graph.similar.want(300)
    graph.put(*columns([(fan, 300) for fan in range(10_000, 12_000)]))
    graph.similar.renew_due(0)
    waits = np.diff([0, *searches_until(graph, monkeypatch, 2 * PERIOD_MS)]).tolist()
    assert waits == [FIRST_WAIT_MS << k for k in range(6)] and waits[-1] == MOST_WAIT_MS


def test_who_becomes_similar_to_a_creator_without_any_is_seen_within_seconds() -> None:
    _, segments, graph = star_graph()
    graph.put(*columns([(fan, 500) for fan in range(50, 55)]))
    graph.similar.want(500)
    graph.similar.renew_due(0)
    assert graph.similar.similar_to(500) == []
    graph.put(*columns([(fan, 600) for fan in range(50, 56)]))
    graph.similar.renew_due(FIRST_WAIT_MS - 1)
    assert graph.similar.similar_to(500) == []
    graph.similar.renew_due(FIRST_WAIT_MS)
    assert told(graph.similar.similar_to(500)) == [(600, 5)] and len(segments.members("similar:500")) == 6


def test_a_creator_who_gained_many_fans_is_looked_at_again_and_one_who_gained_few_is_not() -> None:
    _, _, graph = star_graph()
    graph.put(*columns([(fan, creator) for fan in range(50, 58) for creator in (500, 600)]))
    graph.similar.want(500)
    graph.similar.renew(PERIOD_MS)
    graph.put(*columns([(50, 100), (58, 500), (58, 700)]))  # one fan more of eight, of 5 one more
    graph.put(*columns([(fan, 700) for fan in range(50, 57)]))
    graph.similar.renew_due(PERIOD_MS + EARLY_PERIOD_MS)
    assert told(graph.similar.similar_to(500)) == [(600, 8)]
    graph.put(*columns([(59, 500), (59, 700)]))  # two of eight
    graph.similar.renew_due(PERIOD_MS + 2 * EARLY_PERIOD_MS)
    assert told(graph.similar.similar_to(500)) == [(700, 9), (600, 8)]


def test_what_waits_for_the_next_refresh_goes_with_a_creator_who_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(circles, "MOST_AT_ONCE", 0)
    _, segments, graph = star_graph()
    graph.put(*columns([(7, 200)]))
    for _ in range(2):
        graph.similar.forget_others(set())
    graph.refresh()
    assert not segments.members("similar:100")
