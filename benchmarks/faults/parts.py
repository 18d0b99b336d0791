"""The protective parts of the money protocol, each of which can be switched off to see that the simulator notices.

A part is switched off by putting a subclass or a function of this file in the place of a shipped one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from benchmarks.faults import server
from benchmarks.faults.shared_keys import At, SharedKeys
from benchmarks.faults.shared_moments import CreatorEpoch
from pacing.budget import bank, memory, recovery
from pacing.budget.account import Account
from pacing.budget.bank import Bank
from pacing.budget.epochs import EpochWatch
from pacing.budget.holds import HoldBook
from pacing.budget.kernels import LAPSED, LOST
from pacing.budget.lease import LeaseKeeper
from pacing.budget.memory import MemoryStore, StoredLease, ToldClaim
from pacing.budget.recovery import Replayed, replay
from pacing.budget.settings import BankSettings
from pacing.budget.shared import SharedStore
from pacing.budget.store import SETTLEMENT, Epoch, LeaseRequest
from pacing.clocks import Clock
from pacing.days import day_of_key
from pacing.ledger import index
from pacing.ledger.log import Ledger

Substitute = tuple[Any, str, Any]


class _NoQuarantine(LeaseKeeper):
    def quarantine(self, lease_id: int, campaign_id: int, day_key: int, until_ms: int) -> None:
        super().quarantine(lease_id, campaign_id, day_key, until_ms=0)


def _forget_at_once(self: Bank, wall_ms: int) -> None:
    self._store.forget(wall_ms - self.settings.kept_ms)


class _NoWaitingForVerdicts(LeaseKeeper):
    def _finish_quarantine(self, wall_ms: int) -> None:
        for lease in self._quarantine.values():
            if wall_ms > lease.until_ms:
                lease.judged_after = 1
        super()._finish_quarantine(wall_ms)


class _NoLeaseTombstones(MemoryStore):
    """A closed lease is forgotten at once, and what accepted claims still need of it is free again."""

    def release(self, campaign_id: int, lease_id: int, amount_micros: int, closed: bool, serial: int = 0) -> int:
        if not closed:
            return super().release(campaign_id, lease_id, amount_micros, closed, serial)
        released = super().release(campaign_id, lease_id, 2**62, closed, serial)
        self.leases.pop(lease_id, None)
        return released


@dataclass(slots=True)
class _ReplayedWithoutTombstones(Replayed):
    store: MemoryStore = field(default_factory=_NoLeaseTombstones)


class _NoHoldTombstones(HoldBook):
    """Closed holds leave the ring at once, as if they had never been."""

    def classify(self, claims: np.ndarray, now_ms: int) -> None:
        super().classify(claims, now_ms)
        self._forget()

    def close_responses(self, first_seqs: np.ndarray, counts: np.ndarray) -> None:
        super().close_responses(first_seqs, counts)
        self._forget()

    def _forget(self) -> None:
        states = self._holds["state"]
        states[(states == LOST) | (states == LAPSED)] = 0


class _NoMemoryOfOwnHolds(Bank):
    """A hold that is not in the ring is taken for one of an earlier process."""

    def __init__(self, ledger: Ledger, clock: Clock, settings: BankSettings | None = None, *shared: Any) -> None:
        super().__init__(ledger, clock, settings, *shared)
        self._unbooked._first_seq = 2**64 - 1


class _NoGrace(Bank):
    def __init__(self, ledger: Ledger, clock: Clock, settings: BankSettings | None = None, *shared: Any) -> None:
        super().__init__(ledger, clock, replace(settings or BankSettings(), grace_ms=0), *shared)


def _forget_all_days(self: Account, before_at_ms: int) -> None:
    for day_key in list(self.days):
        if not self.days[day_key].leased_micros and day_of_key(day_key, self.zone).end_at_ms < before_at_ms:
            del self.days[day_key]


def _replay_nothing(ledger: Ledger, owner_id: int) -> Replayed:
    return Replayed()


def _replay_without_sequences(ledger: Ledger, owner_id: int) -> Replayed:
    state = replay(ledger, owner_id)
    state.counters.seq_bound = 1
    return state


def _every_claim_is_new(db: Any, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.ones(len(rows), np.bool_), rows["price_micros"].copy()


def _no_claim_was_told(db: Any, rows: np.ndarray) -> np.ndarray:
    return np.full(len(rows), -1, np.int64)


class _NoDoubt(HoldBook):
    """A bid that lapses here is taken for one that nobody billed."""

    def __init__(self, *arguments: Any) -> None:
        capacity, first_seq, seq_bound, win_notice_ms, billing_ms, _ = arguments
        super().__init__(capacity, first_seq, seq_bound, win_notice_ms, billing_ms)


class _NoSettlingAgain(EpochWatch):
    """Says that it has told everything again, and does not."""

    def _go_on(self) -> None:
        for creator_id, number in self._numbers.items():
            self._store.ask("settled_again", partial(self._remote.settled_again, creator_id, number))
        self._settled_ids, self._owed = self._owed, None


def _never_counted(self: SharedKeys, told_to: int, sequence: int) -> bool:
    return False


def _remember_nothing(self: SharedKeys, lease_id: int, hold_seq: int, told: ToldClaim) -> None:
    self._decided.add(lease_id)


def _is_never_refused(self: SharedKeys, standing: Epoch) -> bool:
    return False


def _never_from_before(self: SharedKeys, epoch: Any, issued_at_ms: int) -> bool:
    return False


def _tell_no_caps(self: SharedStore) -> None:
    pass


def _charged_nothing_last(self: SharedStore) -> np.ndarray:
    return np.zeros(0, SETTLEMENT)


def _may_not_wait(self: SharedKeys, epoch: CreatorEpoch, at: At, quarantine_ms: int) -> bool:
    return False


def _bury_nothing(self: SharedKeys, lease: StoredLease, at: At, kept_ms: int) -> None:
    self._ends[lease.campaign_id].pop(lease.lease_id, None)
    self._expires_at_ms[lease.lease_id] = at.at_ms


def _known_lease_of(self: SharedKeys, campaign_id: int, lease_id: int, issued_at_ms: int) -> StoredLease | None:
    return self.leases.get(lease_id)


def _reclaim_at_once(self: SharedStore, before_at_ms: int) -> int:
    return self.ask("reclaim", lambda: self._remote.reclaim(self._clock.wall_ms()))


_give_back = SharedKeys.give_back


def _give_back_unnumbered(
    self: SharedKeys,
    at: At,
    campaign_id: int,
    lease_id: int,
    amount_micros: int,
    closed: bool,
    serial: int,
    kept_ms: int,
) -> int:
    return _give_back(self, at, campaign_id, lease_id, amount_micros, closed, 0, kept_ms)


def _amount_whoever_asks(self: SharedKeys, known: StoredLease, request: LeaseRequest) -> int:
    return known.amount_micros


SEVERAL = 3
"""Servers of a world in which parts of a shared store are needed."""


@dataclass(frozen=True, slots=True)
class Part:
    """A protective part.

    Attributes:
        meaning: what it does, for the help.
        substitutes: what takes the place of which name of which module or class when it is switched off.
        servers: in worlds of how many it is needed: of one, on its own ledger, or of several on one store.
    """

    meaning: str
    substitutes: Sequence[Substitute]
    servers: int = 1


PARTS = {
    "quarantine": Part(
        "leases of a crashed process stay locked until no notice about them can be accepted",
        [(bank, "LeaseKeeper", _NoQuarantine)],
    ),
    "quarantine-verdicts": Part(
        "they stay locked, too, until what was accepted about them is judged",
        [(bank, "LeaseKeeper", _NoWaitingForVerdicts)],
    ),
    "grace": Part(
        "they stay locked for grace_ms more, for a wall clock that steps back",
        [(server, "Bank", _NoGrace)],
    ),
    "lease-tombstones": Part(
        "a closed lease covers the claims on it that are accepted and not judged yet",
        [(recovery, "Replayed", _ReplayedWithoutTombstones)],
    ),
    "waiting-leases": Part(
        "a lease is remembered while a claim on it waits for its verdict, however long ago it ended by a wrong clock",
        [(Bank, "_forget", _forget_at_once)],
    ),
    "claims": Part(
        "the ledger takes each claim once, for good",
        [(index, "add_claims", _every_claim_is_new), (index, "find_claims", _no_claim_was_told)],
    ),
    "store-claims": Part(
        "the store remembers claims; embedded, the ledger did so before it",
        [(memory, "REMEMBERED_CLAIMS", 0), (SharedKeys, "_remember", _remember_nothing)],
        servers=SEVERAL,
    ),
    "failover-quarantine": Part(
        "a shared store grants nothing after a failover until all servers have told what they have, and for a while",
        [(SharedKeys, "is_refused", _is_never_refused)],
        servers=SEVERAL,
    ),
    "settling-again": Part(
        "after a failover every server tells again what it charged and has, before anything is granted",
        [(server, "EpochWatch", _NoSettlingAgain)],
        servers=SEVERAL,
    ),
    "told-rows": Part(
        "an account says up to which row it has what a server charged, also when the leases are long forgotten",
        [(SharedKeys, "is_counted", _never_counted)],
        servers=SEVERAL,
    ),
    "unwritten-charges": Part(
        "what the store charged last is told again after a failover although no disk took it yet",
        [(SharedStore, "charged_last", _charged_nothing_last)],
        servers=2,
    ),
    "waiting-claims": Part(
        "after a failover no claim on a bid from before is decided until every server has told its charges again",
        [(SharedKeys, "is_from_before", _never_from_before)],
        servers=SEVERAL,
    ),
    "caps-again": Part(
        "after a failover the store is told the caps again that it had",
        [(SharedStore, "set_caps_again", _tell_no_caps)],
        servers=SEVERAL,
    ),
    "shared-tombstones": Part(
        "a shared store remembers a lease that is closed and settled, with its claims",
        [(SharedKeys, "_bury", _bury_nothing)],
        servers=SEVERAL,
    ),
    "rebuilding": Part(
        "a lease that a failover lost is rebuilt from the token of a claim on it",
        [(SharedKeys, "_lease_of", _known_lease_of)],
        servers=SEVERAL,
    ),
    "reclaim-grace": Part(
        "leases of servers that are gone are taken back only when no claim on them can come any more",
        [(SharedStore, "reclaim", _reclaim_at_once)],
        servers=SEVERAL,
    ),
    "reclaim-wait": Part(
        "nor before claims that waited for a failover's last owner have had time to be decided",
        [(SharedKeys, "may_wait", _may_not_wait)],
        servers=SEVERAL,
    ),
    "release-numbers": Part(
        "a release that is told twice counts once",
        [(SharedKeys, "give_back", _give_back_unnumbered)],
        servers=SEVERAL,
    ),
    "lease-starts": Part(
        "a lease id that a process used without hearing of it is not granted to the next one",
        [(SharedKeys, "amount_of", _amount_whoever_asks)],
        servers=SEVERAL,
    ),
    "doubt": Part(
        "a bid that lapsed is not bid again while another server may have billed it",
        [(bank, "HoldBook", _NoDoubt)],
        servers=SEVERAL,
    ),
    "hold-tombstones": Part(
        "a lost or lapsed hold is remembered in the ring, so that a late WIN is a conflict",
        [(bank, "HoldBook", _NoHoldTombstones)],
    ),
    "own-holds": Part(
        "a hold of this process that is no longer in the ring is known to be decided",
        [(server, "Bank", _NoMemoryOfOwnHolds)],
    ),
    "days": Part(
        "the newest days of an account are remembered, however long ago they end by a wall clock that is days ahead",
        [(Account, "forget_days", _forget_all_days)],
    ),
    "replay": Part(
        "a restart rebuilds accounts, leases and counters from the ledger",
        [(bank, "replay", _replay_nothing)],
    ),
    "sequences": Part(
        "hold sequences are made durable in blocks ahead of use",
        [(bank, "replay", _replay_without_sequences)],
    ),
}


@contextmanager
def without(names: Sequence[str]) -> Iterator[None]:
    """Switch parts off for a while.

    Raises:
        ValueError: there is no such part.
    """
    for name in names:
        if name not in PARTS:
            raise ValueError(f"--without {name}: must be one of {', '.join(PARTS)}")
    with ExitStack() as stack:
        for name in names:
            for module, attribute, substitute in PARTS[name].substitutes:
                stack.callback(setattr, module, attribute, getattr(module, attribute))
                setattr(module, attribute, substitute)
        yield
