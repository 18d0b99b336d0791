"""A raw gRPC server that answers every request with fixed bytes: what the transport alone costs."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection

import grpc

METHOD = "/fanbid.v1.Echo/Echo"
START_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class EchoServer:
    """A running echo server."""

    address: str
    pid: int


def _serve(answer: bytes, workers: int, told: Connection) -> None:
    server = grpc.server(ThreadPoolExecutor(workers), options=[("grpc.so_reuseport", 0)])
    handler = grpc.unary_unary_rpc_method_handler(lambda raw, context: answer)
    service, _, method = METHOD.removeprefix("/").partition("/")
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    told.send(port)
    told.recv()  # until the other side says, or is gone
    server.stop(None).wait()


def _serve_until_told(answer: bytes, workers: int, told: Connection) -> None:
    try:
        _serve(answer, workers, told)
    except EOFError:
        return


@contextmanager
def echo_server(answer: bytes, workers: int) -> Iterator[EchoServer]:
    """An echo server in a process of its own, with as many worker threads as the engine has.

    Raises:
        TimeoutError: it did not start.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    child = context.Process(target=_serve_until_told, args=(answer, workers, there), daemon=True)
    child.start()
    try:
        if not here.poll(START_TIMEOUT_S):
            raise TimeoutError(f"echo server: not started within {START_TIMEOUT_S:.0f} s")
        yield EchoServer(f"127.0.0.1:{here.recv()}", child.pid or 0)
        here.send(None)
    finally:
        child.join(5)
        child.kill()
