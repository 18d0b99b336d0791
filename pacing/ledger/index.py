"""Tables beside the log that answer questions fast: told before?, charged how much?, read how far?, and snapshots.

All but the snapshots can be rebuilt from the log. Functions are given the connection, in a transaction if they write.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from pacing.facts import OutcomeKind, Verdict
from pacing.ledger.rows import claim_keys

SCHEMA = """
CREATE TABLE IF NOT EXISTS claims (
    first INTEGER NOT NULL, second INTEGER NOT NULL, third INTEGER NOT NULL, fourth INTEGER NOT NULL,
    amount_micros INTEGER NOT NULL,
    PRIMARY KEY (first, second, third, fourth)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS charges (
    campaign_id INTEGER NOT NULL, sequence INTEGER NOT NULL,
    verdict INTEGER NOT NULL, amount_micros INTEGER NOT NULL,
    charged_micros INTEGER NOT NULL, over_delivered_micros INTEGER NOT NULL,
    PRIMARY KEY (campaign_id, sequence)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS positions (follower TEXT PRIMARY KEY, sequence INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS snapshots (
    sequence INTEGER PRIMARY KEY, judged_sequence INTEGER NOT NULL, digest BLOB NOT NULL, body BLOB NOT NULL
);
"""

CHARGE = np.dtype(
    [
        ("sequence", "<u8"),
        ("verdict", "u1"),
        ("amount_micros", "<i8"),
        ("charged_micros", "<i8"),  # by the campaign in total, this row included
        ("over_delivered_micros", "<i8"),  # in total, this row included
    ]
)
"""One judged billable row in a campaign's statement."""

_KEPT_SNAPSHOTS = 2
_INSERT_CLAIM = "INSERT OR IGNORE INTO claims VALUES (?, ?, ?, ?, ?)"
_FIND_CLAIM = "SELECT amount_micros FROM claims WHERE first = ? AND second = ? AND third = ? AND fourth = ?"
_AT_ONCE = 64
_FIND_CLAIMS = (
    f"WITH asked(n, a, b, c, d) AS (VALUES {', '.join(['(?, ?, ?, ?, ?)'] * _AT_ONCE)}) SELECT n, amount_micros "
    "FROM asked CROSS JOIN claims ON first = a AND second = b AND third = c AND fourth = d"
)
"""What `_FIND_CLAIM` finds for so many keys, in a quarter of the time; CROSS JOIN looks each up by its key."""


def _key_list(rows: np.ndarray) -> list[tuple[int, ...]]:
    keys: list[tuple[int, ...]] = claim_keys(rows).tolist()
    return keys


def add_claims(db: Any, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Note OUTCOME[n] as told.

    Returns:
        b1[n], which are new, the first of equal ones; and i8[n], the amounts under which each is in the ledger.
    """
    keys = _key_list(rows)
    amounts = rows["price_micros"].copy()
    claims = [(*key, amount) for key, amount in zip(keys, amounts.tolist(), strict=True)]
    fresh = np.ones(len(rows), np.bool_)
    before = db.total_changes
    db.execute("SAVEPOINT claims")
    db.executemany(_INSERT_CLAIM, claims)
    if db.total_changes - before != len(rows):
        db.execute("ROLLBACK TO claims")
        for i, claim in enumerate(claims):
            fresh[i] = db.execute(_INSERT_CLAIM, claim).rowcount == 1
            if not fresh[i]:
                amounts[i] = db.execute(_FIND_CLAIM, keys[i]).fetchone()[0]
    db.execute("RELEASE claims")
    return fresh, amounts


def find_claims(db: Any, rows: np.ndarray) -> np.ndarray:
    """The amounts under which OUTCOME[n] were told before, i8[n]; -1: they were not."""
    amounts = np.full(len(rows), -1, np.int64)
    keys = _key_list(rows)
    rest = len(keys) - len(keys) % _AT_ONCE
    for at in range(0, rest, _AT_ONCE):
        asked = [number for n, key in enumerate(keys[at : at + _AT_ONCE], at) for number in (n, *key)]
        for n, amount in db.execute(_FIND_CLAIMS, asked).fetchall():
            amounts[n] = amount
    for n in range(rest, len(keys)):
        found = db.execute(_FIND_CLAIM, keys[n]).fetchone()
        if found is not None:
            amounts[n] = found[0]
    return amounts


def check_claims(db: Any, rows: np.ndarray) -> bool:
    """Whether all of OUTCOME[n] are noted as told, under their own amounts."""
    return bool((find_claims(db, rows) == rows["price_micros"]).all())


def _signed(number: int) -> int:
    return number - 2**64 if number >= 2**63 else number


def charged_at(db: Any, campaign_id: int, sequence: int) -> tuple[int, int]:
    """Micros charged to a campaign, and delivered over its budgets, by rows up to `sequence`."""
    found = db.execute(
        "SELECT charged_micros, over_delivered_micros FROM charges WHERE campaign_id = ? AND sequence <= ? "
        "ORDER BY sequence DESC LIMIT 1",
        (_signed(campaign_id), sequence),
    ).fetchone()
    return (found[0], found[1]) if found else (0, 0)


def add_charges(db: Any, rows: np.ndarray, judgements: np.ndarray) -> None:
    """Add the billable ones of judged OUTCOME[n] with JUDGEMENT[n] to the campaigns' statements."""
    billable = rows["kind"] == OutcomeKind.BILLABLE
    rows, verdicts = rows[billable], judgements["verdict"][billable].tolist()
    totals: dict[int, tuple[int, int]] = {}
    charges = []
    columns = (rows["decision"]["campaign_id"], rows["sequence"], rows["price_micros"])
    for campaign_id, sequence, amount, verdict in zip(*(c.tolist() for c in columns), verdicts, strict=True):
        charged, over = totals.get(campaign_id) or charged_at(db, campaign_id, sequence)
        if verdict == Verdict.CHARGED:
            charged += amount
        elif verdict == Verdict.OVER_DELIVERY:
            over += amount
        totals[campaign_id] = (charged, over)
        charges.append((_signed(campaign_id), sequence, verdict, amount, charged, over))
    db.executemany("INSERT INTO charges VALUES (?, ?, ?, ?, ?, ?)", charges)


def check_charges(db: Any, rows: np.ndarray, judgements: np.ndarray) -> bool:
    """Whether the statements end with judged OUTCOME[n] and JUDGEMENT[n], the last that were judged, as `add_charges`
    adds them."""
    billable = rows["kind"] == OutcomeKind.BILLABLE
    rows, verdicts = rows[billable], judgements["verdict"][billable]
    for campaign_id in np.unique(rows["decision"]["campaign_id"]).tolist():
        mine = rows["decision"]["campaign_id"] == campaign_id
        expected = np.zeros(int(mine.sum()), CHARGE)
        expected["sequence"], expected["verdict"] = rows["sequence"][mine], verdicts[mine]
        expected["amount_micros"] = amounts = rows["price_micros"][mine]
        before = int(expected["sequence"][0]) - 1
        totals = ("charged_micros", Verdict.CHARGED), ("over_delivered_micros", Verdict.OVER_DELIVERY)
        for (name, verdict), total in zip(totals, charged_at(db, campaign_id, before), strict=True):
            expected[name] = total + np.cumsum(np.where(expected["verdict"] == verdict, amounts, 0))
        if not np.array_equal(charges_of(db, campaign_id, before, len(rows) + 1), expected):
            return False
    return True


def charges_of(db: Any, campaign_id: int, after: int, limit: int) -> np.ndarray:
    """CHARGE[n] of a campaign behind sequence `after`."""
    found = db.execute(
        "SELECT sequence, verdict, amount_micros, charged_micros, over_delivered_micros FROM charges "
        "WHERE campaign_id = ? AND sequence > ? ORDER BY sequence LIMIT ?",
        (_signed(campaign_id), after, limit),
    ).fetchall()
    return np.array(found, CHARGE) if found else np.zeros(0, CHARGE)


def count_charges(db: Any, until: int) -> int:
    """How many charges with sequences up to `until` there are."""
    return int(db.execute("SELECT count(*) FROM charges WHERE sequence <= ?", (until,)).fetchone()[0])


def position(db: Any, follower: str) -> int:
    """The saved position of a follower, or 0."""
    found = db.execute("SELECT sequence FROM positions WHERE follower = ?", (follower,)).fetchone()
    return int(found[0]) if found else 0


def save_position(db: Any, follower: str, sequence: int) -> None:
    """Save the position of a follower."""
    db.execute("INSERT OR REPLACE INTO positions VALUES (?, ?)", (follower, sequence))


def _digest(sequence: int, judged_sequence: int, body: bytes) -> bytes:
    place = sequence.to_bytes(8, "little") + judged_sequence.to_bytes(8, "little")
    return hashlib.blake2b(place + body, digest_size=16).digest()


def save_snapshot(db: Any, sequence: int, judged_sequence: int, body: bytes) -> None:
    """Add a snapshot and drop all but the newest two."""
    digest = _digest(sequence, judged_sequence, body)
    db.execute("INSERT OR REPLACE INTO snapshots VALUES (?, ?, ?, ?)", (sequence, judged_sequence, digest, body))
    db.execute(
        "DELETE FROM snapshots WHERE sequence NOT IN (SELECT sequence FROM snapshots ORDER BY sequence DESC LIMIT ?)",
        (_KEPT_SNAPSHOTS,),
    )


def load_snapshot(db: Any, row_count: int = 2**63, judged: int = 2**63) -> tuple[int, int, bytes] | None:
    """The newest snapshot within so many rows and verdicts whose digest is right: (sequence, judged_sequence, body)."""
    for sequence, judged_sequence, digest, body in db.execute(
        "SELECT sequence, judged_sequence, digest, body FROM snapshots ORDER BY sequence DESC"
    ):
        is_written = (
            isinstance(body, bytes)
            and isinstance(sequence, int)
            and isinstance(judged_sequence, int)
            and min(sequence, judged_sequence) >= 0
        )
        is_within = is_written and sequence <= row_count and judged_sequence <= judged
        if is_within and _digest(sequence, judged_sequence, body) == digest:
            return sequence, judged_sequence, body
    return None


def snapshot_position(db: Any) -> tuple[int, int]:
    """Rows and verdicts that a restart need not read again: (sequence, judged_sequence) of the snapshot, or zeros."""
    found = load_snapshot(db)
    return (found[0], found[1]) if found else (0, 0)
