"""The bank against a plain shadow: random bids, reports, time, caps, full disks and restarts from the ledger."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pacing.budget.bank import Bank
from pacing.budget.settings import BankSettings
from pacing.clocks import MS_PER_HOUR, VirtualClock
from pacing.facts import OutcomeKind, RowStatus, Verdict
from pacing.ledger.errors import LedgerUnavailable
from pacing.ledger.followers import JudgeFollower
from tests.pacing.faulty import FaultyLedger
from tests.pacing.rows import START_MS, told

WIN_MS, BILLING_MS, GRACE_MS = 2_000, 20_000, 3_000
SETTINGS = BankSettings(
    win_notice_ms=WIN_MS,
    billing_ms=BILLING_MS,
    grace_ms=GRACE_MS,
    lease_ttl_ms=40_000,
    hold_capacity=1024,
    snapshot_rows=40,
)
ZONES = {1: "Asia/Shanghai", 2: "America/Santiago"}  # Santiago has days without midnight


@dataclass
class Bid:
    """What the shadow knows of one bid."""

    campaign_id: int
    lease_id: int
    hold_seq: int
    bid_micros: int
    issued_at_ms: int
    state: str = "offered"  # offered, won, billed, lost, lapsed
    charged: int = -1
    life: int = 0  # of the process that made it

    def row(self, kind: OutcomeKind, amount: int = 0) -> np.ndarray:
        return told(
            kind, self.lease_id, self.hold_seq, amount, self.campaign_id,
            self.bid_micros, self.issued_at_ms, WIN_MS, BILLING_MS,
        )  # fmt: skip


class BankMachine(RuleBasedStateMachine):
    """Feeds that keep to the protocol: no over-delivery, ever."""

    is_honest = True

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.clock = VirtualClock(START_MS)
        self.life = 0
        self.bids: list[Bid] = []
        self.limits: dict[int, tuple[int, int]] = {}  # caps in force, as answered
        self.day_limits: dict[tuple[int, int], int] = {}
        self.boot(self.folder / "0")

    def boot(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.ledger = FaultyLedger(folder / "ledger.sqlite")
        self.bank = Bank(self.ledger, self.clock, SETTINGS)
        self.judge = JudgeFollower(self.ledger, [self.bank.settle_judge], batch_rows=7, on_judged=self.bank.judged)

    def teardown(self) -> None:
        self.ledger.close()
        shutil.rmtree(self.folder)

    @initialize(daily=st.integers(100, 1_500), total=st.integers(100, 4_000))
    def open_accounts(self, daily: int, total: int) -> None:
        for campaign_id in ZONES:
            self.set_caps(campaign_id, daily, total)
        self.bank.tick()

    @rule(campaign_id=st.sampled_from([1, 2]), daily=st.integers(1, 1_500), total=st.integers(1, 4_000))
    def set_caps(self, campaign_id: int, daily: int, total: int) -> None:
        answer = self.bank.set_account(campaign_id, 70 + campaign_id, ZONES[campaign_id], daily, total)
        assert answer.daily_cap_micros >= daily and answer.total_cap_micros >= total
        self.limits[campaign_id] = (answer.daily_cap_micros, answer.total_cap_micros)
        day = self.bank.accounts(np.array([campaign_id], np.uint64))["day_key"][0]
        self.day_limits[campaign_id, int(day)] = answer.daily_cap_micros

    @rule(campaign_id=st.sampled_from([1, 2]))
    def pause(self, campaign_id: int) -> None:
        self.bank.close_account(campaign_id)
        assert not self.place([campaign_id], 1, 1)

    def place(self, campaign_ids: list[int], bid: int, viewers: int) -> list[Bid]:
        slots = np.tile(np.array([self.bank.slot_of(c) for c in campaign_ids], np.int32), (viewers, 1))
        choice = np.zeros((viewers, 1), np.int8)
        lease_ids, seqs = np.zeros((viewers, 1), np.uint64), np.zeros((viewers, 1), np.uint64)
        bids = np.full(slots.shape, bid, np.int64)
        self.bank.place_holds(slots, bids, 1, choice, lease_ids, seqs)
        return [
            Bid(campaign_ids[k], int(lease), int(seq), bid, self.clock.wall_ms(), life=self.life)
            for k, lease, seq in zip(choice[:, 0].tolist(), lease_ids[:, 0], seqs[:, 0], strict=True)
            if k >= 0
        ]

    @rule(first=st.sampled_from([1, 2]), bid=st.integers(1, 60), viewers=st.integers(1, 6))
    def bid_for(self, first: int, bid: int, viewers: int) -> None:
        placed = self.place([first, 3 - first], bid, viewers)
        self.enter(placed)

    def enter(self, placed: list[Bid]) -> None:
        known = {b.hold_seq for b in self.bids}
        assert not known & {b.hold_seq for b in placed}, "sequences are never used twice, by no process"
        self.bids += placed

    @rule(campaign_id=st.sampled_from([1, 2]), bid=st.integers(20, 60), lost_every=st.integers(2, 9))
    def rush(self, campaign_id: int, bid: int, lost_every: int) -> None:
        """Bid until the money is out, and bill nearly all of it at the full price."""
        for _ in range(8):
            placed = self.place([campaign_id], bid, 12)
            self.enter(placed)
            for i, b in enumerate(placed):
                is_lost = i % lost_every == lost_every - 1
                kind = OutcomeKind.LOSS if is_lost else OutcomeKind.BILLABLE
                assert self.bank.report(b.row(kind, 0 if is_lost else bid)).tolist() == [RowStatus.ACCEPTED]
                b.state, b.charged = ("lost", -1) if is_lost else ("billed", bid)
            self.clock.advance_to(self.clock.wall_ms() + SETTINGS.retry_ms)
            self.bank.tick()
            self.judge.step()

    @rule()
    def bill_all(self) -> None:
        """Show everything that may still be shown."""
        self.lapse()
        for b in [b for b in self.bids if b.state in ("offered", "won")]:
            assert self.bank.report(b.row(OutcomeKind.BILLABLE, b.bid_micros)).tolist() == [RowStatus.ACCEPTED]
            b.state, b.charged = "billed", b.bid_micros
        self.audit()

    def lapse(self) -> None:
        now = self.clock.wall_ms()
        for b in self.bids:
            wait = {"offered": WIN_MS, "won": BILLING_MS}.get(b.state)
            if wait is not None and now > b.issued_at_ms + wait:
                b.state = "lapsed"

    def pick(self, index: int) -> Bid:
        self.lapse()
        undecided = [b for b in self.bids if b.state in ("offered", "won")]
        pool = undecided if undecided and index % 3 else self.bids
        return pool[index % len(pool)]

    @precondition(lambda self: self.bids)
    @rule(index=st.integers(0, 10**6))
    def win(self, index: int) -> None:
        b = self.pick(index)
        status = int(self.bank.report(b.row(OutcomeKind.WIN))[0])
        if b.life != self.life:
            return  # of a process that is gone: nothing to extend
        if b.state == "offered":
            assert status == RowStatus.ACCEPTED
            b.state = "won"
        else:
            repeated = RowStatus.DUPLICATE
            expected = {"won": repeated, "billed": repeated, "lost": RowStatus.CONFLICT, "lapsed": RowStatus.EXPIRED}
            assert status == expected[b.state]

    @precondition(lambda self: self.bids)
    @rule(index=st.integers(0, 10**6))
    def lose(self, index: int) -> None:
        b = self.pick(index)
        status = int(self.bank.report(b.row(OutcomeKind.LOSS))[0])
        if b.state == "billed":
            assert status == RowStatus.CONFLICT
        elif b.state in ("offered", "won"):
            assert status in (RowStatus.ACCEPTED, RowStatus.DUPLICATE)
            b.state = "lost"
        else:
            assert status in (RowStatus.ACCEPTED, RowStatus.DUPLICATE)
            b.state = "lost"

    @precondition(lambda self: self.bids)
    @rule(index=st.integers(0, 10**6), share=st.floats(0, 1), is_full=st.booleans(), repeats=st.integers(1, 3))
    def bill(self, index: int, share: float, is_full: bool, repeats: int) -> None:
        b = self.pick(index)
        if self.is_honest and b.life != self.life and b.state in ("lapsed", "lost"):
            return  # such a feed shows only what it won in time
        amount = int(b.bid_micros * share)
        rows = np.concatenate([b.row(OutcomeKind.BILLABLE, amount)] * repeats)
        self.ledger.is_full = is_full
        try:
            statuses = self.bank.report(rows).tolist()
        except LedgerUnavailable:
            assert is_full and (b.state != "billed" or b.life != self.life)
            return
        finally:
            self.ledger.is_full = False
        if b.state == "billed":
            assert set(statuses) == {RowStatus.DUPLICATE if amount == b.charged else RowStatus.CONFLICT}
            return
        if statuses[0] == RowStatus.ACCEPTED:
            assert not is_full and set(statuses[1:]) <= {RowStatus.DUPLICATE}
            assert b.state in ("offered", "won") or (b.life != self.life and not self.is_honest)
            b.state, b.charged = "billed", amount
        else:
            expected = {"lost": RowStatus.CONFLICT, "lapsed": RowStatus.EXPIRED}
            assert b.life != self.life or set(statuses) == {expected[b.state]}
            assert b.state not in ("offered", "won"), "a feed that keeps to the protocol is paid"

    @precondition(lambda self: self.bids)
    @rule(index=st.integers(0, 10**6), count=st.integers(1, 8))
    def close_responses(self, index: int, count: int) -> None:
        first = self.pick(index).hold_seq
        self.bank.close_responses(np.array([first], np.uint64), np.array([count], np.uint32))
        for b in self.bids:
            if first <= b.hold_seq < first + count and b.state == "offered" and b.life == self.life:
                b.state = "lost"

    @rule(ms=st.sampled_from([1, 100, 1_999, 2_001, 15_000, 21_000, 45_000]))
    def wait(self, ms: int) -> None:
        self.clock.advance_to(self.clock.wall_ms() + ms)
        self.bank.tick()

    @rule(hours=st.integers(1, 30))
    def wait_long(self, hours: int) -> None:
        self.clock.advance_to(self.clock.wall_ms() + hours * MS_PER_HOUR)
        self.bank.tick()

    @rule(is_full=st.booleans())
    def tick(self, is_full: bool) -> None:
        self.ledger.is_full = is_full
        try:
            self.bank.tick()
        except LedgerUnavailable:
            assert is_full
        self.ledger.is_full = False

    @rule(steps=st.integers(1, 4))
    def judge_some(self, steps: int) -> None:
        for _ in range(steps):
            self.judge.step()

    @rule(campaign_id=st.sampled_from([1, 2]), bid=st.integers(20, 60))
    def crash_with_bids_out(self, campaign_id: int, bid: int) -> None:
        """Die with bids won, spend all that can be had, then hear of the old bids' impressions."""
        self.bank.tick()
        placed = self.place([campaign_id], bid, 12)
        self.enter(placed)
        for b in placed:
            assert self.bank.report(b.row(OutcomeKind.WIN)).tolist() == [RowStatus.ACCEPTED]
            b.state = "won"
        self.crash()
        self.bank.tick()
        self.rush(campaign_id, bid, 9)
        self.bill_all()

    @rule()
    def crash(self) -> None:
        """Go on from what is on disk now, as after a kill."""
        self.lapse()
        self.life += 1
        folder = self.folder / str(self.life)
        shutil.copytree(self.folder / str(self.life - 1), folder)
        self.ledger.close()
        caps = {c: self.bank._durable_caps[c] for c in ZONES}
        before = {c: self.settled_days(c) for c in ZONES}
        self.boot(folder)
        for c in ZONES:
            assert before[c].items() <= self.settled_days(c).items(), "days long gone may come back"
            self.bank.set_account(c, 70 + c, ZONES[c], *caps[c])

    def settled_days(self, campaign_id: int) -> dict[int, int]:
        account = self.bank._store.accounts[campaign_id]
        days = {key: day.settled_micros for key, day in account.days.items() if day.settled_micros}
        return {**days, 0: account.flight.settled_micros}

    @invariant()
    def within_caps(self) -> None:
        for campaign_id, (_, total) in self.limits.items():
            account = self.bank._store.accounts[campaign_id]
            assert account.flight.leased_micros >= 0
            assert account.flight.settled_micros + account.flight.leased_micros <= total
            for key, day in account.days.items():
                assert day.leased_micros >= 0
                limit = self.day_limits.setdefault((campaign_id, key), self.limits[campaign_id][0])
                assert day.settled_micros + day.leased_micros <= limit
            remaining = sum(
                x.remaining_micros for x in self.bank._store.leases.values() if x.campaign_id == campaign_id
            )
            assert remaining == account.flight.leased_micros

    @rule()
    def audit(self) -> None:
        """Judge everything: each accepted claim has one verdict, and the accounts say the same as the claims."""
        self.judge.catch_up()
        rows, judgements = self.ledger.read_judged(0, 10**6)
        verdicts = {
            (int(r["decision"]["lease_id"]), int(r["decision"]["hold_seq"])): (
                int(j["verdict"]),
                int(r["price_micros"]),
            )
            for r, j in zip(rows, judgements, strict=True)
        }
        assert len(verdicts) == len(rows)
        billed = {(b.lease_id, b.hold_seq): b for b in self.bids if b.state == "billed"}
        assert verdicts.keys() == billed.keys()
        for campaign_id in ZONES:
            ours = [key for key, b in billed.items() if b.campaign_id == campaign_id]
            charged = sum(verdicts[key][1] for key in ours if verdicts[key][0] == Verdict.CHARGED)
            over = sum(verdicts[key][1] for key in ours if verdicts[key][0] == Verdict.OVER_DELIVERY)
            account = self.bank._store.accounts[campaign_id]
            assert account.flight.settled_micros == charged
            assert account.over_delivered_micros == over
            assert self.ledger.charged_at(campaign_id, 2**62) == (charged, over)
            assert all(verdicts[key][1] == billed[key].charged for key in ours)
            assert over == 0 or not self.is_honest
            standing = self.bank.accounts(np.array([campaign_id], np.uint64))
            assert standing["flight_spend_micros"][0] == charged

    @rule()
    def drain(self) -> None:
        """Once every deadline has passed, nothing is leased but what bids could use now."""
        for campaign_id in ZONES:
            self.bank.close_account(campaign_id)
        for _ in range(2):
            self.clock.advance_to(self.clock.wall_ms() + BILLING_MS + GRACE_MS + 1)
            self.bank.tick()
            self.judge.catch_up()
        self.bank.tick()
        for campaign_id, limit in self.limits.items():
            account = self.bank._store.accounts[campaign_id]
            assert account.flight.leased_micros == 0
            assert [day.leased_micros for day in account.days.values() if day.leased_micros] == []
            caps = account.daily_cap_micros, account.flight.cap_micros
            self.bank.set_account(campaign_id, account.creator_id, account.zone, *caps)
            assert limit


class RudeBankMachine(BankMachine):
    """Feeds that bill what they never won: charges still keep to the caps."""

    is_honest = False


@pytest.mark.parametrize("machine", [BankMachine, RudeBankMachine])
def test_bank_against_its_shadow(machine: type[BankMachine]) -> None:
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(machine, settings=settings(max_examples=40, stateful_step_count=25, deadline=None))


def test_settings_name_field_value_and_range() -> None:
    with pytest.raises(ValueError, match="win_notice_ms 0: not in 1"):
        replace(SETTINGS, win_notice_ms=0)
    with pytest.raises(ValueError, match="billing_ms 5: not in 2000"):
        replace(SETTINGS, billing_ms=5)
    with pytest.raises(ValueError, match="hold_capacity 1000: not a power of two"):
        replace(SETTINGS, hold_capacity=1000)
