"""A Redis that comes back empty, or is another one, while a server runs: nothing is begun on it, and nothing lost."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from auction.shared.deployment import DeploymentWatch
from auction.status import Refused
from benchmarks.redis_servers import RedisServer
from pacing.budget.owner_redis import ForeignFolder, Owner, guard_of, join, owners
from pacing.budget.quarantine import NoGrants
from pacing.clocks import VirtualClock
from pacing.facts import OutcomeKind, RowStatus, Verdict
from pacing.redis_link import RedisForeign, RedisLink
from tests.auction.bid.engines import NOON_MS, Engine, tokens_of

DEPLOYMENT = "fanbid:deployment"
Held = list[tuple[RedisServer, dict[bytes, bytes]]]


def empty(servers: list[RedisServer]) -> Held:
    """Let the servers lose everything; answers with what they held."""
    held: Held = [(server, {key: server.ask("DUMP", key) for key in server.ask("KEYS", "*")}) for server in servers]
    for server in servers:
        server.ask("FLUSHALL")
    return held


def put_back(held: Held, is_restart: bool = True) -> None:
    """The name of the deployment comes last: it says that everything is there.

    With `is_restart`, as when Redis is started with what it held: under another replication id.
    """
    if is_restart:
        for server, _ in held:
            server.ask("DEBUG", "CHANGE-REPL-ID")
    dumps = [(server, key, dump) for server, dumps in held for key, dump in dumps.items()]
    for server, key, dump in sorted(dumps, key=lambda each: each[1] == DEPLOYMENT.encode()):
        server.ask("RESTORE", key, 0, dump, "REPLACE")


def keys_of(servers: list[RedisServer]) -> list[bytes]:
    return [key for server in servers for key in server.ask("KEYS", "*")]


@pytest.fixture(params=["one_redis", "cluster"])
def masters(request: pytest.FixtureRequest) -> list[RedisServer]:
    masters: list[RedisServer] = request.getfixturevalue(request.param)
    empty(masters)
    return masters


@pytest.fixture
def engine(masters: list[RedisServer], tmp_path: Path) -> Iterator[Engine]:
    engine = Engine(tmp_path / "a", redis=masters[0].url)
    yield engine
    engine.close()


def look(engine: Engine) -> None:
    """A turn of the exchange, as its thread does it every quarter of a second, and what follows a failover."""
    assert engine.services.membership is not None
    engine.services.membership.catch_up()
    engine.services.membership.epochs.tick()


def judge(engine: Engine) -> list[int]:
    """Verdicts of all that was billed, as far as there are any."""
    engine.jump(1_000)  # longer than nothing is asked of a store that was away
    engine.services.follow()
    rows, judgements = engine.services.ledger.read_judged(0, 10_000)
    verdicts: list[int] = judgements["verdict"][rows["kind"] == OutcomeKind.BILLABLE].tolist()
    return verdicts


def bill(engine: Engine, tokens: list[bytes]) -> None:
    answer = engine.report([OutcomeKind.BILLABLE] * len(tokens), tokens, prices_micros=[10] * len(tokens))
    assert list(answer.statuses) == [RowStatus.ACCEPTED] * len(tokens)


def test_a_redis_that_comes_back_empty_gets_nothing_and_its_content_goes_on(
    masters: list[RedisServer], engine: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    campaign_id = engine.create().campaign_id
    tokens = tokens_of(engine.bid(range(1, 4)))
    leased = int(engine.account(campaign_id)["flight_leased_micros"])
    assert len(tokens) == 3 and leased > 0
    held = empty(masters)
    look(engine)
    assert engine.services.no_grants() == NoGrants("foreign")
    (said,) = [record.message for record in caplog.records if record.name == "auction.shared.deployment"]
    assert "it has lost deployment" in said and "put back what it held" in said
    # Nothing new; what is leased is bid on, what is reported is accepted, and waits for its verdict.
    with pytest.raises(
        Refused, match=r"has lost what it held, or is another one; an operator .*: no campaign was made"
    ):
        engine.create()
    bill(engine, [*tokens, *tokens_of(engine.bid(range(11, 13)))])
    assert judge(engine) == []
    engine.go_round()
    for _ in range(3):
        look(engine)
    assert keys_of(masters) == [DEPLOYMENT.encode()], "nothing is written there but that it lost a deployment"
    # Nobody begins anew beside a server that has money of the lost one, nor starts again.
    with pytest.raises(ForeignFolder, match=r"lost deployment .* stop all of its servers, then delete all keys"):
        Engine(tmp_path / "b", redis=masters[0].url)
    assert len([record for record in caplog.records if record.name == "auction.shared.deployment"]) == 1
    put_back(held)
    look(engine)
    assert "holds deployment" in caplog.text
    engine.jump(1_000)  # longer than nothing is asked of a store that was away
    look(engine)
    assert judge(engine) == [Verdict.CHARGED] * 5
    refused = engine.services.no_grants()
    assert refused is not None and refused.reason == "failover", "the copy may be old"
    assert engine.create().campaign_id != campaign_id
    assert int(engine.account(campaign_id)["flight_settled_micros"]) == 50


def test_verdicts_do_not_come_from_a_redis_that_has_just_become_empty(
    masters: list[RedisServer], engine: Engine
) -> None:
    """Before anybody looked which Redis it is."""
    engine.create()
    bill(engine, tokens_of(engine.bid(range(1, 4))))
    engine.jump(31 * 60_000)  # the account is too old to be opened anew
    held = empty(masters)
    assert judge(engine) == []
    put_back(held)
    look(engine)
    engine.jump(1_000)
    look(engine)
    assert judge(engine) == [Verdict.CHARGED] * 3


def test_what_was_put_back_into_the_same_process_is_refused_until_its_replication_id_tells(
    masters: list[RedisServer], engine: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The copy lacks what was charged since, and no server would tell it again."""
    campaign_id = engine.create().campaign_id
    bill(engine, tokens_of(engine.bid(range(1, 4))))
    look(engine)
    held = [(server, dumps) for server, dumps in empty(masters)]
    put_back(held, is_restart=False)
    look(engine)
    assert engine.services.no_grants() is None, "nobody looked meanwhile, and nobody can tell"
    assert judge(engine) == [Verdict.CHARGED] * 3
    empty(masters)
    for _ in range(2):
        look(engine)
        put_back(held, is_restart=False)
        look(engine)
        assert engine.services.no_grants() == NoGrants("foreign")
    assert "was put back into the running Redis that had lost it" in caplog.text
    with pytest.raises(ForeignFolder, match="lost deployment"):
        Engine(tmp_path / "b", redis=masters[0].url)
    put_back(held)
    for _ in range(2):
        look(engine)
        engine.jump(1_000)
    assert judge(engine) == [Verdict.CHARGED] * 3
    engine.go_round()
    assert int(engine.account(campaign_id)["flight_settled_micros"]) == 30


def test_what_was_put_back_into_the_same_process_is_refused_by_a_server_that_is_started_again(
    masters: list[RedisServer], tmp_path: Path
) -> None:
    engine = Engine(tmp_path / "a", redis=masters[0].url)
    engine.create()
    look(engine)
    held = empty(masters)
    look(engine)
    engine.close()
    for _ in range(2):
        put_back(held, is_restart=False)
        with pytest.raises(ForeignFolder, match="was put back into the running Redis that had lost it"):
            Engine(tmp_path / "a", redis=masters[0].url)
        with pytest.raises(ForeignFolder, match="lost deployment"):
            Engine(tmp_path / "b", redis=masters[0].url)
    put_back(held)
    engine = Engine(tmp_path / "a", redis=masters[0].url)
    look(engine)
    refused = engine.services.no_grants()
    assert refused is not None and refused.reason == "failover"
    engine.close()


def test_a_full_disk_does_not_stop_the_watch_over_a_lost_redis(
    masters: list[RedisServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    engine = Engine(tmp_path / "a", redis=masters[0].url)
    look(engine)
    held = empty(masters)
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left on device")))
        for _ in range(2):
            look(engine)
    assert caplog.text.count("cannot keep in") == 1
    look(engine)
    engine.close()
    put_back(held, is_restart=False)
    with pytest.raises(ForeignFolder, match="was put back into the running Redis"):
        Engine(tmp_path / "a", redis=masters[0].url)


def test_the_redis_of_others_grants_nothing(
    masters: list[RedisServer], engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    engine.create()
    held = empty(masters)
    link = RedisLink(masters[0].url)
    link.run([("SET", DEPLOYMENT, "another")])
    look(engine)
    assert engine.services.no_grants() == NoGrants("foreign")
    with pytest.raises(Refused, match="has lost what it held, or is another one") as caught:
        engine.create()
    assert caught.value.code.name == "UNAVAILABLE"
    assert "it holds deployment another, not" in caplog.text and "see where --redis leads" in caplog.text
    assert keys_of(masters) == [DEPLOYMENT.encode()] and link.run([("GET", DEPLOYMENT)]) == [b"another"]
    link.close()
    put_back(held)
    look(engine)
    engine.jump(1_000)
    look(engine)
    engine.create()


def test_a_guarded_link_believes_nobody_else(masters: list[RedisServer]) -> None:
    plain, guarded = (RedisLink(masters[0].url) for _ in range(2))
    plain.run([("SET", DEPLOYMENT, "mine"), ("SET", "fanbid:x", "1")])
    guarded.guard(guard_of(Owner("mine", 1)))
    assert guarded.look() is None and guarded.run([("GET", "fanbid:x")]) == [b"1"]
    plain.run([("SET", DEPLOYMENT, "other")])
    if not guarded.is_cluster:
        with pytest.raises(RedisForeign, match="holds deployment other, not mine"):
            guarded.run([("GET", "fanbid:x")])
    with pytest.raises(RedisForeign):
        guarded.replication_ids()
    plain.run([("SET", DEPLOYMENT, "mine")])
    with pytest.raises(RedisForeign):
        guarded.run([("SET", "fanbid:x", "2")])
    assert plain.run([("GET", "fanbid:x")]) == [b"1"], "nothing is sent until somebody looked"
    assert "was put back into the running Redis" in (guarded.look() or "")
    for server in masters:
        server.ask("DEBUG", "CHANGE-REPL-ID")
    plain.run([("SET", DEPLOYMENT, "mine")])
    assert guarded.look() is None and guarded.run([("GET", "fanbid:x")]) == [b"1"]
    for link in (plain, guarded):
        link.close()


def test_an_owner_id_is_not_given_twice_after_a_failover_that_lost_joins(link: RedisLink, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in "abcd"]
    for folder in folders:
        folder.mkdir()
    first, second = (join(link, folder) for folder in folders[:2])
    link.run([("DEL", "fanbid:owners:next")])
    assert (first.owner_id, second.owner_id, join(link, folders[2]).owner_id) == (1, 2, 3), (
        "listed ones are passed over"
    )
    link.run([("DEL", "fanbid:owners:next"), ("DEL", "fanbid:owners")])
    watch = DeploymentWatch(link, Owner(first.deployment_id, 7), folders[1], VirtualClock(NOON_MS))
    watch.tick()
    assert owners(link) == {7: str(folders[1])}
    assert join(link, folders[3]).owner_id == 8
