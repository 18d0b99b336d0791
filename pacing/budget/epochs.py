"""After a failover of the shared store: tell it again what it may have lost, so that it may grant again."""

from __future__ import annotations

import logging
from functools import partial

from pacing.budget.quarantine import Quarantine
from pacing.budget.remote import RemoteStore
from pacing.budget.settle import settlements_of
from pacing.budget.shared import SharedStore
from pacing.budget.store import Epoch, StoreUnavailable
from pacing.clocks import MS_PER_MINUTE, Clock
from pacing.facts import OutcomeKind, Verdict
from pacing.ledger.log import Ledger

logger = logging.getLogger(__name__)

_MARK_MS = MS_PER_MINUTE
_LOOK_MS = MS_PER_MINUTE
"""For how long a creator who is newly listed is looked at: an account is listed before it is opened anew."""
_BATCH_ROWS = 4_096
_BATCHES = 16
"""Batches of one tick, so that other periodic work waits for less than a second."""


class EpochWatch:
    """Notices that another master keeps the accounts, or that a lost one was opened anew, and tells the caps, what this
    ledger charged since the oldest mark that is kept, and what is left of this server's leases.

    One thread at a time. The first `tick` always does it: a failover may have happened while this server was away.

    Attributes:
        quarantine: for whom nothing is granted meanwhile.
    """

    def __init__(self, store: SharedStore, remote: RemoteStore, ledger: Ledger, clock: Clock) -> None:
        self._store = store
        self._remote = remote
        self._ledger = ledger
        self._clock = clock
        self.quarantine = Quarantine(clock)
        self._settled_ids: frozenset[str] | None = None
        self._owed: frozenset[str] | None = None
        self._numbers: dict[int, int] = {}  # of the epochs that are told, by creator
        self._called: dict[int, int] = {}  # in which epoch others were called, by creator
        self._looked: dict[int, tuple[int, int]] = {}  # note of a creator who is listed, and until when to look again
        self._position = 0
        self._marked_ms = clock.monotonic_ms()
        store.has_told = not ledger.judged_sequence

    @property
    def is_behind(self) -> bool:
        """Whether charges are still to be told again."""
        return self._settled_ids is None or self._owed is not None

    def tick(self) -> None:
        """Look, and go on with what is to be told again; while the store is away, nothing happens."""
        try:
            found = self._store.ask("replication_ids", self._remote.replication_ids)
            is_new = found != self._settled_ids and found != self._owed
            if is_new or (self._owed is None and self._is_left_behind()):
                self._begin(found)
            if self._owed is not None:
                self._go_on()
            elif self._store.new_creators:
                self._join_epochs(found)
            self._mark()
            waiting = self._epochs(self.quarantine.due())
            self.quarantine.note(waiting)
            self._call_owners_behind(waiting)
        except StoreUnavailable:
            return

    def _epochs(self, creator_ids: list[int]) -> dict[int, Epoch]:
        return self._store.ask("epochs", lambda: self._remote.epochs(creator_ids)) if creator_ids else {}

    def _call_owners_behind(self, waiting: dict[int, Epoch]) -> None:
        """List creators whose grants still wait for other servers: those may not know that there is something to tell,
        where whoever found out that charges were lost died before it could say so."""
        behind = {
            creator_id: epoch.number
            for creator_id, epoch in waiting.items()
            if not epoch.refused_ms
            and set(epoch.owners_behind) - {self._store.owner_id}
            and self._called.get(creator_id) != epoch.number
        }
        if behind:
            self._store.ask("reopened", lambda: self._remote.list_reopened(behind))
            self._called.update(behind)

    def _mark(self) -> None:
        """Note in the store how far this ledger is judged, once all up to there is in it. A later master, or an old
        copy, lacks what was judged after the last mark that it has, and little before."""
        now_ms = self._clock.monotonic_ms()
        if self._owed is None and now_ms - self._marked_ms >= _MARK_MS:
            self._store.ask("mark", partial(self._remote.mark, self._ledger.judged_sequence))
            self._marked_ms = now_ms

    def _is_left_behind(self) -> bool:
        """Whether somebody opened a lost account anew after this server had told what it has, or called it."""
        listed = self._store.ask("reopened", self._remote.reopened)
        now_ms, before = self._clock.monotonic_ms(), self._looked
        self._looked = {
            creator_id: before[creator_id] if before.get(creator_id, (None,))[0] == note else (note, now_ms + _LOOK_MS)
            for creator_id, note in listed.items()
        }
        epochs = self._epochs([creator_id for creator_id, (_, until_ms) in self._looked.items() if now_ms < until_ms])
        return any(self._store.owner_id in epoch.owners_behind for epoch in epochs.values())

    def _join_epochs(self, found: frozenset[str]) -> None:
        """Say of creators that this server has met since it told everything that nothing more is to be told of them."""
        met = sorted(self._store.new_creators)
        epochs = self._epochs(met)
        if self._store.ask("replication_ids", self._remote.replication_ids) != found:
            return  # told was another master
        reopened = self._store.ask("reopened", self._remote.reopened)
        for creator_id, epoch in epochs.items():
            if self._store.owner_id in epoch.owners_behind and creator_id not in reopened:
                self._store.ask("settled_again", partial(self._remote.settled_again, creator_id, epoch.number))
        self._store.new_creators.difference_update(met)

    def _begin(self, found: frozenset[str]) -> None:
        """Restore accounts that are lost, and the caps; then note in which epochs the accounts are now: only what is
        told after that counts for them."""
        self._store.begin_telling()
        self._store.reopen_lost()
        self._store.set_caps_again()
        creators = {account.creator_id for account in list(self._store.mirror.accounts.values())}
        self._store.new_creators.difference_update(creators)
        creators.update(self._store.ask("reopened", self._remote.reopened))
        epochs = self._epochs(sorted(creators))
        self.quarantine.note(epochs)
        self._numbers = {creator_id: epoch.number for creator_id, epoch in epochs.items()}
        self._position = self._store.ask("marked_sequence", self._remote.marked_sequence)
        if self._settled_ids is not None:
            logger.warning("another master keeps the budgets, or lost one: what was charged lately is told again")
        self._owed = found

    def _go_on(self) -> None:
        unwritten = self._store.charged_last()  # asked for first: what is written meanwhile is then read
        for _ in range(_BATCHES):
            rows, judgements = self._ledger.read_judged(self._position, _BATCH_ROWS)
            if not len(rows):
                break
            charged = (rows["kind"] == OutcomeKind.BILLABLE) & (judgements["verdict"] == Verdict.CHARGED)
            self._store.settle_again(settlements_of(rows[charged]))
            self._position = int(rows["sequence"][-1])
        else:
            return
        self._store.settle_again(unwritten[unwritten["sequence"] > self._position])
        self._store.restate()
        present = {
            creator_id: self._store.ask("settled_again", partial(self._remote.settled_again, creator_id, number))
            for creator_id, number in self._numbers.items()
        }
        self._settled_ids, self._owed = self._owed, None
        self._store.has_told = True
        if any(present[creator_id] > number for creator_id, number in self._numbers.items()):
            logger.warning(
                "another epoch began meanwhile, by a failover or since the store had lost charges without one"
            )
            self._settled_ids = None  # tells again at the next tick
