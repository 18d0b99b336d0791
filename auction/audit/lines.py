"""A charge with its why as a line of a table: instants and verdicts in words, amounts exact in currency units."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pacing.facts import AuctionType, Verdict, row_text
from pacing.money import text_from_micros

VERDICT_WORDS = {
    int(Verdict.CHARGED): "charged",
    int(Verdict.DUPLICATE): "duplicate",
    int(Verdict.CONFLICT): "conflict",
    int(Verdict.OVER_DELIVERY): "over-delivery",
}
AUCTION_WORDS = {int(AuctionType.FIRST_PRICE): "first", int(AuctionType.SECOND_PRICE): "second"}
HEADER = (
    "ledger row", "seen at (UTC)", "viewer", "video", "bid", "price", "auction", "floor", "predicted probability",
    "worth of one event", "worth of this impression", "bid / worth", "verdict", "charged so far",
    "over-delivered so far",
)  # fmt: skip


def line_of(charge: Mapping[str, Any]) -> tuple[str, ...]:
    """The cells, under HEADER, of one charge with the fields of `pacing.ledger.statement.EXPLAINED`.

    A worth is no money yet, so it is written with nine decimals, and p so that it reads back the same.
    """
    seen = datetime.fromtimestamp(charge["occurred_at_ms"] / 1000, UTC)
    return (
        row_text(charge["sequence"]),
        seen.strftime("%Y-%m-%d %H:%M:%S"),
        str(charge["viewer_id"]),
        str(charge["creative_id"]),
        text_from_micros(charge["bid_micros"]),
        text_from_micros(charge["amount_micros"]),
        AUCTION_WORDS.get(charge["at"], str(charge["at"])),
        text_from_micros(charge["floor_micros"]),
        f"{charge['probability']:.9g}",
        "" if charge["flat"] else f"{charge['alpha_micros'] / 1e6:.9f}",
        f"{charge['value_micros'] / 1e6:.9f}",
        f"{charge['shade']:.4f}" if charge["at"] == AuctionType.FIRST_PRICE else "",
        VERDICT_WORDS.get(charge["verdict"], str(charge["verdict"])),
        text_from_micros(charge["charged_micros"]),
        text_from_micros(charge["over_delivered_micros"]),
    )
