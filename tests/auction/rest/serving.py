"""The REST shim on a real socket, in a thread of the test."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from auction.campaigns.service_handlers import add_campaigns
from auction.rest.app import build_app
from auction.rest.connections import PatientProtocol
from auction.status import refuse
from protos.rpc.server import RpcServer
from tests.auction.bid.engines import Engine


@contextmanager
def served_engine(engine: Engine) -> Iterator[str]:
    """The shim in front of a whole engine of this process, over gRPC; gives the shim's address."""
    server = RpcServer(2, refuse)
    engine.services.calls.register(server)
    add_campaigns(server, engine.services.campaigns, engine.services.access)
    address = server.bind("127.0.0.1:0")
    server.start()
    try:
        with running_shim(address) as shim:
            yield shim
    finally:
        server.stop(0.2)


@contextmanager
def running_shim(engine_address: str, protocol: type[PatientProtocol] = PatientProtocol) -> Iterator[str]:
    """Serve in front of the engine at this address; gives the shim's own address, "http://..."."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(build_app(engine_address), http=protocol, log_level="warning", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        deadline = time.monotonic() + 30
        while not server.started:
            assert thread.is_alive() and time.monotonic() < deadline
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
