"""Lists of viewers over REST: a CSV of ids becomes a segment, read as it comes and taken whole or not at all."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from typing import Annotated, Any

import grpc
import numpy as np
from fastapi import APIRouter, Depends, Path, Request
from fastapi.security import HTTPBearer
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from auction.rest.errors import RESPONSES
from auction.rest.guards import BODY_TIMEOUT_S
from auction.rest.routes import Engine, EngineOf
from auction.rest.shapes import SEGMENT_PATTERN
from protos import audience_pb2 as pb
from targeting.lookalike.seed_list import RejectedList, read_seed_list
from targeting.segments.portable import ids_to_bytes

MAX_LIST_BYTES = 64 * 1024 * 1024
_PART_BYTES = 512 * 1024
_UPLOAD_TIMEOUT_S = 60.0
_AT_A_TIME = 2

router = APIRouter(
    prefix="/api/audiences",
    dependencies=[Depends(HTTPBearer(auto_error=False, description="made by `fanbid token create`"))],
    responses=RESPONSES,
    tags=["audiences"],
)
_reading = asyncio.Semaphore(_AT_A_TIME)

SegmentName = Annotated[
    str,
    Path(
        pattern=SEGMENT_PATTERN,
        description="the segment that it becomes; a creator's: a name of 1 to 39 of a-z 0-9 _ . -",
    ),
]
_CSV_BODY = {
    "requestBody": {
        "required": True,
        "description": "an id in the first column of each line, each once; the first line may be a heading",
        "content": {"text/csv": {"schema": {"type": "string"}, "example": "viewer_id\n501\n502\n"}},
    }
}


class ListShape(BaseModel):
    """What became of a list."""

    segment_id: Annotated[str, Field(description="whole: a creator's list NAME is own:CREATOR_ID:NAME")]
    members: int
    left_out: Annotated[int, Field(description="ids of a creator's list that are nobody's who is known")]


@router.put("/lists/{segment_id}", response_model=ListShape, openapi_extra=_CSV_BODY)
async def put_list(request: Request, engine: EngineOf, segment_id: SegmentName) -> Any:
    """Replace a segment by the viewers of a list. One with wrong lines is refused whole, by line.

    An operator's may have any name that is not reserved; a creator's becomes a list of this creator's own, of the
    viewers who are known already.
    """
    put = await _upload(request, engine, segment_id)
    return {name: getattr(put, name) for name in ListShape.model_fields}


async def _upload(request: Request, engine: Engine, segment_id: str) -> pb.ImportSegmentResponse:
    """Read a list and put it into a segment, both whole or not at all; answers what became of the last part."""
    await _admit(request, engine, segment_id)
    if _reading.locked():
        raise HTTPException(429, f"{_AT_A_TIME} lists are being read already; try again", {"Retry-After": "5"})
    async with _reading:
        content = await asyncio.to_thread(_as_file, request, asyncio.get_running_loop())
        import_id, put = secrets.randbits(63) + 1, pb.ImportSegmentResponse()
        for offset in range(0, len(content), _PART_BYTES):
            message = pb.ImportSegmentRequest(
                segment_id=segment_id, change=pb.SEGMENT_CHANGE_REPLACE, import_id=import_id, size=len(content),
                offset=offset, part=content[offset : offset + _PART_BYTES],
            )  # fmt: skip
            put = await engine.call(
                request, "ImportSegment", message, pb.ImportSegmentResponse, "Audience", _UPLOAD_TIMEOUT_S
            )
    return put


async def _admit(request: Request, engine: Engine, segment_id: str) -> None:
    """Have the engine refuse who may not change segments, or this one, by a file of no bytes, before a body is read."""
    message = pb.ImportSegmentRequest(segment_id=segment_id, change=pb.SEGMENT_CHANGE_REPLACE, size=0)
    try:
        await engine.call(request, "ImportSegment", message, pb.ImportSegmentResponse, "Audience")
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.INVALID_ARGUMENT:
            raise


def _as_file(request: Request, loop: asyncio.AbstractEventLoop) -> bytes:
    """The list as a portable Roaring bitmap of ids; run beside the loop, since ids are parsed one by one.

    Raises:
        HTTPException: it is no list, too large, or does not come.
    """
    try:
        ids: np.ndarray = read_seed_list(_chunks(request, loop))
    except (RejectedList, ValueError) as wrong:
        raise HTTPException(422, str(wrong)) from None
    return ids_to_bytes(ids)


def _chunks(request: Request, loop: asyncio.AbstractEventLoop) -> Iterator[bytes]:
    """The body's pieces as they come, one at a time."""
    stream, size = request.stream(), 0
    while True:
        coming = asyncio.run_coroutine_threadsafe(anext(stream, b""), loop)
        try:
            chunk = coming.result(BODY_TIMEOUT_S)
        except TimeoutError:
            coming.cancel()
            raise HTTPException(408, f"nothing came of the list for {BODY_TIMEOUT_S:g} seconds") from None
        if not chunk:
            return
        size += len(chunk)
        if size > MAX_LIST_BYTES:
            raise HTTPException(413, f"the list is over {MAX_LIST_BYTES} bytes")
        yield chunk
