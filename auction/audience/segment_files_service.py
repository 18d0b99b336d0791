"""Segments as files: portable Roaring bitmaps of viewer ids, in parts, taken in whole or not at all."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import grpc
import numpy as np

from auction.audience.changes import check_change, check_date, check_ids
from auction.audience.imports_under_way import MAX_PART_BYTES, ImportsUnderWay
from auction.audience.own_lists_service import OwnLists
from auction.campaigns.access import Principal
from auction.status import Refused, parse
from pacing.clocks import Clock
from protos import audience_pb2
from targeting.expressions import check_segment_name
from targeting.segments.portable import ids_from_bytes, ids_to_bytes
from targeting.segments.store import Change, SegmentStore
from targeting.viewers import ViewerTable

MAX_EXPORTS = 4
"""Exports, which are operators', that are kept at a time; the one begun longest ago gives way."""


class Stores(Protocol):
    """Where viewers and segments live."""

    viewers: ViewerTable
    segments: SegmentStore
    clock: Clock


@dataclass
class _Export:
    content: bytes
    members: int


class SegmentFiles:
    """The calls ImportSegment and ExportSegment. Any thread may call."""

    def __init__(
        self,
        stores: Stores,
        own: OwnLists,
        changing: threading.Lock,
        keep: Callable[[bytes], None],
        on_changed: Callable[[str, int], None],
    ) -> None:
        """Serve these stores.

        Args:
            own: says what creators may do.
            changing: held while audiences change.
            keep: makes a file durable: a request that has all of it as its only part.
            on_changed: told which segment was changed, and how (see `Change`).
        """
        self._stores = stores
        self._own = own
        self._changing = changing
        self._keep = keep
        self._on_changed = on_changed
        self._lock = threading.Lock()
        self._imports = ImportsUnderWay(stores.clock)
        self._exports: OrderedDict[int, _Export] = OrderedDict()

    def import_segment(self, raw: bytes, principal: Principal) -> bytes:
        """Take one part of a file; with the last one, change the segment."""
        request = parse(audience_pb2.ImportSegmentRequest, raw)
        request.segment_id = self._own.segment_for(principal, request.segment_id)
        check_change(request.segment_id, request.change, request.expires_at_ms)
        self._own.check_room(principal, request.segment_id)
        received, whole = self._imports.add(principal, request.import_id, request.size, request.offset, request.part)
        if whole is None:
            return audience_pb2.ImportSegmentResponse(
                received=received, segment_id=request.segment_id
            ).SerializeToString()
        members, left_out = self._take(request, whole, principal)
        return audience_pb2.ImportSegmentResponse(
            received=received, members=members, segment_id=request.segment_id, left_out=left_out
        ).SerializeToString()

    def again(self, raw: bytes) -> bytes:
        """Take in what `keep` was given, after a restart."""
        request = parse(audience_pb2.ImportSegmentRequest, raw)
        with self._changing:
            self._change(request, ids_from_bytes(request.part))
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

    def _take(self, request: audience_pb2.ImportSegmentRequest, whole: bytes, principal: Principal) -> tuple[int, int]:
        """Make a whole file durable and change the segment; answers (members, ids that were left out)."""
        name, change, expires_at_ms = request.segment_id, request.change, request.expires_at_ms
        segments, sent = self._stores.segments, ids_from_bytes(whole)
        check_ids("part: ids", sent)
        with self._changing:
            check_date(name, change, expires_at_ms, segments, self._stores.clock.wall_ms())
            ids = self._own.admit(principal, name, sent, change)
            if len(ids) < len(sent):
                whole = ids_to_bytes(ids)
            segments.segment_idx(name)  # refused here when there are too many
            kept = audience_pb2.ImportSegmentRequest(
                segment_id=name, change=change, expires_at_ms=expires_at_ms, size=len(whole), part=whole
            )
            self._keep(kept.SerializeToString())
            return self._change(kept, ids), len(sent) - len(ids)

    def _change(self, request: audience_pb2.ImportSegmentRequest, ids: np.ndarray) -> int:
        """Change the segment; answers how many members it has."""
        rows = self._stores.viewers.ensure(ids)
        members = self._stores.segments.put(request.segment_id, rows, Change(request.change), request.expires_at_ms)
        self._on_changed(request.segment_id, request.change)
        return members

    def _exported(self, name: str) -> int:
        if name not in self._stores.segments.names:
            raise Refused(grpc.StatusCode.NOT_FOUND, f"segment_id {name!r}: there is no such segment", "segment_id")
        rows = self._stores.segments.rows(name)
        export = _Export(ids_to_bytes(self._stores.viewers.ids[rows]), len(rows))
        export_id = secrets.randbits(63) + 1
        with self._lock:
            self._exports[export_id] = export
            while len(self._exports) > MAX_EXPORTS:
                self._exports.popitem(last=False)
        return export_id
