"""Events in: what fans did on the platform, pulled by cursor and appended to the ledger as facts, each once."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Protocol

import numpy as np
import numpy.typing as npt

from fanbridge.delivery import Delivery, PendingAppend
from fanbridge.events import EVENT_KINDS, MAX_PULL_ROWS, FanServicePort, Rows
from fanbridge.feed import pull_page
from pacing.facts import OUTCOME, OutcomeKind

_log = logging.getLogger(__name__)
_LEDGER_SCAN_ROWS = 10_000


class FollowWriter(Protocol):
    """Where follows live."""

    def put(self, follower_ids: npt.NDArray[np.uint64], followed_ids: npt.NDArray[np.uint64]) -> object:
        """Add follows; known ones stay."""

    def remove(self, follower_ids: npt.NDArray[np.uint64], followed_ids: npt.NDArray[np.uint64]) -> object:
        """Remove follows; unknown ones are no error."""


class FactLog(Protocol):
    """The ledger, as far as facts go into it."""

    def append(self, rows: Rows) -> int:
        """Make OUTCOME[n] durable as one; answers the last row's sequence."""

    def read(self, after: int, limit: int) -> Rows:
        """Up to `limit` rows behind sequence `after`, in order."""


class EventFeed:
    """Appends what fans did on the platform to the ledger, each event once. One thread ticks.

    Follows and unfollows go to `follows` as well, when there is one.
    """

    def __init__(
        self,
        service: FanServicePort,
        delivery: Delivery,
        log: FactLog,
        follows: FollowWriter | None = None,
        limit: int = 2_000,
    ) -> None:
        if not 1 <= limit <= MAX_PULL_ROWS:
            raise ValueError(f"limit {limit}: must be 1..{MAX_PULL_ROWS}")
        self._service = service
        self._delivery = delivery
        self._log = log
        self._follows = follows
        self._limit = limit
        self._ledger_sequence = delivery.position()

    def tick(self, now_ms: int, max_pages: int = 4) -> int:
        """Pull and append what is new; answers how many facts were appended.

        Raises:
            FanServiceUnavailable, FanServiceRefused: what was pulled before is appended and saved.
        """
        appended = self._finish_pending()
        for _ in range(max_pages):
            page = pull_page(self._service.pull_events, self._delivery, "events", self._limit)
            events = page.rows[self._delivery.unseen_events(page.rows["event_id"]) & _known(page.rows)]
            if len(events):
                facts = facts_of(events, now_ms)
                pending = PendingAppend(page.next_cursor, self._ledger_sequence, facts, events["event_id"].copy())
                self._delivery.begin_append(pending)
                appended += self._append(pending, facts)
            elif len(page.rows):
                self._delivery.save_cursor("events", page.next_cursor)
            if len(page.rows) < self._limit:
                break
        return appended

    def _append(self, pending: PendingAppend, facts: Rows) -> int:
        """Append those facts of a page that the ledger does not hold yet, and finish the page."""
        if len(facts):
            self._ledger_sequence = self._log.append(facts)
        if self._follows is not None:
            write_follows(self._follows, pending.facts)
        self._delivery.finish_append(pending)
        return len(facts)

    def _finish_pending(self) -> int:
        """Finish the page during which an earlier run was cut off: the ledger itself tells how much of it arrived."""
        pending = self._delivery.pending_append()
        if pending is None:
            return 0
        there: Counter[tuple[int, ...]] = Counter()
        after = pending.after_sequence
        while len(rows := self._log.read(after, _LEDGER_SCAN_ROWS)):
            there.update(_identities(rows[rows["has_token"] == 0]))
            after = int(rows["sequence"][-1])
        self._ledger_sequence = after
        missing = np.ones(len(pending.facts), dtype=np.bool_)
        for i, identity in enumerate(_identities(pending.facts)):
            if there[identity]:
                there[identity] -= 1
                missing[i] = False
        return self._append(pending, pending.facts[missing])


def facts_of(events: Rows, now_ms: int) -> Rows:
    """FAN_EVENT[n] as OUTCOME[n] without tokens, recorded now."""
    facts = np.zeros(len(events), dtype=OUTCOME)
    for field in ("kind", "viewer_id", "creator_id", "occurred_at_ms"):
        facts[field] = events[field]
    facts["recorded_at_ms"] = now_ms
    return facts


def write_follows(follows: FollowWriter, facts: Rows) -> None:
    """Write the FOLLOW and UNFOLLOW rows among OUTCOME[n] into the graph; the last word on a pair counts."""
    told = facts[np.isin(facts["kind"], (OutcomeKind.FOLLOW, OutcomeKind.UNFOLLOW))]
    if not len(told):
        return
    _, last = np.unique(told[["viewer_id", "creator_id"]][::-1], return_index=True)
    told = told[np.sort(len(told) - 1 - last)]
    now_following = told["kind"] == OutcomeKind.FOLLOW
    for write, some in ((follows.put, told[now_following]), (follows.remove, told[~now_following])):
        if len(some):
            write(some["viewer_id"].copy(), some["creator_id"].copy())


def _known(events: Rows) -> npt.NDArray[np.bool_]:
    """Which events make sense as facts; what does not is passed over."""
    known: npt.NDArray[np.bool_] = (
        np.isin(events["kind"], sorted(EVENT_KINDS))
        & (events["viewer_id"] >= 1)
        & (events["creator_id"] >= 1)
        & (events["occurred_at_ms"] >= 1)
    )
    if not known.all():
        _log.warning("%d events make no sense and are passed over", int((~known).sum()))
    return known


def _identities(facts: Rows) -> list[tuple[int, ...]]:
    """What tells the facts of one page apart from all other rows."""
    fields = ("kind", "viewer_id", "creator_id", "occurred_at_ms", "recorded_at_ms")
    return list(zip(*(facts[field].tolist() for field in fields), strict=True))
