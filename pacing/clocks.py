"""Where the time comes from: the system, or a virtual clock that a simulation moves.

Instants are wall-clock milliseconds since the Unix epoch and end in `_at_ms`. Deadlines of leases and holds are judged
on the monotonic clock, which counts the time that the machine was suspended.
"""

from __future__ import annotations

import threading
import time
from typing import Protocol

MS_PER_SECOND = 1_000
MS_PER_MINUTE = 60_000
MS_PER_HOUR = 3_600_000
MS_PER_DAY = 86_400_000


class Clock(Protocol):
    """What everything that needs the time is given."""

    def wall_ms(self) -> int:
        """Milliseconds since the Unix epoch; may step."""

    def monotonic_ms(self) -> int:
        """Milliseconds since some fixed instant; never goes back."""


class SystemClock:
    """The machine's clocks."""

    def wall_ms(self) -> int:
        """Milliseconds since the Unix epoch; may step."""
        return time.time_ns() // 1_000_000

    def monotonic_ms(self) -> int:
        """Milliseconds since boot, suspended time included."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


class VirtualClock:
    """A clock that stands still until `advance_to` moves it. Wall and monotonic time are the same."""

    def __init__(self, start_at_ms: int) -> None:
        self._now_ms = start_at_ms
        self._lock = threading.Lock()

    def wall_ms(self) -> int:
        """The virtual instant."""
        return self._now_ms

    def monotonic_ms(self) -> int:
        """The virtual instant."""
        return self._now_ms

    def advance_to(self, at_ms: int) -> None:
        """Move to `at_ms`.

        Raises:
            ValueError: `at_ms` lies before the present.
        """
        with self._lock:
            if at_ms < self._now_ms:
                raise ValueError(f"to_ms {at_ms}: before the clock's time {self._now_ms}")
            self._now_ms = at_ms
