"""Failures as JSON: `{"error": {"code", "message", "field"}}`, with the HTTP status that fits, and never a trace."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import Any

import grpc
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from auction.rest.shapes import MEANING_OF_PATTERN, CampaignShape, ErrorShape
from protos.rpc.refusals import FIELD_METADATA, TOLD_METADATA

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
_MUST_BE = {
    "string_type": "a string",
    "string_unicode": "a string",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number",
    "int_from_float": "a whole number",
    "finite_number": "a whole number",
    "list_type": "a list",
    "dict_type": "a JSON object",
    "model_type": "a JSON object",
    "model_attributes_type": "a JSON object",
    "greater_than_equal": "at least {ge}",
    "less_than_equal": "at most {le}",
    "string_too_short": "{min_length} or more characters long",
    "string_too_long": "at most {max_length} characters long",
}
"""What a value must be, by the kind of pydantic's error; in braces what its context says."""
_HTTP_CODES = {
    400: "bad_request",
    404: "not_found",
    405: "method_not_allowed",
    408: "timeout",
    413: "too_large",
    422: "invalid_argument",
    429: "resource_exhausted",
}

RESPONSES: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorShape, "description": "The body is not JSON."},
    401: {"model": ErrorShape, "description": "No valid token."},
    403: {
        "model": ErrorShape,
        "description": "The token may not do this: its role does not open it, or it is another creator's.",
    },
    404: {
        "model": ErrorShape,
        "description": "No such campaign, or another creator's; no health report without a fan service.",
    },
    409: {"model": ErrorShape, "description": "The campaign changed meanwhile, or has ended."},
    413: {"model": ErrorShape, "description": "The body is too large."},
    422: {"model": ErrorShape, "description": "A field is missing, unknown or out of range; `field` names it."},
    429: {"model": ErrorShape, "description": "Too many: try again later."},
    503: {"model": ErrorShape, "description": "The engine does not answer now, or says why it cannot."},
}


def error_json(code: str, message: str, field: str | None = None) -> dict[str, Any]:
    """The body of a failure."""
    return {"error": {"code": code, "message": message, "field": field}}


def error_of_call(error: grpc.RpcError) -> tuple[int, dict[str, Any]]:
    """HTTP status and body that tell a failed gRPC call; what gRPC says itself about a connection is not shown."""
    code = error.code()
    status = _HTTP_STATUS.get(code, 503)
    trailers = {key: str(value) for key, value in error.trailing_metadata() or ()}
    if status == 503:
        told = error.details() if TOLD_METADATA in trailers else None
        return status, error_json("unavailable", told or "the engine does not answer now; try again in a moment")
    return status, error_json(code.name.lower(), error.details() or code.name.lower(), trailers.get(FIELD_METADATA))


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
    async def on_validation(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        if first["type"] == "json_invalid":
            return JSONResponse(error_json("bad_request", "the body is not valid JSON"), 400)
        field = _path(first["loc"])
        message = f"{field}: {_explained(first, request)}".encode("utf-8", "replace").decode()
        return JSONResponse(error_json("invalid_argument", message, field), 422)

    @app.exception_handler(HTTPException)
    async def on_http(_: Request, error: HTTPException) -> JSONResponse:
        code = _HTTP_CODES.get(error.status_code, "bad_request")
        return JSONResponse(error_json(code, str(error.detail)), error.status_code, error.headers)

    @app.exception_handler(Exception)
    async def on_anything(request: Request, error: Exception) -> JSONResponse:
        _LOG.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return JSONResponse(error_json("unavailable", "this request could not be answered; the log says why"), 503)


def _explained(error: dict[str, Any], request: Request) -> str:
    """What is wrong, in the words of this API and not of its library."""
    kind, context = error["type"], error.get("ctx", {})
    place = error["loc"][0]
    if tuple(error["loc"]) == ("body",) and isinstance(error.get("input"), bytes):
        return "send Content-Type: application/json"
    if kind == "missing":
        return "required"
    if kind == "extra_forbidden":
        return _no_such(place, error["loc"], request.method)
    if kind in ("too_short", "too_long"):
        bound = f"at least {context['min_length']}" if kind == "too_short" else f"at most {context['max_length']}"
        return f"{context.get('actual_length') or 'no'} items; must be {bound}"
    return f"{_shown(error.get('input'))}; {_demand(kind, context, error['msg'])}"


def _demand(kind: str, context: dict[str, Any], fallback: str) -> str:
    """What a value would have to be, as a clause."""
    if kind == "value_error":
        return str(context["error"])
    if kind == "literal_error":
        return f"must be {context['expected'].replace('True', 'true')}"
    if kind == "string_pattern_mismatch":
        return f"must be {MEANING_OF_PATTERN.get(context['pattern'], 'of the form ' + context['pattern'])}"
    return f"must be {_MUST_BE[kind].format_map(context)}" if kind in _MUST_BE else fallback


def _no_such(place: int | str, loc: Sequence[int | str], method: str) -> str:
    if place == "query":
        return "no such parameter"
    if method == "PATCH" and len(loc) == 2 and loc[1] in CampaignShape.model_fields:
        return "changes by POST to /pause, /resume or /end" if loc[1] == "status" else "cannot change after creation"
    return "no such field"


def _shown(given: Any) -> str:
    try:
        shown = json.dumps(given, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        shown = repr(given)
    return shown if len(shown) <= _MAX_SHOWN else f"{shown[: _MAX_SHOWN - 3]}..."


def _path(loc: Sequence[int | str]) -> str:
    path = ""
    for part in loc[1:] if len(loc) > 1 else loc:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    return path
