"""The columnar twin of the wire against the public classes: the same bytes, whichever way a client packs them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from auction.bid.wire import Columns, MalformedMessage, decode, encode
from protos import bidding_pb2

PARTS = (("viewers", "Viewers"), ("predictions", "Predictions"))
U64 = st.integers(0, 2**64 - 1)
I64 = st.integers(-(2**63), 2**63 - 1)
U32 = st.integers(0, 2**32 - 1)
F32 = st.floats(width=32)

viewers_messages = st.builds(
    bidding_pb2.Viewers,
    ids=st.lists(U64, max_size=5),
    bidfloors_micros=st.lists(I64, max_size=5),
    regions=st.lists(U32, max_size=3),
    interest_masks=st.lists(U64, max_size=3),
)
predictions_messages = st.builds(
    bidding_pb2.Predictions,
    viewer_idx=st.lists(U32, max_size=4),
    campaign_ids=st.lists(U64, max_size=4),
    probabilities=st.lists(F32, max_size=4),
)
bid_requests = st.builds(
    bidding_pb2.BidRequest,
    id=st.text(max_size=8),
    at=st.integers(0, 2),
    tmax=U32,
    cur=st.text(max_size=3),
    bidfloor_micros=I64,
    blocked_creator_ids=st.lists(U64, max_size=3),
    viewers=st.none() | viewers_messages,
    predictions=st.none() | predictions_messages,
)
report_requests = st.builds(
    bidding_pb2.ReportRequest,
    kinds=st.lists(U32, max_size=4),
    tokens=st.binary(max_size=20),
    prices_micros=st.lists(I64, max_size=4),
    viewer_ids=st.lists(U64, max_size=4),
    closed_hold_counts=st.lists(U32, max_size=3),
)


def same_values(columns: Columns, message: object) -> None:
    """Every column holds what the public class reads, bit by bit, NaN included."""
    for name, values in columns.columns.items():
        expected = np.array(getattr(message, name), values.dtype)
        assert values.tobytes() == expected.tobytes(), name
        assert values.flags.writeable and values.flags.aligned and values.flags.c_contiguous


def read_bid(raw: bytes) -> tuple[Columns, dict[str, Columns]]:
    return decode("BidRequest", raw, PARTS)


def check_bid(raw: bytes) -> None:
    public = bidding_pb2.BidRequest.FromString(raw)
    columns, parts = read_bid(raw)
    same_values(columns, public)
    same_values(parts["viewers"], public.viewers)
    same_values(parts["predictions"], public.predictions)
    for name in ("id", "at", "tmax", "cur", "bidfloor_micros"):
        assert getattr(columns.plain, name) == getattr(public, name)


def field(number: int, wire_type: int) -> bytes:
    if number < 16:
        return bytes([number << 3 | wire_type])
    return bytes([(number << 3 & 0x7F) | 0x80 | wire_type, number >> 4])


def chunk(number: int, body: bytes) -> bytes:
    assert len(body) < 128
    return field(number, 2) + bytes([len(body)]) + body


@limits(max_examples=120)
@given(bid_requests)
def test_requests_are_read_as_the_public_class_reads_them(message: bidding_pb2.BidRequest) -> None:
    check_bid(message.SerializeToString())


@limits(max_examples=80)
@given(report_requests)
def test_reports_are_read_as_the_public_class_reads_them(message: bidding_pb2.ReportRequest) -> None:
    columns, parts = decode("ReportRequest", message.SerializeToString())
    same_values(columns, message)
    assert columns.plain.tokens == message.tokens and parts == {}


@limits(max_examples=80)
@given(
    st.text(max_size=8),
    st.lists(st.tuples(U32, U64, U64, I64), max_size=5),
    st.lists(st.integers(0, 507), max_size=4),
    U64,
    I64,
)
def test_answers_are_the_public_classs_bytes(
    request_id: str, bids: list[tuple[int, int, int, int]], nbr: list[int], first_seq: int, at_ms: int
) -> None:
    message = bidding_pb2.BidResponse(
        id=request_id,
        viewer_idx=[bid[0] for bid in bids],
        campaign_ids=[bid[1] for bid in bids],
        creator_ids=[bid[2] for bid in bids],
        prices_micros=[bid[3] for bid in bids],
        tokens=bytes(len(bids)),
        nbr=nbr,
        hold_first_seq=first_seq,
        served_at_ms=at_ms,
    )
    raw = encode(
        "BidResponse",
        {"id": request_id, "tokens": bytes(len(bids)), "hold_first_seq": first_seq, "served_at_ms": at_ms},
        {
            "viewer_idx": np.array([bid[0] for bid in bids], np.int64),  # cast to the schema's width
            "campaign_ids": np.array([bid[1] for bid in bids], np.uint64),
            "creator_ids": np.array([bid[2] for bid in bids], np.uint64),
            "prices_micros": np.array([bid[3] for bid in bids], np.int64),
            "nbr": np.array(nbr, np.int32),
        },
    )
    assert bidding_pb2.BidResponse.FromString(raw) == message
    assert raw == message.SerializeToString(deterministic=True)


def test_strided_columns_are_written_whole() -> None:
    every_other = np.arange(10, dtype=np.uint64)[::2]
    raw = encode("BidResponse", {}, {"campaign_ids": every_other})
    assert list(bidding_pb2.BidResponse.FromString(raw).campaign_ids) == [0, 2, 4, 6, 8]


@limits(max_examples=60)
@given(bid_requests, bid_requests)
def test_a_message_sent_in_pieces_is_merged(first: bidding_pb2.BidRequest, second: bidding_pb2.BidRequest) -> None:
    # Concatenated bytes are a merged message: columns go on, sub-messages merge, plain fields are overwritten.
    check_bid(first.SerializeToString() + second.SerializeToString())


def test_a_column_in_two_packed_pieces() -> None:
    ids = [np.array(part, "<u8").tobytes() for part in ([1, 2], [3])]
    raw = chunk(10, chunk(1, ids[0]) + chunk(1, ids[1]))
    check_bid(raw)
    assert read_bid(raw)[1]["viewers"]["ids"].tolist() == [1, 2, 3]


def test_an_unpacked_column() -> None:
    unpacked = b"".join(field(1, 1) + np.uint64(k).tobytes() for k in (7, 8, 9))
    raw = chunk(10, unpacked) + field(9, 1) + np.uint64(5).tobytes()
    check_bid(raw)
    columns, parts = read_bid(raw)
    assert parts["viewers"]["ids"].tolist() == [7, 8, 9]
    assert columns["blocked_creator_ids"].tolist() == [5]


def test_packed_and_unpacked_pieces_of_one_column() -> None:
    packed = chunk(1, np.array([1, 2], "<u8").tobytes())
    raw = chunk(10, packed + field(1, 1) + np.uint64(3).tobytes() + packed)
    assert read_bid(raw)[1]["viewers"]["ids"].tolist() == [1, 2, 3, 1, 2]


def test_submessages_in_two_pieces() -> None:
    raw = chunk(10, chunk(1, np.array([1], "<u8").tobytes())) + chunk(10, chunk(3, np.array([4], "<u4").tobytes()))
    viewers = read_bid(raw)[1]["viewers"]
    assert viewers["ids"].tolist() == [1] and viewers["regions"].tolist() == [4]


@pytest.mark.parametrize("where", ["outside", "in viewers", "in predictions"])
def test_unknown_fields_change_nothing(where: str) -> None:
    request = bidding_pb2.BidRequest(
        id="r", viewers=bidding_pb2.Viewers(ids=[1, 2]), predictions=bidding_pb2.Predictions(viewer_idx=[1])
    )
    strange = chunk(100, b"later version")
    inside = {
        "outside": strange,
        "in viewers": chunk(10, strange),
        "in predictions": chunk(11, strange),
    }[where]
    raw = request.SerializeToString() + inside
    check_bid(raw)
    assert read_bid(raw)[1]["viewers"]["ids"].tolist() == [1, 2]


def test_a_varint_longer_than_it_need_be_is_read() -> None:
    raw = field(3, 0) + b"\xe4\x80\x80\x00" + chunk(10, chunk(1, np.array([1], "<u8").tobytes()))
    check_bid(raw)
    assert read_bid(raw)[0].plain.tmax == 100


def test_a_column_whose_length_is_no_multiple_is_refused() -> None:
    with pytest.raises(MalformedMessage):
        read_bid(chunk(10, chunk(1, bytes(9))))


@limits(max_examples=150)
@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    try:
        bidding_pb2.BidRequest.FromString(raw)
    except DecodeError:
        with pytest.raises(MalformedMessage):
            read_bid(raw)
    else:
        check_bid(raw)


@limits(max_examples=80)
@given(bid_requests, st.data())
def test_truncated_bytes_are_read_or_refused(message: bidding_pb2.BidRequest, chosen: st.DataObject) -> None:
    raw = message.SerializeToString()
    part = raw[: chosen.draw(st.integers(0, len(raw)))]
    try:
        bidding_pb2.BidRequest.FromString(part)
    except DecodeError:
        with pytest.raises(MalformedMessage, match=f"{len(part)} bytes"):
            read_bid(part)
    else:
        check_bid(part)


def test_probabilities_that_are_no_numbers_arrive_as_such() -> None:
    raw = bidding_pb2.BidRequest(
        predictions=bidding_pb2.Predictions(probabilities=[math.nan, math.inf, -0.0])
    ).SerializeToString()
    values = read_bid(raw)[1]["predictions"]["probabilities"]
    assert np.isnan(values[0]) and np.isinf(values[1]) and np.signbit(values[2])
