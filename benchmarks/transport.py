"""One way to call the engine, over gRPC or in the same process: a study and a feed server speak the same messages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import grpc

PACKAGE = "fanbid.v1"
CALL_TIMEOUT_S = 120.0
CHANNEL_OPTIONS = [
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),
    ("grpc.max_send_message_length", 16 * 1024 * 1024),
]

Answer = TypeVar("Answer")


class Transport(Protocol):
    """Makes calls as the bearer of one token."""

    def call(self, method: str, request: Any, response_class: type[Answer]) -> Answer:
        """Call `method`, such as "Bidding/Bid", and wait for its answer; errors are those of the transport."""


class Services(Protocol):
    """The engine's services in this process."""

    def handle(self, service_method: str, raw: bytes, token: str) -> bytes:
        """Answer one call in its wire form."""


class GrpcTransport:
    """Calls over a gRPC channel; raises `grpc.RpcError`. Any thread may call."""

    def __init__(self, channel: grpc.Channel, token: str, timeout_s: float = CALL_TIMEOUT_S) -> None:
        self._channel = channel
        self._metadata = (("authorization", f"Bearer {token}"),)
        self._timeout_s = timeout_s
        self._calls: dict[str, Callable[..., bytes]] = {}

    def call(self, method: str, request: Any, response_class: type[Answer]) -> Answer:
        """Call `method`, such as "Bidding/Bid".

        Raises:
            grpc.RpcError: refused, or not answered in time.
        """
        call = self._calls.get(method)
        if call is None:
            call = self._calls[method] = self._channel.unary_unary(f"/{PACKAGE}.{method}")
        raw = call(request.SerializeToString(), metadata=self._metadata, timeout=self._timeout_s)
        return response_class.FromString(raw)  # type: ignore[attr-defined]


class EngineTransport:
    """Calls into services of this process, by the same bytes as over gRPC; raises what the services raise."""

    def __init__(self, services: Services, token: str) -> None:
        self._services = services
        self._token = token

    def call(self, method: str, request: Any, response_class: type[Answer]) -> Answer:
        """Call `method`, such as "Bidding/Bid"."""
        raw = self._services.handle(method, request.SerializeToString(), self._token)
        return response_class.FromString(raw)  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class Clients:
    """One engine, called in the two roles that a market plays."""

    feed: Transport
    operator: Transport
