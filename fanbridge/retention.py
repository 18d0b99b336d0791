"""Retention in: which gained fans were still there after 1, 7 and 30 days."""

from __future__ import annotations

from collections.abc import Callable

from fanbridge.delivery import Delivery
from fanbridge.events import FanServicePort, Rows
from fanbridge.feed import checked_limit, pull_pages

OnRetention = Callable[[Rows], object]
"""Called with RETENTION[n], oldest first. After a restart rows come again, with the same (viewer, creator, days)."""


class RetentionFeed:
    """Pulls retention judgements, hands them on and keeps them. One thread ticks."""

    def __init__(
        self, service: FanServicePort, delivery: Delivery, on_retention: OnRetention | None = None, limit: int = 5_000
    ) -> None:
        self._service = service
        self._delivery = delivery
        self._on_retention = on_retention
        self._limit = checked_limit(limit)
        self._judged = 0

    @property
    def judged(self) -> int:
        """How many judgements were handed on since construction."""
        return self._judged

    def restore(self) -> None:
        """Hand on what was judged lately once more: who hears of it may have forgotten it in a crash."""
        rows = self._delivery.latest_retention()
        if self._on_retention is not None and len(rows):
            self._on_retention(rows)

    def tick(self, max_pages: int = 4) -> None:
        """Pull what was judged, within bounds.

        Raises:
            FanServiceUnavailable, FanServiceRefused: what was pulled before is handed on and saved.
        """
        for page in pull_pages(self._service.pull_retention, self._delivery, "retention", self._limit, max_pages):
            if self._on_retention is not None:
                self._on_retention(page.rows)
            self._delivery.save_retention(page.rows, page.next_cursor)
            self._judged += len(page.rows)

    def kept_counts(self, creator_id: int) -> dict[int, tuple[int, int]]:
        """For 1, 7 and 30 days: how many gained fans of this creator were judged, and how many of them were kept."""
        return self._delivery.kept_counts(creator_id)
