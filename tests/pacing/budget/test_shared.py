"""Several banks on one Redis: one budget, notices that reach any server, a store that is away or lost its master."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.redis_servers import RedisServer, redis_server
from pacing.budget.store import StoreUnavailable
from pacing.facts import Verdict
from tests.pacing.budget.shared_servers import (
    ACCEPTED,
    BID,
    BILLABLE,
    EXPIRED,
    LOSS,
    Deployment,
)
from tests.pacing.budget.store_homes import RedisHome


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
            deployment.servers[1].epochs.tick()
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
