"""Owners of shared budgets: listed, retired after settling everything, forgotten when their folder is gone."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import fanbid
from auction.config import ServeConfig
from auction.services import Services
from auction.shared.redis_account import acl_line
from benchmarks.redis_servers import RedisServer, redis_server
from pacing.budget.owner_redis import ForeignFolder, join
from pacing.budget.redis_store import RedisStore
from pacing.budget.store import CapsRequest, LeaseRequest
from pacing.redis_link import RedisLink

ZONE = "UTC"


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = fanbid.main(["owners", *arguments])
    told = capsys.readouterr()
    return code, told.out + told.err


def test_a_server_that_leaves(server: RedisServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = ServeConfig(data=tmp_path / "a", redis=server.url, no_rest=True, no_bridge=True)
    services = Services(config)
    code, text = run(capsys, "retire", "--data", str(tmp_path / "a"), "--redis", server.url)
    assert code == 2 and "its server is running; stop it first" in text
    services.close()
    code, text = run(capsys, "list", "--redis", server.url)
    assert code == 0 and f"     1                          0  {tmp_path / 'a'}" in text
    assert run(capsys, "retire", "--data", str(tmp_path / "a"), "--redis", server.url)[0] == 0
    assert str(tmp_path) not in run(capsys, "list", "--redis", server.url)[1]
    with pytest.raises(ValueError, match="owner 1 has retired; begin with a new folder"):
        Services(config)


def test_a_lost_owner_keeps_nobody_waiting(
    server: RedisServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Services(ServeConfig(data=tmp_path / "a", redis=server.url, no_rest=True, no_bridge=True)).close()
    store = RedisStore(server.url, 1, quarantine_ms=0)
    store.set_caps(CapsRequest(5, 9, ZONE, 10**6, 10**6, 1_772_000_000_000))
    (grant,) = store.acquire([LeaseRequest(1, 5, 20_500, 0, 10**13, 1_000)])
    assert grant is not None
    server.ask("DEBUG", "CHANGE-REPL-ID")
    (epoch,) = store.epochs([9]).values()
    assert epoch.owners_behind == (1,)
    listed = run(capsys, "list", "--redis", server.url)[1]
    assert (
        "     1                          1  " in listed and "holds deployment" in listed and "no grants" not in listed
    )
    assert run(capsys, "retire", "--owner", "7", "--lost", "--redis", server.url)[0] == 2
    code, text = run(capsys, "retire", "--owner", "1", "--lost", "--redis", server.url)
    assert code == 2 and f"--lost: its directory {tmp_path / 'a'} is there" in text
    deaf = RedisStore(server.url, 2, quarantine_ms=0)
    for _ in range(2):
        deaf.replication_ids()  # when it hears who joined
    shutil.rmtree(tmp_path / "a")
    (tmp_path / "a").mkdir()  # another one of that name, as on the operator's machine
    code, text = run(capsys, "retire", "--owner", "1", "--lost", "--redis", server.url)
    assert code == 0 and "owner 1 is forgotten" in text and "no server has any row of it" in text
    (epoch,) = store.epochs([9]).values()
    assert epoch.owners_behind == ()
    # A server that has not listened since does not enter it again; an older one might.
    deaf.set_caps(CapsRequest(6, 9, ZONE, 10**6, 10**6, 1_772_000_000_000))
    assert b"owner:1" not in server.ask("HKEYS", "fanbid:{9}:epoch")
    server.ask("HSET", "fanbid:{9}:epoch", "owner:1", "0")
    code, text = run(capsys, "retire", "--owner", "1", "--lost", "--redis", server.url)
    assert code == 0 and "owner 1 had left" in text
    assert [epoch.owners_behind for epoch in store.epochs([9]).values()] == [()]
    for each in (store, deaf):
        each.close()
    # The directory turns up after all: others may have spent what Redis had lost of its charges.
    deployment = server.ask("GET", "fanbid:deployment").decode()
    (tmp_path / "a" / "owner.json").write_text(json.dumps({"deployment_id": deployment, "owner_id": 1}))
    link = RedisLink(server.url)
    with pytest.raises(ForeignFolder, match="owner 1 was taken for lost"):
        join(link, tmp_path / "a")
    link.close()


def test_a_quarantine_is_listed_and_begins_none(server: RedisServer, capsys: pytest.CaptureFixture[str]) -> None:
    store = RedisStore(server.url, 1, quarantine_ms=60_000)
    store.set_caps(CapsRequest(5, 9, ZONE, 10**6, 10**6, 1_772_000_000_000))
    server.ask("DEBUG", "CHANGE-REPL-ID")
    assert "no grants" not in run(capsys, "list", "--redis", server.url)[1]
    assert server.ask("HGET", "fanbid:{9}:epoch", "number") == b"1", "it is the servers that begin an epoch"
    (epoch,) = store.epochs([9]).values()
    assert (epoch.number, 59_000 < epoch.refused_ms <= 60_000) == (2, True)
    (line,) = [line for line in run(capsys, "list", "--redis", server.url)[1].splitlines() if "no grants" in line]
    assert re.fullmatch(r"no grants until \d\d:\d\d:\d\d \(creators: 1\): Redis was restarted.*", line)
    server.ask("SET", "fanbid:deployment", "lost 12ab")
    assert f"{server.url} lost deployment 12ab" in run(capsys, "list", "--redis", server.url)[1]
    store.close()


def test_it_takes_an_administrators_account(
    server: RedisServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FANBID_REDIS_ADMIN", raising=False)
    assert run(capsys, "list")[1] == "fanbid owners: --redis: missing, and FANBID_REDIS_ADMIN is not set\n"
    monkeypatch.setenv("FANBID_REDIS_ADMIN", server.url)
    assert run(capsys, "list")[0] == 0
    server.ask(*shlex.split(acl_line("serving", "a-password-of-16")))
    code, text = run(capsys, "list", "--redis", f"redis://serving:a-password-of-16@{server.address}")
    assert code == 2 and "permission" in text and "a-password" not in text


def test_what_does_not_go_together(server: RedisServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for flags in (["--owner", "1"], ["--lost"], ["--data", str(tmp_path)], []):
        code, text = run(capsys, "retire", "--redis", server.url, *flags)
        assert code == 2 and text.startswith("fanbid owners: "), flags
    server.kill()
    code, text = run(capsys, "list", "--redis", server.url)
    assert code == 2 and "127.0.0.1" in text
