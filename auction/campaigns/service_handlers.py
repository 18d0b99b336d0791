"""The `Campaigns` service on a gRPC server: raw bytes in and out, on threads of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc

from auction.campaigns.access import Access
from auction.campaigns.service import MAX_WATCHERS, CampaignsService
from auction.status import parse
from protos import campaigns_pb2 as pb
from protos.rpc.server import Receive, RpcServer, StreamAnswer, UnaryAnswer

SERVICE = "fanbid.v1.Campaigns"
UNARY_THREADS = 2
"""Threads that serve the unary calls, so that a slow disk does not take those that answer bid requests."""

HEALTH_CALLS = ("GetHealth",)
HEALTH_THREADS = 2
"""Threads of the calls that wait for the fan service, so that it makes no other call wait when it is slow."""


def add_campaigns(server: RpcServer, service: CampaignsService, access: Access) -> None:
    """Register `Campaigns` on a server that has not started.

    The calls run on three pools of their own (gRPC's per-handler pools), which end with the process: neither a disk or
    a fan service that is slow nor a page that stays open takes a thread from the server's own.
    """
    unary = {call: _unary(service, access, call) for call in service.unary_calls}
    health = {call: unary.pop(call) for call in HEALTH_CALLS}
    server.add_unary(SERVICE, unary, ThreadPoolExecutor(UNARY_THREADS, "campaigns"))
    server.add_unary(SERVICE, health, ThreadPoolExecutor(HEALTH_THREADS, "health"))
    watch_pool = ThreadPoolExecutor(MAX_WATCHERS + 1, "watch")  # one more, to say that all are taken
    server.add_streams(SERVICE, {"WatchReport": _watch(service, access)}, watch_pool)


def _unary(service: CampaignsService, access: Access, call: str) -> UnaryAnswer:
    def answer(receive: Receive, context: grpc.ServicerContext) -> bytes:
        principal = access.admit(context.invocation_metadata(), f"Campaigns/{call}")  # before anything is read
        return service.handle(call, receive(), principal)

    return answer


def _watch(service: CampaignsService, access: Access) -> StreamAnswer:
    def answer(receive: Receive, context: grpc.ServicerContext) -> Iterator[bytes]:
        left = threading.Event()
        if not context.add_callback(left.set):
            return
        metadata = tuple(context.invocation_metadata())
        access.admit(metadata, "Campaigns/WatchReport")
        request = parse(pb.WatchReportRequest, receive())
        for report in service.watch(lambda: access.authorize(metadata, "Campaigns/WatchReport"), request, left):
            yield report.SerializeToString()

    return answer
