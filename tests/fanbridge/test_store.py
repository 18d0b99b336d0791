"""The fan service's store against plain dicts, and its file across restarts."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections import Counter
from contextlib import closing
from pathlib import Path

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from fanbridge.events import FAN_EVENT, FAN_OUTCOME, Rows, Stage, Tier
from fanbridge.service.fans import Fan, FanRules, Happening, Kept, Moved, Stirred, apply_event, catch_up
from fanbridge.service.insights import Insights
from fanbridge.service.store import FanStore
from pacing.facts import OutcomeKind, RowStatus
from tests.fanbridge.services import events, outcomes

DAY_MS = 1_000
RULES = FanRules.with_day(DAY_MS)
BIG = 2**64 - 1

viewer_ids = st.sampled_from([1, 2, BIG])
creator_ids = st.sampled_from([7, 2**63])
kinds = st.sampled_from(
    [OutcomeKind.LIKE, OutcomeKind.FOLLOW, OutcomeKind.UNFOLLOW, OutcomeKind.GIFT, OutcomeKind.PLAY]
)
delays_ms = st.integers(0, 20 * DAY_MS)


class StoreAgainstDicts(RuleBasedStateMachine):
    """The same pushes into the store and into dicts; positions, deduplication, fans and logs must agree."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.store = FanStore(self.folder / "fans.sqlite", RULES)
        self.now_ms = 100 * DAY_MS
        self.event_ids: dict[int, tuple[int, ...]] = {}
        self.outcome_keys: set[tuple[int, int, int]] = set()
        self.facts: set[tuple[int, int, int, int]] = set()
        self.fans: dict[tuple[int, int], Fan] = {}
        self.kept: list[tuple[int, int, Kept]] = []
        self.moved: Counter[tuple[int, int, int, int]] = Counter()
        self.stirred: Counter[tuple[int, int]] = Counter()
        self.pulled: dict[tuple[int, int], tuple[int, int]] = {}
        self.tiers_position = 0

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.folder)

    def tell(self, viewer_id: int, creator_id: int, kind: int, occurred_at_ms: int) -> None:
        fact = (viewer_id, creator_id, kind, occurred_at_ms)
        if kind == OutcomeKind.BILLABLE or fact in self.facts:
            return
        self.facts.add(fact)
        fan, due = apply_event(self.fans.get(fact[:2], Fan()), OutcomeKind(kind), occurred_at_ms, RULES)
        self.fans[fact[:2]] = fan
        self.note(fact[:2], due)

    def tell_in_order(self, facts: list[tuple[int, int, int, int]]) -> None:
        for fact in sorted(facts, key=lambda fact: (fact[3], fact[2] == OutcomeKind.UNFOLLOW, fact[2])):
            self.tell(*fact)

    def note(self, key: tuple[int, int], happened: list[Happening]) -> None:
        self.kept += [(*key, one) for one in happened if isinstance(one, Kept)]
        for one in happened:
            if isinstance(one, Moved):
                self.moved[key[1], one.moved_at_ms // DAY_MS, one.from_stage, one.to_stage] += 1
            elif isinstance(one, Stirred):
                self.stirred[key[1], one.stirred_at_ms // DAY_MS] += 1

    def let_time_pass(self, keys: set[tuple[int, int]]) -> None:
        for key in keys:
            self.fans[key], due = catch_up(self.fans[key], self.now_ms, RULES)
            self.note(key, due)

    @rule(told=st.lists(st.tuples(st.integers(1, 8), viewer_ids, creator_ids, kinds, delays_ms), max_size=6))
    def push_events(self, told: list[tuple[int, int, int, int, int]]) -> None:
        rows = [(event_id, v, c, kind, self.now_ms - delay_ms) for event_id, v, c, kind, delay_ms in told]
        expected, touched, accepted = [], set(), []
        for event_id, *fact in rows:
            expected.append(RowStatus.DUPLICATE if event_id in self.event_ids else RowStatus.ACCEPTED)
            if event_id not in self.event_ids:
                self.event_ids[event_id] = tuple(fact)
                accepted.append(tuple(fact))
                touched.add((fact[0], fact[1]))
        self.tell_in_order(accepted)
        self.let_time_pass(touched)
        pushed = self.store.push_events(events(*rows) if rows else np.zeros(0, FAN_EVENT), self.now_ms)
        assert pushed.tolist() == expected

    @rule(
        told=st.lists(
            st.tuples(
                st.integers(0, 1), st.integers(1, 3), kinds | st.just(OutcomeKind.BILLABLE), viewer_ids, delays_ms
            ),
            max_size=6,
        )
    )
    def push_outcomes(self, told: list[tuple[int, int, int, int, int]]) -> None:
        rows = [(lease, seq, kind, v, 7, 0, self.now_ms - delay_ms) for lease, seq, kind, v, delay_ms in told]
        expected, touched, accepted = [], set(), []
        for lease, seq, kind, viewer_id, creator_id, _, occurred_at_ms in rows:
            is_new = (lease, seq, kind) not in self.outcome_keys
            expected.append(RowStatus.ACCEPTED if is_new else RowStatus.DUPLICATE)
            if is_new:
                self.outcome_keys.add((lease, seq, kind))
                accepted.append((viewer_id, creator_id, kind, occurred_at_ms))
                if kind != OutcomeKind.BILLABLE:
                    touched.add((viewer_id, creator_id))
        self.tell_in_order(accepted)
        self.let_time_pass(touched)
        pushed = self.store.push_outcomes(outcomes(*rows) if rows else np.zeros(0, FAN_OUTCOME), self.now_ms)
        assert pushed.tolist() == expected

    @rule(days=st.integers(0, 40))
    def review(self, days: int) -> None:
        self.now_ms += days * DAY_MS
        due = [key for key, fan in self.fans.items() if fan.review_at_ms <= self.now_ms]
        assert self.store.review(self.now_ms) == len(due)
        self.let_time_pass(set(due))
        assert self.store.review(self.now_ms) == 0

    @rule()
    def reopen(self) -> None:
        generation = self.store.generation
        self.store.close()
        self.store = FanStore(self.folder / "fans.sqlite", RULES)
        assert self.store.generation == generation

    @rule(limit=st.integers(1, 3))
    def pull_some_tiers(self, limit: int) -> None:
        rows, self.tiers_position = self.store.pull_tiers(self.tiers_position, limit)
        assert len(rows) <= limit
        self.pulled |= standings(rows)

    @invariant()
    def counts_agree(self) -> None:
        assert self.store.outcome_count() == len(self.outcome_keys)

    @invariant()
    def fans_agree(self) -> None:
        for key, fan in self.fans.items():
            assert self.store.fan(*key) == fan

    @invariant()
    def a_reader_who_pulls_the_rest_knows_every_tier_and_stage(self) -> None:
        rows, _ = self.store.pull_tiers(self.tiers_position, 1_000)
        known = {key: told for key, told in (self.pulled | standings(rows)).items() if any(told)}
        assert known == {key: (fan.tier, fan.stage) for key, fan in self.fans.items() if fan.tier or fan.stage}

    @invariant()
    def the_logs_hold_each_row_once(self) -> None:
        rows, position = self.store.pull_events(0, 1_000)
        assert {row[0]: row[1:] for row in rows.tolist()} == self.event_ids
        assert len(rows) == len(self.event_ids)
        assert self.store.pull_events(position, 10)[1] == position
        judged, _ = self.store.pull_retention(0, 1_000)
        told = [(v, c, Kept(days, bool(kept), at_ms)) for v, c, days, kept, at_ms in judged.tolist()]
        assert sorted(told, key=repr) == sorted(self.kept, key=repr)

    @invariant()
    def steps_and_signs_of_life_are_counted_by_creator_and_day(self) -> None:
        insights = Insights(self.folder / "fans.sqlite", RULES)
        for creator_id in (7, 2**63):
            moved = {key[1:]: fans for key, fans in self.moved.items() if key[0] == creator_id}
            assert {tuple(row[:3]): row[3] for row in insights.transitions(creator_id)} == moved
            stirred = {day: fans for (creator, day), fans in self.stirred.items() if creator == creator_id}
            assert {day: row.stirred for day, row in insights.days(creator_id).items() if row.stirred} == stirred
        insights.close()


def standings(rows: Rows) -> dict[tuple[int, int], tuple[int, int]]:
    return {(v, c): (Tier(tier), Stage(stage)) for v, c, tier, stage, _ in rows.tolist()}


TestStoreAgainstDicts = StoreAgainstDicts.TestCase
TestStoreAgainstDicts.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)


def test_an_event_and_an_outcome_that_tell_the_same_count_once() -> None:
    store = FanStore(None, RULES)
    store.push_events(events((1, 5, 7, OutcomeKind.GIFT, DAY_MS)), DAY_MS)
    taken = store.push_outcomes(outcomes((1, 1, OutcomeKind.GIFT, 5, 7, 0, DAY_MS)), DAY_MS)
    assert taken.tolist() == [RowStatus.ACCEPTED]
    fan = store.fan(5, 7)
    assert fan is not None
    assert fan.engagement.support == 1.0


def test_a_push_that_fails_half_way_leaves_nothing() -> None:
    store = FanStore(None, RULES)
    rows = events((1, 5, 7, OutcomeKind.LIKE, DAY_MS), (2, 5, 7, 99, DAY_MS))
    try:
        store.push_events(rows, DAY_MS)
    except ValueError:
        pass
    else:
        raise AssertionError("kind 99 was taken")
    assert store.fan(5, 7) is None
    assert store.newest_at_ms == 0
    assert len(store.pull_events(0, 10)[0]) == 0
    assert store.push_events(rows[:1], DAY_MS).tolist() == [RowStatus.ACCEPTED]


def test_a_fan_who_stays_where_they_are_is_not_told_again() -> None:
    store = FanStore(None, RULES)
    store.push_events(events((1, 5, 7, OutcomeKind.LIKE, DAY_MS), (2, 6, 7, OutcomeKind.LIKE, DAY_MS)), DAY_MS)
    _, position = store.pull_tiers(0, 10)
    store.push_events(events((3, 5, 7, OutcomeKind.LIKE, DAY_MS + 1)), DAY_MS + 1)
    assert len(store.pull_tiers(position, 10)[0]) == 0
    store.push_events(events((4, 5, 7, OutcomeKind.FOLLOW, DAY_MS + 2)), DAY_MS + 2)
    assert store.pull_tiers(position, 10)[0]["viewer_id"].tolist() == [5]


def test_the_time_of_the_newest_row_survives(tmp_path: Path) -> None:
    store = FanStore(tmp_path / "fans.sqlite", RULES)
    store.push_events(events((1, 5, 7, OutcomeKind.LIKE, 5_000), (2, 5, 7, OutcomeKind.LIKE, 3_000)), 5_000)
    store.close()
    store = FanStore(tmp_path / "fans.sqlite", RULES)
    assert store.newest_at_ms == 5_000
    store.close()


def test_a_file_from_before_audiences_takes_them(tmp_path: Path) -> None:
    path = tmp_path / "fans.sqlite"
    FanStore(path, FanRules.with_day()).close()
    with closing(sqlite3.connect(path)) as db:
        db.execute("ALTER TABLE outcomes DROP COLUMN audience")
        db.execute("INSERT INTO outcomes VALUES (1, 1, 2, 5, 7, 3, 4, 900, 1, 1)")
        db.commit()
    store = FanStore(path, FanRules.with_day())
    told = outcomes((1, 2, OutcomeKind.BILLABLE, 5, 7, 900, DAY_MS))
    assert store.push_outcomes(told, DAY_MS, ["fans:9"]).tolist() == [RowStatus.ACCEPTED]
    assert [store.audience_of(1, seq, int(OutcomeKind.BILLABLE)) for seq in (1, 2, 3)] == ["", "fans:9", None]
    store.close()
