"""The bank, one promise at a time."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from pacing.budget import bank as bank_module
from pacing.budget.bank import Bank
from pacing.budget.settings import BankSettings
from pacing.clocks import MS_PER_DAY, MS_PER_HOUR, VirtualClock
from pacing.days import local_day
from pacing.facts import OUTCOME, OutcomeKind, RowStatus, Verdict
from pacing.ledger.errors import LedgerUnavailable
from pacing.ledger.followers import JudgeFollower
from pacing.ledger.log import Ledger
from tests.pacing.faulty import FaultyLedger
from tests.pacing.rows import START_MS, seen, told

ZONE = "Asia/Shanghai"
BID = 1_000
ACCEPTED, DUPLICATE, EXPIRED = RowStatus.ACCEPTED, RowStatus.DUPLICATE, RowStatus.EXPIRED
CONFLICT, INVALID = RowStatus.CONFLICT, RowStatus.INVALID
WIN, BILLABLE, LOSS = OutcomeKind.WIN, OutcomeKind.BILLABLE, OutcomeKind.LOSS


class World:
    """A bank on a virtual clock, with one campaign that has a lease."""

    def __init__(self, path: Path | None = None, settings: BankSettings | None = None, daily: int = 10**6) -> None:
        self.path = path
        self.settings = settings or BankSettings()
        self.clock = VirtualClock(START_MS)
        self.boot()
        self.bank.set_account(1, 9, ZONE, daily, 10 * daily)
        self.bank.tick()

    def boot(self) -> None:
        self.ledger = FaultyLedger(self.path)
        self.bank = Bank(self.ledger, self.clock, self.settings)
        self.judge = JudgeFollower(self.ledger, [self.bank.settle_judge], on_judged=self.bank.judged)

    def restart(self) -> None:
        """As after a kill: what was in memory is gone."""
        self.ledger.close()
        self.boot()

    def wait(self, ms: int) -> None:
        self.clock.advance_to(self.clock.wall_ms() + ms)

    def bid(self, count: int = 1, bid: int = BID, campaign_id: int = 1) -> list[tuple[int, int, int]]:
        """(lease_id, hold_seq, issued_at_ms) of each bid that got its hold."""
        slots = np.full((count, 1), self.bank.slot_of(campaign_id), np.int32)
        choice = np.zeros((count, 1), np.int8)
        lease_ids, seqs = np.zeros((count, 1), np.uint64), np.zeros((count, 1), np.uint64)
        self.bank.place_holds(slots, np.full((count, 1), bid, np.int64), 1, choice, lease_ids, seqs)
        placed = choice[:, 0] == 0
        now = self.clock.wall_ms()
        return [(int(lease), int(seq), now) for lease, seq in zip(lease_ids[placed, 0], seqs[placed, 0], strict=True)]

    def tell(self, kind: OutcomeKind, bid: tuple[int, int, int], amount: int = 0) -> int:
        lease_id, seq, issued = bid
        settings = self.settings
        row = told(kind, lease_id, seq, amount, 1, BID, issued, settings.win_notice_ms, settings.billing_ms)
        return int(self.bank.report(row)[0])

    def account(self, campaign_id: int = 1) -> np.void:
        standing: np.void = self.bank.accounts(np.array([campaign_id], np.uint64))[0]
        return standing


def test_the_way_of_a_bid() -> None:
    world = World()
    (bid,) = world.bid()
    assert world.account()["held_micros"] == BID
    assert [world.tell(WIN, bid, 700), world.tell(WIN, bid, 700), world.tell(WIN, bid, 701)] == [
        ACCEPTED, DUPLICATE, CONFLICT,
    ]  # fmt: skip
    assert world.tell(BILLABLE, bid, 701) == CONFLICT, "never more than the WIN said"
    assert [world.tell(BILLABLE, bid, 700), world.tell(BILLABLE, bid, 700), world.tell(BILLABLE, bid, 699)] == [
        ACCEPTED, DUPLICATE, CONFLICT,
    ]  # fmt: skip
    assert [world.tell(LOSS, bid), world.tell(WIN, bid, 700)] == [CONFLICT, DUPLICATE]
    account = world.account()
    assert (account["held_micros"], account["day_settled_micros"], account["day_spend_micros"]) == (0, 0, 700)
    world.judge.catch_up()
    account = world.account()
    assert (account["day_settled_micros"], account["day_spend_micros"], account["flight_spend_micros"]) == (700,) * 3


def test_a_loss_frees_at_once_and_stays() -> None:
    world = World()
    (bid,) = world.bid()
    assert [world.tell(LOSS, bid), world.tell(LOSS, bid)] == [ACCEPTED, DUPLICATE]
    assert world.account()["held_micros"] == 0
    assert [world.tell(WIN, bid), world.tell(BILLABLE, bid, 1)] == [CONFLICT, CONFLICT]
    world.wait(10**6)
    assert world.tell(BILLABLE, bid, 1) == CONFLICT


def test_a_win_may_turn_into_a_loss() -> None:
    world = World()
    (bid,) = world.bid()
    assert [world.tell(WIN, bid, 5), world.tell(LOSS, bid), world.tell(BILLABLE, bid, 5)] == [
        ACCEPTED,
        ACCEPTED,
        CONFLICT,
    ]
    assert world.account()["held_micros"] == 0


def test_deadlines_are_inclusive() -> None:
    world = World()
    first, second, third, fourth = world.bid(4)
    world.wait(2_000)
    assert world.tell(WIN, first) == ACCEPTED
    assert world.tell(BILLABLE, second, 3) == ACCEPTED, "an impression implies the win"
    world.wait(1)
    assert [world.tell(WIN, third), world.tell(BILLABLE, fourth, 3), world.tell(LOSS, third)] == [
        EXPIRED,
        EXPIRED,
        ACCEPTED,
    ]
    world.wait(57_999)
    assert world.tell(BILLABLE, first, BID) == ACCEPTED
    world.wait(1)
    assert world.tell(BILLABLE, second, 3) == DUPLICATE, "told in time, repeated late"


def test_silent_holds_are_swept_at_their_last_deadline() -> None:
    world = World()
    won, silent = world.bid(2)
    world.tell(WIN, won)
    world.wait(2_001)
    world.bank.tick()
    assert world.account()["held_micros"] == BID
    world.wait(58_000)
    world.bank.tick()
    assert world.account()["held_micros"] == 0
    assert [world.tell(BILLABLE, won, 1), world.tell(BILLABLE, silent, 1)] == [EXPIRED, EXPIRED]


def test_repeats_stay_repeats_when_the_hold_is_long_forgotten() -> None:
    world = World(settings=BankSettings(hold_capacity=16), daily=10**9)
    (bid,) = world.bid()
    assert world.tell(BILLABLE, bid, 5) == ACCEPTED
    (lost,) = world.bid()
    world.tell(LOSS, lost)
    for _ in range(5):
        world.wait(3_000)
        world.bid(16)
    assert [world.tell(BILLABLE, bid, 5), world.tell(BILLABLE, bid, 6)] == [DUPLICATE, CONFLICT]
    assert world.tell(LOSS, bid) == CONFLICT
    assert world.tell(BILLABLE, lost, 5) == EXPIRED, "its tombstone is gone, and so is its deadline"


def test_closing_a_response_loses_what_is_not_won() -> None:
    world = World()
    bids = world.bid(5)
    world.tell(WIN, bids[1])
    world.tell(BILLABLE, bids[2], 10)
    world.bank.close_responses(np.array([bids[0][1]], np.uint64), np.array([4], np.uint32))
    assert world.account()["held_micros"] == 2 * BID, "the won one, and one outside the run"
    assert [world.tell(BILLABLE, bid, 10) for bid in bids] == [CONFLICT, ACCEPTED, DUPLICATE, CONFLICT, ACCEPTED]


def test_one_report_with_everything_is_judged_row_by_row() -> None:
    world = World()
    first, second, third = world.bid(3)
    rows = np.concatenate(
        [
            told(WIN, *first[:2], 5, bid_micros=BID),
            told(BILLABLE, *first[:2], 5, bid_micros=BID),
            told(BILLABLE, *first[:2], 5, bid_micros=BID),
            told(BILLABLE, *second[:2], BID + 1, bid_micros=BID),
            told(LOSS, *third[:2]),
            told(BILLABLE, *third[:2], 5, bid_micros=BID),
            seen(OutcomeKind.FOLLOW, 5, 6),
            seen(OutcomeKind.FOLLOW, 5, 6),
            told(OutcomeKind.CLICK, *first[:2]),
        ]
    )
    assert world.bank.report(rows).tolist() == [
        ACCEPTED, ACCEPTED, DUPLICATE, INVALID, ACCEPTED, CONFLICT, ACCEPTED, DUPLICATE, ACCEPTED,
    ]  # fmt: skip
    assert world.ledger.read(0, 10)["kind"].tolist() == [BILLABLE, OutcomeKind.FOLLOW, OutcomeKind.CLICK]
    assert world.bank.report(np.zeros(0, OUTCOME)).tolist() == []


def test_a_budget_is_spent_to_the_last_bid_that_fits() -> None:
    world = World(daily=100_500)
    won = 0
    for _ in range(200):
        bids = world.bid(3)
        won += len(bids)
        assert all(world.tell(BILLABLE, bid, BID) == ACCEPTED for bid in bids)
        world.wait(1_000)
        world.bank.tick()
        world.judge.catch_up()
    assert won == 100
    assert world.account()["day_settled_micros"] == 100_000
    assert len(world.bid(bid=500)) == 0
    world.wait(1_001)
    world.bank.tick()
    assert len(world.bid(bid=500)) == 1, "the rest does for a smaller bid"


def test_refused_money_is_asked_for() -> None:
    world = World(daily=10**8)
    assert len(world.bid(30_000)) < 30_000
    world.bank.tick()
    assert len(world.bid(30_000)) == 30_000


def test_what_is_idle_is_given_back() -> None:
    world = World(daily=10**8)
    idle = int(world.account()["day_leased_micros"])
    world.bid(20_000)
    world.wait(3_000)
    world.bank.tick()
    busy = int(world.account()["day_leased_micros"])
    for _ in range(20):
        world.wait(600_000)
        world.bank.tick()
    assert idle < busy
    assert int(world.account()["day_leased_micros"]) <= idle


@pytest.mark.parametrize("gap_ms", [5_000, 599_000])
def test_an_open_campaign_is_never_without_a_lease(gap_ms: int) -> None:
    world = World(daily=10**9)
    rows = world.ledger.last_sequence
    for _ in range(200):
        assert len(world.bid()) == 1
        world.wait(gap_ms)
        world.bank.tick()
    hours = 200 * gap_ms / MS_PER_HOUR
    assert world.ledger.last_sequence - rows <= 4 * hours + 8, "a few rows an hour"


@pytest.mark.parametrize("zone", [ZONE, "America/Santiago", "Australia/Lord_Howe"])
def test_the_day_turns(zone: str) -> None:
    clock = VirtualClock(START_MS)
    ledger = Ledger(None)
    bank = Bank(ledger, clock)
    judge = JudgeFollower(ledger, [bank.settle_judge])
    bank.set_account(1, 9, zone, 10_000, 10**9)
    choice, leases, seqs = np.zeros((3, 1), np.int8), np.zeros((3, 1), np.uint64), np.zeros((3, 1), np.uint64)
    spent: dict[int, int] = {}
    for _ in range(24 * 9):
        clock.advance_to(clock.wall_ms() + MS_PER_HOUR // 2)
        bank.tick()
        slots = np.full((3, 1), bank.slot_of(1), np.int32)
        bank.place_holds(slots, np.full((3, 1), BID, np.int64), 1, choice, leases, seqs)
        day = local_day(clock.wall_ms(), zone).day_key
        for lease, seq, k in zip(leases[:, 0].tolist(), seqs[:, 0].tolist(), choice[:, 0], strict=True):
            if k == 0:
                row = told(BILLABLE, lease, seq, BID, 1, BID, clock.wall_ms())
                assert bank.report(row).tolist() == [ACCEPTED]
                spent[day] = spent.get(day, 0) + BID
        judge.catch_up()
        bank.tick()
    assert len(spent) >= 5
    assert set(spent.values()) == {10_000}
    account = bank.accounts(np.array([1], np.uint64))[0]
    assert account["flight_settled_micros"] == sum(spent.values())


def test_bids_stop_at_midnight_and_late_impressions_count_for_the_day_of_the_bid() -> None:
    world = World()
    day = local_day(START_MS, ZONE)
    world.wait(day.end_at_ms - START_MS - 100)
    world.bid()
    world.bank.tick()
    (bid,) = world.bid()
    world.wait(100)
    assert world.bid() == [], "leases end with their day"
    world.bank.tick()
    assert len(world.bid()) == 1
    assert world.tell(BILLABLE, bid, 600) == ACCEPTED
    world.judge.catch_up()
    account = world.account()
    assert (account["day_settled_micros"], account["flight_settled_micros"]) == (0, 600)
    assert account["day_start_at_ms"] == day.end_at_ms


def test_a_cut_takes_back_what_is_not_held() -> None:
    world = World()
    bids = world.bid(3)
    answer = world.bank.set_account(1, 9, ZONE, 2_000, 10**7)
    assert answer.daily_cap_micros == 3 * BID, "three bids are out"
    assert world.account()["day_cap_micros"] == 3 * BID
    assert world.bid() == []
    assert all(world.tell(BILLABLE, bid, 500) == ACCEPTED for bid in bids)
    world.judge.catch_up()
    world.bank.tick()
    account = world.account()
    assert (account["day_cap_micros"], account["day_settled_micros"]) == (2_000, 1_500)
    assert world.bank.set_account(1, 9, ZONE, 5_000, 10**7).daily_cap_micros == 5_000
    world.bank.tick()
    world.bid(9)
    world.bank.tick()
    world.bid(9)
    assert world.account()["held_micros"] == 3_000, "3,500 are left"


def test_closing_an_account_stops_bids_and_keeps_holds() -> None:
    world = World()
    (bid,) = world.bid()
    world.bank.close_account(1)
    world.bank.close_account(404)
    assert world.bid() == []
    world.bank.tick()
    assert world.bid() == []
    assert world.tell(BILLABLE, bid, 400) == ACCEPTED
    world.judge.catch_up()
    world.bank.tick()
    account = world.account()
    assert (account["flight_leased_micros"], account["flight_settled_micros"]) == (0, 400)
    world.bank.set_account(1, 9, ZONE, 10**6, 10**7)
    world.bank.tick()
    assert len(world.bid()) == 1


def test_unknown_campaigns_are_named() -> None:
    world = World()
    with pytest.raises(ValueError, match="campaign_id 404: has no account"):
        world.bank.slot_of(404)
    with pytest.raises(ValueError, match="campaign_id 404: has no account"):
        world.account(404)


def test_many_campaigns_keep_their_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    for campaign_id in range(2, 200):
        world.bank.set_account(campaign_id, 9, ZONE, 10**6, 10**7)
    world.bank.tick()
    slots = [world.bank.slot_of(c) for c in range(1, 200)]
    assert sorted(slots) == list(range(199))
    assert all(len(world.bid(campaign_id=c)) == 1 for c in range(1, 200))
    world.bank.set_account(1, 9, ZONE, 10**6, 10**7)
    assert world.bank.slot_of(1) == slots[0]
    accounts = world.bank.accounts(np.arange(1, 200, dtype=np.uint64))
    assert accounts["held_micros"].tolist() == [BID] * 199
    monkeypatch.setattr(bank_module, "_STANDINGS_AT_ONCE", 7)
    some = np.concatenate([np.arange(150, 200), np.arange(1, 50)]).astype(np.uint64)
    assert (world.bank.accounts(some) == accounts[some.astype(np.int64) - 1]).all(), "in parts as at once"
    with pytest.raises(ValueError, match="campaign_id 999: has no account"):
        world.bank.accounts(np.array([1, 999], np.uint64))


def test_after_a_crash_old_money_is_locked_and_old_bids_are_charged(tmp_path: Path) -> None:
    world = World(tmp_path / "ledger.sqlite")
    won, lost, late = world.bid(3)
    world.tell(WIN, won)
    leased = int(world.account()["day_leased_micros"])
    world.restart()
    recovery = world.bank.recover()
    assert (recovery.accounts, recovery.quarantined_leases, recovery.quarantined_micros) == (1, 1, leased)
    world.bank.set_account(1, 9, ZONE, 10**6, 10**7)
    world.bank.tick()
    assert world.account()["day_leased_micros"] > leased
    assert world.account()["day_spend_micros"] == 0
    assert len(world.bid()) == 1, "bidding goes on with new money"
    assert [world.tell(LOSS, lost), world.tell(LOSS, lost), world.tell(BILLABLE, lost, 5)] == [
        ACCEPTED,
        DUPLICATE,
        CONFLICT,
    ]
    world.wait(60_000)
    assert [world.tell(BILLABLE, won, 300), world.tell(BILLABLE, won, 300)] == [ACCEPTED, DUPLICATE]
    assert world.tell(LOSS, won) == CONFLICT
    world.wait(1)
    assert [world.tell(BILLABLE, late, 300), world.tell(WIN, late)] == [EXPIRED, EXPIRED]
    world.judge.catch_up()
    assert world.ledger.read_judged(0, 9)[1]["verdict"].tolist() == [Verdict.CHARGED]
    world.wait(10_000)
    for _ in range(2):
        world.bank.tick()
        world.judge.catch_up()
    world.bank.close_account(1)
    world.bank.tick()
    world.wait(10**6)
    world.bank.tick()
    account = world.account()
    assert (account["flight_settled_micros"], account["flight_leased_micros"]) == (300, 0)


def test_old_sequences_close_no_new_holds(tmp_path: Path) -> None:
    world = World(tmp_path / "ledger.sqlite")
    old = world.bid(3)
    world.restart()
    world.bank.set_account(1, 9, ZONE, 10**6, 10**7)
    world.bank.tick()
    world.bid(3)
    world.bank.close_responses(np.array([old[0][1]], np.uint64), np.array([3], np.uint32))
    assert world.account()["held_micros"] == 3 * BID


def test_a_restart_reads_only_what_the_snapshot_lacks(tmp_path: Path) -> None:
    world = World(tmp_path / "ledger.sqlite", BankSettings(snapshot_rows=100), daily=10**7)
    for _ in range(31):
        bids = world.bid(10)
        rows = np.concatenate([told(BILLABLE, lease, seq, 7, 1, BID, at) for lease, seq, at in bids])
        assert (world.bank.report(rows) == ACCEPTED).all()
        world.judge.catch_up()
        world.wait(1_000)
        world.bank.tick()
    before = world.account()
    world.restart()
    assert 0 < world.bank.recover().rows_replayed < 150
    world.bank.set_account(1, 9, ZONE, 10**7, 10**8)
    after = world.account()
    assert before["flight_settled_micros"] == after["flight_settled_micros"] == 310 * 7
    assert before["flight_leased_micros"] == after["flight_leased_micros"]
    assert world.bank.report(rows).tolist() == [DUPLICATE] * 10


def test_a_snapshot_waits_for_releases_that_are_not_written(tmp_path: Path) -> None:
    world = World(tmp_path / "ledger.sqlite", BankSettings(snapshot_rows=1))
    won, billed = world.bid(2)
    world.tell(WIN, won)
    world.tell(BILLABLE, billed, 300)
    world.bank.close_account(1)
    world.ledger.is_full = True
    with pytest.raises(LedgerUnavailable):
        world.bank.tick()
    world.ledger.is_full = False
    world.judge.catch_up()
    assert world.ledger.load_snapshot() is not None
    world.bank.tick()
    world.restart()
    assert world.bank.recover().quarantined_micros == BID, "what the won bid holds, neither more nor less"


def test_a_full_disk_stops_charges_and_not_bids() -> None:
    world = World()
    world.ledger.is_full = True
    (bid,) = world.bid()
    with pytest.raises(LedgerUnavailable):
        world.bank.set_account(1, 9, ZONE, 5 * 10**6, 10**7)
    assert world.account()["day_cap_micros"] == 10**6
    with pytest.raises(LedgerUnavailable):
        world.tell(BILLABLE, bid, 5)
    assert world.account()["held_micros"] == BID, "the hold stays, so that the report can come again"
    world.bid(10**6)
    with pytest.raises(LedgerUnavailable):
        world.bank.tick()
    world.ledger.is_full = False
    world.wait(1_000)
    assert world.bank.set_account(1, 9, ZONE, 10**6, 10**7).daily_cap_micros == 10**6
    world.bank.tick()
    assert [world.tell(BILLABLE, bid, 5), world.tell(BILLABLE, bid, 5)] == [ACCEPTED, DUPLICATE]


def test_conversions_repeat_after_a_month_and_a_restart(tmp_path: Path) -> None:
    world = World(tmp_path / "ledger.sqlite")
    (bid,) = world.bid()
    world.tell(BILLABLE, bid, 5)
    rows = np.concatenate([told(OutcomeKind.FOLLOW, *bid[:2]), seen(OutcomeKind.GIFT, 3, 4)])
    assert world.bank.report(rows).tolist() == [ACCEPTED, ACCEPTED]
    world.wait(30 * MS_PER_DAY)
    world.restart()
    assert world.bank.report(rows).tolist() == [DUPLICATE, DUPLICATE]
    assert world.tell(OutcomeKind.ORDER, bid) == ACCEPTED


def test_threads_bid_and_bill_together(tmp_path: Path) -> None:
    world = World(tmp_path / "ledger.sqlite", daily=200_000)
    accepted: list[int] = []
    stop = threading.Event()

    def bid_and_bill() -> None:
        for _ in range(40):
            for bid in world.bid(4):
                if world.tell(BILLABLE, bid, BID - 1) == ACCEPTED:
                    accepted.append(bid[1])

    def turn() -> None:
        while not stop.is_set():
            world.bank.tick()
            world.judge.step()

    workers = [threading.Thread(target=bid_and_bill) for _ in range(4)]
    ticker = threading.Thread(target=turn)
    for thread in (*workers, ticker):
        thread.start()
    for thread in workers:
        thread.join()
    stop.set()
    ticker.join()
    world.judge.catch_up()
    assert len(set(accepted)) == len(accepted) > 0
    assert world.ledger.read_judged(0, 10**6)[1]["verdict"].tolist() == [Verdict.CHARGED] * len(accepted)
    account = world.account()
    assert account["day_settled_micros"] == len(accepted) * (BID - 1) <= 200_000
    assert account["held_micros"] == 0
