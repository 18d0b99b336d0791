"""`fanbid serve --redis` that cannot start: nothing is left of it, or what is left is told."""

from __future__ import annotations

import json
import shlex
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import fanbid
from auction.config import ServeConfig
from auction.services import Services
from auction.shared.redis_account import acl_line
from benchmarks.redis_servers import RedisServer, redis_server
from pacing.budget.owner_redis import OWNER_FILE, forget, owners
from pacing.redis_link import RedisLink

PASSWORD = "sixteen-or-more-letters"


@contextmanager
def taken_port() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        yield f"127.0.0.1:{taken.getsockname()[1]}"


def test_a_start_that_cannot_succeed_makes_no_folder_and_joins_nobody(
    tmp_path: Path, one_redis: list[RedisServer], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fanbid, "_stop_on_sigterm", lambda: None)
    new, notes = tmp_path / "new", tmp_path / "notes.npz"
    notes.write_text("notes")
    link = RedisLink(one_redis[0].url)
    before = owners(link)
    shared = ["serve", "--data", str(new), "--no-bridge", "--redis", one_redis[0].url]
    with taken_port() as address:
        for flags, text in (
            (["--listen", address, "--no-rest"], f"--listen {address}: the address cannot be bound"),
            (["--rest-listen", address], f"--rest-listen {address}: the address cannot be bound"),
            (["--no-rest", "--model", str(notes)], f"--model {notes}: not a predictor state"),
            (["--no-rest", "--redis", "redis://127.0.0.1:1"], "--redis: redis redis://127.0.0.1:1: "),
        ):
            free = [] if "--listen" in flags else ["--listen", "127.0.0.1:0"]
            assert fanbid.main([*shared, *free, *flags]) == 2
            assert text in capsys.readouterr().err
            assert not new.exists() and owners(link) == before
        new.mkdir()
        assert fanbid.main([*shared, "--listen", address]) == 2
        assert list(new.iterdir()) == [] and owners(link) == before
    link.close()


def test_without_loaded_scripts_nobody_joins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new = tmp_path / "new"
    with redis_server() as server:
        server.ask(*shlex.split(acl_line("strict", PASSWORD)))
        url = server.url.replace("://", f"://strict:{PASSWORD}@")
        flags = ["--data", str(new), "--redis", url, "--listen", "127.0.0.1:0", "--no-rest", "--no-bridge"]
        assert fanbid.main(["serve", *flags]) == 2
        assert "run `fanbid redis load`" in capsys.readouterr().err
        assert not new.exists()
        link = RedisLink(server.url)
        assert owners(link) == {}
        link.close()


def test_a_start_that_fails_after_it_joined_says_what_stays(
    tmp_path: Path, one_redis: list[RedisServer], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    config = ServeConfig(data=tmp_path / "new", redis=one_redis[0].url, no_rest=True, listen="127.0.0.1:0")
    monkeypatch.setattr(Services, "_open_money", lambda _: (_ for _ in ()).throw(ValueError("later")))
    for told in (True, False):  # the second start joins nothing
        caplog.clear()
        with pytest.raises(ValueError, match="later"):
            Services(config)
        assert (f"fanbid owners retire --data {tmp_path / 'new'}" in caplog.text) is told
    link = RedisLink(one_redis[0].url)
    forget(link, int(json.loads((tmp_path / "new" / OWNER_FILE).read_text())["owner_id"]))
    link.close()
