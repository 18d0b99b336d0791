"""Two whole servers under the account of `fanbid redis account`: all that they share works, and nothing is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import fanbid
from auction.bid.keyring import KEY_FILE
from auction.bid.token import TokenKeys
from auction.campaigns.access import Role, Unauthenticated
from auction.shared.keys_redis import SIGN_DELAY_MS
from auction.shared.redis_account import commands
from benchmarks.redis_servers import RedisServer
from pacing.facts import OutcomeKind, RowStatus
from protos import campaigns_pb2
from tests.auction.bid.engines import Engine, tokens_of
from tests.auction.shared.test_judged_servers import CREATOR_ID, Servers, charges_of
from tests.pacing.budget.account_home import AccountHome

PRICE_MICROS = 10
BIDDING_MICROS = 20_000
"""From this multiplier on every viewer is bid for."""
ADMINISTRATORS = {"acl", "client", "config", "debug"}
"""What these tests themselves ask the servers."""
NEVER_MET = {"select", "ping", "cluster", "command", "asking", "hdel", "persist"}
"""Commands for which there may be no occasion here: options of a URL, clusters, a key that moves, an owner that
retires, a lease whose tombstone a failover brought back."""


@pytest.fixture(params=["one_redis", "cluster"])
def home(request: pytest.FixtureRequest) -> AccountHome:
    masters: list[RedisServer] = request.getfixturevalue(request.param)
    home = AccountHome(masters)
    home.prepare()
    for master in masters:
        master.ask("CONFIG", "RESETSTAT")
    return home


@pytest.fixture
def servers(home: AccountHome, tmp_path: Path) -> Iterator[Servers]:
    servers = Servers(home.url, tmp_path, policy="engine")
    yield servers
    for engine in servers.engines:
        engine.close()


def exchange(servers: Servers) -> None:
    """A few rounds, a second each, of everything that servers tell each other."""
    for _ in range(2):
        for engine in servers.engines:
            engine.jump(1_000)
        servers.meet()
        for engine in servers.engines:
            membership = engine.services.membership
            assert membership is not None and membership.pacer is not None
            membership.epochs.tick()
            membership.catch_up()
            membership.pacer.step()


def paced(engine: Engine, campaign_id: int) -> bool:
    membership = engine.services.membership
    assert membership is not None and membership.pacer is not None
    rows = engine.services.pacer.memory(engine.now_ms).rows
    return bool(membership.pacer.paces(rows["campaign_id"])[rows["campaign_id"] == campaign_id].any())


def test_all_that_servers_share_works_and_nothing_is_refused(
    servers: Servers, home: AccountHome, tmp_path: Path
) -> None:
    here, there = servers.engines
    # A campaign that was made here is changed there, and is so here.
    change = campaigns_pb2.ChangeStatusRequest(campaign_id=servers.campaign_id)
    for method in ("PauseCampaign", "ResumeCampaign"):
        there.call(f"Campaigns/{method}", change, campaigns_pb2.Campaign, Role.OPERATOR)
    exchange(servers)
    assert here.services.store.get(servers.campaign_id).version == 3
    # An access token of one server is good at the other, until anybody revokes it.
    token = here.services.access.create_token(Role.OPERATOR, 0, here.now_ms)
    with pytest.raises(Unauthenticated):
        there.services.access.principal_of(token)
    exchange(servers)
    token_id = there.services.access.principal_of(token).token_id
    assert there.services.access.revoke(token_id, there.now_ms)
    exchange(servers)
    with pytest.raises(Unauthenticated):
        here.services.access.principal_of(token)
    # One of them paces, both bid; each takes the other's notices; statements are one.
    for _ in range(20):
        for engine in servers.engines:
            engine.bid(range(5_000, 5_003))  # a plan follows what there is to buy
        exchange(servers)
        multipliers = [engine.services.control.multiplier_micros(servers.campaign_id) for engine in servers.engines]
        pacers = [paced(engine, servers.campaign_id) for engine in servers.engines]
        if pacers.count(True) == 1 and min(multipliers) > BIDDING_MICROS:
            break
    else:
        pytest.fail(f"after 20 rounds: multipliers {multipliers}, pacers {pacers}")
    servers.sell(0, range(1, 11), PRICE_MICROS) + servers.sell(1, range(101, 106), PRICE_MICROS)
    report_there(there, tokens_of(here.bid(range(11, 14))))
    here.report([OutcomeKind.FOLLOW], viewer_ids=[1], creator_ids=[CREATOR_ID])
    exchange(servers)
    assert [len(charges_of(servers.statement(number))) for number in (0, 1)] == [18, 18]
    assert servers.figures(0) == servers.figures(1)
    # A key that a command makes here signs at both.
    assert fanbid.main(["keys", "rotate", "--data", str(tmp_path / "0")]) == 0
    exchange(servers)
    for engine in servers.engines:
        engine.jump(SIGN_DELAY_MS)
    exchange(servers)
    keys = [TokenKeys.load(tmp_path / name / KEY_FILE) for name in ("0", "1")]
    assert keys[0].text == keys[1].text and len(keys[0].keys) == 2
    report_there(here, tokens_of(there.bid(range(201, 204))))
    # Another master, as it seems, and a server that starts again; then one whose folder is new.
    home.masters[0].ask("DEBUG", "CHANGE-REPL-ID")
    exchange(servers)
    servers.start_again(0)
    servers.add(2)
    exchange(servers)
    assert [len(charges_of(servers.statement(number))) for number in (0, 1, 2)] == [21, 21, 21]
    for engine in servers.engines:
        engine.jump(3 * 3_600_000)
    here, there = servers.engines[:2]
    here.call("Campaigns/EndCampaign", change, campaigns_pb2.Campaign, Role.OPERATOR)
    exchange(servers)
    assert there.services.store.get(servers.campaign_id).version == 4
    assert home.refused() == []
    sent = {name.removeprefix("cmdstat_") for master in home.masters for name in master.ask("INFO", "commandstats")}
    granted = {name.partition("|")[0] for name in commands()}
    assert {name.partition("|")[0] for name in sent} - ADMINISTRATORS <= granted
    assert granted - {name.partition("|")[0] for name in sent} <= NEVER_MET


def report_there(engine: Engine, tokens: list[bytes]) -> None:
    """Outcomes of bids that another server made."""
    answer = engine.report([OutcomeKind.BILLABLE] * len(tokens), tokens, prices_micros=[PRICE_MICROS] * len(tokens))
    assert len(tokens) == 3 and set(answer.statuses) == {RowStatus.ACCEPTED}
