"""Errors as gRPC answers: which exception means which status, and how it reaches the caller.

No call ever ends in UNKNOWN or INTERNAL: what a caller did wrong says so, and what this server did wrong is logged
here and is UNAVAILABLE there.
"""

from __future__ import annotations

import logging
import math
from typing import NoReturn

import grpc

from auction.campaigns.access import Forbidden, Unauthenticated
from auction.campaigns.limits import RateLimited
from auction.campaigns.store import CampaignLimit, NoSuchCampaign, StoreUnavailable
from protos.rpc.refusals import FIELD_METADATA, MAX_MESSAGE_CHARACTERS, Refused, abort, parse

__all__ = ["FIELD_METADATA", "MAX_MESSAGE_CHARACTERS", "Refused", "parse", "refusal_of", "refuse"]

RETRY_AFTER_METADATA = "retry-after"
"""Trailing metadata: seconds until it is worth to try again, as in HTTP."""
PUSHBACK_METADATA = "grpc-retry-pushback-ms"
"""The same in milliseconds, under the name that gRPC's own retries heed."""

_LOG = logging.getLogger("fanbid.status")

_CODES: tuple[tuple[type[Exception], grpc.StatusCode], ...] = (
    (Unauthenticated, grpc.StatusCode.UNAUTHENTICATED),
    (Forbidden, grpc.StatusCode.PERMISSION_DENIED),
    (NoSuchCampaign, grpc.StatusCode.NOT_FOUND),
    (CampaignLimit, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (TimeoutError, grpc.StatusCode.DEADLINE_EXCEEDED),
    (ValueError, grpc.StatusCode.INVALID_ARGUMENT),
)


def refusal_of(exc: Exception) -> Refused:
    """What the caller is told about an exception; what is not told of one is logged here."""
    if isinstance(exc, Refused):
        return exc
    if isinstance(exc, RateLimited):
        return _try_later(exc)
    if isinstance(exc, StoreUnavailable):
        _LOG.error("a call failed: %s", exc)
        return Refused(grpc.StatusCode.UNAVAILABLE, exc.told)
    for kind, code in _CODES:
        if isinstance(exc, kind):
            return Refused(code, str(exc) or kind.__name__, getattr(exc, "field", ""))
    _LOG.error("a call failed", exc_info=exc)
    return Refused(grpc.StatusCode.UNAVAILABLE, "the server could not answer this call; its log says why")


def _try_later(limited: RateLimited) -> Refused:
    wait_s = limited.retry_after_s
    trailers = ((RETRY_AFTER_METADATA, str(math.ceil(wait_s))), (PUSHBACK_METADATA, str(math.ceil(1_000 * wait_s))))
    return Refused(grpc.StatusCode.RESOURCE_EXHAUSTED, str(limited), trailers=trailers)


def refuse(context: grpc.ServicerContext, exc: Exception) -> NoReturn:
    """End the call with the status that `exc` means; for use in a handler's `except Exception`."""
    abort(context, refusal_of(exc))
