"""Bid requests: what is refused, with field and range, and that nothing moves then; what bids carry."""

from __future__ import annotations

import math
from typing import Any

import grpc
import numpy as np
import pytest

from auction.bid.nobid import NBR_BELOW_FLOOR, NBR_BID, NBR_BLOCKED_CREATOR, NBR_FREQUENCY_CAP, NBR_NO_CAMPAIGN
from auction.bid.token import verify_batch
from auction.campaigns.access import Role
from auction.predictor.settings import goal_row
from auction.status import refusal_of
from pacing.facts import FLAG_CALLER_PREDICTION, FLAG_FLAT_WORTH, AuctionType, Goal, OutcomeKind, RowStatus, earlier_of
from pacing.money import MAX_PRICE_MICROS
from protos import bidding_pb2
from tests.auction.bid.engines import FIXED_BID_MICROS, Engine, a_request, decisions_of, tokens_of

FEATURES_OF_A_BID = 16


@pytest.fixture(scope="module")
def engine():
    running = Engine()
    yield running
    running.close()


@pytest.fixture(scope="module")
def campaign_id(engine: Engine) -> int:
    return engine.create(creator_id=7).campaign_id


def viewers(**columns: Any) -> dict[str, Any]:
    return {"viewers": bidding_pb2.Viewers(**({"ids": [1, 2]} | columns))}


def predictions(idx: list[int], ids: list[int], probabilities: list[float]) -> dict[str, Any]:
    return {"predictions": bidding_pb2.Predictions(viewer_idx=idx, campaign_ids=ids, probabilities=probabilities)}


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no id": ({"id": ""}, "id: 0 bytes; must be 1..64"),
    "long id": ({"id": "é" * 33}, "id: 66 bytes; must be 1..64"),
    "no auction type": ({"at": 0}, "at 0: must be 1"),
    "unknown auction type": ({"at": 3}, "at 3: must be 1"),
    "other currency": ({"cur": "USD"}, "cur 'USD': this deployment trades in CNY"),
    "placement": ({"placement": 16}, "placement 16: not in 0..15"),
    "content category": ({"content_category": 64}, "content_category 64: not in 0..63"),
    "negative floor": ({"bidfloor_micros": -1}, "bidfloor_micros -1: not in 0.."),
    "floor too high": ({"bidfloor_micros": MAX_PRICE_MICROS + 1}, f"not in 0..{MAX_PRICE_MICROS}"),
    "too many bids": ({"max_bids_per_viewer": 4}, "max_bids_per_viewer 4: not in 0..3"),
    "too many blocked": ({"blocked_creator_ids": range(65)}, "blocked_creator_ids count 65: not in 0..64"),
    "no viewers": (viewers(ids=[]), "viewers.ids count 0: not in 1..1000"),
    "1,001 viewers": (viewers(ids=range(1_001)), "viewers.ids count 1001: not in 1..1000"),
    "duplicate viewer": (viewers(ids=[5, 4, 5]), "viewers.ids 5: given twice"),
    "negative viewer floor": (viewers(bidfloors_micros=[0, -7]), r"viewers.bidfloors_micros\[1\] -7: not in 0.."),
    "short floors": (viewers(bidfloors_micros=[1]), "viewers.bidfloors_micros: 1 values for 2 viewers; must be 0 or 2"),
    "region": (viewers(regions=[1, 512]), r"viewers.regions\[1\] 512: not in 0..511"),
    "age": (viewers(age_bands=[8, 0]), r"viewers.age_bands\[0\] 8: not in 0..7"),
    "gender": (viewers(genders=[2**32 - 1, 0]), r"viewers.genders\[0\] 4294967295: not in 0..3"),
    "long os": (viewers(os=[1, 1, 1]), "viewers.os: 3 values for 2 viewers"),
    "network": (viewers(networks=[0, 6]), r"viewers.networks\[1\] 6: not in 0..5"),
    "device": (viewers(device_tiers=[0, 6]), r"viewers.device_tiers\[1\] 6: not in 0..5"),
    "short interests": (viewers(interest_masks=[1]), "viewers.interest_masks: 1 values for 2 viewers"),
    "prediction of no viewer": (predictions([2], [1], [0.5]), "predictions.viewer_idx 2: not in 0..1"),
    "predictions twice": (
        predictions([0, 1, 1], [1, 1, 1], [0.5, 0.5, 0.1]),
        "campaign_ids 1: given twice for viewer_idx 1",
    ),
    "predictions not ascending": (predictions([1, 0], [1, 1], [0.5, 0.5]), "predictions.viewer_idx: must ascend"),
    "predictions of different lengths": (predictions([0, 1], [1], [0.5]), "predictions: 2 viewer_idx, 1 campaign_ids"),
    "NaN": (predictions([0], [1], [math.nan]), r"predictions.probabilities\[0\] nan: not in 0..1"),
    "infinite": (predictions([0], [1], [math.inf]), r"predictions.probabilities\[0\] inf: not in 0..1"),
    "negative probability": (predictions([0, 1], [1, 1], [0.5, -0.1]), r"predictions.probabilities\[1\] -0.1"),
    "above one": (predictions([0], [1], [1.5]), r"predictions.probabilities\[0\] 1.5: not in 0..1"),
}


@pytest.mark.parametrize(("changes", "text"), REFUSED.values(), ids=REFUSED.keys())
def test_bad_requests_are_refused_and_nothing_moves(
    engine: Engine, campaign_id: int, changes: dict[str, Any], text: str
) -> None:
    before = engine.account(campaign_id).tobytes(), engine.services.ledger.last_sequence
    with pytest.raises(ValueError, match=text) as refused:
        engine.send_bid(a_request([1, 2], **changes))
    assert refusal_of(refused.value).code is grpc.StatusCode.INVALID_ARGUMENT
    assert (engine.account(campaign_id).tobytes(), engine.services.ledger.last_sequence) == before


@pytest.mark.parametrize("raw", [b"\xff", b"\x0a\x05ab", bytes(9), b"\x52\x0b\x0a\x09" + bytes(9)])
def test_malformed_bytes_are_refused(engine: Engine, campaign_id: int, raw: bytes) -> None:
    before = engine.account(campaign_id).tobytes()
    for method in ("Bidding/Bid", "Bidding/Report"):
        with pytest.raises(ValueError) as refused:
            engine.call(method, raw if method.endswith("Bid") else b"\x0a\x03abc", bidding_pb2.BidResponse, Role.FEED)
        assert refusal_of(refused.value).code is grpc.StatusCode.INVALID_ARGUMENT
    assert engine.account(campaign_id).tobytes() == before


def test_a_prediction_for_a_campaign_that_never_was_is_not_found(engine: Engine, campaign_id: int) -> None:
    before = engine.account(campaign_id).tobytes()
    with pytest.raises(Exception, match=f"predictions.campaign_ids {2**60}: no such campaign") as refused:
        engine.bid([1], **predictions([0, 0], [campaign_id, 2**60], [0.5, 0.5]))
    assert refusal_of(refused.value).code is grpc.StatusCode.NOT_FOUND
    assert engine.account(campaign_id).tobytes() == before


def test_limits_are_inclusive(engine: Engine, campaign_id: int) -> None:
    answer = engine.bid(
        range(1, 1_001),
        id="x" * 64,
        placement=15,
        content_category=63,
        max_bids_per_viewer=3,
        blocked_creator_ids=range(100, 164),
        bidfloor_micros=MAX_PRICE_MICROS,
    )
    assert answer.id == "x" * 64
    assert list(answer.nbr) == [NBR_BELOW_FLOOR] * 1_000 and not answer.tokens


def test_a_bid_carries_what_was_decided(engine: Engine, campaign_id: int) -> None:
    answer = engine.bid([11, 2**64 - 1], bidfloor_micros=300, **viewers(ids=[11, 2**64 - 1], bidfloors_micros=[0, 900]))
    decisions = decisions_of(answer)
    assert list(answer.viewer_idx) == [0, 1] and list(answer.nbr) == [NBR_BID, NBR_BID]
    assert verify_batch(decisions, engine.services.keys.current).all()
    assert list(answer.campaign_ids) == [campaign_id] * 2 == decisions["campaign_id"].tolist()
    assert list(answer.creator_ids) == [7, 7] == decisions["creator_id"].tolist()
    assert list(answer.creative_ids) == [7001, 7001] == decisions["creative_id"].tolist()
    assert list(answer.prices_micros) == [FIXED_BID_MICROS] * 2 == decisions["bid_micros"].tolist()
    assert list(answer.floors_micros) == [300, 900] == decisions["floor_micros"].tolist()
    assert decisions["viewer_id"].tolist() == [11, 2**64 - 1]
    assert decisions["goal"].tolist() == [Goal.FANS] * 2 and decisions["at"].tolist() == [AuctionType.SECOND_PRICE] * 2
    assert decisions["feature_count"].tolist() == [FEATURES_OF_A_BID] * 2 and decisions["features"].any()
    assert decisions["hold_seq"].tolist() == [answer.hold_first_seq, answer.hold_first_seq + 1]
    assert answer.hold_count == 2
    assert answer.served_at_ms == engine.now_ms == decisions["issued_at_ms"][0]
    assert (answer.win_notice_ms, answer.billing_ms) == (2_000, 60_000)
    assert answer.snapshot_version == decisions["snapshot_version"][0] > 0


def test_the_callers_prediction_is_flagged_in_its_token(engine: Engine, campaign_id: int) -> None:
    decisions = decisions_of(engine.bid([21, 22], **predictions([1], [campaign_id], [0.25])))
    assert decisions["flags"].tolist() == [FLAG_FLAT_WORTH, FLAG_FLAT_WORTH | FLAG_CALLER_PREDICTION]
    assert decisions["probability"][1] == 0.25


def test_blocked_creators_do_not_bid(engine: Engine, campaign_id: int) -> None:
    answer = engine.bid([31], blocked_creator_ids=[7])
    assert list(answer.nbr) == [NBR_BLOCKED_CREATOR] and not answer.tokens


def test_second_price_clears_at_the_engines_own_runner_up() -> None:
    engine = Engine(policy="unpaced", unpaced_multiplier_micros=100_000)
    try:
        ids = [engine.create(creator_id=creator).campaign_id for creator in (1, 2, 3)]
        told = predictions([0, 0, 0], ids, [0.5, 0.25, 0.125])
        answer = engine.bid([1], max_bids_per_viewer=2, bidfloor_micros=1_000, **told)
        assert list(answer.campaign_ids) == ids[:2]
        assert list(answer.prices_micros) == [50_000, 25_000] and list(answer.floors_micros) == [25_000, 12_500]
        alone = engine.bid([2], max_bids_per_viewer=3, bidfloor_micros=13_000, **told)
        assert list(alone.prices_micros) == [50_000, 25_000] and list(alone.floors_micros) == [25_000, 13_000]
        first = engine.bid([3], at=AuctionType.FIRST_PRICE, max_bids_per_viewer=2, bidfloor_micros=1_000, **told)
        assert list(first.floors_micros) == [1_000, 1_000]
        assert all(1_000 <= p <= v for p, v in zip(first.prices_micros, (50_000, 25_000), strict=True))
    finally:
        engine.close()


def test_what_the_request_says_of_a_viewer_wins_over_what_is_known() -> None:
    engine = Engine()
    try:
        assert list(engine.bid([5]).nbr) == [NBR_NO_CAMPAIGN]
        targeting = {"attribute": {"dimension": 3, "codes": [1]}}
        engine.create(targeting=targeting)
        engine.services.viewers.put(
            np.array([5], np.uint64), np.array([[0, 0, 1, 0, 0, 0]], np.uint16), np.zeros(1, np.uint64)
        )
        assert list(engine.bid([5]).nbr) == [NBR_BID]
        assert list(engine.bid([5], **viewers(ids=[5], genders=[2])).nbr) == [501]
        assert list(engine.bid([6], **viewers(ids=[6], genders=[1])).nbr) == [NBR_BID]
    finally:
        engine.close()


def test_a_bid_says_how_often_the_viewer_had_the_creator_and_is_discounted_by_it() -> None:
    engine = Engine()
    try:
        engine.create(frequency_cap_per_day=9)
        predictor, rows = engine.services.predictor, 2_000
        ids, sure = np.ones(rows, np.uint64), np.full(rows, 0.001)
        earlier = (np.arange(rows) % 2).astype(np.uint8)
        predictor.count_expected(Goal.FANS, ids, np.full(rows, 0.5), sure, earlier)
        seen_before = np.repeat(np.array([0, 1], np.uint8), [500, 300])
        predictor.count_observed(Goal.FANS, ids[:800], sure[:800], seen_before)
        engine.go_round()
        first = engine.bid([601])
        engine.status(OutcomeKind.WIN, tokens_of(first)[0])
        engine.status(OutcomeKind.BILLABLE, tokens_of(first)[0], FIXED_BID_MICROS)
        second = engine.bid([601, 602])
        seen, unseen = decisions_of(second)
        assert earlier_of(decisions_of(first)).tolist() == [0]
        assert earlier_of(decisions_of(second)).tolist() == [1, 0]
        discounts = predictor.earlier_discounts().by_goal[goal_row(Goal.FANS)]
        assert discounts[1] < 0.8
        snapshot = engine.services.engine.snapshot
        assert snapshot is not None and discounts[1] < snapshot.mean_discounts[0] < 1
        assert seen["probability"] == pytest.approx(unseen["probability"] * discounts[1], rel=1e-6)
        told = engine.bid([601], **predictions([0], [1], [0.25]))
        assert decisions_of(told)["probability"].tolist() == [0.25]
        assert earlier_of(decisions_of(told)).tolist() == [2]
    finally:
        engine.close()


def test_frequency_caps_count_bids_impressions_and_days() -> None:
    engine = Engine()
    try:
        engine.create(frequency_cap_per_day=1)
        first = engine.bid([5])
        assert list(engine.bid([5]).nbr) == [NBR_FREQUENCY_CAP]
        assert engine.status(OutcomeKind.LOSS, tokens_of(first)[0]) == RowStatus.ACCEPTED
        second = engine.bid([5])
        assert list(second.nbr) == [NBR_BID]
        assert engine.status(OutcomeKind.BILLABLE, tokens_of(second)[0], 1) == RowStatus.ACCEPTED
        engine.jump(3_600_000)
        assert list(engine.bid([5]).nbr) == [NBR_FREQUENCY_CAP]
        engine.jump(12 * 3_600_000)
        engine.go_round()
        assert list(engine.bid([5]).nbr) == [NBR_BID]
    finally:
        engine.close()
