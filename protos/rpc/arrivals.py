"""Waiting for the messages of calls, but not for ever: a call that begins and then sends nothing holds a thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import grpc

from protos.rpc.limits import MESSAGE_TIMEOUT_S
from protos.rpc.refusals import MessageMissing

_CHECK_S = 0.25


class Arrivals:
    """Hands over the messages of calls as they come, and ends the calls whose message does not come in time.

    grpc's server starts a handler when a call's headers have come, on one of its few threads, and that thread then
    waits for the message. Any thread may call `next_message`.
    """

    def __init__(self, timeout_s: float = MESSAGE_TIMEOUT_S) -> None:
        """Begin watching, on a thread that ends with `close`."""
        self._timeout_s = timeout_s
        self._waiting: dict[int, tuple[float, grpc.ServicerContext]] = {}
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._end_late_calls, name="arrivals", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop watching."""
        self._closing.set()
        self._thread.join()

    def next_message(self, messages: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        """The next message of a call.

        Raises:
            MessageMissing: the caller has ended its side.
            grpc.RpcError: the call has ended, be it by the caller or because the message took too long.
        """
        key = id(context)
        self._waiting[key] = (time.monotonic() + self._timeout_s, context)
        try:
            return next(messages)
        except StopIteration:
            raise MessageMissing from None
        finally:
            del self._waiting[key]

    def next_message_whenever(self, messages: Iterator[bytes]) -> bytes:
        """The next message of a call, however long it takes; raises as `next_message` does."""
        try:
            return next(messages)
        except StopIteration:
            raise MessageMissing from None

    def _end_late_calls(self) -> None:
        while not self._closing.wait(_CHECK_S):
            now_s = time.monotonic()
            for due_s, context in list(self._waiting.values()):
                if due_s < now_s:
                    context.cancel()
