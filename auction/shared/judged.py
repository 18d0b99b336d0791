"""What the servers of one Redis judged, at each of them: exchanged in the background, read and listed together."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import numpy as np

from auction.shared.judged_redis import JudgedConsumer, JudgedPublisher
from pacing.budget.owner_redis import Owner, holds_deployment, owners
from pacing.clocks import Clock
from pacing.facts import OUTCOME
from pacing.ledger.arrivals import Arrivals
from pacing.ledger.copies import Copies
from pacing.ledger.errors import LedgerError
from pacing.ledger.merged import Batch, read_merged
from pacing.ledger.owners import OWN, SEQUENCE_MASK, Positions, owners_of, qualified
from pacing.ledger.reading import JudgedReads
from pacing.ledger.statement import StatementPage, explained, statement_page
from pacing.outage import Outage
from pacing.redis_link import RedisForeign, RedisLink, RedisUnavailable

logger = logging.getLogger(__name__)

PEERS_FOLDER = "peers"
_ARRIVALS_FILE = "charges.sqlite"
_IDLE_S = 0.2
_AWAY_S = 1.0
_ORIGINS_PERIOD_MS = 2_000
_LIST_BITS = 16
"""Places in a list of charges end with the id of the owner whose list it is: no other server takes one for its own."""


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
        self.arrivals = Arrivals(folder / PEERS_FOLDER / _ARRIVALS_FILE)
        self._publisher = JudgedPublisher(ledger, link, owner.owner_id, clock.monotonic_ms)
        self._consumer = JudgedConsumer(self._copies, link, owner.owner_id)
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
        return self._publisher.step() + self._consumer.step(self._copies.origins())

    def _find_origins(self) -> None:
        """Have a copy for every owner that joined; those of a Redis that lost its list are known from before."""
        now_ms = self._clock.monotonic_ms()
        if self._origins_at_ms is not None and now_ms - self._origins_at_ms < _ORIGINS_PERIOD_MS:
            return
        if not holds_deployment(self._link, self._owner):
            raise RedisUnavailable(f"redis {self._link.address}: holds another deployment than {self._owner}")
        for origin_id in owners(self._link):
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
        """A page of a campaign's charges at all servers, in the order in which they came to be known at this one.

        Args:
            after: `next_after` of the page before; 0: from the start.
            at_place: the `ledger_sequence` of an earlier page; 0: as it is.

        Raises:
            ValueError: a place is of another server's list, or out of range.
        """
        own_id = self._owner.owner_id
        page = statement_page(
            self.arrivals, campaign_id, _number("after", after, own_id), limit,
            _number("ledger_sequence", at_place, own_id),
        )  # fmt: skip
        lines = explained(_ListedRows(self), page.charges)
        rows = self.arrivals.rows_of(page.charges["sequence"])
        # Everywhere the same name for a charge, whichever server is asked: own rows are told with their owner, too.
        own = owners_of(rows) == OWN
        lines["sequence"] = np.where(own, rows | np.uint64(qualified(own_id, 0)), rows)
        listed = StatementPage(
            page.charges,
            _place(page.next_after, own_id) if page.next_after else 0,
            _place(page.ledger_sequence, own_id),
            page.charged_micros,
            page.over_delivered_micros,
        )
        return listed, lines

    def rows_at(self, sequences: np.ndarray) -> np.ndarray:
        """The rows of these qualified sequences (u8[n], ascending for each owner), OUTCOME[n] as their ledgers have
        them."""
        rows = np.zeros(len(sequences), OUTCOME)
        owners = owners_of(sequences)
        for owner_id in np.unique(owners).tolist():
            ledger: JudgedReads = self._ledger if owner_id == OWN else self._copies.of(owner_id)
            mine = owners == owner_id
            rows[mine] = ledger.rows_at(sequences[mine] & np.uint64(SEQUENCE_MASK))
        return rows

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


class _ListedRows:
    """Rows by the number of arrival of their charge."""

    def __init__(self, peers: PeerRows) -> None:
        self._peers = peers

    def rows_at(self, sequences: np.ndarray) -> np.ndarray:
        """The rows of the charges with these numbers of arrival (u8[n], ascending), as OUTCOME[n]."""
        return self._peers.rows_at(self._peers.arrivals.rows_of(sequences))


def _place(number: int, owner_id: int) -> int:
    return number << _LIST_BITS | owner_id


def _number(field: str, place: int, owner_id: int) -> int:
    """The number of arrival of a place in this owner's list; 0 stays 0.

    Raises:
        ValueError: it is a place in another server's list.
    """
    list_id = place & (1 << _LIST_BITS) - 1
    if place and list_id != owner_id:
        raise ValueError(
            f"{field} {place}: a place in the list of server {list_id}; this is server {owner_id}, whose order of "
            "charges is another; must come from a page of this one"
        )
    return place >> _LIST_BITS
