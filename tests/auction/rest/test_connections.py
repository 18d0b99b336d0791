"""Connections to the shim that are opened and not used: they are closed, and others are served meanwhile."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from urllib.request import urlopen

import pytest

from auction.rest.connections import PatientProtocol
from auction.rest.guards import BodyLimit
from tests.auction.rest.serving import running_shim

TIMEOUT_S = 0.3
WAIT_S = 15.0


class HurriedProtocol(PatientProtocol):
    head_timeout_s = TIMEOUT_S


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with running_shim("127.0.0.1:1", HurriedProtocol) as address:
        yield address


def connect(address: str) -> socket.socket:
    host, _, port = address.removeprefix("http://").rpartition(":")
    return socket.create_connection((host, int(port)), timeout=WAIT_S)


@pytest.mark.parametrize("sent", [b"", b"GE", b"GET / HTTP/1.1\r\nHost: x\r\n", b"\x16\x03\x01", b"\x00" * 100])
def test_half_a_request_is_not_waited_for(address: str, sent: bytes) -> None:
    with connect(address) as peer:
        peer.sendall(sent)
        while peer.recv(65_536):  # what is nonsense at once is answered 400 first
            pass


def test_a_slow_head_does_not_begin_anew_with_every_byte(address: str) -> None:
    began_s = time.monotonic()
    with connect(address) as peer, pytest.raises(OSError):
        while time.monotonic() < began_s + WAIT_S:
            peer.sendall(b"x-a: 1\r\n" if time.monotonic() > began_s else b"GET / HTTP/1.1\r\n")
            time.sleep(0.05)
    assert time.monotonic() < began_s + WAIT_S


def test_a_second_request_is_not_waited_for_either(address: str) -> None:
    with connect(address) as peer:
        peer.sendall(b"GET /static/mark.svg HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = b""
        while b"</svg>" not in answer:
            answer += peer.recv(65_536)
        assert answer.startswith(b"HTTP/1.1 200")
        peer.sendall(b"GET /static/ma")
        while peer.recv(65_536):
            pass


def test_whole_requests_are_served_meanwhile(address: str) -> None:
    idle = [connect(address) for _ in range(50)]
    with urlopen(f"{address}/docs", timeout=WAIT_S) as answer:
        assert answer.status == 200
    for peer in idle:
        peer.close()


def test_a_body_that_does_not_come_is_answered_408() -> None:
    sent: list[dict[str, object]] = []

    async def app(scope: object, receive: object, send: object) -> None:
        raise AssertionError("not reached")

    async def receive() -> dict[str, object]:
        await asyncio.sleep(0.02)
        return {"type": "http.request", "body": b"x", "more_body": True}

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    asyncio.run(BodyLimit(app, timeout_s=0.1)({"type": "http", "method": "POST"}, receive, send))
    assert sent[0]["status"] == 408
    assert json.loads(bytes(sent[1]["body"]))["error"]["code"] == "timeout"
