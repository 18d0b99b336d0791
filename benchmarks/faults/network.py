"""The way between feed and server: reports are lost, repeated, delayed and overtaken, and answers get lost."""

from __future__ import annotations

import random
from collections.abc import Iterator

from benchmarks.faults.scenario import NetworkPlan


class Network:
    """Draws what becomes of each message."""

    def __init__(self, plan: NetworkPlan, rng: random.Random) -> None:
        self._plan = plan
        self._rng = rng

    @property
    def retry_ms(self) -> int:
        """How long a sender waits for an answer."""
        return self._plan.retry_ms

    def arrivals_ms(self) -> Iterator[int]:
        """After how long each copy of a message arrives: none, one or two."""
        rng, plan = self._rng, self._plan
        if rng.random() >= plan.drop_rate:
            yield self._delay_ms()
        if rng.random() < plan.duplicate_rate:
            yield self._delay_ms()

    def answer_ms(self) -> int | None:
        """After how long the answer arrives; None: never."""
        return None if self._rng.random() < self._plan.lost_answer_rate else self._delay_ms()

    def _delay_ms(self) -> int:
        is_slow = self._rng.random() < self._plan.slow_rate
        return 1 + int(self._rng.random() * (self._plan.slow_ms if is_slow else self._plan.delay_ms))
