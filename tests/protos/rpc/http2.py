"""HTTP/2 by hand, as a client that misbehaves: frames are sent as told, and only what a test asks for is answered."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY = 0, 1, 3, 4, 6, 7
ACK, END_STREAM, END_HEADERS = 1, 1, 4
MAX_CONCURRENT_STREAMS, MAX_HEADER_LIST_SIZE = 3, 6


def frame(kind: int, flags: int = 0, stream: int = 0, body: bytes = b"", length: int | None = None) -> bytes:
    """One frame; `length` lies about the body's."""
    return (
        struct.pack(">I", len(body) if length is None else length)[1:] + struct.pack(">BBI", kind, flags, stream) + body
    )


def _field(name: bytes, value: bytes) -> bytes:
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


def headers(path: str, **more: str) -> bytes:
    """A header block of a gRPC call, uncompressed."""
    fields = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "test", "te": "trailers"}
    fields |= {"content-type": "application/grpc"} | more
    return b"".join(_field(name.encode(), value.encode()) for name, value in fields.items())


def call_head(path: str, stream: int = 1, **more: str) -> bytes:
    """The HEADERS frame of a call."""
    return frame(HEADERS, END_HEADERS, stream, headers(path, **more))


def message(body: bytes, stream: int = 1, flags: int = END_STREAM, length: int | None = None) -> bytes:
    """A DATA frame with one gRPC message; `length` lies about the message's."""
    return frame(DATA, flags, stream, struct.pack(">BI", 0, len(body) if length is None else length) + body)


class Peer:
    """One raw connection."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=10)
        self._unread = b""

    def send(self, *frames: bytes) -> None:
        """Send these bytes."""
        self._socket.sendall(b"".join(frames))

    def greet(self) -> None:
        """Begin as a good client does: preface, settings, acknowledgement of the server's."""
        self.send(PREFACE, frame(SETTINGS), frame(SETTINGS, ACK))

    def frames(self, wait_s: float, answer_pings: bool = True) -> Iterator[tuple[int, int, int, bytes]]:
        """What the server sends, as (kind, flags, stream, body), until it hangs up.

        Raises:
            TimeoutError: it did not hang up within `wait_s`.
        """
        deadline_s = time.monotonic() + wait_s
        while True:
            while len(self._unread) >= 9 and len(self._unread) >= 9 + int.from_bytes(self._unread[:3], "big"):
                length = int.from_bytes(self._unread[:3], "big")
                kind, flags, stream = struct.unpack(">BBI", self._unread[3:9])
                body, self._unread = self._unread[9 : 9 + length], self._unread[9 + length :]
                if kind == PING and not flags & ACK and answer_pings:
                    self.send(frame(PING, ACK, 0, body))
                yield kind, flags, stream, body
            self._socket.settimeout(max(deadline_s - time.monotonic(), 0.001))
            try:
                part = self._socket.recv(65_536)
            except ConnectionResetError:
                return
            if not part:
                return
            self._unread += part

    def seconds_until_closed(self, wait_s: float, answer_pings: bool = True) -> float:
        """How long the server keeps this connection.

        Raises:
            TimeoutError: longer than `wait_s`.
        """
        began_s = time.monotonic()
        for _ in self.frames(wait_s, answer_pings):
            pass
        return time.monotonic() - began_s

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


@contextmanager
def raw_peer(address: str) -> Iterator[Peer]:
    """A raw connection that ends with the block."""
    peer = Peer(address)
    try:
        yield peer
    finally:
        peer.close()
