"""Budget days: the local calendar days of a campaign's time zone.

A local day may have 22 to 26 hours (daylight saving, zone changes), and some zones have days that start at 01:00
because midnight does not exist. A day therefore is an interval of instants, never a count of milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pacing.clocks import MS_PER_HOUR


@dataclass(frozen=True, slots=True)
class LocalDay:
    """One budget day, [start_at_ms, end_at_ms).

    Attributes:
        day_key: the date as a number, 20260301 for 1 March 2026; grows with time within one zone.
    """

    day_key: int
    start_at_ms: int
    end_at_ms: int

    @property
    def length_ms(self) -> int:
        """How long the day lasts."""
        return self.end_at_ms - self.start_at_ms


@lru_cache(maxsize=1024)
def zone_of(name: str) -> ZoneInfo:
    """The time zone called `name` in the IANA database.

    Raises:
        ValueError: there is no such zone.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"zone {name!r}: not a time zone of the IANA database, such as 'Asia/Shanghai'") from None


def _first_instant_ms(day: date, zone: ZoneInfo) -> int:
    """First instant whose local date is `day`: midnight, or the end of the gap that swallows it.

    With `fold=0` an instant inside a gap is read with the offset before the gap, which lands as far after the gap's end
    as midnight lies inside it; the gap's end is where the date changes, so search there.
    """
    guess = datetime.combine(day, time.min, tzinfo=zone)
    at = guess.astimezone(UTC)
    if at.astimezone(zone).date() >= day and at.astimezone(zone).time() == time.min:
        return round(at.timestamp() * 1000)
    low, high = at - timedelta(hours=26), at + timedelta(hours=26)  # low is before the day, high inside or after it
    while high - low > timedelta(milliseconds=1):
        middle = low + (high - low) / 2
        if middle.astimezone(zone).date() >= day:
            high = middle
        else:
            low = middle
    return round(high.timestamp() * 1000)


@lru_cache(maxsize=8192)
def day_of_key(day_key: int, zone_name: str) -> LocalDay:
    """The budget day with this key in this zone.

    Raises:
        ValueError: unknown zone, or `day_key` is no date.
    """
    zone = zone_of(zone_name)
    day = date(day_key // 10_000, day_key // 100 % 100, day_key % 100)
    start = _first_instant_ms(day, zone)
    return LocalDay(day_key, start, _first_instant_ms(day + timedelta(days=1), zone))


def local_day(at_ms: int, zone_name: str) -> LocalDay:
    """The budget day that holds the instant `at_ms` in this zone.

    Raises:
        ValueError: unknown zone.
    """
    local = datetime.fromtimestamp(at_ms / 1000, tz=zone_of(zone_name)).date()
    return day_of_key(local.year * 10_000 + local.month * 100 + local.day, zone_name)


def local_hour(at_ms: int, zone: str) -> int:
    """Hours since the local day began, 0..23: what forecasts, prices and features call the hour."""
    return min(23, (at_ms - local_day(at_ms, zone).start_at_ms) // MS_PER_HOUR)
