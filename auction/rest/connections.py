"""HTTP connections with limits: one that is opened and then says nothing, or half a request, is closed."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_TIMEOUT_S = 10.0
"""How long a request's head may take from the connection's, or its own, first byte on."""
MAX_CONNECTIONS = 512
"""Connections at once; more are answered 503."""


class PatientProtocol(H11Protocol):
    """Uvicorn's HTTP/1.1, which by itself waits for ever for the first request of a connection."""

    head_timeout_s = HEAD_TIMEOUT_S

    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self._head_due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._expect_head()

    def data_received(self, octets: bytes) -> None:
        """Take bytes; go on waiting if they are not a whole head."""
        super().data_received(octets)
        if self.conn.their_state is h11.IDLE:
            self._expect_head()
        else:
            self._stop_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        """The other end has gone."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _expect_head(self) -> None:
        if self._head_due is None:
            self._head_due = self.loop.call_later(self.head_timeout_s, self._give_up)

    def _stop_waiting(self) -> None:
        if self._head_due is not None:
            self._head_due.cancel()
            self._head_due = None

    def _give_up(self) -> None:
        self._head_due = None
        if not self.transport.is_closing() and self.conn.their_state is h11.IDLE:
            self.transport.close()
