"""What every request passes before a route sees it (a bound on its body), and every answer after (headers)."""

from __future__ import annotations

import asyncio
import json

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from auction.rest.errors import error_json

MAX_BODY_BYTES = 256 * 1024
BODY_TIMEOUT_S = 10.0
STREAMED = "/api/audiences/lists/"
"""Routes whose PUT reads its body piece by piece, and bounds it itself."""

_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-cache"),
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
]


class BodyLimit:
    """Refuses bodies over MAX_BODY_BYTES, whether their length is announced or not, and bodies that do not come."""

    def __init__(self, app: ASGIApp, timeout_s: float = BODY_TIMEOUT_S) -> None:
        self._app = app
        self._timeout_s = timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a request whose body is small enough, read whole."""
        is_bounded = scope["type"] == "http" and scope["method"] not in ("GET", "HEAD", "OPTIONS")
        if not is_bounded or (scope["method"] == "PUT" and scope["path"].startswith(STREAMED)):
            await self._app(scope, receive, send)
            return
        parts: list[bytes] = []
        size = 0
        due_s = asyncio.get_running_loop().time() + self._timeout_s
        while True:
            try:
                async with asyncio.timeout_at(due_s):
                    message = await receive()
            except TimeoutError:
                await _refuse(send, 408, "timeout", f"the body took over {self._timeout_s:g} seconds")
                return
            if message["type"] != "http.request":
                return
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > MAX_BODY_BYTES:
                await _refuse(send, 413, "too_large", f"the body is over {MAX_BODY_BYTES} bytes")
                return
            if not message.get("more_body", False):
                break
        await self._app(scope, _replay(b"".join(parts), receive), send)


class BrowserHeaders:
    """Adds the headers that keep a browser strict."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, with headers on the way back."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name.lower() for name, _ in message["headers"]}
                added = [(name, value) for name, value in _HEADERS if name not in present]
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        await self._app(scope, receive, send_with_headers if scope["type"] == "http" else send)


def _replay(body: bytes, receive: Receive) -> Receive:
    told = False

    async def again() -> Message:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def _refuse(send: Send, status: int, code: str, message: str) -> None:
    body = json.dumps(error_json(code, message)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*headers, (b"connection", b"close")]})
    await send({"type": "http.response.body", "body": body})
