"""A program to kill: reports bids to a bank and prints each acknowledgement only after it was given."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from pacing.budget.bank import Bank
from pacing.budget.holds import warm_up
from pacing.budget.settings import BankSettings
from pacing.clocks import SystemClock
from pacing.facts import OutcomeKind, RowStatus
from pacing.ledger.followers import JudgeFollower
from pacing.ledger.log import Ledger
from tests.pacing.rows import seen, told

DAILY, TOTAL = 2_000_000, 3_000_000
BID = 2_000
SETTINGS = BankSettings(billing_ms=60_000, grace_ms=60_000, snapshot_rows=200, lease_ttl_ms=2_000)


def main(folder: Path) -> None:
    """Bid and bill until killed; a line for each acknowledged row: kind, lease, sequence, amount."""
    ledger = Ledger(folder / "ledger.sqlite")
    clock = SystemClock()
    bank = Bank(ledger, clock, SETTINGS)
    judge = JudgeFollower(ledger, [bank.settle_judge], batch_rows=50, on_judged=bank.judged)
    bank.set_account(1, 2, "Asia/Shanghai", DAILY, TOTAL)
    viewer = ledger.last_sequence + 1
    warm_up()
    print("ready", flush=True)
    while True:
        bank.tick()
        choice = np.zeros((20, 1), np.int8)
        lease_ids, seqs = np.zeros((20, 1), np.uint64), np.zeros((20, 1), np.uint64)
        slots = np.full((20, 1), bank.slot_of(1), np.int32)
        bank.place_holds(slots, np.full((20, 1), BID, np.int64), 1, choice, lease_ids, seqs)
        for lease_id, seq, chosen in zip(lease_ids[:, 0].tolist(), seqs[:, 0].tolist(), choice[:, 0], strict=True):
            if chosen < 0:
                continue
            amount = seq % BID
            now_ms = clock.wall_ms()
            bill = told(OutcomeKind.BILLABLE, lease_id, seq, amount, 1, BID, now_ms)
            follow = seen(OutcomeKind.FOLLOW, viewer, 2, now_ms)
            viewer += 1
            statuses = bank.report(np.concatenate([bill, follow]))
            assert statuses.tolist() == [RowStatus.ACCEPTED] * 2, statuses
            print(lease_id, seq, amount, viewer - 1, flush=True)
        judge.step()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
