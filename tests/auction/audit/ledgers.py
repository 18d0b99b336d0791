"""Ledgers of served traffic, and ways to forge them so well that every hash is right."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np

from auction.audit.verify import Verified, verify
from pacing.facts import JUDGEMENT, OUTCOME, AuctionType, OutcomeKind
from pacing.ledger import index
from pacing.ledger.anchor import EMPTY_HEAD, Anchor, Mark
from pacing.ledger.reading import JUDGED, ROWS, LedgerFile
from pacing.ledger.rows import FIRST_MONEY_KIND
from tests.auction.bid.engines import Engine, tokens_of

MULTIPLIER_MICROS = 1_000_000
Forge = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def serve_some(engine: Engine, rounds: int = 4, told: bool = True) -> int:
    """First- and second-price auctions, won and lost, so that landscapes are learned; the campaign."""
    campaign_id = int(engine.create(creator_id=7).campaign_id)
    engine.create(creator_id=8)
    for k in range(rounds):
        at = AuctionType.FIRST_PRICE if k % 2 else AuctionType.SECOND_PRICE
        viewers = range(1 + 100 * k, 61 + 100 * k)
        predictions = _told(campaign_id, k) if told else None
        answer = engine.bid(viewers, at=at, bidfloor_micros=300 + k, predictions=predictions)
        tokens = tokens_of(answer)
        shown = len(tokens) // 2
        paid = list(answer.prices_micros if at == AuctionType.FIRST_PRICE else answer.floors_micros)
        kinds = [OutcomeKind.BILLABLE] * shown + [OutcomeKind.LOSS] * (len(tokens) - shown)
        engine.report(kinds, tokens, prices_micros=[*paid[:shown], *[0] * (len(tokens) - shown)])
        engine.report([OutcomeKind.FOLLOW, OutcomeKind.CLICK], tokens[:2])
        engine.go_round()
        engine.jump(1_000)
    engine.go_round()
    return campaign_id


def _told(campaign_id: int, k: int) -> dict[str, list[float]]:
    chances = np.random.default_rng(k).uniform(0.001, 0.05, 60).tolist()
    return {"viewer_idx": list(range(60)), "campaign_ids": [campaign_id] * 60, "probabilities": chances}


def check(folder: Path) -> Verified:
    """Verify without a word."""
    return verify(folder, lambda label, done, total: None)


def copy_of(folder: Path, target: Path) -> Path:
    """A data folder to damage."""
    shutil.copytree(folder, target)
    return target


def rows_of(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """All rows, the ledger's own included, and all verdicts: OUTCOME[n], JUDGEMENT[m]."""
    ledger = LedgerFile(folder / "ledger.sqlite")
    rows = np.concatenate([batch.rows for batch in ledger.chain(ROWS)])
    judgements = np.concatenate([batch.rows for batch in ledger.chain(JUDGED)])
    ledger.close()
    return rows, judgements


def forge(folder: Path, change: Forge, renumber: bool = True) -> None:
    """Rewrite a ledger as somebody would who may write every file: chains, anchor and statements all fit."""
    rows, judgements = change(*(part.copy() for part in rows_of(folder)))
    if renumber:
        rows["sequence"] = np.arange(1, len(rows) + 1)
    last = int(rows["sequence"][-1])
    outcomes = rows[rows["kind"] < FIRST_MONEY_KIND]
    judgements = judgements[: len(outcomes)]
    judgements["sequence"] = outcomes["sequence"][: len(judgements)]
    billable = outcomes["kind"] == OutcomeKind.BILLABLE
    judgements["billed_sequence"][billable] = outcomes["sequence"][billable]
    db = sqlite3.connect(folder / "ledger.sqlite", isolation_level=None)
    db.execute("BEGIN")
    for table in ("batches", "judgements", "charges", "snapshots"):
        db.execute(f"DELETE FROM {table}")
    row_head = ROWS.put(db, 1, last, EMPTY_HEAD, rows.astype(OUTCOME))
    judged_head = JUDGED.put(db, 1, last, EMPTY_HEAD, judgements.astype(JUDGEMENT))
    index.add_charges(db, outcomes, judgements)
    db.execute("COMMIT")
    db.close()
    anchor = Anchor(folder / "ledger.anchor")
    for _ in range(2):  # both of its slots
        anchor.write(Mark(anchor.mark.revision + 1, last, row_head, last, judged_head))
    anchor.close()
