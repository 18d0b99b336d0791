"""Segments: named sets of viewers, kept as Roaring bitmaps of rows."""

from __future__ import annotations

import threading
from enum import IntEnum

import numpy as np
from pyroaring import BitMap

from targeting.attributes import INTEREST_COUNT
from targeting.expressions import INTEREST_PREFIX, interest_segment
from targeting.segments.fresh import FreshChanges
from targeting.segments.generations import NEVER_MS, Generations
from targeting.segments.memberships import (
    NO_MEMBERSHIPS,
    Memberships,
    build_memberships,
    freshened,
    patched,
    rows_array,
)
from targeting.segments.portable import bitmap_from_bytes
from targeting.segments.probe.copies import COPIES_BYTES, ProbeCopies, SegmentProbe
from targeting.viewers import MAX_VIEWERS

__all__ = ["Change", "Memberships", "SegmentStore"]

MAX_SEGMENTS = 1_000_000
PATCH_FLOOR = 20_000
"""A patch of fewer memberships than this is never worth a new base."""
PATCH_SHARE = 16
"""From one patched membership in this many of the base on, a new base is built."""


class Change(IntEnum):
    """What to do with a segment's members; the numbers of `protos/audience.proto`."""

    REPLACE = 1
    ADD = 2
    REMOVE = 3


class SegmentStore:
    """Segments by name. Any thread may call; writers take turns, and what readers hold never changes.

    A segment has a dense number from INTEREST_COUNT on, for good; the numbers below are the interests, whose members
    the viewer table keeps. `memberships` is the same picture turned round: changes become a patch over the last base,
    which is built anew when the patch has grown; writers do not wait for that. Between two such pictures small changes
    are laid over the last one at once.

    Attributes:
        current: each viewer's segments, with every small change that was made; read without a lock.
    """

    def __init__(self, copies_bytes: int = COPIES_BYTES) -> None:
        """An empty store; the copies that it makes for `probe` take `copies_bytes` at most."""
        self._copies = ProbeCopies(copies_bytes)
        self._lock = threading.Lock()
        self._publish_lock = threading.Lock()
        self._idx_of = {interest_segment(code): code for code in range(INTEREST_COUNT)}
        self._members: list[BitMap] = [BitMap() for _ in range(INTEREST_COUNT)]
        self._in_base: dict[int, BitMap] = {}  # by number, of segments that changed since: what the base has
        self._revision = 0
        self._published = 0
        self._memberships = NO_MEMBERSHIPS
        self._fresh = FreshChanges()
        self._hidden = 0  # revision of the last change that was too large to be laid over
        self._generations = Generations()
        self.current = NO_MEMBERSHIPS

    @property
    def names(self) -> list[str]:
        """Names of all segments that are no interests, in order of their numbers."""
        with self._lock:
            return list(self._idx_of)[INTEREST_COUNT:]

    def segment_idx(self, name: str) -> int:
        """The segment's number; a name that is new gets one, with no members.

        Raises:
            ValueError: there are MAX_SEGMENTS already.
        """
        known = self._idx_of.get(name)
        if known is not None:
            return known
        with self._lock:
            return self._idx_for(name)

    def known_idx(self, name: str) -> int:
        """The segment's number; -1 if there is none of this name."""
        return self._idx_of.get(name, -1)

    def put(self, name: str, rows: np.ndarray, change: int, expires_at_ms: int = NEVER_MS) -> int:
        """Change a segment's members.

        Args:
            name: the segment; made if it is new.
            rows: integers [n], viewers' rows.
            change: one of `Change`. Who is removed leaves whatever date they had.
            expires_at_ms: when the rows put or added cease to be members, unless they are for longer, too; NEVER_MS:
                not by themselves.

        Returns:
            How many members it has now.

        Raises:
            ValueError: the name is an interest's, a row is out of range, or there is no such change.
        """
        return self.put_members(name, _checked_rows(name, rows), change, expires_at_ms)

    def put_members(self, name: str, rows: BitMap, change: int, expires_at_ms: int = NEVER_MS) -> int:
        """`put` with rows that are a bitmap already, which is the store's from then on."""
        wanted = Change(change)
        if name.startswith(INTEREST_PREFIX):
            raise ValueError(f"segment {name!r}: interests belong to the viewers, not to a segment")
        with self._lock:
            idx = self._idx_for(name)
            after = self._after(idx, rows, wanted, expires_at_ms)
            self._set_members(idx, after)
            return len(after)

    def expiry_dates(self, name: str) -> frozenset[int]:
        """When parts of the segment expire (ms)."""
        with self._lock:
            idx = self._idx_of.get(name)
            return frozenset() if idx is None else self._generations.dates(idx)

    def due(self, now_ms: int) -> list[tuple[str, int]]:
        """(segment, how many members are left) of each that loses some when `expire` is called with this instant."""
        with self._lock:
            due = self._generations.due(now_ms)
            names = list(self._idx_of) if due else []
            return [(names[idx], left) for idx, left in due]

    def expire(self, now_ms: int) -> None:
        """Let go of the members whose date has come; `current` is without them when this returns."""
        with self._lock:
            for idx, after in self._generations.expired(now_ms):
                self._set_members(idx, after)
        self.show_hidden()

    def show_hidden(self) -> None:
        """Have every change in `current`, also those that were too large to be laid over it."""
        with self._lock:
            is_hidden = self._hidden > self._published
        if is_hidden:
            self.memberships()

    def members(self, name: str) -> BitMap:
        """The segment's members (rows); none if there is no such segment. Not to be changed."""
        idx = self._idx_of.get(name)
        return BitMap() if idx is None else self._members[idx]

    def rows(self, name: str) -> np.ndarray:
        """The segment's members, ascending (u4[n])."""
        return rows_array(self.members(name))

    def probe(self, name: str) -> SegmentProbe:
        """What tells which of many rows are in the segment now; nobody is in a segment that there is not."""
        idx = self._idx_of.get(name)
        return SegmentProbe(BitMap()) if idx is None else self._copies.of(idx, self._members[idx])

    def export_bytes(self, name: str) -> bytes:
        """The members in the portable Roaring format."""
        return bytes(self.members(name).serialize())

    def import_bytes(self, name: str, raw: bytes, change: int, viewer_count: int) -> int:
        """Take members in the portable Roaring format.

        Args:
            name: the segment.
            raw: a serialized 32-bit bitmap of rows.
            change: one of `Change`.
            viewer_count: how many viewers there are; every row must be one of theirs.

        Returns:
            How many members the segment has now.

        Raises:
            ValueError: the bytes are no such bitmap, or hold a row that nobody has.
        """
        try:
            rows = bitmap_from_bytes(raw)
        except ValueError as refused:
            raise ValueError(f"segment {name!r}: {refused}") from None
        if len(rows) and rows.max() >= viewer_count:
            raise ValueError(f"segment {name!r}: row {rows.max()}, not in 0..{viewer_count - 1}")
        return self.put_members(name, rows, change)

    def memberships(self) -> Memberships:
        """Each viewer's segments as they are now, whole changes included; the same object while nothing changed."""
        with self._publish_lock:
            with self._lock:
                revision = self._revision
                if revision == self._published:
                    return self.current
                before = dict(sorted(self._in_base.items()))
                after = {idx: self._members[idx] for idx in before}
            memberships = patched(self._memberships, before, after)
            if memberships.patch_size > max(PATCH_FLOOR, memberships.size // PATCH_SHARE):
                with self._lock:
                    revision = self._revision
                    members = list(self._members)
                    self._in_base = {}
                memberships = build_memberships(members)
            self._memberships = memberships
            with self._lock:
                self._published = revision
                self._fresh.forget(revision)
                self.current = freshened(memberships, self._fresh.keys)
                return self.current

    def _after(self, idx: int, rows: BitMap, change: Change, expires_at_ms: int) -> BitMap:
        """A segment's members after a change."""
        present = self._members[idx]
        if self._generations.concerns(idx, expires_at_ms):
            if change is Change.REPLACE:
                return self._generations.replaced(idx, rows, expires_at_ms)
            if change is Change.ADD:
                return self._generations.added(idx, present, rows, expires_at_ms)
            return self._generations.removed(idx, rows) if self._generations.dates(idx) else present - rows
        if change is Change.REPLACE:
            return rows
        return present | rows if change is Change.ADD else present - rows

    def _set_members(self, idx: int, after: BitMap) -> None:
        """Make these a segment's members, and show it at once where few changed."""
        present = self._members[idx]
        gained, lost = after - present, present - after
        if not gained and not lost:
            return
        after.run_optimize()  # else small changes wear clustered segments down to arrays, slow to combine
        after.shrink_to_fit()  # and what is combined is copied with all the room that it has
        self._in_base.setdefault(idx, present)
        self._members[idx] = after
        self._revision += 1
        if self._fresh.note(idx, gained, lost, self._revision):
            self.current = freshened(self.current, self._fresh.keys)
        else:
            self._hidden = self._revision

    def _idx_for(self, name: str) -> int:
        idx = self._idx_of.get(name)
        if idx is None:
            idx = len(self._members)
            if idx >= MAX_SEGMENTS:
                raise ValueError(f"segment {name!r}: there are {MAX_SEGMENTS} segments already")
            self._members.append(BitMap())
            self._idx_of[name] = idx
        return idx


def _checked_rows(name: str, rows: np.ndarray) -> BitMap:
    given = np.asarray(rows)
    if len(given) and not 0 <= int(given.min()) <= int(given.max()) < MAX_VIEWERS:
        raise ValueError(f"segment {name!r}: rows {given.min()}..{given.max()}, not in 0..{MAX_VIEWERS - 1}")
    return BitMap(np.ascontiguousarray(given, np.uint32))
