"""The calls of a whole engine of this process on a real gRPC socket."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from auction.status import refuse
from protos.rpc.server import RpcServer
from tests.auction.bid.engines import Engine


@contextmanager
def served_calls(engine: Engine) -> Iterator[str]:
    """Serve; gives the address."""
    server = RpcServer(2, refuse)
    engine.services.calls.register(server)
    address = server.bind("127.0.0.1:0")
    server.start()
    try:
        yield address
    finally:
        server.stop(0.2)
