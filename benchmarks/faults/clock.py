"""The clock of a simulated world: monotonic time that only advances, and a wall clock that steps beside it."""

from __future__ import annotations

FIRST_MONOTONIC_MS = 1_000_000


class SteppingClock:
    """A `pacing.clocks.Clock` whose wall clock can be set wrong. Moved by the one thread that simulates."""

    def __init__(self, start_at_ms: int) -> None:
        self._now_ms = FIRST_MONOTONIC_MS
        self._offset_ms = start_at_ms - FIRST_MONOTONIC_MS
        self._highest_at_ms = start_at_ms

    def wall_ms(self) -> int:
        """Milliseconds since the Unix epoch, as this machine believes."""
        return self._now_ms + self._offset_ms

    def monotonic_ms(self) -> int:
        """Milliseconds since some fixed instant."""
        return self._now_ms

    def advance_to(self, now_ms: int) -> None:
        """Let time pass until the monotonic clock shows `now_ms`; the past is passed over."""
        self._now_ms = max(self._now_ms, now_ms)
        self._highest_at_ms = max(self._highest_at_ms, self.wall_ms())

    def step(self, ms: int) -> None:
        """Set the wall clock forward, or with a negative number back."""
        self._offset_ms += ms
        self._highest_at_ms = max(self._highest_at_ms, self.wall_ms())

    @property
    def lag_ms(self) -> int:
        """How far the wall clock is behind the latest instant that it ever showed."""
        return self._highest_at_ms - self.wall_ms()
