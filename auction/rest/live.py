"""Live reports as server-sent events, one upstream stream for each open page."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
from starlette.responses import StreamingResponse

from auction.rest.convert import report_json
from auction.rest.errors import error_of_call
from protos import campaigns_pb2 as pb

HEARTBEAT_S = 10.0
"""A comment is sent when nothing was for this long, so that both ends notice when the other is gone."""

_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


async def live_response(call: grpc.aio.UnaryStreamCall[Any, pb.CampaignReport]) -> StreamingResponse:
    """Answer with the reports of an open call, once the first has come.

    Raises:
        grpc.aio.AioRpcError: the call was refused before its first report.
    """
    try:
        first = await call.read()
    except BaseException:
        call.cancel()
        raise
    return StreamingResponse(_events(call, first), media_type="text/event-stream", headers=_HEADERS)


async def _events(call: grpc.aio.UnaryStreamCall[Any, pb.CampaignReport], first: Any) -> AsyncIterator[bytes]:
    report = first
    pending: asyncio.Task[Any] | None = None
    try:
        while report is not grpc.aio.EOF:
            yield _event("report", report_json(report), str(report.ledger_sequence))
            pending = asyncio.ensure_future(call.read())
            while not (await asyncio.wait({pending}, timeout=HEARTBEAT_S))[0]:
                yield b": still here\n\n"
            report = pending.result()
    except grpc.aio.AioRpcError as error:
        yield _event("error", error_of_call(error)[1])
    finally:
        call.cancel()
        if pending is not None:
            pending.cancel()


def _event(name: str, content: dict[str, Any], event_id: str = "") -> bytes:
    head = f"id: {event_id}\n" if event_id else ""
    return f"{head}event: {name}\ndata: {json.dumps(content, separators=(',', ':'))}\n\n".encode()
