"""Resident memory, and by how much it grew in the first half of some work and in the second."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Memory:
    """Resident bytes before, after a first half, and after a second half that is the same work again.

    What is kept for ever by design (caches, pools, interned names) is made in the first half; a leak goes on.
    """

    before: int
    half: int
    after: int

    @property
    def growth(self) -> int:
        """How much was added."""
        return self.after - self.before

    @property
    def late_growth(self) -> int:
        """How much was added in the second half."""
        return self.after - self.half


def resident_bytes(pid: int, with_children: bool = True) -> int:
    """Resident memory of a process, and of its children."""
    total = 0
    for each in (pid, *(_children(pid) if with_children else ())):
        fields = Path(f"/proc/{each}/statm").read_text(encoding="ascii").split()
        total += int(fields[1]) * os.sysconf("SC_PAGE_SIZE")
    return total


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]
