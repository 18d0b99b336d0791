"""Why a shared store grants nothing for a while after it may have lost what it granted, as a server sees it."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import NamedTuple

from pacing.budget.store import Epoch
from pacing.clocks import MS_PER_SECOND, Clock

_AGAIN_MS = 15 * MS_PER_SECOND
"""How often it is asked whether the owners that grants wait for have told what they have."""
_LATE_MS = 100
FAILOVER = "Redis was restarted, another master took over, or an account was lost"

logger = logging.getLogger(__name__)


class NoGrants(NamedTuple):
    """Why no new money is granted.

    Attributes:
        reason: "foreign": Redis is not the one that it should be; "away": it does not answer, or refuses; "failover":
            it may have lost grants; "owners": it waits for owners that have not told again what they settled.
        until_ms: on the wall clock; 0: not known.
    """

    reason: str
    until_ms: int = 0


class Quarantine:
    """Keeps in mind whose grants are refused, and logs when that begins and when it is over. For one thread; any may
    read `state`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._refused: dict[int, Epoch] = {}
        self._again_at_ms = 0
        self.state: NoGrants | None = None

    def due(self) -> list[int]:
        """Creators in whose epochs something may have changed by now."""
        return list(self._refused) if self._clock.monotonic_ms() >= self._again_at_ms else []

    def note(self, epochs: Mapping[int, Epoch]) -> None:
        """Take in the present epochs of some creators."""
        for creator_id, epoch in epochs.items():
            if epoch.refused_ms or epoch.owners_behind:
                self._refused[creator_id] = epoch
            else:
                self._refused.pop(creator_id, None)
        if not epochs:
            return
        before, refused_ms = self.state, max((epochs[c].refused_ms for c in epochs), default=0)
        self._again_at_ms = self._clock.monotonic_ms() + (refused_ms + _LATE_MS if refused_ms else _AGAIN_MS)
        if not self._refused:
            self.state = None
            if before is not None:
                logger.warning("granting again")
        elif refused_ms:
            until_ms = self._clock.wall_ms() + refused_ms
            self.state = NoGrants("failover", until_ms)
            if before is not None and abs(before.until_ms - until_ms) < MS_PER_SECOND:
                return
            logger.warning("no grants until %s (creators: %d): %s", clock_time(until_ms), len(self._refused), FAILOVER)
        else:
            self.state = NoGrants("owners")
            if before is None or before.reason != "owners":
                behind = sorted({owner_id for epoch in self._refused.values() for owner_id in epoch.owners_behind})
                waits = "no grants (creators: %d) until owners %s have told what they settled; see `fanbid owners list`"
                logger.warning(waits, len(self._refused), behind)


def clock_time(at_ms: int) -> str:
    """An instant as HH:MM:SS of this machine's zone, as log lines have it."""
    return time.strftime("%H:%M:%S", time.localtime(at_ms / MS_PER_SECOND))
