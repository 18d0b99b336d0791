"""What is told of something that fails again and again: each reason once, and the end."""

from __future__ import annotations

import threading

from pacing.clocks import MS_PER_MINUTE

_REMEMBERED_MS = 2 * MS_PER_MINUTE
_MAX_REASONS = 100


class Outage:
    """Calls to another program that fail, all of them or some. Any thread may call any method.

    Where the other program is away, it is over with the first answer. Where it refuses some calls only (an account may
    not run some script), others are answered all the time; so it is over when each of those was answered, but for such
    as were not made again for two minutes.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_away = False
        self._refused_at_ms: dict[str, int] = {}
        self._told: set[str] = set()

    def failed(self, reason: str, refused_call: str = "", now_ms: int = 0) -> bool:
        """Note a failure; answers whether its reason is news in this outage.

        Args:
            reason: as it is to be told.
            refused_call: the call that was refused, if that says nothing about others.
            now_ms: on the monotonic clock.
        """
        with self._lock:
            self._is_away = not refused_call
            if refused_call:
                self._refused_at_ms[refused_call] = now_ms
            is_news = reason not in self._told and len(self._told) < _MAX_REASONS
            self._told.add(reason)
            return is_news

    def answered(self, call: str = "", now_ms: int = 0) -> bool:
        """Note a success; answers whether an outage is over by it."""
        if not self._told:
            return False
        with self._lock:
            self._is_away = False
            self._refused_at_ms.pop(call, None)
            for other, at_ms in list(self._refused_at_ms.items()):
                if now_ms - at_ms > _REMEMBERED_MS:
                    del self._refused_at_ms[other]
            if self._refused_at_ms or not self._told:
                return False
            self._told.clear()
            return True

    def stops(self, call: str) -> bool:
        """Whether this call failed when it was last made, or would fail now, as far as is known."""
        return self._is_away or call in self._refused_at_ms
