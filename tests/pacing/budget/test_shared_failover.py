"""Several banks on a Redis that loses its master, or its content: what is told again, and who is waited for."""

from __future__ import annotations

import pytest

from benchmarks.faults.clock import SteppingClock, Timeline
from pacing.budget.epochs import EpochWatch
from pacing.budget.owner_redis import OWNERS
from pacing.budget.store import JudgedMark, NotDecided, StoreUnavailable
from pacing.clocks import MS_PER_HOUR
from pacing.facts import Verdict
from tests.pacing.budget.shared_servers import (
    ACCEPTED,
    BID,
    BILLABLE,
    CREATOR,
    LOSS,
    Deployment,
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
