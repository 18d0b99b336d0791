"""Several banks on one Redis: one budget, notices that reach any server, a store that is away or lost its master."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.faults.clock import SteppingClock, Timeline
from benchmarks.redis_servers import RedisServer, redis_server
from pacing.budget.bank import Bank
from pacing.budget.epochs import EpochWatch
from pacing.budget.owner_redis import OWNERS
from pacing.budget.redis_store import RedisStore
from pacing.budget.settings import BankSettings
from pacing.budget.shared import SharedStore
from pacing.budget.store import JudgedMark, NotDecided, StoreUnavailable
from pacing.clocks import MS_PER_HOUR, VirtualClock
from pacing.facts import OutcomeKind, RowStatus, Verdict
from pacing.ledger.followers import JudgeFollower
from pacing.ledger.log import Ledger
from tests.pacing.budget.store_homes import RedisHome
from tests.pacing.rows import START_MS, told

ZONE = "UTC"
CREATOR = 9
BID = 1_000
ACCEPTED, EXPIRED = RowStatus.ACCEPTED, RowStatus.EXPIRED
WIN, BILLABLE, LOSS = OutcomeKind.WIN, OutcomeKind.BILLABLE, OutcomeKind.LOSS
Bid = tuple[int, int, int]


class Server:
    """A bank with a ledger of its own, on a shared store."""

    def __init__(self, url: str, owner_id: int, clock: VirtualClock, path: Path | None = None) -> None:
        self.url, self.clock, self.path = url, clock, path
        self.settings = BankSettings(owner_id=owner_id, is_shared=True, lease_ttl_ms=120_000)
        self.boot()

    def boot(self) -> None:
        self.ledger = Ledger(self.path)
        # No quarantine by the real time of Redis: time is virtual here.
        self.remote = RedisStore(self.url, self.settings.owner_id, timeout_ms=300, quarantine_ms=0)
        self.store = SharedStore(self.remote, self.clock, self.settings.owner_id)
        self.bank = Bank(self.ledger, self.clock, self.settings, self.store)
        self.judge = JudgeFollower(self.ledger, [self.bank.settle_judge], on_judged=self.bank.judged)
        self.epochs = EpochWatch(self.store, self.remote, self.ledger, self.clock)

    def restart(self) -> None:
        """As after a kill: what was in memory is gone."""
        self.close()
        self.boot()

    def close(self) -> None:
        self.ledger.close()
        self.remote.close()

    def open(self, daily: int, total: int = 0, revision: int = 1, opening: bool = True) -> None:
        self.bank.set_account(1, CREATOR, ZONE, daily, total or 10 * daily, revision, opening)

    def bid(self, count: int = 1, bid: int = BID) -> list[Bid]:
        slots = np.full((count, 1), self.bank.slot_of(1), np.int32)
        choice = np.zeros((count, 1), np.int8)
        lease_ids, seqs = np.zeros((count, 1), np.uint64), np.zeros((count, 1), np.uint64)
        self.bank.place_holds(slots, np.full((count, 1), bid, np.int64), 1, choice, lease_ids, seqs)
        placed = choice[:, 0] == 0
        now = self.clock.wall_ms()
        return [(int(lease), int(seq), now) for lease, seq in zip(lease_ids[placed, 0], seqs[placed, 0], strict=True)]

    def tell(self, kind: OutcomeKind, bid: Bid, amount: int = 0) -> int:
        lease_id, seq, issued = bid
        times = (self.settings.win_notice_ms, self.settings.billing_ms)
        return int(self.bank.report(told(kind, lease_id, seq, amount, 1, BID, issued, *times))[0])

    def verdicts(self) -> list[int]:
        rows, judgements = self.ledger.read_judged(0, 10_000)
        billed: list[int] = judgements["verdict"][rows["kind"] == BILLABLE].tolist()
        return billed


class Deployment:
    """Servers on one Redis and one virtual clock."""

    def __init__(self, home: RedisHome, count: int, folder: Path | None = None) -> None:
        self.home = home
        self.truth = home.fresh()
        self.clock = VirtualClock(START_MS)
        url = home.masters[0].url
        self.servers = [
            Server(url, owner_id, self.clock, folder / f"{owner_id}.sqlite" if folder else None)
            for owner_id in range(1, count + 1)
        ]

    def tick(self, ms: int = 200) -> None:
        self.clock.advance_to(self.clock.wall_ms() + ms)
        for server in self.servers:
            server.bank.tick()

    def wait(self, ms: int) -> None:
        for _ in range(0, ms, 5_000):
            self.tick(5_000)

    def bid_all(self, server: Server) -> list[Bid]:
        """Every bid for which a server finds money in four seconds."""
        bids = []
        for _ in range(20):
            self.tick()
            bids += server.bid(9)
        return bids

    def judge(self) -> None:
        for server in self.servers:
            server.judge.catch_up()

    def remember(self) -> dict[bytes, bytes]:
        """What Redis holds now, as a replica that lags behind would."""
        master = self.home.masters[0]
        return {key: master.ask("DUMP", key) for key in master.ask("KEYS", "*")}

    def fail_over(self, replica: dict[bytes, bytes]) -> None:
        """Let the replica take over: what was written since is lost."""
        master = self.home.masters[0]
        master.ask("FLUSHALL")
        for key, dump in replica.items():
            master.ask("RESTORE", key, 0, dump)
        master.ask("DEBUG", "CHANGE-REPL-ID")

    def amounts(self) -> tuple[int, int]:
        """Settled and leased, as Redis has them."""
        account = self.truth.account(1)
        assert account is not None
        return account.flight.settled_micros, account.flight.leased_micros

    def close(self) -> None:
        for server in self.servers:
            server.close()


@pytest.fixture
def deployment(redis_home: RedisHome, tmp_path: Path) -> Iterator[Deployment]:
    made = Deployment(redis_home, 4, tmp_path)
    yield made
    made.close()


def test_four_servers_spend_one_budget_to_the_last_bid_and_not_past_it(deployment: Deployment) -> None:
    daily = 200 * BID + BID // 2
    for server in deployment.servers:
        server.open(daily)
    charged = 0
    draw = random.Random(3)
    for round_ in range(400):
        deployment.tick()
        for server in deployment.servers:
            for bid in server.bid(draw.randrange(1, 4)):
                if draw.random() < 0.4:
                    charged += server.tell(BILLABLE, bid, BID) == ACCEPTED
                else:
                    server.tell(LOSS, bid)
        if round_ == 60:
            deployment.servers[1].restart()
            deployment.servers[1].open(daily, opening=False)
        if round_ % 8 == 0:
            deployment.judge()
        settled, leased = deployment.amounts()
        assert settled + leased <= daily
        if charged == 200:
            break
        if round_ > 100:
            deployment.wait(5_000)  # what the one that died had leased comes back
    deployment.judge()
    assert charged == 200
    assert deployment.amounts()[0] == 200 * BID
    assert {v for server in deployment.servers for v in server.verdicts()} == {Verdict.CHARGED}


def test_a_bid_that_was_billed_elsewhere_is_not_spent_again(deployment: Deployment) -> None:
    here, there = deployment.servers[:2]
    for server in (here, there):
        server.open(4 * BID, 4 * BID)
    bids = deployment.bid_all(here)
    assert len(bids) == 4
    assert [there.tell(BILLABLE, bid, BID) for bid in bids[:2]] == [ACCEPTED] * 2
    deployment.wait(70_000)
    assert deployment.bid_all(here) == [], "nobody here knows what became of the four"
    for _ in range(3):
        deployment.judge()
        deployment.wait(60_000)
    assert len(deployment.bid_all(here)) == 2, "what was not billed is there again"
    assert deployment.amounts() == (2 * BID, 2 * BID)


def test_a_late_loss_frees_what_was_in_doubt(deployment: Deployment) -> None:
    here = deployment.servers[0]
    here.open(2 * BID, 2 * BID)
    bids = deployment.bid_all(here)
    assert len(bids) == 2
    deployment.wait(70_000)
    assert deployment.bid_all(here) == []
    assert [here.tell(LOSS, bid) for bid in bids] == [ACCEPTED] * 2
    assert len(deployment.bid_all(here)) == 2


def test_a_silent_bid_stays_reserved_until_no_other_server_can_take_its_notice(deployment: Deployment) -> None:
    here, there = deployment.servers[:2]
    for server in (here, there):
        server.open(BID, BID)
    (bid,) = deployment.bid_all(here)
    deployment.wait(55_000)
    assert there.tell(BILLABLE, bid, BID) == ACCEPTED
    deployment.wait(5_000)
    assert there.tell(BILLABLE, (bid[0], bid[1] + 1, bid[2]), BID) == EXPIRED
    assert here.bid() == []
    deployment.judge()
    assert deployment.amounts() == (BID, 0)


def test_the_same_impression_told_to_two_servers_is_charged_once(deployment: Deployment) -> None:
    here, there = deployment.servers[:2]
    for server in (here, there):
        server.open(5 * BID)
    deployment.tick()
    (bid,) = here.bid()
    assert [server.tell(BILLABLE, bid, 700) for server in (here, there)] == [ACCEPTED] * 2
    deployment.judge()
    assert deployment.amounts()[0] == 700
    assert (here.verdicts(), there.verdicts()) == ([Verdict.CHARGED], [Verdict.DUPLICATE])


def test_an_older_version_of_the_caps_changes_nothing(deployment: Deployment) -> None:
    here, there = deployment.servers[:2]
    here.open(5 * BID, revision=2)
    there.open(9 * BID, revision=1)
    account = deployment.truth.account(1)
    assert account is not None
    assert (account.daily_cap_micros, account.revision) == (5 * BID, 2)


def test_a_campaign_whose_account_was_lost_bids_nothing(
    deployment: Deployment, caplog: pytest.LogCaptureFixture
) -> None:
    here = deployment.servers[0]
    here.open(5 * BID, opening=False)
    deployment.tick()
    assert here.bid() == []
    assert "campaign_id 1: the budget store has lost its account" in caplog.text
    standing = here.bank.accounts(np.array([1], np.uint64))[0]
    assert (standing["campaign_id"], standing["day_cap_micros"]) == (1, 0)


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


def test_while_the_store_is_away_bids_go_on_and_nothing_is_lost(own_redis: RedisServer, tmp_path: Path) -> None:
    deployment = Deployment(RedisHome([own_redis]), 1, tmp_path)
    (server,) = deployment.servers
    server.open(100 * BID)
    deployment.tick()
    bids = server.bid(3)
    with own_redis.suspended():
        deployment.tick(1_000)
        assert len(server.bid(1)) == 1, "on the lease that is held"
        assert [server.tell(BILLABLE, bid, 10) for bid in bids] == [ACCEPTED] * 3
        with pytest.raises(StoreUnavailable):
            server.judge.catch_up()
        deployment.clock.advance_to(deployment.clock.wall_ms() + 1_000)
        with pytest.raises(StoreUnavailable):
            server.open(200 * BID, revision=2)
    deployment.wait(10_000)
    server.judge.catch_up()
    assert server.verdicts() == [Verdict.CHARGED] * 3
    deployment.close()


def test_what_a_failover_lost_is_told_again_before_anything_is_granted(deployment: Deployment) -> None:
    here, there = deployment.servers[:2]
    for server in (here, there):
        server.open(400 * BID, 400 * BID)
        server.judge.catch_up()
        server.epochs.tick()
    bids, others = [deployment.bid_all(server)[:4] for server in (here, there)]
    assert [here.tell(BILLABLE, bid, BID) for bid in bids[:2]] == [ACCEPTED] * 2
    deployment.judge()
    replica = deployment.remember()
    assert [here.tell(BILLABLE, bid, BID) for bid in bids[2:]] == [ACCEPTED] * 2
    assert [there.tell(BILLABLE, bid, BID) for bid in others] == [ACCEPTED] * 4
    deployment.judge()
    assert deployment.amounts()[0] == 8 * BID
    deployment.fail_over(replica)
    assert deployment.amounts()[0] == 2 * BID
    here.epochs.tick()
    assert deployment.amounts()[0] == 4 * BID
    assert not here.epochs.is_behind and not there.epochs.is_behind
    (epoch,) = here.remote.epochs([CREATOR]).values()
    assert (epoch.number, epoch.owners_behind) == (2, (2,)), "the other has not told its charges"
    there.epochs.tick()
    assert deployment.amounts()[0] == 8 * BID
    (epoch,) = here.remote.epochs([CREATOR]).values()
    assert epoch.owners_behind == ()
    here.epochs.tick()
    there.restart()
    there.epochs.tick()
    assert deployment.amounts()[0] == 8 * BID, "told again and again, charged once"


def test_an_impression_that_two_servers_were_told_of_is_charged_once_through_a_failover(deployment: Deployment) -> None:
    """One of them charged it, and the store lost that; the other must not charge it before the first has said so."""
    here, there = deployment.servers[:2]
    for server in (here, there):
        server.open(400 * BID, 400 * BID)
        server.epochs.tick()
    (bid, *_), _ = deployment.bid_all(here), deployment.bid_all(there)
    replica = deployment.remember()
    assert [server.tell(BILLABLE, bid, BID) for server in (here, there)] == [ACCEPTED] * 2
    here.judge.catch_up()
    deployment.fail_over(replica)
    with pytest.raises(NotDecided):
        there.judge.catch_up()
    there.epochs.tick()
    with pytest.raises(NotDecided):
        there.judge.catch_up()
    here.epochs.tick()
    there.judge.catch_up()
    assert (here.verdicts(), there.verdicts()) == ([Verdict.CHARGED], [Verdict.DUPLICATE])
    assert deployment.amounts()[0] == BID


def test_money_that_was_given_back_and_leased_again_survives_a_failover(deployment: Deployment) -> None:
    """The new master takes what was given back for leased, and does not know the lease that got it."""
    here, there = deployment.servers[:2]
    for server in (here, there):
        server.open(10 * BID, 10 * BID)
    mine = deployment.bid_all(here)
    assert len(mine) == 10
    replica = deployment.remember()
    for bid in mine:
        here.tell(LOSS, bid)
    others = deployment.bid_all(there)
    assert len(others) >= 5
    deployment.fail_over(replica)
    deployment.tick()
    assert there.tell(BILLABLE, others[0], BID) == ACCEPTED
    with pytest.raises(StoreUnavailable, match="1 claims wait until every owner has said what it has"):
        there.judge.catch_up()
    for server in (here, there):
        server.epochs.tick()
    there.judge.catch_up()
    assert there.verdicts() == [Verdict.CHARGED]
    settled, leased = deployment.amounts()
    assert settled == BID and settled + leased <= 10 * BID


def test_an_account_whose_opening_was_lost_is_opened_anew_and_has_what_was_charged(deployment: Deployment) -> None:
    here, there, late = deployment.servers[:3]
    for server in deployment.servers:
        deployment.home.masters[0].ask("HSET", OWNERS, str(server.settings.owner_id), "folder")
        server.epochs.tick()
    replica = deployment.remember()
    here.open(10 * BID, 10 * BID)
    there.open(10 * BID, 10 * BID, opening=False)
    bids = deployment.bid_all(here)
    assert len(bids) == 10
    assert [server.tell(BILLABLE, bid, BID) for server, bid in zip((here, there, there), bids, strict=False)] == [
        ACCEPTED
    ] * 3
    here.judge.catch_up()
    deployment.fail_over(replica)
    late.open(10 * BID, 10 * BID, opening=False)
    with pytest.raises(NotDecided):
        there.judge.catch_up()
    here.restart()
    here.open(10 * BID, 10 * BID, opening=False)
    for server in (late, here, there):
        server.epochs.tick()
    assert deployment.amounts() == (BID, 9 * BID)
    for server in deployment.servers:
        server.epochs.tick()
        assert not server.epochs.is_behind
    (epoch,) = here.remote.epochs([CREATOR]).values()
    assert epoch.owners_behind == ()
    there.judge.catch_up()
    assert [server.verdicts() for server in (here, there)] == [[Verdict.CHARGED], [Verdict.CHARGED] * 2]
    assert deployment.amounts() == (3 * BID, 7 * BID)
    for server in (here, there):
        server.bank.close_account(1)
    deployment.wait(150_000)
    assert len(deployment.bid_all(late)) == 7, "it has heard that the account is there"


def test_an_account_that_was_opened_long_ago_stays_lost(deployment: Deployment) -> None:
    here = deployment.servers[0]
    here.open(10 * BID, 10 * BID)
    here.epochs.tick()
    deployment.clock.advance_to(deployment.clock.wall_ms() + MS_PER_HOUR)
    deployment.fail_over({})
    here.epochs.tick()
    assert deployment.truth.account(1) is None


def test_charges_are_told_again_whatever_the_wall_clock_said_when_they_were_made(deployment: Deployment) -> None:
    (here,) = deployment.servers[:1]
    clock = SteppingClock(START_MS, Timeline())
    here.epochs = EpochWatch(here.store, here.remote, here.ledger, clock)
    here.open(400 * BID, 400 * BID)
    here.epochs.tick()
    bids = deployment.bid_all(here)[:4]
    replica = deployment.remember()
    assert [here.tell(BILLABLE, bid, BID) for bid in bids] == [ACCEPTED] * 4
    here.judge.catch_up()
    clock.step(2 * MS_PER_HOUR)
    deployment.fail_over(replica)
    assert deployment.amounts()[0] == 0
    here.epochs.tick()
    assert deployment.amounts()[0] == 4 * BID


HOUR = MS_PER_HOUR


@pytest.mark.parametrize(
    ("ages_ms", "first_row"),
    [
        ((3 * HOUR, HOUR + 60_000, HOUR - 60_000, 0), 1),
        ((3 * HOUR, 2 * HOUR, HOUR - 60_000, 0), 2),
        ((5 * HOUR, 4 * HOUR, 3 * HOUR, 2 * HOUR), 4),
        ((HOUR - 1, HOUR - 2, HOUR - 3, 0), 0),
    ],
    ids=["up all the time", "down an hour ago, and up since", "down until now", "no mark is old enough"],
)
def test_a_new_process_tells_what_was_judged_in_the_last_hour_of_the_store(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, ages_ms: tuple[int, ...], first_row: int
) -> None:
    """Four charges, with a mark before each; the wall clock, which was set back since, says that all are recent."""
    here = deployment.servers[0]
    here.open(400 * BID, 400 * BID)
    here.epochs.tick()
    marks = []
    for bid, age_ms in zip(deployment.bid_all(here), ages_ms, strict=False):
        marks.append(JudgedMark(here.ledger.judged_sequence, age_ms))
        assert here.tell(BILLABLE, bid, BID) == ACCEPTED
        here.judge.catch_up()
    here.restart()
    monkeypatch.setattr(here.remote, "marks", lambda: marks)
    told: list[int] = []
    monkeypatch.setattr(here.remote, "settle_again", lambda claims: told.extend(claims["sequence"].tolist()))
    here.epochs.tick()
    rows = here.ledger.read(0, 100)
    assert told == rows["sequence"][rows["kind"] == BILLABLE].tolist()[first_row:]


def test_who_meets_a_creator_during_a_failover_is_not_waited_for(deployment: Deployment) -> None:
    here, there = deployment.servers[:2]
    for server in (here, there):
        deployment.home.masters[0].ask("HSET", OWNERS, str(server.settings.owner_id), "folder")
        server.epochs.tick()
    here.open(10 * BID, 10 * BID)
    here.epochs.tick()
    deployment.fail_over(deployment.remember())
    for server in (here, there):
        server.epochs.tick()
    (epoch,) = here.remote.epochs([CREATOR]).values()
    assert epoch.owners_behind == (there.settings.owner_id,), "it was on the list when the account was opened"
    there.open(10 * BID, 10 * BID, opening=False)
    there.epochs.tick()
    (epoch,) = here.remote.epochs([CREATOR]).values()
    assert epoch.owners_behind == ()


def test_an_owner_whose_first_bid_a_failover_lost_is_waited_for(deployment: Deployment) -> None:
    here, there = deployment.servers[:2]
    for server in (here, there):
        deployment.home.masters[0].ask("HSET", OWNERS, str(server.settings.owner_id), "folder")
    here.open(400 * BID, 400 * BID)
    there.open(400 * BID, 400 * BID, opening=False)
    for server in (here, there):
        server.epochs.tick()
    replica = deployment.remember()
    (bid,) = deployment.bid_all(there)[:1]
    assert [server.tell(BILLABLE, bid, BID) for server in (there, here)] == [ACCEPTED] * 2
    there.judge.catch_up()
    deployment.fail_over(replica)
    here.epochs.tick()
    with pytest.raises(NotDecided):
        here.judge.catch_up()
    there.epochs.tick()
    here.judge.catch_up()
    assert (there.verdicts(), here.verdicts()) == ([Verdict.CHARGED], [Verdict.DUPLICATE])


@pytest.mark.parametrize(("age_minutes", "first_told"), [(80, 1), (4 * 60, 2), (0, 2)], ids=["old", "too old", "none"])
def test_behind_an_old_copy_all_that_was_charged_since_it_was_made_is_told(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, age_minutes: int, first_told: int
) -> None:
    """Three charges: ahead of the copy, 70 minutes ago, and just now."""
    here = deployment.servers[0]
    here.open(400 * BID, 400 * BID)
    here.epochs.tick()
    seqs = []
    for number in range(3):
        bid = deployment.bid_all(here)[0]
        seqs.append(bid[1])
        assert here.tell(BILLABLE, bid, BID) == ACCEPTED
        here.judge.catch_up()
        if number == 0:
            copied = here.ledger.judged_sequence
        if number == 1:
            for _ in range(70):
                deployment.clock.advance_to(deployment.clock.wall_ms() + 60_000)
                here.epochs.tick()
    deployment.fail_over(deployment.remember())
    if age_minutes:
        monkeypatch.setattr(here.remote, "marks", lambda: [JudgedMark(copied, age_minutes * 60_000)])
    told: list[int] = []
    monkeypatch.setattr(here.remote, "settle_again", lambda claims: told.extend(claims["hold_seq"].tolist()))
    here.epochs.tick()
    assert told == seqs[first_told:]
