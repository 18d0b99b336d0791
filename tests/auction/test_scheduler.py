"""Periodic tasks on virtual and on real time."""

from __future__ import annotations

import logging
import threading

import pytest

from auction.scheduler import Scheduler
from pacing.clocks import SystemClock, VirtualClock

START_MS = 1_000_000
WAIT_S = 20.0


def test_tasks_run_at_their_own_instants_in_order() -> None:
    clock = VirtualClock(START_MS)
    scheduler, ran = Scheduler(clock), []
    scheduler.every(300, lambda: ran.append(("slow", clock.wall_ms() - START_MS)), "slow")
    scheduler.every(100, lambda: ran.append(("fast", clock.wall_ms() - START_MS)), "fast")
    scheduler.advance_to(START_MS + 99)
    assert ran == [] and clock.wall_ms() == START_MS + 99
    scheduler.advance_to(START_MS + 650)
    assert clock.wall_ms() == START_MS + 650
    assert ran == [
        ("fast", 100),
        ("fast", 200),
        ("slow", 300),  # due at the same instant: in the order in which they were added
        ("fast", 300),
        ("fast", 400),
        ("fast", 500),
        ("slow", 600),
        ("fast", 600),
    ]


def test_however_virtual_time_is_cut_the_same_tasks_run() -> None:
    def run(stops: list[int]) -> list[tuple[str, int]]:
        clock = VirtualClock(START_MS)
        scheduler = Scheduler(clock)
        ran: list[tuple[str, int]] = []
        for name, period_ms in (("a", 70), ("b", 110), ("c", 70)):
            scheduler.every(period_ms, lambda name=name: ran.append((name, clock.wall_ms())), name)
        for stop in stops:
            scheduler.advance_to(START_MS + stop)
        return ran

    at_once = run([1_000])
    assert at_once == run(list(range(0, 1_001, 50))) == run([1, 69, 70, 70, 999, 1_000])
    assert len(at_once) == 14 + 9 + 14


def test_a_failure_on_virtual_time_reaches_the_caller() -> None:
    scheduler = Scheduler(VirtualClock(START_MS))

    def broken() -> None:
        raise RuntimeError("broken task")

    scheduler.every(10, broken, "broken")
    with pytest.raises(RuntimeError, match="broken task"):
        scheduler.advance_to(START_MS + 10)


def test_time_does_not_go_back_and_real_time_cannot_be_moved() -> None:
    scheduler = Scheduler(VirtualClock(START_MS))
    with pytest.raises(ValueError, match=f"to_ms {START_MS - 1}: before the clock's time {START_MS}"):
        scheduler.advance_to(START_MS - 1)
    with pytest.raises(ValueError, match="this server runs on real time"):
        Scheduler(SystemClock()).advance_to(2**60)


def test_on_real_time_a_failing_task_stops_no_other_and_runs_again(caplog: pytest.LogCaptureFixture) -> None:
    scheduler = Scheduler(SystemClock())
    failures, done = [], threading.Event()

    def failing() -> None:
        failures.append(1)
        raise RuntimeError("on purpose")

    runs = []

    def counting() -> None:
        runs.append(threading.current_thread().name)
        if len(runs) >= 5 and len(failures) >= 2:
            done.set()

    scheduler.every(5, failing, "failing")
    scheduler.every(5, counting, "counting")
    with caplog.at_level(logging.ERROR):
        scheduler.start()
        assert done.wait(WAIT_S)
        scheduler.stop()
    assert set(runs) == {"scheduler"}
    assert caplog.text.count("failing failed; it runs again in 5 ms") == 1 and "on purpose" in caplog.text
    finished = len(runs)
    threading.Event().wait(0.05)
    assert len(runs) == finished  # nothing runs behind `stop`


def test_stopping_waits_for_the_task_under_way() -> None:
    scheduler = Scheduler(SystemClock())
    begun, ended = threading.Event(), threading.Event()

    def slow() -> None:
        begun.set()
        threading.Event().wait(0.1)
        ended.set()

    scheduler.every(1, slow, "slow")
    scheduler.start()
    assert begun.wait(WAIT_S)
    scheduler.stop()
    assert ended.is_set()


def test_stopping_what_never_started_is_fine() -> None:
    Scheduler(SystemClock()).stop()
