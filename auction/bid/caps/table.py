"""The frequency cap table of one server."""

from __future__ import annotations

import threading

import numpy as np

from auction.bid.caps import kernels
from auction.bid.caps.kernels import WAYS, CapTable
from pacing.days import local_day


class FrequencyCaps:
    """Bounded counters of (viewer, creator), provisional at the bid and firm at the impression.

    Scoring reads `table` without a lock; writers take one. A bid that is being scored while another bid of the same
    pair is counted may therefore exceed the cap by the number of requests in flight. Each server counts for itself:
    with several servers, route a viewer to one of them, or accept a cap of (cap x servers).
    """

    def __init__(self, capacity: int, zone: str, win_notice_ms: int, billing_ms: int) -> None:
        """Make a table for about `capacity` pairs; `zone` says when a day starts.

        Raises:
            ValueError: `capacity` is not in 8 .. 2**26.
        """
        if not WAYS <= capacity <= 2**26:
            raise ValueError(f"frequency table capacity {capacity}: not in {WAYS}..{2**26}")
        sets = 1 << max(0, (capacity // WAYS - 1).bit_length())
        shape = (sets, WAYS)
        self.table = CapTable(
            np.zeros(shape, np.uint64),
            np.zeros(shape, np.int32),
            np.zeros(shape, np.int32),
            np.zeros(shape, np.int32),
            np.zeros(shape, np.int64),
            np.zeros(shape, np.int64),
        )
        self._zone = zone
        self._win_notice_ms = win_notice_ms
        self._billing_ms = billing_ms
        self._lock = threading.Lock()

    def day(self, now_ms: int) -> int:
        """The day that caps count in at `now_ms`."""
        return local_day(now_ms, self._zone).day_key

    def offered(self, viewer_ids: np.ndarray, creator_ids: np.ndarray, now_ms: int) -> None:
        """Count bids (u8[n], u8[n]) that were just sent."""
        with self._lock:
            kernels.count_offers(
                self.table, viewer_ids, creator_ids, self.day(now_ms), now_ms, now_ms + self._win_notice_ms
            )

    def won(self, viewer_ids: np.ndarray, creator_ids: np.ndarray, now_ms: int) -> None:
        """Keep the count of bids that won: their impressions may follow."""
        with self._lock:
            kernels.extend_offers(self.table, viewer_ids, creator_ids, now_ms, now_ms + self._billing_ms)

    def decided(self, viewer_ids: np.ndarray, creator_ids: np.ndarray, shown: np.ndarray, now_ms: int) -> None:
        """Count bids that became an impression (`shown`, b1[n]) or were lost."""
        with self._lock:
            kernels.count_decided(self.table, viewer_ids, creator_ids, shown, self.day(now_ms), now_ms)
