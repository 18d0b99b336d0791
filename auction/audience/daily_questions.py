"""How many different questions somebody may ask in a day: what bounds what can be learned from many answers."""

from __future__ import annotations

import threading
from collections.abc import Hashable

from auction.campaigns.limits import RateLimited
from pacing.clocks import MS_PER_DAY, Clock


class DailyQuestions:
    """Counts different questions by who asks, anew each UTC day; the same one again is free. Any thread may call."""

    def __init__(self, clock: Clock, most: int, what: str) -> None:
        """Allow `most` questions a day, called `what` to those who ask more."""
        self._clock = clock
        self._most = most
        self._what = what
        self._lock = threading.Lock()
        self._day = -1
        self._asked: dict[Hashable, set[bytes]] = {}

    def count(self, asker: Hashable, question: bytes) -> None:
        """Note a question.

        Raises:
            RateLimited: it is one more than may be asked today; it is not counted.
        """
        now_ms = self._clock.wall_ms()
        with self._lock:
            if now_ms // MS_PER_DAY != self._day:
                self._day, self._asked = now_ms // MS_PER_DAY, {}
            asked = self._asked.setdefault(asker, set())
            if question not in asked and len(asked) >= self._most:
                wait_s = (MS_PER_DAY - now_ms % MS_PER_DAY) / 1_000
                raise RateLimited(
                    f"{len(asked)} {self._what} were asked today; at most {self._most} a day (UTC), the same one again "
                    f"counts once",
                    wait_s,
                )
            asked.add(question)
