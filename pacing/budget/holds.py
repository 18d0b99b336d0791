"""The book of holds of one process: bids held against leases, and what reported outcomes do to them."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np

from pacing.budget import kernels
from pacing.budget.kernels import (
    CLAIM,
    HOLD,
    LEASE,
    LEASE_DRAINING,
    LEASE_NONE,
    LEASE_OPEN,
    NEXT_SEQ,
    SEQ_BOUND,
    SLOT,
    WAYS,
)
from pacing.budget.leases import kernels as lease_kernels
from pacing.facts import OUTCOME

MAX_SLOTS = 2**20
_FIRST_SLOTS = 64


@dataclass(frozen=True, slots=True)
class Takings:
    """Money taken out of a lease of a slot, to be released; `closed` when no hold is left on it.

    Attributes:
        doubtful_micros: what is left of a closed lease and may have been billed at another server.
    """

    lease_id: int
    amount_micros: int
    closed: bool
    doubtful_micros: int = 0


@dataclass(frozen=True, slots=True)
class SlotNeeds:
    """What bidding on a slot asked for since it was last attended to.

    Attributes:
        lease_id: of the lease that bids use; 0: none.
        free_micros, end_ms: of that lease.
        ways_free: how many more leases the slot may have.
    """

    lease_id: int
    free_micros: int
    end_ms: int
    refused_micros: int
    least_refused_micros: int
    largest_bid_micros: int
    peak_micros: int
    ways_free: int
    is_open: bool


class HoldBook:
    """Holds and leases in main memory, bounded. Any thread may call any method; one short lock, no I/O under it.

    A slot is the place of one campaign. One of its leases is bid on; the others wait until their last hold is decided.
    """

    def __init__(
        self,
        capacity: int,
        first_seq: int,
        seq_bound: int,
        win_notice_ms: int,
        billing_ms: int,
        is_shared: bool = False,
    ) -> None:
        """Start with no slots.

        Args:
            capacity: holds kept, a power of two.
            first_seq, seq_bound: sequences to use, from and below.
            is_shared: other servers may take notices about these holds.
        """
        self._lock = threading.Lock()
        self._holds = np.zeros(capacity, HOLD)
        self._leases = np.zeros((_FIRST_SLOTS, WAYS), LEASE)
        self._slots = np.zeros(_FIRST_SLOTS, SLOT)
        self._slot_count = 0
        self._cursor = np.array([first_seq, seq_bound, first_seq, first_seq], np.uint64)
        self._win_notice_ms = win_notice_ms
        self._billing_ms = billing_ms
        self._is_shared = is_shared

    @property
    def next_seq(self) -> int:
        """The sequence of the next hold."""
        return int(self._cursor[NEXT_SEQ])

    def allow_until(self, seq_bound: int) -> None:
        """Let sequences run up to `seq_bound`: nobody will use them again after a crash."""
        with self._lock:
            self._cursor[SEQ_BOUND] = max(int(self._cursor[SEQ_BOUND]), seq_bound)

    def add_slot(self) -> int:
        """A new slot without a lease.

        Raises:
            ValueError: there are MAX_SLOTS.
        """
        with self._lock:
            slot = self._slot_count
            if slot == MAX_SLOTS:
                raise ValueError(f"campaigns: this process has {MAX_SLOTS} already")
            if slot == len(self._slots):
                self._leases = np.concatenate([self._leases, np.zeros_like(self._leases)])
                self._slots = np.concatenate([self._slots, np.zeros_like(self._slots)])
            self._slots[slot]["way"] = -1
            self._slot_count += 1
            return slot

    def place(
        self,
        candidates: np.ndarray,
        bids_micros: np.ndarray,
        now_ms: int,
        wall_ms: int,
        out_choice: np.ndarray,
        out_lease_ids: np.ndarray,
        out_hold_seqs: np.ndarray,
    ) -> tuple[int, int]:
        """Hold bids; see `kernels.place_holds` for the arrays. Answers the run of sequences used: (first, count)."""
        clock = np.array([now_ms, wall_ms, self._win_notice_ms, self._billing_ms], np.int64)
        with self._lock:
            before = int(self._cursor[NEXT_SEQ])
            kernels.place_holds(
                self._holds, self._leases, self._slots, self._cursor,
                candidates, bids_micros, clock, out_choice, out_lease_ids, out_hold_seqs,
            )  # fmt: skip
            return before, int(self._cursor[NEXT_SEQ]) - before

    def classify(self, claims: np.ndarray, now_ms: int) -> None:
        """Apply reported rows, CLAIM[n]; see `kernels.classify`."""
        with self._lock:
            kernels.classify(self._holds, self._leases, claims, now_ms)

    def conclude(self, claims: np.ndarray, charged_micros: np.ndarray, now_ms: int) -> None:
        """Finish the pinned claims of `classify`, i8[n]: what the ledger charged, negative where it failed."""
        with self._lock:
            kernels.conclude(self._holds, self._leases, claims, charged_micros, now_ms)

    def close_responses(self, first_seqs: np.ndarray, counts: np.ndarray) -> None:
        """Lose what is still only offered in the given runs of sequences, u8[k], u4[k]."""
        with self._lock:
            kernels.close_responses(self._holds, self._leases, first_seqs, counts)

    def sweep(self, now_ms: int) -> None:
        """Free what silent holds hold."""
        with self._lock:
            kernels.sweep(self._holds, self._leases, self._cursor, now_ms)

    def survey(self, now_ms: int, renew_ms: int) -> list[int]:
        """Slots that need attention; see `leases.kernels.survey`."""
        with self._lock:
            count = self._slot_count
            found = np.empty(count, np.int32)
            needy = lease_kernels.survey(self._leases[:count], self._slots[:count], now_ms, renew_ms, found)
        slots: list[int] = found[:needy].tolist()
        return slots

    def attend(self, slot: int) -> SlotNeeds:
        """What a slot asks for; what was refused and how high was bid is counted anew from here."""
        with self._lock:
            record = self._slots[slot]
            way = int(record["way"])
            lease = self._leases[slot, way] if way >= 0 else None
            needs = SlotNeeds(
                lease_id=0 if lease is None else int(lease["lease_id"]),
                free_micros=0 if lease is None else int(lease["free_micros"]),
                end_ms=0 if lease is None else int(lease["end_ms"]),
                refused_micros=int(record["refused_micros"]),
                least_refused_micros=int(record["least_refused_micros"]),
                largest_bid_micros=int(record["largest_bid_micros"]),
                peak_micros=int(record["peak_micros"]),
                ways_free=int((self._leases[slot]["state"] == LEASE_NONE).sum()),
                is_open=bool(record["is_open"]),
            )
            record["refused_micros"] = record["least_refused_micros"] = record["largest_bid_micros"] = 0
            return needs

    def peak_micros(self, slot: int) -> int:
        """The most that was asked of a slot between two surveys, fading."""
        with self._lock:
            return int(self._slots[slot]["peak_micros"])

    def open_slot(self, slot: int, is_open: bool) -> None:
        """Say whether the slot may get new leases; one that is shut stops bidding at once."""
        with self._lock:
            self._slots[slot]["is_open"] = is_open
            if not is_open:
                self._retire(slot)

    def _retire(self, slot: int) -> None:
        way = int(self._slots[slot]["way"])
        if way >= 0:
            self._leases[slot, way]["state"] = LEASE_DRAINING
            self._slots[slot]["way"] = -1

    def open_lease(self, slot: int, lease_id: int, amount_micros: int, end_ms: int, day_end_at_ms: int) -> None:
        """Let bids use a new lease; the one before it waits for its last hold. Needs a free way."""
        with self._lock:
            way = int(np.argmin(self._leases[slot]["state"]))
            assert self._leases[slot, way]["state"] == LEASE_NONE
            self._retire(slot)
            self._leases[slot, way] = np.array(
                (lease_id, amount_micros, 0, 0, end_ms, day_end_at_ms, 0, LEASE_OPEN, 0, self._is_shared), LEASE
            )
            self._slots[slot]["way"] = way

    def retire_ended(self, slot: int, now_ms: int, wall_ms: int) -> None:
        """Stop bidding on the slot's lease if that has ended."""
        with self._lock:
            way = int(self._slots[slot]["way"])
            if way >= 0:
                lease = self._leases[slot, way]
                if now_ms >= lease["end_ms"] or wall_ms >= lease["day_end_at_ms"]:
                    self._retire(slot)

    def take_current(self, slot: int, keep_micros: int) -> Takings | None:
        """Take what the slot's present lease has free beyond `keep_micros`; it goes on."""
        with self._lock:
            way = int(self._slots[slot]["way"])
            if way < 0 or self._leases[slot, way]["free_micros"] <= keep_micros:
                return None
            return self._take(slot, way, keep_micros)

    def take_idle(self, slot: int) -> list[Takings]:
        """Take what is free in the leases of a slot that bids no longer use; those without holds leave the book."""
        with self._lock:
            leases = self._leases[slot]
            idle = (leases["free_micros"] > 0) | (leases["live_holds"] == 0)
            return [self._take(slot, way, 0) for way in np.flatnonzero((leases["state"] == LEASE_DRAINING) & idle)]

    def _take(self, slot: int, way: np.intp | int, keep_micros: int) -> Takings:
        lease = self._leases[slot, way]
        takings = Takings(
            int(lease["lease_id"]),
            int(lease["free_micros"]) - keep_micros,
            bool(lease["state"] == LEASE_DRAINING and lease["live_holds"] == 0),
            int(lease["doubtful_micros"]),
        )
        lease["free_micros"] = keep_micros
        if takings.closed:
            lease["state"] = LEASE_NONE
        return takings

    def idle_micros(self, slots: np.ndarray, day_ends_at_ms: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Money of i8[n] slots that nobody billed, as three i8[n]: of the day that ends then, of all, held."""
        idle = np.empty((len(slots), 3), np.int64)
        with self._lock:
            lease_kernels.sum_idle(self._leases, slots, day_ends_at_ms, idle)
        return idle[:, 0], idle[:, 1], idle[:, 2]

    def leases_of(self, slot: int) -> np.ndarray:
        """Copies of the slot's leases, LEASE[k]."""
        with self._lock:
            leases = self._leases[slot]
            return leases[leases["state"] != LEASE_NONE].copy()


def claims_of(rows: np.ndarray) -> np.ndarray:
    """What the book needs of OUTCOME[n], as CLAIM[n]; without a token the kind is left 0."""
    claims = np.zeros(len(rows), CLAIM)
    claims["kind"] = rows["kind"] * (rows["has_token"] != 0)
    claims["lease_id"] = rows["decision"]["lease_id"]
    claims["hold_seq"] = rows["decision"]["hold_seq"]
    claims["price_micros"] = rows["price_micros"]
    return claims


def warm_up() -> None:
    """Compile, or load from the cache, all that bidding and reporting call."""
    book = HoldBook(WAYS, 1, 2**20, 1, 1)
    slot = book.add_slot()
    book.open_slot(slot, True)
    book.open_lease(slot, 1, 10, 10, 10)
    out = np.zeros((1, 1), np.int8), np.zeros((1, 1), np.uint64), np.zeros((1, 1), np.uint64)
    book.place(np.zeros((1, 1), np.int32), np.ones((1, 1), np.int64), 0, 0, *out)
    rows = np.zeros(1, OUTCOME)
    claims = claims_of(rows)
    book.classify(claims, 0)
    book.conclude(claims, np.zeros(1, np.int64), 0)
    book.close_responses(np.zeros(1, np.uint64), np.zeros(1, np.uint32))
    book.sweep(0)
    book.survey(0, 0)
    book.idle_micros(np.zeros(1, np.int64), np.zeros(1, np.int64))
