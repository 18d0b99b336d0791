"""Who saw a creator lately: viewers of the videos, visitors of the live room, and whom the ads reached."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from enum import IntEnum

import numpy as np
from pyroaring import BitMap

from targeting.expressions import live_segment, viewers_segment
from targeting.segments.memberships import rows_array
from targeting.segments.store import Change, SegmentStore
from targeting.viewers import ViewerTable

KEPT_DAYS = 30
"""Whole days (UTC) that a visit counts after its own."""
MAX_VISITS = 4_000_000
"""Visits that are kept; beyond, the oldest days are forgotten, of who was reached first."""
MS_PER_DAY = 86_400_000


class Visit(IntEnum):
    """How a viewer met a creator."""

    PLAYED = 1
    LIVE = 2
    REACHED = 3  # was shown an ad of the creator


_SEGMENT_OF: Mapping[Visit, Callable[[int], str]] = {Visit.PLAYED: viewers_segment, Visit.LIVE: live_segment}
"""What is a segment. Who was reached is none: every viewer would have very many, and no audience asks for it."""


@dataclass(frozen=True)
class _Groups:
    """Visits as arrays: n groups of viewers who met one creator in one way on one day.

    Attributes:
        creator_ids, visits, days, counts: u8[n], u1[n], i8[n], i8[n].
        viewer_ids: u8[counts.sum()], by group.
    """

    creator_ids: np.ndarray
    visits: np.ndarray
    days: np.ndarray
    counts: np.ndarray
    viewer_ids: np.ndarray

    def __post_init__(self) -> None:
        lengths = {len(self.creator_ids), len(self.visits), len(self.days), len(self.counts)}
        if len(lengths) > 1 or int(self.counts.sum()) != len(self.viewer_ids):
            raise ValueError(f"visits: {self.counts.sum()} in {sorted(lengths)} groups, {len(self.viewer_ids)} viewers")

    def only(self, chosen: np.ndarray) -> _Groups:
        """The groups where `chosen` (bool[n]) is."""
        by_group = (self.creator_ids[chosen], self.visits[chosen], self.days[chosen], self.counts[chosen])
        return _Groups(*by_group, self.viewer_ids[np.repeat(chosen, self.counts)])

    def split(self, rows: np.ndarray) -> list[np.ndarray]:
        """What there is for each viewer, as one array for each group."""
        return np.split(rows, np.cumsum(self.counts)[:-1]) if len(self.counts) else []


class Visits:
    """Who played a creator's videos, was in the live room or was reached in the last KEPT_DAYS, by creator and day.

    Of watched creators the first two are segments, whose members carry the date at which they cease to be ones. Of what
    was restored, only these are taken in at once: who was reached waits until it is asked for, or `take_up` is called.
    Any thread may call.
    """

    def __init__(self, viewers: ViewerTable, segments: SegmentStore) -> None:
        self._viewers = viewers
        self._segments = segments
        self._lock = threading.Lock()
        self._days: dict[tuple[int, Visit], dict[int, BitMap]] = {}  # rows by UTC day
        self._watched: set[int] = set()
        self._waiting: list[_Groups] = []
        self._oldest_day = 0
        self._size = 0

    @property
    def size(self) -> int:
        """Visits that are kept: one for each viewer, creator, kind and day."""
        self.take_up()
        return self._size

    def watch(self, creator_id: int) -> None:
        """Keep this creator's segments from now on; again and again is once."""
        with self._lock:
            if creator_id in self._watched:
                return
            self._watched.add(creator_id)
            for visit in _SEGMENT_OF:
                for day, rows in self._days.get((creator_id, visit), {}).items():
                    self._write(creator_id, visit, day, rows)

    def knows(self, creator_id: int) -> bool:
        """Whether anybody visited the creator lately."""
        self.take_up()
        return any((creator_id, visit) in self._days for visit in Visit)

    def put(
        self, visit: Visit, viewer_ids: np.ndarray, creator_ids: np.ndarray, at_ms: np.ndarray, now_ms: int
    ) -> None:
        """Take in visits (u8[n], u8[n], i8[n]) of one kind; those that are too old or to come count as of the nearest
        day that is not, or not at all."""
        today = now_ms // MS_PER_DAY
        days = np.minimum(np.asarray(at_ms, np.int64) // MS_PER_DAY, today)
        recent = days >= today - KEPT_DAYS
        if not recent.any():
            return
        rows = self._viewers.ensure(np.ascontiguousarray(viewer_ids[recent], np.uint64))
        told = np.zeros(len(rows), [("creator_id", "<u8"), ("day", "<i8")])
        told["creator_id"], told["day"] = creator_ids[recent], days[recent]
        keys, of = np.unique(told, return_inverse=True)
        order = np.argsort(of, kind="stable")
        groups = np.split(rows[order], np.cumsum(np.bincount(of))[:-1])
        with self._lock:
            self._forget_before(today - KEPT_DAYS)
            for (creator_id, day), group in zip(keys.tolist(), groups, strict=True):
                self._add(creator_id, visit, day, BitMap(np.unique(group).astype(np.uint32)))
            if self._size + sum(len(groups.viewer_ids) for groups in self._waiting) > MAX_VISITS:
                self._take_up()
            while self._size > MAX_VISITS:
                self._forget_oldest()

    def members(self, creator_id: int, visit: Visit, now_ms: int) -> BitMap:
        """Rows of the viewers who met the creator so, lately as of now."""
        oldest = now_ms // MS_PER_DAY - KEPT_DAYS
        with self._lock:
            if visit not in _SEGMENT_OF:
                self._take_up()
            days = self._days.get((creator_id, visit), {})
            return BitMap.union(BitMap(), *(rows for day, rows in days.items() if day >= oldest))

    def take_up(self) -> None:
        """Take in what waits since it was restored."""
        with self._lock:
            self._take_up()

    def state(self) -> dict[str, np.ndarray]:
        """Everything that is kept, as arrays: groups of viewers' ids."""
        with self._lock:
            self._take_up()
            groups = [(*key, day, rows_array(rows)) for key, days in self._days.items() for day, rows in days.items()]
        none = np.zeros(0, np.uint32)
        return {
            "creator_ids": np.array([group[0] for group in groups], np.uint64),
            "visits": np.array([group[1] for group in groups], np.uint8),
            "days": np.array([group[2] for group in groups], np.int64),
            "counts": np.array([len(group[3]) for group in groups], np.int64),
            "viewer_ids": self._viewers.ids[np.concatenate([none, *(group[3] for group in groups)])],
        }

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Take up what `state` gave, beside what is there.

        Raises:
            ValueError, KeyError: it is no such state.
        """
        groups = _Groups(**{field.name: np.array(state[field.name]) for field in fields(_Groups)})
        is_segment = np.isin(groups.visits, list(_SEGMENT_OF))
        with self._lock:
            self._waiting.append(groups.only(~is_segment))
            self._take_in(groups.only(is_segment))

    def _take_up(self) -> None:
        waiting, self._waiting = self._waiting, []
        for groups in waiting:
            self._take_in(groups.only(groups.days >= self._oldest_day))

    def _take_in(self, groups: _Groups) -> None:
        rows = self._viewers.ensure(groups.viewer_ids).astype(np.uint32)
        keys = zip(groups.creator_ids.tolist(), groups.visits.tolist(), groups.days.tolist(), strict=True)
        for (creator_id, visit, day), group in zip(keys, groups.split(rows), strict=True):
            self._add(creator_id, Visit(visit), day, BitMap(np.sort(group)))

    def _add(self, creator_id: int, visit: Visit, day: int, rows: BitMap) -> None:
        days = self._days.setdefault((creator_id, visit), {})
        fresh = rows - days.get(day, BitMap())
        if not fresh:
            return
        days[day] = days.get(day, BitMap()) | fresh
        self._size += len(fresh)
        if creator_id in self._watched and visit in _SEGMENT_OF:
            self._write(creator_id, visit, day, fresh)

    def _write(self, creator_id: int, visit: Visit, day: int, rows: BitMap) -> None:
        name = _SEGMENT_OF[visit](creator_id)
        self._segments.put_members(name, BitMap(rows), Change.ADD, (day + KEPT_DAYS + 1) * MS_PER_DAY)

    def _forget_before(self, day: int) -> None:
        if day <= self._oldest_day:
            return
        self._oldest_day = day
        for key, days in list(self._days.items()):
            for old in [d for d in days if d < day]:
                self._forget(key, old)

    def _forget_oldest(self) -> None:
        """Forget the oldest day of those reached, whom no audience asks for; if there are none, of everybody."""
        kept = [(visit is not Visit.REACHED, day) for (_, visit), days in self._days.items() for day in days]
        is_asked_for, oldest = min(kept)
        for key, days in list(self._days.items()):
            if (key[1] is not Visit.REACHED) is is_asked_for and oldest in days:
                self._forget(key, oldest)

    def _forget(self, key: tuple[int, Visit], day: int) -> None:
        self._size -= len(self._days[key].pop(day))
        if not self._days[key]:
            del self._days[key]
