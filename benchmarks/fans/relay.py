"""What lies between an engine and its fan service on a bad day: lost calls, lost answers, and a service that dies.

The relay is a gRPC server that passes bytes on to the service's own process. It counts what the service itself
answered, so that an outcome that was taken as new twice shows, whatever became of the answers.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from typing import Any, NoReturn

import grpc
import numpy as np

from pacing.facts import RowStatus
from protos import fans_pb2
from protos.rpc.limits import MAX_ANSWER_BYTES, MAX_REQUEST_BYTES

_CALL_TIMEOUT_S = 60.0
_PUSH = "/fanbid.v1.FanService/PushOutcomes"
_DECK = 20
_DEATH_AFTER_S = 0.02
"""A service that dies does so at most this long after a call has reached it."""
_OPTIONS = [
    ("grpc.max_receive_message_length", MAX_ANSWER_BYTES),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
]


class Fault(Enum):
    """What becomes of a call."""

    LOST_REQUEST = "lost_requests"  # the service never hears of it
    LOST_ANSWER = "lost_answers"  # the service did its work, and nobody is told
    UNAVAILABLE = "unavailable"  # refused before any work
    DEATH = "deaths"  # kill -9 while the service may be at work on it


class Relay:
    """Serves at `address` until `close`. One thread sets `is_cut` and asks for a death; any may call.

    Attributes:
        is_cut: nothing gets through.
        counts: calls, those that came while it was cut, and each kind of fault.
        taken: u1[rows + 1], how often the service answered ACCEPTED, by ledger sequence.
    """

    def __init__(self, rows: int, fault_share: float, seed: int, kill: Callable[[], None]) -> None:
        """Listen on a free port of the loopback.

        Args:
            fault_share: of the calls that meet a fault.
            kill: ends the service at once.
        """
        self.is_cut = False
        self.counts: Counter[str] = Counter()
        self.taken = np.zeros(rows + 1, np.uint8)
        self._fault_share = fault_share
        self._random = random.Random(seed)
        self._kill = kill
        self._deck: list[bool] = []
        self._death_wanted = False
        self._lock = threading.Lock()
        self._channel: grpc.Channel | None = None
        options = [("grpc.max_receive_message_length", MAX_REQUEST_BYTES), ("grpc.so_reuseport", 0)]
        self._server = grpc.server(ThreadPoolExecutor(2, "relay"), options=options)
        self._server.add_generic_rpc_handlers((_Everything(self._pass_on),))
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def connect(self, service_address: str) -> None:
        """Pass calls on to this address from now on."""
        with self._lock:
            if self._channel is not None:
                self._channel.close()
            self._channel = grpc.insecure_channel(service_address, _OPTIONS)

    def want_death(self) -> None:
        """Kill the service during the next push."""
        self._death_wanted = True

    def close(self) -> None:
        """Serve no longer."""
        self._server.stop(None).wait()
        if self._channel is not None:
            self._channel.close()

    def _pass_on(self, method: str, raw: bytes, context: grpc.ServicerContext) -> bytes:
        with self._lock:
            fault, channel = self._draw(method), self._channel
        if channel is None or self.is_cut or fault is Fault.UNAVAILABLE:
            _refuse(context, grpc.StatusCode.UNAVAILABLE, "away")
        if fault is Fault.LOST_REQUEST:
            context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "the request got lost")
        if fault is Fault.DEATH:
            threading.Timer(self._random.uniform(0, _DEATH_AFTER_S), self._kill).start()
        try:
            answer: bytes = channel.unary_unary(method)(raw, timeout=_CALL_TIMEOUT_S)
        except grpc.RpcError as error:
            _refuse(context, error.code(), error.details())
        if method == _PUSH:
            self._count_taken(raw, answer)
        if fault is Fault.LOST_ANSWER:
            context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "the answer got lost")
        return answer

    def _draw(self, method: str) -> Fault | None:
        if self.is_cut:
            self.counts["calls_cut"] += 1
            return None
        self.counts["calls"] += 1
        fault = None
        if self._death_wanted and method == _PUSH:
            fault, self._death_wanted = Fault.DEATH, False
        elif self._meets_fault():
            fault = self._random.choice((Fault.LOST_REQUEST, Fault.LOST_ANSWER, Fault.UNAVAILABLE))
        if fault is not None:
            self.counts[fault.value] += 1
        return fault

    def _meets_fault(self) -> bool:
        """Whether this call is one of those of each _DECK calls that meet a fault, in drawn order."""
        if not self._deck:
            faults = round(self._fault_share * _DECK)
            self._deck = [True] * faults + [False] * (_DECK - faults)
            self._random.shuffle(self._deck)
        return self._deck.pop()

    def _count_taken(self, raw: bytes, answer: bytes) -> None:
        sequences = np.array(fans_pb2.PushOutcomesRequest.FromString(raw).ledger_sequences, np.int64)
        statuses = np.array(fans_pb2.PushOutcomesResponse.FromString(answer).statuses, np.int64)
        with self._lock:
            np.add.at(self.taken, sequences[statuses == RowStatus.ACCEPTED], 1)


class _Everything(grpc.GenericRpcHandler):
    """Takes every call of one message and one answer, as bytes."""

    def __init__(self, pass_on: Callable[[str, bytes, grpc.ServicerContext], bytes]) -> None:
        self._pass_on = pass_on

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        """The handler of a call."""
        method = handler_call_details.method
        return grpc.unary_unary_rpc_method_handler(lambda raw, context: self._pass_on(method, raw, context))


def _refuse(context: grpc.ServicerContext, code: grpc.StatusCode, text: str) -> NoReturn:
    context.abort(code, text)
    raise AssertionError("abort raises")
