"""`grpc.health.v1.Health` and server reflection, on threads of their own, for callers without a token."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from protos.rpc.refusals import MessageMissing, Refused, parse
from protos.rpc.server import Receive, RpcServer

HEALTH_SERVICE = "grpc.health.v1.Health"
REFLECTION_SERVICE = reflection.SERVICE_NAME
CHECK_THREADS = 2
MAX_WATCHERS = 8
REFLECTION_THREADS = 2
MAX_REFLECTION_QUESTIONS = 1_000
_LOOK_S = 0.5
NO_GRANTS_METADATA = "fanbid-no-grants"
"""Trailing metadata of a check: why no new money is granted, though the server serves: one word."""
NO_GRANTS_UNTIL_METADATA = "fanbid-no-grants-until-ms"
"""Until when, on the wall clock; 0: not known."""

Status = health_pb2.HealthCheckResponse
Note = tuple[str, str]


class Health:
    """Says which services serve. Any thread may call `set`."""

    def __init__(self, notes: Callable[[], tuple[Note, ...]] = tuple) -> None:
        """Begin with a server that serves; `notes` are the trailing metadata of every check."""
        self._notes = notes
        self._changed = threading.Condition()
        self._statuses: dict[str, int] = {"": Status.SERVING}
        self._watchers = 0

    def set(self, status: int, services: Iterable[str]) -> None:
        """Say this of each of these services; the empty name is the whole server."""
        with self._changed:
            self._statuses.update(dict.fromkeys(services, status))
            self._changed.notify_all()

    @property
    def open_watchers(self) -> int:
        """How many streams are open."""
        return self._watchers

    def stop_serving(self) -> None:
        """Say of every service that it does not serve."""
        self.set(Status.NOT_SERVING, tuple(self._statuses))

    def check(self, receive: Receive, context: grpc.ServicerContext) -> bytes:
        """Answer a HealthCheckRequest.

        Raises:
            Refused: NOT_FOUND: there is no such service.
        """
        service = parse(health_pb2.HealthCheckRequest, receive()).service
        status = self._statuses.get(service)
        if status is None:
            raise Refused(grpc.StatusCode.NOT_FOUND, f"service {service[:80]!r}: not served here", "service")
        notes = self._notes()
        if notes:
            context.set_trailing_metadata(notes)
        return bytes(Status(status=status).SerializeToString())

    def watch(self, receive: Receive, context: grpc.ServicerContext) -> Iterator[bytes]:
        """Answer a HealthCheckRequest at once and whenever the answer changes, until the caller leaves.

        Raises:
            Refused: RESOURCE_EXHAUSTED: MAX_WATCHERS streams are open.
        """
        service = parse(health_pb2.HealthCheckRequest, receive()).service
        with self._changed:
            if self._watchers >= MAX_WATCHERS:
                message = f"{MAX_WATCHERS} streams of health are open, as many as may be"
                raise Refused(grpc.StatusCode.RESOURCE_EXHAUSTED, message)
            self._watchers += 1
        try:
            told = None
            while context.is_active():
                status = self._statuses.get(service, Status.SERVICE_UNKNOWN)
                if status != told:
                    told = status
                    yield Status(status=status).SerializeToString()
                with self._changed:
                    self._changed.wait(_LOOK_S)
        finally:
            with self._changed:
                self._watchers -= 1


class _Reflection:
    def __init__(self, service_names: Iterable[str]) -> None:
        self._servicer = reflection.ReflectionServicer(service_names)

    def info(self, receive: Receive, context: grpc.ServicerContext) -> Iterator[bytes]:
        for answer in self._servicer.ServerReflectionInfo(self._questions(receive), context):
            yield answer.SerializeToString()

    def _questions(self, receive: Receive) -> Iterator[Any]:
        for _ in range(MAX_REFLECTION_QUESTIONS):
            try:
                raw = receive()
            except MessageMissing:
                return
            yield parse(reflection_pb2.ServerReflectionRequest, raw)


def add_health_and_reflection(
    server: RpcServer, service_names: Iterable[str], notes: Callable[[], tuple[Note, ...]] = tuple
) -> Health:
    """Serve health and the descriptors of `service_names`; both are open to everybody and say nothing secret.

    Args:
        notes: see `Health`.

    Returns:
        Where to say what serves.
    """
    health = Health(notes)
    server.add_unary(HEALTH_SERVICE, {"Check": health.check}, ThreadPoolExecutor(CHECK_THREADS, "health"))
    watching = ThreadPoolExecutor(MAX_WATCHERS + 1, "health-watch")  # one more, to say that all are taken
    server.add_streams(HEALTH_SERVICE, {"Watch": health.watch}, watching)
    described = _Reflection((*service_names, HEALTH_SERVICE, REFLECTION_SERVICE))
    reflecting = ThreadPoolExecutor(REFLECTION_THREADS, "reflection")
    server.add_streams(REFLECTION_SERVICE, {"ServerReflectionInfo": described.info}, reflecting)
    return health
