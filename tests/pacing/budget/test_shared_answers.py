"""Charges that a bank on a Redis has heard of, or is about to, and has not written down when the master is lost."""

from __future__ import annotations

import numpy as np
import pytest

from pacing.budget.store import NotDecided
from pacing.facts import Verdict
from pacing.ledger.errors import LedgerUnavailable
from tests.pacing.budget.shared_servers import ACCEPTED, BID, BILLABLE, Deployment


def test_a_charge_that_no_disk_took_before_a_failover_is_told_again(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = deployment.servers[0]
    here.open(400 * BID, 400 * BID)
    here.epochs.tick()
    bids = deployment.bid_all(here)
    replica = deployment.remember()
    assert [here.tell(BILLABLE, bid, BID) for bid in bids[:2]] == [ACCEPTED] * 2

    def refuse(*_: object) -> None:
        raise LedgerUnavailable("disk full")

    with monkeypatch.context() as full, pytest.raises(LedgerUnavailable):
        full.setattr(here.ledger, "append_judgements", refuse)
        here.judge.catch_up()
    deployment.fail_over(replica)
    here.epochs.tick()
    assert deployment.amounts()[0] == 2 * BID
    here.judge.catch_up()
    assert here.verdicts() == [Verdict.CHARGED] * 2
    deployment.fail_over(deployment.remember())
    here.epochs.tick()
    assert deployment.amounts()[0] == 2 * BID


def test_an_answer_that_may_be_a_lost_masters_is_not_believed(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was under way while all that this server knew to be charged was told again."""
    here = deployment.servers[0]
    here.open(400 * BID, 400 * BID)
    here.epochs.tick()
    (bid, *_) = deployment.bid_all(here)
    replica = deployment.remember()
    assert here.tell(BILLABLE, bid, BID) == ACCEPTED
    decide = here.remote.decide

    def decide_and_lose(claims: np.ndarray) -> np.ndarray:
        verdicts = decide(claims)
        deployment.fail_over(replica)
        here.epochs.tick()
        return verdicts

    with monkeypatch.context() as failing, pytest.raises(NotDecided):
        failing.setattr(here.remote, "decide", decide_and_lose)
        here.judge.catch_up()
    assert here.verdicts() == [] and deployment.amounts()[0] == 0
    here.judge.catch_up()
    assert here.verdicts() == [Verdict.CHARGED] and deployment.amounts()[0] == BID
