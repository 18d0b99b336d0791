"""Tiers, events and retention in: the right segments, each event in the ledger once, nothing lost by a restart."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanbridge.client import FanServiceClient
from fanbridge.delivery import Delivery
from fanbridge.event_feed import EventFeed, facts_of
from fanbridge.events import (
    FAN_CHANGE,
    RETENTION,
    STAGE_NAMES,
    TIER_NAMES,
    FanServiceRefused,
    Page,
    Rows,
    Stage,
    Tier,
    stage_segment,
    tier_segment,
)
from fanbridge.feed import TierFeed, latest_changes
from fanbridge.retention import RetentionFeed
from fanbridge.service.server import RunningService
from pacing.clocks import MS_PER_DAY
from pacing.facts import OutcomeKind
from pacing.ledger.log import Ledger
from targeting.segments.store import Change, SegmentStore
from targeting.viewers import ViewerTable
from tests.fanbridge.services import START_AT_MS, RowLog, connected, events, running_service
from tests.fanbridge.sinks import Follows, Segments, Viewers

FOLLOW, UNFOLLOW, LIKE, ORDER = OutcomeKind.FOLLOW, OutcomeKind.UNFOLLOW, OutcomeKind.LIKE, OutcomeKind.ORDER


@pytest.fixture
def service(tmp_path: Path) -> Iterator[RunningService]:
    with running_service(tmp_path / "fans") as running:
        yield running


@pytest.fixture
def client(service: RunningService) -> Iterator[FanServiceClient]:
    with connected(service.address) as connection:
        yield connection


def test_tiers_and_stages_become_segments_and_move(client: FanServiceClient) -> None:
    segments, viewers = Segments(), Viewers()
    feed = TierFeed(client, Delivery(None), viewers, segments)
    client.push_events(
        events((1, 11, 7, FOLLOW, START_AT_MS), (2, 12, 7, FOLLOW, START_AT_MS), (3, 11, 8, LIKE, START_AT_MS))
    )
    feed.tick()
    assert feed.applied == 3
    assert segments.viewers(viewers) == {
        "tier:potential:7": {11, 12},
        "stage:gained:7": {11, 12},
        "tier:potential:8": {11},
    }
    client.push_events(events((4, 11, 7, ORDER, START_AT_MS + 1), (5, 12, 7, UNFOLLOW, START_AT_MS + 1)))
    feed.tick()
    assert segments.viewers(viewers) == {
        "tier:high-value:7": {11},
        "tier:potential:7": {12},
        "stage:activated:7": {11},
        "stage:lost:7": {12},
        "tier:potential:8": {11},
    }
    feed.tick()
    assert feed.applied == 5


def test_segments_are_rebuilt_after_a_restart_without_the_service(client: FanServiceClient, tmp_path: Path) -> None:
    state = tmp_path / "delivery.sqlite"
    segments, viewers = Segments(), Viewers()
    told = [(i, 2**64 - i, 1 + i % 3, [FOLLOW, LIKE, ORDER][i % 3], START_AT_MS) for i in range(1, 40)]
    client.push_events(events(*told))
    delivery = Delivery(state)
    feed = TierFeed(client, delivery, viewers, segments, limit=10)
    feed.tick()
    assert feed.applied == 39
    delivery.close()
    client.close()
    rebuilt, other_viewers = Segments(), Viewers()
    rebuilt.put("tier:iron:1", np.array([0]), Change.ADD)  # left over from before: nobody is saved as iron
    rebuilt.put("seeds", np.array([0]), Change.ADD)
    delivery = Delivery(state)
    assert TierFeed(client, delivery, other_viewers, rebuilt).restore() == 39
    assert rebuilt.members.pop("seeds") == {0}
    assert rebuilt.viewers(other_viewers) == segments.viewers(viewers)
    delivery.close()


def test_targetings_own_segments_and_viewers(client: FanServiceClient) -> None:
    segments, viewers = SegmentStore(), ViewerTable()
    feed = TierFeed(client, Delivery(None), viewers, segments)
    client.push_events(events(*[(i, 2**64 - i, 7, FOLLOW, START_AT_MS) for i in range(1, 6)]))
    feed.tick()
    client.push_events(events((9, 2**64 - 3, 7, ORDER, START_AT_MS + 1)))
    feed.tick()
    assert segments.names == ["tier:potential:7", "stage:gained:7", "tier:high-value:7", "stage:activated:7"]
    members = {name: {2**64 - int(viewers.ids[row]) for row in segments.members(name)} for name in segments.names}
    assert members == {
        "tier:potential:7": {1, 2, 4, 5},
        "stage:gained:7": {1, 2, 4, 5},
        "tier:high-value:7": {3},
        "stage:activated:7": {3},
    }
    (row,) = viewers.rows_of(np.array([2**64 - 3], np.uint64))
    _, listed = segments.memberships().of_rows(np.array([row]))
    assert {segments.names[idx - 64] for idx in listed} == {"tier:high-value:7", "stage:activated:7"}
    feed.restore()
    assert {name: len(segments.members(name)) for name in segments.names} == {
        name: len(inside) for name, inside in members.items()
    }


def test_segments_that_could_not_be_written_are_rewritten(client: FanServiceClient) -> None:
    class Failing(Segments):
        failures = 1

        def put(self, name: str, rows: np.ndarray, change: int) -> None:
            if name.startswith("stage") and self.failures:
                self.failures -= 1
                raise OSError("no room")
            super().put(name, rows, change)

    segments, viewers = Failing(), Viewers()
    feed = TierFeed(client, Delivery(None), viewers, segments)
    client.push_events(events((1, 11, 7, FOLLOW, START_AT_MS)))
    with pytest.raises(OSError, match="no room"):
        feed.tick()
    feed.tick()
    assert segments.viewers(viewers) == {"tier:potential:7": {11}, "stage:gained:7": {11}}


class Scripted:
    """A service by the contract's letter that answers pulls from lists of pages."""

    def __init__(self, pages: list[Rows], refused_cursor: str = "-") -> None:
        self.pages = pages
        self.refused_cursor = refused_cursor

    def _page(self, cursor: str, limit: int) -> Page:
        if cursor == self.refused_cursor:
            raise FanServiceRefused("no such cursor")
        at = int(cursor or 0)
        if at >= len(self.pages):
            return Page(self.pages[0][:0], cursor)
        return Page(self.pages[at][:limit], str(at + 1))

    pull_tiers = pull_events = pull_retention = _page

    def push_outcomes(self, outcomes: Rows, audiences: Sequence[str] = ()) -> np.ndarray:
        raise FanServiceRefused("not served")


changes = st.lists(
    st.tuples(st.integers(1, 4), st.integers(1, 2), st.integers(0, 5), st.integers(0, 6), st.just(0)),
    min_size=1,
    max_size=8,
)


@settings(max_examples=60, deadline=None)
@given(st.lists(changes, min_size=1, max_size=5), st.integers(0, 4))
def test_each_fan_is_in_the_segments_of_the_last_change_only(
    told: list[list[tuple[int, ...]]], restart_at: int
) -> None:
    """Against a plain dict; codes that this side does not know count as none."""
    service = Scripted([np.array(page, FAN_CHANGE) for page in told])
    delivery, viewers, segments = Delivery(None), Viewers(), Segments()
    feed = TierFeed(service, delivery, viewers, segments)
    expected: dict[tuple[int, int], tuple[int, int]] = {}
    for number, page in enumerate(told):
        if number == restart_at:
            viewers, segments = Viewers(), Segments()
            feed = TierFeed(service, delivery, viewers, segments)
        feed.tick(max_pages=1)
        expected |= {(v, c): (tier, stage) for v, c, tier, stage, _ in page}
    wanted: dict[str, set[int]] = {}
    for (viewer_id, creator_id), (tier, stage) in expected.items():
        if tier in TIER_NAMES:
            wanted.setdefault(tier_segment(Tier(tier), creator_id), set()).add(viewer_id)
        if stage in STAGE_NAMES:
            wanted.setdefault(stage_segment(Stage(stage), creator_id), set()).add(viewer_id)
    assert segments.viewers(viewers) == wanted


def test_latest_changes_keeps_order_and_the_last_word() -> None:
    rows = np.array([(1, 7, 1, 1, 10), (2, 7, 1, 1, 11), (1, 7, 2, 9, 12)], FAN_CHANGE)
    assert latest_changes(rows).tolist() == [(2, 7, 1, 1, 11), (1, 7, 2, 0, 12)]
    assert len(latest_changes(rows[:0])) == 0


def test_events_become_facts_and_follows(client: FanServiceClient) -> None:
    log, follows = RowLog(), Follows()
    delivery = Delivery(None)
    feed = EventFeed(client, delivery, log.append, follows, limit=2)
    told = events(
        (1, 11, 7, FOLLOW, START_AT_MS),
        (2, 12, 7, FOLLOW, START_AT_MS + 1),
        (3, 11, 7, LIKE, START_AT_MS + 2),
        (4, 12, 7, UNFOLLOW, START_AT_MS + 3),
        (5, 12, 8, FOLLOW, START_AT_MS + 4),
    )
    client.push_events(told)
    feed.tick(now_ms=99)
    assert feed.appended == 5
    expected = facts_of(told, 99)
    expected["sequence"] = np.arange(1, 6)
    assert log.rows.tobytes() == expected.tobytes()
    assert not log.rows["has_token"].any()
    assert follows.pairs == {(11, 7), (12, 8)}
    feed.tick(now_ms=100)
    assert len(log.rows) == feed.appended == 5


def test_events_without_sense_are_passed_over() -> None:
    page = events((1, 11, 7, LIKE, 5), (2, 0, 7, LIKE, 5), (3, 11, 7, 99, 5), (3, 11, 0, LIKE, 5), (4, 11, 7, LIKE, 0))
    log = RowLog()
    service = Scripted([page, page[1:]])
    feed = EventFeed(service, Delivery(None), log.append, limit=5)
    feed.tick(1)
    assert feed.appended == 1
    assert log.rows["viewer_id"].tolist() == [11]


class Crash(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("stored", [False, True])
def test_a_crash_around_the_append_neither_loses_nor_repeats_events(tmp_path: Path, stored: bool) -> None:
    """The process ends before or after the ledger took the page; a restart takes what is missing, once."""
    ledger = Ledger(tmp_path / "ledger.sqlite")
    told = events(*[(i, 11, 7, LIKE, 5 + i) for i in range(1, 7)])
    delivery = Delivery(None)

    def crash(rows: Rows) -> int:
        if stored:
            ledger.append(rows)
        raise Crash

    with pytest.raises(Crash):
        EventFeed(Scripted([told]), delivery, crash).tick(50)
    feed = EventFeed(Scripted([told]), delivery, ledger.append)
    for now_ms in (60, 70):
        feed.tick(now_ms)
    assert feed.appended == 6
    kept = ledger.read(0, 100)
    assert kept["occurred_at_ms"].tolist() == told["occurred_at_ms"].tolist()
    assert kept["recorded_at_ms"].tolist() == [50 if stored else 60] * 6
    ledger.close()


def test_a_cursor_that_the_service_no_longer_takes_starts_over(caplog: pytest.LogCaptureFixture) -> None:
    page = np.array([(11, 7, 1, 1, 5)], FAN_CHANGE)
    segments, viewers = Segments(), Viewers()
    service = Scripted([page])
    delivery = Delivery(None)
    feed = TierFeed(service, delivery, viewers, segments)
    feed.tick()
    assert feed.applied == 1
    service.refused_cursor = "1"
    feed.tick()
    assert feed.applied == 2
    assert "start over" in caplog.text
    service.refused_cursor = ""
    delivery.save_cursor("tiers", "")
    with pytest.raises(FanServiceRefused):
        feed.tick()


def test_retention_reaches_the_callback_and_the_counts(client: FanServiceClient) -> None:
    told: list[tuple[int, ...]] = []
    delivery = Delivery(None)
    feed = RetentionFeed(client, delivery, lambda rows: told.extend(rows.tolist()), limit=2)
    client.push_events(
        events(
            (1, 11, 7, FOLLOW, START_AT_MS),
            (2, 12, 7, FOLLOW, START_AT_MS),
            (3, 12, 7, UNFOLLOW, START_AT_MS + 3 * MS_PER_DAY),
            (4, 11, 7, LIKE, START_AT_MS + 8 * MS_PER_DAY),
        )
    )
    feed.tick()
    assert feed.judged == 4
    day, week = START_AT_MS + MS_PER_DAY, START_AT_MS + 7 * MS_PER_DAY
    assert sorted(told) == [(11, 7, 1, 1, day), (11, 7, 7, 1, week), (12, 7, 1, 1, day), (12, 7, 7, 0, week)]
    assert feed.kept_counts(7) == {1: (2, 2), 7: (2, 1), 30: (0, 0)}
    assert feed.kept_counts(8) == {1: (0, 0), 7: (0, 0), 30: (0, 0)}
    feed.tick()
    assert feed.judged == 4


def test_a_callback_that_fails_gets_the_same_rows_again(client: FanServiceClient) -> None:
    calls: list[int] = []

    def fail_once(rows: Rows) -> None:
        calls.append(len(rows))
        if len(calls) == 1:
            raise OSError("no room")

    feed = RetentionFeed(client, Delivery(None), fail_once)
    client.push_events(events((1, 11, 7, FOLLOW, START_AT_MS), (2, 12, 7, LIKE, START_AT_MS + MS_PER_DAY)))
    with pytest.raises(OSError, match="no room"):
        feed.tick()
    feed.tick()
    assert calls == [1, 1]


def test_recent_judgements_are_handed_on_again_after_a_restart() -> None:
    delivery = Delivery(None)
    now_ms = 100 * MS_PER_DAY
    days_ago = ((2**64 - 1, 1, 1, 0), (5, 30, 0, 30), (6, 1, 0, 32))
    judged = [(viewer, 7, days, kept, now_ms - ago * MS_PER_DAY) for viewer, days, kept, ago in days_ago]
    delivery.save_retention(np.array(judged, RETENTION), "3")
    heard: list[tuple[int, ...]] = []
    RetentionFeed(Scripted([]), delivery, lambda rows: heard.extend(rows.tolist())).restore()
    assert heard == [judged[1], judged[0]]
    delivery.close()


def test_tiers_are_handed_on_as_they_are_pulled_and_who_is_high_again_after_a_restart(client: FanServiceClient) -> None:
    heard: list[tuple[int, ...]] = []
    delivery = Delivery(None)

    def feed() -> TierFeed:
        return TierFeed(client, delivery, Viewers(), Segments(), on_tiers=lambda rows: heard.extend(rows.tolist()))

    told = [
        (1, 11, 7, FOLLOW),
        (2, 11, 7, ORDER),
        (3, 12, 7, FOLLOW),
        (4, 13, 2**64 - 1, FOLLOW),
        (5, 13, 2**64 - 1, ORDER),
    ]
    client.push_events(events(*((*event, START_AT_MS + event[0]) for event in told)))
    feed().tick()
    assert {(row[0], row[2]) for row in heard} >= {(11, Tier.HIGH_VALUE), (12, Tier.POTENTIAL), (13, Tier.HIGH_VALUE)}
    client.push_events(events((6, 13, 2**64 - 1, FOLLOW, START_AT_MS + 6), (7, 12, 7, LIKE, START_AT_MS + 7)))
    feed().tick()
    heard.clear()
    feed().tell_again()
    assert [row[:3] for row in heard] == [(11, 7, Tier.HIGH_VALUE), (13, 2**64 - 1, Tier.HIGH_VALUE)]
    assert all(row[4] <= START_AT_MS + 5 for row in heard), "since then, whatever else changed"
    client.push_events(events((8, 11, 7, UNFOLLOW, START_AT_MS + 8)))
    feed().tick()
    heard.clear()
    feed().tell_again()
    assert [row[0] for row in heard] == [13]
    delivery.close()


def test_only_recent_rises_are_handed_on_again() -> None:
    delivery, now_ms = Delivery(None), 100 * MS_PER_DAY
    days_ago = ((1, 0), (2, 30), (3, 32))
    rows = np.array([(viewer, 7, Tier.IRON, 0, now_ms - ago * MS_PER_DAY) for viewer, ago in days_ago], FAN_CHANGE)
    delivery.swap_fans(rows, "1")
    assert delivery.latest_risen()["viewer_id"].tolist() == [2, 1]
    delivery.close()


def _hear(rows: list[tuple[int, ...]], page: Rows) -> None:
    rows.extend(page.tolist())


def test_a_file_from_before_rises_were_kept_pulls_tiers_once_more(client: FanServiceClient, tmp_path: Path) -> None:
    state, heard = tmp_path / "delivery.sqlite", []
    client.push_events(events((1, 11, 7, FOLLOW, START_AT_MS), (2, 11, 7, ORDER, START_AT_MS)))
    for made_before in (True, False, False):
        rows: list[tuple[int, ...]] = []
        delivery = Delivery(state)
        TierFeed(
            client, delivery, Viewers(), Segments(), on_tiers=lambda page, to=rows: to.extend(page.tolist())
        ).tick()
        delivery.close()
        heard.append(rows)
        if made_before:
            with sqlite3.connect(state) as db:
                db.execute("DROP TABLE risen")
    assert heard[0] == heard[1] != [] and heard[2] == []


class DyingConnection(sqlite3.Connection):
    """Does `left` statements; then its process is dead: nothing is done any more, not even undone."""

    left = 0

    def _die(self) -> None:
        type(self).left -= 1
        if type(self).left < 0:
            raise sqlite3.OperationalError("killed")

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        self._die()
        return super().execute(*arguments)

    def executemany(self, *arguments: Any) -> sqlite3.Cursor:
        self._die()
        return super().executemany(*arguments)

    def executescript(self, *arguments: Any) -> sqlite3.Cursor:
        self._die()
        return super().executescript(*arguments)


def test_a_crash_anywhere_in_bringing_a_file_up_to_date_leaves_tiers_pulled_once(
    client: FanServiceClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening a file from before rises were kept and pulling all again, killed after one statement more each time."""
    client.push_events(events((1, 11, 7, FOLLOW, START_AT_MS), (2, 11, 7, ORDER, START_AT_MS)))
    before = tmp_path / "before.sqlite"
    TierFeed(client, Delivery(before), Viewers(), Segments()).tick()
    with sqlite3.connect(before) as db:
        db.execute("DROP TABLE risen")
    db.close()
    connect, is_done, statements = sqlite3.connect, False, 0
    while not is_done:
        state = tmp_path / f"{statements}.sqlite"
        shutil.copy(before, state)
        with monkeypatch.context() as patched:
            DyingConnection.left = statements
            patched.setattr(sqlite3, "connect", lambda path, **named: connect(path, factory=DyingConnection, **named))
            try:
                is_done = bool(_pulled(client, state))
            except (sqlite3.OperationalError, ValueError):
                is_done = False
        pulled = _pulled(client, state)
        delivery = Delivery(state)
        assert delivery.latest_risen()["viewer_id"].tolist() == [11], f"killed after {statements} statements"
        delivery.close()
        assert pulled == [] or len(pulled) == len({tuple(row) for row in pulled})
        assert _pulled(client, state) == [], "never again"
        statements += 1
    assert statements > 20 and pulled == []


def _pulled(client: FanServiceClient, state: Path) -> list[tuple[int, ...]]:
    """What a process that opens this file hears of tiers at its first tick."""
    rows: list[tuple[int, ...]] = []
    delivery = Delivery(state)
    try:
        TierFeed(client, delivery, Viewers(), Segments(), on_tiers=lambda page: rows.extend(page.tolist())).tick()
    finally:
        delivery.close()
    return rows
