"""Failures as JSON: `{"error": {"code", "message", "field"}}`, with the HTTP status that fits, and never a trace."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import grpc
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from auction.rest.shapes import ErrorShape

FIELD_METADATA = "fanbid-field"
RETRY_AFTER_METADATA = "retry-after"
_MAX_SHOWN = 80
_LOG = logging.getLogger("fanbid.rest")

_HTTP_STATUS = {
    grpc.StatusCode.INVALID_ARGUMENT: 422,
    grpc.StatusCode.OUT_OF_RANGE: 422,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.FAILED_PRECONDITION: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
}
_HTTP_CODES = {400: "bad_request", 404: "not_found", 405: "method_not_allowed", 413: "too_large"}

RESPONSES: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorShape, "description": "The body is not JSON."},
    401: {"model": ErrorShape, "description": "No valid token."},
    403: {"model": ErrorShape, "description": "The token's role may not do this."},
    404: {"model": ErrorShape, "description": "No such campaign, or another creator's."},
    409: {"model": ErrorShape, "description": "The campaign changed meanwhile, or has ended."},
    413: {"model": ErrorShape, "description": "The body is too large."},
    422: {"model": ErrorShape, "description": "A field is missing, unknown or out of range; `field` names it."},
    429: {"model": ErrorShape, "description": "Too many: try again later."},
    503: {"model": ErrorShape, "description": "The engine does not answer now."},
}


def error_json(code: str, message: str, field: str | None = None) -> dict[str, Any]:
    """The body of a failure."""
    return {"error": {"code": code, "message": message, "field": field}}


def error_of_call(error: grpc.RpcError) -> tuple[int, dict[str, Any]]:
    """HTTP status and body that tell a failed gRPC call."""
    code = error.code()
    status = _HTTP_STATUS.get(code, 503)
    if status == 503:
        return status, error_json("unavailable", "the engine does not answer now; try again in a moment")
    field = next((str(value) for key, value in error.trailing_metadata() or () if key == FIELD_METADATA), None)
    return status, error_json(code.name.lower(), error.details() or code.name.lower(), field)


def _headers_of(status: int, error: grpc.RpcError) -> dict[str, str] | None:
    if status == 401:
        return {"WWW-Authenticate": "Bearer"}
    if status == 429:
        told = next((str(value) for key, value in error.trailing_metadata() or () if key == RETRY_AFTER_METADATA), "1")
        return {"Retry-After": told}
    return None


def install(app: FastAPI) -> None:
    """Let every failure of `app` answer in this form."""

    @app.exception_handler(grpc.aio.AioRpcError)
    async def on_call(_: Request, error: grpc.aio.AioRpcError) -> JSONResponse:
        status, body = error_of_call(error)
        return JSONResponse(body, status, _headers_of(status, error))

    @app.exception_handler(RequestValidationError)
    async def on_validation(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        if first["type"] == "json_invalid":
            return JSONResponse(error_json("bad_request", "the body is not valid JSON"), 400)
        field = _path(first["loc"])
        shown = repr(first.get("input"))
        shown = shown if len(shown) <= _MAX_SHOWN else f"{shown[: _MAX_SHOWN - 3]}..."
        message = f"{field}: {first['msg']}; got {shown}".encode("utf-8", "replace").decode()
        return JSONResponse(error_json("invalid_argument", message, field), 422)

    @app.exception_handler(HTTPException)
    async def on_http(_: Request, error: HTTPException) -> JSONResponse:
        code = _HTTP_CODES.get(error.status_code, "bad_request")
        return JSONResponse(error_json(code, str(error.detail)), error.status_code, error.headers)

    @app.exception_handler(Exception)
    async def on_anything(request: Request, error: Exception) -> JSONResponse:
        _LOG.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return JSONResponse(error_json("unavailable", "this request could not be answered; the log says why"), 503)


def _path(loc: Sequence[int | str]) -> str:
    path = ""
    for part in loc[1:] if len(loc) > 1 else loc:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    return path
