"""Segments as files: portable Roaring bitmaps of viewer ids, in parts, taken in whole or not at all."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import grpc

from auction.audience.changes import check_change, check_date
from auction.campaigns.access import Principal
from auction.status import Refused, parse
from pacing.clocks import Clock
from protos import audience_pb2
from targeting.expressions import check_segment_name
from targeting.segments.portable import ids_from_bytes, ids_to_bytes
from targeting.segments.store import Change, SegmentStore
from targeting.viewers import ViewerTable

MAX_FILE_BYTES = 32 * 1024 * 1024
MAX_PART_BYTES = 512 * 1024
MAX_UNDER_WAY = 4
"""Imports, and exports, whose parts are kept at a time; the one begun longest ago gives way."""


_Kept = TypeVar("_Kept")


class Stores(Protocol):
    """Where viewers and segments live."""

    viewers: ViewerTable
    segments: SegmentStore
    clock: Clock


@dataclass
class _Export:
    content: bytes
    members: int


@dataclass
class _Import:
    size: int
    content: bytearray = field(default_factory=bytearray)


class SegmentFiles:
    """The calls ImportSegment and ExportSegment. Any thread may call."""

    def __init__(self, stores: Stores, changing: threading.Lock, keep: Callable[[bytes], None]) -> None:
        """Serve these stores.

        Args:
            changing: held while audiences change.
            keep: makes a file durable: a request that has all of it as its only part.
        """
        self._stores = stores
        self._changing = changing
        self._keep = keep
        self._lock = threading.Lock()
        self._imports: OrderedDict[int, _Import] = OrderedDict()
        self._exports: OrderedDict[int, _Export] = OrderedDict()

    def import_segment(self, raw: bytes, _: Principal) -> bytes:
        """Take one part of a file; with the last one, change the segment."""
        request = parse(audience_pb2.ImportSegmentRequest, raw)
        check_change(request.segment_id, request.change, request.expires_at_ms)
        received, whole = self._received(request)
        if whole is None:
            return audience_pb2.ImportSegmentResponse(received=received).SerializeToString()
        members = self._change(request, whole, is_new=True)
        return audience_pb2.ImportSegmentResponse(received=received, members=members).SerializeToString()

    def again(self, raw: bytes) -> bytes:
        """Take in what `keep` was given, after a restart."""
        request = parse(audience_pb2.ImportSegmentRequest, raw)
        self._change(request, request.part, is_new=False)
        return b""

    def export_segment(self, raw: bytes, _: Principal) -> bytes:
        """Answer with one part of a segment's file; all parts are of the moment of the first."""
        request = parse(audience_pb2.ExportSegmentRequest, raw)
        check_segment_name(request.segment_id)
        export_id = request.export_id or self._exported(request.segment_id)
        with self._lock:
            export = self._exports.get(export_id)
        if export is None:
            raise ValueError(f"export_id {export_id}: not kept any longer; begin again with 0")
        if request.offset > len(export.content):
            raise ValueError(f"offset {request.offset}: not in 0..{len(export.content)}")
        return audience_pb2.ExportSegmentResponse(
            export_id=export_id,
            size=len(export.content),
            part=export.content[request.offset : request.offset + MAX_PART_BYTES],
            members=export.members,
        ).SerializeToString()

    def _received(self, request: audience_pb2.ImportSegmentRequest) -> tuple[int, bytes | None]:
        """(bytes that there are of the file, all of them once it is whole)."""
        if not 1 <= request.size <= MAX_FILE_BYTES:
            raise ValueError(f"size {request.size}: not in 1..{MAX_FILE_BYTES}")
        if not 1 <= len(request.part) <= MAX_PART_BYTES:
            raise ValueError(f"part: {len(request.part)} bytes; not in 1..{MAX_PART_BYTES}")
        with self._lock:
            begun = self._imports.pop(request.import_id, None)
            if request.offset == 0:
                begun = _Import(request.size)
            if begun is None or request.offset != len(begun.content) or request.size != begun.size:
                raise ValueError(
                    f"offset {request.offset}, size {request.size}: not the next part of import_id "
                    f"{request.import_id}; begin again with offset 0"
                )
            if request.offset + len(request.part) > request.size:
                raise ValueError(f"part: goes on to byte {request.offset + len(request.part)} of {request.size}")
            begun.content += request.part
            if len(begun.content) == begun.size:
                return begun.size, bytes(begun.content)
            _put_last(self._imports, request.import_id, begun)
            return len(begun.content), None

    def _change(self, request: audience_pb2.ImportSegmentRequest, whole: bytes, is_new: bool) -> int:
        """Change the segment; answers how many members it has."""
        name, change, expires_at_ms = request.segment_id, request.change, request.expires_at_ms
        segments, viewers = self._stores.segments, self._stores.viewers
        ids = ids_from_bytes(whole)
        with self._changing:
            if is_new:
                check_date(name, change, expires_at_ms, segments, self._stores.clock.wall_ms())
                segments.segment_idx(name)  # refused here when there are too many
                kept = audience_pb2.ImportSegmentRequest(
                    segment_id=name, change=change, expires_at_ms=expires_at_ms, size=len(whole), part=whole
                )
                self._keep(kept.SerializeToString())
            return segments.put(name, viewers.ensure(ids), Change(change), expires_at_ms)

    def _exported(self, name: str) -> int:
        if name not in self._stores.segments.names:
            raise Refused(grpc.StatusCode.NOT_FOUND, f"segment_id {name!r}: there is no such segment", "segment_id")
        rows = self._stores.segments.rows(name)
        export = _Export(ids_to_bytes(self._stores.viewers.ids[rows]), len(rows))
        export_id = secrets.randbits(63) + 1
        with self._lock:
            _put_last(self._exports, export_id, export)
        return export_id


def _put_last(kept: OrderedDict[int, _Kept], key: int, value: _Kept) -> None:
    kept[key] = value
    while len(kept) > MAX_UNDER_WAY:
        kept.popitem(last=False)
