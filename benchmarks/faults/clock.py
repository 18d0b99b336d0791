"""The clocks of a simulated world: one true time that only advances, and a wall clock a machine, which steps."""

from __future__ import annotations

FIRST_MONOTONIC_MS = 1_000_000


class Timeline:
    """True time, moved by the one thread that simulates.

    Attributes:
        now_ms: monotonic.
    """

    __slots__ = ("now_ms",)

    def __init__(self) -> None:
        self.now_ms = FIRST_MONOTONIC_MS

    def advance_to(self, now_ms: int) -> None:
        """Let time pass until `now_ms`; the past is passed over."""
        self.now_ms = max(self.now_ms, now_ms)


class SteppingClock:
    """A `pacing.clocks.Clock` whose wall clock can be set wrong."""

    def __init__(self, start_at_ms: int, timeline: Timeline | None = None) -> None:
        """`start_at_ms` is what the wall clock shows when true time begins."""
        self._timeline = timeline or Timeline()
        self._offset_ms = start_at_ms - FIRST_MONOTONIC_MS
        self._highest_at_ms = 0

    def wall_ms(self) -> int:
        """Milliseconds since the Unix epoch, as this machine believes."""
        return self._timeline.now_ms + self._offset_ms

    def monotonic_ms(self) -> int:
        """Milliseconds since some fixed instant."""
        return self._timeline.now_ms

    def advance_to(self, now_ms: int) -> None:
        """Let time pass until the monotonic clock shows `now_ms`; the past is passed over."""
        self._timeline.advance_to(now_ms)

    def step(self, ms: int) -> None:
        """Set the wall clock forward, or with a negative number back."""
        self._highest_at_ms = max(self._highest_at_ms, self.wall_ms())
        self._offset_ms += ms

    @property
    def lag_ms(self) -> int:
        """How far the wall clock is behind the latest instant that it ever showed."""
        return max(0, self._highest_at_ms - self.wall_ms())
