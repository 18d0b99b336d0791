"""Rate limits per token: what the plain bucket allows is allowed, by anybody else's calls undisturbed."""

from __future__ import annotations

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auction.campaigns.access import Role
from auction.campaigns.limits import MAX_IDLE_BUCKETS, RateLimited, RateLimits
from auction.status import refusal_of
from protos import audience_pb2
from tests.auction.bid.engines import Engine


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


def takes(limits: RateLimits, token_id: int) -> bool:
    try:
        limits.take(token_id)
    except RateLimited as limited:
        assert limited.retry_after_s > 0
        return False
    return True


@given(
    st.sampled_from([1, 2, 4, 64]),
    st.integers(1, 6),
    st.lists(st.tuples(st.integers(1, 3), st.integers(0, 256)), max_size=60),
)
def test_it_is_a_token_bucket(per_s: int, burst: int, calls: list[tuple[int, int]]) -> None:
    # Instants are multiples of 1/256 s, so that both sides compute with exact numbers.
    clock = Clock()
    limits = RateLimits(per_s, burst, clock)
    buckets: dict[int, tuple[float, float]] = {}
    for token_id, step in calls:
        clock.now_s += step / 256
        level, at_s = buckets.get(token_id, (float(burst), clock.now_s))
        level = min(burst, level + (clock.now_s - at_s) * per_s)
        expected = level >= 1
        buckets[token_id] = (level - expected, clock.now_s)
        assert takes(limits, token_id) == expected


def test_retry_after_is_when_the_next_call_is_taken() -> None:
    clock = Clock()
    limits = RateLimits(4, 1, clock)
    limits.take(1)
    with pytest.raises(RateLimited, match="token 1: more than 4 calls a second") as limited:
        limits.take(1)
    clock.now_s += limited.value.retry_after_s
    limits.take(1)


def test_memory_is_bounded_by_who_calls_now() -> None:
    clock = Clock()
    limits = RateLimits(1, 5, clock)
    for token_id in range(3 * MAX_IDLE_BUCKETS):
        limits.take(token_id)
        clock.now_s += 0.01
        assert len(limits) <= MAX_IDLE_BUCKETS + 1


def test_zero_is_no_limit() -> None:
    limits = RateLimits(0, 1)
    for _ in range(1_000):
        limits.take(1)
    assert len(limits) == 0


def test_a_caller_is_told_when_to_come_back() -> None:
    refused = refusal_of(RateLimited("token 1: too often", 1.2))
    assert refused.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert dict(refused.trailers) == {"retry-after": "2", "grpc-retry-pushback-ms": "1200"}


def test_the_engine_counts_each_token_apart() -> None:
    engine = Engine(calls_per_s=1, call_burst=1)
    with pytest.raises(RateLimited):
        for viewer_id in range(1, 100):  # the first ones may take long, until all is compiled
            engine.bid([viewer_id])
    message = audience_pb2.EstimateReachRequest(targeting={"interests": {"codes": [3]}})
    engine.call("Audience/EstimateReach", message, audience_pb2.EstimateReachResponse, Role.CREATOR, 7)
    engine.close()
