"""Reports: the exact status of every kind of row, and that a refused row moves nothing."""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np
import pytest

from auction.bid.outcomes import MAX_AGE_MS, MAX_AHEAD_MS, MAX_CLOSED, MAX_ROWS
from auction.bid.token import TokenKeys, sign_batch
from auction.status import refusal_of
from pacing.facts import OutcomeKind, RowStatus
from pacing.money import MAX_PRICE_MICROS
from protos import bidding_pb2
from tests.auction.bid.engines import FIXED_BID_MICROS, NO_TOKEN, Engine, decisions_of, tokens_of

WIN, BILLABLE, LOSS, CLICK, FOLLOW = (
    OutcomeKind.WIN,
    OutcomeKind.BILLABLE,
    OutcomeKind.LOSS,
    OutcomeKind.CLICK,
    OutcomeKind.FOLLOW,
)
ACCEPTED, DUPLICATE, EXPIRED = RowStatus.ACCEPTED, RowStatus.DUPLICATE, RowStatus.EXPIRED
CONFLICT, FORGED, INVALID = RowStatus.CONFLICT, RowStatus.FORGED, RowStatus.INVALID


@pytest.fixture(scope="module")
def engine():
    running = Engine()
    yield running
    running.close()


@pytest.fixture(scope="module")
def campaign_id(engine: Engine) -> int:
    return engine.create().campaign_id


@pytest.fixture
def viewer_ids(engine: Engine):
    """Fresh viewers, so that nothing of one test touches another's."""
    first = engine.services.ledger.last_sequence * 1_000 + engine.bid([10**12]).hold_first_seq % 10**6
    return iter(range(first, first + 10**6))


@pytest.fixture
def token(engine: Engine, campaign_id: int, viewer_ids) -> bytes:
    return tokens_of(engine.bid([next(viewer_ids)]))[0]


def money(engine: Engine, campaign_id: int) -> tuple[bytes, int]:
    return engine.account(campaign_id).tobytes(), engine.services.ledger.last_sequence


HISTORIES: dict[str, list[tuple[OutcomeKind, int, RowStatus]]] = {
    "shown": [(WIN, 5, ACCEPTED), (BILLABLE, 5, ACCEPTED)],
    "shown without a win": [(BILLABLE, 5, ACCEPTED)],
    "at the bid": [(BILLABLE, FIXED_BID_MICROS, ACCEPTED)],
    "for nothing": [(BILLABLE, 0, ACCEPTED)],
    "told twice": [(WIN, 5, ACCEPTED), (WIN, 5, DUPLICATE), (BILLABLE, 5, ACCEPTED), (BILLABLE, 5, DUPLICATE)],
    "another price": [(BILLABLE, 5, ACCEPTED), (BILLABLE, 6, CONFLICT), (BILLABLE, 4, CONFLICT)],
    "another win": [(WIN, 5, ACCEPTED), (WIN, 6, CONFLICT)],
    "dearer than won": [(WIN, 5, ACCEPTED), (BILLABLE, 6, CONFLICT), (BILLABLE, 5, ACCEPTED)],
    "lost": [(LOSS, 0, ACCEPTED), (LOSS, 0, DUPLICATE), (WIN, 5, CONFLICT), (BILLABLE, 5, CONFLICT)],
    "won, then not shown": [(WIN, 5, ACCEPTED), (LOSS, 0, ACCEPTED), (BILLABLE, 5, CONFLICT)],
    "lost after it was shown": [(BILLABLE, 5, ACCEPTED), (LOSS, 0, CONFLICT), (BILLABLE, 5, DUPLICATE)],
    "above the bid": [(WIN, FIXED_BID_MICROS + 1, INVALID), (BILLABLE, FIXED_BID_MICROS + 1, INVALID)],
    "negative": [(WIN, -1, INVALID), (BILLABLE, -1, INVALID), (BILLABLE, -(2**63), INVALID)],
    "a click that costs": [(CLICK, 1, INVALID)],
    "a loss that costs": [(LOSS, 1, INVALID)],
    "clicked twice": [(CLICK, 0, ACCEPTED), (CLICK, 0, DUPLICATE), (FOLLOW, 0, ACCEPTED)],
}


@pytest.mark.parametrize("steps", HISTORIES.values(), ids=HISTORIES.keys())
@pytest.mark.parametrize("together", [False, True], ids=["one by one", "in one report"])
def test_histories_of_a_bid(
    engine: Engine, token: bytes, together: bool, steps: list[tuple[OutcomeKind, int, RowStatus]]
) -> None:
    if together:
        answer = engine.report([s[0] for s in steps], [token] * len(steps), prices_micros=[s[1] for s in steps])
        assert list(answer.statuses) == [s[2] for s in steps]
    else:
        assert [engine.status(kind, token, paid) for kind, paid, _ in steps] == [s[2] for s in steps]


def test_an_accepted_impression_charges_once(engine: Engine, campaign_id: int, token: bytes) -> None:
    before = engine.account(campaign_id)
    for _ in range(3):
        engine.status(BILLABLE, token, 1_234)
    after = engine.account(campaign_id)
    for name in ("day_spend_micros", "flight_spend_micros"):
        assert after[name] - before[name] == 1_234


def test_an_impression_below_its_bids_floor_is_not_billed(engine: Engine, campaign_id: int, viewer_ids) -> None:
    answer = engine.bid([next(viewer_ids)], bidfloor_micros=700)
    (token,) = tokens_of(answer)
    assert list(answer.floors_micros) == [700]
    told = engine.report([WIN, BILLABLE], [token, token], prices_micros=[699, 699])
    assert list(told.statuses) == [INVALID, INVALID]
    assert told.details[0].detail.startswith("prices_micros 699: below the floor")
    assert [engine.status(kind, token, 700) for kind in (WIN, BILLABLE)] == [ACCEPTED, ACCEPTED]


def test_silence_expires(engine: Engine, campaign_id: int, viewer_ids) -> None:
    silent, won = tokens_of(engine.bid([next(viewer_ids), next(viewer_ids)]))
    engine.advance(2_000)
    assert engine.status(WIN, won, 5) == ACCEPTED  # deadlines are inclusive
    engine.advance(1)
    before = engine.services.ledger.last_sequence
    assert engine.status(WIN, silent, 5) == EXPIRED
    assert engine.status(BILLABLE, silent, 5) == EXPIRED
    engine.advance(57_999)
    late = engine.status(BILLABLE, won, 5)
    assert late == ACCEPTED and engine.services.ledger.last_sequence > before


def test_a_win_that_is_never_shown_expires(engine: Engine, token: bytes) -> None:
    assert engine.status(WIN, token, 5) == ACCEPTED
    engine.advance(60_001)
    assert engine.status(BILLABLE, token, 5) == EXPIRED
    engine.go_round()


def test_a_token_altered_in_any_byte_is_forged(engine: Engine, campaign_id: int, token: bytes) -> None:
    altered = [token[:k] + bytes([token[k] ^ 1 << k % 8]) + token[k + 1 :] for k in range(len(token))]
    before = money(engine, campaign_id)
    for kind in (WIN, BILLABLE, LOSS, FOLLOW):
        charged = [1 if kind in (WIN, BILLABLE) else 0] * len(altered)
        answer = engine.report([kind] * len(altered), altered, prices_micros=charged)
        assert set(answer.statuses) == {FORGED}
    assert money(engine, campaign_id) == before
    assert engine.status(BILLABLE, token, 1) == ACCEPTED


def test_a_foreign_deployments_token_is_forged(engine: Engine, campaign_id: int, viewer_ids) -> None:
    decisions = decisions_of(engine.bid([next(viewer_ids)])).copy()
    sign_batch(decisions, TokenKeys({1: bytes(32)}, 1))
    before = money(engine, campaign_id)
    assert engine.status(BILLABLE, decisions.tobytes(), 1) == FORGED
    assert engine.status(BILLABLE, np.random.default_rng(1).bytes(192), 1) == FORGED
    assert engine.status(WIN, bytes(range(192)), 1) == FORGED
    assert money(engine, campaign_id) == before


def row(**columns: Any) -> dict[str, Any]:
    return {name: [value] for name, value in columns.items()}


BAD_ROWS: dict[str, tuple[int, bool, dict[str, Any], str]] = {
    "kind 0": (0, True, {}, "kinds 0: not in 1..15"),
    "kind 16": (16, True, {}, "kinds 16: not in 1..15"),
    "kind 258": (258, True, {}, "kinds 258: not in 1..15"),
    "kind of 32 bits": (2**32 - 1, True, {}, "kinds 4294967295: not in 1..15"),
    "win without a token": (WIN, False, row(prices_micros=0), "tokens: this kind needs the bid's token"),
    "impression without a token": (
        BILLABLE,
        False,
        row(prices_micros=0, viewer_ids=1, creator_ids=7),
        "tokens: this kind needs",
    ),
    "follow of nobody": (FOLLOW, False, row(viewer_ids=1), "viewer_ids: without a token, viewer and creator must be"),
    "follow by nobody": (FOLLOW, False, row(creator_ids=7), "viewer_ids: without a token"),
    "amount beyond all": (BILLABLE, True, row(prices_micros=2**63 - 1), f"not in 0..{MAX_PRICE_MICROS}"),
    "least bid negative": (
        WIN,
        True,
        row(prices_micros=1, min_bids_to_win_micros=-1),
        "min_bids_to_win_micros -1: not in 0..",
    ),
    "loss reason": (LOSS, True, row(loss_reasons=10_001), "loss_reasons 10001: not in 0..10000"),
    "long ago": (FOLLOW, True, row(occurred_at_ms=1), "occurred_at_ms 1: not in"),
    "before time": (FOLLOW, True, row(occurred_at_ms=-(2**63)), "occurred_at_ms -9223372036854775808: not in"),
    "to come": (FOLLOW, True, row(occurred_at_ms=2**62), "occurred_at_ms 4611686018427387904: not in"),
}


@pytest.mark.parametrize(("kind", "with_token", "columns", "text"), BAD_ROWS.values(), ids=BAD_ROWS.keys())
def test_bad_rows_are_invalid_and_move_nothing(
    engine: Engine, campaign_id: int, token: bytes, kind: int, with_token: bool, columns: dict[str, Any], text: str
) -> None:
    before = money(engine, campaign_id)
    answer = engine.report([kind], [token if with_token else NO_TOKEN], **columns)
    assert list(answer.statuses) == [INVALID]
    assert len(answer.details) == 1 and answer.details[0].row == 0 and text in answer.details[0].detail
    assert money(engine, campaign_id) == before


def test_times_are_inclusive(engine: Engine, token: bytes) -> None:
    now_ms = engine.now_ms
    at_ms = [now_ms - MAX_AGE_MS - 1, now_ms - MAX_AGE_MS, now_ms + MAX_AHEAD_MS, now_ms + MAX_AHEAD_MS + 1]
    kinds = [CLICK, CLICK, FOLLOW, FOLLOW]
    answer = engine.report(kinds, [token] * 4, occurred_at_ms=at_ms)
    assert list(answer.statuses) == [INVALID, ACCEPTED, ACCEPTED, INVALID]


def test_a_bad_row_is_refused_alone(engine: Engine, campaign_id: int, viewer_ids) -> None:
    first, second, third = tokens_of(engine.bid([next(viewer_ids) for _ in range(3)]))
    before = engine.account(campaign_id)["day_spend_micros"]
    answer = engine.report(
        [BILLABLE, 77, BILLABLE, BILLABLE, FOLLOW, BILLABLE],
        [first, second, b"\x01" * 192, second, NO_TOKEN, third],
        prices_micros=[10, 0, 1, -1, 0, 30],
        viewer_ids=[0, 0, 0, 0, 5, 0],
        creator_ids=[0, 0, 0, 0, 7, 0],
    )
    assert list(answer.statuses) == [ACCEPTED, INVALID, FORGED, INVALID, ACCEPTED, ACCEPTED]
    assert {detail.row for detail in answer.details} >= {1, 3}
    assert engine.account(campaign_id)["day_spend_micros"] - before == 40
    assert answer.ledger_sequence == engine.services.ledger.last_sequence


def test_conflicts_are_explained(engine: Engine, token: bytes) -> None:
    answer = engine.report([BILLABLE, BILLABLE], [token, token], prices_micros=[5, 6])
    assert list(answer.statuses) == [ACCEPTED, CONFLICT]
    assert [(detail.row, detail.detail) for detail in answer.details] == [
        (1, "kinds BILLABLE, prices_micros 6: contradicts what was accepted about this bid before")
    ]


def test_details_are_given_for_the_first_rows_only(engine: Engine) -> None:
    answer = engine.report([0] * 100)
    assert list(answer.statuses) == [INVALID] * 100
    assert [detail.row for detail in answer.details] == list(range(64))


REFUSED_REPORTS: dict[str, tuple[bidding_pb2.ReportRequest, str]] = {
    "rows": (bidding_pb2.ReportRequest(kinds=[4] * (MAX_ROWS + 1)), "kinds: 4001 rows; at most 4000"),
    "token of half a row": (bidding_pb2.ReportRequest(kinds=[4], tokens=bytes(191)), "tokens: 191 bytes for 1 rows"),
    "tokens of more rows": (bidding_pb2.ReportRequest(kinds=[4], tokens=bytes(384)), "must be 0 or 192"),
    "tokens without rows": (bidding_pb2.ReportRequest(tokens=bytes(192)), "tokens: 192 bytes for 0 rows"),
    "amounts": (bidding_pb2.ReportRequest(kinds=[4, 4], prices_micros=[1]), "prices_micros: 1 values for 2 rows"),
    "times": (bidding_pb2.ReportRequest(kinds=[4], occurred_at_ms=[0, 0]), "occurred_at_ms: 2 values for 1 rows"),
    "viewers": (bidding_pb2.ReportRequest(kinds=[4, 4], viewer_ids=[1]), "viewer_ids: 1 values"),
    "creators": (bidding_pb2.ReportRequest(kinds=[4, 4], creator_ids=[1]), "creator_ids: 1 values"),
    "least bids": (bidding_pb2.ReportRequest(kinds=[1] * 2, min_bids_to_win_micros=[1]), "min_bids_to_win_micros: 1"),
    "prices left out": (
        bidding_pb2.ReportRequest(kinds=[5, 2], tokens=bytes(384)),
        "prices_micros: 0 values for 2 rows",
    ),
    "loss reasons": (bidding_pb2.ReportRequest(kinds=[3, 3], loss_reasons=[1]), "loss_reasons: 1 values"),
    "closed": (
        bidding_pb2.ReportRequest(closed_hold_first_seqs=[1], closed_hold_counts=[1, 2]),
        "closed_hold_counts: 2 for 1 closed_hold_first_seqs",
    ),
    "too many closed": (
        bidding_pb2.ReportRequest(
            closed_hold_first_seqs=[1] * (MAX_CLOSED + 1), closed_hold_counts=[1] * (MAX_CLOSED + 1)
        ),
        "at most 1000",
    ),
}


@pytest.mark.parametrize(("request_", "text"), REFUSED_REPORTS.values(), ids=REFUSED_REPORTS.keys())
def test_reports_of_the_wrong_shape_are_refused_whole(
    engine: Engine, campaign_id: int, request_: bidding_pb2.ReportRequest, text: str
) -> None:
    before = money(engine, campaign_id)
    with pytest.raises(ValueError, match=text) as refused:
        engine.send_report(request_)
    assert refusal_of(refused.value).code is grpc.StatusCode.INVALID_ARGUMENT
    assert money(engine, campaign_id) == before


def test_an_empty_report_is_answered(engine: Engine) -> None:
    assert list(engine.report([]).statuses) == []


def test_as_many_rows_as_allowed(engine: Engine) -> None:
    answer = engine.report([FOLLOW] * MAX_ROWS, viewer_ids=range(1, MAX_ROWS + 1), creator_ids=[9] * MAX_ROWS)
    assert set(answer.statuses) == {ACCEPTED}


def test_closing_a_response_frees_what_was_not_won(engine: Engine, campaign_id: int, viewer_ids) -> None:
    engine.advance(120_000)
    engine.go_round()
    answer = engine.bid([next(viewer_ids) for _ in range(4)])
    assert engine.account(campaign_id)["held_micros"] == 4 * FIXED_BID_MICROS
    tokens = tokens_of(answer)
    engine.status(WIN, tokens[1], 5)
    engine.report([], closed_hold_first_seqs=[answer.hold_first_seq], closed_hold_counts=[answer.hold_count])
    assert engine.account(campaign_id)["held_micros"] == FIXED_BID_MICROS
    assert engine.status(WIN, tokens[0], 5) == CONFLICT
    assert engine.status(BILLABLE, tokens[1], 5) == ACCEPTED


def test_closing_what_never_was_changes_nothing(engine: Engine, campaign_id: int) -> None:
    before = money(engine, campaign_id)
    engine.report([], closed_hold_first_seqs=[0, 2**64 - 1, 5], closed_hold_counts=[2**32 - 1, 2**32 - 1, 0])
    assert money(engine, campaign_id) == before


def test_what_reports_teach(engine: Engine, campaign_id: int, viewer_ids) -> None:
    engine.services.feedback.take()
    won, lost, shown = tokens_of(engine.bid([next(viewer_ids) for _ in range(3)]))
    engine.report(
        [WIN, LOSS, BILLABLE, CLICK, WIN],
        [won, lost, shown, shown, b"\x01" * 192],
        prices_micros=[5, 0, 7, 0, 0],
        min_bids_to_win_micros=[4, 30_000, 0, 0, 0],
    )
    (taught,) = engine.services.feedback.take()
    assert taught["campaign_id"].tolist() == [campaign_id] * 3
    assert taught["won"].tolist() == [1, 0, 1] and taught["exposed"].tolist() == [0, 0, 1]
    assert taught["price_micros"].tolist() == [5, -1, 7]
    assert taught["min_bid_to_win_micros"].tolist() == [4, 30_000, -1]
    assert taught["bid_micros"].tolist() == [FIXED_BID_MICROS] * 3
