"""Tiers and stages in: pulled by cursor, turned into segments for targeting."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
import numpy.typing as npt

from fanbridge.delivery import Delivery
from fanbridge.events import (
    MAX_PULL_ROWS,
    STAGE_NAMES,
    TIER_NAMES,
    FanServicePort,
    FanServiceRefused,
    Page,
    Rows,
    Stage,
    Tier,
    stage_segment,
    tier_segment,
)
from targeting.segments.store import Change

OnTiers = Callable[[Rows], object]
"""Called with FAN_CHANGE[n] as they were pulled, oldest first. Rows may come again, with the same instants."""

_log = logging.getLogger(__name__)
_PREFIXES = ("tier:", "stage:")


class SegmentWriter(Protocol):
    """Where segments live."""

    @property
    def names(self) -> list[str]:
        """Names of the segments that there are."""

    def put(self, name: str, rows: npt.NDArray[np.int64], change: Change) -> object:
        """Replace the members of a segment, add some, or remove some."""


class ViewerRows(Protocol):
    """Who knows the dense row of each viewer."""

    def ensure(self, ids: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        """The row of each viewer, made where it is unknown."""


def pull_page(pull: Callable[[str, int], Page], delivery: Delivery, stream: str, limit: int) -> Page:
    """The next page of a stream. A cursor that the service no longer takes is given up: the stream starts over.

    Raises:
        FanServiceUnavailable: try again later.
        FanServiceRefused: the service refuses even the beginning.
    """
    cursor = delivery.cursor(stream)
    try:
        return pull(cursor, limit)
    except FanServiceRefused as refused:
        if not cursor:
            raise
        _log.warning("%s start over from the beginning: %s", stream, refused)
        delivery.save_cursor(stream, "")
        return pull("", limit)


def pull_pages(
    pull: Callable[[str, int], Page], delivery: Delivery, stream: str, limit: int, max_pages: int
) -> Iterator[Page]:
    """Pages of a stream with rows, up to the last one that there is now. Who takes a page saves the cursor behind it
    before asking for the next.

    Raises:
        FanServiceUnavailable, FanServiceRefused: as `pull_page`.
    """
    for _ in range(max_pages):
        page = pull_page(pull, delivery, stream, limit)
        if len(page.rows):
            yield page
        if len(page.rows) < limit:
            return


def checked_limit(limit: int) -> int:
    """How many rows to pull at a time.

    Raises:
        ValueError: so many are never told at a time.
    """
    if not 1 <= limit <= MAX_PULL_ROWS:
        raise ValueError(f"limit {limit}: must be 1..{MAX_PULL_ROWS}")
    return limit


class TierFeed:
    """Keeps segments `tier:<name>:<creator>` and `stage:<name>:<creator>` as the fan service says. One thread ticks."""

    def __init__(
        self,
        service: FanServicePort,
        delivery: Delivery,
        viewers: ViewerRows,
        segments: SegmentWriter,
        limit: int = 5_000,
        on_tiers: OnTiers | None = None,
    ) -> None:
        self._service = service
        self._delivery = delivery
        self._viewers = viewers
        self._segments = segments
        self._limit = checked_limit(limit)
        self._on_tiers = on_tiers
        self._segments_hold_saved = False
        self._applied = 0

    @property
    def applied(self) -> int:
        """How many changes were applied since construction."""
        return self._applied

    def tick(self, max_pages: int = 4) -> None:
        """Pull and apply what changed, within bounds.

        Raises:
            FanServiceUnavailable, FanServiceRefused: what was pulled before is applied and saved.
        """
        if not self._segments_hold_saved:
            self.restore()
        for page in pull_pages(self._service.pull_tiers, self._delivery, "tiers", self._limit, max_pages):
            if self._on_tiers is not None:
                self._on_tiers(page.rows)
            self._apply(page)
            self._applied += len(page.rows)

    def tell_again(self) -> None:
        """Hand on once more who rose lately: who hears of it may have forgotten it in a crash."""
        rows = self._delivery.latest_risen()
        if self._on_tiers is not None and len(rows):
            self._on_tiers(rows)

    def restore(self) -> int:
        """Write every segment from what is saved, without asking the service; answers how many fans there are."""
        fans = self._delivery.fans()
        rows = self._viewers.ensure(fans["viewer_id"])
        wanted = dict.fromkeys((name for name in self._segments.names if name.startswith(_PREFIXES)), rows[:0])
        for creator_id, members in _by_creator(fans):
            for field, code, name in _segments_of(creator_id):
                inside = rows[members][fans[field][members] == code]
                if len(inside):
                    wanted[name] = inside
        for name, inside in wanted.items():
            self._segments.put(name, inside, Change.REPLACE)
        self._segments_hold_saved = True
        return len(fans)

    def _apply(self, page: Page) -> None:
        changes = latest_changes(page.rows)
        # Saved first: should anything fail before the last segment is written, all are rewritten from what is saved.
        self._segments_hold_saved = False
        before = self._delivery.swap_fans(changes, page.next_cursor)
        rows = self._viewers.ensure(changes["viewer_id"])
        for creator_id, members in _by_creator(changes):
            for field, code, name in _segments_of(creator_id):
                was_in, is_in = before[field][members] == code, changes[field][members] == code
                self._write(name, rows[members][was_in & ~is_in], Change.REMOVE)
                self._write(name, rows[members][is_in & ~was_in], Change.ADD)
        self._segments_hold_saved = True

    def _write(self, name: str, rows: npt.NDArray[np.int64], change: Change) -> None:
        if len(rows):
            self._segments.put(name, rows, change)


def latest_changes(changes: Rows) -> Rows:
    """FAN_CHANGE rows with each fan once, at its last change, in order; codes that are not known count as none."""
    keys = changes[["viewer_id", "creator_id"]][::-1]
    _, last = np.unique(keys, return_index=True)
    latest = changes[np.sort(len(changes) - 1 - last)]
    latest["tier"] = np.where(latest["tier"] <= max(Tier), latest["tier"], Tier.UNSPECIFIED)
    latest["stage"] = np.where(latest["stage"] <= max(Stage), latest["stage"], Stage.UNSPECIFIED)
    return latest


def _segments_of(creator_id: int) -> list[tuple[str, int, str]]:
    """(field of FAN_CHANGE, code, segment name) of each of a creator's segments."""
    tiers = [("tier", int(tier), tier_segment(tier, creator_id)) for tier in TIER_NAMES]
    return tiers + [("stage", int(stage), stage_segment(stage, creator_id)) for stage in STAGE_NAMES]


def _by_creator(fans: Rows) -> list[tuple[int, npt.NDArray[np.int64]]]:
    """(creator_id, indices of that creator's rows), by creator."""
    order = np.argsort(fans["creator_id"], kind="stable")
    creators, starts = np.unique(fans["creator_id"][order], return_index=True)
    return list(zip(creators.tolist(), np.split(order, starts[1:]), strict=True)) if len(creators) else []
