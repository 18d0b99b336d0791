"""Backoff and circuit breaker."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanbridge.breaker import BackoffSettings, CircuitBreaker, LinkState, backoff_ms

SETTINGS = BackoffSettings(base_ms=100, cap_ms=5_000, down_after=3)


@given(st.integers(0, 10_000), st.floats(0, 1, exclude_max=True))
def test_waits_are_within_the_doubling_ceiling(failures: int, draw: float) -> None:
    ceiling_ms = min(5_000, 100 * 2 ** min(failures, 20))
    assert 0 <= backoff_ms(failures, SETTINGS, draw) < ceiling_ms


def test_waits_spread_over_the_whole_ceiling() -> None:
    assert [backoff_ms(2, SETTINGS, draw) for draw in (0.0, 0.25, 0.5)] == [0, 100, 200]


def test_states_and_waits() -> None:
    breaker = CircuitBreaker("service", SETTINGS, seed=1)
    assert breaker.state is LinkState.UP
    now_ms = 1_000_000
    states = []
    for _ in range(4):
        assert breaker.allows(now_ms)
        breaker.failed(now_ms, "gone")
        states.append(breaker.state)
        now_ms += 5_000
    assert states == [LinkState.SHAKY, LinkState.SHAKY, LinkState.DOWN, LinkState.DOWN]
    assert breaker.last_failure == "gone"
    breaker.succeeded()
    assert (breaker.state, breaker.failures) == (LinkState.UP, 0)
    assert breaker.allows(0)


def test_no_call_is_allowed_during_a_wait() -> None:
    breaker = CircuitBreaker("service", BackoffSettings(base_ms=1_000_000, cap_ms=1_000_000), seed=3)
    breaker.failed(0, "gone")
    allowed = [now_ms for now_ms in range(0, 1_000_000, 1_000) if breaker.allows(now_ms)]
    assert 0 < len(allowed) < 1_000
    assert allowed[0] > 0
    assert allowed == list(range(allowed[0], 1_000_000, 1_000))


def test_the_same_seed_waits_the_same() -> None:
    def waits(seed: int) -> list[bool]:
        breaker = CircuitBreaker("service", SETTINGS, seed)
        allowed = []
        for now_ms in range(0, 60_000, 100):
            allowed.append(breaker.allows(now_ms))
            if allowed[-1]:
                breaker.failed(now_ms, "gone")
        return allowed

    assert waits(1) == waits(1)
    assert waits(1) != waits(2)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"base_ms": 0}, "base_ms 0"),
        ({"base_ms": 10, "cap_ms": 9}, "cap_ms 9"),
        ({"down_after": 0}, "down_after 0"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, int], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        BackoffSettings(**settings)
