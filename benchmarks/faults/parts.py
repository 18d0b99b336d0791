"""The protective parts of the money protocol, each of which can be switched off to see that the simulator notices.

A part is switched off by putting a subclass or a function of this file in the place of a shipped one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from benchmarks.faults import server
from pacing.budget import bank, memory, recovery
from pacing.budget.account import Account
from pacing.budget.bank import Bank
from pacing.budget.holds import HoldBook
from pacing.budget.kernels import LAPSED, LOST
from pacing.budget.lease import LeaseKeeper
from pacing.budget.memory import MemoryStore
from pacing.budget.recovery import Replayed, replay
from pacing.budget.settings import BankSettings
from pacing.clocks import Clock
from pacing.days import day_of_key
from pacing.ledger import index
from pacing.ledger.log import Ledger

Substitute = tuple[Any, str, Any]


class _NoQuarantine(LeaseKeeper):
    def quarantine(self, lease_id: int, campaign_id: int, day_key: int, until_ms: int) -> None:
        super().quarantine(lease_id, campaign_id, day_key, until_ms=0)


class _NoWaitingForVerdicts(LeaseKeeper):
    def _finish_quarantine(self, wall_ms: int) -> None:
        for lease in self._quarantine.values():
            if wall_ms > lease.until_ms:
                lease.judged_after = 1
        super()._finish_quarantine(wall_ms)


class _NoLeaseTombstones(MemoryStore):
    """A closed lease is forgotten at once, and what accepted claims still need of it is free again."""

    def release(self, lease_id: int, amount_micros: int, closed: bool, serial: int = 0) -> int:
        if not closed:
            return super().release(lease_id, amount_micros, closed, serial)
        released = super().release(lease_id, 2**62, closed, serial)
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
        self._first_seq = 2**64 - 1


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


@dataclass(frozen=True, slots=True)
class Part:
    """A protective part.

    Attributes:
        meaning: what it does, for the help.
        substitutes: what takes the place of which name of which module or class when it is switched off.
        is_needed: whether the embedded deployment, one process on one ledger, fails without it.
    """

    meaning: str
    substitutes: Sequence[Substitute]
    is_needed: bool = True


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
    "claims": Part(
        "the ledger takes each claim once, for good",
        [(index, "add_claims", _every_claim_is_new), (index, "find_claims", _no_claim_was_told)],
    ),
    "store-claims": Part(
        "the store remembers claims; embedded, the ledger did so before it",
        [(memory, "REMEMBERED_CLAIMS", 0)],
        is_needed=False,
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
