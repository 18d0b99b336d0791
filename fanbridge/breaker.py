"""When to call a service that may be away: full-jitter exponential backoff, and a circuit breaker over it.

Source: Brooker, "Exponential Backoff and Jitter" (AWS Architecture Blog, 2015), full jitter:
wait = uniform(0, min(cap, base * 2^failures)).
"""

from __future__ import annotations

import logging
import random
from dataclasses import dataclass
from enum import Enum

_log = logging.getLogger(__name__)


class LinkState(Enum):
    """What the breaker thinks of the service."""

    UP = "up"
    SHAKY = "shaky"  # the last call failed; it is tried again after a short wait
    DOWN = "down"  # several calls in a row failed; one small call now and then finds out whether it is back


@dataclass(frozen=True)
class BackoffSettings:
    """Waits between failed calls, and how many failures in a row make a service count as down."""

    base_ms: int = 200
    cap_ms: int = 30_000
    down_after: int = 5

    def __post_init__(self) -> None:
        if not 1 <= self.base_ms <= self.cap_ms:
            raise ValueError(f"base_ms {self.base_ms}: must lie between 1 and cap_ms {self.cap_ms}")
        if self.down_after < 1:
            raise ValueError(f"down_after {self.down_after}: must be 1 or more")


def backoff_ms(failures: int, settings: BackoffSettings, draw: float) -> int:
    """How long to wait after `failures` failures in a row; `draw` is uniform on [0, 1)."""
    ceiling_ms = min(settings.cap_ms, settings.base_ms << min(failures, 32))
    return int(draw * ceiling_ms)


class CircuitBreaker:
    """Decides at each instant whether the service may be called. One thread at a time.

    Each change between working and down is logged once, however long it lasts.
    """

    def __init__(self, name: str, settings: BackoffSettings | None = None, seed: int = 0) -> None:
        self._name = name
        self._settings = settings or BackoffSettings()
        self._random = random.Random(seed)
        self._failures = 0
        self._retry_at_ms = 0
        self._last_failure = ""
        self._told_down = False

    @property
    def state(self) -> LinkState:
        """What the last calls showed."""
        if self._failures == 0:
            return LinkState.UP
        return LinkState.SHAKY if self._failures < self._settings.down_after else LinkState.DOWN

    @property
    def failures(self) -> int:
        """Failed calls since the last that succeeded."""
        return self._failures

    @property
    def last_failure(self) -> str:
        """What the last failed call said; empty before the first."""
        return self._last_failure

    def allows(self, now_ms: int) -> bool:
        """Whether a call may be made now."""
        return self._failures == 0 or now_ms >= self._retry_at_ms

    def succeeded(self) -> None:
        """The service answered."""
        if self._told_down:
            _log.info("%s answers again", self._name)
        self._failures = 0
        self._told_down = False

    def failed(self, now_ms: int, why: str) -> None:
        """The service did not answer, or not with sense; no call is allowed until the wait is over."""
        self._last_failure = why
        self._retry_at_ms = now_ms + backoff_ms(self._failures, self._settings, self._random.random())
        self._failures += 1
        if self.state is LinkState.DOWN and not self._told_down:
            self._told_down = True
            _log.warning("%s is away (%s); bidding goes on, outcomes wait in the ledger", self._name, why)
