"""kill -9 in the middle: nothing that was acknowledged is lost, no account passes its cap, and it goes on."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from pacing.budget.bank import Bank
from pacing.clocks import SystemClock
from pacing.facts import OutcomeKind, Verdict
from pacing.ledger.followers import JudgeFollower
from pacing.ledger.log import Ledger
from tests.pacing.ledger.acknowledging import DAILY, SETTINGS, TOTAL
from tests.sources import ROOT

LIVES = 3


def acknowledged_until_killed(folder: Path, after_s: float) -> list[tuple[int, int, int, int]]:
    """Run the program, kill it a while after it is ready, and answer what it had acknowledged."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.pacing.ledger.acknowledging", str(folder)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
        time.sleep(after_s)
        program.send_signal(signal.SIGKILL)
        lines = program.stdout.read().split("\n")[:-1]  # what follows the last newline was cut
    return [tuple(map(int, line.split())) for line in lines]  # type: ignore[misc]


def test_killed_again_and_again(tmp_path: Path) -> None:
    draw = random.Random(3)
    bills: dict[tuple[int, int], int] = {}
    viewers: set[int] = set()
    for _ in range(LIVES):
        for lease_id, seq, amount, viewer in acknowledged_until_killed(tmp_path, draw.uniform(0.2, 0.7)):
            assert (lease_id, seq) not in bills, "no life uses a hold sequence of another"
            bills[lease_id, seq] = amount
            viewers.add(viewer)
    assert len(bills) > 20
    ledger = Ledger(tmp_path / "ledger.sqlite")
    bank = Bank(ledger, SystemClock(), SETTINGS)
    JudgeFollower(ledger, [bank.settle_judge]).catch_up()
    rows, judgements = ledger.read_judged(0, 10**6)
    is_bill = rows["kind"] == OutcomeKind.BILLABLE
    stored = {
        (lease_id, seq): amount
        for lease_id, seq, amount in zip(
            rows["decision"]["lease_id"][is_bill].tolist(),
            rows["decision"]["hold_seq"][is_bill].tolist(),
            rows["price_micros"][is_bill].tolist(),
            strict=True,
        )
    }
    assert bills.items() <= stored.items()
    assert len(stored) <= len(bills) + LIVES, "at most the one in flight at each kill was not acknowledged"
    assert viewers <= set(rows["viewer_id"][~is_bill].tolist())
    assert set(judgements["verdict"][is_bill].tolist()) == {Verdict.CHARGED}
    account = bank._store.accounts[1]
    assert account.flight.settled_micros == sum(stored.values())
    assert account.flight.settled_micros + account.flight.leased_micros <= TOTAL
    assert all(day.settled_micros + day.leased_micros <= DAILY for day in account.days.values())
    ledger.close()
