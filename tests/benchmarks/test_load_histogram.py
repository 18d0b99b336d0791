from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.histogram import LatencyHistogram, bucket_of, highest_of


@given(st.integers(0, 2**40))
def test_a_bucket_is_narrow_and_holds_its_latency(latency_us: int) -> None:
    bucket = bucket_of(latency_us)
    highest = highest_of(bucket)
    assert latency_us <= highest <= latency_us * (1 + 1 / 128) + 1
    assert bucket_of(highest) == bucket
    assert bucket_of(highest + 1) == bucket + 1


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=200), st.sampled_from([0, 50, 90, 99, 99.9, 100]))
def test_percentiles_are_those_of_the_sorted_list(latencies: list[int], percent: float) -> None:
    histogram = LatencyHistogram()
    for latency in latencies:
        histogram.record(latency)
    exact = sorted(latencies)[max(1, math.ceil(len(latencies) * percent / 100)) - 1]
    assert exact <= histogram.percentile_us(percent) <= exact * (1 + 1 / 128) + 1
    assert histogram.count == len(latencies)
    assert histogram.percentile_us(100) == max(latencies)


def test_an_empty_histogram_and_odd_values() -> None:
    histogram = LatencyHistogram()
    assert histogram.percentile_us(99) == 0
    histogram.record(-5)
    assert histogram.percentile_us(50) == 0
    histogram.record(2**60)
    assert histogram.percentile_us(100) < 2**60
    with pytest.raises(ValueError, match="percent 101"):
        histogram.percentile_us(101)
