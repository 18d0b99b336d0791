"""The nouns that money is told in, and the layout of each: decision, outcome, feedback, and their codes.

Numbers of kinds and statuses are those of `protos/bidding.proto`; a test holds the two together. Layouts are packed and
little-endian: they are what the token carries and what the ledger stores.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

TOKEN_BYTES = 192
MAC_BYTES = 16
MAX_FEATURES = 16
TOKEN_VERSION = 2
FIRST_DERIVABLE_VERSION = 2
"""From this version on a decision states p as it was used, so that its bid can be derived again to the bit."""
OWNER_SHIFT = 48
"""Where ledgers meet, a row is called by its owner's id and, below this many bits, its sequence; so are leases and
holds, by their owner's id and a count."""
SEQUENCE_MASK = 2**OWNER_SHIFT - 1


def row_text(sequence: int) -> str:
    """What a row of the ledger is called where people read it: 123, or owner#row, such as 4#123, where ledgers meet.

    A spreadsheet takes it for text. It would cut the digits of a number of 16 digits, and take 4:12 for a time of day.
    """
    owner_id, row = sequence >> OWNER_SHIFT, sequence & SEQUENCE_MASK
    return f"{owner_id}#{row}" if owner_id else str(row)


class AuctionType(IntEnum):
    """How a slot clears (OpenRTB `at`)."""

    FIRST_PRICE = 1
    SECOND_PRICE = 2


class OutcomeKind(IntEnum):
    """What happened to a bid (1 to 3), or what a viewer did (4 and up)."""

    WIN = 1
    BILLABLE = 2
    LOSS = 3
    CLICK = 4
    PLAY = 5
    FOLLOW = 6
    PROFILE_VISIT = 7
    PRODUCT_CLICK = 8
    UNFOLLOW = 9
    LIKE = 10
    COMMENT = 11
    SHARE = 12
    GIFT = 13
    ORDER = 14
    LIVE_VISIT = 15


class RowStatus(IntEnum):
    """The answer to one reported row."""

    ACCEPTED = 1
    DUPLICATE = 2
    EXPIRED = 3
    CONFLICT = 4
    FORGED = 5
    INVALID = 6


class Verdict(IntEnum):
    """What a judge decided about one durable row: 1 to 4 about billable claims, 5 to 7 about what viewers did."""

    CHARGED = 1
    DUPLICATE = 2
    CONFLICT = 3
    OVER_DELIVERY = 4  # served, but no money was left to charge: the platform's loss
    ATTRIBUTED = 5  # counts for the campaign that the judgement names
    ORGANIC = 6  # no billed impression explains it
    REPEAT = 7  # this creator-viewer pair was counted within 30 days


class Goal(IntEnum):
    """What a campaign buys; the numbers of `protos/campaigns.proto`."""

    PLAYS = 1
    FANS = 2
    PROFILE_VISITS = 3
    PRODUCT_CLICKS = 4
    LIVE_VISITS = 5
    ORDERS = 6
    KEPT_FANS = 7


GOAL_OF_KIND = {
    OutcomeKind.PLAY: Goal.PLAYS,
    OutcomeKind.FOLLOW: Goal.FANS,
    OutcomeKind.PROFILE_VISIT: Goal.PROFILE_VISITS,
    OutcomeKind.PRODUCT_CLICK: Goal.PRODUCT_CLICKS,
    OutcomeKind.LIVE_VISIT: Goal.LIVE_VISITS,
    OutcomeKind.ORDER: Goal.ORDERS,
}
"""The goal event that an outcome counts as. KEPT_FANS has no outcome of its own: retention decides it."""

DECISION = np.dtype(
    [
        ("version", "u1"),
        ("key_id", "u1"),
        ("at", "u1"),
        ("goal", "u1"),
        ("arm", "<u2"),  # experiment arm; 0: none
        ("feature_count", "u1"),
        ("flags", "u1"),
        ("campaign_id", "<u8"),
        ("creative_id", "<u8"),
        ("creator_id", "<u8"),
        ("viewer_id", "<u8"),
        ("lease_id", "<u8"),
        ("hold_seq", "<u8"),
        ("bid_micros", "<i8"),  # the price ceiling
        ("floor_micros", "<i8"),
        ("issued_at_ms", "<i8"),
        ("win_notice_ms", "<u4"),  # after issued_at_ms
        ("billing_ms", "<u4"),  # after issued_at_ms
        ("snapshot_version", "<u8"),
        ("alpha_micros", "<f8"),  # micros per expected goal event; with FLAG_FLAT_WORTH micros per impression
        ("probability", "<f4"),  # rounded before it was used
        ("landscape_idx", "<u4"),
        ("features", "<u4", (MAX_FEATURES,)),
        ("mac", "u1", (MAC_BYTES,)),
    ]
)
"""A bid as its token carries it, signed; 192 bytes.

Symbols: probability is p (or v, the expected goal events of one impression), alpha_micros is the multiplier alpha; the
worth of the impression is alpha * v, and `bid_micros` is what was bid for it (shaded in a first-price auction).
"""

FLAG_CALLER_PREDICTION = 1  # DECISION.flags: p came with the request, so the engine's predictor must not learn from it
FLAG_FLAT_WORTH = 2  # DECISION.flags: alpha_micros is what the impression is worth, whatever its p (policy "fixed")
FLAG_TIER_UPLIFT = 32  # DECISION.flags: alpha_micros is by viewer, as it counts what tier the fan may come to be of

EARLIER_SHIFT = 2
MOST_EARLIER = 7
"""DECISION.flags, three bits from EARLIER_SHIFT on: impressions of the creator that the viewer had been shown or
offered that day; 7: that or more."""
EARLIER_LEVELS = MOST_EARLIER + 1


def earlier_of(decisions: np.ndarray) -> np.ndarray:
    """How many impressions of the creator came before each of DECISION[n]: u1[n], 0..MOST_EARLIER."""
    levels: np.ndarray = (decisions["flags"] >> EARLIER_SHIFT) & MOST_EARLIER
    return levels


def worth_micros(decisions: np.ndarray) -> np.ndarray:
    """What each impression of DECISION[n] was worth to its campaign: f8[n], to the bit what ranked and priced it."""
    alpha = decisions["alpha_micros"].astype(np.float64)
    flat = (decisions["flags"] & FLAG_FLAT_WORTH) != 0
    return np.where(flat, alpha, alpha * decisions["probability"].astype(np.float64))


OUTCOME = np.dtype(
    [
        ("sequence", "<u8"),  # the ledger's row number, from 1; 0 before it is written
        ("kind", "u1"),
        ("has_token", "u1"),
        ("verdict", "u1"),  # 0 until settled; billable rows only
        ("reserved", "u1", (5,)),
        ("occurred_at_ms", "<i8"),
        ("recorded_at_ms", "<i8"),
        ("price_micros", "<i8"),
        ("viewer_id", "<u8"),
        ("creator_id", "<u8"),
        ("decision", DECISION),  # zeros without a token
    ]
)
"""One durable ledger row about a bid or a viewer."""

JUDGEMENT = np.dtype(
    [
        ("sequence", "<u8"),  # the row that is judged
        ("verdict", "u1"),
        ("reserved", "u1", (7,)),
        ("campaign_id", "<u8"),  # charged to, or attributed to; 0: none
        ("creative_id", "<u8"),
        ("lease_id", "<u8"),  # the billed impression that explains it
        ("hold_seq", "<u8"),
        ("billed_sequence", "<u8"),  # ledger row of that impression; 0: none
    ]
)
"""A judge's word on one ledger row; statements, reports, learning and the outbox read rows together with it."""

FEEDBACK = np.dtype(
    [
        ("campaign_id", "<u8"),
        ("at", "u1"),
        ("won", "u1"),
        ("exposed", "u1"),  # a billable impression followed
        ("caller_prediction", "u1"),
        ("landscape_idx", "<u4"),
        ("probability", "<f8"),
        ("alpha_micros", "<f8"),
        ("bid_micros", "<i8"),
        ("floor_micros", "<i8"),
        ("price_micros", "<i8"),  # charged or cleared at; -1: not known
        ("min_bid_to_win_micros", "<i8"),  # -1: not told
        ("issued_at_ms", "<i8"),
    ]
)
"""What one decided auction taught: not durable, best effort, in memory only. Feeds landscapes and pacing."""

PACING_ACCOUNT = np.dtype(
    [
        ("campaign_id", "<u8"),
        ("target_cost_micros", "<i8"),  # per goal event; 0: automatic bidding
        ("history_group", "<u4"),  # which group of past days resembles it; 0: all
        ("at", "<u4"),  # reserved for a campaign bound to one auction type; 0: any
        ("day_start_at_ms", "<i8"),
        ("day_end_at_ms", "<i8"),
        ("start_at_ms", "<i8"),
        ("end_at_ms", "<i8"),  # 0: no end
        ("day_cap_micros", "<i8"),
        ("day_spend_micros", "<i8"),
        ("flight_cap_micros", "<i8"),
        ("flight_spend_micros", "<i8"),
        ("day_expected_events", "<f8"),  # of the day's billed impressions, in the light of what has arrived
        ("day_predicted_events", "<f8"),  # the same as predicted: sum of p
        ("events_ratio", "<f8"),  # true over predicted events of what is bought now
        ("day_planned_micros", "<i8"),  # of the day, by an earlier process; read when pacing first meets the campaign
    ]
)
"""What pacing is told about one campaign at a tick."""

assert DECISION.itemsize == TOKEN_BYTES, DECISION.itemsize
