"""Unary calls from bytes to bytes: the one way in which every service is reached, over gRPC or in process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import grpc

from auction.campaigns.access import Access, Principal
from auction.status import Refused
from protos.rpc.server import Receive, RpcServer, UnaryAnswer

UnaryCall = Callable[[bytes, Principal], bytes]
"""Answers one request's bytes for a caller; raises what `auction.status` maps to a status."""


class Calls:
    """The calls of a server by name, such as "Bidding/Bid", each behind the check of who may make it."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._calls: dict[str, UnaryCall] = {}

    def add(self, service: str, calls: Mapping[str, UnaryCall]) -> None:
        """Take over a service's calls."""
        self._calls.update({f"{service}/{method}": call for method, call in calls.items()})

    def answer(self, name: str, raw: bytes, metadata: Iterable[tuple[str, str | bytes]]) -> bytes:
        """Answer one call.

        Raises:
            Refused: there is no such call.
            Unauthenticated, Forbidden, RateLimited: the caller may not make it, or not now.
            Exception: what the call raises.
        """
        call = self._calls.get(name)
        if call is None:
            raise Refused(grpc.StatusCode.UNIMPLEMENTED, f"{name}: not served")
        return call(raw, self._access.admit(metadata, name))

    def register(self, server: RpcServer) -> None:
        """Serve every call on a server that has not started."""
        by_service: dict[str, dict[str, UnaryAnswer]] = {}
        for name in self._calls:
            service, _, method = name.partition("/")
            by_service.setdefault(service, {})[method] = self._served(name)
        for service, calls in by_service.items():
            server.add_unary(f"fanbid.v1.{service}", calls)

    def _served(self, name: str) -> UnaryAnswer:
        call = self._calls[name]

        def answer(receive: Receive, context: grpc.ServicerContext) -> bytes:
            principal = self._access.admit(context.invocation_metadata(), name)  # before anything is read
            return call(receive(), principal)

        return answer
