"""Where health reports come from: a fan service, once somebody has put one in place."""

from __future__ import annotations

from collections.abc import Callable

import grpc

from auction.status import Refused
from protos import fans_pb2

HealthSource = Callable[[fans_pb2.HealthRequest], fans_pb2.CreatorHealth]
"""Tells how a creator's fans did in a period that is over. Raises Refused: it tells nothing, or not now."""


def no_health(_: fans_pb2.HealthRequest) -> fans_pb2.CreatorHealth:
    """The source where there is no fan service.

    Raises:
        Refused: always; NOT_FOUND.
    """
    raise Refused(grpc.StatusCode.NOT_FOUND, "no fan service is set up, and so there is no health report")
