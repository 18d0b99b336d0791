"""What became of inputs, by target: how many were taken, how many refused, and which found something."""

from __future__ import annotations

import time
import traceback
from dataclasses import dataclass, field

MAX_KEPT = 5
_SHOWN_BYTES = 512


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
            self.failures.append(f"{self.target}: {raw[:_SHOWN_BYTES].hex()}\n{text}")

    def end(self) -> None:
        """Stop the watch."""
        self.seconds = time.perf_counter() - self._began_s
