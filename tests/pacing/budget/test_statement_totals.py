"""A start compares the totals of the statements with the accounts, also those that lie behind a snapshot."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from pacing.budget.settings import BankSettings
from pacing.facts import OutcomeKind, RowStatus
from pacing.ledger.errors import LedgerDamaged
from tests.pacing.budget.test_bank import BID, World
from tests.pacing.rows import told


def test_a_total_that_no_account_has_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    world = World(path, BankSettings(snapshot_rows=5))
    bids = world.bid(10)
    rows = np.concatenate([told(OutcomeKind.BILLABLE, lease, seq, 7, 1, BID, at) for lease, seq, at in bids])
    assert (world.bank.report(rows) == RowStatus.ACCEPTED).all()
    world.judge.catch_up()
    world.restart()
    world.ledger.close()
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        assert db.execute("UPDATE charges SET charged_micros = charged_micros + 1").rowcount == 10
    with pytest.raises(LedgerDamaged, match="campaign 1: its statement ends at"):
        world.boot()
