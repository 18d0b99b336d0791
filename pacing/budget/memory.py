"""The embedded budget store: accounts and leases in this process, rebuilt from its ledger at start."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pacing.budget.account import Account, Balance, EffectiveCaps
from pacing.budget.store import GRANT_BIDS, GRANT_SHARE, AccountLost, CapsRequest, Grant, LeaseRequest, check_claims
from pacing.clocks import MS_PER_DAY
from pacing.facts import Verdict

REMEMBERED_CLAIMS = 2**16


@dataclass(slots=True)
class StoredLease:
    """A lease as the store knows it; `remaining_micros` are neither settled nor released."""

    lease_id: int
    campaign_id: int
    day_key: int
    amount_micros: int
    remaining_micros: int
    start_at_ms: int
    end_at_ms: int
    closed: bool = False
    release_serial: int = 0
    released_micros: int = 0  # by the release with that serial


class ToldClaim(NamedTuple):
    """What a claim was when it was first told."""

    amount_micros: int
    sequence: int
    verdict: int


class MemoryStore:
    """A `BudgetStore` for the one process that owns its ledger. Any thread may call any method.

    The ledger takes each claim once, for good; so this store only tells apart the last REMEMBERED_CLAIMS.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self.accounts: dict[int, Account] = {}
        self.leases: dict[int, StoredLease] = {}
        self._told: OrderedDict[tuple[int, int], ToldClaim] = OrderedDict()  # by (lease_id, hold_seq)

    @property
    def mirror(self) -> MemoryStore:
        """What the ledger of this process leads to: this store itself."""
        return self

    def set_caps(self, caps: CapsRequest) -> EffectiveCaps:
        """See `BudgetStore.set_caps`."""
        with self._lock:
            account = self.accounts.get(caps.campaign_id)
            if account is None:
                if not caps.opening:
                    raise AccountLost(caps.campaign_id)
                flight = Balance(caps.total_cap_micros)
                account = Account(caps.campaign_id, caps.creator_id, caps.zone, caps.daily_cap_micros, flight)
                account.opened_at_ms = caps.now_ms
                self.accounts[caps.campaign_id] = account
            caps.check_opened_with("zone", account.zone)
            caps.check_opened_with("creator_id", account.creator_id)
            day_key = account.day_at(caps.now_ms).day_key
            if not 0 < caps.revision < account.revision:
                account.revision = max(caps.revision, account.revision)
                account.set_caps(caps.daily_cap_micros, caps.total_cap_micros, day_key)
            return EffectiveCaps(account.day(day_key).cap_in_force_micros, account.flight.cap_in_force_micros)

    def acquire(self, requests: Sequence[LeaseRequest]) -> list[Grant | None]:
        """See `BudgetStore.acquire`."""
        with self._lock:
            return [self._acquire(request) for request in requests]

    def _acquire(self, request: LeaseRequest) -> Grant | None:
        known = self.leases.get(request.lease_id)
        if known is not None:
            is_repeated = known.amount_micros > 0 and known.start_at_ms == request.start_at_ms
            return Grant(request, known.amount_micros) if is_repeated else None
        account = self.accounts.get(request.campaign_id)
        if account is None:
            return None
        free = account.free_micros(request.day_key)
        amount = min(request.want_micros, free, max(free // GRANT_SHARE, GRANT_BIDS * request.least_micros))
        if amount < max(1, request.least_micros):
            return None
        self._open(request, amount)
        return Grant(request, amount)

    def _open(self, request: LeaseRequest, amount: int) -> None:
        account = self.accounts[request.campaign_id]
        account.lease(request.day_key, amount)
        self.leases[request.lease_id] = StoredLease(
            request.lease_id,
            request.campaign_id,
            request.day_key,
            amount,
            amount,
            request.start_at_ms,
            request.end_at_ms,
        )

    def restore_lease(self, request: LeaseRequest, amount_micros: int) -> None:
        """Enter a lease that the ledger has, whatever the accounts say."""
        with self._lock:
            if request.lease_id not in self.leases and request.campaign_id in self.accounts:
                self._open(request, amount_micros)

    def release(self, campaign_id: int, lease_id: int, amount_micros: int, closed: bool, serial: int = 0) -> int:
        """See `BudgetStore.release`."""
        with self._lock:
            lease = self.leases.get(lease_id)
            if lease is None or lease.campaign_id != campaign_id:
                return 0
            if serial and serial <= lease.release_serial:
                return lease.released_micros if serial == lease.release_serial else 0
            released = self._take_back(lease, amount_micros, closed)
            if serial:
                lease.release_serial, lease.released_micros = serial, released
            return released

    def finish(self, campaign_id: int, lease_id: int) -> int:
        """Close a lease and give back all that is left of it; answers how much that was."""
        return self.release(campaign_id, lease_id, self.unsettled_micros(campaign_id, [lease_id]), closed=True)

    def campaign_of(self, lease_id: int) -> int:
        """Whose a lease is; 0: unknown."""
        lease = self.leases.get(lease_id)
        return 0 if lease is None else lease.campaign_id

    def _take_back(self, lease: StoredLease, amount_micros: int, closed: bool) -> int:
        released = min(amount_micros, lease.remaining_micros)
        lease.remaining_micros -= released
        lease.closed |= closed
        self.accounts[lease.campaign_id].lease(lease.day_key, -released)
        return released

    def settle(self, claims: np.ndarray) -> np.ndarray:
        """See `BudgetStore.settle`."""
        check_claims(claims)
        columns = (claims[name].tolist() for name in claims.dtype.names or ())
        with self._lock:
            verdicts = [self._settle(*claim) for claim in zip(*columns, strict=True)]
        return np.array(verdicts, np.uint8)

    def _settle(
        self, campaign_id: int, lease_id: int, hold_seq: int, amount: int, issued_at_ms: int, sequence: int
    ) -> int:
        lease = self._lease_of(campaign_id, lease_id, issued_at_ms)
        if lease is None:
            return Verdict.OVER_DELIVERY
        before = self._told.get((lease_id, hold_seq))
        if before is not None:
            if amount != before.amount_micros:
                return Verdict.CONFLICT
            return before.verdict if sequence and sequence == before.sequence else Verdict.DUPLICATE
        account = self.accounts[campaign_id]
        from_pool = amount - lease.remaining_micros
        if from_pool > 0 and from_pool > account.free_micros(lease.day_key):
            account.over_delivered_micros += amount
            verdict = Verdict.OVER_DELIVERY
        else:
            self._charge(account, lease, amount)
            verdict = Verdict.CHARGED
        self._remember(lease_id, hold_seq, ToldClaim(amount, sequence, verdict))
        return verdict

    def _remember(self, lease_id: int, hold_seq: int, told: ToldClaim) -> None:
        self._told[lease_id, hold_seq] = told
        if len(self._told) > REMEMBERED_CLAIMS:
            self._told.popitem(last=False)

    def _charge(self, account: Account, lease: StoredLease, amount: int) -> None:
        from_lease = min(amount, lease.remaining_micros)
        lease.remaining_micros -= from_lease
        account.lease(lease.day_key, -from_lease)
        account.settle(lease.day_key, amount)

    def _lease_of(self, campaign_id: int, lease_id: int, issued_at_ms: int) -> StoredLease | None:
        """The claim's lease; a lost one is rebuilt from the token, empty, so that its claims are still told apart."""
        lease = self.leases.get(lease_id)
        if lease is not None and lease.campaign_id == campaign_id:
            return lease
        account = self.accounts.get(campaign_id)
        if account is None or lease is not None:
            return None
        day_key = account.day_at(issued_at_ms).day_key
        lease = StoredLease(lease_id, campaign_id, day_key, 0, 0, issued_at_ms, issued_at_ms, closed=True)
        self.leases[lease_id] = lease
        return lease

    def restore_verdicts(self, claims: np.ndarray, verdicts: np.ndarray) -> None:
        """Enter verdicts (u1[n]) on SETTLEMENT[n] that the ledger has, without deciding them again."""
        pairs, firsts, group = np.unique(claims[["campaign_id", "lease_id"]], return_index=True, return_inverse=True)
        sums = {}
        for verdict in (Verdict.CHARGED, Verdict.OVER_DELIVERY):
            sums[verdict] = np.zeros(len(pairs), np.int64)
            chosen = verdicts == verdict
            np.add.at(sums[verdict], group[chosen], claims["amount_micros"][chosen])
        has_lease = np.zeros(len(pairs), np.bool_)
        with self._lock:
            for k in np.argsort(firsts).tolist():
                campaign_id, lease_id = pairs[k].tolist()
                lease = self._lease_of(campaign_id, lease_id, int(claims["issued_at_ms"][firsts[k]]))
                if lease is not None:
                    has_lease[k] = True
                    account = self.accounts[campaign_id]
                    account.over_delivered_micros += int(sums[Verdict.OVER_DELIVERY][k])
                    self._charge(account, lease, int(sums[Verdict.CHARGED][k]))
            told = has_lease[group] & np.isin(verdicts, list(sums))
            lease_ids, hold_seqs, amounts, sequences = (
                claims[name][told].tolist() for name in ("lease_id", "hold_seq", "amount_micros", "sequence")
            )
            values = map(ToldClaim, amounts, sequences, verdicts[told].tolist())
            self._told.update(zip(zip(lease_ids, hold_seqs, strict=True), values, strict=True))
            while len(self._told) > REMEMBERED_CLAIMS:
                self._told.popitem(last=False)

    def account(self, campaign_id: int) -> Account | None:
        """See `BudgetStore.account`."""
        return self.accounts.get(campaign_id)

    def unsettled_micros(self, campaign_id: int, lease_ids: Iterable[int]) -> int:
        """See `BudgetStore.unsettled_micros`."""
        with self._lock:
            found = (self.leases.get(lease_id) for lease_id in lease_ids)
            return sum(lease.remaining_micros for lease in found if lease and lease.campaign_id == campaign_id)

    def forget(self, before_at_ms: int) -> None:
        """See `BudgetStore.forget`."""
        with self._lock:
            over = [
                lease_id
                for lease_id, lease in self.leases.items()
                if lease.closed and not lease.remaining_micros and lease.end_at_ms < before_at_ms
            ]
            for lease_id in over:
                del self.leases[lease_id]
            for account in self.accounts.values():
                account.forget_days(before_at_ms - MS_PER_DAY)

    def reclaim(self, before_at_ms: int) -> int:
        """See `BudgetStore.reclaim`."""
        with self._lock:
            over = [lease for lease in self.leases.values() if lease.end_at_ms < before_at_ms]
            return sum(self._take_back(lease, lease.remaining_micros, closed=True) for lease in over)

    def close(self) -> None:
        """See `BudgetStore.close`."""
