"""A lookalike that was made, as one record of the journal: who is in it, and what is told of it."""

from __future__ import annotations

import struct

from protos import audience_pb2

_LENGTH = struct.Struct("<I")  # of the first part


def made_record(found: audience_pb2.PutSegmentRequest, told: audience_pb2.GetLookalikeResponse) -> bytes:
    """Both as one body, so that no crash leaves one without the other."""
    first = told.SerializeToString()
    return _LENGTH.pack(len(first)) + first + found.SerializeToString()


def read_made(body: bytes) -> tuple[audience_pb2.PutSegmentRequest, audience_pb2.GetLookalikeResponse]:
    """What `made_record` was given."""
    end = _LENGTH.size + _LENGTH.unpack_from(body)[0]
    told = audience_pb2.GetLookalikeResponse.FromString(body[_LENGTH.size : end])
    return audience_pb2.PutSegmentRequest.FromString(body[end:]), told
