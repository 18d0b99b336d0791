"""Frequency counters: the compiled table against plain dictionaries, step by step, and what a full table forgets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import settings as limits
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from auction.bid.caps.kernels import WAYS, find_way, pair_key, times_seen
from auction.bid.caps.reference import ReferenceCaps
from auction.bid.caps.table import FrequencyCaps
from auction.bid.reference import pair_hash
from pacing.clocks import MS_PER_DAY, MS_PER_HOUR

pytestmark = pytest.mark.kernels

START_MS = 1_772_510_400_000
ZONE = "Asia/Shanghai"
WIN_NOTICE_MS, BILLING_MS = 2_000, 60_000
VIEWERS, CREATORS = (1, 2, 2**64 - 1), (3, 4)


def column(*values: int) -> np.ndarray:
    return np.array(values, np.uint64)


def key_of(viewer_id: int, creator_id: int) -> np.uint64:
    return np.uint64(pair_key(np.uint64(viewer_id), np.uint64(creator_id)))


def seen_of(caps: FrequencyCaps, viewer_id: int, creator_id: int, now_ms: int) -> int:
    return times_seen(caps.table, key_of(viewer_id, creator_id), caps.day(now_ms), now_ms)


class CapsMachine(RuleBasedStateMachine):
    """Bids, wins, impressions and losses over a few days; both counters must always say the same."""

    pairs = st.lists(st.tuples(st.sampled_from(VIEWERS), st.sampled_from(CREATORS)), min_size=0, max_size=3)

    @initialize()
    def begin(self) -> None:
        self.now_ms = START_MS
        self.caps, self.plain = FrequencyCaps(2**10, ZONE, WIN_NOTICE_MS, BILLING_MS), ReferenceCaps()

    @rule(pairs=pairs)
    def bid(self, pairs: list[tuple[int, int]]) -> None:
        self.caps.offered(column(*(v for v, _ in pairs)), column(*(c for _, c in pairs)), self.now_ms)
        for viewer_id, creator_id in pairs:
            self.plain.offer(viewer_id, creator_id, self.now_ms, self.now_ms + WIN_NOTICE_MS)

    @rule(pairs=pairs)
    def win(self, pairs: list[tuple[int, int]]) -> None:
        self.caps.won(column(*(v for v, _ in pairs)), column(*(c for _, c in pairs)), self.now_ms)
        for viewer_id, creator_id in pairs:
            self.plain.extend(viewer_id, creator_id, self.now_ms, self.now_ms + BILLING_MS)

    @rule(pairs=pairs, shown=st.lists(st.booleans(), min_size=3, max_size=3))
    def decide(self, pairs: list[tuple[int, int]], shown: list[bool]) -> None:
        chosen = np.array(shown[: len(pairs)], np.bool_)
        self.caps.decided(column(*(v for v, _ in pairs)), column(*(c for _, c in pairs)), chosen, self.now_ms)
        day = self.caps.day(self.now_ms)
        for (viewer_id, creator_id), was_shown in zip(pairs, shown, strict=False):
            self.plain.decide(viewer_id, creator_id, was_shown, day, self.now_ms)

    @rule(step_ms=st.sampled_from([1, 1_999, 2_000, 2_001, 60_000, 6 * MS_PER_HOUR, MS_PER_DAY]))
    def wait(self, step_ms: int) -> None:
        self.now_ms += step_ms

    @invariant()
    def both_have_seen_the_same(self) -> None:
        day = self.caps.day(self.now_ms)
        for viewer_id in VIEWERS:
            for creator_id in CREATORS:
                plain = self.plain.times_seen(viewer_id, creator_id, day, self.now_ms)
                assert seen_of(self.caps, viewer_id, creator_id, self.now_ms) == plain


CapsMachine.TestCase.settings = limits(max_examples=25, stateful_step_count=30)
TestCaps = CapsMachine.TestCase


def test_pair_key_is_never_zero_and_is_the_references() -> None:
    for viewer_id, creator_id in ((0, 0), (1, 2), (2**64 - 1, 2**64 - 1)):
        key = int(key_of(viewer_id, creator_id))
        assert key == pair_hash(viewer_id, creator_id) != 0


def test_a_full_set_forgets_the_pair_untouched_for_longest() -> None:
    caps = FrequencyCaps(WAYS, ZONE, WIN_NOTICE_MS, BILLING_MS)  # one set
    assert caps.table.keys.shape == (1, WAYS)
    for k in range(WAYS):
        caps.decided(column(100 + k), column(1), np.array([True]), START_MS + k)
    caps.decided(column(100), column(1), np.array([True]), START_MS + 50)  # the oldest is touched again
    caps.decided(column(999), column(1), np.array([True]), START_MS + 60)
    seen = {k: seen_of(caps, 100 + k, 1, START_MS + 70) for k in range(WAYS)}
    assert seen == {0: 2, 1: 0, **dict.fromkeys(range(2, WAYS), 1)}
    assert seen_of(caps, 999, 1, START_MS + 70) == 1


def test_a_pair_that_takes_an_evicted_place_inherits_nothing() -> None:
    caps = FrequencyCaps(WAYS, ZONE, WIN_NOTICE_MS, BILLING_MS)
    for k in range(WAYS):
        caps.offered(column(100 + k, 100 + k, 100 + k), column(1, 1, 1), START_MS + k)
    caps.won(column(100), column(1), START_MS + 8)  # its undecided bids would lapse in a minute
    caps.offered(column(999), column(1), START_MS + 100)
    assert find_way(caps.table, key_of(100, 1)) == -1
    assert seen_of(caps, 999, 1, START_MS + 101) == 1
    assert seen_of(caps, 999, 1, START_MS + 100 + WIN_NOTICE_MS) == 0


def test_losses_of_unknown_pairs_take_no_place() -> None:
    caps = FrequencyCaps(WAYS, ZONE, WIN_NOTICE_MS, BILLING_MS)
    caps.decided(column(1), column(1), np.array([False]), START_MS)
    assert not caps.table.keys.any()


def test_a_day_begins_in_the_deployments_zone() -> None:
    caps = FrequencyCaps(WAYS, ZONE, WIN_NOTICE_MS, BILLING_MS)
    caps.decided(column(1), column(1), np.array([True]), START_MS)
    assert seen_of(caps, 1, 1, START_MS + 12 * MS_PER_HOUR - 1) == 1
    assert seen_of(caps, 1, 1, START_MS + 12 * MS_PER_HOUR) == 0


@pytest.mark.parametrize("capacity", [0, WAYS - 1, 2**26 + 1])
def test_capacity_is_checked(capacity: int) -> None:
    with pytest.raises(ValueError, match=f"capacity {capacity}: not in {WAYS}..{2**26}"):
        FrequencyCaps(capacity, ZONE, WIN_NOTICE_MS, BILLING_MS)
