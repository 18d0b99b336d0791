"""Moments of a simulated Redis master: epochs, and how far its accounts have what owners charged."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from pacing.budget.store import Epoch


class At(NamedTuple):
    """When, on the master's clock, and on which master."""

    at_ms: int
    replication_id: int


@dataclass(slots=True)
class CreatorEpoch:
    """Under which replication id a creator's keys are, who told again in which epoch, until when nothing is granted."""

    replication_id: int = 0
    number: int = 0
    refuse_until_ms: int = 0
    since_ms: int = 0
    told_at_ms: int = 0
    owners: dict[int, int] = field(default_factory=dict)

    @property
    def is_told(self) -> bool:
        """Whether every owner has told again what it has."""
        return all(number >= self.number for number in self.owners.values())

    def standing(self, at_ms: int) -> Epoch:
        """As a store tells it."""
        behind = tuple(sorted(owner for owner, number in self.owners.items() if number < self.number))
        return Epoch(self.number, max(0, self.refuse_until_ms - at_ms), behind)


@dataclass(slots=True)
class OwnersRows:
    """Up to which row an account has what an owner charged; up to `late_row` once it has told again in `late_epoch`."""

    row: int = 0
    late_epoch: int = 0
    late_row: int = 0

    def told_to(self, told_again: int) -> int:
        """The row, by the epoch in which the owner told again last."""
        if self.late_row and told_again >= self.late_epoch:
            self.row, self.late_row = max(self.row, self.late_row), 0
        return self.row
