"""A call that is not answered: its status, and a text that is for the caller."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import grpc

FIELD_METADATA = "fanbid-field"
"""Trailing metadata of a refusal: path of the field that was wrong."""

TOLD_METADATA = "fanbid-told"
"""Trailing metadata of every refusal: its text was written here for the caller, not by gRPC about a connection."""

MAX_MESSAGE_CHARACTERS = 1_000


class Refused(Exception):
    """A call that is answered with this status.

    Attributes:
        code: never UNKNOWN or INTERNAL.
        message: for the caller; names field, value and range where one is wrong.
        field: path of the field that is wrong; empty: none.
        trailers: more metadata for the caller.
    """

    def __init__(
        self, code: grpc.StatusCode, message: str, field: str = "", trailers: Sequence[tuple[str, str]] = ()
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message[:MAX_MESSAGE_CHARACTERS]
        self.field = field
        self.trailers = tuple(trailers)


class MessageMissing(Refused):
    """The caller ended its side of the call without the message that the call needs."""

    def __init__(self) -> None:
        super().__init__(grpc.StatusCode.INVALID_ARGUMENT, "request: the call ended without its message")


def abort(context: grpc.ServicerContext, refused: Refused) -> NoReturn:
    """End the call so."""
    trailers = [*refused.trailers, (TOLD_METADATA, "yes")]
    if refused.field:
        trailers.append((FIELD_METADATA, refused.field.encode("ascii", "backslashreplace").decode()))
    context.set_trailing_metadata(tuple(trailers))
    context.abort(refused.code, refused.message.encode("utf-8", "replace").decode())
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
