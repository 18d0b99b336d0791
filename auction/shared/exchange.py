"""The thread that exchanges campaigns, tokens and keys with the other servers."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping

from auction.campaigns.store import StoreUnavailable
from pacing.budget.store import StoreUnavailable as BudgetsAway
from pacing.outage import Outage
from pacing.redis_link import RedisForeign, RedisUnavailable

PERIOD_MS = 250
"""How long after a change reached Redis another server asks for it, at most; beside what asking takes."""

_log = logging.getLogger(__name__)


class Exchange:
    """Calls each of some tasks again and again, from a thread of its own, since any may wait for Redis.

    A task that fails is called again at the next turn. Each reason is told once, until it succeeds; that Redis is
    another one is told by the task that looks for that.
    """

    def __init__(self, tasks: Mapping[str, Callable[[], object]]) -> None:
        """Exchange by `tasks`, called in order; their names are for the log."""
        self._tasks = dict(tasks)
        self._outages = {name: Outage() for name in tasks}
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def tick(self) -> None:
        """One turn of all tasks."""
        for name, task in self._tasks.items():
            try:
                task()
            except Exception as error:
                if not isinstance(error, RedisForeign) and self._outages[name].failed(str(error)):
                    foreseen = isinstance(error, RedisUnavailable | StoreUnavailable | BudgetsAway)
                    reason = None if foreseen else error
                    _log.error("%s are not exchanged with the other servers now: %s", name, error, exc_info=reason)
            else:
                if self._outages[name].answered():
                    _log.info("%s are exchanged again", name)

    def start(self) -> None:
        """Begin."""
        self._thread = threading.Thread(target=self._loop, name="exchange", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End, after the task that is running."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def _loop(self) -> None:
        while not self._stopping.wait(PERIOD_MS / 1_000):
            self.tick()
