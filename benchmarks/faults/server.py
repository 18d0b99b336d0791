"""One server of a simulated world: the shipped bank, ledger and judge, which live and die together."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.faults.answers import AnswerBook, Row
from benchmarks.faults.auditor import Auditor
from benchmarks.faults.bids import BidTable
from benchmarks.faults.clock import SteppingClock
from benchmarks.faults.disk import Disk
from benchmarks.faults.shared_store import SimulatedStore
from pacing.budget.bank import Bank
from pacing.budget.epochs import EpochWatch
from pacing.budget.settings import BankSettings
from pacing.budget.shared import SharedStore
from pacing.budget.store import StoreUnavailable
from pacing.ledger.errors import LedgerUnavailable
from pacing.ledger.followers import JudgeFollower
from pacing.ledger.log import Ledger

_COMPARED_TICKS = 8


class Server:
    """A server with its disk. `bank` is there while it lives; every answer goes past the auditors.

    Attributes:
        life: counts its processes.
        caps: (daily, total) that each campaign's creator asked for last, as far as this server knows; 0, 0: paused.
            They outlive a crash.
        revisions: of the caps.
    """

    def __init__(
        self,
        disk: Disk,
        clock: SteppingClock,
        settings: BankSettings,
        judge_rows: int,
        bids: BidTable,
        answers: AnswerBook,
        auditor: Auditor,
        number: int = 0,
        new_store: Callable[[], SimulatedStore] | None = None,
    ) -> None:
        """`new_store` connects to the store that is shared with other servers; None: there are no others."""
        self._number = number
        self._new_store = new_store
        self._watch: EpochWatch | None = None
        self._opening: set[int] = set()
        self._disk = disk
        self._clock = clock
        self._settings = settings
        self._judge_rows = judge_rows
        self._bids = bids
        self._answers = answers
        self._auditor = auditor
        self._ledger: Ledger | None = None
        self._judge: JudgeFollower | None = None
        self._places: dict[int, tuple[int, str]] = {}
        self._slot_of = np.zeros(0, np.int32)
        self._died_ms = self._ticks = 0
        self._is_written = self._is_judged = True
        self.bank: Bank | None = None
        self.life = 0
        self.caps: dict[int, tuple[int, int]] = {}
        self.revisions: dict[int, int] = {}

    def know_campaign(
        self, campaign_id: int, creator_id: int, zone: str, daily: int, total: int, opening: bool = True
    ) -> None:
        """Serve a campaign from the next start on. `opening`: no store has its accounts yet."""
        self._places[campaign_id] = (creator_id, zone)
        self.caps[campaign_id] = (daily, total)
        self.revisions[campaign_id] = 1
        if opening:
            self._opening.add(campaign_id)
        self._slot_of = np.full(max(campaign_id + 1, len(self._slot_of)), -1, np.int32)

    def start(self) -> list[int]:
        """A new process: the accounts come from the ledger, the caps from the campaigns; answers the campaigns whose
        caps the bank could not take yet."""
        self._bids.lives += 1
        self.life = self._bids.lives
        self._ledger = self._disk.open()
        self._auditor.restarted(self._ledger)
        self._answers.life_begins(self.life, self._died_ms)
        bank = self._open_bank(self._ledger)
        self._judge = JudgeFollower(self._ledger, [bank.settle_judge], self._judge_rows, on_judged=bank.judged)
        self.bank = bank
        self._slot_of[:] = -1
        self._is_written = self._is_judged = True
        refused = [campaign_id for campaign_id in self.caps if not self.apply_caps(campaign_id)]
        self.watch()
        bank.tick()
        return refused

    def _open_bank(self, ledger: Ledger) -> Bank:
        if self._new_store is None:
            return Bank(ledger, self._clock, self._settings)
        remote = self._new_store()
        shared = SharedStore(remote, self._clock, self._settings.owner_id)
        self._watch = EpochWatch(shared, remote, ledger, self._clock)
        return Bank(ledger, self._clock, self._settings, shared)

    def watch(self) -> None:
        """Look for a new master of the shared store."""
        if self._watch is not None:
            self._watch.tick()

    @property
    def is_settled(self) -> bool:
        """Whether everything is judged, and told again where that was due."""
        assert self._ledger is not None
        is_judged = self._ledger.judged_sequence == self._ledger.last_sequence
        return is_judged and (self._watch is None or not self._watch.is_behind)

    def crash(self) -> None:
        """Drop the process as it stands."""
        self.bank = self._judge = self._ledger = self._watch = None
        self._died_ms = self._clock.monotonic_ms()
        self._disk.crash()

    def apply_caps(self, campaign_id: int) -> bool:
        """Give the bank the caps that the creator asked for last; whether it took them."""
        assert self.bank is not None
        daily, total = self.caps[campaign_id]
        if not daily:
            self.bank.close_account(campaign_id)
            return True
        opening = campaign_id in self._opening
        try:
            effective = self.bank.set_account(
                campaign_id, *self._places[campaign_id], daily, total, self.revisions[campaign_id], opening
            )
        except LedgerUnavailable:
            self._is_written = False
            return False
        except StoreUnavailable:
            return False
        self._opening.discard(campaign_id)
        self._slot_of[campaign_id] = self.bank.slot_of(campaign_id)
        told = effective if self._is_written and self._is_judged else None
        self._auditor.caps_set(campaign_id, daily, total, self._clock.wall_ms(), told)
        return True

    def tick(self) -> None:
        """The bank's tick; now and then its accounts are compared with the auditor's."""
        assert self.bank is not None
        try:
            self.bank.tick()
            self._is_written = True
        except LedgerUnavailable:
            self._is_written = False
            return
        self._ticks += 1
        if self._new_store is None and self._ticks % _COMPARED_TICKS == 0 and self._is_judged:
            ids = np.array([c for c in self.caps if self._slot_of[c] >= 0], np.uint64)
            for standing in self.bank.accounts(ids):
                self._auditor.compare(standing)

    def judge(self) -> int:
        """One step of the judge; answers how many rows it took."""
        assert self._judge is not None
        try:
            taken = self._judge.step()
            self._is_judged = True
        except LedgerUnavailable:
            self._is_judged = False
            return 0
        except StoreUnavailable:
            return 0
        return taken

    def place(self, campaign_ids: np.ndarray, bids_micros: np.ndarray) -> tuple[int, int, int, int]:
        """Bid for n viewers, campaigns in ranked order; i8[n, r] both.

        Returns:
            the first bid's number, how many there are, and the run of hold sequences: first and count.
        """
        assert self.bank is not None
        slots = self._slot_of[campaign_ids]
        n = len(slots)
        choice = np.empty((n, 1), np.int8)
        lease_ids, seqs = np.empty((n, 1), np.uint64), np.empty((n, 1), np.uint64)
        first_seq, count = self.bank.place_holds(slots, bids_micros, 1, choice, lease_ids, seqs)
        placed = np.flatnonzero(choice[:, 0] >= 0)
        taken = choice[placed, 0]
        first = self._bids.add(
            campaign_ids[placed, taken], lease_ids[placed, 0], seqs[placed, 0], bids_micros[placed, taken],
            self._clock.wall_ms(), self._clock.monotonic_ms(), self.life, self._number,
        )  # fmt: skip
        self._answers.placed(first)
        return first, len(placed), first_seq, count

    def report(self, rows: list[Row], outcomes: np.ndarray) -> list[int] | None:
        """Take a report; its statuses, or None where the server cannot say."""
        assert self.bank is not None
        now_ms, wall_ms = self._clock.monotonic_ms(), self._clock.wall_ms()
        try:
            statuses: list[int] = self.bank.report(outcomes).tolist()
        except LedgerUnavailable:
            self._answers.refused(rows, now_ms, wall_ms)
            return None
        self._answers.answered(rows, statuses, now_ms, wall_ms)
        return statuses

    def close_responses(self, runs: list[tuple[int, int]], numbers: list[int]) -> None:
        """Close runs (first sequence, count) of hold sequences, in which these bids lie."""
        assert self.bank is not None
        first_seqs, counts = zip(*runs, strict=True)
        self.bank.close_responses(np.array(first_seqs, np.uint64), np.array(counts, np.uint32))
        self._answers.responses_closed(numbers, self._clock.monotonic_ms())

    def judge_all(self) -> None:
        """Judge until nothing is left that can be judged now."""
        while self.judge():
            pass

    def close_accounts(self) -> None:
        """Bid no more."""
        assert self.bank is not None
        for campaign_id in self.caps:
            self.bank.close_account(campaign_id)

    def finish(self) -> None:
        """Once nothing more comes: judge everything, get all leased money back, and audit the ledger."""
        self.judge_all()
        self.close_accounts()
        for _ in range(2):
            self._clock.advance_to(self._clock.monotonic_ms() + self._settings.kept_ms)
            self.tick()
            self.judge_all()
        self.audit()

    def audit(self) -> None:
        """Audit the ledger, once everything is judged."""
        assert self._ledger is not None
        self._auditor.finish(self._ledger)
