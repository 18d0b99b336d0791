"""The account of `fanbid redis account` on real servers: what fanbid does works, the rest Redis refuses."""

from __future__ import annotations

import ast
import importlib
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
from auction.shared import redis_account
from auction.shared.redis_account import KEY_PATTERN, SCRIPTS, acl_line, commands
from benchmarks.redis_servers import RedisServer
from pacing.budget import owner_redis
from pacing.budget.redis_store import RedisStore
from pacing.budget.store import StoreUnavailable
from pacing.redis_link import RedisLink, Script
from tests.pacing.budget.account_home import ACCOUNT, AccountHome
from tests.pacing.budget.store_homes import RedisHome
from tests.pacing.budget.test_redis_store import every_call, granted, open_account
from tests.protos.rpc.certificates import make_authority
from tests.sources import ROOT, Source, python_sources

PASSWORD = "another password"
SENDERS = {
    "pacing/budget/redis_places.py": redis_account.PLACES,
    "pacing/budget/redis_store.py": redis_account.BUDGETS,
    "pacing/budget/redis_epochs.py": redis_account.EPOCHS,
    "pacing/budget/marks_redis.py": redis_account.MARKS,
    "pacing/budget/owner_redis.py": redis_account.OWNERS,
    "auction/shared/campaigns_redis.py": redis_account.CAMPAIGNS,
    "auction/shared/tokens_redis.py": redis_account.TOKENS,
    "auction/shared/judged_redis.py": redis_account.JUDGED,
}
"""Which file sends what."""
LINK = "pacing/redis_link.py"
OF_THE_CLIENT = {"auth", "select", "ping", "cluster|slots", "command", "asking"}
"""Sent by the package redis, as the tests on servers show."""


@pytest.fixture(scope="session")
def account_home(one_redis: list[RedisServer]) -> AccountHome:
    return AccountHome(one_redis)


@pytest.fixture(scope="session")
def cluster_account_home(cluster: list[RedisServer]) -> AccountHome:
    return AccountHome(cluster)


@pytest.fixture(params=["account_home", "cluster_account_home"])
def any_home(request: pytest.FixtureRequest) -> AccountHome:
    home: AccountHome = request.getfixturevalue(request.param)
    return home


def as_account(home: AccountHome) -> Redis:
    return Redis.from_url(home.url, protocol=2)


def served_sources(word: str) -> list[Source]:
    """What a server may run, everything but benchmarks and tests, if the word is in its name or text."""
    served = [source for source in python_sources() if not source.path.startswith(("tests/", "benchmarks/"))]
    return [source for source in served if word in source.path or word in source.text]


def commands_in(source: Source) -> set[str]:
    """First words of all tuples that could be commands; and what is asked of a client's own methods."""
    found = set()
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Tuple) and node.elts and isinstance(node.elts[0], ast.Constant):
            word = node.elts[0].value
            if isinstance(word, str) and re.fullmatch(r"[A-Z]{2,}", word):
                found.add(word.lower())
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and ast.unparse(node.func.value) == "self._client"
        ):
            first = node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else ""
            found.add(f"{node.func.attr} {first}".strip().lower())
    return found


def test_the_list_is_what_servers_send() -> None:
    """Neither a command that is missing nor one that nobody needs, file by file."""
    sources = {source.path: source for source in served_sources("redis")}
    named = {path for path in sources if "redis" in path.rpartition("/")[2]}
    for path in named - {LINK}:
        assert commands_in(sources[path]) == SENDERS.get(path, {}).keys(), path
    importers = {path for path, source in sources.items() if "pacing.redis_link.RedisLink" in source.imports()}
    others = {path: commands_in(sources[path]) for path in importers - named}
    assert {path: sent for path, sent in others.items() if sent} == {}
    # The link's own: what it calls on the client, by name.
    calls = commands_in(sources[LINK]) - {"pipeline", "close", "get_nodes", "get_node_from_key"}
    operating = {"scan_iter": "scan", "execute_command script load": "script|load"}
    guarding = {"get", "set", "setnx"}
    assert calls == {"evalsha", "eval", "info cluster", "info replication", *guarding, *operating}
    assert set(redis_account.CONNECTING) == {"evalsha", "info|cluster", "info|replication", *guarding, *OF_THE_CLIENT}
    assert set(redis_account.LOADING) == {"eval"} and set(redis_account.OPERATING) == set(operating.values())
    assert not set(commands(may_load=True)) & set(redis_account.OPERATING)


def test_the_list_is_what_scripts_call() -> None:
    groups = {"pacing/budget/lua": redis_account.BUDGET_SCRIPTS, "auction/shared/lua": redis_account.SHARED_SCRIPTS}
    found: dict[str, set[str]] = {folder: set() for folder in groups}
    for path in lua_files():
        text = path.read_text(encoding="utf-8")
        calls = re.findall(r"""redis\.p?call\(\s*(['"])([A-Z]+)\1(?:, '(replication)')?""", text)
        assert len(calls) == len(re.findall(r"redis\s*[.\[]\s*p?call", text)), path
        folder = path.parent.relative_to(ROOT).as_posix()
        found[folder] |= {"|".join(filter(None, call[1:])).lower() for call in calls}
    assert found == {folder: set(group) for folder, group in groups.items()}


def test_every_key_has_the_prefix() -> None:
    prefix = KEY_PATTERN.removesuffix("*")
    more = {"auction/shared/keys_redis.py", "auction/shared/pace_redis.py"}
    for path in (SENDERS.keys() | more) - {"pacing/budget/redis_store.py"}:  # whose keys redis_places.py makes
        text = (ROOT / path).read_text(encoding="utf-8")
        keys = re.findall(r'^    return f"(\w+:\S*)"|^_[A-Z_]+ = "(\S*:\S*)"', text, re.MULTILINE)
        assert keys and all("".join(key).startswith(prefix) for key in keys), path


def lua_files() -> list[Path]:
    return [
        path for folder in ("auction", "fanbridge", "pacing", "targeting") for path in (ROOT / folder).rglob("*.lua")
    ]


def test_every_script_is_among_those_that_are_loaded_ahead() -> None:
    texts = [script.text for script in SCRIPTS]
    assert len(SCRIPTS) == len(set(texts))
    for path in lua_files():
        assert any(path.read_text(encoding="utf-8") in text for text in texts), path
    for source in served_sources("Script"):
        if source.path == LINK:
            continue
        inside = [ast.unparse(node) for node in ast.walk(source.tree) if isinstance(node, ast.Call)]
        assert [call for call in inside if call.startswith("Script(")] == [], source.path
        besides = [call for call in inside if call.startswith("Script.beside(")]
        if not besides:
            continue
        module = importlib.import_module(source.path.removesuffix(".py").replace("/", "."))
        made = [thing for thing in vars(module).values() if isinstance(thing, Script)]
        assert set(made) <= set(SCRIPTS), source.path
        assert len(made) == len(besides), source.path


def test_every_call_works(any_home: AccountHome) -> None:
    store = any_home.fresh()
    open_account(store)
    assert granted(store, 1) == 100
    for call in every_call(store):
        call()
    store.close()
    assert any_home.refused() == []


def test_a_server_joins_under_the_account(any_home: AccountHome, tmp_path: Path) -> None:
    any_home.prepare()
    link = RedisLink(any_home.url)
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        assert owner_redis.join(link, folder) == owner_redis.join(link, folder)
    assert sorted(owner_redis.owners(link)) == [1, 2]
    assert len(link.replication_ids()) == len(any_home.masters)
    link.close()
    assert any_home.refused() == []


REFUSED = (
    "FLUSHALL", "FLUSHDB", "CONFIG GET *", "CONFIG SET maxmemory 1", "CONFIG RESETSTAT", "KEYS *", "KEYS fanbid:*",
    "SCAN 0", "DEBUG SLEEP 0", "SHUTDOWN NOSAVE", "SAVE", "BGREWRITEAOF", "REPLICAOF NO ONE", "MONITOR",
    "CLIENT LIST", "CLIENT KILL TYPE normal", "ACL LIST", "ACL WHOAMI", "ACL SETUSER fanbid-serving +@all",
    "SCRIPT FLUSH", "SCRIPT KILL", "SCRIPT EXISTS x", "SCRIPT LOAD 'return 1'", "EVAL 'return 1' 0", "INFO",
    "INFO all", "INFO server", "CLUSTER INFO", "CLUSTER RESET", "CLUSTER FORGET x", "MODULE LIST", "SLOWLOG GET",
    "LATENCY RESET", "SWAPDB 0 1", "MIGRATE 127.0.0.1 1 fanbid:1 0 1", "UNLINK fanbid:1", "RENAME fanbid:1 fanbid:2",
    "DUMP fanbid:1", "SORT fanbid:1", "PSUBSCRIBE *", "GET foreign", "SET foreign 1", "SET fanbi 1", "DEL foreign",
    "HGETALL foreign", "PEXPIRE foreign 1", "XADD foreign * a b", "XREAD STREAMS fanbid:events foreign 0 0",
    "PUBLISH foreign x", "SUBSCRIBE foreign", "PUBLISH fanbid:changes x", "SUBSCRIBE fanbid:changes",
    "DEL fanbid:1 foreign", "HSCAN foreign 0", "LRANGE foreign 0 -1", "XRANGE foreign - +", "ZADD foreign 1 a",
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


def test_scripts_that_are_not_loaded_are_asked_for_by_name(
    any_home: AccountHome, capsys: pytest.CaptureFixture[str]
) -> None:
    home = any_home
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


@pytest.mark.parametrize("servers", ["one_redis", "cluster"])
def test_an_account_that_may_load_does_so_itself(servers: str, request: pytest.FixtureRequest) -> None:
    shared_home = RedisHome(request.getfixturevalue(servers))
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


def test_a_url_may_name_a_database_of_one_redis_and_none_of_a_cluster(
    one_redis: list[RedisServer], cluster: list[RedisServer]
) -> None:
    links = [RedisLink(one_redis[0].url + database) for database in ("/3", "/4", "/3")]
    links[0].run([("SET", "fanbid:here", "3")])
    assert [link.run([("GET", "fanbid:here")]) for link in links] == [[b"3"], [None], [b"3"]]
    links[0].run([("DEL", "fanbid:here")])
    for link in links:
        link.close()
    RedisLink(cluster[0].url + "/0").close()
    with pytest.raises(ValueError, match="names a database; a Redis Cluster has only 0"):
        RedisLink(cluster[0].url + "/3")


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
    assert set(loading.split()) - set(strict.split()) == {"+eval"}
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
        (["account", "--password-file", str(tmp_path / "none")], f"--password-file {tmp_path / 'none'}: No such file"),
        (["account", "--password-file", str(tmp_path)], f"--password-file {tmp_path}: Is a directory"),
        (["load"], "--redis: missing"),
        (["load", "--redis", "ftp://x"], "redis URL 'ftp://x'"),
        (["load", "--redis", "redis://127.0.0.1:1/x"], "after the address only the number of a database, such as /3"),
    ):
        assert fanbid.main(["redis", *flags]) == fanbid.EXIT_BAD_INPUT
        shown = capsys.readouterr().err
        assert text in shown and "hush" not in shown
    monkeypatch.setenv("FANBID_REDIS_ADMIN", "redis://127.0.0.1:1")
    assert fanbid.main(["redis", "load"]) == 1
