"""Lists of viewers over REST, in front of a whole engine: taken whole or not at all."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import httpx
import numpy as np
import pytest

import auction.rest.lists as module
from auction.campaigns.access import Role
from benchmarks.lookalike.graphs import made_up_graph
from protos import audience_pb2
from tests.auction.bid.engines import Engine
from tests.auction.rest.serving import served_engine
from tests.auction.rest.test_rest import fails

JSON = {"Content-Type": "application/json"}
CSV = {"Content-Type": "text/csv"}


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    running = Engine()
    yield running
    running.close()


@pytest.fixture(scope="module")
def address(engine: Engine) -> Iterator[str]:
    with served_engine(engine) as shim:
        yield shim


@pytest.fixture(scope="module")
def operator(engine: Engine, address: str) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {engine.token(Role.OPERATOR)}"} | CSV
    with httpx.Client(base_url=address, headers=headers, timeout=60) as client:
        yield client


def members(engine: Engine, name: str) -> set[int]:
    services = engine.services
    return set(services.viewers.ids[services.segments.rows(name)].tolist())


def test_a_list_larger_than_any_other_body_becomes_a_segment(operator: httpx.Client, engine: Engine) -> None:
    ids = np.random.default_rng(1).integers(1, 2**64, 30_000, np.uint64)
    text = "viewer_id,name\n" + "".join(f'"{viewer}",x\r\n' for viewer in ids.tolist())
    pieces = (text[k : k + 9_999].encode() for k in range(0, len(text), 9_999))
    answer = operator.put("/api/audiences/lists/mine", content=pieces)
    assert (answer.status_code, answer.json()) == (200, {"segment_id": "mine", "members": 30_000, "left_out": 0})
    assert members(engine, "mine") == set(ids.tolist())
    again = operator.put("/api/audiences/lists/mine", content=b"7\n8\n")
    assert again.json()["members"] == 2 and members(engine, "mine") == {7, 8}


def test_a_list_with_wrong_lines_is_refused_whole_by_line(operator: httpx.Client, engine: Engine) -> None:
    assert operator.put("/api/audiences/lists/kept", content=b"1\n2\n").status_code == 200
    told = fails(operator.put("/api/audiences/lists/kept", content=b"1\n3\nthree\n1\n"), 422, "invalid_argument")
    assert "2 lines rejected" in told and "line 3: 'three' is no id" in told and "line 4: 1 stands in line 1" in told
    assert "empty" in fails(operator.put("/api/audiences/lists/kept", content=b"\n"), 422, "invalid_argument")
    assert members(engine, "kept") == {1, 2}


def test_a_lookalike_is_made_of_a_list(operator: httpx.Client, engine: Engine) -> None:
    links = made_up_graph(400, 8, 1)
    follows = audience_pb2.PutFollowsRequest(follower_ids=links.followers + 1, followed_ids=links.followed + 1)
    engine.call("Audience/PutFollows", follows, audience_pb2.PutFollowsResponse, Role.OPERATOR)
    seeds = range(1, 41)
    assert operator.put("/api/audiences/lists/seeds", content="\n".join(map(str, seeds)).encode()).status_code == 200
    wanted = {"segment_id": "like", "seed_segment_id": "seeds", "size": 60}
    made = operator.post("/api/audiences/lookalikes", json=wanted, headers=JSON).json()
    assert (made["members"], made["seeds"], made["held_out"], made["learned"]) == (60, 40, 8, True)
    assert len(members(engine, "like")) == 60 and not members(engine, "like") & set(seeds)
    asked = operator.post("/api/audiences/lookalikes", json=wanted | {"wait": False}, headers=JSON)
    assert asked.status_code == 202 and asked.json()["segment_id"] == "like"
    told = asked.json()
    while told["state"] == "making":
        assert told["made"] == made, "of the one before, which is still in force"
        assert 0 <= told["done_percent"] <= 100
        told = operator.get("/api/audiences/lookalikes/like").json()
    assert told == {"segment_id": "like", "state": "made", "done_percent": 100, "made": made, "error": ""}
    fails(operator.get("/api/audiences/lookalikes/none"), 404, "not_found", "segment_id")


def test_segments_are_listed_by_name_page_by_page(operator: httpx.Client, engine: Engine) -> None:
    for name in ("zz-1", "zz-2", "zz-3", "zz-none"):
        assert operator.put(f"/api/audiences/lists/{name}", content=b"1\n2\n").status_code == 200
    empty = {"change": "replace", "viewer_ids": []}
    as_json = {"Content-Type": "application/json"}
    assert operator.put("/api/audiences/segments/zz-none", json=empty, headers=as_json).json()["members"] == 0
    engine.services.segments.put("tier:iron:7", engine.services.viewers.ensure(np.array([1], np.uint64)), 2)
    engine.services.segments.put("zz-4", engine.services.viewers.ensure(np.array([1], np.uint64)), 2)
    found, after, pages = [], "zz", 0
    while after:
        page = operator.get("/api/audiences/segments", params={"after": after, "page_size": 2}).json()
        found, after, pages = found + page["segments"], page["next_after"], pages + 1
    assert pages == 2
    assert [one["segment_id"] for one in found] == ["zz-1", "zz-2", "zz-3", "zz-4"], "not the empty one"
    assert [one["members"] for one in found] == [2, 2, 2, 1]
    every = operator.get("/api/audiences/segments", params={"page_size": 1_000}).json()
    assert "tier:iron:7" not in [one["segment_id"] for one in every["segments"]], "the engine's own"
    assert every["next_after"] == ""
    fails(operator.get("/api/audiences/segments", params={"page_size": 1_001}), 422, "invalid_argument", "page_size")
    token = engine.token(Role.CREATOR, 7)
    headers = {"Authorization": f"Bearer {token}"}
    own = {"segments": [], "next_after": "", "creator_id": "7"}
    assert operator.get("/api/audiences/segments", headers=headers).json() == own


def test_what_cannot_be_done_is_refused_by_name(
    operator: httpx.Client, engine: Engine, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "are reserved" in operator.put("/api/audiences/lists/fans:7", content=b"1\n").json()["error"]["message"]
    fails(operator.put("/api/audiences/lists/No", content=b"1\n"), 422, "invalid_argument", "segment_id")
    monkeypatch.setattr(module, "MAX_LIST_BYTES", 10)
    fails(operator.put("/api/audiences/lists/large", content=b"1\n" * 6), 413, "too_large")
    headers = {"Authorization": f"Bearer {engine.token(Role.FEED)}"} | CSV
    assert httpx.put(f"{address}/api/audiences/lists/x", content=b"1\n", headers=headers).status_code == 403
    fails(httpx.put(f"{address}/api/audiences/lists/x", content=b"1\n"), 401, "unauthenticated")


def test_a_list_that_does_not_come_is_given_up(operator: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BODY_TIMEOUT_S", 0.2)
    host, port = str(operator.base_url.host), operator.base_url.port or 0
    token = operator.headers["Authorization"]
    with socket.create_connection((host, port), timeout=20) as half:
        half.sendall(
            f"PUT /api/audiences/lists/slow HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\n"
            "Content-Length: 100\r\n\r\n1\n".encode()
        )
        assert half.recv(400).startswith(b"HTTP/1.1 408")
