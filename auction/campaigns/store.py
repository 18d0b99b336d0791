"""Campaigns and access tokens on disk: one SQLite file, which several programs may open at once.

Every change is durable before its call returns (write-ahead log, `synchronous=FULL`). The server writes campaigns; the
`token` command may add tokens to the same file while it runs. Where servers share campaigns, each has such a file with
a copy of all of them, and gives ids of a range of its own: `owner_id << ID_SHIFT | n`.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from auction.campaigns.model import Campaign, CampaignStatus
from auction.campaigns.record import STORED_FIELDS, Record, campaign_of, columns_of, record_of
from pacing.durable import transaction

SCHEMA_VERSION = 3
BUSY_TIMEOUT_MS = 5_000
MAX_OPEN_CAMPAIGNS_PER_CREATOR = 10_000
ID_SHIFT = 32
"""Ids below 2**32 were given by a file that shares nothing; they tell nothing apart beyond it."""
_CHUNK = 500

_SCHEMA = """
CREATE TABLE IF NOT EXISTS campaigns (
    campaign_id INTEGER PRIMARY KEY AUTOINCREMENT,
    creator_id TEXT NOT NULL,              -- decimal: ids use all 64 bits
    idempotency_key TEXT,
    status INTEGER NOT NULL,
    version INTEGER NOT NULL,
    goal INTEGER NOT NULL,
    bid_mode INTEGER NOT NULL,
    name TEXT NOT NULL,
    zone TEXT NOT NULL,
    target_cost_micros INTEGER NOT NULL,
    daily_budget_micros INTEGER NOT NULL,
    total_budget_micros INTEGER NOT NULL,
    start_at_ms INTEGER NOT NULL,
    end_at_ms INTEGER NOT NULL,
    include_fans INTEGER NOT NULL,
    frequency_cap_per_day INTEGER NOT NULL,
    creatives TEXT NOT NULL,               -- JSON
    targeting TEXT NOT NULL,               -- JSON
    created_at_ms INTEGER NOT NULL,
    updated_at_ms INTEGER NOT NULL,
    mark TEXT NOT NULL DEFAULT '',         -- of `record`
    record TEXT NOT NULL DEFAULT '',       -- as servers exchange it; empty: not shared
    high_tier_worth REAL NOT NULL DEFAULT 1.0,
    UNIQUE (creator_id, idempotency_key)
) STRICT;
CREATE INDEX IF NOT EXISTS campaigns_of_creator ON campaigns (creator_id, campaign_id);
CREATE TABLE IF NOT EXISTS tokens (
    token_id INTEGER PRIMARY KEY AUTOINCREMENT,
    secret_hash BLOB NOT NULL,
    role TEXT NOT NULL,
    creator_id TEXT NOT NULL,              -- decimal; '0': no creator
    created_at_ms INTEGER NOT NULL,
    revoked_at_ms INTEGER NOT NULL         -- 0: valid
) STRICT;
CREATE TABLE IF NOT EXISTS sharing (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    owner_id INTEGER NOT NULL,
    last_campaign_number INTEGER NOT NULL  -- taken, whether or not a campaign was made of it
) STRICT;
"""
_FROM_1 = """
ALTER TABLE campaigns ADD COLUMN mark TEXT NOT NULL DEFAULT '';
ALTER TABLE campaigns ADD COLUMN record TEXT NOT NULL DEFAULT '';
"""

_FROM_2 = "ALTER TABLE campaigns ADD COLUMN high_tier_worth REAL NOT NULL DEFAULT 1.0;"
_MIGRATIONS = {0: "", 1: _FROM_1 + _FROM_2, 2: _FROM_2}

_SELECT = f"SELECT campaign_id, {', '.join(STORED_FIELDS)} FROM campaigns"
_INSERT = (
    f"INSERT INTO campaigns (idempotency_key, {', '.join(STORED_FIELDS)}) "
    f"VALUES (:idempotency_key, {', '.join(':' + field for field in STORED_FIELDS)})"
)
_UPDATE = (
    f"UPDATE campaigns SET {', '.join(f'{field} = :{field}' for field in STORED_FIELDS)} "
    "WHERE campaign_id = :campaign_id AND version < :version"
)

_PUT_RECORD = (
    f"INSERT INTO campaigns (campaign_id, idempotency_key, mark, record, {', '.join(STORED_FIELDS)}) "
    "VALUES (:campaign_id, CASE WHEN EXISTS (SELECT 1 FROM campaigns WHERE creator_id = :creator_id "
    "AND idempotency_key = :key AND campaign_id <> :campaign_id) THEN NULL ELSE :key END, "
    f":mark, :record, {', '.join(':' + field for field in STORED_FIELDS)}) "
    "ON CONFLICT (campaign_id) DO UPDATE SET mark = :mark, record = :record, "
    f"{', '.join(f'{field} = :{field}' for field in STORED_FIELDS)}"
)
_PUT_TOKEN = (
    "INSERT INTO tokens (token_id, secret_hash, role, creator_id, created_at_ms, revoked_at_ms) "
    "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (token_id) DO UPDATE SET revoked_at_ms = excluded.revoked_at_ms "
    "WHERE excluded.revoked_at_ms > 0 AND (revoked_at_ms = 0 OR excluded.revoked_at_ms < revoked_at_ms)"
)
_SELECT_TOKENS = "SELECT token_id, secret_hash, role, creator_id, created_at_ms, revoked_at_ms FROM tokens"


class StoreUnavailable(RuntimeError):
    """The file cannot be read or written now: disk full, locked for too long, or damaged.

    Attributes:
        told: what a caller may know of it; the text may have paths and addresses, for who runs the server.
    """

    def __init__(self, text: str, told: str = "the store of campaigns cannot be used now; try again later") -> None:
        super().__init__(text)
        self.told = told


class NoSuchCampaign(LookupError):
    """There is no campaign of this id, or it is another creator's."""

    def __init__(self, campaign_id: int) -> None:
        super().__init__(f"campaign_id {campaign_id}: no such campaign")


class CampaignLimit(RuntimeError):
    """A creator has as many open campaigns as one may have."""


@dataclass(frozen=True, slots=True)
class StoredToken:
    """One access token, of which only the hash is kept."""

    token_id: int
    secret_hash: bytes
    role: str
    creator_id: int
    created_at_ms: int
    revoked_at_ms: int


class CampaignStore:
    """The file of campaigns and tokens. Every method may be called from any thread.

    Tokens are read over a connection of their own, so that asking who somebody is never waits for a slow write.
    """

    def __init__(self, path: Path | str) -> None:
        """Open the file, or make it.

        Raises:
            StoreUnavailable: it cannot be opened, is no such file, or was written by a newer version.
        """
        self.path = Path(path)
        self._lock = threading.RLock()
        self._token_lock = threading.Lock()
        with _store_errors(self.path):
            self._connection = self._connect()
            self._create_schema()
            self._token_connection = self._connect()

    def close(self) -> None:
        """Close the file."""
        with self._lock, self._token_lock:
            self._connection.close()
            self._token_connection.close()

    @contextmanager
    def change(self) -> Iterator[None]:
        """One change as a whole: what is written inside is durable on leaving, or undone when the block raises.

        Raises:
            StoreUnavailable: the change could not be made durable; nothing of it was kept.
        """
        with self._lock, _store_errors(self.path), transaction(self._connection):
            yield

    def insert(self, campaign: Campaign, idempotency_key: str = "") -> int:
        """Add a campaign; to be called inside `change`.

        Args:
            campaign: checked; its campaign_id is ignored.
            idempotency_key: empty: none.

        Returns:
            The new campaign's id; ids grow from 1.

        Raises:
            CampaignLimit: the creator has MAX_OPEN_CAMPAIGNS_PER_CREATOR campaigns that have not ended.
        """
        with self._lock, _store_errors(self.path):
            open_count = self._connection.execute(
                "SELECT count(*) FROM campaigns WHERE creator_id = ? AND status <> ?",
                (str(campaign.creator_id), int(CampaignStatus.ENDED)),
            ).fetchone()[0]
            if open_count >= MAX_OPEN_CAMPAIGNS_PER_CREATOR:
                raise CampaignLimit(
                    f"creator_id {campaign.creator_id}: {open_count} open campaigns; "
                    f"at most {MAX_OPEN_CAMPAIGNS_PER_CREATOR}"
                )
            cursor = self._connection.execute(
                _INSERT, columns_of(campaign) | {"idempotency_key": idempotency_key or None}
            )
            assert cursor.lastrowid is not None
            return cursor.lastrowid

    def update(self, campaign: Campaign) -> None:
        """Replace the stored campaign by this later version; to be called inside `change`.

        Raises:
            NoSuchCampaign: there is none, or the stored version is as new.
        """
        with self._lock, _store_errors(self.path):
            cursor = self._connection.execute(_UPDATE, columns_of(campaign) | {"campaign_id": campaign.campaign_id})
            if cursor.rowcount != 1:
                raise NoSuchCampaign(campaign.campaign_id)

    def get(self, campaign_id: int) -> Campaign:
        """The campaign of this id.

        Raises:
            NoSuchCampaign: there is none.
        """
        found = self._select("WHERE campaign_id = ?", (campaign_id,)) if campaign_id < 2**63 else []
        if not found:
            raise NoSuchCampaign(campaign_id)
        return found[0]

    def find_by_key(self, creator_id: int, idempotency_key: str) -> Campaign | None:
        """The campaign that this creator made with this idempotency key, if any."""
        found = self._select("WHERE creator_id = ? AND idempotency_key = ?", (str(creator_id), idempotency_key))
        return found[0] if found else None

    def page(self, after_campaign_id: int, limit: int, creator_id: int = 0) -> list[Campaign]:
        """Up to `limit` campaigns with ids above `after_campaign_id`, ascending; of one creator, or (0) of all."""
        if creator_id:
            where = "WHERE creator_id = ? AND campaign_id > ? ORDER BY campaign_id LIMIT ?"
            return self._select(where, (str(creator_id), after_campaign_id, limit))
        return self._select("WHERE campaign_id > ? ORDER BY campaign_id LIMIT ?", (after_campaign_id, limit))

    def all(self) -> list[Campaign]:
        """Every campaign, ended ones included, by ascending id."""
        return self._select("ORDER BY campaign_id", ())

    def add_token(self, secret_hash: bytes, role: str, creator_id: int, now_ms: int) -> int:
        """Add a token and answer with its id; ids grow from 1, or within the range of the owner that shares them."""
        with self.change():
            first = self._owner_id() << ID_SHIFT
            found = self._connection.execute(
                "SELECT max(token_id) FROM tokens WHERE token_id BETWEEN ? AND ?", (first, first + (1 << ID_SHIFT) - 1)
            ).fetchone()[0]
            token_id = max(first, found or 0) + 1
            self._connection.execute(_PUT_TOKEN, (token_id, secret_hash, role, str(creator_id), now_ms, 0))
            return token_id

    def revoke_token(self, token_id: int, now_ms: int) -> bool:
        """Make a token invalid for good; False when there is no valid token of this id."""
        with self.change():
            cursor = self._connection.execute(
                "UPDATE tokens SET revoked_at_ms = ? WHERE token_id = ? AND revoked_at_ms = 0", (now_ms, token_id)
            )
            return cursor.rowcount == 1

    def tokens(self) -> list[StoredToken]:
        """Every token, revoked ones included, by ascending id, as last committed by any program."""
        with self._token_lock, _store_errors(self.path):
            rows = self._token_connection.execute(f"{_SELECT_TOKENS} ORDER BY token_id").fetchall()
        with _damage_told(self.path, "token"):
            return [_token_of(row) for row in rows]

    def token(self, token_id: int) -> StoredToken | None:
        """The token of this id as last committed by any program, also when revoked; None if there is none."""
        if token_id >= 2**63:
            return None
        with self._token_lock, _store_errors(self.path):
            row = self._token_connection.execute(f"{_SELECT_TOKENS} WHERE token_id = ?", (token_id,)).fetchone()
        with _damage_told(self.path, "token"):
            return None if row is None else _token_of(row)

    # --- where servers share campaigns and tokens ---------------------------------------------------------------

    @property
    def is_unused(self) -> bool:
        """Whether there is no campaign."""
        with self._lock, _store_errors(self.path):
            return not self._connection.execute("SELECT EXISTS (SELECT 1 FROM campaigns)").fetchone()[0]

    def share(self, owner_id: int) -> None:
        """Give ids of this owner's range from now on; a file has one owner for good.

        Raises:
            ValueError: it has another one.
        """
        with self.change():
            self._connection.execute("INSERT OR IGNORE INTO sharing VALUES (1, ?, 0)", (owner_id,))
            found = self._owner_id()
        if found != owner_id:
            raise ValueError(f"{self.path}: of owner_id {found}; this server is owner_id {owner_id}")

    def reserve_campaign_id(self) -> int:
        """An id for a new campaign that nobody else gets, nor this server again, whatever happens.

        Raises:
            StoreUnavailable: `share` was never called, or it could not be made durable.
        """
        with self.change():
            row = self._connection.execute(
                "UPDATE sharing SET last_campaign_number = last_campaign_number + 1 "
                "RETURNING owner_id << ? | last_campaign_number",
                (ID_SHIFT,),
            ).fetchone()
        if row is None:
            raise StoreUnavailable(f"{self.path}: shares nothing")
        return int(row[0])

    def put_records(self, records: Collection[Record]) -> None:
        """Store shared campaigns as these records have them, together, in place of what was there."""
        with self.change():
            for record in records:
                campaign, key = record.campaign, record.idempotency_key or None
                extra = {"campaign_id": campaign.campaign_id, "key": key, "mark": record.mark, "record": record.text}
                self._connection.execute(_PUT_RECORD, columns_of(campaign) | extra)

    def records(self, campaign_ids: Iterable[int]) -> dict[int, Record]:
        """The records of shared campaigns; unknown ids are left out."""
        with _damage_told(self.path, "record"):
            return {campaign_id: record_of(text) for campaign_id, text in self._shared("record", campaign_ids)}

    def marks(self, campaign_ids: Iterable[int] | None = None) -> dict[int, str]:
        """By id, the marks of shared campaigns' records: of these, or of all."""
        if campaign_ids is not None:
            return dict(self._shared("mark", campaign_ids))
        with self._lock, _store_errors(self.path):
            return dict(self._connection.execute("SELECT campaign_id, mark FROM campaigns WHERE mark <> ''").fetchall())

    def _shared(self, column: str, campaign_ids: Iterable[int]) -> list[tuple[int, str]]:
        """Id and `column` of these campaigns, as far as they are shared."""
        wanted = [campaign_id for campaign_id in campaign_ids if campaign_id < 2**63]
        found: list[tuple[int, str]] = []
        for first in range(0, len(wanted), _CHUNK):
            chunk = wanted[first : first + _CHUNK]
            where = f"mark <> '' AND campaign_id IN ({', '.join('?' * len(chunk))})"
            with self._lock, _store_errors(self.path):
                found += self._connection.execute(f"SELECT campaign_id, {column} FROM campaigns WHERE {where}", chunk)
        return found

    def put_tokens(self, tokens: Collection[StoredToken]) -> None:
        """Store tokens of other servers, or that they were revoked there; a revoked one never becomes valid."""
        with self.change():
            for t in tokens:
                row = (t.token_id, t.secret_hash, t.role, str(t.creator_id), t.created_at_ms, t.revoked_at_ms)
                self._connection.execute(_PUT_TOKEN, row)

    def file_version(self) -> int:
        """A number that is another one after any program changed the file."""
        with self._token_lock, _store_errors(self.path):
            return int(self._token_connection.execute("PRAGMA data_version").fetchone()[0])

    def _owner_id(self) -> int:
        """The owner whose range ids are of; 0: the file shares nothing."""
        row = self._connection.execute("SELECT owner_id FROM sharing").fetchone()
        return 0 if row is None else int(row[0])

    def _select(self, where: str, arguments: tuple[object, ...]) -> list[Campaign]:
        with self._lock, _store_errors(self.path):
            rows = self._connection.execute(f"{_SELECT} {where}", arguments).fetchall()
        with _damage_told(self.path, "campaign"):
            return [campaign_of(row[0], dict(zip(STORED_FIELDS, row[1:], strict=True))) for row in rows]

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=BUSY_TIMEOUT_MS / 1000, isolation_level=None, check_same_thread=False
        )
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        return connection

    def _create_schema(self) -> None:
        found = self._connection.execute("PRAGMA user_version").fetchone()[0]
        if found > SCHEMA_VERSION:
            raise StoreUnavailable(f"{self.path}: schema {found}; this version knows up to {SCHEMA_VERSION}")
        if found < SCHEMA_VERSION:
            set_version = f"PRAGMA user_version = {SCHEMA_VERSION};"
            self._connection.executescript(f"BEGIN IMMEDIATE; {_MIGRATIONS[found]} {_SCHEMA} {set_version} COMMIT;")


@contextmanager
def _store_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError) as error:  # the latter about a message that quotes damaged bytes
        raise StoreUnavailable(f"{path}: {error}") from error


@contextmanager
def _damage_told(path: Path, noun: str) -> Iterator[None]:
    """Around reading rows that this store wrote: what cannot be read was damaged since."""
    try:
        yield
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise StoreUnavailable(f"{path}: a stored {noun} is damaged: {error}") from error


def _token_of(row: tuple[Any, ...]) -> StoredToken:
    return StoredToken(row[0], row[1], row[2], int(row[3]), row[4], row[5])
