"""After a failover of the shared store: tell it again what it may have lost, so that it may grant again."""

from __future__ import annotations

import logging
from collections import deque
from functools import partial
from typing import NamedTuple

from pacing.budget.quarantine import Quarantine
from pacing.budget.settle import settlements_of
from pacing.budget.shared import TOLD_APART_MS, RemoteStore, SharedStore
from pacing.budget.store import Epoch, JudgedMark, StoreUnavailable
from pacing.clocks import MS_PER_HOUR, MS_PER_MINUTE, Clock
from pacing.facts import OutcomeKind, Verdict
from pacing.ledger.log import Ledger

logger = logging.getLogger(__name__)

SETTLED_AGAIN_MS = MS_PER_HOUR
"""How far back charges are told again: longer than a replica may lag behind, and shorter than the store remembers the
claims that it did not lose."""

_MARK_MS = MS_PER_MINUTE
_DOWN_MS = 30 * MS_PER_MINUTE
"""A mark older than SETTLED_AGAIN_MS by so much, with none between, says that the server was down: what it judged after
the mark, it judged soon after."""

_COPY_MS = 10 * MS_PER_MINUTE
"""A replica lags behind by seconds; a store that lacks this much is an old copy that was put in place."""
_BATCH_ROWS = 4_096
_BATCHES = 16
"""Batches of one tick, so that other periodic work waits for less than a second."""


class _Mark(NamedTuple):
    """How far the ledger was judged at an instant of the monotonic clock."""

    at_ms: int
    judged_sequence: int


class EpochWatch:
    """Notices that another master keeps the accounts, or that a lost one was opened anew, and tells the caps, what this
    ledger charged lately, and what is left of this server's leases.

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
        self._position = 0
        self._started_wall_ms = clock.wall_ms()
        self._marks = deque([_Mark(clock.monotonic_ms(), ledger.judged_sequence)])
        self._marked_ms: int | None = None

    @property
    def is_behind(self) -> bool:
        """Whether charges are still to be told again."""
        return self._settled_ids is None or self._owed is not None

    def tick(self) -> None:
        """Look, and go on with what is to be told again; while the store is away, nothing happens."""
        self._mark()
        try:
            found = self._store.ask("replication_ids", self._remote.replication_ids)
            is_new = found != self._settled_ids and found != self._owed
            if is_new or (self._owed is None and self._is_left_behind()):
                self._begin(found)
            self._mark_in_store()  # when the marks have been read that were there
            if self._owed is not None:
                self._go_on()
            elif self._store.new_creators:
                self._join_epochs(found)
            self.quarantine.note(self._epochs(self.quarantine.due()))
        except StoreUnavailable:
            return

    def _epochs(self, creator_ids: list[int]) -> dict[int, Epoch]:
        return self._store.ask("epochs", lambda: self._remote.epochs(creator_ids)) if creator_ids else {}

    def _mark(self) -> None:
        now_ms = self._clock.monotonic_ms()
        if now_ms - self._marks[-1].at_ms >= _MARK_MS:
            self._marks.append(_Mark(now_ms, self._ledger.judged_sequence))
        while len(self._marks) > 1 and self._marks[1].at_ms <= now_ms - SETTLED_AGAIN_MS:
            self._marks.popleft()

    def _mark_in_store(self) -> None:
        """For the next process: by then the wall clock may have been set."""
        newest = self._marks[-1]
        if self._marked_ms != newest.at_ms:
            self._store.ask("mark", partial(self._remote.mark, newest.judged_sequence))
            self._marked_ms = newest.at_ms

    def _is_left_behind(self) -> bool:
        """Whether somebody opened a lost account anew after this server had told what it has."""
        creators = self._store.ask("reopened", self._remote.reopened)
        epochs = self._epochs(creators)
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
        self._store.reopen_lost()
        self._store.set_caps_again()
        creators = {account.creator_id for account in list(self._store.mirror.accounts.values())}
        self._store.new_creators.difference_update(creators)
        creators.update(self._store.ask("reopened", self._remote.reopened))
        epochs = self._epochs(sorted(creators))
        self.quarantine.note(epochs)
        self._numbers = {creator_id: epoch.number for creator_id, epoch in epochs.items()}
        self._position = self._first_lately()
        if self._settled_ids is not None:
            logger.warning("another master keeps the budgets, or lost one: charges of the last hour are told again")
        self._owed = found

    def _go_on(self) -> None:
        for _ in range(_BATCHES):
            rows, judgements = self._ledger.read_judged(self._position, _BATCH_ROWS)
            if not len(rows):
                break
            charged = (rows["kind"] == OutcomeKind.BILLABLE) & (judgements["verdict"] == Verdict.CHARGED)
            self._store.settle_again(settlements_of(rows[charged]))
            self._position = int(rows["sequence"][-1])
        else:
            return
        self._store.restate()
        for creator_id, number in self._numbers.items():
            self._store.ask("settled_again", partial(self._remote.settled_again, creator_id, number))
        self._settled_ids, self._owed = self._owed, None

    def _first_lately(self) -> int:
        """A sequence before every row that was judged in the last SETTLED_AGAIN_MS.

        When this process judged a row is told by the monotonic clock, and of earlier ones by the clock of the store:
        the wall clock may have been set since.
        """
        since_ms = self._clock.monotonic_ms() - SETTLED_AGAIN_MS
        first = self._marks[0]
        marks = self._store.ask("marks", self._remote.marks)
        if self._is_old_copy(marks):
            if marks[-1].age_ms <= TOLD_APART_MS:
                logger.warning("the budget store is an old copy: all that was charged since it was made is told again")
                return min(marks[-1].judged_sequence, first.judged_sequence)
            logger.error("the budget store is too old a copy: charges of more than an hour ago may be spent again")
        if first.at_ms <= since_ms:
            return first.judged_sequence
        before = sum(mark.age_ms >= SETTLED_AGAIN_MS for mark in marks)
        if not before:
            return self._first_after(self._started_wall_ms - (first.at_ms - since_ms), first.judged_sequence)
        if marks[before - 1].age_ms < SETTLED_AGAIN_MS + _DOWN_MS:
            before -= 1
        return min(mark.judged_sequence for mark in [*marks[before:], JudgedMark(first.judged_sequence, 0)])

    def _is_old_copy(self, marks: list[JudgedMark]) -> bool:
        """Whether the last mark that this process set is not there, nor one of the minutes before it. Where there is
        none at all, marks were forgotten: the store was away for that long."""
        if self._marked_ms is None or not marks:
            return False
        return marks[-1].age_ms > self._clock.monotonic_ms() - self._marked_ms + _COPY_MS

    def _first_after(self, at_ms: int, high: int) -> int:
        """A sequence before every row that was recorded after an instant, up to the sequence `high`."""
        low = 0
        while low < high:
            middle = (low + high) // 2
            found = self._ledger.read(middle, 1)
            if not len(found) or found["recorded_at_ms"][0] >= at_ms:
                high = middle
            else:
                low = middle + 1
        return low
