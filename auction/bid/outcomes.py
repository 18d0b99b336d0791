"""Reports: from wire columns to checked ledger rows, a status for each, and what the auctions taught."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from auction.bid.token import TokenKeys, verify_batch
from auction.bid.wire import Columns, decode, encode
from pacing.clocks import MS_PER_DAY, MS_PER_MINUTE
from pacing.facts import (
    DECISION,
    FEEDBACK,
    FLAG_CALLER_PREDICTION,
    FLAG_FLAT_WORTH,
    OUTCOME,
    TOKEN_BYTES,
    OutcomeKind,
    RowStatus,
)
from pacing.money import MAX_PRICE_MICROS

MAX_ROWS = 4_000
MAX_CLOSED = 1_000
MAX_DETAILS = 64
MAX_AGE_MS = 31 * MS_PER_DAY
MAX_AHEAD_MS = 5 * MS_PER_MINUTE
_LAST_BID_KIND = OutcomeKind.LOSS  # kinds up to here are about a bid, so they need its token
_PRICED_KINDS = (OutcomeKind.WIN, OutcomeKind.BILLABLE)
_MAX_LOSS_REASON = 10_000


@dataclass(frozen=True, slots=True)
class ReportBatch:
    """One decoded report of n rows.

    Attributes:
        rows: OUTCOME[n]; rows whose status is already set hold whatever was sent.
        min_bids_to_win_micros: i8[n], 0: not told.
        statuses: u1[n]; 0: passed every check so far.
        details: (row, text) for refused rows.
        closed_first_seqs, closed_counts: u8[k], u4[k]: responses that are decided.
    """

    rows: np.ndarray
    min_bids_to_win_micros: np.ndarray
    statuses: np.ndarray
    details: list[tuple[int, str]]
    closed_first_seqs: np.ndarray
    closed_counts: np.ndarray

    def refuse(self, bad: np.ndarray, status: RowStatus, field: str, values: np.ndarray | None, why: str) -> None:
        """Set the status of rows (b1[n]) that nothing refused before, with a detail for the first few."""
        fresh = bad & (self.statuses == 0)
        if not fresh.any():
            return
        self.statuses[fresh] = status
        for row in np.flatnonzero(fresh)[: MAX_DETAILS - len(self.details)]:
            value = "" if values is None else f" {values[row]}"
            self.details.append((int(row), f"{field}{value}: {why}"))

    def explain_conflicts(self) -> None:
        """Add a detail for the first few rows that contradict earlier ones."""
        for row in np.flatnonzero(self.statuses == RowStatus.CONFLICT)[: MAX_DETAILS - len(self.details)]:
            told = self.rows["price_micros"][row]
            kind = OutcomeKind(int(self.rows["kind"][row]))
            text = f"kinds {kind.name}, prices_micros {told}: contradicts what was accepted about this bid before"
            self.details.append((int(row), text))


def _column(message: Columns, name: str, n: int) -> np.ndarray:
    values = message[name]
    if len(values) not in (0, n):
        raise ValueError(f"{name}: {len(values)} values for {n} rows; must be 0 or {n}")
    return values if len(values) else np.zeros(n, values.dtype)


def _decode_rows(raw: bytes) -> tuple[ReportBatch, np.ndarray, np.ndarray]:
    message, _ = decode("ReportRequest", raw)
    kinds = message["kinds"]
    n = len(kinds)
    if n > MAX_ROWS:
        raise ValueError(f"kinds: {n} rows; at most {MAX_ROWS}")
    tokens = message.plain.tokens
    if len(tokens) not in (0, n * TOKEN_BYTES):
        raise ValueError(f"tokens: {len(tokens)} bytes for {n} rows; must be 0 or {n * TOKEN_BYTES}")
    closed_first_seqs, closed_counts = message["closed_hold_first_seqs"], message["closed_hold_counts"]
    if len(closed_first_seqs) != len(closed_counts) or len(closed_counts) > MAX_CLOSED:
        raise ValueError(
            f"closed_hold_counts: {len(closed_counts)} for {len(closed_first_seqs)} closed_hold_first_seqs; "
            f"must be equally many, at most {MAX_CLOSED}"
        )
    rows = np.zeros(n, OUTCOME)
    rows["kind"] = np.minimum(kinds, 255)
    if tokens:
        rows["decision"] = np.frombuffer(tokens, DECISION)
        rows["has_token"] = np.frombuffer(tokens, np.uint64).reshape(n, -1).any(axis=1)
    rows["price_micros"] = _column(message, "prices_micros", n)
    rows["occurred_at_ms"] = _column(message, "occurred_at_ms", n)
    tokened = rows["has_token"] == 1
    for name, column in (("viewer_id", "viewer_ids"), ("creator_id", "creator_ids")):
        rows[name] = np.where(tokened, rows["decision"][name], _column(message, column, n))
    batch = ReportBatch(
        rows=rows,
        min_bids_to_win_micros=_column(message, "min_bids_to_win_micros", n),
        statuses=np.zeros(n, np.uint8),
        details=[],
        closed_first_seqs=closed_first_seqs,
        closed_counts=closed_counts,
    )
    loss_reasons = _column(message, "loss_reasons", n)
    if not len(message["prices_micros"]) and np.isin(kinds, _PRICED_KINDS).any():
        raise ValueError(f"prices_micros: 0 values for {n} rows with WIN or BILLABLE among them; must be {n}")
    return batch, kinds, loss_reasons


def parse_report(raw: bytes, keys: TokenKeys, now_ms: int) -> ReportBatch:
    """Decode a ReportRequest and check each row by itself.

    Raises:
        ValueError: malformed bytes, too many rows, or columns of different lengths: nothing of the report is taken.
    """
    batch, kinds, loss_reasons = _decode_rows(raw)
    rows = batch.rows
    if not len(rows):
        return batch
    tokened = rows["has_token"] == 1
    first, last = min(OutcomeKind), max(OutcomeKind)
    batch.refuse((kinds < first) | (kinds > last), RowStatus.INVALID, "kinds", kinds, f"not in {first}..{last}")
    forged = tokened.copy()
    if tokened.any():
        forged[tokened] = ~verify_batch(np.ascontiguousarray(rows["decision"][tokened]), keys)
    batch.refuse(forged, RowStatus.FORGED, "tokens", None, "not a token of this deployment")
    about_bid = kinds <= _LAST_BID_KIND
    batch.refuse(about_bid & ~tokened, RowStatus.INVALID, "tokens", None, "this kind needs the bid's token")
    anonymous = ~tokened & ((rows["viewer_id"] == 0) | (rows["creator_id"] == 0))
    batch.refuse(anonymous, RowStatus.INVALID, "viewer_ids", None, "without a token, viewer and creator must be given")
    _check_amounts(batch, kinds, loss_reasons)
    _check_times(batch, now_ms)
    rows["recorded_at_ms"] = now_ms
    return batch


def _check_amounts(batch: ReportBatch, kinds: np.ndarray, loss_reasons: np.ndarray) -> None:
    prices = batch.rows["price_micros"]
    priced = np.isin(kinds, _PRICED_KINDS)
    bad = (prices < 0) | (prices > MAX_PRICE_MICROS)
    batch.refuse(bad, RowStatus.INVALID, "prices_micros", prices, f"not in 0..{MAX_PRICE_MICROS}")
    ceilings = batch.rows["decision"]["bid_micros"]
    batch.refuse(priced & (prices > ceilings), RowStatus.INVALID, "prices_micros", prices, "above the bid")
    under = priced & (prices < batch.rows["decision"]["floor_micros"])
    batch.refuse(under, RowStatus.INVALID, "prices_micros", prices, "below the floor that the bid was answered with")
    batch.refuse(~priced & (prices != 0), RowStatus.INVALID, "prices_micros", prices, "only WIN and BILLABLE carry one")
    least = batch.min_bids_to_win_micros
    bad = (least < 0) | (least > MAX_PRICE_MICROS)
    batch.refuse(bad, RowStatus.INVALID, "min_bids_to_win_micros", least, f"not in 0..{MAX_PRICE_MICROS}")
    bad = loss_reasons > _MAX_LOSS_REASON
    batch.refuse(bad, RowStatus.INVALID, "loss_reasons", loss_reasons, f"not in 0..{_MAX_LOSS_REASON}")


def _check_times(batch: ReportBatch, now_ms: int) -> None:
    occurred = batch.rows["occurred_at_ms"]
    occurred[occurred == 0] = now_ms
    low, high = now_ms - MAX_AGE_MS, now_ms + MAX_AHEAD_MS
    batch.refuse(
        (occurred < low) | (occurred > high), RowStatus.INVALID, "occurred_at_ms", occurred, f"not in {low}..{high}"
    )


def feedback_of(batch: ReportBatch) -> np.ndarray:
    """What the accepted WIN, BILLABLE and LOSS rows of a report taught, as FEEDBACK[k]."""
    kinds = batch.rows["kind"]
    rows = (batch.statuses == RowStatus.ACCEPTED) & (kinds <= _LAST_BID_KIND)
    outcomes = batch.rows[rows]
    decisions, kinds = outcomes["decision"], kinds[rows]
    taught = np.zeros(len(outcomes), FEEDBACK)
    for name in (
        "campaign_id", "at", "landscape_idx", "probability", "alpha_micros", "bid_micros", "floor_micros",
        "issued_at_ms",
    ):  # fmt: skip
        taught[name] = decisions[name]
    taught["alpha_micros"][(decisions["flags"] & FLAG_FLAT_WORTH) != 0] = 0.0
    taught["won"] = kinds != OutcomeKind.LOSS
    taught["exposed"] = kinds == OutcomeKind.BILLABLE
    taught["caller_prediction"] = (decisions["flags"] & FLAG_CALLER_PREDICTION) != 0
    taught["price_micros"] = np.where(taught["won"] == 1, outcomes["price_micros"], -1)
    least = batch.min_bids_to_win_micros[rows]
    taught["min_bid_to_win_micros"] = np.where(least > 0, least, -1)
    return taught


def encode_report_response(batch: ReportBatch, ledger_sequence: int) -> bytes:
    """The bytes of the ReportResponse."""
    details = [{"row": row, "detail": text} for row, text in batch.details]
    return encode(
        "ReportResponse",
        {"details": details, "ledger_sequence": ledger_sequence},
        {"statuses": batch.statuses},
    )
