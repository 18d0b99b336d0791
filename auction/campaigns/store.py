"""Campaigns and access tokens on disk: one SQLite file, which several programs may open at once.

Every change is durable before its call returns (write-ahead log, `synchronous=FULL`). The server writes campaigns; the
`token` command may add tokens to the same file while it runs.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from auction.campaigns.model import BidMode, Campaign, CampaignStatus, Creative
from pacing.facts import Goal
from targeting import expressions

SCHEMA_VERSION = 1
BUSY_TIMEOUT_MS = 5_000
MAX_OPEN_CAMPAIGNS_PER_CREATOR = 10_000

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
"""

_STORED_FIELDS = (
    "creator_id",
    "status",
    "version",
    "goal",
    "bid_mode",
    "name",
    "zone",
    "target_cost_micros",
    "daily_budget_micros",
    "total_budget_micros",
    "start_at_ms",
    "end_at_ms",
    "include_fans",
    "frequency_cap_per_day",
    "creatives",
    "targeting",
    "created_at_ms",
    "updated_at_ms",
)
_SELECT = f"SELECT campaign_id, {', '.join(_STORED_FIELDS)} FROM campaigns"
_INSERT = (
    f"INSERT INTO campaigns (idempotency_key, {', '.join(_STORED_FIELDS)}) "
    f"VALUES (:idempotency_key, {', '.join(':' + field for field in _STORED_FIELDS)})"
)
_UPDATE = (
    f"UPDATE campaigns SET {', '.join(f'{field} = :{field}' for field in _STORED_FIELDS)} "
    "WHERE campaign_id = :campaign_id AND version < :version"
)

_SELECT_TOKENS = "SELECT token_id, secret_hash, role, creator_id, created_at_ms, revoked_at_ms FROM tokens"


class StoreUnavailable(RuntimeError):
    """The file cannot be read or written now: disk full, locked for too long, or damaged."""


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
        with self._lock, _store_errors(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

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
            cursor = self._connection.execute(_INSERT, _row_of(campaign) | {"idempotency_key": idempotency_key or None})
            assert cursor.lastrowid is not None
            return cursor.lastrowid

    def update(self, campaign: Campaign) -> None:
        """Replace the stored campaign by this later version; to be called inside `change`.

        Raises:
            NoSuchCampaign: there is none, or the stored version is as new.
        """
        with self._lock, _store_errors(self.path):
            cursor = self._connection.execute(_UPDATE, _row_of(campaign) | {"campaign_id": campaign.campaign_id})
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
        """Add a token and answer with its id; ids grow from 1."""
        with self.change():
            cursor = self._connection.execute(
                "INSERT INTO tokens (secret_hash, role, creator_id, created_at_ms, revoked_at_ms) "
                "VALUES (?, ?, ?, ?, 0)",
                (secret_hash, role, str(creator_id), now_ms),
            )
            assert cursor.lastrowid is not None
            return cursor.lastrowid

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

    def _select(self, where: str, arguments: tuple[object, ...]) -> list[Campaign]:
        with self._lock, _store_errors(self.path):
            rows = self._connection.execute(f"{_SELECT} {where}", arguments).fetchall()
        with _damage_told(self.path, "campaign"):
            return [_campaign_of(row) for row in rows]

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
            self._connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} {set_version} COMMIT;")


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


def _row_of(campaign: Campaign) -> dict[str, object]:
    row: dict[str, object] = {field: getattr(campaign, field) for field in _STORED_FIELDS}
    creatives = [[c.creative_id, c.title, c.category] for c in campaign.creatives]
    return row | {
        "creator_id": str(campaign.creator_id),
        "status": int(campaign.status),
        "goal": int(campaign.goal),
        "bid_mode": int(campaign.bid_mode),
        "include_fans": int(campaign.include_fans),
        "creatives": json.dumps(creatives, ensure_ascii=False),
        "targeting": json.dumps(expressions.to_json(campaign.targeting)),
    }


def _campaign_of(row: tuple[Any, ...]) -> Campaign:
    fields: dict[str, Any] = dict(zip(("campaign_id", *_STORED_FIELDS), row, strict=True))
    fields |= {
        "creator_id": int(str(fields["creator_id"])),
        "status": CampaignStatus(fields["status"]),
        "goal": Goal(fields["goal"]),
        "bid_mode": BidMode(fields["bid_mode"]),
        "include_fans": bool(fields["include_fans"]),
        "creatives": tuple(Creative(*creative) for creative in json.loads(str(fields["creatives"]))),
        "targeting": expressions.from_json(json.loads(str(fields["targeting"]))),
    }
    return Campaign(**fields)
