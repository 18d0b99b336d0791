"""Times the match index beside its rivals on the same viewers and campaigns, after comparing what they find."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from benchmarks.match.rivals import CountingKIndex, SetLoop, facts_of
from benchmarks.match.workload import Viewers
from targeting.expressions import Clause
from targeting.match.hot.kernels import match_hot
from targeting.match.hot.rows import RowCache, make_row_cache
from targeting.match.index import build_index
from targeting.match.kernels import MatchIndex, match_batch
from targeting.match.reference import matching_campaigns
from targeting.segments.store import SegmentStore

FIRST = 64
HOT_VIEWERS = 125
HOT_BYTES = 2**23
TRIES = 3
_VERSION = np.uint64(1)


@dataclass
class Contest:
    """C campaigns, V viewers, and everything that finds the ones for the others."""

    clauses_of: list[tuple[Clause, ...]]
    viewers: Viewers
    store: SegmentStore
    index: MatchIndex = field(init=False)
    kindex: CountingKIndex = field(init=False)
    sets: SetLoop = field(init=False)
    cache: RowCache = field(init=False)

    def __post_init__(self) -> None:
        self.index = build_index(self.clauses_of, self.store.segment_idx)
        self.kindex = CountingKIndex(self.clauses_of, self.viewers.names)
        self.sets = SetLoop(self.clauses_of)
        self.cache = make_row_cache(self.index, HOT_BYTES)
        self._keys = self.kindex.keys_of(self.viewers)
        count = len(self.viewers.rows)
        self._ptr = np.zeros(count + 1, np.int64)
        self._out = np.zeros(64, np.int32)
        found = self.match_all()
        while found < 0:
            self._out = np.zeros(2 * len(self._out) + 64 * self.index.campaign_words, np.int32)
            found = self.match_all()
        self.matches = found
        self._hot = np.resize(np.arange(min(count, HOT_VIEWERS)), count)
        self._hot_ids = (self._hot + 1).astype(np.uint64)
        self._hot_facts = (self.viewers.dims[self._hot], self.viewers.interest_masks[self._hot], _VERSION)
        self._hot_segments = self.store.memberships().of_rows(self.viewers.rows[self._hot])

    def match_all(self) -> int:
        """All campaigns of every viewer; how many."""
        return self._match(-1)

    def match_first(self) -> int:
        """Every viewer's first campaigns in rank order."""
        return self._match(FIRST)

    def _match(self, wanted: int) -> int:
        viewers = self.viewers
        return int(
            match_batch(
                self.index, viewers.dims, viewers.interest_masks, viewers.rows, viewers.segment_ptr,
                viewers.segments, wanted, self._ptr, self._out,
            )
        )  # fmt: skip

    def match_cached(self) -> int:
        """The first campaigns of as many viewers, all of them of a few who come again and again."""
        return int(
            match_hot(
                self.index,
                self.cache,
                self._hot_ids,
                *self._hot_facts,
                *self._hot_segments,
                FIRST,
                self._ptr,
                self._out,
            )
        )

    def match_kindex(self) -> int:
        """All campaigns of every viewer, by the counting k-index."""
        return self.kindex.match(self._keys, self._ptr, self._out)

    def match_sets(self, viewers: int) -> list[list[int]]:
        """All campaigns of the first viewers, by every clause against sets, as the reference says it."""
        return [
            matching_campaigns(
                self.clauses_of,
                self.viewers.dims[i].tolist(),
                int(self.viewers.interest_masks[i]),
                self.viewers.names_of(i),
            )
            for i in range(viewers)
        ]

    def match_tuned_sets(self, facts: list[tuple[tuple[int, ...], frozenset[str]]]) -> list[list[int]]:
        """The same by a loop over sets that was made to be fast."""
        return [self.sets.match(*viewer) for viewer in facts]

    def facts(self, viewers: int) -> list[tuple[tuple[int, ...], frozenset[str]]]:
        """The first viewers as `match_tuned_sets` takes them."""
        return [facts_of(self.viewers, i) for i in range(viewers)]

    def lists(self, match: Callable[[], int]) -> list[list[int]]:
        """What one of the methods above finds, viewer by viewer, ascending."""
        match()
        return [sorted(self._out[a:b].tolist()) for a, b in zip(self._ptr[:-1], self._ptr[1:], strict=True)]

    def check_agreement(self, brute_force: int) -> int:
        """Compare all of them; answers with how many matches agreed.

        Args:
            brute_force: how many viewers are compared with the loops over sets, too.

        Raises:
            AssertionError: two of them differ.
        """
        found, by_kindex = self.lists(self.match_all), self.lists(self.match_kindex)
        by_sets, by_tuned = self.match_sets(brute_force), self.match_tuned_sets(self.facts(brute_force))
        first, cached = self.lists(self.match_first), self.lists(self.match_cached)
        cached_again = self.lists(self.match_cached)
        for i, mine in enumerate(found):
            hot = int(self._hot[i])
            if not mine == by_kindex[i] or first[i] != mine[:FIRST]:
                raise AssertionError(f"viewer {i}: index {mine}, first {first[i]}, k-index {by_kindex[i]}")
            if not cached[i] == cached_again[i] == found[hot][:FIRST]:
                raise AssertionError(f"viewer {hot}: index {found[hot][:FIRST]}, from a kept row {cached[i]}")
            if i < brute_force and not mine == by_sets[i] == by_tuned[i]:
                raise AssertionError(f"viewer {i}: index {mine}, sets {by_sets[i]}, {by_tuned[i]}")
        return sum(map(len, found))


def cpu_ns(work: Callable[[], object], viewers: int) -> float:
    """CPU nanoseconds per viewer of a call: the fastest of a few, as what else runs can only add to a time."""
    taken = []
    for _ in range(TRIES):
        started_ns = time.thread_time_ns()
        work()
        taken.append(time.thread_time_ns() - started_ns)
    return min(taken) / viewers


def time_round(contest: Contest, set_viewers: int) -> dict[str, float]:
    """CPU nanoseconds per viewer of everybody, once each, by name; the sets match so many viewers, 0 for none."""
    count = len(contest.viewers.rows)
    taken = {
        "match": cpu_ns(contest.match_all, count),
        "kindex": cpu_ns(contest.match_kindex, count),
        "first64": cpu_ns(contest.match_first, count),
        "cached": cpu_ns(contest.match_cached, count),
    }
    if set_viewers:
        facts = contest.facts(set_viewers)
        taken["sets"] = cpu_ns(lambda: contest.match_sets(set_viewers), set_viewers)
        taken["tuned_sets"] = cpu_ns(lambda: contest.match_tuned_sets(facts), set_viewers)
    return taken
