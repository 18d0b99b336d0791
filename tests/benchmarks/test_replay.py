"""Replayed auctions: how they clear, what is reported of them, what a day scores."""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import replay
from benchmarks.replay_feed import (
    MAX_VIEWERS,
    VIEWERS_PER_CAMPAIGN,
    Cleared,
    DayResult,
    batches,
    bid_request,
    clear_bids,
    total_figures,
    viewer_ids,
)
from benchmarks.replay_pack import (
    PRICE_MIN,
    TICKS,
    ReplayCampaign,
    clear_slots,
    day_score,
    exposure_draws,
    history_from_log,
    load_pack,
    thinned,
    with_past_day,
)
from pacing.control.history import MarketHistory
from protos import bidding_pb2 as pb


def _campaign(impressions: int = 480, seed: int = 5) -> ReplayCampaign:
    rng = np.random.default_rng(seed)
    rivals = -np.sort(-rng.uniform(0.05, 0.4, (impressions, 3)), axis=1)
    return ReplayCampaign(
        name="e0_0",
        category=2,
        budget=10.0,
        target_cost=2.0,
        lp_score=4.0,
        edges=np.arange(TICKS + 1) * (impressions // TICKS),
        probability=rng.uniform(0, 0.01, impressions),
        rivals=rivals,
        fourth=rivals[:, 2] * 0.9,
        seen=exposure_draws(seed, impressions),
    )


def test_a_bid_takes_the_best_slot_that_it_beats_at_the_price_of_whom_it_beat() -> None:
    rivals = np.array([[0.3, 0.2, 0.1]] * 6)
    slot, seen_price = clear_slots(np.array([0.0, 0.1, 0.15, 0.25, 0.3, 0.4]), rivals)
    assert slot.tolist() == [0, 0, 3, 2, 2, 1]  # a tie is lost
    assert seen_price.tolist() == [0.0, 0.0, 0.1, 0.2, 0.2, 0.3]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.tuples(*[st.floats(1e-4, 1)] * 3)), max_size=20))
def test_a_price_never_reaches_the_bid(rows: list[tuple[float, tuple[float, float, float]]]) -> None:
    bids = np.array([r[0] for r in rows])
    rivals = -np.sort(-np.array([r[1] for r in rows]).reshape(-1, 3), axis=1)
    slot, seen_price = clear_slots(bids, rivals)
    won = slot > 0
    assert (seen_price[won] < bids[won]).all()
    assert (seen_price[~won] == 0).all()
    for i in np.flatnonzero(won):
        assert seen_price[i] == rivals[i, slot[i] - 1]
        assert slot[i] == 1 or rivals[i, slot[i] - 2] >= bids[i]


def test_exposure_is_drawn_once_per_seed_and_the_third_slot_needs_the_second() -> None:
    seen = exposure_draws(42, 50_000)
    assert (seen == exposure_draws(42, 50_000)).all()
    assert seen[:, 0].all()
    assert not (seen[:, 2] & ~seen[:, 1]).any()
    assert seen.mean(0) == pytest.approx([1.0, 0.8, 0.48], abs=0.01)
    rng = np.random.default_rng(42)  # the order of the draws is part of the format
    assert (seen[:, 1] == (rng.random(50_000) < 0.8)).all()


def test_score_penalises_cost_over_target_by_its_square() -> None:
    assert day_score(10, 15, 2.0) == 10
    assert day_score(10, 40, 2.0) == pytest.approx(10 / 4)
    assert day_score(0, 0, 2.0) == 0


def test_batches_cover_each_tick_once_without_a_viewer_twice() -> None:
    campaign = _campaign(impressions=48 * 2_500)
    seen = [i for tick in range(TICKS) for b in batches(campaign, tick) for i in b]
    assert seen == list(range(48 * 2_500))
    parts = [i for step in range(7) for b in batches(campaign, 3, step, 7) for i in b]
    assert parts == list(range(3 * 2_500, 4 * 2_500))
    for batch in batches(campaign, 3):
        assert len(batch) <= MAX_VIEWERS
        request = bid_request(campaign, 1, 77, batch)
        assert len(set(request.viewers.ids)) == len(batch)
        assert set(request.viewers.ids) <= set(viewer_ids(1).tolist())
        assert list(request.predictions.campaign_ids) == [77] * len(batch)
        assert request.at == pb.AUCTION_TYPE_SECOND_PRICE


def test_segments_of_campaigns_are_disjoint() -> None:
    ids = np.concatenate([viewer_ids(i) for i in range(8)])
    assert len(np.unique(ids)) == 8 * VIEWERS_PER_CAMPAIGN


def test_cleared_rows_say_what_happened() -> None:
    campaign = _campaign()
    impressions = np.arange(20, 40)
    viewer_idx = np.array([0, 3, 4, 9, 19])  # the engine did not bid for all
    bids = np.array([10_000, 1_000_000, 150_000, 500_000, 90_000])
    floors = np.zeros(5, np.int64)
    cleared = clear_bids(campaign, impressions, viewer_idx, bids, floors)
    slot, seen_price = clear_slots(bids / 1e6, campaign.rivals[impressions[viewer_idx]])
    by_kind = {kind: cleared.bid_idx[cleared.kinds == kind].tolist() for kind in (1, 2, 3)}
    assert by_kind[pb.OUTCOME_KIND_WIN] == np.flatnonzero(slot > 0).tolist()
    assert by_kind[pb.OUTCOME_KIND_LOSS] == np.flatnonzero(slot == 0).tolist()
    for row in range(len(cleared.kinds)):
        bid, impression = cleared.bid_idx[row], cleared.impression[row]
        assert impression == impressions[viewer_idx[bid]]
        if cleared.kinds[row] == pb.OUTCOME_KIND_LOSS:
            assert cleared.prices_micros[row] == 0
            assert cleared.loss_reasons[row] == 102
        else:
            assert cleared.prices_micros[row] == math.floor(seen_price[bid] * 1e6) < bids[bid]
            assert cleared.loss_reasons[row] == 0
        if cleared.kinds[row] == pb.OUTCOME_KIND_BILLABLE:
            assert campaign.seen[impression, slot[bid] - 1]
            assert cleared.min_bids_micros[row] == 0
        else:
            assert cleared.min_bids_micros[row] == round(campaign.fourth[impression] * 1e6)


def test_a_floor_is_the_least_that_is_charged() -> None:
    campaign = _campaign()
    cleared = clear_bids(campaign, np.arange(1), np.zeros(1, np.int64), np.array([900_000]), np.array([800_000]))
    assert cleared.prices_micros[cleared.kinds == pb.OUTCOME_KIND_WIN].tolist() == [800_000]


def test_nothing_bid_is_nothing_reported() -> None:
    none = np.zeros(0, np.int64)
    cleared = clear_bids(_campaign(), np.arange(5), none, none, none)
    assert len(cleared.kinds) == 0
    assert len(cleared.report(b"").kinds) == 0


def test_report_carries_each_rows_own_token() -> None:
    campaign = _campaign()
    bids = np.array([900_000, 10_000, 900_000])
    cleared = clear_bids(campaign, np.arange(3), np.arange(3), bids, np.zeros(3, np.int64))
    tokens = b"".join(bytes([i]) * 192 for i in range(3))
    request = cleared.report(tokens)
    assert len(request.tokens) == 192 * len(request.kinds)
    for row, bid in enumerate(cleared.bid_idx):
        assert request.tokens[192 * row : 192 * (row + 1)] == bytes([bid]) * 192


def _two_rows(campaign: ReplayCampaign) -> Cleared:
    rows = [np.array(x) for x in ([2, 2], [0, 1], [7, 8], [1_500_000, 9_000_000], [0, 0], [0, 0])]
    return Cleared(rows[0], rows[1], rows[2], rows[3], rows[4], rows[5])


def test_only_what_the_engine_accepted_counts() -> None:
    campaign = _campaign()
    result = DayResult(campaign)
    result.count(_two_rows(campaign), np.array([pb.ROW_STATUS_ACCEPTED, pb.ROW_STATUS_EXPIRED]))
    assert (result.spend_micros, result.impressions, result.refused) == (1_500_000, 1, 1)
    assert result.expected_conversions == pytest.approx(campaign.probability[7])
    with pytest.raises(ValueError, match="statuses: 1"):
        result.count(_two_rows(campaign), np.array([1]))


def test_overspend_believes_whoever_counted_more() -> None:
    result = DayResult(_campaign(), spend_micros=9_000_000, reported_micros=10_000_001)
    assert result.overspend_micros == 1
    figures = total_figures([result, DayResult(_campaign(), expected_conversions=2.0, spend_micros=100)], 30, 2.0)
    assert figures["overspend_micros_max"] == 1
    assert figures["requests_per_s"] == 15
    assert figures["lp_share"] == pytest.approx(2.0 / 8.0)
    assert figures["lp_share_min"] == 0
    assert total_figures([DayResult(_campaign())], 1, 1.0)["overspend_micros_max"] == 0


def _write_pack(path: Path, impressions: int = 960) -> None:
    campaign = _campaign(impressions)
    columns = np.stack(
        [campaign.probability * 1000, campaign.probability * 100, *campaign.rivals.T, campaign.fourth]
    ).astype(np.float16)
    meta = {"e0_0": {"B": 10.0, "C": 2.0, "category": 2, "seed": 5, "lp_score": 4.0}}
    np.savez(path, e0_0_x=columns, e0_0_n=np.full(TICKS, impressions // TICKS), meta=np.array(json.dumps(meta)))


def test_a_pack_is_read_as_it_was_written(tmp_path: Path) -> None:
    _write_pack(tmp_path / "pack.npz")
    (campaign,) = load_pack(tmp_path / "pack.npz")
    assert (campaign.budget, campaign.target_cost, campaign.category, campaign.episode) == (10.0, 2.0, 2, "e0")
    assert campaign.edges[-1] == len(campaign.probability) == 960
    assert campaign.probability == pytest.approx(_campaign(960).probability, rel=2e-3, abs=1e-6)
    assert (campaign.rivals >= PRICE_MIN).all()
    assert not list(load_pack(tmp_path / "pack.npz", names=["e1_0"]))


def test_a_thinned_day_keeps_its_shape(tmp_path: Path) -> None:
    campaign = _campaign(9_600)
    small = thinned(campaign, 10)
    assert len(small.probability) == 960
    assert (np.diff(small.edges) == 20).all()
    assert small.budget == campaign.budget / 10
    assert small.lp_score == campaign.lp_score / 10
    assert (small.rivals == campaign.rivals[::10]).all()


def test_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(ValueError, match="meta"):
        list(load_pack(tmp_path / "other.npz"))
    with pytest.raises(ValueError, match="impressions"):
        history_from_log(tmp_path / "other.npz")


def test_a_sampled_log_becomes_a_history(tmp_path: Path) -> None:
    columns = ["day", "tick", "agent", "category", "p_x1000", "sigma_x1000", "rival1", "rival2", "rival3", "fourth"]
    log = np.array([[0, 3, 17, 2, 1.5, 0.1, 0.3, 0.2, 0.1, 0.05], [1, 47, 4, 0, 0.0, 0.0, 0.3, 0.2, 0.0, 0.0]])
    np.savez(
        tmp_path / "log.npz", log=log.astype(np.float16), columns=np.array(columns), impressions=np.full((2, TICKS), 9)
    )
    history = history_from_log(tmp_path / "log.npz")
    assert history.group.tolist() == [3, 1]
    assert history.bucket.tolist() == [3, 47]
    assert history.prices_micros[0] == pytest.approx([300_000, 200_000, 100_000], rel=1e-3)
    assert history.prices_micros[1, 2] == pytest.approx(100)
    assert history.told_micros == pytest.approx([50_000, 100], rel=1e-3)
    assert history.exposure.tolist() == [1.0, 0.8, 0.48]
    history.save(tmp_path / "history.npz")
    again = history_from_log(tmp_path / "history.npz")
    assert isinstance(again, MarketHistory)
    assert again.prices_micros == pytest.approx(history.prices_micros, rel=1e-6)


def _history(days: int = 2, buckets: int = TICKS) -> MarketHistory:
    rng = np.random.default_rng(3)
    rows = days * buckets * 4
    prices = -np.sort(-rng.uniform(5e4, 4e5, (rows, 3)), axis=1)
    return MarketHistory(
        day=np.arange(rows) % days,
        bucket=np.arange(rows) // days % buckets,
        group=np.ones(rows, np.int64),
        series=np.full(rows, 7),
        probability=rng.uniform(1e-4, 1e-2, rows),
        prices_micros=prices,
        exposure=np.array([1.0, 0.8, 0.48]),
        impressions=np.full((days, buckets), 10.0),
    )


def test_a_day_of_the_pack_becomes_a_past_day_with_a_series_for_each_campaign() -> None:
    one, two = _campaign(480), replace(_campaign(480, seed=6), name="e0_1", category=4)
    history = _history()
    joined = with_past_day(history, [one, two])
    assert joined.days == 3
    assert joined.impressions[2].tolist() == [10] * TICKS
    assert (joined.impressions[:2] == history.impressions).all()
    new = joined.day == 2
    assert new.sum() == 960  # all of them: they are fewer than a history takes
    assert (joined.probability[~new] == history.probability).all()
    assert joined.series[new].tolist() == [8] * 480 + [9] * 480
    assert joined.group[new].tolist() == [3] * 480 + [5] * 480
    assert joined.bucket[new].tolist() == 2 * np.repeat(np.arange(TICKS), 10).tolist()
    assert joined.prices_micros[new] == pytest.approx(np.concatenate([one.rivals, two.rivals]) * 1e6)
    assert joined.told_micros[new] == pytest.approx(np.concatenate([one.fourth, two.fourth]) * 1e6)


def test_of_a_long_day_a_sample_is_taken_from_all_of_each_tick() -> None:
    campaign = _campaign(TICKS * 7_000)
    joined = with_past_day(_history(), [campaign])
    new = joined.day == 2
    assert np.bincount(joined.bucket[new]).tolist() == [3_000] * TICKS
    assert joined.impressions[2].tolist() == [7_000] * TICKS
    assert joined.probability[new][[0, 2_999]] == pytest.approx(campaign.probability[[0, 6_997]])


def test_a_history_of_other_hours_or_slots_is_not_joined() -> None:
    with pytest.raises(ValueError, match="24 parts of a day"):
        with_past_day(_history(buckets=24), [_campaign()])
    with pytest.raises(ValueError, match="exposure"):
        with_past_day(replace(_history(), exposure=np.array([1.0, 0.5, 0.4])), [_campaign()])


def test_no_campaign_is_planned_from_its_own_day() -> None:
    pack = [replace(_campaign(480, seed=i), name=name) for i, name in enumerate(["e0_0", "e0_1", "e1_0"])]
    days = dict(
        (day[0].episode, ([c.name for c in day], past)) for day, past in replay._days(pack[:3], pack, _history(), False)
    )
    assert days["e0"][0] == ["e0_0", "e0_1"]
    assert days["e1"][0] == ["e1_0"]
    for episode, others in (("e0", pack[2:]), ("e1", pack[:2])):
        past = days[episode][1]
        assert past is not None
        expected = np.concatenate([np.maximum(c.probability, 1e-6) for c in others])
        assert past.probability[past.day == 2] == pytest.approx(expected)
    # also of campaigns that are not replayed themselves, and not at all without a history
    assert [past.days for _, past in replay._days(pack[:1], pack, _history(), False) if past is not None] == [3]
    assert [past for _, past in replay._days(pack, pack, None, False)] == [None, None]


def test_a_file_that_is_no_pack_is_refused_in_words_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "notes.md"
    path.write_text("notes")
    parser = argparse.ArgumentParser()
    replay.configure(parser)
    assert replay.main(parser.parse_args([str(path)])) == 2
    assert capsys.readouterr().err == f"fanbid replay: PACK {path}: not a replay pack (npz)\n"
    assert replay.main(parser.parse_args([str(tmp_path / "none")])) == 2
    assert capsys.readouterr().err == f"fanbid replay: PACK {tmp_path / 'none'}: no such file\n"
