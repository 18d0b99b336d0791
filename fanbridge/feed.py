"""Tiers and stages in: pulled by cursor, turned into segments for targeting."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Any, Protocol

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

_log = logging.getLogger(__name__)


class SegmentChange(IntEnum):
    """What `SegmentWriter.put` does with the rows; numbers of `protos/audience.proto`."""

    REPLACE = 1
    ADD = 2
    REMOVE = 3


class SegmentWriter(Protocol):
    """Where segments live."""

    def put(self, name: str, rows: npt.NDArray[np.int64], change: int) -> object:
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


class TierFeed:
    """Keeps segments `tier:<name>:<creator>` and `stage:<name>:<creator>` as the fan service says. One thread ticks."""

    def __init__(
        self,
        service: FanServicePort,
        delivery: Delivery,
        viewers: ViewerRows,
        segments: SegmentWriter,
        limit: int = 5_000,
    ) -> None:
        if not 1 <= limit <= MAX_PULL_ROWS:
            raise ValueError(f"limit {limit}: must be 1..{MAX_PULL_ROWS}")
        self._service = service
        self._delivery = delivery
        self._viewers = viewers
        self._segments = segments
        self._limit = limit
        self._segments_hold_saved = False

    def tick(self, max_pages: int = 4) -> int:
        """Pull and apply what changed; answers how many changes.

        Raises:
            FanServiceUnavailable, FanServiceRefused: what was pulled before is applied and saved.
        """
        if not self._segments_hold_saved:
            self.restore()
        applied = 0
        for _ in range(max_pages):
            page = pull_page(self._service.pull_tiers, self._delivery, "tiers", self._limit)
            if len(page.rows):
                self._apply(page)
                applied += len(page.rows)
            if len(page.rows) < self._limit:
                break
        return applied

    def restore(self) -> int:
        """Write every segment from what is saved, without asking the service; answers how many fans there are."""
        fans = self._delivery.fans()
        rows = self._viewers.ensure(fans["viewer_id"])
        for creator_id, members in _by_creator(fans):
            tiers, stages = fans["tier"][members], fans["stage"][members]
            for tier in TIER_NAMES:
                self._put(tier_segment(tier, creator_id), rows[members][tiers == tier], SegmentChange.REPLACE)
            for stage in STAGE_NAMES:
                self._put(stage_segment(stage, creator_id), rows[members][stages == stage], SegmentChange.REPLACE)
        self._segments_hold_saved = True
        return len(fans)

    def _apply(self, page: Page) -> None:
        changes = latest_changes(page.rows)
        # Saved first: should anything fail before the last segment is written, all are rewritten from what is saved.
        self._segments_hold_saved = False
        before = self._delivery.swap_fans(changes, page.next_cursor)
        rows = self._viewers.ensure(changes["viewer_id"])
        for creator_id, members in _by_creator(changes):
            self._move(
                {tier: tier_segment(tier, creator_id) for tier in TIER_NAMES},
                rows[members],
                before["tier"][members],
                changes["tier"][members],
            )
            self._move(
                {stage: stage_segment(stage, creator_id) for stage in STAGE_NAMES},
                rows[members],
                before["stage"][members],
                changes["stage"][members],
            )
        self._segments_hold_saved = True

    def _move(
        self,
        names: Mapping[Any, str],
        rows: npt.NDArray[np.int64],
        before: npt.NDArray[np.uint32],
        now: npt.NDArray[np.uint32],
    ) -> None:
        """Take viewers out of the segment that each was in, and put them into the one that each is in now."""
        for code, name in names.items():
            left, joined = rows[(before == code) & (now != code)], rows[(now == code) & (before != code)]
            if len(left):
                self._put(name, left, SegmentChange.REMOVE)
            if len(joined):
                self._put(name, joined, SegmentChange.ADD)

    def _put(self, name: str, rows: npt.NDArray[np.int64], change: SegmentChange) -> None:
        self._segments.put(name, rows, change)


def latest_changes(changes: Rows) -> Rows:
    """FAN_CHANGE rows with each fan once, at its last change, in order; codes that are not known count as none."""
    keys = changes[["viewer_id", "creator_id"]][::-1]
    _, last = np.unique(keys, return_index=True)
    latest = changes[np.sort(len(changes) - 1 - last)]
    latest["tier"] = np.where(latest["tier"] <= max(Tier), latest["tier"], Tier.UNSPECIFIED)
    latest["stage"] = np.where(latest["stage"] <= max(Stage), latest["stage"], Stage.UNSPECIFIED)
    return latest


def _by_creator(fans: Rows) -> list[tuple[int, npt.NDArray[np.int64]]]:
    """(creator_id, indices of that creator's rows), by creator."""
    order = np.argsort(fans["creator_id"], kind="stable")
    creators, starts = np.unique(fans["creator_id"][order], return_index=True)
    return list(zip(creators.tolist(), np.split(order, starts[1:]), strict=True)) if len(creators) else []
