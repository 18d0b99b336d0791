"""What a creator is told of a lookalike: nothing that is so of one viewer only, whatever seeds are made up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from auction.audience.lookalike_figures_wire import LEAST_HELD_OUT, LookalikeFigures, two_digits
from auction.bid.keyring import KeyRing
from benchmarks.lookalike.graphs import made_up_graph
from pacing.clocks import MS_PER_DAY, VirtualClock
from protos import audience_pb2 as pb
from targeting.reach.noise import SCALE
from targeting.viewers import ViewerTable
from tests.auction.bid.engines import Engine, Role

HELD_OUT = 1_000
SEEDS = np.arange(5_000)


class Stores:
    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.viewers, self.clock, self.keys = ViewerTable(), VirtualClock(MS_PER_DAY), KeyRing(folder)
        self.viewers.ensure(np.arange(1, 10_001, dtype=np.uint64))


@pytest.fixture
def stores(tmp_path: Path) -> Stores:
    return Stores(tmp_path / "keys")


def exact(found: int = 300, members: int = 4_000, held_out: int = HELD_OUT) -> pb.PutLookalikeResponse:
    return pb.PutLookalikeResponse(
        members=members, seeds=5 * held_out, held_out=held_out, recall=found / held_out, activity_recall=0.1
    )


def test_held_out_seeds_are_the_same_for_the_same_seeds_and_nobody_without_the_key_tells_them(
    stores: Stores, tmp_path: Path
) -> None:
    figures = LookalikeFigures(stores)
    draw = figures.held_out_draw(SEEDS)
    assert draw == figures.held_out_draw(SEEDS[::-1]) == LookalikeFigures(stores).held_out_draw(SEEDS)
    assert draw != LookalikeFigures(Stores(tmp_path / "others")).held_out_draw(SEEDS)
    # Nor does a viewer stay among the held-out ones when another seed is put in some third's place.
    held = []
    for other in range(5_000, 5_200):
        seeds = np.append(SEEDS[:99], other)
        shuffled = np.random.default_rng(figures.held_out_draw(seeds)).permutation(np.sort(seeds))
        held.append(0 in shuffled[:20])
    assert 10 < sum(held) < 80, "about one time in five"


def test_each_figure_has_the_noise_that_is_promised(stores: Stores) -> None:
    figures = LookalikeFigures(stores)
    told = [figures.told(exact(), np.append(SEEDS[:-1], other), 9_000, 0) for other in range(5_000, 7_000)]
    off = HELD_OUT * np.array([one.recall for one in told]) - 300
    assert abs(off.mean()) < 3 and abs(np.abs(off).mean() - SCALE) < 3, "Laplace: the mean distance is the scale"
    active = HELD_OUT * np.array([one.activity_recall for one in told]) - 100
    assert abs(np.corrcoef(off, active)[0, 1]) < 0.1 and abs(np.abs(active).mean() - SCALE) < 3
    assert {one.members for one in told} >= {3_900, 4_000} and all(one.members % 100 == 0 for one in told)
    assert all(round(one.recall, 2) == one.recall for one in told), "whole percent"
    assert {one.held_out for one in told} == {HELD_OUT}


def test_asking_again_averages_nothing_out_and_what_changes_within_a_day_does_not_show(stores: Stores) -> None:
    figures = LookalikeFigures(stores)
    told = figures.told(exact(), SEEDS, 9_000, 0)
    assert figures.told(exact(), SEEDS[::-1], 9_000, 0) == told
    assert figures.told(exact(found=700), SEEDS, 9_000, 0) == told
    after_starts = [LookalikeFigures(stores).told(exact(), SEEDS, 9_000, 0).recall for _ in range(30)]
    assert len(set(after_starts)) > 3, "no noise outlives the answers"
    of_other_questions = [figures.told(exact(), SEEDS, 9_000 + more, 0).recall for more in range(1, 30)]
    stores.clock.advance_to(2 * MS_PER_DAY)
    assert len({told.recall, *of_other_questions}) > 3
    assert figures.told(exact(found=700), SEEDS, 9_000, 0).recall > told.recall + 0.1


def test_what_is_too_little_to_tell_is_not_told_and_what_was_wanted_is(stores: Stores) -> None:
    figures = LookalikeFigures(stores)
    few = figures.told(exact(held_out=LEAST_HELD_OUT - 1), SEEDS, 4_000, 0)
    assert (few.held_out, few.recall, few.activity_recall, few.members) == (0, 0.0, 0.0, 4_000)
    assert figures.told(exact(held_out=LEAST_HELD_OUT), SEEDS, 4_000, 0).held_out == LEAST_HELD_OUT
    assert [two_digits(members) for members in (0, 1_049, 18_499, 123_456)] == [0, 1_000, 18_000, 120_000]


def learns_nothing(*_: Any, **__: Any) -> None:
    raise ValueError("follows: too few")


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        "auction.audience.lookalikes.train_ranker", learns_nothing
    )  # it takes seconds, and no part here
    running = Engine()
    links = made_up_graph(4_000, 8, 1)
    follows = pb.PutFollowsRequest(follower_ids=links.followers + 1, followed_ids=links.followed + 1)
    running.call("Audience/PutFollows", follows, pb.PutFollowsResponse, Role.OPERATOR)
    yield running
    running.close()


def call(engine: Engine, method: str, request: Any, answer: Any, creator: int = 7) -> Any:
    return engine.call(f"Audience/{method}", request, answer, Role.CREATOR if creator else Role.OPERATOR, creator)


def test_seeds_that_differ_in_one_viewer_do_not_tell_of_this_viewer_by_how_many_are_found(engine: Engine) -> None:
    known = engine.services.viewers.ids.tolist()
    members = engine.services.segments.members
    exact_counts, told_counts = [], []
    for other in known[1_000:1_002]:
        seeds = pb.PutSegmentRequest(segment_id="vip", change=1, viewer_ids=[*known[:999], other])
        call(engine, "PutSegment", seeds, pb.PutSegmentResponse)
        wanted = pb.PutLookalikeRequest(segment_id="like", seed_segment_id="vip", size=1_000_000)
        made = call(engine, "PutLookalike", wanted, pb.PutLookalikeResponse)
        asked = pb.GetLookalikeRequest(segment_id="like")
        assert call(engine, "GetLookalike", asked, pb.GetLookalikeResponse).made == made
        listed = call(engine, "ListSegments", pb.ListSegmentsRequest(), pb.ListSegmentsResponse).segments
        assert {one.segment_id: one.members for one in listed} == {"own:7:vip": 1_000, "own:7:like": made.members}
        exactly = call(engine, "ListSegments", pb.ListSegmentsRequest(), pb.ListSegmentsResponse, 0).segments
        assert exactly[0].members == len(members("own:7:like")), "operators know who is in it anyway"
        assert made.held_out == 0 and made.recall == 0.0, "200 held-out seeds are too few to tell"
        exact_counts.append(exactly[0].members)
        told_counts.append(made.members)
    assert all(told % 100 == 0 for told in told_counts)
    assert all(abs(told - count) < 250 for told, count in zip(told_counts, exact_counts, strict=True))


def test_one_of_which_too_few_are_found_changes_nothing_costs_nothing_and_leaves_the_figures_of_the_last(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = engine.services.viewers.ids.tolist()
    asked = pb.GetLookalikeRequest(segment_id="like")
    wanted = pb.PutLookalikeRequest(segment_id="like", seed_segment_id="vip", size=1_000)
    seeds = pb.PutSegmentRequest(segment_id="vip", change=1, viewer_ids=known[:1_000])
    call(engine, "PutSegment", seeds, pb.PutSegmentResponse)
    made = call(engine, "PutLookalike", wanted, pb.PutLookalikeResponse)
    before = engine.services.segments.rows("own:7:like").tolist()
    seeds.viewer_ids[:] = known[: len(known) - 500]  # the others are fewer than 1,000
    call(engine, "PutSegment", seeds, pb.PutSegmentResponse)
    own = engine.services.audience._own
    cost_before = dict(own._full_at_s)
    for _ in range(25):  # a day's ids are enough for 20 that are made
        with pytest.raises(ValueError, match="fewer than 1000 viewers like its members were found") as refused:
            call(engine, "PutLookalike", wanted, pb.PutLookalikeResponse)
        assert "500" not in str(refused.value)
    assert own._full_at_s[7] - cost_before[7] < 60, "seconds: as if none had been asked for"
    told = call(engine, "GetLookalike", asked, pb.GetLookalikeResponse)
    assert (told.state, told.made) == (pb.LOOKALIKE_STATE_FAILED, made) and "fewer than 1000" in told.error
    assert engine.services.segments.rows("own:7:like").tolist() == before


def test_an_operators_own_lookalike_has_exact_figures(engine: Engine) -> None:
    seeds = pb.PutSegmentRequest(segment_id="vip", change=1, viewer_ids=engine.services.viewers.ids[:40])
    call(engine, "PutSegment", seeds, pb.PutSegmentResponse, 0)
    wanted = pb.PutLookalikeRequest(segment_id="like", seed_segment_id="vip", size=1_000_000)
    made = call(engine, "PutLookalike", wanted, pb.PutLookalikeResponse, 0)
    assert made.members == len(engine.services.segments.members("like")) and made.held_out == 8
    # In a creator's name it is the creator's, who may read of it: so the figures are those for creators.
    wanted.segment_id = "own:7:like"
    given = call(engine, "PutLookalike", wanted, pb.PutLookalikeResponse, 0)
    asked = pb.GetLookalikeRequest(segment_id="like")
    assert call(engine, "GetLookalike", asked, pb.GetLookalikeResponse).made == given
    assert given.held_out == 0 and given.members % 100 == 0
