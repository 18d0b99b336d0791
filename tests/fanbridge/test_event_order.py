"""What a file, or a batch, of events comes to does not depend on the order of its lines."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanbridge.events import FAN_EVENT, Rows, Stage
from fanbridge.service import event_file
from fanbridge.service.event_file import EventFile
from fanbridge.service.fans import FanRules
from fanbridge.service.health.reader import HealthReader
from fanbridge.service.store import FanStore
from pacing.clocks import MS_PER_DAY
from pacing.facts import OutcomeKind

FIRST_DAY = 20_000
NOW_MS = (FIRST_DAY + 90) * MS_PER_DAY
HEADER = ",".join(FAN_EVENT.names or ())
TABLES = ("fans", "facts", "transitions", "tier_steps", "kind_days", "creator_days")
KINDS = (OutcomeKind.FOLLOW, OutcomeKind.UNFOLLOW, OutcomeKind.PLAY, OutcomeKind.LIKE, OutcomeKind.ORDER)

event_rows = st.lists(
    st.tuples(
        st.integers(1, 30),  # few ids, so that some name two different events
        st.integers(1, 3),
        st.integers(7, 8),
        st.sampled_from(KINDS).map(int),
        st.integers(0, 80).map(lambda day: (FIRST_DAY + day) * MS_PER_DAY),  # few instants, so that some share one
    ),
    max_size=30,
)


def take(store: FanStore, folder: Path, rows: list[tuple[int, ...]], now_ms: int = NOW_MS) -> None:
    file = EventFile(folder, True, now_ms)
    file.feed("\n".join([HEADER, *(",".join(map(str, row)) for row in rows)]).encode())

    def push(events: Rows) -> list[int]:
        statuses: list[int] = store.push_events(events, now_ms).tolist()
        return statuses

    file.take(push)


def state_of(store: FanStore) -> dict[str, list[tuple[int, ...]]]:
    """All that is told of fans; the place in the change log goes by the order in which they were written."""
    state = {name: sorted(store._db.execute(f"SELECT * FROM {name}").fetchall()) for name in TABLES}
    retention = "SELECT viewer_id, creator_id, days, kept, judged_at_ms FROM retention"
    return state | {"retention": sorted(store._db.execute(retention).fetchall())}


@given(event_rows, st.randoms(use_true_random=False), st.sampled_from([2, 5_000]))
@settings(max_examples=60, deadline=None)
def test_any_order_of_a_files_lines_gives_the_same_state(rows, random, chunk_rows: int) -> None:
    states = []
    for order in (rows, rows[::-1], random.sample(rows, len(rows))):
        store = FanStore(None, FanRules.with_day())
        with TemporaryDirectory() as name, patch.object(event_file, "_CHUNK_ROWS", chunk_rows):
            take(store, Path(name), order)
            assert list(Path(name).iterdir()) == []
        states.append(state_of(store))
        store.close()
    assert states[0] == states[1] == states[2]


@given(event_rows, st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_any_order_of_a_batch_gives_the_same_state(rows, random) -> None:
    rows = [(place, *row[1:]) for place, row in enumerate(rows, 1)]  # of two with one id, the first one counts
    states = []
    for order in (rows, random.sample(rows, len(rows))):
        store = FanStore(None, FanRules.with_day())
        store.push_events(np.array(order, FAN_EVENT), NOW_MS)
        states.append(state_of(store))
        store.close()
    assert states[0] == states[1]


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("chunk_rows", [7, 5_000])
def test_fans_who_play_daily_are_active_daily(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, newest_first: bool, chunk_rows: int
) -> None:
    monkeypatch.setattr(event_file, "_CHUNK_ROWS", chunk_rows)
    now_ms = (FIRST_DAY + 50) * MS_PER_DAY
    told = [(viewer, int(OutcomeKind.FOLLOW), 0) for viewer in range(1, 51)]
    told += [(viewer, int(OutcomeKind.PLAY), day) for viewer in range(1, 51) for day in range(11, 50)]
    rows = [
        (i + 1, viewer, 7, kind, (FIRST_DAY + day) * MS_PER_DAY + viewer) for i, (viewer, kind, day) in enumerate(told)
    ]
    rows.sort(key=lambda row: row[4], reverse=newest_first)
    path = tmp_path / "fans.db"
    store = FanStore(path, FanRules.with_day())
    take(store, tmp_path, rows, now_ms)
    reader = HealthReader(path)
    assert reader.active_fan_days(7, FIRST_DAY + 20, FIRST_DAY + 50) == 1_500
    steps = store._db.execute("SELECT DISTINCT from_stage, to_stage FROM transitions").fetchall()
    assert steps == [(Stage.UNSPECIFIED, Stage.GAINED)]
    reader.close()
    store.close()


@given(event_rows, st.integers(0, 30))
@settings(max_examples=60, deadline=None)
def test_what_comes_late_ends_in_the_same_tiers_stages_and_follows(rows, cut: int) -> None:
    rows = [(place, *row[1:]) for place, row in enumerate(rows, 1)]
    told = []
    for parts in ([rows], [rows[cut:], rows[:cut]]):
        store = FanStore(None, FanRules.with_day())
        for part in parts:
            store.push_events(np.array(part, FAN_EVENT), NOW_MS)
        fans = [store.fan(viewer, creator) for viewer in (1, 2, 3) for creator in (7, 8)]
        told.append([(fan.tier, fan.stage, fan.dates) for fan in fans if fan is not None])
        store.close()
    assert told[0] == told[1]
