"""The shared budget store: accounts and leases of many servers, in Redis or Redis Cluster."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from pacing.budget.account import Account, EffectiveCaps
from pacing.budget.redis_epochs import CALL_LEASES, LIST_OWNERS, RedisEpochs
from pacing.budget.redis_places import CLOCK_ERROR_MS, campaign_entry, epoch_key, home_key, told_as_unavailable
from pacing.budget.remote import NO_ACCOUNT
from pacing.budget.scripts_redis import (
    ACQUIRE,
    FORGET_DAYS,
    RECLAIM,
    RELEASE,
    SET_CAPS,
    SETTLE,
    account_from,
)
from pacing.budget.store import (
    GRANT_BIDS,
    GRANT_SHARE,
    AccountLost,
    CapsRequest,
    Grant,
    LeaseRequest,
    NotDecided,
    check_claims,
)
from pacing.clocks import MS_PER_DAY
from pacing.days import local_day
from pacing.facts import OWNER_SHIFT, Verdict
from pacing.money import MAX_AMOUNT_MICROS
from pacing.redis_link import Command

CALL_CLAIMS = 1_000
"""Claims in one call, at most: Lua cannot pass on more than some thousand values at once."""

_PACKED_CLAIM = np.dtype([("lease", "<u2"), ("hold_seq", "<u8"), ("amount_micros", "<i8"), ("teller", "<u8")])
"""A claim as settle.lua reads it."""


class RedisStore(RedisEpochs):
    """A `BudgetStore` that several servers share. Any thread may call any method."""

    def set_caps(self, caps: CapsRequest) -> EffectiveCaps:
        """See `BudgetStore.set_caps`."""
        campaign_id, creator_id, zone = caps.campaign_id, caps.creator_id, caps.zone
        day_key = local_day(caps.now_ms, zone).day_key
        entry = campaign_entry(campaign_id)
        first = ("SETNX", entry, creator_id) if caps.opening else ("EXISTS", entry)
        _, found, *joined = self._run([first, ("GET", entry), *LIST_OWNERS])
        if found is None:
            raise AccountLost(campaign_id)
        caps.check_opened_with("creator_id", int(found))
        keys = [home_key(creator_id, "account", campaign_id), epoch_key(creator_id)]
        arguments = (
            self._quarantine_ms, creator_id, zone, caps.daily_cap_micros, caps.total_cap_micros, day_key,
            caps.revision, int(caps.opening), caps.now_ms, self._owner_id,
            *(self._joined_of(*joined) - {self._owner_id}),
        )  # fmt: skip
        ((stored_zone, daily, total),) = self._run([SET_CAPS.call(keys, arguments)])
        if not stored_zone:
            raise AccountLost(campaign_id)
        caps.check_opened_with("zone", stored_zone.decode())
        self._creators[campaign_id], self._zones[campaign_id] = creator_id, zone
        return EffectiveCaps(daily, total)

    def acquire(self, requests: Sequence[LeaseRequest]) -> list[Grant | None]:
        """See `BudgetStore.acquire`."""
        creators = self._find_creators(request.campaign_id for request in requests)
        places: dict[int, list[int]] = {}
        for i, request in enumerate(requests):
            if request.campaign_id in creators:
                places.setdefault(request.campaign_id, []).append(i)
        calls = [
            self._acquire_call(campaign_id, creators[campaign_id], [requests[i] for i in at])
            for campaign_id, at in places.items()
        ]
        answers = self._run(calls)
        grants: list[Grant | None] = [None] * len(requests)
        for at, amounts in zip(places.values(), answers, strict=True):
            for i, amount in zip(at, amounts, strict=True):
                if amount:
                    grants[i] = Grant(requests[i], amount)
        return grants

    def _acquire_call(self, campaign_id: int, creator_id: int, requests: Sequence[LeaseRequest]) -> Command:
        keys = [
            home_key(creator_id, "account", campaign_id),
            home_key(creator_id, "ends", campaign_id),
            epoch_key(creator_id),
        ]
        arguments: list[Any] = [campaign_id, self._quarantine_ms, GRANT_SHARE, GRANT_BIDS, self._owner_id]
        for request in requests:
            keys.append(home_key(creator_id, "lease", request.lease_id))
            arguments += (
                request.lease_id,
                request.day_key,
                request.start_at_ms,
                request.end_at_ms,
                min(request.want_micros, MAX_AMOUNT_MICROS),  # so that Lua counts it exactly; more is never free
                min(request.least_micros, MAX_AMOUNT_MICROS + 1),
            )
        return ACQUIRE.call(keys, arguments)

    def release(self, campaign_id: int, lease_id: int, amount_micros: int, closed: bool, serial: int = 0) -> int:
        """See `BudgetStore.release`."""
        creator_id = self._find_creators([campaign_id]).get(campaign_id)
        if creator_id is None:
            return 0
        keys = [
            home_key(creator_id, "account", campaign_id),
            home_key(creator_id, "ends", campaign_id),
            home_key(creator_id, "lease", lease_id),
        ]
        amount = min(amount_micros, MAX_AMOUNT_MICROS)
        (released,) = self._run(
            [RELEASE.call(keys, (lease_id, amount, int(closed), serial, self._kept_ms, campaign_id))]
        )
        return int(released)

    def settle(self, claims: np.ndarray) -> np.ndarray:
        """See `BudgetStore.settle`."""
        verdicts = self.decide(claims)
        verdicts[verdicts == NO_ACCOUNT] = Verdict.OVER_DELIVERY
        return verdicts

    def decide(self, claims: np.ndarray) -> np.ndarray:
        """See `RemoteStore.decide`."""
        return self._decide(claims, is_known=False)

    def settle_again(self, claims: np.ndarray) -> np.ndarray:
        """See `RemoteStore.settle_again`. Answers u1[n], each a Verdict, or NO_ACCOUNT."""
        return self._decide(claims, is_known=True)

    def _decide(self, claims: np.ndarray, is_known: bool) -> np.ndarray:
        check_claims(claims)
        verdicts = np.full(len(claims), NO_ACCOUNT, np.uint8)
        campaign_ids, inverse = np.unique(claims["campaign_id"], return_inverse=True)
        creators = self._find_creators(campaign_ids.tolist())
        zones = self._find_zones(creators)
        order = np.argsort(inverse, kind="stable")
        bounds = np.searchsorted(inverse[order], np.arange(len(campaign_ids) + 1))
        # A campaign's second call leaves when the first was answered: settle.lua relies on the order.
        for skipped in range(0, int(np.diff(bounds).max(initial=0)), CALL_CLAIMS):
            calls: list[Command] = []
            places: list[np.ndarray] = []
            for i, campaign_id in enumerate(campaign_ids.tolist()):
                at = order[bounds[i] + skipped : min(bounds[i + 1], bounds[i] + skipped + CALL_CLAIMS)]
                if len(at) and campaign_id in zones:
                    home = (campaign_id, creators[campaign_id], zones[campaign_id])
                    calls.append(self._settle_call(*home, claims[at], is_known))
                    places.append(at)
            for at, digits in zip(places, self._run(calls), strict=True):
                verdicts[at] = np.frombuffer(digits, np.uint8) - ord("0")
            if (verdicts == 0).any():
                break
        if np.isin(verdicts, (Verdict.OVER_DELIVERY, NO_ACCOUNT)).any():
            with told_as_unavailable():
                self._link.confirm()  # another Redis would say so of every claim
        undecided = int((verdicts == 0).sum())
        if undecided:
            raise NotDecided(undecided)
        return verdicts

    def _settle_call(self, campaign_id: int, creator_id: int, zone: str, claims: np.ndarray, is_known: bool) -> Command:
        lease_ids, inverse = np.unique(claims["lease_id"], return_inverse=True)
        issued = np.full(len(lease_ids), np.iinfo(np.int64).max)
        np.minimum.at(issued, inverse, claims["issued_at_ms"])
        packed = np.empty(len(claims), _PACKED_CLAIM)
        packed["lease"] = inverse + 1
        packed["hold_seq"], packed["amount_micros"] = claims["hold_seq"], claims["amount_micros"]
        sequences = claims["sequence"]
        teller_base = np.uint64(self._owner_id) << np.uint64(OWNER_SHIFT)
        packed["teller"] = np.where(sequences > 0, sequences | teller_base, 0)
        keys = [
            home_key(creator_id, "account", campaign_id),
            home_key(creator_id, "ends", campaign_id),
            epoch_key(creator_id),
        ]
        arguments: list[Any] = [campaign_id, self._kept_ms, packed.tobytes(), int(is_known), self._quarantine_ms]
        arguments += (CLOCK_ERROR_MS, self._owner_id)
        for lease_id, issued_at_ms in zip(lease_ids.tolist(), issued.tolist(), strict=True):
            keys.append(home_key(creator_id, "lease", lease_id))
            arguments += (lease_id, local_day(issued_at_ms, zone).day_key, issued_at_ms)
        return SETTLE.call(keys, arguments)

    def account(self, campaign_id: int) -> Account | None:
        """See `BudgetStore.account`; each call asks Redis."""
        return self.accounts([campaign_id]).get(campaign_id)

    def accounts(self, campaign_ids: Iterable[int]) -> dict[int, Account]:
        """The present accounts of campaigns, asked for in one go; unknown ones are left out."""
        creators = self._find_creators(campaign_ids)
        commands = [("HGETALL", home_key(creator_id, "account", number)) for number, creator_id in creators.items()]
        found = zip(creators, self._run(commands), strict=True)
        accounts = ((campaign_id, account_from(campaign_id, fields)) for campaign_id, fields in found)
        return {campaign_id: account for campaign_id, account in accounts if account is not None}

    def unsettled_micros(self, campaign_id: int, lease_ids: Iterable[int]) -> int:
        """See `BudgetStore.unsettled_micros`."""
        creator_id = self._find_creators([campaign_id]).get(campaign_id)
        if creator_id is None:
            return 0
        keys = [home_key(creator_id, "lease", lease_id) for lease_id in lease_ids]
        found = self._run([("HMGET", key, "campaign_id", "remaining") for key in keys])
        return sum(int(left) for owner, left in found if owner is not None and int(owner) == campaign_id)

    def forget(self, before_at_ms: int) -> None:
        """See `BudgetStore.forget`; about campaigns that this store has seen. Tombstones expire by themselves."""
        homes = list(self._creators.items())
        found = self._run([("HGETALL", home_key(creator_id, "account", number)) for number, creator_id in homes])
        calls = []
        for (campaign_id, creator_id), fields in zip(homes, found, strict=True):
            account = account_from(campaign_id, fields)
            if account is not None:
                before = set(account.days)
                account.forget_days(before_at_ms - MS_PER_DAY)
                over = before - set(account.days)
                if over:
                    calls.append(FORGET_DAYS.call([home_key(creator_id, "account", campaign_id)], sorted(over)))
        self._run(calls)

    def reclaim(self, before_at_ms: int) -> int:
        """See `BudgetStore.reclaim`; about campaigns that this store has seen."""
        return sum(self._reclaim(*home, before_at_ms) for home in self._ended(before_at_ms))

    def _ended(self, before_at_ms: int) -> list[tuple[int, int]]:
        """(campaign_id, creator_id) of campaigns that have leases to take back."""
        homes = list(self._creators.items())
        commands = [
            ("ZCOUNT", home_key(creator_id, "ends", campaign_id), "-inf", f"({before_at_ms}")
            for campaign_id, creator_id in homes
        ]
        return [home for home, count in zip(homes, self._run(commands), strict=True) if count]

    def _reclaim(self, campaign_id: int, creator_id: int, before_at_ms: int) -> int:
        account, ends = home_key(creator_id, "account", campaign_id), home_key(creator_id, "ends", campaign_id)
        reclaimed = 0
        while True:
            (lease_ids,) = self._run([("ZRANGEBYSCORE", ends, "-inf", f"({before_at_ms}", "LIMIT", 0, CALL_LEASES)])
            if not lease_ids:
                return reclaimed
            leases = [home_key(creator_id, "lease", lease_id.decode()) for lease_id in lease_ids]
            arguments = (before_at_ms, self._kept_ms, self._quarantine_ms, *lease_ids)
            (taken,) = self._run([RECLAIM.call([account, ends, epoch_key(creator_id), *leases], arguments)])
            if taken < 0:
                return reclaimed
            reclaimed += taken
