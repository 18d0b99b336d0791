"""Whether the Redis that a server joined still holds its deployment."""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path

from pacing.budget.owner_redis import ForeignFolder, Owner, guard_of, note_lost, stay_listed
from pacing.clocks import MS_PER_SECOND, Clock
from pacing.redis_link import RedisLink, RedisUnavailable

_LISTED_PERIOD_MS = MS_PER_SECOND

logger = logging.getLogger(__name__)


class DeploymentWatch:
    """Notices that Redis has lost the deployment, or is another one, and that it is back. One thread calls `tick`.

    From its making on, the link believes no other Redis, and sends nothing while it is known that there is one. So the
    server goes on as it does while Redis is away: with what is leased and acknowledged, and without anything new.
    """

    def __init__(self, link: RedisLink, owner: Owner, folder: Path, clock: Clock) -> None:
        self._link = link
        self._owner = owner
        self._folder = folder
        self._clock = clock
        self._told: str | None = None
        self._noted = ""
        self._unnoted = ""
        self._listed_at_ms = clock.monotonic_ms()
        link.guard(guard_of(owner))

    def tick(self) -> None:
        """Look; while Redis is away, nothing happens."""
        with suppress(RedisUnavailable):  # logged by whoever wanted something else of it
            foreign = self._link.look()
            if foreign is not None and foreign != self._told:
                logger.error("%s: %s. What is leased may still be spent", self._link.address, foreign)
            elif foreign is None and self._told is not None:
                logger.warning("%s: holds deployment %s again", self._link.address, self._owner.deployment_id)
            self._told = foreign
            if foreign is not None and self._link.lost_under != self._noted:
                self._note_lost(self._link.lost_under)
            now_ms = self._clock.monotonic_ms()
            if foreign is None and now_ms >= self._listed_at_ms:
                stay_listed(self._link, self._owner, self._folder)
                self._listed_at_ms = now_ms + _LISTED_PERIOD_MS

    def _note_lost(self, replication_id: str) -> None:
        try:
            note_lost(self._folder, replication_id)
            self._noted = replication_id
        except (OSError, ForeignFolder) as error:  # tried again at the next look
            if self._unnoted != replication_id:
                logger.error("cannot keep in %s that Redis lost what it held: %s", self._folder, error)
            self._unnoted = replication_id
