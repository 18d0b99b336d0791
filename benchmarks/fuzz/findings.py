"""What became of inputs, by target: how many were taken, how many refused, and which found something."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterable
from dataclasses import dataclass, field

MAX_KEPT = 5
_SHOWN_BYTES = 16_384


@dataclass
class Findings:
    """One target's record.

    Attributes:
        taken, refused: inputs that were answered, and that were refused as they should be.
        failures: inputs that did what none may, with what they did; the first MAX_KEPT of `failed`.
    """

    target: str
    taken: int = 0
    refused: int = 0
    failed: int = 0
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)
    _began_s: float = field(default_factory=time.perf_counter)

    @property
    def inputs(self) -> int:
        """How many inputs there were."""
        return self.taken + self.refused + self.failed

    def fail(self, raw: bytes, what: str | Exception) -> None:
        """Keep an input that found something."""
        self.failed += 1
        if len(self.failures) < MAX_KEPT:
            text = "".join(traceback.format_exception(what)) if isinstance(what, Exception) else what
            self.failures.append(f"{self.target}={raw[:_SHOWN_BYTES].hex()}\n{text}")

    def end(self) -> None:
        """Stop the watch."""
        self.seconds = time.perf_counter() - self._began_s


def together(parts: Iterable[Findings]) -> list[Findings]:
    """One record per target, in the order in which targets first come; seconds are added up."""
    sums: dict[str, Findings] = {}
    for part in parts:
        total = sums.setdefault(part.target, Findings(part.target))
        total.taken += part.taken
        total.refused += part.refused
        total.failed += part.failed
        total.seconds += part.seconds
        total.failures = [*total.failures, *part.failures][:MAX_KEPT]
    return list(sums.values())
