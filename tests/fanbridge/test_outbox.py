"""The outbox against real services that lose answers, die and refuse: every outcome is applied exactly once."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from fanbridge.breaker import BackoffSettings, LinkState
from fanbridge.bridge import Bridge, BridgeSettings
from fanbridge.client import FanServiceClient
from fanbridge.delivery import Delivery, Waiting
from fanbridge.events import FAN_OUTCOME, FanServicePort, FanServiceRefused, FanServiceUnavailable, Page, Rows
from fanbridge.outbox import Outbox, OutboxSettings, select_outcomes
from pacing.facts import OutcomeKind, RowStatus, Verdict
from tests.fanbridge.services import (
    START_AT_MS,
    LosesReplies,
    RowLog,
    ServiceProcess,
    connected,
    ledger_rows,
    running_service,
)
from tests.fanbridge.sinks import Segments, Viewers

BILLABLE, FOLLOW, LIKE = OutcomeKind.BILLABLE, OutcomeKind.FOLLOW, OutcomeKind.LIKE


def charged_or_attributed(row: object) -> Verdict:
    return Verdict.CHARGED if row["kind"] == BILLABLE else Verdict.ATTRIBUTED  # type: ignore[index]


def judged_log(count: int) -> RowLog:
    log = RowLog()
    log.append(ledger_rows(count, [BILLABLE, FOLLOW]))
    log.judge_all(charged_or_attributed)
    return log


def make_bridge(service: FanServicePort, delivery: Delivery, log: RowLog, **settings: object) -> Bridge:
    return Bridge(
        service,
        delivery,
        viewers=Viewers(),
        segments=Segments(),
        append=log.append,
        read_judged=log.read_judged,
        settings=BridgeSettings(**settings),  # type: ignore[arg-type]
    )


def test_what_is_told_and_under_which_key() -> None:
    log = RowLog()
    rows = ledger_rows(7, [BILLABLE, FOLLOW, BILLABLE, FOLLOW, LIKE, BILLABLE, OutcomeKind.WIN])
    rows["price_micros"][1] = 5  # only impressions cost
    rows["has_token"][3] = 0
    rows["decision"][3] = np.zeros((), rows.dtype["decision"])
    log.append(rows)
    verdicts = [
        Verdict.CHARGED,
        Verdict.ATTRIBUTED,
        Verdict.OVER_DELIVERY,
        Verdict.ATTRIBUTED,
        Verdict.ORGANIC,
        Verdict.DUPLICATE,
        0,
    ]
    log.judge_all(lambda row: verdicts[int(row["sequence"]) - 1])  # type: ignore[arg-type,return-value]
    log.judgements[3]["lease_id"], log.judgements[3]["hold_seq"] = 1, 99
    log.judgements[3]["campaign_id"], log.judgements[3]["creative_id"] = 51, 61
    told = select_outcomes(log.rows, log.judgements)
    at = START_AT_MS
    assert told.tolist() == [
        (1, 1, BILLABLE, 1, 7, 50, 60, 1_000, at, 1),
        (1, 1, FOLLOW, 1, 7, 50, 60, 0, at + 1, 2),
        (1, 99, FOLLOW, 1, 7, 51, 61, 0, at + 3, 4),
    ]
    assert len(select_outcomes(log.rows[:0], log.judgements[:0])) == 0


def test_nothing_is_told_before_it_is_judged(tmp_path: Path) -> None:
    log = RowLog()
    log.append(ledger_rows(4, [BILLABLE]))
    with running_service(tmp_path) as service, connected(service.address) as client:
        outbox = Outbox(client, Delivery(None), log.read_judged)
        outbox.tick(1)
        assert (outbox.delivered, outbox.position) == (0, 0)
        log.judge_all(charged_or_attributed)
        outbox.tick(2)
        assert (outbox.delivered, outbox.position) == (4, 4)
        assert service.store.outcome_count() == 4


@pytest.mark.parametrize("seed", range(3))
def test_lost_answers_and_faults_apply_each_outcome_once(tmp_path: Path, seed: int) -> None:
    log = judged_log(4_000)
    faults = LosesReplies(seed, lost=0.3, refused=0.3)
    with running_service(tmp_path, interceptors=(faults,)) as service, connected(service.address) as client:
        bridge = make_bridge(client, Delivery(None), log, outbox=OutboxSettings(push_rows=250))
        now_ms, ticks = START_AT_MS, 0
        while bridge.outbox.position < 4_000 and ticks < 2_000:
            bridge.tick(now_ms)
            now_ms, ticks = now_ms + 1_000, ticks + 1
        assert faults.faults > 0
        assert service.store.outcome_count() == 4_000
        assert bridge.status().outcomes_dead == 0
        assert bridge.status().outcomes_delivered == 4_000
        follower = service.store.fan(1, 7)
        assert follower is not None
        assert follower.engagement.points == 4.0  # one follow, counted once


def test_the_service_dies_in_mid_stream_and_the_bridge_restarts(tmp_path: Path) -> None:
    log = judged_log(3_000)
    program = ServiceProcess(tmp_path / "service")
    program.folder.mkdir()
    state = tmp_path / "delivery.sqlite"
    settings = {"outbox": OutboxSettings(push_rows=100, max_pushes_per_tick=3), "backoff": BackoffSettings(1, 2, 5)}
    try:
        program.start()
        now_ms = START_AT_MS
        for life in range(4):
            delivery = Delivery(state)
            with connected(program.address) as client:
                bridge = make_bridge(client, delivery, log, **settings)
                assert bridge.outbox.position == life * 600
                for _ in range(2):
                    bridge.tick(now_ms := now_ms + 1_000)
                program.kill()
                bridge.tick(now_ms := now_ms + 1_000)
                assert bridge.status().link is LinkState.SHAKY
                assert bridge.outbox.position == (life + 1) * 600
            delivery.close()
            program.start()
        delivery = Delivery(state)
        with connected(program.address) as client:
            bridge = make_bridge(client, delivery, log, **settings)
            for _ in range(3):
                bridge.tick(now_ms := now_ms + 1_000)
            assert bridge.status().outcomes_delivered == 600
            assert (
                client.push_outcomes(select_outcomes(log.rows, log.judgements)).tolist()
                == [RowStatus.DUPLICATE] * 3_000
            )
        delivery.close()
    finally:
        program.kill()


def test_a_long_outage_is_bridged_with_few_calls_and_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = judged_log(100)
    caplog.set_level("INFO", "fanbridge")
    program = ServiceProcess(tmp_path)
    with connected(program.address, deadline_ms=2_000) as client:
        counted = Counted(client)
        bridge = make_bridge(counted, Delivery(None), log)
        for second in range(200):
            bridge.tick(START_AT_MS + 1_000 * second)
        assert bridge.status().link is LinkState.DOWN
        assert counted.pushes < 50
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        try:
            program.start()
            second = 200
            while bridge.status().link is not LinkState.UP and second < 3_000:
                bridge.tick(START_AT_MS + 1_000 * second)
                second += 1
                time.sleep(0.002)  # the connection itself comes back on the system's time
            assert bridge.outbox.position == 100
            assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
        finally:
            program.kill()


def test_a_service_that_was_away_gets_one_small_push_first(tmp_path: Path) -> None:
    log = judged_log(100)
    backoff = BackoffSettings(base_ms=1, cap_ms=1, down_after=1)
    with running_service(tmp_path / "fans") as service:
        address = service.address
    with connected(address, deadline_ms=2_000) as client:
        counted = Counted(client)
        bridge = make_bridge(counted, Delivery(None), log, outbox=OutboxSettings(push_rows=10), backoff=backoff)
        bridge.tick(START_AT_MS)
        assert bridge.status().link is LinkState.DOWN
        with running_service(tmp_path / "fans", listen=address):
            tries = 0
            while bridge.outbox.position == 0 and tries < 3_000:
                tries += 1
                bridge.tick(START_AT_MS + 1_000 * tries)
                time.sleep(0.002)
            assert bridge.outbox.position == 10
            assert bridge.status().link is LinkState.UP
            bridge.tick(START_AT_MS + 10**7)
            assert bridge.outbox.position == 90


class Counted:
    """A client that counts its pushes."""

    def __init__(self, client: FanServiceClient) -> None:
        self._client = client
        self.pushes = 0

    def push_outcomes(self, outcomes: Rows, audiences: Sequence[str] = ()) -> np.ndarray:
        self.pushes += 1
        return self._client.push_outcomes(outcomes, audiences)

    def pull_tiers(self, cursor: str, limit: int) -> Page:
        return self._client.pull_tiers(cursor, limit)

    def pull_events(self, cursor: str, limit: int) -> Page:
        return self._client.pull_events(cursor, limit)

    def pull_retention(self, cursor: str, limit: int) -> Page:
        return self._client.pull_retention(cursor, limit)


def test_refused_rows_become_dead_letters_that_can_be_retried(tmp_path: Path) -> None:
    log = RowLog()
    rows = ledger_rows(6, [BILLABLE])
    rows["viewer_id"][2] = rows["decision"]["viewer_id"][2] = 0  # no viewer: the service will never take this row
    log.append(rows)
    log.judge_all(charged_or_attributed)
    state = tmp_path / "delivery.sqlite"
    with running_service(tmp_path / "fans") as service, connected(service.address) as client:
        delivery = Delivery(state)
        outbox = Outbox(client, delivery, log.read_judged)
        outbox.tick(10)
        assert (outbox.delivered, outbox.position) == (5, 6)
        delivery.close()
        delivery = Delivery(state)
        outbox = Outbox(client, delivery, log.read_judged)
        (letter,) = outbox.dead_letters()
        assert letter.key == (1, 3, BILLABLE)
        assert (letter.attempts, letter.since_at_ms, letter.reason) == (1, 10, "status 6")
        assert letter.outcome.tolist() == select_outcomes(log.rows, log.judgements)[2:3].tolist()
        outbox.tick(10**15)
        assert outbox.delivered == 0
        assert outbox.retry_dead_letters(20, [(1, 3, FOLLOW)]) == 0
        assert outbox.retry_dead_letters(20, [letter.key]) == 1
        assert delivery.waiting_counts() == (1, 0)
        outbox.tick(21)
        assert delivery.waiting_counts() == (0, 1)
        assert outbox.retry_dead_letters(30) == 1
        delivery.close()


class Stubborn:
    """A service by the contract, but hard to please: it refuses whole requests, or answers rows with `status`."""

    def __init__(self, bad_seqs: set[int], status: int = RowStatus.ACCEPTED) -> None:
        self.bad_seqs = bad_seqs
        self.status = status
        self.applied: dict[int, int] = {}

    def push_outcomes(self, outcomes: Rows, audiences: Sequence[str] = ()) -> np.ndarray:
        if self.status == RowStatus.ACCEPTED and self.bad_seqs & set(outcomes["hold_seq"].tolist()):
            raise FanServiceRefused("there is something here that I cannot read")
        bad = np.isin(outcomes["hold_seq"], sorted(self.bad_seqs))
        for hold_seq in outcomes["hold_seq"][~bad].tolist():
            self.applied[hold_seq] = self.applied.get(hold_seq, 0) + 1
        return np.where(bad, self.status, RowStatus.ACCEPTED).astype(np.uint8)

    def pull_tiers(self, cursor: str, limit: int) -> Page:
        raise FanServiceUnavailable("not served")

    pull_events = pull_retention = pull_tiers


def test_a_request_that_is_refused_whole_is_halved_until_the_bad_rows_are_alone() -> None:
    log = RowLog()
    log.append(ledger_rows(50, [BILLABLE]))
    log.judge_all(charged_or_attributed)
    service = Stubborn({1, 20, 50})
    outbox = Outbox(service, Delivery(None), log.read_judged)
    outbox.tick(1)
    assert outbox.delivered == 47
    assert service.applied == dict.fromkeys(sorted(set(range(1, 51)) - {1, 20, 50}), 1)
    assert [letter.key[1] for letter in outbox.dead_letters()] == [1, 20, 50]


def test_rows_without_a_clear_answer_are_parked_tried_again_and_dead_at_last() -> None:
    log = RowLog()
    log.append(ledger_rows(5, [BILLABLE]))
    log.judge_all(charged_or_attributed)
    service = Stubborn({2, 4}, status=0)
    delivery = Delivery(None)
    outbox = Outbox(service, delivery, log.read_judged, OutboxSettings(max_attempts=4))
    outbox.tick(START_AT_MS)
    assert delivery.waiting_counts() == (2, 0)
    service.bad_seqs = {4}
    for hour in range(1, 5):
        outbox.tick(START_AT_MS + hour * 3_600_000)
    assert service.applied == {1: 1, 2: 1, 3: 1, 5: 1}
    assert [(letter.key[1], letter.attempts) for letter in outbox.dead_letters()] == [(4, 4)]
    service.bad_seqs = set()
    outbox.retry_dead_letters(0)
    outbox.tick(START_AT_MS)
    assert service.applied[4] == 1
    assert delivery.waiting_counts() == (0, 0)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"push_rows": 5_001}, "push_rows 5001"),
        ({"push_rows": 0}, "push_rows 0"),
        ({"max_attempts": 0}, "max_attempts"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, int], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        OutboxSettings(**settings)


def test_ids_of_all_64_bits_survive_waiting() -> None:
    delivery = Delivery(None)
    outcome = np.zeros(1, FAN_OUTCOME)
    outcome["lease_id"], outcome["hold_seq"], outcome["kind"] = 2**64 - 1, 2**63, BILLABLE
    delivery.save_outcomes(1, [], [Waiting(outcome, 1, 0, "x", 0)])
    (letter,) = delivery.dead_letters(10)
    assert letter.key == (2**64 - 1, 2**63, BILLABLE)
    assert delivery.revive([letter.key], 0) == 1
    (parked,) = delivery.parked_due(0, 10)
    delivery.settle_parked([parked], [], [])
    assert delivery.waiting_counts() == (0, 0)
