"""What the servers of one Redis judged, at each of them: exchanged in the background, read and listed together."""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection
from pathlib import Path

import numpy as np

from auction.shared.judged_redis import JudgedConsumer, JudgedPublisher, list_origins, told_positions
from auction.shared.judged_relay import JudgedRelay
from pacing.budget.owner_redis import Owner, holds_deployment, owners
from pacing.clocks import Clock
from pacing.ledger.arrivals import Arrivals
from pacing.ledger.copies import Copies
from pacing.ledger.errors import LedgerError
from pacing.ledger.listed import ARRIVALS_FILE, PEERS_FOLDER, ListedCharges
from pacing.ledger.merged import Batch, read_merged
from pacing.ledger.owners import OWN, Positions, qualified
from pacing.ledger.reading import JudgedReads
from pacing.ledger.statement import StatementPage
from pacing.outage import Outage
from pacing.redis_link import RedisForeign, RedisLink, RedisUnavailable

logger = logging.getLogger(__name__)

_IDLE_S = 0.2
_AWAY_S = 1.0
_ORIGINS_PERIOD_MS = 2_000


class PeerRows:
    """The judged rows of every other owner, and the charges of all.

    A thread of its own talks to Redis, so nobody else waits for it. While Redis is away, what was copied is there.
    """

    def __init__(self, link: RedisLink, owner: Owner, ledger: JudgedReads, folder: Path, clock: Clock) -> None:
        """Open the copies in `folder`/peers.

        Raises:
            LedgerError: they cannot be written.
        """
        self._link = link
        self._owner = owner
        self._ledger = ledger
        self._clock = clock
        self._copies = Copies(folder / PEERS_FOLDER, owner.owner_id)
        self.arrivals = Arrivals(folder / PEERS_FOLDER / ARRIVALS_FILE)
        self._listed = ListedCharges(owner.owner_id, ledger, self._copies.of, self.arrivals)
        self._publisher = JudgedPublisher(ledger, link, owner.owner_id, clock.monotonic_ms)
        self._consumer = JudgedConsumer(self._copies, link, owner.owner_id)
        self._relay = JudgedRelay(self._copies, link, owner.owner_id, clock.monotonic_ms)
        self._origins_at_ms: int | None = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._outage = Outage()

    def step(self) -> int:
        """Tell and take a few thousand rows; answers how many.

        Raises:
            RedisUnavailable: some of it may have been done.
            LedgerError: a copy could not be written, or a ledger cannot be read.
        """
        self._find_origins()
        moved = self._publisher.step() + self._consumer.step(self._copies.origins())
        return moved + self._relay.step(self._publisher.present)

    def _find_origins(self) -> None:
        """Have a copy for every owner that joined or of whom anybody has rows, though it left; those of a Redis that
        lost its lists are known from before."""
        now_ms = self._clock.monotonic_ms()
        if self._origins_at_ms is not None and now_ms - self._origins_at_ms < _ORIGINS_PERIOD_MS:
            return
        if not holds_deployment(self._link, self._owner):
            raise RedisUnavailable(f"redis {self._link.address}: holds another deployment than {self._owner}")
        known = {self._owner.owner_id, *self._copies.origins()}
        for origin_id in sorted(owners(self._link).keys() | list_origins(self._link, known)):
            if origin_id != self._owner.owner_id:
                self._copies.of(origin_id)
        self._origins_at_ms = now_ms

    def read(self, after: Positions, limit: int) -> Batch:
        """The peers' next rows by time, up to `limit` of each (see `pacing.ledger.merged`)."""
        return read_merged(
            {origin_id: self._copies.of(origin_id) for origin_id in self._copies.origins()}, after, limit
        )

    def read_with_own(self, after: Positions, limit: int) -> Batch:
        """`read`, with the rows of this server's own ledger among them."""
        copies = {origin_id: self._copies.of(origin_id) for origin_id in self._copies.origins()}
        return read_merged({OWN: self._ledger, **copies}, after, limit)

    def origins(self) -> list[int]:
        """Owners of whom there is a copy."""
        return self._copies.origins()

    def judged_sequence(self, origin_id: int) -> int:
        """How far the copy of an owner's judged rows goes."""
        return self._copies.of(origin_id).judged_sequence

    def statement(self, campaign_id: int, after: int, limit: int, at_place: int) -> tuple[StatementPage, np.ndarray]:
        """A page of a campaign's charges at all servers (see `pacing.ledger.listed`)."""
        return self._listed.statement(campaign_id, after, limit, at_place)

    def only_here(self, others: Collection[int]) -> int | None:
        """The first row that none of these servers has said to have, as a qualified sequence; None: they have all.

        It is one of this server's own ledger, or of the copy of an owner that is none of `others`.

        Raises:
            RedisUnavailable: nobody answers.
            LedgerDamaged: a ledger cannot be read.
        """
        own_id = self._owner.owner_id
        alone = [own_id, *(origin_id for origin_id in self._copies.origins() if origin_id not in others)]
        for origin_id, told in told_positions(self._link, alone).items():
            held = max((position for consumer, position in told.items() if consumer in others), default=0)
            ledger: JudgedReads = self._ledger if origin_id == own_id else self._copies.of(origin_id)
            rows, _ = ledger.read_judged(held, 1)
            if len(rows):
                return int(rows["sequence"][0]) | qualified(origin_id, 0)
        return None

    def start(self) -> None:
        """Exchange rows in the background from now on."""
        self._thread = threading.Thread(target=self._loop, name="judged rows", daemon=True)
        self._thread.start()

    def _loop(self) -> None:
        while not self._stopping.is_set():
            try:
                moved = self.step()
                if self._outage.answered():
                    logger.info("judged rows: exchanged again")
                if not moved:
                    self._stopping.wait(_IDLE_S)
            except (RedisUnavailable, LedgerError) as error:
                if not isinstance(error, RedisForeign) and self._outage.failed(str(error)):
                    logger.warning("judged rows: %s; goes on with what is here, and catches up later", error)
                self._stopping.wait(_AWAY_S)
            except Exception:
                logger.exception("judged rows: tried again in %.0f s", _AWAY_S)
                self._stopping.wait(_AWAY_S)

    def close(self) -> None:
        """End the exchange, tell what is left where Redis can be reached, and close all files."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._tell_the_rest()
        self._copies.close()
        self.arrivals.close()

    def _tell_the_rest(self) -> None:
        try:
            while self._publisher.step():
                pass
        except (RedisUnavailable, LedgerError) as error:
            logger.info("judged rows: the last ones are told after the next start: %s", error)
