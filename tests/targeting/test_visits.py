"""Visits against a list of what was told: days, dates, what a restart takes up, what is forgotten when full."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

import targeting.visits as module
from targeting.segments.store import SegmentStore
from targeting.viewers import ViewerTable
from targeting.visits import KEPT_DAYS, MS_PER_DAY, Visit, Visits

DAY_0 = 20_000
CREATORS = (101, 102)
tellings = st.lists(
    st.tuples(
        st.sampled_from(Visit),
        st.integers(1, 4),
        st.sampled_from(CREATORS),
        st.integers(-KEPT_DAYS - 3, 2),  # the day of the visit, from when it is told
        st.integers(0, 12),  # days that pass before the next is told
    ),
    max_size=12,
)


def fresh() -> tuple[Visits, SegmentStore, ViewerTable]:
    viewers, segments = ViewerTable(), SegmentStore()
    visits = Visits(viewers, segments)
    return visits, segments, viewers


def tell(visits: Visits, visit: Visit, viewer: int, creator: int, at_day: int, now_day: int) -> None:
    ids = np.array([viewer], np.uint64)
    creators, at_ms = np.array([creator], np.uint64), np.array([at_day * MS_PER_DAY + 5])
    visits.put(visit, ids, creators, at_ms, now_day * MS_PER_DAY + 7)


def ids_of(viewers: ViewerTable, rows: np.ndarray) -> set[int]:
    return set(viewers.ids[np.asarray(rows, np.int64)].tolist())


@limits(max_examples=150, deadline=None)
@given(tellings, st.integers(0, 12), st.integers(0, 40), st.booleans())
def test_a_visit_counts_for_its_day_and_thirty_more(
    told: list[tuple], watched_after: int, later_days: int, takes_up: bool
) -> None:
    visits, segments, viewers = fresh()
    now, last_day = DAY_0, {}
    for place, (visit, viewer, creator, ago, pause) in enumerate(told):
        if place == watched_after:
            visits.watch(101)
        tell(visits, visit, viewer, creator, now + ago, now)
        if ago >= -KEPT_DAYS:
            key = (visit, creator, viewer)
            last_day[key] = max(last_day.get(key, 0), min(now + ago, now))
        now += pause
    visits.watch(101)
    now += later_days
    segments.expire(now * MS_PER_DAY)

    def expected(visit: Visit, creator: int) -> set[int]:
        return {v for (k, c, v), day in last_day.items() if (k, c) == (visit, creator) and day + KEPT_DAYS >= now}

    restored, other_segments, other_viewers = fresh()
    restored.restore(visits.state())
    restored.watch(101)
    if takes_up:
        restored.take_up()
    other_segments.expire(now * MS_PER_DAY)
    for each, store, table in ((visits, segments, viewers), (restored, other_segments, other_viewers)):
        for creator in CREATORS:
            for visit in Visit:
                members = each.members(creator, visit, now * MS_PER_DAY)
                assert ids_of(table, members.to_array()) == expected(visit, creator)
        assert ids_of(table, store.rows("viewers:101")) == expected(Visit.PLAYED, 101)
        assert ids_of(table, store.rows("live:101")) == expected(Visit.LIVE, 101)
        assert not len(store.rows("viewers:102")) and len(store.expiry_dates("live:101")) <= KEPT_DAYS + 1


def test_what_is_full_forgets_who_was_reached_before_any_audience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_VISITS", 4)
    visits, _, _ = fresh()
    for viewer, (visit, at) in enumerate(
        [(Visit.PLAYED, -9), (Visit.REACHED, -2), (Visit.REACHED, -1), (Visit.LIVE, 0), (Visit.REACHED, 0)], 1
    ):
        tell(visits, visit, viewer, 101, DAY_0 + at, DAY_0)

    def sizes() -> list[int]:
        return [len(visits.members(101, visit, DAY_0 * MS_PER_DAY)) for visit in Visit]

    assert sizes() == [1, 1, 2] and visits.size == 4
    for viewer in (6, 7, 8):
        tell(visits, Visit.PLAYED, viewer, 101, DAY_0, DAY_0)
    assert sizes() == [4, 1, 0] or sizes() == [3, 1, 0], sizes()
    assert visits.size <= 4 and visits.knows(101) and not visits.knows(102)
    restored, _, _ = fresh()
    tell(restored, Visit.REACHED, 9, 101, DAY_0, DAY_0)
    restored.restore(visits.state())
    for viewer in (10, 11, 12):
        tell(restored, Visit.PLAYED, viewer, 101, DAY_0, DAY_0)
    assert restored.size <= 4 and not len(restored.members(101, Visit.REACHED, DAY_0 * MS_PER_DAY))


def test_whoever_was_reached_before_a_restart_counts_beside_whom_was_reached_since() -> None:
    visits, _, _ = fresh()
    for viewer, days_ago in ((1, 20), (2, 2), (3, 0)):
        tell(visits, Visit.REACHED, viewer, 101, DAY_0 - days_ago, DAY_0)
    state, now = visits.state(), DAY_0 + 15
    restored, _, viewers = fresh()
    restored.restore(state)
    assert not viewers.size, "whom nobody asks for waits"
    tell(restored, Visit.REACHED, 3, 101, now, now)
    tell(restored, Visit.REACHED, 4, 101, now, now)
    assert ids_of(viewers, restored.members(101, Visit.REACHED, now * MS_PER_DAY).to_array()) == {2, 3, 4}
    assert restored.size == 4, "one for each day: 3 was reached on two"


@pytest.mark.parametrize("broken", [{"counts": np.array([2])}, {"days": np.zeros(0, np.int64)}])
def test_a_state_whose_arrays_do_not_fit_is_refused(broken: dict[str, np.ndarray]) -> None:
    visits, _, _ = fresh()
    tell(visits, Visit.REACHED, 1, 101, DAY_0, DAY_0)
    with pytest.raises(ValueError, match="visits"):
        fresh()[0].restore({**visits.state(), **broken})
