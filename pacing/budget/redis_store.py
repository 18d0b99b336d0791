"""The shared budget store: accounts and leases of many servers, in Redis or Redis Cluster.

All keys of a creator carry one hash tag, so they lie in one slot and a script may touch several of them. Where a
campaign or a lease is at home is told by two directories, which lie anywhere. Scripts are `lua/*.lua`; they hold the
layouts of what is stored.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from pacing.budget.account import Account, EffectiveCaps
from pacing.budget.marks_redis import mark_call, marks_from
from pacing.budget.owner_redis import OWNERS
from pacing.budget.scripts_redis import (
    ACQUIRE,
    FORGET_DAYS,
    NOTE_EPOCH,
    RECLAIM,
    RELEASE,
    REOPEN,
    RESTATE,
    SET_CAPS,
    SETTLE,
    SETTLED_AGAIN,
    NotedEpoch,
    account_from,
    epoch_from,
)
from pacing.budget.store import (
    GRANT_BIDS,
    GRANT_SHARE,
    AccountLost,
    CapsRequest,
    Epoch,
    Grant,
    JudgedMark,
    LeaseRequest,
    LeaseState,
    NotDecided,
    StoreRefused,
    StoreUnavailable,
    check_claims,
)
from pacing.clocks import MS_PER_DAY, MS_PER_HOUR
from pacing.days import local_day
from pacing.facts import Verdict
from pacing.ledger.owners import OWNER_SHIFT
from pacing.money import MAX_AMOUNT_MICROS
from pacing.redis_link import TIMEOUT_MS, Command, RedisLink, RedisRefused, RedisUnavailable

KEPT_MS = 2 * MS_PER_HOUR
QUARANTINE_MS = MS_PER_HOUR + 5 * 60_000
"""After a failover nothing is granted for this long: a lease's life, its grace, and the time until it is noticed."""

CLOCK_ERROR_MS = 5_000
"""By how much a server's clock may differ from that of Redis, where a bid is from before or after a failover."""

CALL_CLAIMS = 1_000
"""Claims in one call, at most: Lua cannot pass on more than some thousand values at once."""
REMEMBERED_LEASES = 2**16
_RECLAIMED_LEASES = 500
_REOPENED = "fanbid:reopened"

_PACKED_CLAIM = np.dtype([("lease", "<u2"), ("hold_seq", "<u8"), ("amount_micros", "<i8"), ("teller", "<u8")])
"""A claim as settle.lua reads it."""


def _campaign_entry(campaign_id: int) -> str:
    """Key of the directory's answer to: whose is this campaign?"""
    return f"fanbid:campaign:{campaign_id}"


def _lease_entry(lease_id: int) -> str:
    """Key of the directory's answer to: of which campaign is this lease?"""
    return f"fanbid:lease:{lease_id}"


def _home(creator_id: int, noun: str, number: int | str) -> str:
    """Key of something of a creator's; the braces hold the hash tag."""
    return f"fanbid:{{{creator_id}}}:{noun}:{number}"


def _epoch_key(creator_id: int) -> str:
    return f"fanbid:{{{creator_id}}}:epoch"


class RedisStore:
    """A `BudgetStore` that several servers share. Any thread may call any method."""

    def __init__(
        self,
        url: str | RedisLink,
        owner_id: int,
        timeout_ms: int = TIMEOUT_MS,
        kept_ms: int = KEPT_MS,
        quarantine_ms: int = QUARANTINE_MS,
    ) -> None:
        """Connect.

        Args:
            url: of the Redis, or of any node of the cluster; or a link that is there.
            owner_id: of the ledger whose rows are settled here, 0..65535; no two servers share one.
            timeout_ms: to connect, and for each answer.
            kept_ms: how long a lease and what was told about it are remembered after it is closed and settled.
            quarantine_ms: how long nothing is granted after a failover; longer than any lease lives, with its grace.

        Raises:
            ValueError: a time or the URL cannot be used.
            StoreUnavailable: nobody answers there.
        """
        if not 0 <= owner_id < 2**16:
            raise ValueError(f"owner_id {owner_id}: not in 0..{2**16 - 1}")
        if not 0 <= quarantine_ms < kept_ms:
            raise ValueError(f"quarantine_ms {quarantine_ms}: not in 0..{kept_ms - 1}, below kept_ms")
        self._owner_id = owner_id
        self._teller_base = np.uint64(owner_id) << np.uint64(OWNER_SHIFT)
        self._kept_ms = kept_ms
        self._quarantine_ms = quarantine_ms
        self._creators: dict[int, int] = {}
        self._zones: dict[int, str] = {}
        self._campaigns: OrderedDict[int, int] = OrderedDict()  # of leases
        self._lock = threading.Lock()
        with _told_as_unavailable():
            self._link = RedisLink(url, timeout_ms) if isinstance(url, str) else url

    def _run(self, commands: Sequence[Command]) -> list[Any]:
        with _told_as_unavailable():
            return self._link.run(commands)

    # --- where things are ---------------------------------------------------------------------------------------

    def _find_creators(self, campaign_ids: Iterable[int]) -> dict[int, int]:
        """The creators of campaigns; unknown campaigns are left out."""
        wanted = set(campaign_ids)
        missing = [campaign_id for campaign_id in wanted if campaign_id not in self._creators]
        for campaign_id, found in zip(
            missing, self._run([("GET", _campaign_entry(campaign_id)) for campaign_id in missing]), strict=True
        ):
            if found is not None:
                self._creators[campaign_id] = int(found)
        return {campaign_id: self._creators[campaign_id] for campaign_id in wanted if campaign_id in self._creators}

    def _find_zones(self, creators: dict[int, int]) -> dict[int, str]:
        """The zones of campaigns, by their creators; those without accounts are left out."""
        missing = [campaign_id for campaign_id in creators if campaign_id not in self._zones]
        commands = [("HGET", _home(creators[number], "account", number), "zone") for number in missing]
        for campaign_id, found in zip(missing, self._run(commands), strict=True):
            if found is not None:
                self._zones[campaign_id] = found.decode()
        return {campaign_id: self._zones[campaign_id] for campaign_id in creators if campaign_id in self._zones}

    def _remember_lease(self, lease_id: int, campaign_id: int) -> None:
        with self._lock:
            self._campaigns[lease_id] = campaign_id
            if len(self._campaigns) > REMEMBERED_LEASES:
                self._campaigns.popitem(last=False)

    def _find_leases(self, lease_ids: Iterable[int]) -> list[tuple[int, int, int]]:
        """(lease_id, campaign_id, creator_id) of the leases that are known."""
        wanted = list(lease_ids)
        missing = [lease_id for lease_id in wanted if lease_id not in self._campaigns]
        for lease_id, found in zip(
            missing, self._run([("GET", _lease_entry(lease_id)) for lease_id in missing]), strict=True
        ):
            if found is not None:
                self._remember_lease(lease_id, int(found))
        known = [(lease_id, self._campaigns.get(lease_id)) for lease_id in wanted]
        creators = self._find_creators(campaign_id for _, campaign_id in known if campaign_id is not None)
        return [
            (lease_id, campaign_id, creators[campaign_id])
            for lease_id, campaign_id in known
            if campaign_id is not None and campaign_id in creators
        ]

    # --- the contract -------------------------------------------------------------------------------------------

    def set_caps(self, caps: CapsRequest) -> EffectiveCaps:
        """See `BudgetStore.set_caps`."""
        campaign_id, creator_id, zone = caps.campaign_id, caps.creator_id, caps.zone
        day_key = local_day(caps.now_ms, zone).day_key
        entry = _campaign_entry(campaign_id)
        _, found = self._run([("SETNX", entry, creator_id) if caps.opening else ("EXISTS", entry), ("GET", entry)])
        if found is None:
            raise AccountLost(campaign_id)
        caps.check_opened_with("creator_id", int(found))
        keys = [_home(creator_id, "account", campaign_id), _epoch_key(creator_id)]
        arguments = (
            self._quarantine_ms, creator_id, zone, caps.daily_cap_micros, caps.total_cap_micros, day_key,
            caps.revision, int(caps.opening), caps.now_ms,
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
        asked = [requests[i] for at in places.values() for i in at]
        answers = self._run([*calls, *(self._entry_call(request) for request in asked)])
        grants: list[Grant | None] = [None] * len(requests)
        for at, amounts in zip(places.values(), answers, strict=False):
            for i, amount in zip(at, amounts, strict=True):
                if amount:
                    grants[i] = Grant(requests[i], amount)
                    self._remember_lease(requests[i].lease_id, requests[i].campaign_id)
        return grants

    def _acquire_call(self, campaign_id: int, creator_id: int, requests: Sequence[LeaseRequest]) -> Command:
        keys = [
            _home(creator_id, "account", campaign_id),
            _home(creator_id, "ends", campaign_id),
            _epoch_key(creator_id),
        ]
        arguments: list[Any] = [campaign_id, self._quarantine_ms, GRANT_SHARE, GRANT_BIDS, self._owner_id]
        for request in requests:
            keys.append(_home(creator_id, "lease", request.lease_id))
            arguments += (
                request.lease_id,
                request.day_key,
                request.start_at_ms,
                request.end_at_ms,
                min(request.want_micros, MAX_AMOUNT_MICROS),  # so that Lua counts it exactly; more is never free
                min(request.least_micros, MAX_AMOUNT_MICROS + 1),
            )
        return ACQUIRE.call(keys, arguments)

    def _entry_call(self, lease: LeaseRequest | LeaseState) -> Command:
        expiry_ms = max(0, lease.end_at_ms - lease.start_at_ms) + 2 * self._kept_ms
        return ("SET", _lease_entry(lease.lease_id), lease.campaign_id, "PX", expiry_ms)

    def release(self, lease_id: int, amount_micros: int, closed: bool, serial: int = 0) -> int:
        """See `BudgetStore.release`."""
        for _, campaign_id, creator_id in self._find_leases([lease_id]):
            keys = [
                _home(creator_id, "account", campaign_id),
                _home(creator_id, "ends", campaign_id),
                _home(creator_id, "lease", lease_id),
            ]
            arguments = (lease_id, min(amount_micros, MAX_AMOUNT_MICROS), int(closed), serial, self._kept_ms)
            (released,) = self._run([RELEASE.call(keys, arguments)])
            return int(released)
        return 0

    def settle(self, claims: np.ndarray) -> np.ndarray:
        """See `BudgetStore.settle`."""
        return self._settle(claims, is_known=False)

    def settle_again(self, claims: np.ndarray) -> np.ndarray:
        """See `RemoteStore.settle_again`. Answers u1[n], each a Verdict."""
        return self._settle(claims, is_known=True)

    def _settle(self, claims: np.ndarray, is_known: bool) -> np.ndarray:
        check_claims(claims)
        verdicts = np.full(len(claims), Verdict.OVER_DELIVERY, np.uint8)
        campaign_ids, inverse = np.unique(claims["campaign_id"], return_inverse=True)
        creators = self._find_creators(campaign_ids.tolist())
        zones = self._find_zones(creators)
        order = np.argsort(inverse, kind="stable")
        bounds = np.searchsorted(inverse[order], np.arange(len(campaign_ids) + 1))
        calls: list[Command] = []
        places: list[np.ndarray] = []
        for i, campaign_id in enumerate(campaign_ids.tolist()):
            if campaign_id not in zones:
                continue
            for first in range(bounds[i], bounds[i + 1], CALL_CLAIMS):
                at = order[first : min(bounds[i + 1], first + CALL_CLAIMS)]
                home = (campaign_id, creators[campaign_id], zones[campaign_id])
                calls.append(self._settle_call(*home, claims[at], is_known))
                places.append(at)
        for at, digits in zip(places, self._run(calls), strict=True):
            verdicts[at] = np.frombuffer(digits, np.uint8) - ord("0")
        if (verdicts == Verdict.OVER_DELIVERY).any():
            with _told_as_unavailable():
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
        packed["teller"] = np.where(sequences > 0, sequences | self._teller_base, 0)
        keys = [
            _home(creator_id, "account", campaign_id),
            _home(creator_id, "ends", campaign_id),
            _epoch_key(creator_id),
        ]
        arguments: list[Any] = [campaign_id, self._kept_ms, packed.tobytes(), int(is_known), self._quarantine_ms]
        arguments.append(CLOCK_ERROR_MS)
        for lease_id, issued_at_ms in zip(lease_ids.tolist(), issued.tolist(), strict=True):
            keys.append(_home(creator_id, "lease", lease_id))
            arguments += (lease_id, local_day(issued_at_ms, zone).day_key, issued_at_ms)
        return SETTLE.call(keys, arguments)

    def account(self, campaign_id: int) -> Account | None:
        """See `BudgetStore.account`; each call asks Redis."""
        return self.accounts([campaign_id]).get(campaign_id)

    def accounts(self, campaign_ids: Iterable[int]) -> dict[int, Account]:
        """The present accounts of campaigns, asked for in one go; unknown ones are left out."""
        creators = self._find_creators(campaign_ids)
        commands = [("HGETALL", _home(creator_id, "account", number)) for number, creator_id in creators.items()]
        found = zip(creators, self._run(commands), strict=True)
        accounts = ((campaign_id, account_from(campaign_id, fields)) for campaign_id, fields in found)
        return {campaign_id: account for campaign_id, account in accounts if account is not None}

    def unsettled_micros(self, lease_ids: Iterable[int]) -> int:
        """See `BudgetStore.unsettled_micros`."""
        commands = [
            ("HGET", _home(creator_id, "lease", lease_id), "remaining")
            for lease_id, _, creator_id in self._find_leases(lease_ids)
        ]
        return sum(int(left) for left in self._run(commands) if left is not None)

    def forget(self, before_at_ms: int) -> None:
        """See `BudgetStore.forget`; about campaigns that this store has seen. Tombstones expire by themselves."""
        homes = list(self._creators.items())
        found = self._run([("HGETALL", _home(creator_id, "account", number)) for number, creator_id in homes])
        calls = []
        for (campaign_id, creator_id), fields in zip(homes, found, strict=True):
            account = account_from(campaign_id, fields)
            if account is not None:
                before = set(account.days)
                account.forget_days(before_at_ms - MS_PER_DAY)
                over = before - set(account.days)
                if over:
                    calls.append(FORGET_DAYS.call([_home(creator_id, "account", campaign_id)], sorted(over)))
        self._run(calls)

    def reclaim(self, before_at_ms: int) -> int:
        """See `BudgetStore.reclaim`; about campaigns that this store has seen."""
        return sum(self._reclaim(*home, before_at_ms) for home in self._ended(before_at_ms))

    def _ended(self, before_at_ms: int) -> list[tuple[int, int]]:
        """(campaign_id, creator_id) of campaigns that have leases to take back."""
        homes = list(self._creators.items())
        commands = [
            ("ZCOUNT", _home(creator_id, "ends", campaign_id), "-inf", f"({before_at_ms}")
            for campaign_id, creator_id in homes
        ]
        return [home for home, count in zip(homes, self._run(commands), strict=True) if count]

    def _reclaim(self, campaign_id: int, creator_id: int, before_at_ms: int) -> int:
        account, ends = _home(creator_id, "account", campaign_id), _home(creator_id, "ends", campaign_id)
        reclaimed = 0
        while True:
            (lease_ids,) = self._run(
                [("ZRANGEBYSCORE", ends, "-inf", f"({before_at_ms}", "LIMIT", 0, _RECLAIMED_LEASES)]
            )
            if not lease_ids:
                return reclaimed
            leases = [_home(creator_id, "lease", lease_id.decode()) for lease_id in lease_ids]
            arguments = (before_at_ms, self._kept_ms, *lease_ids)
            (taken,) = self._run([RECLAIM.call([account, ends, *leases], arguments)])
            reclaimed += taken

    # --- after a failover ---------------------------------------------------------------------------------------

    def epochs(self, creator_ids: Iterable[int]) -> dict[int, Epoch]:
        """In which epoch the keys of each creator are.

        A new one begins when another Redis has taken over the keys, or the same one was started again. `acquire`
        notices that by itself; this is for owners, who then settle again what they settled lately.
        """
        wanted = list(creator_ids)
        calls = [NOTE_EPOCH.call([_epoch_key(creator_id)], [self._quarantine_ms]) for creator_id in wanted]
        return {
            creator_id: Epoch(number, refused_ms, tuple(sorted(behind)))
            for creator_id, (number, refused_ms, behind) in zip(wanted, self._run(calls), strict=True)
        }

    def settled_again(self, creator_id: int, epoch_number: int) -> int:
        """Say that this owner has, in an epoch, settled again all that Redis may have lost; answers the present one.

        Grants wait for every owner that ever had one from the creator's keys.
        """
        arguments = (self._quarantine_ms, self._owner_id, epoch_number)
        (number,) = self._run([SETTLED_AGAIN.call([_epoch_key(creator_id)], arguments)])
        return int(number)

    def restate(self, leases: Sequence[LeaseState]) -> None:
        """Say what is left of this owner's leases, in case their grants, or what was given back of them, are lost.

        Charges that may be lost are to be told before. The directory of leases is told again too.
        """
        creators = self._find_creators(lease.campaign_id for lease in leases)
        by_campaign: dict[int, list[LeaseState]] = {}
        for lease in leases:
            if lease.campaign_id in creators:
                by_campaign.setdefault(lease.campaign_id, []).append(lease)
        calls = [self._entry_call(lease) for mine in by_campaign.values() for lease in mine]
        for campaign_id, mine in by_campaign.items():
            for first in range(0, len(mine), _RECLAIMED_LEASES):
                calls.append(
                    self._restate_call(campaign_id, creators[campaign_id], mine[first : first + _RECLAIMED_LEASES])
                )
        self._run(calls)

    def _restate_call(self, campaign_id: int, creator_id: int, leases: Sequence[LeaseState]) -> Command:
        keys = [_home(creator_id, "account", campaign_id), _home(creator_id, "ends", campaign_id)]
        arguments: list[Any] = [campaign_id, self._kept_ms]
        for lease in leases:
            keys.append(_home(creator_id, "lease", lease.lease_id))
            arguments += (lease.lease_id, lease.day_key, lease.amount_micros, lease.remaining_micros)
            arguments += (lease.start_at_ms, lease.end_at_ms, int(lease.closed))
        return RESTATE.call(keys, arguments)

    def reopen(self, account: Account) -> bool:
        """See `RemoteStore.reopen`."""
        campaign_id, creator_id = account.campaign_id, account.creator_id
        entry, key = _campaign_entry(campaign_id), _home(creator_id, "account", campaign_id)
        _, found, is_there = self._run([("SETNX", entry, creator_id), ("GET", entry), ("EXISTS", key)])
        if is_there or int(found) != creator_id:
            return False
        listed = ("HSET", _REOPENED, creator_id, account.opened_at_ms)
        _, _, joined = self._run([listed, ("PEXPIRE", _REOPENED, self._kept_ms), ("HKEYS", OWNERS)])
        owners = {self._owner_id, *map(int, joined)}
        caps = (account.daily_cap_micros, account.flight.cap_micros, account.revision)
        arguments = (self._quarantine_ms, creator_id, account.zone, *caps, account.opened_at_ms, *sorted(owners))
        (opened,) = self._run([REOPEN.call([key, _epoch_key(creator_id)], arguments)])
        return bool(opened)

    def reopened(self) -> list[int]:
        """See `RemoteStore.reopened`."""
        (found,) = self._run([("HKEYS", _REOPENED)])
        return sorted(map(int, found))

    def mark(self, judged_sequence: int) -> None:
        """See `RemoteStore.mark`."""
        self._run([mark_call(self._owner_id, judged_sequence)])

    def marks(self) -> list[JudgedMark]:
        """See `RemoteStore.marks`."""
        (answer,) = self._run([mark_call(self._owner_id, None)])
        return marks_from(answer)

    def replication_ids(self) -> frozenset[str]:
        """Of all masters; another set means that one was replaced or started again, and may lack its last writes."""
        with _told_as_unavailable():
            return self._link.replication_ids()

    def retire(self, creator_ids: Iterable[int]) -> None:
        """Let no grant wait for this owner any more: its claims are settled for good, or somebody else's to settle."""
        self._run([("HDEL", _epoch_key(creator_id), f"owner:{self._owner_id}") for creator_id in creator_ids])

    def close(self) -> None:
        """See `BudgetStore.close`."""
        self._link.close()


def noted_epochs(link: RedisLink, creator_ids: Sequence[int]) -> list[NotedEpoch]:
    """What servers noted of each creator's keys; no epoch begins by this. Raises RedisUnavailable: no answer."""
    return [epoch_from(stored) for stored in link.run([("HGETALL", _epoch_key(number)) for number in creator_ids])]


def creator_ids(link: RedisLink) -> list[int]:
    """Every creator who has accounts in this Redis, found by looking at all keys.

    Raises:
        RedisUnavailable: it does not answer.
    """
    return sorted(int(key.split("{")[1].split("}")[0]) for key in link.scan("fanbid:{*}:epoch"))


@contextmanager
def _told_as_unavailable() -> Iterator[None]:
    try:
        yield
    except RedisRefused as error:
        raise StoreRefused(str(error)) from None
    except RedisUnavailable as error:
        raise StoreUnavailable(str(error)) from None
