"""What the heap means: a sorted list. Used by tests only."""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass, field


@dataclass
class ReferenceHeap:
    """Entries in order of (due instant, item)."""

    entries: list[tuple[int, int]] = field(default_factory=list)

    def push(self, due_ms: int, item: int) -> None:
        """Add one."""
        insort(self.entries, (due_ms, item))

    def pop_due(self, now_ms: int, most: int) -> list[tuple[int, int]]:
        """Take at most so many that are due."""
        due = [entry for entry in self.entries if entry[0] <= now_ms][:most]
        del self.entries[: len(due)]
        return due
