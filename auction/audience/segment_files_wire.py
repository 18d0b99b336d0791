"""A client of a running server's segment files: one file in, one file out."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import TypeVar

import grpc

from auction.audience.imports_under_way import MAX_FILE_BYTES, MAX_PART_BYTES
from auction.status import RETRY_AFTER_METADATA
from protos import audience_pb2, audience_pb2_grpc
from protos.rpc.tls import ClientTls, open_channel

CALL_TIMEOUT_S = 120.0
_MOST_WAIT_S = 60.0
_CHANNEL_OPTIONS = (("grpc.enable_retries", 0),)

Progress = Callable[[int, int], None]
"""Told how many bytes of how many are through."""
_Answer = TypeVar("_Answer")


class CallFailed(ValueError):
    """The server refused a call, or could not be asked."""


class SegmentFilesClient:
    """Calls of one server with one token. Close it in the end."""

    def __init__(self, address: str, token: str, tls: ClientTls | None = None) -> None:
        self._address = address
        self._channel = open_channel(address, tls, _CHANNEL_OPTIONS)
        self._stub = audience_pb2_grpc.AudienceStub(self._channel)
        self._metadata = (("authorization", f"Bearer {token}"),)

    def close(self) -> None:
        """Give up the connection."""
        self._channel.close()

    def put(
        self, name: str, content: bytes, change: int, expires_at_ms: int, progress: Progress
    ) -> audience_pb2.ImportSegmentResponse:
        """Change a segment by a portable Roaring bitmap of viewer ids; answers what became of it with the last part.

        Raises:
            CallFailed: it was refused, or the server could not be asked; then the segment is as it was, or changed
                whole.
        """
        if not 1 <= len(content) <= MAX_FILE_BYTES:
            raise CallFailed(f"{len(content)} bytes; not in 1..{MAX_FILE_BYTES}")
        import_id, answer = secrets.randbits(63) + 1, audience_pb2.ImportSegmentResponse()
        for offset in range(0, len(content), MAX_PART_BYTES):
            request = audience_pb2.ImportSegmentRequest(
                segment_id=name,
                change=change,  # type: ignore[arg-type]
                expires_at_ms=expires_at_ms,
                import_id=import_id,
                size=len(content),
                offset=offset,
                part=content[offset : offset + MAX_PART_BYTES],
            )
            answer = self._call(self._stub.ImportSegment, request)
            progress(answer.received, len(content))
        return answer

    def get(self, name: str, progress: Progress) -> tuple[bytes, int]:
        """(a segment as a portable Roaring bitmap of viewer ids, how many they are), all of one moment.

        Raises:
            CallFailed: there is no such segment, or the server could not be asked.
        """
        content, answer = b"", audience_pb2.ExportSegmentResponse()
        while not answer.size or len(content) < answer.size:
            request = audience_pb2.ExportSegmentRequest(
                segment_id=name, export_id=answer.export_id, offset=len(content)
            )
            answer = self._call(self._stub.ExportSegment, request)
            content += answer.part
            progress(len(content), answer.size)
        return content, answer.members

    def _call(self, call: Callable[..., _Answer], request: object) -> _Answer:
        """One call, made again where the server asks to wait for its rate limit."""
        until_s = time.monotonic() + _MOST_WAIT_S
        while True:
            try:
                return call(request, timeout=CALL_TIMEOUT_S, metadata=self._metadata)
            except grpc.RpcError as failure:
                wait_s = _asked_to_wait_s(failure)
                if not wait_s or time.monotonic() + wait_s > until_s:
                    code = failure.code()
                    raise CallFailed(f"{self._address}: {code.name}: {failure.details()}") from None
                time.sleep(wait_s)


def _asked_to_wait_s(failure: grpc.RpcError) -> float:
    trailers = dict(failure.trailing_metadata() or ())
    return float(trailers.get(RETRY_AFTER_METADATA, 0)) if failure.code() is grpc.StatusCode.RESOURCE_EXHAUSTED else 0.0


def put_told(put: audience_pb2.ImportSegmentResponse) -> str:
    """What became of a list, in words: its members, and how many ids of a creator's are nobody's who is known."""
    left_out = f"; {put.left_out:,} ids left out, of nobody who is known" if put.left_out else ""
    return f"{put.members:,} members{left_out}"
