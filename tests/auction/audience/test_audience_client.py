"""`fanbid audience` against a real gRPC server of the service's calls."""

from __future__ import annotations

import argparse
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from auction.audience import client, lookalikes
from auction.audience.service import AudienceService
from auction.bid.keyring import KeyRing
from auction.campaigns.access import Principal, Role
from auction.status import refuse
from benchmarks.lookalike.graphs import made_up_graph
from pacing.clocks import SystemClock
from protos.rpc.server import RpcServer
from targeting.graph.follows import FollowGraph
from targeting.segments.store import SegmentStore
from targeting.viewers import ViewerTable
from targeting.visits import Visits


class Stores:
    def __init__(self, folder: Path) -> None:
        self.viewers, self.segments = ViewerTable(), SegmentStore()
        self.follows = FollowGraph(self.viewers, self.segments)
        self.visits = Visits(self.viewers, self.segments)
        self.journal = None
        self.clock = SystemClock()
        self.keys = KeyRing(folder)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[tuple[Stores, str]]:
    monkeypatch.setenv(client.TOKEN_VARIABLE, "any")
    stores = Stores(tmp_path)
    operator = Principal(Role.OPERATOR, 0, 0)
    server = RpcServer(2, refuse)
    calls = AudienceService(stores).calls
    server.add_unary(
        "fanbid.v1.Audience",
        {name: (lambda receive, _, call=call: call(receive(), operator)) for name, call in calls.items()},
    )
    address = server.bind("127.0.0.1:0")
    server.start()
    yield stores, address
    server.stop(0)


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    client.configure(parser)
    return client.main(parser.parse_args(list(arguments)))


def test_a_list_becomes_a_segment_in_several_calls(served, tmp_path: Path, monkeypatch, capsys) -> None:
    stores, address = served
    monkeypatch.setattr(client, "MAX_SEGMENT_IDS", 7)
    path = tmp_path / "list.csv"
    path.write_text("viewer\n" + "\n".join(str(number) for number in range(1, 31)))
    assert run("upload", str(path), "--segment", "mine", "--server", address) == 0
    assert "mine: 30 members" in capsys.readouterr().out and len(stores.segments.members("mine")) == 30
    assert run("lookalike", str(path), "--segment", "like", "--size", "5", "--server", address) == 0
    shown = capsys.readouterr()
    assert "too few follows to learn from" in shown.out
    assert len(stores.segments.members("like.seeds")) == 30


def test_one_wrong_line_and_nothing_is_sent(served, tmp_path: Path) -> None:
    stores, address = served
    path = tmp_path / "list.csv"
    path.write_text("1\n2\nthree\n")
    with pytest.raises(ValueError, match="line 3: 'three' is no id"):
        run("upload", str(path), "--segment", "mine", "--server", address)
    assert stores.segments.names == []


def test_what_the_server_refuses_is_told(served, tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text("1\n")
    with pytest.raises(ValueError, match=r"INVALID_ARGUMENT: .*are reserved"):
        run("upload", str(path), "--segment", "fans:1", "--server", served[1])


def test_a_lookalike_shows_how_far_it_is(served, tmp_path: Path, monkeypatch, capsys) -> None:
    stores, address = served
    links = made_up_graph(500, 8, 1)
    stores.follows.put(
        links.followers.astype(np.uint64) + np.uint64(1), links.followed.astype(np.uint64) + np.uint64(1)
    )
    path = tmp_path / "list.csv"
    path.write_text("\n".join(str(number) for number in range(1, 41)))
    asked_at = threading.Event()
    learn = lookalikes.train_ranker

    def slow(*arguments, tell, **more):  # waits at each step until the client has asked
        def told(share: float) -> None:
            tell(share)
            if share > 0.2:
                asked_at.wait(5)

        return learn(*arguments, tell=told, **more)

    monkeypatch.setattr(lookalikes, "train_ranker", slow)
    monkeypatch.setattr(client, "_ASK_AGAIN_S", 0.01)
    asked = []

    def sleep(seconds: float) -> None:
        asked.append(seconds)
        if len(asked) > 50:
            asked_at.set()

    monkeypatch.setattr(client.time, "sleep", sleep)
    assert run("lookalike", str(path), "--segment", "like", "--size", "60", "--server", address) == 0
    shown = capsys.readouterr()
    assert re.search(r"^like: \d+ % done$", shown.err, re.MULTILINE) and "like: 60 members" in shown.out


@pytest.mark.parametrize("size", ["5", "2000000"])
def test_a_lookalike_that_fails_at_once_or_later_says_why_and_leaves_no_seeds(
    served, tmp_path: Path, monkeypatch, size: str
) -> None:
    def fails(*_, **__):
        raise ValueError("size 5: not today")

    monkeypatch.setattr(lookalikes, "expand", fails)
    path = tmp_path / "list.csv"
    path.write_text("\n".join(str(number) for number in range(1, 41)))
    with pytest.raises(ValueError, match="like: size 5: not today" if size == "5" else "size 2000000"):
        run("lookalike", str(path), "--segment", "like", "--size", size, "--server", served[1])
    assert len(served[0].segments.members("like.seeds")) == 0
