"""The lease keeper: gets money for bidding before it is missed, gives back what is idle, and writes both into the
ledger."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pacing.budget.account import Account
from pacing.budget.holds import HoldBook, SlotNeeds, Takings
from pacing.budget.memory import MemoryStore
from pacing.budget.recovery import Counters
from pacing.budget.settings import BankSettings
from pacing.budget.shared import SharedStore
from pacing.budget.store import Grant, LeaseRequest, StoreUnavailable
from pacing.facts import OWNER_SHIFT, SEQUENCE_MASK
from pacing.ledger.errors import LedgerUnavailable
from pacing.ledger.log import Ledger
from pacing.ledger.rows import MONEY, MoneyKind, money_rows

SEQ_BLOCK = 2**28
"""Hold sequences that each grant sets aside: far more than are used before the next one."""
_PEAKS = 4
_BIDS = 64
_RENEW_FRACTION = 4
_UNKNOWN_SHARE = 4
"""A lease is this fraction of what is free while nothing is known about the bids."""
_SPARED_PEAKS = 16
"""A lease keeps this many peaks when other servers starve: about what it bids in three seconds."""

Store = MemoryStore | SharedStore
"""What a bank has for a store: its own, or its side of one that it shares."""


@dataclass(slots=True)
class _Quarantined:
    """A lease that bids use no longer, but that claims may still come on: of the process before or, where servers
    share, with bids that another server may have billed. Its money comes back once no notice about it can be accepted,
    and all that were are judged."""

    campaign_id: int
    day_key: int
    until_ms: int
    judged_after: int = 0


class LeaseKeeper:
    """Keeps one lease per open slot that bids can use. Used under the bank's control lock.

    Money is taken back into the store before the ledger knows, and granted to bidding only after: a crash in between
    leaves the ledger with too much leased, never with too little.
    """

    def __init__(
        self, store: Store, ledger: Ledger, book: HoldBook, settings: BankSettings, counters: Counters
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._book = book
        self._settings = settings
        self.counters = counters
        self._campaigns: list[int] = []
        self._fresh: set[int] = set()
        self._retry_at_ms: dict[int, int] = {}
        self._next_day_at_ms: dict[int, int] = {}
        self._unwritten: list[np.ndarray] = []
        self._quarantine: dict[int, _Quarantined] = {}
        self._hunger: dict[int, int] = {}

    def add_slot(self, campaign_id: int) -> int:
        """A slot for a campaign; it gets its first lease at the next `attend`."""
        slot = self._book.add_slot()
        self._campaigns.append(campaign_id)
        return slot

    def open_slot(self, slot: int) -> None:
        """Let a slot have leases."""
        self._book.open_slot(slot, True)
        self._fresh.add(slot)
        self._retry_at_ms.pop(slot, None)

    def shut_slot(self, slot: int) -> None:
        """No more leases and no more bids; holds go on until their deadlines."""
        self._book.open_slot(slot, False)
        self._fresh.discard(slot)
        self._next_day_at_ms.pop(slot, None)

    def recall(self, slot: int, wall_ms: int) -> None:
        """Take back at once what a slot's lease has free, because its cap was cut; a new lease follows at the next
        `attend`."""
        takings = self._book.take_current(slot, 0)
        if takings is not None:
            self._give_back([takings], wall_ms)
        self._fresh.add(slot)

    def quarantine(self, lease_id: int, campaign_id: int, day_key: int, until_ms: int) -> None:
        """Lock the rest of a lease until a wall-clock instant."""
        self._quarantine[lease_id] = _Quarantined(campaign_id, day_key, until_ms)

    def quarantined(self) -> dict[int, tuple[int, int]]:
        """(campaign_id, day_key) of each quarantined lease."""
        return {lease_id: (lease.campaign_id, lease.day_key) for lease_id, lease in self._quarantine.items()}

    def attend(self, now_ms: int, wall_ms: int) -> None:
        """Sweep silent holds, give back what is idle, and renew and enlarge leases: one ledger commit for all.

        Raises:
            LedgerUnavailable: no lease was granted; what was given back is written with the next commit.
        """
        book, settings = self._book, self._settings
        book.sweep(now_ms)
        self._fresh |= {slot for slot, at_ms in self._next_day_at_ms.items() if wall_ms >= at_ms}
        slots = set(book.survey(now_ms, settings.lease_ttl_ms // _RENEW_FRACTION)) | self._fresh
        wanting: list[tuple[int, LeaseRequest, int]] = []
        takings: list[Takings] = []
        for slot in sorted(slots):
            if self._retry_at_ms.get(slot, 0) > now_ms and slot not in self._fresh:
                takings += book.take_idle(slot)
                continue
            book.retire_ended(slot, now_ms, wall_ms)
            wanted = self._request(slot, book.attend(slot), now_ms, wall_ms, takings)
            takings += book.take_idle(slot)
            if wanted is not None:
                wanting.append((slot, *wanted))
        self._fresh.clear()
        if settings.is_shared:
            takings += self._spared()
        self._give_back(takings, wall_ms)
        self._finish_quarantine(wall_ms)
        self._grant(wanting, now_ms, wall_ms)

    def _request(
        self, slot: int, needs: SlotNeeds, now_ms: int, wall_ms: int, takings: list[Takings]
    ) -> tuple[LeaseRequest, int] | None:
        """The lease that a slot should get now, with the end of its day; None: what it has will do."""
        account = self._store.account(self._campaigns[slot])
        if account is None or not needs.is_open or not needs.ways_free:
            return None
        day = account.day_at(wall_ms)
        end_at_ms = min(wall_ms + self._settings.lease_ttl_ms, day.end_at_ms)
        free = account.free_micros(day.day_key)
        want = max(
            free // (self._settings.lease_share if needs.peak_micros else _UNKNOWN_SHARE),
            _PEAKS * needs.peak_micros + 2 * needs.refused_micros,
            _BIDS * needs.largest_bid_micros,
        )
        if not self._is_due(slot, needs, min(want, free), now_ms, now_ms + end_at_ms - wall_ms):
            return None
        least = max(1, needs.least_refused_micros)
        if needs.refused_micros and free < want:
            # Too little is left for a lease beside the present one: put the two together.
            merged = self._book.take_current(slot, 0)
            takings += [] if merged is None else [merged]
        lease_id = self._settings.owner_id << OWNER_SHIFT | self.counters.next_lease
        self.counters.next_lease += 1
        request = LeaseRequest(lease_id, account.campaign_id, day.day_key, wall_ms, end_at_ms, max(want, least), least)
        return request, day.end_at_ms

    def _is_due(self, slot: int, needs: SlotNeeds, obtainable: int, now_ms: int, new_end_ms: int) -> bool:
        if needs.refused_micros or not needs.lease_id or slot in self._fresh:
            return True
        if needs.free_micros < 2 * needs.peak_micros and 2 * obtainable > 3 * needs.free_micros:
            return True
        renew_ms = self._settings.lease_ttl_ms // _RENEW_FRACTION
        return needs.end_ms - now_ms <= renew_ms and new_end_ms > needs.end_ms + renew_ms

    def _grant(self, wanting: list[tuple[int, LeaseRequest, int]], now_ms: int, wall_ms: int) -> None:
        grants = self._store.acquire([request for _, request, _ in wanting])
        granted: list[tuple[int, Grant, int]] = []
        for (slot, _, day_end_at_ms), grant in zip(wanting, grants, strict=True):
            if grant is None:
                self._retry_at_ms[slot] = now_ms + self._settings.retry_ms
                self._next_day_at_ms[slot] = day_end_at_ms
            else:
                self._next_day_at_ms.pop(slot, None)
                granted.append((slot, grant, day_end_at_ms))
        bound = self._book.next_seq + SEQ_BLOCK
        try:
            self._write([self._grant_row(grant, bound, wall_ms) for _, grant, _ in granted])
        except LedgerUnavailable:
            for _, grant, _ in granted:
                request = grant.request
                self._store.release(request.campaign_id, request.lease_id, grant.amount_micros, closed=True)
            raise
        if granted:
            self.counters.seq_bound = bound & SEQUENCE_MASK
            self._book.allow_until(bound)
        for slot, grant, day_end_at_ms in granted:
            end_ms = now_ms + grant.request.end_at_ms - wall_ms
            self._book.open_lease(slot, grant.request.lease_id, grant.amount_micros, end_ms, day_end_at_ms)

    def _grant_row(self, grant: Grant, seq_bound: int, wall_ms: int) -> np.ndarray:
        account = self._store.account(grant.request.campaign_id)
        assert account is not None
        row = money_rows(1)
        row["kind"], row["recorded_at_ms"] = MoneyKind.GRANT, wall_ms
        row["campaign_id"], row["creator_id"] = account.campaign_id, account.creator_id
        row["lease_id"], row["amount_micros"] = grant.request.lease_id, grant.amount_micros
        row["start_at_ms"], row["end_at_ms"] = grant.request.start_at_ms, grant.request.end_at_ms
        row["day_key"], row["seq_bound"] = grant.request.day_key, seq_bound
        return row

    def _spared(self) -> list[Takings]:
        """What leases can spare for other servers that asked in vain since the last time."""
        takings = []
        for slot, campaign_id in enumerate(self._campaigns):
            account = self._store.account(campaign_id)
            if account is None or account.hunger == self._hunger.get(slot, 0):
                continue
            self._hunger[slot] = account.hunger
            if account.hungry_owner != self._settings.owner_id:
                taken = self._book.take_current(slot, _SPARED_PEAKS * self._book.peak_micros(slot))
                takings += [] if taken is None else [taken]
        return takings

    def _give_back(self, takings: list[Takings], wall_ms: int) -> None:
        """Release in the store; the rows go into the ledger ahead of the next ones."""
        for taken in takings:
            is_doubtful = taken.closed and taken.doubtful_micros > 0
            closed = taken.closed and not is_doubtful
            if is_doubtful:
                lease = self._store.mirror.leases[taken.lease_id]
                until_ms = wall_ms + self._settings.doubt_ms
                self.quarantine(taken.lease_id, lease.campaign_id, lease.day_key, until_ms)
            if taken.amount_micros or closed:
                campaign_id = self._store.mirror.campaign_of(taken.lease_id)
                released = self._store.release(campaign_id, taken.lease_id, taken.amount_micros, closed)
                self._note_release(taken.lease_id, released, closed, wall_ms)

    def _note_release(self, lease_id: int, released_micros: int, closed: bool, wall_ms: int) -> None:
        row = money_rows(1)
        row["kind"], row["recorded_at_ms"] = MoneyKind.RELEASE, wall_ms
        row["lease_id"], row["closed"], row["amount_micros"] = lease_id, closed, released_micros
        self._unwritten.append(row)

    def _finish_quarantine(self, wall_ms: int) -> None:
        """Give back what is left of quarantined leases that nothing can be charged to any more."""
        for lease_id, lease in list(self._quarantine.items()):
            if wall_ms <= lease.until_ms:
                continue
            if not lease.judged_after:
                lease.judged_after = max(1, self._ledger.last_sequence)
            if self._ledger.judged_sequence >= min(lease.judged_after, self._ledger.last_sequence):
                try:
                    released = self._store.finish(lease.campaign_id, lease_id)
                except StoreUnavailable:
                    return
                del self._quarantine[lease_id]
                self._note_release(lease_id, released, True, wall_ms)

    def write_caps(self, account: Account, wall_ms: int) -> None:
        """Make a campaign's caps durable, behind the releases that are not written yet. Raises LedgerUnavailable."""
        row = money_rows(1)
        row["kind"], row["recorded_at_ms"] = MoneyKind.CAPS, wall_ms
        row["campaign_id"], row["creator_id"] = account.campaign_id, account.creator_id
        row["zone"] = account.zone.encode("ascii")
        row["daily_cap_micros"], row["total_cap_micros"] = account.daily_cap_micros, account.flight.cap_micros
        row["start_at_ms"] = account.opened_at_ms
        self._write([row])

    def flush(self) -> None:
        """Write releases that an earlier commit failed to write. Raises LedgerUnavailable."""
        self._write([])

    def _write(self, rows: list[np.ndarray]) -> None:
        rows = [*self._unwritten, *rows]
        if rows:
            self._ledger.append_money(np.concatenate(rows, dtype=MONEY))
            self._unwritten = []
