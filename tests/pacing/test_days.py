"""Budget days: intervals that tile time, whatever the zone does."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacing.clocks import MS_PER_DAY, MS_PER_HOUR
from pacing.days import day_of_key, local_day, zone_of

ZONES = [
    "UTC",
    "Asia/Shanghai",
    "America/New_York",
    "America/Sao_Paulo",  # midnight did not exist on some days
    "America/Havana",
    "Africa/Cairo",
    "Asia/Beirut",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",  # half an hour of daylight saving
    "Pacific/Apia",  # skipped a whole day
    "Antarctica/Troll",  # two hours of daylight saving
]
instants = st.integers(946_684_800_000, 2_208_988_800_000)  # the years 2000 to 2039


def local(at_ms: int, zone_name: str) -> datetime:
    return datetime.fromtimestamp(at_ms // 1000, UTC).astimezone(ZoneInfo(zone_name))


@given(instants, st.sampled_from(ZONES))
def test_a_day_holds_its_instant_and_exactly_its_date(at_ms: int, zone_name: str) -> None:
    day = local_day(at_ms, zone_name)
    assert day.start_at_ms <= at_ms < day.end_at_ms
    here = local(at_ms, zone_name)
    assert day.day_key == here.year * 10_000 + here.month * 100 + here.day
    assert local(day.start_at_ms, zone_name).date() == here.date()
    assert local(day.start_at_ms - 1000, zone_name).date() < here.date()
    assert local(day.end_at_ms, zone_name).date() > here.date()


@given(instants, st.sampled_from(ZONES))
def test_days_follow_each_other_without_gap_or_overlap(at_ms: int, zone_name: str) -> None:
    day = local_day(at_ms, zone_name)
    after, before = local_day(day.end_at_ms, zone_name), local_day(day.start_at_ms - 1, zone_name)
    assert after.start_at_ms == day.end_at_ms
    assert before.end_at_ms == day.start_at_ms
    assert before.day_key < day.day_key < after.day_key


@given(instants, st.sampled_from(ZONES))
def test_a_key_names_its_day(at_ms: int, zone_name: str) -> None:
    day = local_day(at_ms, zone_name)
    assert day_of_key(day.day_key, zone_name) == day


@pytest.mark.parametrize(
    ("day_key", "zone_name", "hours"),
    [
        (20260301, "Asia/Shanghai", 24),
        (20260308, "America/New_York", 23),
        (20261101, "America/New_York", 25),
        (20181104, "America/Sao_Paulo", 23),  # starts at 01:00
        (20260329, "Antarctica/Troll", 22),
        (20261025, "Antarctica/Troll", 26),
    ],
)
def test_days_of_22_to_26_hours(day_key: int, zone_name: str, hours: int) -> None:
    assert day_of_key(day_key, zone_name).length_ms == hours * MS_PER_HOUR


def test_a_day_without_midnight_starts_when_its_date_does() -> None:
    start = local(day_of_key(20181104, "America/Sao_Paulo").start_at_ms, "America/Sao_Paulo")
    assert (start.day, start.hour, start.minute) == (4, 1, 0)


def test_shanghai_days_are_24_hours_all_year() -> None:
    starts = [local_day(1_767_225_600_000 + n * MS_PER_DAY, "Asia/Shanghai").start_at_ms for n in range(365)]
    assert {later - earlier for earlier, later in pairwise(starts)} == {MS_PER_DAY}


@pytest.mark.parametrize("name", ["", "Mars/Olympus", "../etc/passwd", "Asia", "UTC+8", "a" * 300])
def test_an_unknown_zone_is_refused_by_name(name: str) -> None:
    with pytest.raises(ValueError, match="zone") as refused:
        zone_of(name)
    assert repr(name) in str(refused.value)


@pytest.mark.parametrize("day_key", [0, 20260230, 20261301, -1])
def test_a_key_that_is_no_date_is_refused(day_key: int) -> None:
    with pytest.raises(ValueError):
        day_of_key(day_key, "UTC")
