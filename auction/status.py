"""Errors as gRPC answers: which exception means which status, and how it reaches the caller.

No call ever ends in UNKNOWN or INTERNAL: what a caller did wrong says so, and what this server did wrong is logged
here and is UNAVAILABLE there.
"""

from __future__ import annotations

import logging
from typing import Any, NoReturn

import grpc

from auction.campaigns.access import Forbidden, Unauthenticated
from auction.campaigns.store import CampaignLimit, NoSuchCampaign, StoreUnavailable

FIELD_METADATA = "fanbid-field"
"""Trailing metadata of a refusal: path of the field that was wrong."""

MAX_MESSAGE_CHARACTERS = 1_000

_LOG = logging.getLogger("fanbid.status")

_CODES: tuple[tuple[type[Exception], grpc.StatusCode], ...] = (
    (Unauthenticated, grpc.StatusCode.UNAUTHENTICATED),
    (Forbidden, grpc.StatusCode.PERMISSION_DENIED),
    (NoSuchCampaign, grpc.StatusCode.NOT_FOUND),
    (CampaignLimit, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (StoreUnavailable, grpc.StatusCode.UNAVAILABLE),
    (TimeoutError, grpc.StatusCode.DEADLINE_EXCEEDED),
    (ValueError, grpc.StatusCode.INVALID_ARGUMENT),
)


class Refused(Exception):
    """A call that is answered with this status.

    Attributes:
        code: never UNKNOWN or INTERNAL.
        message: for the caller; names field, value and range where one is wrong.
        field: path of the field that is wrong; empty: none.
    """

    def __init__(self, code: grpc.StatusCode, message: str, field: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message[:MAX_MESSAGE_CHARACTERS]
        self.field = field


def refusal_of(exc: Exception) -> Refused:
    """What the caller is told about an exception; one that nobody foresaw is logged here with its trace."""
    if isinstance(exc, Refused):
        return exc
    for kind, code in _CODES:
        if isinstance(exc, kind):
            return Refused(code, str(exc) or kind.__name__, getattr(exc, "field", ""))
    _LOG.error("a call failed", exc_info=exc)
    return Refused(grpc.StatusCode.UNAVAILABLE, "the server could not answer this call; its log says why")


def refuse(context: grpc.ServicerContext, exc: Exception) -> NoReturn:
    """End the call with the status that `exc` means; for use in a handler's `except Exception`."""
    refused = refusal_of(exc)
    if refused.field:
        context.set_trailing_metadata(((FIELD_METADATA, refused.field.encode("ascii", "backslashreplace").decode()),))
    context.abort(refused.code, refused.message)
    raise AssertionError("abort raises")


def parse(message_class: Any, raw: bytes) -> Any:
    """The message in `raw`.

    Raises:
        Refused: INVALID_ARGUMENT: the bytes are no such message.
    """
    try:
        return message_class.FromString(raw)
    except Exception:
        name = message_class.DESCRIPTOR.full_name
        raise Refused(grpc.StatusCode.INVALID_ARGUMENT, f"request: {len(raw)} bytes that are no {name}") from None
