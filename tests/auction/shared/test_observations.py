"""What is gathered for another server: all of the supply, a fair sample of the auctions, packed and read again."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auction.shared.observations import CAMPAIGN_ROWS, ROUND_ROWS, Message, Observations, by_shard
from auction.shared.plans import PUBLISHED, pack, unpack
from pacing.facts import FEEDBACK


def auctions(campaign_ids: npt.NDArray[np.uint64], first: int = 0) -> npt.NDArray[np.void]:
    rows = np.zeros(len(campaign_ids), FEEDBACK)
    rows["campaign_id"], rows["issued_at_ms"] = campaign_ids, first + np.arange(len(campaign_ids))
    return rows


@given(
    st.lists(
        st.lists(st.tuples(st.integers(1, 5), st.integers(0, 50)), max_size=6, unique_by=lambda t: t[0]), max_size=6
    )
)
def test_supply_adds_up(calls: list[list[tuple[int, int]]]) -> None:
    gathered, total = Observations(1), dict.fromkeys(range(1, 6), 0)
    for call in calls:
        ids, eligible = np.array([c for c, _ in call], np.uint64), np.array([n for _, n in call], np.int64)
        gathered.add_supply(ids, eligible, eligible * 0.25)
        for campaign_id, viewers in call:
            total[campaign_id] += viewers
    message = Message.from_bytes(gathered.take().to_bytes())
    counted = dict(zip(message.supply["campaign_id"].tolist(), message.supply["eligible"].tolist(), strict=True))
    assert counted == {campaign_id: viewers for campaign_id, viewers in total.items() if viewers}
    assert message.supply["expected_events"].tolist() == [0.25 * n for n in message.supply["eligible"].tolist()]
    assert len(gathered.take().supply) == 0


def test_of_many_auctions_a_fair_sample_is_kept() -> None:
    gathered = Observations(1)
    gathered.add_feedback(auctions(np.repeat(np.array([1, 2], np.uint64), [4_000, 100])))
    kept = gathered.take().feedback
    assert np.unique(kept["campaign_id"], return_counts=True)[1].tolist() == [CAMPAIGN_ROWS, 100]
    of_first = kept["issued_at_ms"][kept["campaign_id"] == 1]
    assert (np.diff(kept["issued_at_ms"]) > 0).all()
    assert 1_700 < of_first.mean() < 2_300, "early and late ones alike"


def test_the_sum_of_all_auctions_is_bounded_and_so_is_what_waits() -> None:
    gathered = Observations(1)
    for call in range(20):
        gathered.add_feedback(auctions(np.arange(10_000, dtype=np.uint64), call * 10_000))
        assert gathered._rows <= 2 * ROUND_ROWS
    kept = gathered.take().feedback
    assert len(kept) == ROUND_ROWS
    assert len(np.unique(kept["campaign_id"])) > 5_000


def test_a_message_is_cut_by_shard() -> None:
    gathered = Observations(1)
    gathered.add_supply(np.array([1, 2, 3], np.uint64), np.array([1, 2, 3]), np.ones(3))
    gathered.add_feedback(auctions(np.array([3, 4, 3], np.uint64)))
    message = gathered.take()
    parts = by_shard(message, message.supply["campaign_id"].astype(np.int64) % 2, np.array([1, 0, 1]))
    assert {shard: part.supply["campaign_id"].tolist() for shard, part in parts.items()} == {0: [2], 1: [1, 3]}
    assert {shard: part.feedback["campaign_id"].tolist() for shard, part in parts.items()} == {0: [4], 1: [3, 3]}


@given(st.binary(max_size=200))
def test_foreign_bytes_are_refused(packed: bytes) -> None:
    for read in (Message.from_bytes, unpack):
        with pytest.raises(ValueError, match=r"bytes|version"):
            read(packed)


@pytest.mark.parametrize("name", ["alpha_micros", "cost_weight"])
@pytest.mark.parametrize("number", [-1.0, float("nan"), float("inf")])
def test_a_multiplier_or_weight_that_is_none_is_refused(name: str, number: float) -> None:
    rows = np.zeros(2, PUBLISHED)
    assert unpack(pack(rows)).tolist() == rows.tolist()
    rows[name][1] = number
    with pytest.raises(ValueError, match=name):
        unpack(pack(rows))
