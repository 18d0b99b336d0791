"""`fanbid outbox` beside a bridge: what is dead is listed with its reason, and delivered once an operator says so."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import fanbid
from fanbridge.breaker import BackoffSettings
from fanbridge.client import FanServiceClient
from fanbridge.delivery import DELIVERY_FILE, Delivery
from fanbridge.events import FanServiceRefused, Rows
from fanbridge.outbox import Outbox, OutboxSettings
from pacing.facts import OutcomeKind, Verdict
from tests.fanbridge.services import START_AT_MS, RowLog, connected, ledger_rows, running_service

ROWS = 6
SOON = BackoffSettings(base_ms=1, cap_ms=1)


class Refusing:
    """A real service behind a door that refuses until it is told otherwise."""

    def __init__(self, client: FanServiceClient) -> None:
        self._client = client
        self.refuses = True

    def push_outcomes(self, outcomes: Rows, audiences: Sequence[str] = ()) -> Rows:
        if self.refuses:
            raise FanServiceRefused("kind 2: not known here")
        return self._client.push_outcomes(outcomes, audiences)


@pytest.fixture
def log() -> RowLog:
    log = RowLog()
    log.append(ledger_rows(ROWS, [OutcomeKind.BILLABLE]))
    log.judge_all(lambda row: Verdict.CHARGED)
    return log


@pytest.fixture
def delivery(tmp_path: Path) -> Iterator[Delivery]:
    delivery = Delivery(tmp_path / DELIVERY_FILE)
    yield delivery
    delivery.close()


def test_dead_outcomes_are_listed_and_delivered_once_they_are_tried_again(
    tmp_path: Path, log: RowLog, delivery: Delivery, capsys: pytest.CaptureFixture[str]
) -> None:
    at = ["--data", str(tmp_path)]
    with running_service(tmp_path / "fans") as service, connected(service.address) as client:
        door = Refusing(client)
        outbox = Outbox(door, delivery, log.read_judged, OutboxSettings(retry=SOON))  # type: ignore[arg-type]
        outbox.tick(START_AT_MS)
        assert delivery.waiting_counts() == (0, ROWS)
        assert fanbid.main(["outbox", "list", *at]) == 0
        shown = capsys.readouterr().out
        assert shown.startswith(f"0 parked, {ROWS} dead; delivered up to row {ROWS} of the ledger")
        assert shown.count("kind 2: not known here") == ROWS and "1:1:2" in shown and "billable" in shown

        door.refuses = False
        outbox.tick(START_AT_MS)
        assert service.store.outcome_count() == 0, "what is dead stays so until somebody says otherwise"
        assert fanbid.main(["outbox", "retry", "--key", "1:2:2", *at]) == 0
        assert capsys.readouterr().out == "1 outcomes are tried again\n"
        outbox.tick(2**60)
        assert (service.store.outcome_count(), delivery.waiting_counts()) == (1, (0, ROWS - 1))
        assert fanbid.main(["outbox", "retry", *at]) == 0
        outbox.tick(2**60)
        assert (service.store.outcome_count(), delivery.waiting_counts()) == (ROWS, (0, 0))
        assert fanbid.main(["outbox", "list", *at]) == 0
        assert capsys.readouterr().out.endswith(f"0 parked, 0 dead; delivered up to row {ROWS} of the ledger\n")


def test_what_cannot_be_used_is_named(tmp_path: Path, delivery: Delivery, capsys: pytest.CaptureFixture[str]) -> None:
    at = ["--data", str(tmp_path)]
    assert fanbid.main(["outbox", "list", "--data", str(tmp_path / "none")]) == fanbid.EXIT_BAD_INPUT
    assert "has not spoken to a fan service" in capsys.readouterr().err
    assert fanbid.main(["outbox", "list", "--limit", "0", *at]) == fanbid.EXIT_BAD_INPUT
    assert "--limit 0: not in 1..1000" in capsys.readouterr().err
    assert fanbid.main(["outbox", "retry", "--key", "1:2:2", *at]) == fanbid.EXIT_BAD_INPUT
    assert "0 of 1 named a dead outcome" in capsys.readouterr().err
    for key in ("1:2", "a:2:3", "1:2:256", f"{2**64}:1:1"):
        with pytest.raises(SystemExit):
            fanbid.main(["outbox", "retry", "--key", key, *at])
        assert key in capsys.readouterr().err
