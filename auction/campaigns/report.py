"""What every campaign got for its money: figures per hour, per local day and in total, from the judged ledger.

Money counts in the hour and the budget day in which it was bid, as the budgets do; what viewers did counts when they
did it. Everything here can be rebuilt from the ledger; a snapshot only makes the restart fast.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from auction.campaigns.hours import HourTable
from auction.campaigns.model import Campaign
from auction.campaigns.store import NoSuchCampaign
from pacing.array_state import arrays_from, check_like
from pacing.clocks import MS_PER_HOUR
from pacing.days import local_day
from pacing.durable import whole_file
from pacing.facts import GOAL_OF_KIND, Goal, OutcomeKind, Verdict
from pacing.ledger.owners import OWN, Positions, qualified

MAX_HOURS = 744
"""Hours that a campaign's figures are kept by: 31 days."""
KEPT_DAYS = 3
"""Local days that are kept: late outcomes reach back into yesterday, and clocks may disagree about tomorrow."""
SNAPSHOT_VERSION = 2


class Figures(NamedTuple):
    """Figures of one campaign over some time; names and meanings of `fanbid.v1.Figures`."""

    impressions: int = 0
    spend_micros: int = 0
    clicks: int = 0
    plays: int = 0
    fans: int = 0
    profile_visits: int = 0
    product_clicks: int = 0
    unfollows: int = 0
    goal_events: int = 0
    live_visits: int = 0
    orders: int = 0
    planned_spend_micros: int = 0
    expected_goal_events: float = 0.0


COUNT_FIELDS = Figures._fields[:-1]
_COUNT = len(COUNT_FIELDS)
_COLUMN = {name: i for i, name in enumerate(COUNT_FIELDS)}
_COLUMN_OF_KIND = np.full(256, -1, np.int64)
for _kind, _field in {
    OutcomeKind.CLICK: "clicks",
    OutcomeKind.PLAY: "plays",
    OutcomeKind.FOLLOW: "fans",
    OutcomeKind.PROFILE_VISIT: "profile_visits",
    OutcomeKind.PRODUCT_CLICK: "product_clicks",
    OutcomeKind.UNFOLLOW: "unfollows",
    OutcomeKind.ORDER: "orders",
    OutcomeKind.LIVE_VISIT: "live_visits",
}.items():
    _COLUMN_OF_KIND[_kind] = _COLUMN[_field]
_GOAL_OF_KIND = np.zeros(256, np.int64)
for _kind, _goal in GOAL_OF_KIND.items():
    _GOAL_OF_KIND[_kind] = _goal


_COUNTED_VERDICTS = (Verdict.CHARGED, Verdict.OVER_DELIVERY, Verdict.ATTRIBUTED)


@dataclass(frozen=True, slots=True)
class BookedFigures:
    """One campaign's figures, all true at one row of the ledger.

    Attributes:
        true_at: of several servers, the row of each one's ledger, as qualified sequences, ascending; alone: none.
        hours: (start of the hour in ms, figures), oldest first, without empty hours.
        over_delivered_micros: served but not charged.
    """

    ledger_sequence: int
    true_at: list[int]
    total: Figures
    today: Figures
    hours: list[tuple[int, Figures]]
    over_delivered_micros: int


class _Book:
    """One campaign's figures."""

    def __init__(self, zone: str, goal: int) -> None:
        self.zone = zone
        self.goal = goal
        self.total = HourTable(1, _COUNT)
        self.days = HourTable(KEPT_DAYS, _COUNT)
        self.hours = HourTable(MAX_HOURS, _COUNT)
        self.over_delivered_micros = 0
        self.plan_day_key = 0
        self.plan_micros = 0

    def add(self, at_ms: np.ndarray, counts: np.ndarray, expected: np.ndarray) -> None:
        """Add rows that happened at `at_ms` i8[n]: counts i8[n, COUNT], expected f8[n]."""
        self.total.add(np.zeros(len(at_ms), np.int64), counts, expected)
        self.hours.add(at_ms // MS_PER_HOUR, counts, expected)
        self.days.add(self._day_keys(at_ms), counts, expected)

    def note_plan(self, planned_day_spend_micros: int, at_ms: int) -> bool:
        """Book what pacing planned since it was last noted; whether anything changed.

        A plan of less than before is passed over: a cut budget, or a restart that forgot something, lowers what is
        still to come and not what was meant up to now.
        """
        day_key = local_day(at_ms, self.zone).day_key
        before = self.planned_of(day_key)
        if day_key < self.plan_day_key or planned_day_spend_micros <= before:
            return False
        counts = np.zeros((1, _COUNT), np.int64)
        counts[0, _COLUMN["planned_spend_micros"]] = planned_day_spend_micros - before
        self.add(np.array([at_ms], np.int64), counts, np.zeros(1))
        self.plan_day_key, self.plan_micros = day_key, planned_day_spend_micros
        return True

    def planned_of(self, day_key: int) -> int:
        """What was noted last of this local day; 0 of any other."""
        return self.plan_micros if day_key == self.plan_day_key else 0

    def _day_keys(self, at_ms: np.ndarray) -> np.ndarray:
        keys = np.empty(len(at_ms), np.int64)
        open_rows = np.ones(len(at_ms), bool)
        while open_rows.any():
            day = local_day(int(at_ms[open_rows.argmax()]), self.zone)
            inside = (at_ms >= day.start_at_ms) & (at_ms < day.end_at_ms)
            keys[inside] = day.day_key
            open_rows &= ~inside
        return keys


class ReportBook:
    """Follows the judged ledger. Any thread may call every method; `follow` is called in ledger order."""

    def __init__(self, campaign_of: Callable[[int], Campaign], owner_id: int = OWN) -> None:
        """Start empty, before the ledger's first row.

        Args:
            campaign_of: looks a campaign up; raises NoSuchCampaign. Only zone and goal are used, which never change.
            owner_id: of this server's ledger; OWN where it is the only one.
        """
        self._campaign_of = campaign_of
        self._owner_id = owner_id
        self._books: dict[int, _Book] = {}
        self._positions = Positions()
        self._revision = 0
        self._changed = threading.Condition()

    @property
    def ledger_sequence(self) -> int:
        """The last row of this server's own ledger that was followed."""
        return self._positions[OWN]

    @property
    def positions(self) -> Positions:
        """Up to where each ledger was followed; where to go on from."""
        return self._positions

    def follow(self, rows: np.ndarray, judgements: np.ndarray) -> None:
        """Count judged rows; those that were counted before are passed over.

        Args:
            rows: OUTCOME[n], those of one ledger in its order; of another owner's with qualified sequences.
            judgements: JUDGEMENT[n], one for each row.

        Raises:
            ValueError: the two differ in length or sequence.
        """
        if len(rows) != len(judgements) or not np.array_equal(rows["sequence"], judgements["sequence"]):
            raise ValueError(f"judgements: {len(judgements)} for {len(rows)} rows, or of other rows")
        with self._changed:
            fresh = self._positions.fresh(rows["sequence"])
            if not fresh.any():
                return
            self._count(rows[fresh], judgements[fresh])
            self._positions.advance(rows["sequence"])
            self._announce()

    def unknown_campaigns(self, rows: np.ndarray, judgements: np.ndarray) -> set[int]:
        """Campaigns of judged rows that cannot be booked, since nobody here knows them."""
        with self._changed:
            counted = np.isin(judgements["verdict"], _COUNTED_VERDICTS)
            ids = np.unique(_campaigns_of(rows, judgements)[counted]).tolist()
            return {campaign_id for campaign_id in ids if self._book_of(campaign_id) is None}

    def caught_up(self, judged_sequence: int) -> None:
        """Note that every outcome up to this row was followed: the ledger's own rows behind the last one count too."""
        with self._changed:
            if judged_sequence > self._positions[OWN]:
                self._positions[OWN] = judged_sequence
                self._announce()

    def note_plan(self, campaign_ids: np.ndarray, planned_day_spend_micros: np.ndarray, at_ms: int) -> None:
        """Book what pacing means to have spent by now of each campaign's local day.

        Args:
            campaign_ids: u8[n].
            planned_day_spend_micros: i8[n], since the local day's start.
        """
        with self._changed:
            changed = False
            planning = planned_day_spend_micros > 0  # a book that says nothing is not opened
            told = zip(campaign_ids[planning].tolist(), planned_day_spend_micros[planning].tolist(), strict=True)
            for campaign_id, planned in told:
                book = self._book_of(campaign_id)
                changed |= book is not None and book.note_plan(planned, at_ms)
            if changed:
                self._announce()

    def planned_micros(self, campaign_id: int, day_key: int) -> int:
        """What was last noted of a campaign's plan for its present local day; 0 where nothing was."""
        with self._changed:
            book = self._books.get(campaign_id)
            return 0 if book is None else book.planned_of(day_key)

    def figures(self, campaign_id: int, now_ms: int, hours: int) -> BookedFigures:
        """One campaign's figures; zeros if the ledger knows nothing of it.

        Args:
            now_ms: decides which local day is today, and which hours are past.
            hours: how many past hours to list, the present one included.

        Raises:
            NoSuchCampaign: neither the ledger nor the campaigns know it.
        """
        with self._changed:
            book = self._book_of(campaign_id)
            if book is None:
                raise NoSuchCampaign(campaign_id)
            today = local_day(now_ms, book.zone).day_key
            now_hour = now_ms // MS_PER_HOUR
            return BookedFigures(
                ledger_sequence=self._positions[OWN],
                true_at=self._true_at(),
                total=_figures(book.total, 0),
                today=_figures(book.days, today),
                hours=[
                    (hour * MS_PER_HOUR, _figures(book.hours, hour))
                    for hour in book.hours.keys_from(now_hour - hours + 1)
                    if hour <= now_hour
                ],
                over_delivered_micros=book.over_delivered_micros,
            )

    def _true_at(self) -> list[int]:
        if not self._owner_id:
            return []
        return [qualified(*place) for place in self._positions.named(self._owner_id).items()]

    def wait_for_change(self, revision: int, timeout_s: float) -> int:
        """Wait until anything changed after `revision`, at most `timeout_s`; answers with the present revision."""
        with self._changed:
            self._changed.wait_for(lambda: self._revision != revision, timeout_s)
            return self._revision

    def announce_change(self) -> None:
        """Wake who waits: something outside the ledger changed, such as a campaign's status."""
        with self._changed:
            self._announce()

    def snapshot(self) -> bytes:
        """Everything as bytes, for `restore`."""
        out = io.BytesIO()
        np.savez(out, **self._arrays())
        return out.getvalue()

    def _arrays(self) -> dict[str, Any]:
        with self._changed:
            arrays: dict[str, Any] = {"version": SNAPSHOT_VERSION, "positions": self._positions.packed()}
            ids = list(self._books)
            books = list(self._books.values())
            arrays["campaign_ids"] = np.array(ids, np.uint64)
            arrays["scalars"] = np.array(
                [[b.goal, b.over_delivered_micros, b.plan_day_key, b.plan_micros] for b in books], np.int64
            ).reshape(-1, 4)
            arrays["zones"] = np.array([b.zone for b in books], np.str_)
            for name in ("total", "days", "hours"):
                arrays |= HourTable.pack([getattr(b, name) for b in books], _COUNT, f"{name}_")
        return {name: np.asarray(values) for name, values in arrays.items()}

    def restore(self, raw: bytes) -> None:
        """Become what `snapshot` saw.

        Raises:
            ValueError: these are no such bytes; nothing changed.
        """
        try:
            arrays = arrays_from(raw)
            check_like(arrays, ReportBook(self._campaign_of)._arrays())
            books, positions = _books_from(arrays), Positions.unpacked(arrays["positions"])
        except (ValueError, OverflowError) as error:
            raise ValueError(f"report snapshot: {len(raw)} bytes that are none ({error})") from None
        with self._changed:
            self._books, self._positions = books, positions
            self._announce()

    def save(self, path: Path) -> None:
        """Write a snapshot to `path`, whole or not at all."""
        with whole_file(path) as file:
            file.write(self.snapshot())

    def load(self, path: Path) -> bool:
        """Restore what `save` wrote; False, and unchanged, when there is nothing there that can be read."""
        try:
            self.restore(path.read_bytes())
        except (OSError, ValueError):
            return False
        return True

    def _announce(self) -> None:
        self._revision += 1
        self._changed.notify_all()

    def _book_of(self, campaign_id: int) -> _Book | None:
        book = self._books.get(campaign_id)
        if book is None:
            try:
                campaign = self._campaign_of(campaign_id)
            except NoSuchCampaign:
                return None
            book = self._books[campaign_id] = _Book(campaign.zone, int(campaign.goal))
        return book

    def _count(self, rows: np.ndarray, judgements: np.ndarray) -> None:
        billable = rows["kind"] == OutcomeKind.BILLABLE
        charged = billable & (judgements["verdict"] == Verdict.CHARGED)
        over_delivered = billable & (judgements["verdict"] == Verdict.OVER_DELIVERY)
        column = _COLUMN_OF_KIND[rows["kind"]]
        event = (judgements["verdict"] == Verdict.ATTRIBUTED) & (column >= 0)
        taken = np.flatnonzero(charged | over_delivered | event)
        if not len(taken):
            return
        campaign_ids = _campaigns_of(rows, judgements)[taken]
        at_ms = _instants(rows, billable)[taken]
        counts = np.zeros((len(taken), _COUNT), np.int64)
        counts[charged[taken], _COLUMN["impressions"]] = 1
        counts[:, _COLUMN["spend_micros"]] = np.where(charged, rows["price_micros"], 0)[taken]
        events = np.flatnonzero(event[taken])
        counts[events, column[taken][events]] = 1
        goals = np.where(event, _GOAL_OF_KIND[rows["kind"]], 0)[taken]
        expected = np.where(charged, rows["decision"]["probability"], 0.0)[taken].astype(np.float64)
        lost_micros = np.where(over_delivered, rows["price_micros"], 0)[taken]
        order = np.argsort(campaign_ids, kind="stable")
        starts = np.flatnonzero(np.diff(campaign_ids[order], prepend=~campaign_ids[order[:1]]))
        for group in np.split(order, starts[1:]):
            book = self._book_of(int(campaign_ids[group[0]]))
            if book is not None:
                event_goal = Goal.FANS if book.goal == Goal.KEPT_FANS else book.goal
                counts[group, _COLUMN["goal_events"]] = goals[group] == event_goal
                book.add(at_ms[group], counts[group], expected[group])
                book.over_delivered_micros += int(lost_micros[group].sum())


def _campaigns_of(rows: np.ndarray, judgements: np.ndarray) -> np.ndarray:
    """u8[n]: whose budget was asked, or to whom an event counts."""
    return np.where(judgements["campaign_id"] != 0, judgements["campaign_id"], rows["decision"]["campaign_id"])


def _instants(rows: np.ndarray, billable: np.ndarray) -> np.ndarray:
    """i8[n]: money when it was bid, the rest when it happened, but no later than it was recorded."""
    at_ms = np.where(billable, rows["decision"]["issued_at_ms"], rows["occurred_at_ms"])
    recorded = rows["recorded_at_ms"]
    return np.where((recorded > 0) & (at_ms > recorded), recorded, at_ms)


def _figures(table: HourTable, key: int) -> Figures:
    counts, expected = table.get(key)
    return Figures._make([*counts.tolist(), expected])


def _books_from(arrays: Any) -> dict[int, _Book]:
    if int(arrays["version"]) != SNAPSHOT_VERSION:
        raise ValueError(f"version {int(arrays['version'])}, not {SNAPSHOT_VERSION}")
    ids = arrays["campaign_ids"].tolist()
    if not len(ids) == len(arrays["scalars"]) == len(arrays["zones"]):
        raise ValueError(f"{len(ids)} campaign_ids, {len(arrays['scalars'])} scalars, {len(arrays['zones'])} zones")
    tables = {
        name: HourTable.unpack(arrays, capacity, _COUNT, f"{name}_", len(ids))
        for name, capacity in (("total", 1), ("days", KEPT_DAYS), ("hours", MAX_HOURS))
    }
    books: dict[int, _Book] = {}
    scalars, zones = arrays["scalars"].tolist(), arrays["zones"].tolist()
    for i, campaign_id in enumerate(ids):
        goal, over_delivered, plan_day_key, plan_micros = scalars[i]
        book = _Book(zones[i], Goal(goal))
        book.total, book.days, book.hours = tables["total"][i], tables["days"][i], tables["hours"][i]
        book.over_delivered_micros, book.plan_day_key, book.plan_micros = over_delivered, plan_day_key, plan_micros
        books[campaign_id] = book
    return books
