"""A bank's side of a shared budget store: what is told again when it was away, and what this ledger leads to."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import numpy as np

from pacing.budget.account import Account, EffectiveCaps
from pacing.budget.memory import MemoryStore
from pacing.budget.remote import NO_ACCOUNT, RemoteStore
from pacing.budget.store import (
    SETTLEMENT,
    AccountLost,
    CapsRequest,
    Grant,
    LeaseRequest,
    LeaseState,
    NotDecided,
    StoreRefused,
    StoreUnavailable,
)
from pacing.clocks import MS_PER_HOUR, MS_PER_MINUTE, Clock
from pacing.facts import OWNER_SHIFT, Verdict
from pacing.money import MAX_AMOUNT_MICROS
from pacing.outage import Outage

logger = logging.getLogger(__name__)

ACQUIRE = "acquire"
"""Names the question for a lease."""

AWAY_MS = 500
"""How long nothing is asked of a store that did not answer: a call that waits for its timeout holds up the others."""

TOLD_APART_MS = MS_PER_HOUR + 45 * 60_000
"""How old the bid of a claim may be when it is settled: well within the time for which a store remembers claims. An
older one may have been charged through another server, and nobody could tell."""

YOUNG_MS = 30 * MS_PER_MINUTE
"""An account that was opened less than this ago may be opened anew if a failover lost it: all that was ever charged to
it is among what every server tells again, which is twice as long, so that a server may be down for a while."""
_CLOCK_ERROR_MS = MS_PER_MINUTE
"""By how much the clock that an account was opened by may be ahead; a date further ahead says nothing."""

_UNHEARD_MS = 5 * MS_PER_MINUTE
"""How long a claim waits for the account of a campaign that this server has not heard of: whoever has, opens it anew
within seconds."""

_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class _Release:
    """One release as the store must hear it, once."""

    campaign_id: int
    lease_id: int
    amount_micros: int
    closed: bool
    serial: int


class SharedStore:
    """The store as a bank and its settle judge see it.

    Releases are numbered, and kept until the store has heard them. Accounts are those of the last `refresh`, moved on
    by what this server did since. `mirror` is what this server's own ledger leads to: its leases, and what it settled.

    Any thread may call any method; a call waits for the store only where its contract says that it may be away.

    Attributes:
        new_creators: whom this server met since its epoch watch last looked here.
        has_told: whether all that its ledger charged was told again since this process began. Until then nothing is
            granted or decided: the store may have been put back to what it was before.
    """

    def __init__(self, remote: RemoteStore, clock: Clock, owner_id: int) -> None:
        """Use `remote` as the owner of one ledger."""
        self._remote = remote
        self.owner_id = owner_id
        self._clock = clock
        self.mirror = MemoryStore()
        self._creators: set[int] = set()
        self.new_creators: set[int] = set()
        self.has_told = True
        self._lock = threading.RLock()
        self._accounts: dict[int, Account] = {}
        self._tellings = 0
        self._unwritten = np.zeros(0, SETTLEMENT)
        self._untold: deque[_Release] = deque()
        self._serials: dict[int, int] = {}
        self._outage = Outage()
        self._away, self._away_until_ms = "", -1

    def begin(self, mirror: MemoryStore) -> None:
        """Start from what the ledger has."""
        self.mirror = mirror
        self._creators = {account.creator_id for account in mirror.accounts.values()}

    def ask(self, call: str, question: Callable[[], _Answer]) -> _Answer:
        """Put a question to the store, unless it was away a moment ago. `call` names the question in the log.

        Raises:
            StoreUnavailable: it is, or was.
        """
        now_ms = self._clock.monotonic_ms()
        if now_ms < self._away_until_ms:
            raise StoreUnavailable(f"the budget store did not answer a moment ago: {self._away}")
        try:
            answer = question()
        except (AccountLost, NotDecided):
            raise
        except StoreUnavailable as error:
            self._away, self._away_until_ms = str(error), self._clock.monotonic_ms() + AWAY_MS
            refused = call if isinstance(error, StoreRefused) else ""
            if self._outage.failed(str(error), refused, now_ms):
                what = f"refuses {refused}" if refused else "away"
                logger.warning("budget store %s, bidding goes on with the leases that are held: %s", what, error)
            raise
        if self._outage.answered(call, now_ms):
            logger.warning("budget store back")
        return answer

    @property
    def is_granting(self) -> bool:
        """Whether the store answered when it was last asked for a lease or anything else."""
        return not self._outage.stops(ACQUIRE)

    def set_caps(self, caps: CapsRequest) -> EffectiveCaps:
        """See `BudgetStore.set_caps`."""
        effective = self.ask("set_caps", lambda: self._remote.set_caps(caps))
        is_new = caps.campaign_id not in self.mirror.accounts
        self.mirror.set_caps(replace(caps, opening=True))
        self._meet(caps.creator_id)
        if is_new:
            self.mirror.accounts[caps.campaign_id].opened_at_ms = caps.now_ms if caps.opening else 0
        self.refresh([caps.campaign_id])
        return effective

    def _meet(self, creator_id: int) -> None:
        if creator_id not in self._creators:
            self._creators.add(creator_id)
            self.new_creators.add(creator_id)

    def acquire(self, requests: Sequence[LeaseRequest]) -> list[Grant | None]:
        """See `BudgetStore.acquire`; while the store is away, nothing is granted, and what it may have granted without
        an answer is given back once it is there again."""
        if not requests or not self.has_told:
            return [None] * len(requests)
        try:
            grants = self.ask(ACQUIRE, lambda: self._remote.acquire(requests))
        except StoreUnavailable:
            with self._lock:
                self._untold.extend(
                    self._numbered(r.campaign_id, r.lease_id, MAX_AMOUNT_MICROS, True) for r in requests
                )
            return [None] * len(requests)
        with self._lock:
            for grant in grants:
                if grant is not None:
                    self.mirror.restore_lease(grant.request, grant.amount_micros)
                    self._move(grant.request.campaign_id, grant.request.day_key, grant.amount_micros)
        return grants

    def _move(self, campaign_id: int, day_key: int, leased_micros: int) -> None:
        account = self._accounts.get(campaign_id)
        if account is not None:
            account.lease(day_key, leased_micros)

    def _numbered(self, campaign_id: int, lease_id: int, amount_micros: int, closed: bool) -> _Release:
        serial = self._serials[lease_id] = self._serials.get(lease_id, 0) + 1
        if closed:
            del self._serials[lease_id]
        return _Release(campaign_id, lease_id, amount_micros, closed, serial)

    def release(self, campaign_id: int, lease_id: int, amount_micros: int, closed: bool, serial: int = 0) -> int:
        """See `BudgetStore.release`; told at once or, while the store is away, later. `serial` is not used: this store
        numbers releases itself."""
        with self._lock:
            self._untold.append(self._numbered(campaign_id, lease_id, amount_micros, closed))
            released = self.mirror.release(campaign_id, lease_id, amount_micros, closed)
            lease = self.mirror.leases.get(lease_id)
            if lease is not None:
                self._move(lease.campaign_id, lease.day_key, -released)
        self.tell()
        return released

    def finish(self, campaign_id: int, lease_id: int) -> int:
        """Close a lease on which no claim can come any more, and give back what the store has left of it; answers what
        this ledger has left of it. The difference was billed at other servers.

        Raises:
            StoreUnavailable: ask again.
        """
        self.ask("release", lambda: self._remote.release(campaign_id, lease_id, MAX_AMOUNT_MICROS, closed=True))
        return self.mirror.finish(campaign_id, lease_id)

    def tell(self) -> None:
        """Tell the store what it has not heard yet, in order; what it cannot hear now is told later."""
        with self._lock:
            while self._untold:
                first = self._untold[0]
                told = (first.campaign_id, first.lease_id, first.amount_micros, first.closed, first.serial)
                try:
                    self.ask("release", lambda told=told: self._remote.release(*told))  # type: ignore[misc]
                except StoreUnavailable:
                    return
                self._untold.popleft()

    def settle(self, claims: np.ndarray) -> np.ndarray:
        """See `BudgetStore.settle`; a claim that waited for longer than TOLD_APART_MS is OVER_DELIVERY.

        Raises:
            StoreUnavailable: ask again.
            NotDecided: and so while an account is lost that is going to be opened anew, and where the answer may be
                that of a master that is gone.
        """
        tellings = self._tellings
        verdicts = np.full(len(claims), Verdict.OVER_DELIVERY, np.uint8)
        told_apart = claims["issued_at_ms"] >= self._clock.wall_ms() - TOLD_APART_MS
        if told_apart.any():
            if not self.has_told:
                raise NotDecided(int(told_apart.sum()))
            self._know(np.unique(claims["campaign_id"]).tolist())
            verdicts[told_apart] = self.ask("settle", lambda: self._remote.decide(claims[told_apart]))
            self._check_final(claims, verdicts)
        with self._lock:
            if tellings != self._tellings:
                raise NotDecided(len(claims))
            self.mirror.restore_verdicts(claims, verdicts)
            self._unwritten = claims[verdicts == Verdict.CHARGED]
        return verdicts

    def begin_telling(self) -> None:
        """From now on an answer counts only if it was asked for later: an earlier one may be that of a master that is
        gone, and what is to be told again would lack it."""
        with self._lock:
            self._tellings += 1

    def charged_last(self) -> np.ndarray:
        """What was charged of the batch that was settled last, SETTLEMENT[n]: the ledger may not have it yet."""
        with self._lock:
            return self._unwritten

    def _check_final(self, claims: np.ndarray, verdicts: np.ndarray) -> None:
        """Make claims without an account OVER_DELIVERY, unless the store lost one that is to be opened anew."""
        homeless = verdicts == NO_ACCOUNT
        if homeless.any():
            newest_ms = self.ask("last_mark_at_ms", self._remote.last_mark_at_ms)
            is_fresh = claims["issued_at_ms"][homeless] >= self._clock.wall_ms() - _UNHEARD_MS
            for campaign_id in np.unique(claims["campaign_id"][homeless]).tolist():
                account = self.mirror.accounts.get(campaign_id)
                if is_fresh.any() if account is None else self._may_open_anew(account, newest_ms):
                    raise NotDecided(int(homeless.sum()))
            verdicts[homeless] = Verdict.OVER_DELIVERY

    def _may_open_anew(self, account: Account, newest_mark_ms: int) -> bool:
        """Whether all that was ever charged to an account that is lost is among what every server tells again.

        It was opened only lately, or after all that the store still knows: then the store is an old copy.
        """
        age_ms = self._clock.wall_ms() - account.opened_at_ms
        return age_ms >= -_CLOCK_ERROR_MS and (age_ms < YOUNG_MS or account.opened_at_ms > newest_mark_ms)

    def reopen_lost(self) -> None:
        """Open the accounts anew that the store has lost and that may be.

        Raises:
            StoreUnavailable: ask again.
        """
        with self._lock:
            known = list(self.mirror.accounts.values())
        newest_ms = self.ask("last_mark_at_ms", self._remote.last_mark_at_ms)
        for account in known:
            if self._may_open_anew(account, newest_ms) and self.ask("reopen", partial(self._remote.reopen, account)):
                logger.warning("campaign_id %d: the budget store lost its account; opened anew", account.campaign_id)

    def _know(self, campaign_ids: list[int]) -> None:
        """Have accounts in the mirror for claims on campaigns that this server has not heard of yet: what is charged
        must stand in them."""
        unknown = [campaign_id for campaign_id in campaign_ids if campaign_id not in self.mirror.accounts]
        if unknown:
            now_ms = self._clock.wall_ms()
            for campaign_id, account in self.ask("accounts", lambda: self._remote.accounts(unknown)).items():
                self.mirror.set_caps(CapsRequest.again(account, now_ms, opening=True))
                self._meet(account.creator_id)
                self.mirror.accounts[campaign_id].opened_at_ms = account.opened_at_ms

    def set_caps_again(self) -> None:
        """Tell the store the caps again that it had taken; those of a higher revision stay.

        Raises:
            StoreUnavailable: ask again.
        """
        with self._lock:
            accounts = list(self.mirror.accounts.values())
        for account in accounts:
            if account.revision:
                caps = CapsRequest.again(account, self._clock.wall_ms(), opening=False)
                try:
                    self.ask("set_caps", partial(self._remote.set_caps, caps))
                except AccountLost as lost:
                    logger.error("%s", lost)

    def settle_again(self, claims: np.ndarray) -> None:
        """Tell charges again that this ledger has, in case the store lost them.

        Raises:
            StoreUnavailable: ask again.
        """
        if len(claims):
            self.ask("settle_again", lambda: self._remote.settle_again(claims))

    def restate(self) -> None:
        """Tell the store what is left of every lease of this server, once it has heard all that is to be told; charges
        that it may have lost come before.

        Raises:
            StoreUnavailable: ask again.
        """
        with self._lock:
            self.tell()
            if self._untold:
                raise StoreUnavailable("releases wait to be told")
            states = [
                LeaseState(
                    lease.lease_id, lease.campaign_id, lease.day_key, lease.amount_micros, lease.remaining_micros,
                    lease.start_at_ms, lease.end_at_ms, lease.closed,
                )
                for lease in self.mirror.leases.values()
                if lease.lease_id >> OWNER_SHIFT == self.owner_id
            ]  # fmt: skip
            if states:
                self.ask("restate", lambda: self._remote.restate(states))

    def refresh(self, campaign_ids: Sequence[int]) -> None:
        """Read the present accounts of campaigns; while the store is away, those known last stay."""
        try:
            found = self.ask("accounts", lambda: self._remote.accounts(campaign_ids)) if len(campaign_ids) else {}
        except StoreUnavailable:
            return
        with self._lock:
            for campaign_id in campaign_ids:
                account = found.get(campaign_id)
                if account is None:
                    self._accounts.pop(campaign_id, None)
                    continue
                self._accounts[campaign_id] = account
                ours = self.mirror.accounts.get(campaign_id)
                if ours is not None:
                    ours.opened_at_ms = account.opened_at_ms or ours.opened_at_ms

    def account(self, campaign_id: int) -> Account | None:
        """The accounts as last read; None: unknown."""
        return self._accounts.get(campaign_id)

    def unsettled_micros(self, campaign_id: int, lease_ids: Iterable[int]) -> int:
        """What this server's own ledger has left of leases."""
        return self.mirror.unsettled_micros(campaign_id, lease_ids)

    def forget(self, before_at_ms: int) -> None:
        """See `BudgetStore.forget`."""
        self.mirror.forget(before_at_ms)
        self.ask("forget", lambda: self._remote.forget(before_at_ms))

    def reclaim(self, before_at_ms: int) -> int:
        """See `BudgetStore.reclaim`; of servers that are gone."""
        return self.ask("reclaim", lambda: self._remote.reclaim(before_at_ms))

    def close(self) -> None:
        """See `BudgetStore.close`."""
        self._remote.close()
