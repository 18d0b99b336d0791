"""The account of `fanbid redis account` on real servers: what fanbid does works, the rest Redis refuses."""

from __future__ import annotations

import re
import shlex
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import NoPermissionError, ResponseError

import fanbid
from pacing import redis_account
from pacing.budget import owner_redis
from pacing.budget.redis_store import RedisStore
from pacing.budget.scripts_redis import SCRIPTS
from pacing.budget.store import StoreUnavailable
from pacing.redis_account import KEY_PATTERN, acl_line, commands
from pacing.redis_link import RedisLink
from tests.pacing.budget.store_homes import ACCOUNT, AccountHome, RedisHome
from tests.pacing.budget.test_redis_store import every_call, granted, open_account
from tests.protos.rpc.certificates import make_authority
from tests.sources import ROOT

PASSWORD = "another password"
LINK = (ROOT / "pacing/redis_link.py").read_text(encoding="utf-8")


def as_account(home: AccountHome) -> Redis:
    return Redis.from_url(home.url, protocol=2)


def test_the_list_is_what_the_store_sends() -> None:
    """Neither a command that is missing nor one that nobody needs."""
    store = (ROOT / "pacing/budget/redis_store.py").read_text(encoding="utf-8")
    owners = (ROOT / "pacing/budget/owner_redis.py").read_text(encoding="utf-8")
    sent = set(re.findall(r'\("([A-Z]+)", ', store)) | {"EVALSHA"}
    assert {name.upper() for name in redis_account.STORE} == sent
    assert '"EVALSHA"' in LINK and 'info("replication"' in LINK
    told = {*re.findall(r'\("([A-Z]+)", ', owners), "INFO|REPLICATION"}
    assert {name.upper() for name in redis_account.OWNERS} == told
    calls = {
        (name, argument)
        for path in (ROOT / "pacing/budget/lua").glob("*.lua")
        for name, argument in re.findall(
            r"redis\.call\(\s*'([A-Z]+)'(?:, '(replication)')?", path.read_text(encoding="utf-8")
        )
    }
    assert {"|".join(filter(None, call)).lower() for call in calls} == set(redis_account.SCRIPTS)
    keys = re.findall(r'return f"(\w+):', store)
    assert len(keys) == 4 and {f"{prefix}:*" for prefix in keys} == {KEY_PATTERN}


def test_every_script_is_among_those_that_are_loaded_ahead() -> None:
    import pacing.budget.scripts_redis as module
    from pacing.redis_link import Script

    assert {thing for thing in vars(module).values() if isinstance(thing, Script)} == set(SCRIPTS)


@pytest.mark.parametrize("name", ["account", "cluster_account"])
def test_every_call_works(name: str, request: pytest.FixtureRequest) -> None:
    home: AccountHome = request.getfixturevalue(f"{name}_home")
    store = home.fresh()
    open_account(store)
    assert granted(store, 1) == 100
    for call in every_call(store):
        call()
    store.close()


@pytest.mark.parametrize("name", ["account", "cluster_account"])
def test_a_server_joins_under_the_account(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    home: AccountHome = request.getfixturevalue(f"{name}_home")
    home.fresh().close()
    link = RedisLink(home.url)
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        assert owner_redis.join(link, folder) == owner_redis.join(link, folder)
    assert sorted(owner_redis.owners(link)) == [1, 2]
    assert len(link.replication_ids()) == len(home.masters)
    link.close()


REFUSED = (
    "FLUSHALL", "FLUSHDB", "CONFIG GET *", "CONFIG SET maxmemory 1", "CONFIG RESETSTAT", "KEYS *", "KEYS fanbid:*",
    "SCAN 0", "DEBUG SLEEP 0", "SHUTDOWN NOSAVE", "SAVE", "BGREWRITEAOF", "REPLICAOF NO ONE", "MONITOR",
    "CLIENT LIST", "CLIENT KILL TYPE normal", "ACL LIST", "ACL WHOAMI", "ACL SETUSER fanbid-serving +@all",
    "SCRIPT FLUSH", "SCRIPT KILL", "SCRIPT EXISTS x", "SCRIPT LOAD 'return 1'", "EVAL 'return 1' 0", "INFO",
    "INFO all", "INFO server", "CLUSTER INFO", "CLUSTER RESET", "CLUSTER FORGET x", "MODULE LIST", "SLOWLOG GET",
    "LATENCY RESET", "SWAPDB 0 1", "MIGRATE 127.0.0.1 1 fanbid:1 0 1", "DEL fanbid:1", "RENAME fanbid:1 fanbid:2",
    "DUMP fanbid:1", "SORT fanbid:1", "PSUBSCRIBE *", "GET foreign", "SET foreign 1", "SET fanbi 1",
    "HGETALL foreign", "PEXPIRE foreign 1", "XADD foreign * a b", "XREAD STREAMS fanbid:events foreign 0 0",
    "PUBLISH foreign x", "SUBSCRIBE foreign",
)  # fmt: skip


def test_redis_refuses_everything_else(account_home: AccountHome) -> None:
    account_home.fresh().close()
    with Redis.from_url(account_home.masters[0].url) as admin, as_account(account_home) as client:
        admin.set("foreign", "theirs")
        taken = []
        for command in REFUSED:
            try:
                client.execute_command(*shlex.split(command))
            except ResponseError as refused:
                if isinstance(refused, NoPermissionError) or "DEBUG command not allowed" in str(refused):
                    continue  # the latter is Redis 7, which refuses it to everybody
            taken.append(command)
        assert taken == []
        assert admin.get("foreign") == b"theirs" and admin.acl_whoami() == "default"
        admin.delete("foreign")


def test_what_sharing_needs_is_allowed(account_home: AccountHome) -> None:
    account_home.fresh().close()
    with as_account(account_home) as client, client.pubsub() as heard:
        heard.subscribe("fanbid:changes")
        first = client.execute_command("XADD", "fanbid:events", "MAXLEN", "~", 100, "*", "kind", "caps")
        assert client.xrange("fanbid:events") == [(first, {b"kind": b"caps"})]
        assert client.xread({"fanbid:events": 0}) == [[b"fanbid:events", [(first, {b"kind": b"caps"})]]]
        assert client.xtrim("fanbid:events", 0) == 1
        assert client.set("fanbid:server:1", "up", px=60_000, nx=True)
        assert client.pexpire("fanbid:server:1", 30_000) and client.pttl("fanbid:server:1") <= 30_000
        assert client.get("fanbid:server:1") == b"up"
        client.publish("fanbid:changes", "x")
        kinds = [(heard.get_message(timeout=5) or {}).get("type") for _ in range(2)]
        assert kinds == ["subscribe", "message"]


def test_an_unknown_script_is_refused_and_a_known_one_keeps_to_its_keys(account_home: AccountHome) -> None:
    account_home.fresh().close()
    with Redis.from_url(account_home.masters[0].url) as admin, as_account(account_home) as client:
        for text, key in (
            ("return redis.call('GET', 'foreign')", "fanbid:x"),
            ("return redis.call('GET', KEYS[1])", "foreign"),
            ("return redis.call('FLUSHALL')", "fanbid:x"),
        ):
            with pytest.raises(NoPermissionError):
                client.eval(text, 1, key)
            with pytest.raises(Exception, match=r"(?i)no.*permission|can't run this command|can't access"):
                client.evalsha(str(admin.script_load(text)), 1, key)


@pytest.mark.parametrize("name", ["account", "cluster_account"])
def test_scripts_that_are_not_loaded_are_asked_for_by_name(
    name: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    home: AccountHome = request.getfixturevalue(f"{name}_home")
    store = home.fresh()
    open_account(store)
    for master in home.masters:
        master.ask("SCRIPT", "FLUSH")
    with pytest.raises(StoreUnavailable, match=r"not loaded there, .* run `fanbid redis load`") as failure:
        granted(store, 1)
    assert home.password not in str(failure.value) and ACCOUNT not in str(failure.value)
    assert fanbid.main(["redis", "load", "--redis", home.masters[0].url]) == 0
    count = len(home.masters)
    assert f"{len(SCRIPTS)} scripts loaded into {count} server" in capsys.readouterr().out
    assert granted(store, 1) == 100
    store.close()


def test_an_account_that_may_load_does_so_itself(shared_home: RedisHome) -> None:
    shared_home.fresh().close()
    for master in shared_home.masters:
        master.ask(*shlex.split(acl_line("loading", PASSWORD, may_load=True)))
    store = RedisStore(f"redis://loading:{PASSWORD.replace(' ', '%20')}@{shared_home.masters[0].address}", 1)
    open_account(store)
    assert granted(store, 1) == 100
    with pytest.raises(StoreUnavailable, match="permission"):
        store._run([("GET", "foreign")])
    store.close()


def test_a_wrong_password_is_said_without_it(account_home: AccountHome, capsys: pytest.CaptureFixture[str]) -> None:
    account_home.fresh().close()
    address = account_home.masters[0].address
    for name in (ACCOUNT, "nobody"):
        with pytest.raises(StoreUnavailable, match=f"redis redis://{address}: .*invalid username-password") as failure:
            RedisStore(f"redis://{name}:hush-hush@{address}", 1)
        assert "hush" not in repr(failure.value)
    assert fanbid.main(["redis", "load", "--redis", f"redis://{ACCOUNT}:hush-hush@{address}"]) == 1
    assert fanbid.main(["redis", "load", "--redis", account_home.url]) == 1, "the serving account may not load"
    shown = capsys.readouterr()
    assert "hush" not in shown.err + shown.out and "permission" in shown.err


@pytest.mark.parametrize(
    "url",
    [
        "redis://name:hush/hush@127.0.0.1:1", "redis://name:hush@127.0.0.1:hush", "redis://name:hush@127.0.0.1:99999",
        "redis://name:hush?x@127.0.0.1", "redis://127.0.0.1:1?password=hu@hush", "redis://name:hush@", "http://hush@x",
        "hush", "redis://name:hu#hush@127.0.0.1:1",
    ],
)  # fmt: skip
def test_a_url_that_cannot_be_used_keeps_its_secrets(url: str) -> None:
    with pytest.raises(ValueError, match="redis URL") as failure:
        RedisStore(url, 1)
    assert "hush" not in str(failure.value)


@contextmanager
def behind_tls(port: int, folder: Path) -> Iterator[tuple[int, Path]]:
    """A port that speaks TLS and hands on what it hears to a plain one; and the authority that vouches for it."""
    authority = make_authority(folder, "redis")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("server"))
    listener = socket.create_server(("127.0.0.1", 0))

    def hand_on(source: Any, target: Any) -> None:
        try:
            while part := source.recv(65_536):
                target.sendall(part)
        except OSError:
            pass
        for end in (source, target):
            end.close()

    def serve() -> None:
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:
                return
            try:
                peer = context.wrap_socket(plain, server_side=True)
            except OSError:
                continue
            server = socket.create_connection(("127.0.0.1", port))
            for ends in ((peer, server), (server, peer)):
                threading.Thread(target=hand_on, args=ends, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield listener.getsockname()[1], authority.ca
    finally:
        listener.close()


def test_a_password_goes_through_tls(account_home: AccountHome, tmp_path: Path) -> None:
    account_home.fresh().close()
    with behind_tls(account_home.masters[0].port, tmp_path) as (port, ca):
        account = account_home.url.partition("://")[2].rpartition("@")[0]
        url = f"rediss://{account}@127.0.0.1:{port}"
        store = RedisStore(f"{url}?ssl_ca_certs={ca}", 1)
        open_account(store)
        assert granted(store, 1) == 100
        store.close()
        with pytest.raises(StoreUnavailable, match="certificate verify failed"):
            RedisStore(url, 1)
        with pytest.raises(
            StoreUnavailable, match=f"redis rediss://127.0.0.1:{port}: .*invalid username-password"
        ) as failure:
            RedisStore(f"rediss://{ACCOUNT}:hush-hush@127.0.0.1:{port}?ssl_ca_certs={ca}", 1)
        assert "hush" not in repr(failure.value)


def test_the_command_prints_a_line_that_makes_the_account(
    account_home: AccountHome, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = account_home.masters[0]
    assert fanbid.main(["redis", "account", "--name", "printed"]) == 0
    shown = capsys.readouterr()
    password = shown.err.partition("printed:")[2].partition("@")[0]
    assert len(password) > 32 and password not in shown.out
    server.ask(*shlex.split(shown.out))
    with Redis.from_url(f"redis://printed:{password}@{server.address}") as client:
        assert client.ping()
    (tmp_path / "secret").write_text("a password of mine\n", encoding="utf-8")
    flags = ["redis", "account", "--password-file", str(tmp_path / "secret")]
    assert fanbid.main(flags) == 0
    assert fanbid.main([*flags, "--may-load"]) == 0
    shown = capsys.readouterr()
    strict, loading = shown.out.splitlines()
    assert shown.err == "" and "mine" not in shown.out
    assert set(loading.split()) - set(strict.split()) == {"+eval", "+script|load"}
    assert len(commands()) == len(set(commands())) == strict.count("+")
    server.ask("ACL", "DELUSER", "printed")


def test_what_cannot_be_used_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FANBID_REDIS_ADMIN", raising=False)
    (tmp_path / "short").write_text("hush", encoding="utf-8")
    for flags, text in (
        (["account", "--name", "a b"], "account 'a b'"),
        (["account", "--password-file", str(tmp_path / "short")], "a password of 4 characters: must be 16 or more"),
        (["account", "--password-file", str(tmp_path / "none")], "none"),
        (["load"], "--redis: missing"),
        (["load", "--redis", "ftp://x"], "redis URL 'ftp://x'"),
    ):
        assert fanbid.main(["redis", *flags]) == fanbid.EXIT_BAD_INPUT
        shown = capsys.readouterr().err
        assert text in shown and "hush" not in shown
    monkeypatch.setenv("FANBID_REDIS_ADMIN", "redis://127.0.0.1:1")
    assert fanbid.main(["redis", "load"]) == 1
