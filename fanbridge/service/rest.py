"""The fan service over HTTP: why a fan is where they are, steps between stages, churn, win-back; events by file.

Failures are `{"error": {"code", "message"}}` with the status that fits. Like the gRPC port, it asks for no token.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Annotated, Any
from zoneinfo import available_timezones

import uvicorn
from fastapi import FastAPI, Path, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from fanbridge.events import STAGE_NAMES, TIER_NAMES, Stage
from fanbridge.service.churn import Alarm
from fanbridge.service.event_file import EventFile, FileRejected, Taken
from fanbridge.service.insights import Insights
from protos.rpc.tls import ServerTls

MAX_DAYS = 400
_MAX_CONNECTIONS = 64
_START_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 2
_CHUNK_TIMEOUT_S = 30.0
_IS_CSV = {"text/csv": True, "application/x-ndjson": False}
_ID = r"^[1-9][0-9]{0,19}$"
_CODES = {404: "not_found", 405: "method_not_allowed"}

Id = Annotated[str, Path(pattern=_ID, description="a decimal number from 1 to 2^64 - 1")]


Take = Callable[[EventFile], Taken]
"""Takes a file that was fed whole; raises FileRejected."""


@dataclass(frozen=True)
class Backend:
    """What the routes stand on: what is read, as of which instant, and how event files come in."""

    insights: Insights
    now_ms: Callable[[], int]
    new_event_file: Callable[[bool], EventFile]
    take: Take


def build_app(backend: Backend) -> FastAPI:
    """The routes."""
    insights, now_ms = backend.insights, backend.now_ms
    app = FastAPI(title="fanbid fan service", version="1", docs_url=None, redoc_url=None)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _failed)
    day_ms = insights.day_ms

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        """Whether the file can be read."""
        insights.check()
        return {"status": "serving"}

    @app.get("/api/creators/{creator_id}/fans/{viewer_id}")
    def fan(creator_id: Id, viewer_id: Id) -> dict[str, Any]:
        """A fan's tier and stage, each with its reason."""
        found = insights.explain(_id("viewer_id", viewer_id), _id("creator_id", creator_id), now_ms())
        if found is None:
            raise HTTPException(404, f"nothing is known of viewer {viewer_id} and creator {creator_id}")
        return {
            "tier": TIER_NAMES.get(found.tier),
            "tier_reason": found.tier_reason,
            "stage": STAGE_NAMES.get(found.stage),
            "stage_reason": found.stage_reason,
        }

    @app.get("/api/creators/{creator_id}/transitions")
    def transitions(creator_id: Id, days: Annotated[int, Query(ge=1, le=MAX_DAYS)] = 30) -> dict[str, Any]:
        """Steps between stages of the last days, counted, and the fans in each stage; `from` null: no fan before."""
        creator = _id("creator_id", creator_id)
        first_day = now_ms() // day_ms - days + 1
        steps = [
            {
                "day_start_at_ms": one.day * day_ms,
                "from": STAGE_NAMES.get(one.from_stage),
                "to": STAGE_NAMES.get(one.to_stage),
                "fans": one.fans,
            }
            for one in insights.transitions(creator, first_day)
        ]
        return {"transitions": steps, "stages": _by_name(insights.stages(creator))}

    @app.get("/api/creators/{creator_id}/churn")
    def churn(creator_id: Id) -> dict[str, Any]:
        """Every churn alarm, oldest first, and how often one may be false."""
        alarms = insights.alarms(_id("creator_id", creator_id), now_ms())
        rules = insights.churn_rules
        return {
            "false_alarms": rules.statement,
            "days_between_false_alarms": rules.days_between_false_alarms,
            "least_rise": rules.least_rise,
            "alarms": [_alarm_json(alarm, day_ms) for alarm in alarms],
        }

    @app.get("/api/creators/{creator_id}/winback")
    def winback(creator_id: Id, zone: Annotated[str, Query(max_length=64)] = "Asia/Shanghai") -> dict[str, Any]:
        """A campaign that answers the latest alarm of the last 30 days; `campaign` is a body of the engine's
        `POST /api/campaigns`."""
        if zone not in available_timezones():
            raise HTTPException(422, f"zone {zone!r}: must be an IANA time zone")
        suggested = insights.win_back(_id("creator_id", creator_id), now_ms(), zone)
        if suggested is None:
            raise HTTPException(404, f"creator {creator_id} has no churn alarm of the last 30 days")
        return {
            "alarm": _alarm_json(suggested.alarm, day_ms),
            "audience": suggested.audience,
            "campaign": suggested.campaign,
            "reasons": list(suggested.reasons),
        }

    @app.post("/api/events")
    async def put_events(request: Request) -> Any:
        """Take events, as CSV (`text/csv`) whose header names event_id, viewer_id, creator_id, kind and occurred_at_ms,
        or as one object with these fields a line (`application/x-ndjson`): all, or none if a line is wrong. Events that
        were taken before, by their id, count as duplicates."""
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type not in _IS_CSV:
            raise HTTPException(415, f"content-type {media_type!r:.80}: must be one of {', '.join(_IS_CSV)}")
        file = backend.new_event_file(_IS_CSV[media_type])
        try:
            async for octets in _patiently(request.stream()):
                await run_in_threadpool(file.feed, octets)
            taken = await run_in_threadpool(backend.take, file)
        except FileRejected as rejected:
            return _rejected(rejected)
        finally:
            file.drop()
        return {"accepted": taken.accepted, "duplicates": taken.duplicates}

    return app


class RestServer:
    """The routes, served from a thread of their own at `address` until `stop`."""

    def __init__(self, backend: Backend, listen: str, tls: ServerTls | None) -> None:
        """Listen on "host:port"; port 0 takes a free one.

        Raises:
            ValueError: the address cannot be had.
        """
        self._insights = backend.insights
        listener = _listen(listen)
        host, port = listener.getsockname()[:2]
        self.address = f"{'http' if tls is None else 'https'}://{f'[{host}]' if ':' in host else host}:{port}"
        config = uvicorn.Config(
            build_app(backend),
            log_level="warning",
            access_log=False,
            server_header=False,
            limit_concurrency=_MAX_CONNECTIONS,
            timeout_graceful_shutdown=_STOP_TIMEOUT_S,
            **({} if tls is None else _certificates(tls)),
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([listener],), name="fan-rest", daemon=True)
        self._thread.start()
        give_up_at_s = time.monotonic() + _START_TIMEOUT_S
        while not self._server.started and self._thread.is_alive() and time.monotonic() < give_up_at_s:
            time.sleep(0.01)

    def stop(self) -> None:
        """Take no more requests, and close the file."""
        self._server.should_exit = True
        self._thread.join()
        self._insights.close()


def _certificates(tls: ServerTls) -> dict[str, Any]:
    certificates: dict[str, Any] = {"ssl_certfile": tls.certificate, "ssl_keyfile": tls.key}
    if tls.client_ca is not None:
        certificates |= {"ssl_ca_certs": str(tls.client_ca), "ssl_cert_reqs": ssl.CERT_REQUIRED}
    return certificates


def _listen(listen: str) -> socket.socket:
    host, colon, port = listen.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise ValueError(f"--rest-listen {listen}: must read HOST:PORT, with a port from 0 to 65535")
    host = host.strip("[]")
    try:
        return socket.create_server((host, int(port)), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise ValueError(f"--rest-listen {listen}: {error.strerror}") from None


def _id(field: str, text: str) -> int:
    number = int(text)
    if number >= 2**64:
        raise HTTPException(422, f"{field} {text}: must be a decimal number from 1 to {2**64 - 1}")
    return number


async def _patiently(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The chunks of a body; who takes too long over one is sent away."""
    while True:
        try:
            async with asyncio.timeout(_CHUNK_TIMEOUT_S):
                octets = await anext(stream)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise HTTPException(408, f"nothing came for {_CHUNK_TIMEOUT_S:g} seconds; nothing was taken") from None
        yield octets


def _rejected(rejected: FileRejected) -> JSONResponse:
    named = [{"line": one.line, "reason": one.reason} for one in rejected.rejects]
    error = {"code": "invalid_argument", "message": str(rejected), "rejects": named, "reject_count": rejected.count}
    return JSONResponse({"error": error}, 422)


def _by_name(stages: dict[Stage, int]) -> dict[str, int]:
    return {STAGE_NAMES[stage]: fans for stage, fans in stages.items()}


def _alarm_json(alarm: Alarm, day_ms: int) -> dict[str, Any]:
    return {
        "day_start_at_ms": alarm.day * day_ms,
        "since_at_ms": alarm.since_day * day_ms,
        "what": alarm.what,
        "fans": alarm.fans,
        "expected": round(alarm.expected, 2),
        "sentence": alarm.sentence,
    }


async def _refused(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    code = "invalid_argument" if error.status_code == 422 else _CODES.get(error.status_code, "refused")
    return _error(error.status_code, code, str(error.detail))


async def _invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    return _error(422, "invalid_argument", f"{first['loc'][-1]} {first.get('input')!r:.80}: {first['msg']}")


async def _failed(_: Request, error: Exception) -> JSONResponse:
    # Starlette raises it again, so it is logged here and not told there.
    return _error(503, "unavailable", "the store cannot answer now; try again later")


def _error(status: int, code: str, message: str) -> JSONResponse:
    return JSONResponse({"error": {"code": code, "message": message}}, status)
