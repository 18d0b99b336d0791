"""The generated modules are those of the .proto files, and the codes of `pacing.facts` are theirs."""

from __future__ import annotations

from enum import IntEnum
from pathlib import Path

import pytest
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper

import dev
from pacing import facts
from protos import bidding_pb2, campaigns_pb2


def test_generated_modules_are_fresh(tmp_path: Path) -> None:
    assert dev.generate_protos(tmp_path) == 0
    assert dev.stale_protos(tmp_path) == [], "run `python3 dev.py protos`"


@pytest.mark.parametrize(
    ("ours", "theirs", "prefix"),
    [
        (facts.AuctionType, bidding_pb2.AuctionType, "AUCTION_TYPE_"),
        (facts.OutcomeKind, bidding_pb2.OutcomeKind, "OUTCOME_KIND_"),
        (facts.RowStatus, bidding_pb2.RowStatus, "ROW_STATUS_"),
        (facts.Goal, campaigns_pb2.Goal, "GOAL_"),
    ],
)
def test_codes_are_those_of_the_protocol(ours: type[IntEnum], theirs: EnumTypeWrapper, prefix: str) -> None:
    named = {name.removeprefix(prefix): number for name, number in theirs.items() if number != 0}
    assert {member.name: member.value for member in ours} == named


def test_token_size_is_the_one_that_the_protocol_states() -> None:
    assert facts.DECISION.itemsize == facts.TOKEN_BYTES == 192
    text = (dev.ROOT / "protos" / "bidding.proto").read_text(encoding="utf-8")
    assert text.count(f"{facts.TOKEN_BYTES} bytes") == 2
