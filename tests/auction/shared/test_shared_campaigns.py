"""Campaigns of two servers on one Redis: whoever takes a change, all have it, and what Redis loses it gets again."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from auction.campaigns import store as store_module
from auction.campaigns.model import Campaign, CampaignStatus, edited
from auction.campaigns.record import Record
from auction.campaigns.store import ID_SHIFT, CampaignLimit, CampaignStore, NoSuchCampaign, StoreUnavailable
from auction.shared import campaigns as campaigns_module
from benchmarks.redis_servers import redis_server
from pacing.redis_link import RedisLink
from tests.auction.campaigns.figures import NOON_MS, a_campaign
from tests.auction.shared.sharing import SharingServer

PAUSED, ACTIVE, ENDED = CampaignStatus.PAUSED, CampaignStatus.ACTIVE, CampaignStatus.ENDED


@pytest.fixture
def servers(tmp_path: Path, link: RedisLink) -> Iterator[list[SharingServer]]:
    opened: set[int] = set()
    servers = [SharingServer(tmp_path, link, owner_id, opened) for owner_id in (1, 2)]
    for server in servers:
        server.campaigns.poll()
    yield servers
    for server in servers:
        server.close()


def test_a_campaign_made_at_one_server_is_changed_at_the_other(servers: list[SharingServer]) -> None:
    a, b = servers
    made = a.create(name="Shared", creator_id=2**64 - 1)
    assert made.campaign_id == 1 << ID_SHIFT | 1 and a.store.get(made.campaign_id) == made
    with pytest.raises(NoSuchCampaign):
        b.store.get(made.campaign_id)
    paused = b.set_status(made.campaign_id, PAUSED)  # before it ever polled
    assert (paused.version, b.desk.campaigns[made.campaign_id].status) == (2, PAUSED)
    renamed = a.edit(made.campaign_id, name="Later")
    assert (renamed.version, renamed.status) == (3, PAUSED), "made from the other's change"
    announced = b.announced
    b.campaigns.poll()
    assert b.announced > announced
    assert a.copies() == b.copies() and b.store.get(made.campaign_id) == renamed
    assert b.create().campaign_id == 2 << ID_SHIFT | 1 and a.create().campaign_id == 1 << ID_SHIFT | 2


def test_of_two_changes_of_one_version_one_has_to_read_again(servers: list[SharingServer]) -> None:
    a, b = servers
    made = a.create()
    seen = []

    def slowly(before: Campaign) -> Campaign:
        seen.append(before.version)
        if len(seen) == 1:
            b.edit(made.campaign_id, name="Faster")
        return edited(before, {"daily_budget_micros": 5_000_000}, NOON_MS)

    after, caps = a.campaigns.change(made.campaign_id, slowly)
    assert seen == [1, 2] and (after.name, after.daily_budget_micros, after.version) == ("Faster", 5_000_000, 3)
    assert caps is not None and caps.daily_budget_micros == 5_000_000


def test_many_threads_at_two_servers_lose_no_change(servers: list[SharingServer]) -> None:
    made = servers[0].create()
    done = []

    def edit(server: SharingServer) -> None:
        for _ in range(6):
            done.append(server.edit(made.campaign_id, name="x").version)

    threads = [threading.Thread(target=edit, args=(server,)) for server in servers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == list(range(2, 14))
    for server in servers:
        server.campaigns.poll()
    assert servers[0].copies() == servers[1].copies()


def test_a_key_makes_one_campaign_whichever_servers_are_asked(servers: list[SharingServer]) -> None:
    a, b = servers
    first = a.create(key="k", name="One")
    assert b.create(key="k", name="Two") == first, "before it polled"
    b.campaigns.poll()
    assert b.create(key="k") == a.create(key="k") == first
    assert b.create(key="k", creator_id=8).campaign_id != first.campaign_id
    made = []
    threads = [threading.Thread(target=lambda s=s: made.append(s.create(key="rush").campaign_id)) for s in servers * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 6 and len(set(made)) == 1
    for server in servers:
        server.campaigns.poll()
    assert a.copies() == b.copies() and len(a.copies()) == 3


def test_a_creators_open_campaigns_are_counted_over_all_servers(
    servers: list[SharingServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = servers
    monkeypatch.setattr(campaigns_module, "MAX_OPEN_CAMPAIGNS_PER_CREATOR", 2)
    first = a.create()
    b.create()
    for server in servers:
        with pytest.raises(CampaignLimit, match="2 open campaigns"):
            server.create()
    assert a.create(creator_id=8).campaign_id
    b.set_status(first.campaign_id, ENDED)
    assert a.create().campaign_id


def test_what_redis_lost_it_gets_again(servers: list[SharingServer], link: RedisLink) -> None:
    a, b = servers
    made = a.create(key="k")
    a.edit(made.campaign_id, name="Acknowledged")
    link.run([("DEL", "fanbid:{campaigns}:records", "fanbid:{campaigns}:marks", "fanbid:{campaigns}:keys")])
    link.run([("DEL", "fanbid:{campaigns}:changes", "fanbid:{campaigns}:open:7")])
    a.campaigns.poll()  # the change that it read last is gone
    b.campaigns.poll()
    assert a.copies() == b.copies() and b.store.get(made.campaign_id).name == "Acknowledged"
    assert b.create(key="k").campaign_id == made.campaign_id
    assert link.run([("SCARD", "fanbid:{campaigns}:open:7")]) == [1]


def test_a_lost_hash_is_noticed_by_comparing(servers: list[SharingServer], link: RedisLink) -> None:
    a, b = servers
    made = a.create()
    a.campaigns.poll()
    link.run([("DEL", "fanbid:{campaigns}:records", "fanbid:{campaigns}:marks")])
    a.campaigns.poll()
    assert link.run([("HLEN", "fanbid:{campaigns}:records")]) == [0], "not looked at before it is due"
    a.compare()
    b.campaigns.poll()
    assert b.store.get(made.campaign_id) == made


def test_changes_that_were_dropped_before_they_were_read_are_found(
    servers: list[SharingServer], link: RedisLink
) -> None:
    a, b = servers
    a.create()
    b.campaigns.poll()
    made = [a.create(name=f"{n}").campaign_id for n in range(3)]
    link.run([("XTRIM", "fanbid:{campaigns}:changes", "MAXLEN", 1)])
    b.campaigns.poll()
    assert a.copies() == b.copies() and set(made) < set(b.copies())


def test_a_server_that_joins_late_gets_everything(
    servers: list[SharingServer], link: RedisLink, tmp_path: Path
) -> None:
    made = [server.create(name=f"{n}").campaign_id for n in range(4) for server in servers]
    late = SharingServer(tmp_path, link, 3, servers[0].desk.opened)
    late.campaigns.poll()
    assert set(late.copies()) == set(made)
    late.close()


def test_a_record_that_nobody_understands_stays_and_is_passed_over(
    servers: list[SharingServer], link: RedisLink
) -> None:
    a, b = servers
    made = a.create()
    b.campaigns.poll()
    link.run([("HSET", "fanbid:{campaigns}:records", made.campaign_id, "{}")])
    link.run([("HSET", "fanbid:{campaigns}:marks", made.campaign_id, "9.new")])
    for server in servers:
        server.compare()
        assert server.store.get(made.campaign_id) == made
    assert link.run([("HGET", "fanbid:{campaigns}:records", made.campaign_id)]) == [b"{}"]
    with pytest.raises(NoSuchCampaign):
        a.edit(made.campaign_id, name="x")


def test_while_redis_is_away_nothing_changes_and_afterwards_everything_does(tmp_path: Path) -> None:
    with redis_server() as redis:
        link = RedisLink(redis.url, timeout_ms=200)
        server = SharingServer(tmp_path, link, 1, set())
        server.campaigns.poll()
        made = server.create()
        with redis.suspended():
            for call in (server.create, lambda: server.edit(made.campaign_id, name="x")):
                with pytest.raises(StoreUnavailable, match="Redis that all servers share does not answer now"):
                    call()
            assert server.store.all() == [made] and server.desk.campaigns[made.campaign_id] == made
        assert server.edit(made.campaign_id, name="x").version >= 2
        server.campaigns.poll()
        server.copies()
        server.close()
        link.close()


def test_a_change_whose_answer_was_lost_is_taken_over_or_made_again_with_its_key(
    servers: list[SharingServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = servers
    made = a.create()
    with lost_answers(a, monkeypatch):
        with pytest.raises(StoreUnavailable, match="whether it was changed shows when it answers"):
            a.set_status(made.campaign_id, PAUSED)
        with pytest.raises(StoreUnavailable, match="try again with the same key"):
            a.create(key="k", name="Once")
    assert a.desk.campaigns[made.campaign_id].status is ACTIVE, "not acknowledged, not told"
    again = b.create(key="k")
    assert again.name == "Once" and again.status is ACTIVE
    for server in servers:
        server.campaigns.poll()
        assert server.store.get(made.campaign_id).status is PAUSED
    assert a.copies() == b.copies() and a.desk.campaigns[again.campaign_id] == again


@pytest.mark.parametrize("crash", ["reserve", "open", "put", "store", "tell"])
def test_a_crash_at_any_point_of_creating_makes_it_for_all_or_for_none(
    servers: list[SharingServer], link: RedisLink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crash: str
) -> None:
    a, b = servers
    with monkeypatch.context() as patch:
        stop_at(a, patch, crash)
        with pytest.raises(Crash):
            a.create(key="k", name="Crashed")
    a.close()
    again = SharingServer(tmp_path, link, 1, a.desk.opened)
    for server in (again, b):
        server.campaigns.poll()
    for campaign in again.store.all():  # as a start does
        again.desk.campaign_changed(campaign)
    made = crash in ("store", "tell")
    assert len(again.copies()) == int(made) and again.copies() == b.copies()
    retried = b.create(key="k", name="Retried")
    assert retried.name == ("Crashed" if made else "Retried")
    again.campaigns.poll()
    assert list(again.copies()) == list(b.copies()) == [retried.campaign_id]
    again.close()


class Crash(BaseException):
    """The server is gone."""


def stop_at(server: SharingServer, patch: pytest.MonkeyPatch, step: str) -> None:
    """Let nothing happen from this step of a change on."""

    def gone(*_: object, **__: object) -> None:
        for target, name in steps.values():
            patch.setattr(target, name, gone)
        raise Crash

    steps: dict[str, tuple[object, str]] = {
        "reserve": (server.store, "reserve_campaign_id"),
        "open": (server.desk, "campaign_changed"),
        "put": (server.campaigns._redis, "put"),
        "store": (server.store, "put_records"),
        "tell": (server.campaigns, "_tell"),
    }
    patch.setattr(*steps[step], gone)


class lost_answers:  # noqa: N801
    """Puts are done and their answers lost."""

    def __init__(self, server: SharingServer, monkeypatch: pytest.MonkeyPatch) -> None:
        self._redis = server.campaigns._redis
        self._patches = monkeypatch

    def __enter__(self) -> None:
        put = self._redis.put

        def unanswered(record: Record, expected_mark: str, limit: int = 0) -> None:
            put(record, expected_mark, limit)
            raise campaigns_module.RedisUnavailable("redis: timed out")

        self._context = self._patches.context()
        self._context.__enter__().setattr(self._redis, "put", unanswered)

    def __exit__(self, *_: object) -> None:
        self._context.__exit__(None, None, None)


def test_a_file_of_the_first_schema_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "campaigns.sqlite"
    old = sqlite3.connect(path)
    schema = store_module._SCHEMA.replace("    mark TEXT NOT NULL DEFAULT '',         -- of `record`\n", "")
    start = schema.index("    record TEXT")
    schema = schema[:start] + schema[schema.index("    UNIQUE (creator_id") :]
    old.executescript(f"{schema[: schema.index('CREATE TABLE IF NOT EXISTS sharing')]} PRAGMA user_version = 1;")
    old.close()
    store = CampaignStore(path)
    assert store.is_unused
    with store.change():
        assert store.insert(a_campaign()) == 1
    assert not store.is_unused and store.marks() == {}
    store.close()


def test_a_file_has_one_owner_for_good(tmp_path: Path) -> None:
    store = CampaignStore(tmp_path / "campaigns.sqlite")
    with pytest.raises(StoreUnavailable, match="shares nothing"):
        store.reserve_campaign_id()
    store.share(4)
    store.share(4)
    assert [store.reserve_campaign_id() for _ in range(2)] == [4 << ID_SHIFT | 1, 4 << ID_SHIFT | 2]
    with pytest.raises(ValueError, match="of owner_id 4; this server is owner_id 5"):
        store.share(5)
    store.close()
