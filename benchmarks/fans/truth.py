"""What happened, row by row, and the auditor who holds a fan service's file against it.

Everything is a function of a row's number, so the truth is computed a second time, from nothing that was sent.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fanbridge.events import FAN_OUTCOME, Rows
from fanbridge.service.lifecycle import ENGAGING_KINDS, NEVER_MS
from fanbridge.service.tiering import POINTS_OF_KIND, SUPPORT_KINDS, TierRules
from pacing.facts import OUTCOME, OutcomeKind, Verdict
from pacing.ledger.followers import Judge

START_AT_MS = 1_750_000_000_000
VIEWERS, CREATORS, CAMPAIGNS_PER_CREATOR = 150_000, 40, 3
_CONVERSIONS = np.array(
    [
        (OutcomeKind.CLICK, OutcomeKind.FOLLOW, OutcomeKind.LIKE),
        (OutcomeKind.PLAY, OutcomeKind.LIKE, OutcomeKind.COMMENT),
        (OutcomeKind.PLAY, OutcomeKind.CLICK, OutcomeKind.PROFILE_VISIT),
        (OutcomeKind.FOLLOW, OutcomeKind.SHARE, OutcomeKind.GIFT),
        (OutcomeKind.LIVE_VISIT, OutcomeKind.GIFT, OutcomeKind.ORDER),
        (OutcomeKind.PRODUCT_CLICK, OutcomeKind.ORDER, OutcomeKind.UNFOLLOW),
    ]
)
"""What follows an impression: three rows of different kinds."""
_ROWS_PER_IMPRESSION = 4
_BLOCK_ROWS, _TOLD_PER_BLOCK = 80, 76
"""Of each block the last impression could not be charged, and explains nothing: four rows that nobody is told."""
_PER_LEASE = 5_000
_READ_ROWS = 100_000


@dataclass(frozen=True)
class Traffic:
    """So many outcomes to tell, evenly over `span_ms` of virtual time; no two rows carry the same instant."""

    outcomes: int
    span_ms: int

    @property
    def rows(self) -> int:
        """How many ledger rows that takes, those included that are not told."""
        return self.outcomes // _TOLD_PER_BLOCK * _BLOCK_ROWS + self.outcomes % _TOLD_PER_BLOCK

    def told(self, rows_from: int, rows_to: int) -> npt.NDArray[np.bool_]:
        """Which of the rows numbered rows_from + 1 .. rows_to the fan service must hear of."""
        told: npt.NDArray[np.bool_] = np.arange(rows_from, rows_to) % _BLOCK_ROWS < _TOLD_PER_BLOCK
        return told

    def expected(self, rows_from: int, rows_to: int) -> Rows:
        """The rows numbered rows_from + 1 .. rows_to as FAN_OUTCOME, also those that are not told."""
        number = np.arange(rows_from, rows_to)
        impression, place = number // _ROWS_PER_IMPRESSION, number % _ROWS_PER_IMPRESSION
        mixed = _mixed(impression)
        creator = mixed % CREATORS + 1
        rows = np.zeros(len(number), FAN_OUTCOME)
        rows["lease_id"], rows["hold_seq"] = impression // _PER_LEASE + 1, impression % _PER_LEASE + 1
        conversion = _CONVERSIONS[(mixed // 7) % len(_CONVERSIONS), np.maximum(place, 1) - 1]
        rows["kind"] = np.where(place == 0, OutcomeKind.BILLABLE, conversion)
        rows["viewer_id"] = (mixed // 64) % VIEWERS + 1
        rows["creator_id"] = creator
        rows["campaign_id"] = (creator - 1) * CAMPAIGNS_PER_CREATOR + mixed % CAMPAIGNS_PER_CREATOR + 1
        rows["creative_id"] = rows["campaign_id"] * 10 + mixed % 2
        rows["price_micros"] = np.where(place == 0, 1_000 + mixed % 50_000, 0)
        rows["occurred_at_ms"] = START_AT_MS + number * max(self.span_ms, self.rows) // self.rows
        rows["ledger_sequence"] = number + 1
        return rows

    def ledger_rows(self, rows_from: int, rows_to: int) -> Rows:
        """The same rows as OUTCOME, as a server would have written them."""
        expected = self.expected(rows_from, rows_to)
        rows = np.zeros(len(expected), OUTCOME)
        for name in ("kind", "occurred_at_ms", "price_micros", "viewer_id", "creator_id"):
            rows[name] = expected[name]
        rows["has_token"], rows["recorded_at_ms"] = 1, expected["occurred_at_ms"]
        for name in ("lease_id", "hold_seq", "viewer_id", "creator_id", "campaign_id", "creative_id"):
            rows["decision"][name] = expected[name]
        return rows


def _mixed(number: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Numbers that look drawn, the same every time (SplitMix64's finaliser, 40 bits of it)."""
    mixed = (number.astype(np.uint64) + 1) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((mixed ^ (mixed >> np.uint64(31))) >> np.uint64(24)).astype(np.int64)


class KnownJudge(Judge):
    """Gives each row the verdict that its number calls for."""

    def judge(self, rows: np.ndarray, judgements: np.ndarray) -> np.ndarray:
        """Charge and attribute what is told; the rest was over-delivery, or explained by nothing."""
        judged = judgements.copy()
        told = (rows["sequence"].astype(np.int64) - 1) % _BLOCK_ROWS < _TOLD_PER_BLOCK
        billed = rows["kind"] == OutcomeKind.BILLABLE
        judged["verdict"] = np.select(
            [told & billed, told, billed],
            [Verdict.CHARGED, Verdict.ATTRIBUTED, Verdict.OVER_DELIVERY],
            Verdict.ORGANIC,
        )
        for name in ("campaign_id", "creative_id", "lease_id", "hold_seq"):
            judged[name] = np.where(told, rows["decision"][name], 0)
        return judged


@dataclass(frozen=True)
class Audit:
    """What a fan service's file holds of the truth.

    Attributes:
        applied: outcomes that are there, every field as it happened.
        lost: outcomes that are not there.
        altered: outcomes that are there with another field.
        invented: rows that stand for no outcome that was to be told.
        fans, fans_wrong: fans there must be; those whose points, gifts or dates are others than their outcomes, each
            counted once, come to, fans too many included.
    """

    applied: int
    lost: int
    altered: int
    invented: int
    fans: int
    fans_wrong: int


def audit(path: Path, traffic: Traffic) -> Audit:
    """Hold the file of a service that has stopped against the truth."""
    db = sqlite3.connect(path)
    try:
        applied = lost = altered = invented = 0
        for rows_from in range(0, traffic.rows, _READ_ROWS):
            rows_to = min(rows_from + _READ_ROWS, traffic.rows)
            expected = traffic.expected(rows_from, rows_to)[traffic.told(rows_from, rows_to)]
            found = _outcomes_in(db, rows_from, rows_to)
            known, at = np.unique(found["ledger_sequence"], return_index=True)
            there = np.isin(expected["ledger_sequence"], known)
            same = found[at[np.searchsorted(known, expected["ledger_sequence"][there])]] == expected[there]
            applied += int(same.sum())
            altered += int((~same).sum())
            lost += int((~there).sum())
            invented += len(found) - int(there.sum())
        outside = "SELECT count(*) FROM outcomes WHERE ledger_sequence < 1 OR ledger_sequence > ?"
        invented += db.execute(outside, (traffic.rows,)).fetchone()[0]
        fans, fans_wrong = _audit_fans(db, traffic)
    finally:
        db.close()
    return Audit(applied, lost, altered, invented, fans, fans_wrong)


def _outcomes_in(db: sqlite3.Connection, rows_from: int, rows_to: int) -> Rows:
    """The outcomes about these ledger rows, FAN_OUTCOME[n]."""
    query = (
        f"SELECT {', '.join(FAN_OUTCOME.names or ())} FROM outcomes WHERE ledger_sequence > ? AND ledger_sequence <= ?"
    )
    found = np.array(db.execute(query, (rows_from, rows_to)).fetchall(), np.int64).reshape(
        -1, len(FAN_OUTCOME.names or ())
    )
    rows = np.zeros(len(found), FAN_OUTCOME)
    for position, name in enumerate(FAN_OUTCOME.names or ()):
        rows[name] = found[:, position]
    return rows


def _audit_fans(db: sqlite3.Connection, traffic: Traffic) -> tuple[int, int]:
    """How many fans there must be, and how many are missing, too many or wrong in points, gifts or a date."""
    expected = _fans_of(np.concatenate(list(_told_actions(traffic))))
    query = (
        "SELECT viewer_id, creator_id, points, support, followed_at_ms, unfollowed_at_ms, engaged_at_ms, active_at_ms "
        "FROM fans ORDER BY viewer_id, creator_id"
    )
    found = np.array(db.execute(query).fetchall(), np.float64).reshape(-1, 8)
    keys = found[:, 0] * (CREATORS + 1) + found[:, 1]
    wanted = expected[:, 0] * (CREATORS + 1) + expected[:, 1]
    both, in_found, in_expected = np.intersect1d(keys, wanted, return_indices=True)
    right = np.isclose(found[in_found], expected[in_expected], rtol=1e-6, atol=1e-6).all(axis=1)
    wrong = len(keys) + len(wanted) - 2 * len(both) + int((~right).sum())
    return len(wanted), wrong


def _told_actions(traffic: Traffic) -> Iterator[Rows]:
    """What viewers did, as far as it is told, FAN_OUTCOME."""
    for rows_from in range(0, traffic.rows, _READ_ROWS):
        rows_to = min(rows_from + _READ_ROWS, traffic.rows)
        rows = traffic.expected(rows_from, rows_to)[traffic.told(rows_from, rows_to)]
        yield rows[rows["kind"] != OutcomeKind.BILLABLE]


def _fans_of(actions: Rows) -> npt.NDArray[np.float64]:
    """f8[fans, 8]: viewer, creator, points, support and four dates that these FAN_OUTCOME rows, each once, come to."""
    keys = actions["viewer_id"].astype(np.int64) * (CREATORS + 1) + actions["creator_id"].astype(np.int64)
    fans, fan_of = np.unique(keys, return_inverse=True)
    at_ms, kinds = actions["occurred_at_ms"], actions["kind"]

    def last_at_ms(counted: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        latest = np.full(len(fans), NEVER_MS, np.int64)
        np.maximum.at(latest, fan_of[counted], at_ms[counted])
        return latest

    seen_from = last_at_ms(np.ones(len(actions), bool))
    worth = np.exp2((at_ms - seen_from[fan_of]) / TierRules().half_life_ms)
    points = np.array([POINTS_OF_KIND.get(OutcomeKind(kind), 0.0) for kind in range(1, max(OutcomeKind) + 1)])[
        kinds - 1
    ]
    supports = np.isin(kinds, sorted(SUPPORT_KINDS))
    columns = [
        fans // (CREATORS + 1),
        fans % (CREATORS + 1),
        np.bincount(fan_of, points * worth),
        np.bincount(fan_of, supports * worth),
        last_at_ms(kinds == OutcomeKind.FOLLOW),
        last_at_ms(kinds == OutcomeKind.UNFOLLOW),
        last_at_ms(np.isin(kinds, sorted(ENGAGING_KINDS))),
        last_at_ms(kinds != OutcomeKind.UNFOLLOW),
    ]
    return np.column_stack(columns).astype(np.float64)
