"""Which audience an impression was bought for: the memberships by which its viewer belongs to the campaign's audience.

Neither token nor ledger keeps it, so it is told from what campaigns and segments are when outcomes are handed over,
seconds after they were judged. A viewer who follows leaves audiences such as the friends of fans; what a conversion is
told with is therefore what its impression was told with, as long as that is remembered.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import numpy as np

from pacing.facts import OutcomeKind
from targeting.expressions import INTEREST_PREFIX, Clause
from targeting.segments.store import SegmentStore
from targeting.viewers import ViewerTable

MAX_AUDIENCE_CHARACTERS = 200
"""Of all names together, with commas between; names that would not fit are left out."""
REMEMBERED = 200_000
"""Impressions whose audience is remembered for what they lead to; the oldest is forgotten first."""

ClausesOf = Callable[[int], Sequence[Clause]]
"""The alternatives of a campaign's audience; none of a campaign that is not known."""


class MatchedAudiences:
    """Names audiences. Any thread may call."""

    def __init__(self, clauses_of: ClausesOf, viewers: ViewerTable, segments: SegmentStore) -> None:
        self._clauses_of = clauses_of
        self._viewers = viewers
        self._segments = segments
        self._told: dict[tuple[int, int], str] = {}
        self._lock = threading.Lock()

    def names(self, outcomes: np.ndarray) -> list[str]:
        """For each of FAN_OUTCOME[n] the segments and interests (`interest:K`) that made its viewer part of the
        campaign's audience, with commas between; empty: attributes alone did, or nothing does any more."""
        rows = self._viewers.rows_of(np.ascontiguousarray(outcomes["viewer_id"]))
        columns = (outcomes[name].tolist() for name in ("campaign_id", "kind", "lease_id", "hold_seq"))
        with self._lock:
            return [self._name(row, *columns) for row, *columns in zip(rows.tolist(), *columns, strict=True)]

    def _name(self, row: int, campaign_id: int, kind: int, lease_id: int, hold_seq: int) -> str:
        key = (lease_id, hold_seq)
        if kind != OutcomeKind.BILLABLE and key in self._told:
            return self._told[key]
        name = self._matched(row, self._clauses_of(campaign_id)) if row >= 0 else ""
        if kind == OutcomeKind.BILLABLE and name:
            self._told[key] = name
            while len(self._told) > REMEMBERED:
                del self._told[next(iter(self._told))]
        return name

    def _matched(self, row: int, clauses: Sequence[Clause]) -> str:
        """Of the first alternative all of whose groups hold the viewer: a membership of each group."""
        for clause in clauses:
            found = [next((name for name in sorted(group) if self._holds(name, row)), None) for group in clause.groups]
            if found and None not in found:
                return _joined([name for name in found if name is not None])
        return ""

    def _holds(self, name: str, row: int) -> bool:
        if name.startswith(INTEREST_PREFIX):
            code = int(name.removeprefix(INTEREST_PREFIX))
            return bool(int(self._viewers.interest_masks[row]) >> code & 1)
        return row in self._segments.members(name)


def _joined(names: Sequence[str]) -> str:
    text = ""
    for name in dict.fromkeys(names):
        longer = f"{text},{name}" if text else name
        if len(longer) <= MAX_AUDIENCE_CHARACTERS:
            text = longer
    return text
