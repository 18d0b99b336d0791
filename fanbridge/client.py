"""The gRPC client of a fan service: columns in, structured arrays out, every failure one of two kinds."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import grpc
import numpy as np
import numpy.typing as npt

from fanbridge.columns import (
    CHANGE_COLUMNS,
    EVENT_COLUMNS,
    OUTCOME_COLUMNS,
    RETENTION_COLUMNS,
    from_columns,
    to_columns,
)
from fanbridge.events import (
    FAN_CHANGE,
    FAN_EVENT,
    RETENTION,
    FanServiceRefused,
    FanServiceUnavailable,
    Page,
    Rows,
)
from pacing.facts import RowStatus
from protos import fans_pb2, fans_pb2_grpc
from protos.rpc.refusals import Refused
from protos.rpc.tls import ClientTls, open_channel

_Answer = TypeVar("_Answer")

_REFUSALS = frozenset({grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OUT_OF_RANGE})
_RETRY_POLICY = {
    "methodConfig": [
        {
            "name": [{"service": "fanbid.v1.FanService"}],
            "retryPolicy": {
                "maxAttempts": 3,
                "initialBackoff": "0.05s",
                "maxBackoff": "0.5s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}
_HEALTH_DEADLINE_S = 4.0
"""A report may take longer than a row, and whoever asked for it waits no longer than this."""
_CHANNEL_OPTIONS = [
    ("grpc.service_config", json.dumps(_RETRY_POLICY)),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.max_receive_message_length", 4 * 1024 * 1024),
]


class FanServiceClient:
    """A fan service at `address` ("host:port").

    Every method is safe to repeat: pulls change nothing, pushes carry idempotency keys. So a call that finds the
    service gone is tried up to three times within its deadline before it is reported. Any thread may call any method.

    Raises (every method):
        FanServiceUnavailable: not reachable, too slow, not ready for this caller, or an answer that makes no sense.
        FanServiceRefused: the service called the request itself wrong.
    """

    def __init__(self, address: str, *, deadline_ms: int = 5_000, tls: ClientTls | None = None) -> None:
        if deadline_ms < 1:
            raise ValueError(f"deadline_ms {deadline_ms}: must be 1 or more")
        self._deadline_s = deadline_ms / 1_000
        self._address = address
        self._channel = open_channel(address, tls, _CHANNEL_OPTIONS)
        self._stub = fans_pb2_grpc.FanServiceStub(self._channel)

    @property
    def address(self) -> str:
        """Where the service is."""
        return self._address

    def close(self) -> None:
        """Give up the connection; calls under way end as unavailable."""
        self._channel.close()

    def pull_tiers(self, cursor: str, limit: int) -> Page:
        """Changes of tier and stage after `cursor`, as FAN_CHANGE rows."""
        return self._pull("PullTiers", self._stub.PullTiers, FAN_CHANGE, CHANGE_COLUMNS, cursor, limit)

    def pull_events(self, cursor: str, limit: int) -> Page:
        """What fans did after `cursor`, as FAN_EVENT rows; the same event may come again."""
        return self._pull("PullEvents", self._stub.PullEvents, FAN_EVENT, EVENT_COLUMNS, cursor, limit)

    def pull_retention(self, cursor: str, limit: int) -> Page:
        """Which fans were kept, as RETENTION rows."""
        return self._pull("PullRetention", self._stub.PullRetention, RETENTION, RETENTION_COLUMNS, cursor, limit)

    def push_outcomes(self, outcomes: Rows, audiences: Sequence[str] = ()) -> npt.NDArray[np.uint8]:
        """Hand over FAN_OUTCOME[n], n up to 5,000, with n audiences or none; answers u1[n] of RowStatus."""
        request = fans_pb2.PushOutcomesRequest(**to_columns(outcomes, OUTCOME_COLUMNS), audiences=audiences)
        answer = self._call("PushOutcomes", self._stub.PushOutcomes, request)
        return _statuses("PushOutcomes", answer.statuses, len(outcomes))

    def push_events(self, events: Rows) -> npt.NDArray[np.uint8]:
        """Hand over FAN_EVENT[n], n up to 5,000; answers u1[n] of RowStatus."""
        request = fans_pb2.PushEventsRequest(**to_columns(events, EVENT_COLUMNS))
        answer = self._call("PushEvents", self._stub.PushEvents, request)
        return _statuses("PushEvents", answer.statuses, len(events))

    def get_health(self, request: fans_pb2.HealthRequest) -> fans_pb2.CreatorHealth:
        """A creator's week or month, for somebody who waits for it.

        Raises:
            Refused: INVALID_ARGUMENT as the service says; NOT_FOUND: it gives no reports; else UNAVAILABLE.
        """
        try:
            return self._stub.GetHealth(request, timeout=_HEALTH_DEADLINE_S)
        except grpc.RpcError as failure:
            code = failure.code()
            if code in _REFUSALS:
                raise Refused(grpc.StatusCode.INVALID_ARGUMENT, failure.details() or "") from None
            if code is grpc.StatusCode.UNIMPLEMENTED:
                raise Refused(grpc.StatusCode.NOT_FOUND, "the fan service gives no health reports") from None
        except ValueError:  # grpc's word for a channel that was closed
            pass
        raise Refused(grpc.StatusCode.UNAVAILABLE, "the fan service does not answer now; try again in a moment")

    def _pull(
        self,
        method: str,
        call: Callable[..., Any],
        dtype: np.dtype[Any],
        columns: Mapping[str, str],
        cursor: str,
        limit: int,
    ) -> Page:
        answer = self._call(method, call, fans_pb2.PullRequest(cursor=cursor, limit=limit))
        try:
            return Page(from_columns(answer, dtype, columns), answer.next_cursor)
        except ValueError as problem:
            raise FanServiceUnavailable(f"{method} at {self._address}: senseless answer: {problem}") from None

    def _call(self, method: str, call: Callable[..., _Answer], request: object) -> _Answer:
        try:
            return call(request, timeout=self._deadline_s)
        except grpc.RpcError as failure:
            code = failure.code()
            text = f"{method} at {self._address}: {code.name}: {failure.details()}"
            if code in _REFUSALS:
                raise FanServiceRefused(text) from None
            raise FanServiceUnavailable(text) from None
        except ValueError as problem:  # grpc's word for a channel that was closed
            raise FanServiceUnavailable(f"{method} at {self._address}: {problem}") from None


def _statuses(method: str, numbers: Sequence[int], count: int) -> npt.NDArray[np.uint8]:
    if len(numbers) != count:
        raise FanServiceUnavailable(f"{method}: {len(numbers)} statuses for {count} rows")
    statuses = np.fromiter(numbers, dtype=np.uint32, count=count)
    return np.where(statuses <= max(RowStatus), statuses, 0).astype(np.uint8)
