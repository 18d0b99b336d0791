"""Periodic tasks: from a thread on real time, or in lockstep when a virtual clock is advanced."""

from __future__ import annotations

import heapq
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from pacing.clocks import Clock, VirtualClock

logger = logging.getLogger(__name__)


@dataclass(order=True, slots=True)
class _Due:
    at_ms: int
    order: int
    period_ms: int = field(compare=False)
    task: Callable[[], object] = field(compare=False)
    name: str = field(compare=False)


class Scheduler:
    """Runs each task once per period, tasks due at the same instant in the order in which they were added.

    A task that raises is logged and runs again next time: no failure of one stops the others. On a `VirtualClock`
    nothing runs until `advance_to`, which runs everything that falls due at its own instant, so a seed reproduces a
    run; there an exception is raised to the caller, since a study must not go on with a broken task.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._due: list[_Due] = []
        self._failing: dict[int, tuple[str, int]] = {}
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def every(self, period_ms: int, task: Callable[[], object], name: str) -> None:
        """Add a task. Call before `start`."""
        heapq.heappush(self._due, _Due(self._clock.monotonic_ms() + period_ms, len(self._due), period_ms, task, name))

    def advance_to(self, at_ms: int) -> None:
        """Move the virtual clock, running what falls due on the way.

        Raises:
            ValueError: the clock is not virtual, or `at_ms` lies before the present.
        """
        clock = self._clock
        if not isinstance(clock, VirtualClock):
            raise ValueError("advance: this server runs on real time")
        if at_ms < clock.wall_ms():
            raise ValueError(f"to_ms {at_ms}: before the clock's time {clock.wall_ms()}")
        while self._due and self._due[0].at_ms <= at_ms:
            due = self._due[0]
            clock.advance_to(max(due.at_ms, clock.wall_ms()))
            due.task()
            heapq.heapreplace(self._due, _Due(due.at_ms + due.period_ms, due.order, due.period_ms, due.task, due.name))
        clock.advance_to(at_ms)

    def start(self) -> None:
        """Run the tasks from a thread, on real time."""
        self._thread = threading.Thread(target=self._loop, name="scheduler", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread, after the task that is running."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self, due: _Due) -> None:
        """Run a task; one that fails for the same reason again and again is logged once, and when it works again."""
        try:
            due.task()
        except Exception as error:
            before, count = self._failing.get(due.order, ("", 0))
            if before != repr(error):
                logger.exception("task %s failed; it runs again in %d ms", due.name, due.period_ms)
            self._failing[due.order] = (repr(error), count + 1)
        else:
            _, count = self._failing.pop(due.order, ("", 0))
            if count > 1:
                logger.warning("task %s works again; it had failed %d times", due.name, count)

    def _loop(self) -> None:
        while not self._stopping.is_set():
            wait_ms = self._due[0].at_ms - self._clock.monotonic_ms() if self._due else 1_000
            if wait_ms > 0:
                self._stopping.wait(wait_ms / 1_000)
                continue
            due = self._due[0]
            self._run(due)
            # Counted from now, so that a slow task delays itself and does not pile up.
            next_at_ms = self._clock.monotonic_ms() + due.period_ms
            heapq.heapreplace(self._due, _Due(next_at_ms, due.order, due.period_ms, due.task, due.name))
