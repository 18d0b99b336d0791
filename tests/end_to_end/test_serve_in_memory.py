"""`fanbid serve` without --data: it says what will be gone and how to get a token, and leaves nothing behind."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest

import fanbid
from benchmarks.serving import start_child
from benchmarks.transport import CHANNEL_OPTIONS, GrpcTransport
from protos import campaigns_pb2
from protos.rpc.tls import open_channel

QUIET = ("--no-rest", "--no-bridge")


def test_it_says_where_it_keeps_things_and_how_to_get_a_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    child = start_child("serve", ["serve", "--listen", "127.0.0.1:0", *QUIET], tmp_path)
    try:
        log = child.log_tail()
        (folder,) = temporary.glob("fanbid-*")
        assert f"no --data: all is kept in memory and in {folder}, and both go away" in log
        told = re.search(r"a token for it: fanbid (token create .*)", log)
        assert told is not None
        monkeypatch.setattr(fanbid, "_stop_on_sigterm", lambda: None)
        assert fanbid.main(told.group(1).split()) == 0
        token = capsys.readouterr().out.strip()
        with open_channel(str(child.ready["grpc"]), None, CHANNEL_OPTIONS) as channel:
            answer = GrpcTransport(channel, token).call(
                "Campaigns/ListCampaigns", campaigns_pb2.ListCampaignsRequest(), campaigns_pb2.ListCampaignsResponse
            )
        assert list(answer.campaigns) == []
        assert (tmp_path / "serve.ready.json").exists()
    finally:
        child.stop()
    assert not (tmp_path / "serve.ready.json").exists()
    assert list(temporary.iterdir()) == []


def test_a_refused_start_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    monkeypatch.setattr(fanbid, "_stop_on_sigterm", lambda: None)
    notes = tmp_path / "notes.md"
    notes.write_text("notes")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for flags in (["--history", str(notes)], ["--listen", f"127.0.0.1:{port}"]):
            assert fanbid.main(["serve", "--listen", "127.0.0.1:0", *QUIET, *flags]) == 2
            assert list(temporary.iterdir()) == []
