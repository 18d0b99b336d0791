"""Clocks: the system's, and the one that a study moves."""

from __future__ import annotations

import time

import pytest

from pacing.clocks import SystemClock, VirtualClock


def test_system_clock_tells_the_systems_time() -> None:
    before_ms = time.time_ns() // 1_000_000
    now_ms = SystemClock().wall_ms()
    assert before_ms <= now_ms <= time.time_ns() // 1_000_000


def test_monotonic_time_never_goes_back() -> None:
    readings = [SystemClock().monotonic_ms() for _ in range(1_000)]
    assert readings == sorted(readings)


def test_virtual_clock_stands_still_until_it_is_moved() -> None:
    clock = VirtualClock(5_000)
    assert (clock.wall_ms(), clock.monotonic_ms()) == (5_000, 5_000)
    clock.advance_to(5_000)
    clock.advance_to(7_500)
    assert (clock.wall_ms(), clock.monotonic_ms()) == (7_500, 7_500)


def test_virtual_clock_refuses_to_go_back() -> None:
    clock = VirtualClock(5_000)
    with pytest.raises(ValueError, match=r"to_ms 4999: before the clock's time 5000"):
        clock.advance_to(4_999)
    assert clock.wall_ms() == 5_000
