"""What the reference fan service remembers, in one SQLite file: events, outcomes, fans, and three logs to pull from.

Each push is one transaction that is durable before it is answered. An event is taken once per event id, an outcome once
per (lease_id, hold_seq, kind). What they tell of a fan is a *fact* (viewer, creator, kind, instant), counted once even
when an event and an outcome both tell it.
"""

from __future__ import annotations

import secrets
import sqlite3
import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fanbridge.events import FAN_CHANGE, FAN_EVENT, RETENTION, Rows, Stage, Tier
from fanbridge.service.fans import Fan, FanRules, Happening, Kept, apply_event, catch_up
from fanbridge.service.lifecycle import FanDates
from fanbridge.service.row_order import in_order
from fanbridge.service.tally import Tally
from fanbridge.service.tiering import Engagement
from pacing.durable import transaction
from pacing.facts import OutcomeKind, RowStatus

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, number INTEGER, text TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, event_id INTEGER NOT NULL UNIQUE,
    viewer_id INTEGER NOT NULL, creator_id INTEGER NOT NULL, kind INTEGER NOT NULL, occurred_at_ms INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS outcomes (
    lease_id INTEGER NOT NULL, hold_seq INTEGER NOT NULL, kind INTEGER NOT NULL,
    viewer_id INTEGER NOT NULL, creator_id INTEGER NOT NULL, campaign_id INTEGER NOT NULL, creative_id INTEGER NOT NULL,
    price_micros INTEGER NOT NULL, occurred_at_ms INTEGER NOT NULL, ledger_sequence INTEGER NOT NULL,
    audience TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (lease_id, hold_seq, kind)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS facts (
    viewer_id INTEGER NOT NULL, creator_id INTEGER NOT NULL, kind INTEGER NOT NULL, occurred_at_ms INTEGER NOT NULL,
    PRIMARY KEY (viewer_id, creator_id, kind, occurred_at_ms)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS fans (
    viewer_id INTEGER NOT NULL, creator_id INTEGER NOT NULL,
    points REAL NOT NULL, support REAL NOT NULL, engagement_at_ms INTEGER NOT NULL,
    followed_at_ms INTEGER NOT NULL, unfollowed_at_ms INTEGER NOT NULL,
    engaged_at_ms INTEGER NOT NULL, active_at_ms INTEGER NOT NULL,
    gained_at_ms INTEGER NOT NULL, retention_step INTEGER NOT NULL,
    tier INTEGER NOT NULL, stage INTEGER NOT NULL, review_at_ms INTEGER NOT NULL,
    change_seq INTEGER NOT NULL, changed_at_ms INTEGER NOT NULL,
    PRIMARY KEY (viewer_id, creator_id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS fans_by_change ON fans (change_seq);
CREATE INDEX IF NOT EXISTS fans_by_review ON fans (review_at_ms);
CREATE TABLE IF NOT EXISTS transitions (
    creator_id INTEGER NOT NULL, day INTEGER NOT NULL, from_stage INTEGER NOT NULL, to_stage INTEGER NOT NULL,
    fans INTEGER NOT NULL, PRIMARY KEY (creator_id, day, from_stage, to_stage)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tier_steps (
    creator_id INTEGER NOT NULL, day INTEGER NOT NULL, from_tier INTEGER NOT NULL, to_tier INTEGER NOT NULL,
    fans INTEGER NOT NULL, PRIMARY KEY (creator_id, day, from_tier, to_tier)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS kind_days (
    creator_id INTEGER NOT NULL, day INTEGER NOT NULL, kind INTEGER NOT NULL, facts INTEGER NOT NULL,
    PRIMARY KEY (creator_id, day, kind)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS creator_days (
    creator_id INTEGER NOT NULL, day INTEGER NOT NULL, stirred INTEGER NOT NULL, spend_micros INTEGER NOT NULL,
    fans_bought INTEGER NOT NULL, PRIMARY KEY (creator_id, day)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS creatives (
    creator_id INTEGER NOT NULL, creative_id INTEGER NOT NULL, fans_bought INTEGER NOT NULL,
    PRIMARY KEY (creator_id, creative_id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS retention (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, viewer_id INTEGER NOT NULL, creator_id INTEGER NOT NULL,
    days INTEGER NOT NULL, kept INTEGER NOT NULL, judged_at_ms INTEGER NOT NULL
);
"""
FOLLOW_KINDS_SQL = f"({int(OutcomeKind.FOLLOW)}, {int(OutcomeKind.UNFOLLOW)})"
_INDEXES = f"""
CREATE INDEX IF NOT EXISTS follow_facts ON facts (creator_id, occurred_at_ms) WHERE kind IN {FOLLOW_KINDS_SQL};
CREATE INDEX IF NOT EXISTS bought_follows ON outcomes (creator_id, viewer_id, occurred_at_ms, campaign_id)
    WHERE kind = {int(OutcomeKind.FOLLOW)};
"""
FAN_COLUMNS = (
    "points, support, engagement_at_ms, followed_at_ms, unfollowed_at_ms, engaged_at_ms, active_at_ms, "
    "gained_at_ms, retention_step, tier, stage, review_at_ms, change_seq, changed_at_ms"
)
_REVIEW_BATCH = 2_000

FanKey = tuple[int, int]
"""(viewer_id, creator_id), as the signed numbers that SQLite keeps."""


class FanStore:
    """The memory of a fan service, in `path`, or in main memory when that is None.

    Any thread may call any method; calls run one after the other. Rows that come in must be valid (see `validation`).
    """

    def __init__(self, path: Path | None, rules: FanRules) -> None:
        self._rules = rules
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path or ":memory:", check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.executescript(_SCHEMA + _INDEXES)
        self._count_what_was_before()
        self._add_audience()
        self._db.execute("INSERT OR IGNORE INTO meta VALUES ('generation', 0, ?)", (secrets.token_hex(4),))
        self._db.execute("INSERT OR IGNORE INTO meta VALUES ('newest_at_ms', 0, NULL), ('change_seq', 0, NULL)")
        self._generation: str = self._meta("text", "generation")
        self._newest_at_ms: int = self._meta("number", "newest_at_ms")
        self._change_seq: int = self._meta("number", "change_seq")

    @property
    def generation(self) -> str:
        """Names this store for good; another file, even in the same place, has another."""
        return self._generation

    @property
    def newest_at_ms(self) -> int:
        """The latest instant that any accepted event or outcome carries; 0 before the first."""
        return self._newest_at_ms

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def push_events(self, events: Rows, now_ms: int) -> npt.NDArray[np.uint8]:
        """Take FAN_EVENT[n]; answers u1[n]: ACCEPTED, or DUPLICATE for an event id that came before.

        Fans are moved by the rows in order of time, whatever their places.
        """
        insert = (
            "INSERT OR IGNORE INTO events (event_id, viewer_id, creator_id, kind, occurred_at_ms) "
            "VALUES (?, ?, ?, ?, ?)"
        )
        return self._push(events, insert, now_ms)

    def push_outcomes(self, outcomes: Rows, now_ms: int, audiences: Sequence[str] = ()) -> npt.NDArray[np.uint8]:
        """Take FAN_OUTCOME[n], with n audiences or none; answers u1[n]: ACCEPTED, or DUPLICATE for a key that came
        before."""
        insert = (
            "INSERT OR IGNORE INTO outcomes (lease_id, hold_seq, kind, viewer_id, creator_id, campaign_id, "
            "creative_id, price_micros, occurred_at_ms, ledger_sequence, audience) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        )
        return self._push(outcomes, insert, now_ms, [(audience,) for audience in audiences or [""] * len(outcomes)])

    def review(self, now_ms: int) -> int:
        """Let time pass: move every fan whose review is due; answers how many were looked at."""
        looked_at = 0
        while True:
            with self._lock, transaction(self._db):
                due = self._db.execute(
                    f"SELECT viewer_id, creator_id, {FAN_COLUMNS} FROM fans WHERE review_at_ms <= ? "
                    "ORDER BY review_at_ms, viewer_id, creator_id LIMIT ?",
                    (now_ms, _REVIEW_BATCH),
                ).fetchall()
                if not due:
                    return looked_at
                kept_fans = {(row[0], row[1]): _StoredFan(row[2:]) for row in due}
                tally = Tally(self._rules.lifecycle.day_ms)
                for key, stored in kept_fans.items():
                    stored.fan, happened = catch_up(stored.fan, now_ms, self._rules)
                    self._note(key, happened, tally)
                self._save(kept_fans, tally, now_ms)
            looked_at += len(due)

    def pull_tiers(self, after: int, limit: int) -> tuple[Rows, int]:
        """Up to `limit` FAN_CHANGE rows after position `after`, oldest first, and the position they lead to.

        A fan appears once, at its latest change.
        """
        return self._pull(
            "SELECT change_seq, viewer_id, creator_id, tier, stage, changed_at_ms FROM fans "
            "WHERE change_seq > ? ORDER BY change_seq LIMIT ?",
            FAN_CHANGE,
            after,
            limit,
        )

    def pull_events(self, after: int, limit: int) -> tuple[Rows, int]:
        """Up to `limit` FAN_EVENT rows after position `after`, as they came, and the position they lead to."""
        return self._pull(
            "SELECT seq, event_id, viewer_id, creator_id, kind, occurred_at_ms FROM events "
            "WHERE seq > ? ORDER BY seq LIMIT ?",
            FAN_EVENT,
            after,
            limit,
        )

    def pull_retention(self, after: int, limit: int) -> tuple[Rows, int]:
        """Up to `limit` RETENTION rows after position `after`, as judged, and the position they lead to."""
        return self._pull(
            "SELECT seq, viewer_id, creator_id, days, kept, judged_at_ms FROM retention "
            "WHERE seq > ? ORDER BY seq LIMIT ?",
            RETENTION,
            after,
            limit,
        )

    def fan(self, viewer_id: int, creator_id: int) -> Fan | None:
        """What is known of one fan; None: nothing."""
        with self._lock:
            stored = self._load((signed(viewer_id), signed(creator_id)))
        return None if stored is None else stored.fan

    def outcome_count(self) -> int:
        """How many outcomes were taken."""
        with self._lock:
            count: int = self._db.execute("SELECT count(*) FROM outcomes").fetchone()[0]
        return count

    def _count_what_was_before(self) -> None:
        """Fill counts that a file from before these were counted lacks; tiers then begin at each fan's last change."""
        day_ms = self._rules.lifecycle.day_ms
        with transaction(self._db):
            if self._db.execute("SELECT 1 FROM kind_days LIMIT 1").fetchone() is None:
                self._db.execute(
                    "INSERT INTO kind_days SELECT creator_id, occurred_at_ms / ? AS day, kind, count(*) FROM facts "
                    "GROUP BY creator_id, day, kind",
                    (day_ms,),
                )
            if self._db.execute("SELECT 1 FROM tier_steps LIMIT 1").fetchone() is None:
                self._db.execute(
                    "INSERT INTO tier_steps SELECT creator_id, changed_at_ms / ? AS day, ?, tier, count(*) FROM fans "
                    "WHERE tier != ? GROUP BY creator_id, day, tier",
                    (day_ms, int(Tier.UNSPECIFIED), int(Tier.UNSPECIFIED)),
                )

    def audience_of(self, lease_id: int, hold_seq: int, kind: int) -> str | None:
        """The audience that an outcome was told with; None: there is no such outcome."""
        query = "SELECT audience FROM outcomes WHERE lease_id = ? AND hold_seq = ? AND kind = ?"
        with self._lock:
            row = self._db.execute(query, (signed(lease_id), signed(hold_seq), kind)).fetchone()
        return None if row is None else str(row[0])

    def _add_audience(self) -> None:
        """A file from before outcomes had audiences gets the column."""
        columns = {row[1] for row in self._db.execute("PRAGMA table_info(outcomes)")}
        if "audience" not in columns:
            self._db.execute("ALTER TABLE outcomes ADD COLUMN audience TEXT NOT NULL DEFAULT ''")

    def _push(
        self, rows: Rows, insert: str, now_ms: int, texts: Sequence[tuple[str, ...]] | None = None
    ) -> npt.NDArray[np.uint8]:
        statuses = np.full(len(rows), RowStatus.DUPLICATE, dtype=np.uint8)
        facts = _signed_rows(rows[["viewer_id", "creator_id", "kind", "occurred_at_ms"]])
        fans: dict[FanKey, _StoredFan] = {}
        tally = Tally(self._rules.lifecycle.day_ms)
        newest_at_ms = self._newest_at_ms
        with self._lock, transaction(self._db):
            for i, columns in enumerate(_signed_rows(rows)):
                if self._db.execute(insert, (*columns, *(texts[i] if texts else ()))).rowcount:
                    statuses[i] = RowStatus.ACCEPTED
                    newest_at_ms = max(newest_at_ms, facts[i][3])
            for i in in_order(rows).tolist():
                if statuses[i] == RowStatus.ACCEPTED:
                    self._count_fact(facts[i], fans, tally)
            if "campaign_id" in (rows.dtype.names or ()):
                tally.add_bought(rows[statuses == RowStatus.ACCEPTED])
            for key, stored in fans.items():
                stored.fan, happened = catch_up(stored.fan, now_ms, self._rules)
                self._note(key, happened, tally)
            self._save(fans, tally, now_ms)
            self._db.execute("UPDATE meta SET number = ? WHERE name = 'newest_at_ms'", (newest_at_ms,))
        self._newest_at_ms = newest_at_ms
        return statuses

    def _count_fact(self, fact: tuple[int, ...], fans: dict[FanKey, _StoredFan], tally: Tally) -> None:
        """Move the fan that a new fact is about; a charged impression alone makes no fan."""
        viewer_id, creator_id, kind, occurred_at_ms = fact
        if kind == OutcomeKind.BILLABLE:
            return
        if not self._db.execute("INSERT OR IGNORE INTO facts VALUES (?, ?, ?, ?)", fact).rowcount:
            return
        tally.add_fact(creator_id, kind, occurred_at_ms)
        key = (viewer_id, creator_id)
        stored = fans.get(key)
        if stored is None:
            stored = fans[key] = self._load(key) or _StoredFan()
        stored.fan, happened = apply_event(stored.fan, OutcomeKind(kind), occurred_at_ms, self._rules)
        self._note(key, happened, tally)

    def _load(self, key: FanKey) -> _StoredFan | None:
        query = f"SELECT {FAN_COLUMNS} FROM fans WHERE viewer_id = ? AND creator_id = ?"
        row = self._db.execute(query, key).fetchone()
        return None if row is None else _StoredFan(row)

    def _save(self, fans: dict[FanKey, _StoredFan], tally: Tally, now_ms: int) -> None:
        """Write fans and counts back; fans whose tier or stage is new take the next places in the change log."""
        change_seq = self._change_seq
        rows = []
        for key, stored in fans.items():
            if stored.is_changed():
                change_seq += 1
                stored.change_seq, stored.changed_at_ms = change_seq, now_ms
            rows.append((*key, *stored.columns()))
        marks = ", ".join("?" * 16)
        insert = f"INSERT OR REPLACE INTO fans (viewer_id, creator_id, {FAN_COLUMNS}) VALUES ({marks})"
        self._db.executemany(insert, rows)
        self._db.execute("UPDATE meta SET number = ? WHERE name = 'change_seq'", (change_seq,))
        self._change_seq = change_seq
        for upsert, counted in tally.statements():
            self._db.executemany(upsert, counted)

    def _note(self, key: FanKey, happened: Sequence[Happening], tally: Tally) -> None:
        """Write down judgements, and count the rest."""
        if not happened:
            return
        judged = [one for one in happened if isinstance(one, Kept)]
        if judged:
            self._db.executemany(
                "INSERT INTO retention (viewer_id, creator_id, days, kept, judged_at_ms) VALUES (?, ?, ?, ?, ?)",
                [(*key, kept.days, int(kept.kept), kept.judged_at_ms) for kept in judged],
            )
        tally.add(key[1], happened)

    def _pull(self, query: str, dtype: np.dtype[Any], after: int, limit: int) -> tuple[Rows, int]:
        with self._lock, closing(self._db.execute(query, (after, limit))) as found:
            records = found.fetchall()
        rows = np.zeros(len(records), dtype=dtype)
        if records:
            columns = np.array(records, dtype=np.int64)
            for position, field in enumerate(dtype.names or (), start=1):
                rows[field] = columns[:, position].astype(dtype[field])
        return rows, records[-1][0] if records else after

    def _meta(self, column: str, name: str) -> Any:
        return self._db.execute(f"SELECT {column} FROM meta WHERE name = ?", (name,)).fetchone()[0]


class _StoredFan:
    """A fan beside what the file says of its place in the change log."""

    def __init__(self, row: Sequence[Any] | None = None) -> None:
        self.fan = Fan() if row is None else fan_of(row)
        self.change_seq: int = 0 if row is None else row[12]
        self.changed_at_ms: int = 0 if row is None else row[13]
        self._told = (self.fan.tier, self.fan.stage)

    def is_changed(self) -> bool:
        """Whether tier or stage differ from what was told last."""
        return (self.fan.tier, self.fan.stage) != self._told

    def columns(self) -> tuple[Any, ...]:
        """The values of `FAN_COLUMNS`."""
        fan, dates = self.fan, self.fan.dates
        return (
            fan.engagement.points,
            fan.engagement.support,
            fan.engagement.at_ms,
            dates.followed_at_ms,
            dates.unfollowed_at_ms,
            dates.engaged_at_ms,
            dates.active_at_ms,
            fan.gained_at_ms,
            fan.retention_step,
            int(fan.tier),
            int(fan.stage),
            fan.review_at_ms,
            self.change_seq,
            self.changed_at_ms,
        )


def fan_of(row: Sequence[Any]) -> Fan:
    """The fan whom the values of FAN_COLUMNS describe."""
    return Fan(
        engagement=Engagement(row[0], row[1], row[2]),
        dates=FanDates(row[3], row[4], row[5], row[6]),
        gained_at_ms=row[7],
        retention_step=row[8],
        tier=Tier(row[9]),
        stage=Stage(row[10]),
        review_at_ms=row[11],
    )


def signed(number: int) -> int:
    """A 64-bit id as SQLite's signed integer."""
    return number - 2**64 if number >= 2**63 else number


def _signed_rows(rows: Rows) -> list[tuple[int, ...]]:
    """Rows as tuples of signed 64-bit numbers."""
    names = rows.dtype.names or ()
    return list(zip(*(rows[name].astype(np.int64).tolist() for name in names), strict=True))
