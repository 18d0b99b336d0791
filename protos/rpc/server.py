"""A gRPC server with limits: what every server of this project is built on.

Handlers take and answer bytes, and ask for the caller's message only when they want it, so that a caller who may not
call is refused before anything is read. What a handler raises reaches the caller as a status with a plain text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

import grpc

from protos.rpc.arrivals import Arrivals
from protos.rpc.limits import MAX_CALLS, MESSAGE_TIMEOUT_S, SERVER_OPTIONS
from protos.rpc.tls import ServerTls

Receive = Callable[[], bytes]
"""Waits for the next message of a call; raises MessageMissing when there is none."""
UnaryAnswer = Callable[[Receive, grpc.ServicerContext], bytes]
StreamAnswer = Callable[[Receive, grpc.ServicerContext], Iterator[bytes]]
Refuse = Callable[[grpc.ServicerContext, Exception], NoReturn]
"""Ends a call with the status that an exception means; raises what `context.abort` raises."""


class RpcServer:
    """A gRPC server. Add services, bind, start, stop; all from one thread."""

    def __init__(
        self,
        workers: int,
        refuse: Refuse,
        interceptors: Sequence[grpc.ServerInterceptor] = (),
        message_timeout_s: float = MESSAGE_TIMEOUT_S,
        options: Mapping[str, int] | None = None,
    ) -> None:
        """Make a server that is not bound yet.

        Args:
            workers: threads for the services that bring no pool of their own.
            refuse: says what a caller is told about an exception.
            options: replace those of SERVER_OPTIONS, so that tests need not wait for minutes.
        """
        self._refuse = refuse
        self._arrivals = Arrivals(message_timeout_s)
        self._grpc = grpc.server(
            ThreadPoolExecutor(workers, "grpc"),
            options=list({**dict(SERVER_OPTIONS), **(options or {})}.items()),
            interceptors=list(interceptors),
            maximum_concurrent_rpcs=MAX_CALLS,
        )

    def add_unary(self, service: str, calls: Mapping[str, UnaryAnswer], pool: ThreadPoolExecutor | None = None) -> None:
        """Serve calls of one message and one answer, such as "Bid" of "fanbid.v1.Bidding"."""
        self._add(service, {name: self._unary(answer, pool) for name, answer in calls.items()})

    def add_streams(
        self, service: str, calls: Mapping[str, StreamAnswer], pool: ThreadPoolExecutor, patient: bool = False
    ) -> None:
        """Serve calls that answer with a stream; each open one holds a thread of `pool`.

        Args:
            patient: messages after a call's first may take any time, as those of a conversation do.
        """
        self._add(service, {name: self._stream(answer, pool, patient) for name, answer in calls.items()})

    def bind(self, listen: str, tls: ServerTls | None = None) -> str:
        """Take an address ("host:port", port 0: any free one; or "unix:PATH") and answer it.

        Raises:
            ValueError: it cannot be had.
        """
        try:
            if tls is None:
                port = self._grpc.add_insecure_port(listen)
            else:
                port = self._grpc.add_secure_port(listen, tls.credentials())
        except RuntimeError:
            raise ValueError(f"--listen {listen}: the address cannot be bound") from None
        return listen if listen.startswith("unix:") else f"{listen.rpartition(':')[0]}:{port}"

    def start(self) -> None:
        """Take calls."""
        self._grpc.start()

    def stop(self, grace_s: float) -> None:
        """Take no new calls; give those under way this long."""
        self._grpc.stop(grace_s).wait()
        self._arrivals.close()

    def _add(self, service: str, handlers: dict[str, grpc.RpcMethodHandler]) -> None:
        self._grpc.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))

    def _unary(self, answer: UnaryAnswer, pool: ThreadPoolExecutor | None) -> grpc.RpcMethodHandler:
        def handle(messages: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
            try:
                return answer(lambda: self._arrivals.next_message(messages, context), context)
            except Exception as error:
                self._end(context, error)

        # To the caller this is a unary call: the bytes on the wire are the same. The server reads the message itself.
        return grpc.stream_unary_rpc_method_handler(_on_pool(handle, pool))

    def _stream(self, answer: StreamAnswer, pool: ThreadPoolExecutor, patient: bool) -> grpc.RpcMethodHandler:
        def handle(messages: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
            begun = False

            def receive() -> bytes:
                nonlocal begun
                if begun and patient:
                    return self._arrivals.next_message_whenever(messages)
                begun = True
                return self._arrivals.next_message(messages, context)

            try:
                yield from answer(receive, context)
            except Exception as error:
                self._end(context, error)

        return grpc.stream_stream_rpc_method_handler(_on_pool(handle, pool))

    def _end(self, context: grpc.ServicerContext, error: Exception) -> NoReturn:
        if not context.is_active():  # the caller has left, or took too long: there is nobody to tell
            raise error
        self._refuse(context, error)
        raise AssertionError("refuse raises")


def _on_pool(handle: Callable[..., Any], pool: ThreadPoolExecutor | None) -> Callable[..., Any]:
    if pool is not None:
        handle.experimental_thread_pool = pool  # type: ignore[attr-defined]
    return handle
