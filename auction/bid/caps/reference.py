"""What the frequency counters mean, as dictionaries without a bound. Used by tests only."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class ReferenceCaps:
    """Counts of impressions per (viewer, creator, day), and of undecided bids with the time when they lapse."""

    shown: dict[tuple[int, int, int], int] = field(default_factory=dict)
    offered: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict)

    def times_seen(self, viewer_id: int, creator_id: int, day: int, now_ms: int) -> int:
        """Impressions on `day` and undecided bids that have not lapsed."""
        count, until_ms = self.offered.get((viewer_id, creator_id), (0, 0))
        return self.shown.get((viewer_id, creator_id, day), 0) + (count if now_ms < until_ms else 0)

    def offer(self, viewer_id: int, creator_id: int, now_ms: int, until_ms: int) -> None:
        """One more undecided bid."""
        count, old_until_ms = self.offered.get((viewer_id, creator_id), (0, 0))
        if now_ms >= old_until_ms:
            count = 0
        self.offered[viewer_id, creator_id] = count + 1, max(old_until_ms, until_ms)

    def decide(self, viewer_id: int, creator_id: int, shown: bool, day: int, now_ms: int) -> None:
        """One undecided bid less; an impression more if `shown`."""
        count, until_ms = self.offered.get((viewer_id, creator_id), (0, 0))
        if now_ms >= until_ms:
            count = 0
        self.offered[viewer_id, creator_id] = max(count - 1, 0), until_ms
        if shown:
            key = viewer_id, creator_id, day
            self.shown[key] = self.shown.get(key, 0) + 1

    def extend(self, viewer_id: int, creator_id: int, now_ms: int, until_ms: int) -> None:
        """Undecided bids of the pair lapse later."""
        count, old_until_ms = self.offered.get((viewer_id, creator_id), (0, 0))
        if count and now_ms < old_until_ms:
            self.offered[viewer_id, creator_id] = count, max(old_until_ms, until_ms)
