"""A budget store that several simulated servers share: what `RedisStore` is to Redis, on simulated masters.

A master that is lost is replaced by one that has only a part of what it was told: its calls are kept, and those that
were replicated are done again on empty keys.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from enum import Enum
from typing import Any, Protocol

import numpy as np

from benchmarks.faults.shared_keys import UNDECIDED, At, Claim, SharedKeys
from pacing.budget.account import Account, EffectiveCaps
from pacing.budget.redis_places import KEPT_MS, QUARANTINE_MS
from pacing.budget.remote import NO_ACCOUNT
from pacing.budget.store import (
    AccountLost,
    CapsRequest,
    Epoch,
    Grant,
    LeaseRequest,
    LeaseState,
    NotDecided,
    StoreUnavailable,
    check_claims,
)
from pacing.facts import OWNER_SHIFT, Verdict

_LISTED_AT = 0
"""Key by which the master is chosen that lists the accounts that were opened anew."""


class Lost(Enum):
    """What becomes of one call to a master that is out of reach."""

    REQUEST = "it is not done"
    ANSWER = "it is done, and nobody hears of it"


class StoreWatcher(Protocol):
    """Is told of every change that a master made, before whoever asked for it is."""

    def store_did(self, owner_id: int, name: str, arguments: tuple[Any, ...], answer: Any) -> None:
        """`name` is a method of `SharedKeys` that changes something, with its arguments behind `at`."""


class _Master:
    def __init__(self, replication_id: int) -> None:
        self.keys = SharedKeys()
        self.replication_id = replication_id
        self.clock_error_ms = 0
        self.is_down = False
        self.calls: list[tuple[int, At, str, tuple[Any, ...]]] = []


class SharedMasters:
    """One or several masters, which split the creators between them. Used by one thread.

    Attributes:
        watcher: is told of every change, but not of those that a new master does again.
        owners: who joined, besides those that have leases.
    """

    def __init__(self, now_ms: Callable[[], int], masters: int = 1, watcher: StoreWatcher | None = None) -> None:
        """`now_ms` is the true time; each master may have another."""
        self._now_ms = now_ms
        self._replication_ids = 0
        self._masters = [_Master(self._new_replication_id()) for _ in range(masters)]
        self.watcher = watcher
        self.owners: set[int] = set()

    def __len__(self) -> int:
        return len(self._masters)

    def _new_replication_id(self) -> int:
        self._replication_ids += 1
        return self._replication_ids

    def replication_ids(self) -> frozenset[str]:
        """Of the masters, as they are now."""
        return frozenset(str(master.replication_id) for master in self._masters)

    def set_down(self, number: int, is_down: bool) -> None:
        """Let a master be away for everybody, or be back."""
        self._masters[number].is_down = is_down

    def is_down(self, number: int) -> bool:
        """Whether a master is away."""
        return self._masters[number].is_down

    def fail_over(self, number: int, lost_ms: int, clock_error_ms: int = 0) -> int:
        """Put a replica in a master's place that lacks what was written in the last `lost_ms`; answers how much that
        is, in calls."""
        master = self._masters[number]
        since_ms = self._now_ms() - lost_ms
        kept = [call for call in master.calls if call[0] <= since_ms]
        lost = len(master.calls) - len(kept)
        if lost:
            master.keys = SharedKeys()
            for _, at, name, arguments in kept:
                getattr(master.keys, name)(at, *arguments)
        master.calls = kept
        master.replication_id, master.clock_error_ms = self._new_replication_id(), clock_error_ms
        return lost

    def number_of(self, key: int) -> int:
        """Which master has the keys of a creator, or the entry of a campaign or lease."""
        return key % len(self._masters)

    def change(self, owner_id: int, number: int, name: str, arguments: tuple[Any, ...]) -> Any:
        """Let a master do something."""
        master = self._masters[number]
        now_ms = self._now_ms()
        at = At(now_ms + master.clock_error_ms, master.replication_id)
        answer = getattr(master.keys, name)(at, *arguments)
        master.calls.append((now_ms, at, name, arguments))
        if self.watcher is not None:
            self.watcher.store_did(owner_id, name, arguments, answer)
        return answer

    def look(self, number: int) -> tuple[SharedKeys, At]:
        """A master's keys, to read only, and its moment."""
        master = self._masters[number]
        return master.keys, At(self._now_ms() + master.clock_error_ms, master.replication_id)


class SimulatedStore:
    """A `BudgetStore` with the epochs of `RedisStore`, of one owner.

    Attributes:
        mishap: asked at each call what becomes of it; None: it is done and answered.
    """

    def __init__(
        self, masters: SharedMasters, owner_id: int, kept_ms: int = KEPT_MS, quarantine_ms: int = QUARANTINE_MS
    ) -> None:
        """See `RedisStore`."""
        self._masters = masters
        self._owner_id = owner_id
        self._kept_ms = kept_ms
        self._quarantine_ms = quarantine_ms
        self._creators: dict[int, int] = {}
        self._zones: dict[int, str] = {}
        self.mishap: Callable[[], Lost | None] = lambda: None

    def _reach(self, number: int) -> Lost | None:
        lost = self.mishap()
        if lost is Lost.REQUEST or self._masters.is_down(number):
            raise StoreUnavailable(f"simulated master {number}: no answer")
        return lost

    def _change(self, key: int, name: str, *arguments: Any) -> Any:
        number = self._masters.number_of(key)
        lost = self._reach(number)
        answer = self._masters.change(self._owner_id, number, name, arguments)
        if lost is not None:
            raise StoreUnavailable(f"simulated master {number}: no answer, done all the same")
        return answer

    def _look(self, key: int) -> tuple[SharedKeys, At]:
        number = self._masters.number_of(key)
        if self._reach(number) is not None:
            raise StoreUnavailable(f"simulated master {number}: no answer")
        return self._masters.look(number)

    def _creator_of(self, campaign_id: int) -> int | None:
        creator_id = self._creators.get(campaign_id)
        if creator_id is None:
            creator_id = self._look(campaign_id)[0].creators.get(campaign_id)
            if creator_id is not None:
                self._creators[campaign_id] = creator_id
        return creator_id

    def set_caps(self, caps: CapsRequest) -> EffectiveCaps:
        """See `BudgetStore.set_caps`."""
        campaign_id, creator_id = caps.campaign_id, caps.creator_id
        if caps.opening:
            found = self._change(campaign_id, "enter_campaign", campaign_id, creator_id)
        else:
            found = self._look(campaign_id)[0].creators.get(campaign_id)
        if found is None:
            raise AccountLost(campaign_id)
        caps.check_opened_with("creator_id", found)
        effective: EffectiveCaps = self._change(
            creator_id, "change_caps", self._quarantine_ms, caps, self._owner_id, sorted(self._masters.owners)
        )
        self._creators[campaign_id], self._zones[campaign_id] = creator_id, caps.zone
        return effective

    def acquire(self, requests: Sequence[LeaseRequest]) -> list[Grant | None]:
        """See `BudgetStore.acquire`."""
        grants: list[Grant | None] = [None] * len(requests)
        places: dict[int, list[int]] = {}
        for i, request in enumerate(requests):
            places.setdefault(request.campaign_id, []).append(i)
        for campaign_id, at in places.items():
            creator_id = self._creator_of(campaign_id)
            if creator_id is None:
                continue
            asked = [requests[i] for i in at]
            amounts = self._change(
                creator_id, "grant", creator_id, self._quarantine_ms, campaign_id, self._owner_id, asked
            )
            for i, amount in zip(at, amounts, strict=True):
                if amount:
                    grants[i] = Grant(requests[i], amount)
        return grants

    def release(self, campaign_id: int, lease_id: int, amount_micros: int, closed: bool, serial: int = 0) -> int:
        """See `BudgetStore.release`."""
        creator_id = self._creator_of(campaign_id)
        if creator_id is None:
            return 0
        told = (campaign_id, lease_id, amount_micros, closed, serial)
        released: int = self._change(creator_id, "give_back", *told, self._kept_ms)
        return released

    def settle(self, claims: np.ndarray) -> np.ndarray:
        """See `BudgetStore.settle`."""
        verdicts = self.decide(claims)
        verdicts[verdicts == NO_ACCOUNT] = Verdict.OVER_DELIVERY
        return verdicts

    def decide(self, claims: np.ndarray) -> np.ndarray:
        """See `RemoteStore.decide`."""
        return self._decide(claims, is_known=False)

    def settle_again(self, claims: np.ndarray) -> np.ndarray:
        """See `RedisStore.settle_again`."""
        return self._decide(claims, is_known=True)

    def _decide(self, claims: np.ndarray, is_known: bool) -> np.ndarray:
        check_claims(claims)
        verdicts = np.full(len(claims), NO_ACCOUNT, np.uint8)
        told: dict[int, tuple[list[int], list[Claim]]] = {}
        columns = (claims[name].tolist() for name in claims.dtype.names or ())
        for i, (campaign_id, *rest, sequence) in enumerate(zip(*columns, strict=True)):
            teller = self._owner_id << OWNER_SHIFT | sequence if sequence else 0
            places, batch = told.setdefault(campaign_id, ([], []))
            places.append(i)
            batch.append((campaign_id, *rest, teller))
        for campaign_id, (places, batch) in told.items():
            creator_id = self._creator_of(campaign_id)
            if creator_id is not None and self._zone_of(campaign_id, creator_id) is not None:
                home = (creator_id, self._quarantine_ms, self._owner_id)
                decided = self._change(creator_id, "decide", *home, batch, self._kept_ms, is_known)
                verdicts[places] = decided
        undecided = int((verdicts == UNDECIDED).sum())
        if undecided:
            raise NotDecided(undecided)
        return verdicts

    def _zone_of(self, campaign_id: int, creator_id: int) -> str | None:
        zone = self._zones.get(campaign_id)
        if zone is None:
            account = self._look(creator_id)[0].accounts.get(campaign_id)
            if account is None:
                return None
            zone = self._zones[campaign_id] = account.zone
        return zone

    def account(self, campaign_id: int) -> Account | None:
        """See `BudgetStore.account`."""
        creator_id = self._creator_of(campaign_id)
        return None if creator_id is None else self._look(creator_id)[0].copied_account(campaign_id)

    def accounts(self, campaign_ids: Iterable[int]) -> dict[int, Account]:
        """See `RedisStore.accounts`."""
        found = {campaign_id: self.account(campaign_id) for campaign_id in campaign_ids}
        return {campaign_id: account for campaign_id, account in found.items() if account is not None}

    def unsettled_micros(self, campaign_id: int, lease_ids: Iterable[int]) -> int:
        """See `BudgetStore.unsettled_micros`."""
        creator_id = self._creator_of(campaign_id)
        if creator_id is None:
            return 0
        keys, at = self._look(creator_id)
        return sum(keys.left_micros(at, campaign_id, lease_id) for lease_id in lease_ids)

    def forget(self, before_at_ms: int) -> None:
        """See `BudgetStore.forget`; about campaigns that this store has seen."""
        for campaign_id, creator_id in list(self._creators.items()):
            self._change(creator_id, "forget_days", campaign_id, before_at_ms)

    def reclaim(self, before_at_ms: int) -> int:
        """See `BudgetStore.reclaim`; about campaigns that this store has seen."""
        taken = 0
        for campaign_id, creator_id in list(self._creators.items()):
            if self._look(creator_id)[0].has_ended(campaign_id, before_at_ms):
                home = (self._quarantine_ms, campaign_id)
                taken += max(0, self._change(creator_id, "take_back", *home, before_at_ms, self._kept_ms))
        return taken

    def epochs(self, creator_ids: Iterable[int]) -> dict[int, Epoch]:
        """See `RedisStore.epochs`."""
        return {
            creator_id: self._change(creator_id, "note_epoch", creator_id, self._quarantine_ms)
            for creator_id in creator_ids
        }

    def settled_again(self, creator_id: int, epoch_number: int) -> int:
        """See `RedisStore.settled_again`."""
        home = (creator_id, self._quarantine_ms, self._owner_id)
        number: int = self._change(creator_id, "settled_again", *home, epoch_number)
        if number > epoch_number:
            self.list_reopened({creator_id: number})
        return number

    def list_reopened(self, notes: Mapping[int, int]) -> None:
        """See `RedisStore.list_reopened`."""
        self._change(_LISTED_AT, "list_reopened", notes, self._kept_ms)

    def retire(self, creator_ids: Iterable[int]) -> None:
        """See `RedisStore.retire`."""
        for creator_id in creator_ids:
            self._change(creator_id, "retire_owner", creator_id, self._owner_id)

    def restate(self, leases: Sequence[LeaseState]) -> None:
        """See `RedisStore.restate`."""
        by_campaign: dict[int, list[LeaseState]] = {}
        for lease in leases:
            by_campaign.setdefault(lease.campaign_id, []).append(lease)
        for campaign_id, mine in by_campaign.items():
            creator_id = self._creator_of(campaign_id)
            if creator_id is not None:
                self._change(creator_id, "restate", campaign_id, self._owner_id, mine, self._kept_ms)

    def reopen(self, account: Account) -> bool:
        """See `RedisStore.reopen`."""
        campaign_id, creator_id = account.campaign_id, account.creator_id
        if self._change(campaign_id, "enter_campaign", campaign_id, creator_id) != creator_id:
            return False
        if campaign_id in self._look(creator_id)[0].accounts:
            return False
        self.list_reopened({creator_id: account.opened_at_ms})
        owners = sorted(self._masters.owners | {self._owner_id})
        lost = replace(account, flight=replace(account.flight), days={})
        is_opened: bool = self._change(creator_id, "reopen", self._quarantine_ms, lost, owners)
        return is_opened

    def reopened(self) -> dict[int, int]:
        """See `RedisStore.reopened`; asked right after the replication ids, so as reachable as they were."""
        keys, at = self._masters.look(self._masters.number_of(_LISTED_AT))
        return keys.reopened(at)

    def mark(self, judged_sequence: int) -> None:
        """See `RemoteStore.mark`."""
        self._change(self._owner_id, "mark", self._owner_id, judged_sequence)

    def marked_sequence(self) -> int:
        """See `RemoteStore.marked_sequence`."""
        return self._look(self._owner_id)[0].marked_sequence(self._owner_id)

    def last_mark_at_ms(self) -> int:
        """See `RemoteStore.last_mark_at_ms`."""
        return max(self._look(number)[0].last_mark_at_ms() for number in range(len(self._masters)))

    def replication_ids(self) -> frozenset[str]:
        """See `RedisStore.replication_ids`."""
        for number in range(len(self._masters)):
            self._reach(number)
        return self._masters.replication_ids()

    def close(self) -> None:
        """See `BudgetStore.close`."""
