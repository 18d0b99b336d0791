"""Several banks on a Redis that loses its master, or its content: what is told again, and who is waited for."""

from __future__ import annotations

import pytest

from benchmarks.faults.clock import SteppingClock, Timeline
from pacing.budget.epochs import EpochWatch
from pacing.budget.owner_redis import OWNERS
from pacing.budget.store import NotDecided, StoreUnavailable
from pacing.clocks import MS_PER_HOUR, MS_PER_MINUTE, VirtualClock
from pacing.facts import Verdict
from tests.pacing.budget.shared_servers import (
    ACCEPTED,
    BID,
    BILLABLE,
    CREATOR,
    LOSS,
    ZONE,
    Bid,
    Deployment,
    Server,
)
from tests.pacing.rows import START_MS


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


def work(deployment: Deployment, minutes: int) -> None:
    """Let the servers be up for so long."""
    for _ in range(minutes):
        deployment.clock.advance_to(deployment.clock.wall_ms() + MS_PER_MINUTE)
        for server in deployment.servers:
            server.epochs.tick()


def charge(deployment: Deployment, server: Server, bids: int = 1) -> None:
    for bid in deployment.bid_all(server)[:bids]:
        assert server.tell(BILLABLE, bid, BID) == ACCEPTED
    server.judge.catch_up()


def test_an_account_that_is_lost_though_the_store_is_not_behind_stays_lost(deployment: Deployment) -> None:
    """It was opened more than half an hour ago, and a replica lags behind by seconds."""
    here = deployment.servers[0]
    here.open(10 * BID, 10 * BID)
    opened_at_ms = here.store.mirror.accounts[1].opened_at_ms
    work(deployment, 60)
    replica = {key: dump for key, dump in deployment.remember().items() if not key.endswith(b":account:1")}
    deployment.fail_over(replica)
    assert here.remote.last_mark_at_ms() > opened_at_ms
    here.epochs.tick()
    assert deployment.truth.account(1) is None


def test_a_copy_of_hours_ago_gets_all_that_was_charged_and_opened_since(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One server was down for long, the other is started anew; claims in the copy are long forgotten."""
    here, there = deployment.servers[:2]
    here.open(400 * BID, 400 * BID)
    there.open(400 * BID, 400 * BID, opening=False)
    work(deployment, 1)
    charge(deployment, here, 3)
    charge(deployment, there, 2)
    work(deployment, 70)
    copy = deployment.remember()
    assert deployment.amounts()[0] == 5 * BID
    charge(deployment, here)
    work(deployment, 240)
    charge(deployment, here, 2)
    charge(deployment, there, 4)
    here.bank.set_account(2, CREATOR, ZONE, 50 * BID, 50 * BID, 1, True)
    here.store.mirror.accounts[2].opened_at_ms = 2**42  # by the clock of a store that has a real one
    monkeypatch.setattr(here.store, "_clock", VirtualClock(2**42 + MS_PER_HOUR))
    for server in deployment.servers:
        server.bank.close_account(1)
    forgotten = [key for key in copy if b":lease:" in key]
    assert forgotten
    deployment.fail_over({key: dump for key, dump in copy.items() if key not in forgotten})
    assert deployment.amounts()[0] == 5 * BID
    there.restart()
    for server in (here, there):
        server.epochs.tick()
        assert not server.epochs.is_behind
    assert deployment.amounts()[0] == 12 * BID, "each once"
    opened = deployment.truth.account(2)
    assert opened is not None and opened.flight.cap_micros == 50 * BID


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


def test_a_new_process_tells_what_was_judged_in_the_last_hour_that_it_was_up(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = deployment.servers[0]
    here.open(400 * BID, 400 * BID)
    here.epochs.tick()
    for minutes in (30, 30, 2, 0):
        charge(deployment, here)
        work(deployment, minutes)
    told: list[int] = []
    monkeypatch.setattr(here.remote, "settle_again", lambda claims: told.extend(claims["sequence"].tolist()))
    here.epochs = EpochWatch(here.store, here.remote, here.ledger, here.clock)
    here.epochs.tick()
    rows = here.ledger.read(0, 100)
    assert told == rows["sequence"][rows["kind"] == BILLABLE].tolist()[1:], "the first one was judged 62 minutes ago"


def test_no_mark_is_set_before_everything_is_told_again(deployment: Deployment) -> None:
    """Else it would hide, from who tells again after the next failover, what was not told."""
    here = deployment.servers[0]
    here.open(400 * BID, 400 * BID)
    work(deployment, 2)
    before = deployment.remember()[b"fanbid:marks:1"]
    here.epochs._owed = here.remote.replication_ids()
    here.epochs._go_on = lambda: None  # type: ignore[method-assign]
    work(deployment, 5)
    assert deployment.remember()[b"fanbid:marks:1"] == before


@pytest.mark.parametrize("is_restarted", [True, False], ids=["the other starts too", "the other has run on"])
def test_old_keys_that_were_put_back_under_the_same_replication_id_are_found_out_by_who_starts(
    deployment: Deployment, is_restarted: bool
) -> None:
    """Among what it tells again are rows that the store knew in this very epoch."""
    here, there = deployment.servers[:2]
    here.open(400 * BID, 400 * BID)
    there.open(400 * BID, 400 * BID, opening=False)
    work(deployment, 1)
    mine, others = deployment.bid_all(here), deployment.bid_all(there)

    def charged(server: Server, bids: list[Bid]) -> None:
        assert [server.tell(BILLABLE, bid, BID) for bid in bids] == [ACCEPTED] * len(bids)
        server.judge.catch_up()

    charged(here, mine[:3])
    charged(there, others[:2])
    copy = deployment.remember()
    charged(here, mine[3:5])
    charged(there, others[2:3])
    assert here.tell(BILLABLE, mine[5], BID) == ACCEPTED
    deployment.fail_over(copy, is_noticed=False)
    assert deployment.amounts()[0] == 5 * BID
    here.restart()
    if is_restarted:
        there.restart()
    here.open(400 * BID, 400 * BID, opening=False)
    with pytest.raises(NotDecided):
        here.judge.catch_up()  # else what the store has of it would seem to reach as far as this claim
    assert deployment.bid_all(here) == []
    here.epochs.tick()
    assert deployment.amounts()[0] == 7 * BID
    (epoch,) = here.remote.epochs([CREATOR]).values()
    assert epoch.number == 2 and there.settings.owner_id in epoch.owners_behind, "nothing is granted to anybody"
    for _ in range(2):
        for server in (here, there):
            server.epochs.tick()
    (epoch,) = here.remote.epochs([CREATOR]).values()
    assert epoch.owners_behind == () and deployment.amounts()[0] == 8 * BID
    here.judge.catch_up()
    assert deployment.amounts()[0] == 9 * BID


def test_others_hear_of_lost_charges_though_who_found_out_died_before_it_said_so(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = deployment.servers[:2]
    here.open(400 * BID, 400 * BID)
    there.open(400 * BID, 400 * BID, opening=False)
    work(deployment, 1)
    bids = deployment.bid_all(here)
    copy = deployment.remember()
    assert here.tell(BILLABLE, bids[0], BID) == ACCEPTED
    here.judge.catch_up()
    deployment.fail_over(copy, is_noticed=False)
    here.restart()

    def die(notes: dict[int, int]) -> None:
        raise StoreUnavailable("killed")

    monkeypatch.setattr(here.remote, "list_reopened", die)
    here.epochs.tick()
    here.restart()
    for server in (here, there):
        server.epochs.tick()
    (epoch,) = here.remote.epochs([CREATOR]).values()
    assert (epoch.number, epoch.owners_behind) == (2, (there.settings.owner_id,))
    assert there.remote.reopened() == {}, "nothing says so to the other"
    deployment.wait(20_000)
    for server in (here, there):
        server.epochs.tick()
    (epoch,) = here.remote.epochs([CREATOR]).values()
    assert epoch.owners_behind == ()


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
