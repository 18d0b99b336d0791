"""The `Campaigns` service on a gRPC server: raw bytes in and out, on threads of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from auction.campaigns.access import Access
from auction.campaigns.service import MAX_WATCHERS, CampaignsService
from auction.status import parse, refuse
from protos import campaigns_pb2 as pb

SERVICE = "fanbid.v1.Campaigns"
UNARY_THREADS = 2
"""Threads that serve the unary calls, so that a slow disk does not take those that answer bid requests."""


def add_campaigns(server: grpc.Server, service: CampaignsService, access: Access) -> None:
    """Register `Campaigns` on a server that has not started.

    The calls run on two pools of their own (gRPC's per-handler pools), which end with the process: neither a disk
    that is slow nor a page that stays open takes a thread from the server's own.
    """
    unary_pool = ThreadPoolExecutor(UNARY_THREADS, "campaigns")
    watch_pool = ThreadPoolExecutor(MAX_WATCHERS + 1, "watch")  # one more, to say that all are taken
    handlers = {
        call: grpc.unary_unary_rpc_method_handler(_on_pool(_unary(service, access, call), unary_pool))
        for call in service.unary_calls
    }
    handlers["WatchReport"] = grpc.unary_stream_rpc_method_handler(_on_pool(_watch(service, access), watch_pool))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))


def _on_pool(behavior: Callable[..., Any], pool: ThreadPoolExecutor) -> Callable[..., Any]:
    behavior.experimental_thread_pool = pool  # type: ignore[attr-defined]
    return behavior


def _unary(service: CampaignsService, access: Access, call: str) -> Callable[[bytes, grpc.ServicerContext], bytes]:
    def answer(raw: bytes, context: grpc.ServicerContext) -> bytes:
        try:
            return service.handle(call, raw, access.authenticate(context.invocation_metadata()))
        except Exception as error:
            refuse(context, error)

    return answer


def _watch(service: CampaignsService, access: Access) -> Callable[[bytes, grpc.ServicerContext], Iterator[bytes]]:
    def answer(raw: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        left = threading.Event()
        if not context.add_callback(left.set):
            return
        metadata = tuple(context.invocation_metadata())
        try:
            access.authorize(metadata, "Campaigns/WatchReport")
            request = parse(pb.WatchReportRequest, raw)
            for report in service.watch(lambda: access.authorize(metadata, "Campaigns/WatchReport"), request, left):
                yield report.SerializeToString()
        except Exception as error:
            refuse(context, error)

    return answer
