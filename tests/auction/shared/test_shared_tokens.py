"""Access tokens of two servers: made at one, good at both; revoked at one, revoked for good."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from auction.campaigns.access import Access, Role, Unauthenticated
from auction.campaigns.store import ID_SHIFT, CampaignStore, StoredToken
from auction.shared.tokens_redis import SharedTokens
from benchmarks.redis_servers import RedisServer
from pacing.redis_link import RedisLink, RedisUnavailable
from tests.auction.campaigns.figures import NOON_MS


class Server:
    """The tokens of one server."""

    def __init__(self, folder: Path, link: RedisLink, owner_id: int) -> None:
        self.store = CampaignStore(folder / f"{owner_id}.sqlite")
        self.store.share(owner_id)
        self.access = Access(self.store)
        self.shared = SharedTokens(self.store, link, self.access.refresh)
        self.command = CampaignStore(self.store.path)  # another program, on the same file

    def make(self, role: Role = Role.FEED, creator_id: int = 0) -> str:
        return Access(self.command).create_token(role, creator_id, NOON_MS)

    def revoke(self, token: str, at_ms: int = NOON_MS + 9) -> bool:
        return Access(self.command).revoke(int(token.split(".")[1]), at_ms)

    def admits(self, token: str) -> bool:
        try:
            self.access.principal_of(token)
        except Unauthenticated:
            return False
        return True

    def tokens(self) -> list[StoredToken]:
        return self.store.tokens()

    def close(self) -> None:
        self.store.close()
        self.command.close()


@pytest.fixture
def servers(tmp_path: Path, one_link: RedisLink) -> Iterator[list[Server]]:
    servers = [Server(tmp_path, one_link, owner_id) for owner_id in (1, 2)]
    yield servers
    for server in servers:
        server.close()


def poll(*servers: Server) -> None:
    for server in servers:
        server.shared.poll()


def test_a_token_is_good_everywhere_and_its_id_is_nobody_elses(tmp_path: Path, link: RedisLink) -> None:
    a, b = Server(tmp_path, link, 1), Server(tmp_path, link, 2)
    poll(a, b)
    feed, creator = a.make(), b.make(Role.CREATOR, 2**64 - 1)
    assert feed.startswith(f"fanbid.{1 << ID_SHIFT | 1}.") and creator.startswith(f"fanbid.{2 << ID_SHIFT | 1}.")
    assert a.admits(feed) and not b.admits(feed)
    poll(a, b, a)
    assert b.access.principal_of(feed).role is Role.FEED
    assert a.access.principal_of(creator).creator_id == 2**64 - 1
    assert a.tokens() == b.tokens() and len(a.tokens()) == 2
    assert a.make().startswith(f"fanbid.{1 << ID_SHIFT | 2}.")
    for server in (a, b):
        server.close()


def test_a_revocation_reaches_everybody_from_anywhere(servers: list[Server]) -> None:
    a, b = servers
    token = a.make()
    poll(a, b)
    assert b.revoke(token)
    poll(b, a)
    assert not a.admits(token) and not b.admits(token)
    assert a.tokens() == b.tokens()


def test_of_two_revocations_the_first_counts(servers: list[Server]) -> None:
    a, b = servers
    token = a.make()
    poll(a, b)
    a.revoke(token, NOON_MS + 20)
    b.revoke(token, NOON_MS + 10)
    poll(a, b, a)
    assert a.tokens() == b.tokens() and a.tokens()[0].revoked_at_ms == NOON_MS + 10


def test_what_redis_lost_it_gets_again_and_nothing_becomes_valid(servers: list[Server], one_link: RedisLink) -> None:
    a, b = servers
    token, other = a.make(), a.make()
    poll(a, b)
    names = [f"fanbid:{{tokens}}:{noun}" for noun in ("records", "revoked", "revision")]
    dumps = one_link.run([("DUMP", name) for name in names])
    a.revoke(token)
    poll(a, b)
    for name, dump in zip(names, dumps, strict=True):
        one_link.run([("DEL", name)] if dump is None else [("RESTORE", name, 0, dump, "REPLACE")])
    poll(b, a)
    late = Server(a.store.path.parent, one_link, 3)
    poll(late)
    for server in (a, b, late):
        assert not server.admits(token) and server.admits(other)
    late.close()
    one_link.run([("DEL", *names)])
    poll(a)
    assert one_link.run([("HLEN", names[0])]) == [2] and one_link.run([("HLEN", names[1])]) == [1]


def test_a_revocation_while_redis_is_away_counts_here_at_once_and_there_afterwards(
    tmp_path: Path, redis: RedisServer
) -> None:
    link = RedisLink(redis.url, timeout_ms=200)
    a, b = Server(tmp_path, link, 1), Server(tmp_path, link, 2)
    token = a.make()
    poll(a, b)
    with redis.suspended():
        assert a.access.revoke(int(token.split(".")[1]), NOON_MS + 1)
        assert not a.admits(token)
        with pytest.raises(RedisUnavailable):
            poll(a)
    poll(a, b)
    assert not b.admits(token)
    for server in (a, b):
        server.close()
    link.close()


def test_tokens_from_before_a_folder_was_shared_stay_its_own(
    tmp_path: Path, link: RedisLink, caplog: pytest.LogCaptureFixture
) -> None:
    old = CampaignStore(tmp_path / "1.sqlite")
    token = Access(old).create_token(Role.FEED, 0, NOON_MS)
    old.close()
    a, b = Server(tmp_path, link, 1), Server(tmp_path, link, 2)
    assert "tokens [1]: made before this folder was shared" in caplog.text
    poll(a, b)
    assert a.admits(token) and not b.admits(token) and b.tokens() == []
    assert a.make().startswith(f"fanbid.{1 << ID_SHIFT | 1}.")
    for server in (a, b):
        server.close()


@pytest.mark.parametrize(
    "record",
    ["{}", "nonsense", '{"hash": "00", "role": "feed", "creator_id": "0", "created_at_ms": 1}', '{"hash": 1}', "[]"],
)
def test_what_is_no_token_is_passed_over(servers: list[Server], one_link: RedisLink, record: str) -> None:
    a, b = servers
    token = a.make()
    one_link.run([("HSET", "fanbid:{tokens}:records", 9 << ID_SHIFT, record, 3, record)])
    poll(a, b)
    assert b.admits(token) and len(b.tokens()) == 1


def test_nothing_is_read_when_nothing_changed(servers: list[Server], monkeypatch: pytest.MonkeyPatch) -> None:
    a, _ = servers
    a.make()
    for _ in range(3):
        poll(a)
    read: Callable[[], dict[int, StoredToken]] = a.shared._read
    reads: list[int] = []
    monkeypatch.setattr(a.shared, "_read", lambda: reads.append(1) or read())
    poll(a)
    assert reads == []
