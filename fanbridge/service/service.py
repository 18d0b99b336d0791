"""`fanbid.v1.FanService` over a FanStore: decode, validate, answer. A request that is wrong is INVALID_ARGUMENT.

Handlers take raw bytes, so that bytes which are no message are refused like any other bad input.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn, TypeVar

import grpc
import numpy as np
import numpy.typing as npt
from google.protobuf.message import Message

from fanbridge.columns import (
    CHANGE_COLUMNS,
    EVENT_COLUMNS,
    OUTCOME_COLUMNS,
    RETENTION_COLUMNS,
    from_columns,
    to_columns,
)
from fanbridge.events import FAN_EVENT, FAN_OUTCOME, Rows
from fanbridge.service.health.report import HealthReports
from fanbridge.service.store import FanStore
from fanbridge.service.validation import (
    InvalidRequest,
    check_audiences,
    check_count,
    check_limit,
    format_cursor,
    parse_cursor,
    valid_events,
    valid_outcomes,
)
from pacing.clocks import MS_PER_DAY, MS_PER_HOUR, Clock, VirtualClock
from pacing.facts import RowStatus
from protos import fans_pb2
from protos.rpc.refusals import Refused, abort, parse
from protos.rpc.server import Receive, RpcServer, UnaryAnswer

SERVICE_NAME = "fanbid.v1.FanService"
MAX_AHEAD_MS = MS_PER_HOUR
"""How far the platform's clock may be ahead of this one."""
MAX_VIRTUAL_AHEAD_MS = 366 * MS_PER_DAY
"""How far one row may move virtual time."""

_log = logging.getLogger(__name__)
_Request = TypeVar("_Request", bound=Message)
_Push = Callable[[Rows, int], npt.NDArray[np.uint8]]


class FanServicer:
    """Answers the calls of `FanService`.

    With a VirtualClock the time is that of the newest row ever taken, and every pull first brings all fans up to it;
    otherwise someone must call `FanStore.review` now and then. Any thread may call any method.
    """

    def __init__(self, store: FanStore, clock: Clock, reports: HealthReports) -> None:
        self._store = store
        self._reports = reports
        self._clock = clock
        self._virtual = clock if isinstance(clock, VirtualClock) else None

    def pull_tiers(self, request: fans_pb2.PullRequest) -> fans_pb2.PullTiersResponse:
        """Changes of tier and stage after the cursor."""
        rows, cursor = self._pull(self._store.pull_tiers, request)
        return fans_pb2.PullTiersResponse(**to_columns(rows, CHANGE_COLUMNS), next_cursor=cursor)

    def pull_events(self, request: fans_pb2.PullRequest) -> fans_pb2.PullEventsResponse:
        """Events after the cursor, as they were pushed."""
        rows, cursor = self._pull(self._store.pull_events, request)
        return fans_pb2.PullEventsResponse(**to_columns(rows, EVENT_COLUMNS), next_cursor=cursor)

    def pull_retention(self, request: fans_pb2.PullRequest) -> fans_pb2.PullRetentionResponse:
        """Retention judgements after the cursor."""
        rows, cursor = self._pull(self._store.pull_retention, request)
        return fans_pb2.PullRetentionResponse(**to_columns(rows, RETENTION_COLUMNS), next_cursor=cursor)

    def push_outcomes(self, request: fans_pb2.PushOutcomesRequest) -> fans_pb2.PushOutcomesResponse:
        """Take outcomes; one status a row."""
        outcomes = _rows_of(request, FAN_OUTCOME, OUTCOME_COLUMNS)
        audiences = check_audiences(request.audiences, len(outcomes))
        valid = valid_outcomes(outcomes, self.latest_at_ms())
        taken = [audiences[i] for i in np.flatnonzero(valid).tolist()]
        push = partial(self._store.push_outcomes, audiences=taken)
        return fans_pb2.PushOutcomesResponse(statuses=self._push(push, outcomes, valid))

    def push_events(self, request: fans_pb2.PushEventsRequest) -> fans_pb2.PushEventsResponse:
        """Take events; one status a row."""
        return fans_pb2.PushEventsResponse(statuses=self.take_events(_rows_of(request, FAN_EVENT, EVENT_COLUMNS)))

    def get_health(self, request: fans_pb2.HealthRequest) -> fans_pb2.CreatorHealth:
        """A creator's week or month."""
        if self._virtual is not None:
            self._store.review(self._virtual.wall_ms())
        return self._reports.report(request)

    def take_events(self, events: Rows) -> list[int]:
        """Take FAN_EVENT[n]; one RowStatus a row."""
        return self._push(self._store.push_events, events, valid_events(events, self.latest_at_ms()))

    def latest_at_ms(self) -> int:
        """The latest instant that a row may carry now."""
        return self._clock.wall_ms() + (MAX_AHEAD_MS if self._virtual is None else MAX_VIRTUAL_AHEAD_MS)

    def _pull(self, pull: Callable[[int, int], tuple[Rows, int]], request: fans_pb2.PullRequest) -> tuple[Rows, str]:
        generation = self._store.generation
        limit = check_limit(request.limit)
        after = parse_cursor(request.cursor, generation)
        if self._virtual is not None:
            self._store.review(self._virtual.wall_ms())
        rows, position = pull(after, limit)
        return rows, format_cursor(position, generation)

    def _push(self, push: _Push, rows: Rows, valid: npt.NDArray[np.bool_]) -> list[int]:
        taken = rows[valid]
        if self._virtual is not None and len(taken):
            self._virtual.advance_to(max(self._virtual.wall_ms(), int(taken["occurred_at_ms"].max())))
        statuses = np.full(len(rows), RowStatus.INVALID, dtype=np.uint8)
        statuses[valid] = push(taken, self._clock.wall_ms())
        numbers: list[int] = statuses.tolist()
        return numbers


def _rows_of(request: Message, dtype: np.dtype[Any], columns: dict[str, str]) -> Rows:
    try:
        rows = from_columns(request, dtype, columns)
    except ValueError as problem:
        raise InvalidRequest(str(problem)) from None
    check_count(len(rows))
    return rows


def add_to_server(servicer: FanServicer, server: RpcServer) -> None:
    """Register the service's handlers."""
    server.add_unary(
        SERVICE_NAME,
        {
            "PullTiers": _answer(servicer.pull_tiers, fans_pb2.PullRequest),
            "PullEvents": _answer(servicer.pull_events, fans_pb2.PullRequest),
            "PullRetention": _answer(servicer.pull_retention, fans_pb2.PullRequest),
            "PushOutcomes": _answer(servicer.push_outcomes, fans_pb2.PushOutcomesRequest),
            "GetHealth": _answer(servicer.get_health, fans_pb2.HealthRequest),
            "PushEvents": _answer(servicer.push_events, fans_pb2.PushEventsRequest),
        },
    )


def refuse(context: grpc.ServicerContext, error: Exception) -> NoReturn:
    """End a call with the status that an exception means."""
    if isinstance(error, Refused):
        abort(context, error)
    if isinstance(error, InvalidRequest):
        abort(context, Refused(grpc.StatusCode.INVALID_ARGUMENT, str(error)))
    # The store could not keep the rows (a full disk, say): nothing is half-applied, and trying again is right.
    _log.error("a call was not answered", exc_info=error)
    abort(context, Refused(grpc.StatusCode.UNAVAILABLE, "the store cannot answer now; try again later"))


def _answer(answer: Callable[[_Request], Message], request_class: type[_Request]) -> UnaryAnswer:
    def handle(receive: Receive, _: grpc.ServicerContext) -> bytes:
        return answer(parse(request_class, receive())).SerializeToString()

    return handle
