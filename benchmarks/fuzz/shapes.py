"""Targets of REST: bodies and queries through the shapes, and whole requests through the shim, without sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote, unquote

import grpc
from grpc.aio import AioRpcError, Metadata
from pydantic import BaseModel

from auction.campaigns.access import Role
from auction.campaigns.model import validate
from auction.campaigns.wire import changes_from_message, draft_from_message
from auction.rest.app import build_app
from auction.rest.convert import create_request, update_request
from auction.rest.shapes import CampaignChange, ChargesQuery, LiveQuery, NewCampaign, NoFields, PageQuery, ReportQuery
from auction.services import Services
from auction.status import refusal_of
from benchmarks.fuzz.mutation import Mutator
from benchmarks.fuzz.seeds import ATOMS, CAMPAIGN_JSON, CREATOR, ROUTES, START_AT_MS
from benchmarks.fuzz.targets import Target
from protos.rpc.refusals import Refused

_QUERIES: tuple[type[BaseModel], ...] = (PageQuery, ChargesQuery, ReportQuery, LiveQuery, NoFields)
_REFUSED_FROM, _FAILED_FROM = 400, 500


class WrongAnswer(AssertionError):
    """A status of 500 or more, or a text that shows what is inside."""


def shape_targets(services: Services, mutator: Mutator) -> Iterator[Target]:
    """All of them."""
    change = {name: CAMPAIGN_JSON[name] for name in ("name", "daily_budget_micros", "creatives", "targeting")}
    yield Target("body of a campaign", lambda: mutator.json_bytes(CAMPAIGN_JSON), _create)
    yield Target("body of a change", lambda: mutator.json_bytes(change), _update)
    for shape in _QUERIES:
        names = [*shape.model_fields, "x"]
        yield Target(
            f"query {shape.__name__}",
            lambda names=names: _query(mutator, names),  # type: ignore[misc]
            lambda raw, shape=shape: shape.model_validate(json.loads(raw)),  # type: ignore[misc]
        )
    yield from _request_targets(services, mutator)


def _create(raw: bytes) -> None:
    body = NewCampaign.model_validate_json(raw)
    message = _unrefused(lambda: create_request(body, "key"))
    validate(draft_from_message(message.campaign, CREATOR, START_AT_MS))


def _update(raw: bytes) -> None:
    body = CampaignChange.model_validate_json(raw)
    message = _unrefused(lambda: update_request("1", body))
    changes_from_message(message.campaign, message.update_fields)


def _unrefused(convert: Callable[[], Any]) -> Any:
    """What a shape let through, the message must take: nobody would say to the caller what is wrong."""
    try:
        return convert()
    except ValueError as error:
        raise WrongAnswer(f"the shape took what the message refuses: {error}") from error


def _query(mutator: Mutator, names: list[str]) -> bytes:
    """Parameters as they come: text, or several texts."""
    drawn = {
        mutator.choose(names): mutator.choose((mutator.choose(ATOMS), [mutator.choose(ATOMS) for _ in range(2)]))
        for _ in range(mutator.choose((0, 1, 1, 2)))
    }
    return json.dumps(drawn).encode()


class _Engine:
    """The engine in this process, as the shim's routes call it."""

    def __init__(self, services: Services, token: str) -> None:
        self._services, self._token = services, token

    async def call(self, request: Any, name: str, message: Any, response_class: Any) -> Any:
        """See `auction.rest.routes.Engine.call`."""
        try:
            raw = self._services.handle(f"Campaigns/{name}", message.SerializeToString(), self._token)
        except Exception as error:
            refused = refusal_of(error)
            if refused.code is grpc.StatusCode.UNAVAILABLE:
                raise
            raise AioRpcError(refused.code, Metadata(), _trailers(refused), str(refused)) from None
        return response_class.FromString(raw)

    async def is_serving(self) -> bool:
        """See `auction.rest.routes.Engine.is_serving`."""
        return True


def _trailers(refused: Refused) -> Metadata:
    return Metadata(*refused.trailers)


def _request_targets(services: Services, mutator: Mutator) -> Iterator[Target]:
    """Requests as one line, METHOD and path, and a body, through the whole shim."""
    app = build_app("127.0.0.1:1")
    token = services.access.create_token(Role.CREATOR, CREATOR, START_AT_MS)
    app.state.engine = _Engine(services, token)

    def draw() -> bytes:
        method, pattern = mutator.choose(ROUTES)
        path = pattern.format(*(quote(mutator.choose(ATOMS), safe="/%.") for _ in range(pattern.count("{}"))))
        body = mutator.json_bytes(CAMPAIGN_JSON) if method in ("POST", "PATCH") else b""
        return f"{method} {path}\n".encode() + body

    yield Target("REST request", draw, lambda raw: _answer(app, raw), (_Refusal,), share=20)


class _Refusal(Exception):
    """A status of 4xx."""


def _answer(app: Any, raw: bytes) -> None:
    line, _, body = raw.partition(b"\n")
    if not all(0x20 < byte < 0x7F for byte in line.replace(b" ", b"", 1)):
        raise _Refusal  # h11 lets nothing else into a request's first line
    method, _, target = line.decode("latin-1").partition(" ")
    path, _, query = target.partition("?")
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
        "path": unquote(path), "raw_path": path.encode("latin-1"), "query_string": query.encode("latin-1"),
        "headers": [(b"content-type", b"application/json"), (b"host", b"x"), (b"authorization", b"Bearer x")],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80), "app": app,
    }  # fmt: skip
    told = [{"type": "http.request", "body": body, "more_body": False}]
    status, text = 0, b""

    async def receive() -> dict[str, Any]:
        return told.pop() if told else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        nonlocal status, text
        status = message.get("status", status)
        text += message.get("body", b"")

    asyncio.run(app(scope, receive, send))
    if status >= _FAILED_FROM or not status or b"Traceback" in text:
        raise WrongAnswer(f"{status} {text[:300]!r}")
    if status >= _REFUSED_FROM:
        raise _Refusal
