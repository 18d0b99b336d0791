"""How often the bearer of one token may call: a token bucket for each, kept as one instant.

The generic cell rate algorithm (ITU-T I.371, Annex A): a bucket is full again at an instant; every call moves that
instant on by the time that one call takes to refill, and a call is refused while the bucket would be more than empty.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

MAX_IDLE_BUCKETS = 4_096
"""Beyond, buckets that are full are forgotten; a new one is full too, so nothing is lost."""


class RateLimited(Exception):
    """The bearer called too often.

    Attributes:
        retry_after_s: when the next call would be taken.
    """

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class RateLimits:
    """Buckets by id of a token that is known to be good. Any thread may call."""

    def __init__(self, per_s: int, burst: int, clock_s: Callable[[], float] = time.monotonic) -> None:
        """Let each id call `per_s` times a second on average, and `burst` times at once; 0 per second: any number."""
        self._per_s = per_s
        self._interval_s = 1 / per_s if per_s else 0.0
        self._depth_s = (max(burst, 1) - 1) * self._interval_s
        self._clock_s = clock_s
        self._lock = threading.Lock()
        self._full_at_s: dict[int, float] = {}
        self._prune_at = MAX_IDLE_BUCKETS

    def __len__(self) -> int:
        """How many buckets are kept."""
        return len(self._full_at_s)

    def take(self, token_id: int) -> None:
        """Count one call.

        Raises:
            RateLimited: it is one too many; it is not counted.
        """
        if not self._per_s:
            return
        now_s = self._clock_s()
        with self._lock:
            full_at_s = self._full_at_s.get(token_id, now_s)
            wait_s = full_at_s - now_s - self._depth_s
            if wait_s <= 0:
                self._full_at_s[token_id] = max(full_at_s, now_s) + self._interval_s
                if len(self._full_at_s) > self._prune_at:
                    self._prune(now_s)
                return
        raise RateLimited(f"token {token_id}: more than {self._per_s} calls a second; try again later", wait_s)

    def _prune(self, now_s: float) -> None:
        self._full_at_s = {token_id: at_s for token_id, at_s in self._full_at_s.items() if at_s > now_s}
        self._prune_at = max(MAX_IDLE_BUCKETS, 2 * len(self._full_at_s))
