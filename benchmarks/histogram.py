"""A histogram of latencies with bounded relative error, after HdrHistogram: linear within each power of two."""

from __future__ import annotations

import threading

import numpy as np

SUB_BITS = 7
_SUB = 1 << SUB_BITS
_POWERS = 40


class LatencyHistogram:
    """Counts of whole microseconds, each kept to within 1 part in 128. Any thread may call any method."""

    def __init__(self) -> None:
        self._counts = np.zeros(_SUB + _POWERS * _SUB, np.int64)
        self._lock = threading.Lock()
        self.count = 0
        self.max_us = 0

    def record(self, latency_us: int) -> None:
        """Count one latency; negative ones count as 0, those beyond two days as two days."""
        latency_us = min(max(0, latency_us), (1 << (SUB_BITS + _POWERS - 2)) - 1)
        with self._lock:
            self._counts[bucket_of(latency_us)] += 1
            self.count += 1
            self.max_us = max(self.max_us, latency_us)

    def percentile_us(self, percent: float) -> int:
        """The latency that `percent` of those recorded do not exceed: the upper end of its bucket; 0 without any.

        Raises:
            ValueError: `percent` is not in 0..100.
        """
        if not 0 <= percent <= 100:
            raise ValueError(f"percent {percent}: not in 0..100")
        with self._lock:
            if self.count == 0:
                return 0
            rank = max(1, int(np.ceil(self.count * percent / 100)))
            bucket = int(np.searchsorted(np.cumsum(self._counts), rank))
            return min(highest_of(bucket), self.max_us)


def bucket_of(latency_us: int) -> int:
    """Which bucket holds a latency of 0 or more."""
    shift = max(0, latency_us.bit_length() - SUB_BITS - 1)
    return shift * _SUB + (latency_us >> shift)


def highest_of(bucket: int) -> int:
    """The largest latency in a bucket."""
    if bucket < 2 * _SUB:
        return bucket
    shift = bucket // _SUB - 1
    return ((bucket - shift * _SUB + 1) << shift) - 1
