"""The bank under a wall clock that steps while leases are out."""

from __future__ import annotations

import numpy as np

from benchmarks.faults.clock import SteppingClock
from pacing.budget.bank import Bank
from pacing.budget.settings import BankSettings
from pacing.clocks import MS_PER_HOUR
from pacing.facts import OutcomeKind, RowStatus, Verdict
from pacing.ledger.followers import JudgeFollower
from pacing.ledger.log import Ledger
from tests.pacing.rows import START_MS, told

SETTINGS = BankSettings(win_notice_ms=2_000, billing_ms=60_000, grace_ms=5_000)


def opened(ledger: Ledger, clock: SteppingClock) -> Bank:
    bank = Bank(ledger, clock, SETTINGS)
    bank.set_account(1, 9, "UTC", 100, 1_000)
    bank.tick()
    return bank


def bid(bank: Bank, amount: int) -> tuple[int, int] | None:
    """(lease, hold) of a bid that campaign 1 makes; None: no money."""
    choice, lease_ids, seqs = np.zeros((1, 1), np.int8), np.zeros((1, 1), np.uint64), np.zeros((1, 1), np.uint64)
    slots = np.array([[bank.slot_of(1)]], np.int32)
    bank.place_holds(slots, np.array([[amount]], np.int64), 1, choice, lease_ids, seqs)
    return None if choice[0, 0] < 0 else (int(lease_ids[0, 0]), int(seqs[0, 0]))


def test_a_lease_stays_locked_after_a_crash_though_the_wall_clock_went_past_its_end() -> None:
    ledger, clock = Ledger(None), SteppingClock(START_MS)
    bank = opened(ledger, clock)
    assert bid(bank, 100) is None
    bank.tick()
    clock.step(3 * MS_PER_HOUR)
    placed = bid(bank, 100)
    assert placed is not None
    issued_at_ms = clock.wall_ms()
    assert bank.report(told(OutcomeKind.WIN, *placed, 0, 1, 100, issued_at_ms)).tolist() == [RowStatus.ACCEPTED]

    bank = opened(ledger, clock)
    judge = JudgeFollower(ledger, [bank.settle_judge])
    for _ in range(2):
        judge.catch_up()
        clock.advance_to(clock.monotonic_ms() + 1_000)
        bank.tick()
        assert bid(bank, 100) is None, "the old bid may still be billed"
    billable = told(OutcomeKind.BILLABLE, *placed, 100, 1, 100, issued_at_ms)
    assert bank.report(billable).tolist() == [RowStatus.ACCEPTED]
    judge.catch_up()
    assert ledger.read_judged(0, 9)[1]["verdict"].tolist() == [Verdict.CHARGED]


def test_a_lease_stays_locked_after_a_crash_though_the_clock_was_set_back_right_set_and_set_back_again() -> None:
    ledger, clock = Ledger(None), SteppingClock(START_MS)
    bank = opened(ledger, clock)
    assert bid(bank, 100) is None
    bank.tick()
    placed = bid(bank, 100)
    assert placed is not None
    issued_at_ms = clock.wall_ms()
    clock.step(-SETTINGS.grace_ms)
    bank = opened(ledger, clock)
    judge = JudgeFollower(ledger, [bank.settle_judge])
    clock.advance_to(clock.monotonic_ms() + SETTINGS.billing_ms)
    clock.step(SETTINGS.grace_ms)
    clock.advance_to(clock.monotonic_ms() + SETTINGS.grace_ms - 3_000)
    for _ in range(3):
        judge.catch_up()
        clock.advance_to(clock.monotonic_ms() + 200)
        bank.tick()
        assert bid(bank, 100) is None, "the old bid may still be billed"
    clock.step(-SETTINGS.grace_ms)
    billable = told(OutcomeKind.BILLABLE, *placed, 100, 1, 100, issued_at_ms)
    assert bank.report(billable).tolist() == [RowStatus.ACCEPTED]
    judge.catch_up()
    assert ledger.read_judged(0, 9)[1]["verdict"].tolist() == [Verdict.CHARGED]
