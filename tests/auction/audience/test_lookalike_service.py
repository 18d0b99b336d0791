"""A lookalike of a segment over the service: a segment like any other, also after a restart."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import numpy as np
import pytest

from auction.audience import lookalike_makings, lookalikes
from auction.audience.journal import Journal
from auction.audience.service import AudienceService, Record
from auction.bid.keyring import KeyRing
from auction.campaigns.access import Principal, Role
from auction.status import Refused
from benchmarks.lookalike.graphs import made_up_graph
from pacing.clocks import SystemClock
from protos import audience_pb2 as pb
from targeting.graph.follows import FollowGraph
from targeting.lookalike.links import Links
from targeting.lookalike.ranker import Ranker
from targeting.segments.store import SegmentStore
from targeting.viewers import ViewerTable
from targeting.visits import Visits

OPERATOR = Principal(Role.OPERATOR, 0, 0)


class Stores:
    def __init__(self, journal: Journal, folder: Path) -> None:
        self.viewers, self.segments = ViewerTable(), SegmentStore()
        self.follows = FollowGraph(self.viewers, self.segments)
        self.visits = Visits(self.viewers, self.segments)
        self.journal: Journal | None = journal
        self.clock = SystemClock()
        self.keys = KeyRing(folder)


@pytest.fixture
def stores(tmp_path: Path) -> Stores:
    return Stores(Journal(tmp_path / "audience.journal"), tmp_path)


def put_graph(service: AudienceService) -> list[int]:
    """Follows of a made-up graph; answers with the ids of the most followed account's followers."""
    links = made_up_graph(500, 8, 1)
    request = pb.PutFollowsRequest(follower_ids=links.followers + 1, followed_ids=links.followed + 1)
    service.put_follows(request.SerializeToString(), OPERATOR)
    most = int(np.argmax(np.bincount(links.followed)))
    return sorted(set((links.followers[links.followed == most] + 1).tolist()))


def put_lookalike(service: AudienceService, **fields: object) -> pb.PutLookalikeResponse:
    raw = pb.PutLookalikeRequest(**fields).SerializeToString()
    return pb.PutLookalikeResponse.FromString(service.put_lookalike(raw, OPERATOR))


def test_a_lookalike_is_a_segment_without_its_seeds_and_outlives_a_restart(stores: Stores, tmp_path: Path) -> None:
    service = AudienceService(stores)
    seeds = put_graph(service)[:40]
    seed_request = pb.PutSegmentRequest(segment_id="seeds", change=1, viewer_ids=seeds)
    service.put_segment(seed_request.SerializeToString(), OPERATOR)
    answer = put_lookalike(service, segment_id="like", seed_segment_id="seeds", size=60)
    assert (answer.members, answer.seeds, answer.held_out) == (60, 40, 8) and answer.learned
    assert 0.0 <= answer.activity_recall <= 1.0 and 0.0 <= answer.recall <= 1.0
    members = set(stores.viewers.ids[stores.segments.rows("like")].tolist())
    assert len(members) == 60 and not members & set(seeds)
    audience = {"segment": {"segment_id": "like"}}
    asked = pb.EstimateReachRequest(targeting=audience).SerializeToString()
    assert pb.EstimateReachResponse.FromString(service.calls["EstimateReach"](asked, OPERATOR)).high == 100
    question = pb.ExplainViewerRequest(viewer_id=min(members), targeting=audience, include_fans=True)
    why = service.calls["ExplainViewer"](question.SerializeToString(), OPERATOR)
    assert pb.ExplainViewerResponse.FromString(why).english == "among the viewers most like the list of lookalike like"
    assert stores.journal is not None
    assert [kind for kind, _ in stores.journal.records()][-2:] == [Record.LOOKALIKE_TOLD, Record.LOOKALIKE_MADE]
    stores.journal.close()
    again = Stores(Journal(tmp_path / "audience.journal"), tmp_path)
    restarted = AudienceService(again)
    restarted.replay()
    assert set(again.viewers.ids[again.segments.rows("like")].tolist()) == members
    told = progress(restarted, "like")
    assert (told.state, told.done_percent, told.made) == (pb.LOOKALIKE_STATE_MADE, 100, answer)
    emptied = pb.PutSegmentRequest(segment_id="like", change=1)
    restarted.put_segment(emptied.SerializeToString(), OPERATOR)
    with pytest.raises(Refused, match="the list was replaced since"):
        progress(restarted, "like")
    again.journal.close()


def test_one_that_was_being_made_when_the_server_ended_is_told_as_not_made(stores: Stores, tmp_path: Path) -> None:
    service = AudienceService(stores)
    seeds = pb.PutSegmentRequest(segment_id="seeds", change=1, viewer_ids=put_graph(service)[:40])
    service.put_segment(seeds.SerializeToString(), OPERATOR)
    put_lookalike(service, segment_id="like", seed_segment_id="seeds", size=60)
    assert stores.journal is not None
    *before, begun, _ = list(stores.journal.records())
    stores.journal.close()
    cut = Journal(tmp_path / "cut.journal")
    for kind, body in (*before, begun):
        cut.append(kind, body)
    again = Stores(cut, tmp_path)
    restarted = AudienceService(again)
    restarted.replay()
    told = progress(restarted, "like")
    assert told.state == pb.LOOKALIKE_STATE_FAILED and "the server stopped while" in told.error
    assert not told.HasField("made")
    made = put_lookalike(restarted, segment_id="like", seed_segment_id="seeds", size=60)
    assert made.members == 60
    # When the next one is interrupted, the one before is still in force, and so are its figures.
    put_lookalike(restarted, segment_id="like", seed_segment_id="seeds", size=50)
    cut.close()
    *kept, _ = list(cut.records())
    cut = Journal(tmp_path / "again.journal")
    for kind, body in kept:
        cut.append(kind, body)
    once_more = Stores(cut, tmp_path)
    restarted = AudienceService(once_more)
    restarted.replay()
    told = progress(restarted, "like")
    assert (told.state, told.made) == (pb.LOOKALIKE_STATE_FAILED, made) and "the server stopped" in told.error
    assert len(once_more.segments.members("like")) == 60
    cut.close()


def test_what_cannot_be_made_is_refused_by_name_and_nothing_is_kept(stores: Stores) -> None:
    service = AudienceService(stores)
    good = {"segment_id": "like", "seed_segment_id": "nobody", "size": 5}
    refused = (
        ({}, "seeds: 0 known viewers; must be 10"),
        ({"segment_id": "fans:7"}, "are reserved"),
        ({"seed_segment_id": "No"}, "segment_id 'No'"),
        ({"creator_id": 99}, "creator_id 99"),
    )
    for change, words in refused:
        with pytest.raises(ValueError, match=words):
            put_lookalike(service, **{**good, **change})
    service.put_segment(
        pb.PutSegmentRequest(segment_id="ten", change=1, viewer_ids=range(1, 11)).SerializeToString(), OPERATOR
    )
    with pytest.raises(ValueError, match="size 0: not in 1"):
        put_lookalike(service, segment_id="like", seed_segment_id="ten", size=0)
    # With no follows at all nobody is a candidate: an empty audience, and said so.
    answer = put_lookalike(service, segment_id="like", seed_segment_id="ten", size=5)
    assert answer.members == 0 and not answer.learned
    stores.journal.close()


def progress(service: AudienceService, segment_id: str) -> pb.GetLookalikeResponse:
    raw = pb.GetLookalikeRequest(segment_id=segment_id).SerializeToString()
    return pb.GetLookalikeResponse.FromString(service.get_lookalike(raw, OPERATOR))


def wait_for(service: AudienceService, segment_id: str) -> pb.GetLookalikeResponse:
    """What became of it."""
    for _ in range(6_000):
        told = progress(service, segment_id)
        if told.state != pb.LOOKALIKE_STATE_MAKING:
            return told
        time.sleep(0.005)
    raise AssertionError("it is still being made")


def test_in_background_it_is_answered_at_once_and_says_how_far_it_is(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = AudienceService(stores)
    percents: list[int] = []
    may_go_on = threading.Event()
    learn = lookalikes.train_ranker

    def watched(links: Links, reciprocal: bool, tell: Callable[[float], None]) -> Ranker:
        def told(share: float) -> None:
            tell(share)
            percents.append(progress(service, "like").done_percent)
            may_go_on.wait(20)

        return learn(links, reciprocal, tell=told)

    monkeypatch.setattr(lookalikes, "train_ranker", watched)
    seeds = put_graph(service)[:40]
    service.put_segment(
        pb.PutSegmentRequest(segment_id="seeds", change=1, viewer_ids=seeds).SerializeToString(), OPERATOR
    )
    wanted = {"segment_id": "like", "seed_segment_id": "seeds", "size": 60}
    with pytest.raises(Refused, match="'like': no such lookalike was asked for") as unknown:
        progress(service, "like")
    assert unknown.value.code is grpc.StatusCode.NOT_FOUND
    assert put_lookalike(service, **wanted, in_background=True) == pb.PutLookalikeResponse()
    assert progress(service, "like").state == pb.LOOKALIKE_STATE_MAKING
    with pytest.raises(Refused, match="another lookalike is being made") as busy:
        put_lookalike(service, **{**wanted, "segment_id": "other"})
    assert busy.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    may_go_on.set()
    told = wait_for(service, "like")
    assert told.state == pb.LOOKALIKE_STATE_MADE and told.done_percent == 100 and told.error == ""
    assert percents == sorted(percents) and percents[0] < 20 < 70 < percents[-1] < 100 and len(set(percents)) > 20
    assert (told.made.members, told.made.seeds, told.made.learned) == (60, 40, True)
    assert len(stores.segments.members("like")) == 60
    # The same call that waits has the same figures, and is told of in the same way.
    waited = put_lookalike(service, **wanted)
    assert waited == told.made == progress(service, "like").made
    assert stores.journal is not None
    stores.journal.close()


def test_what_fails_in_background_is_told_and_the_next_may_begin(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = AudienceService(stores)
    ten = pb.PutSegmentRequest(segment_id="ten", change=1, viewer_ids=range(1, 11))
    service.put_segment(ten.SerializeToString(), OPERATOR)
    wanted = {"segment_id": "like", "seed_segment_id": "ten", "size": 5, "in_background": True}
    with pytest.raises(ValueError, match="size 0"):  # known at once, so told at once
        put_lookalike(service, **{**wanted, "size": 0})
    with pytest.raises(Refused, match="no such lookalike"):
        progress(service, "like")

    def breaks(*_: object) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as broken:
        broken.setattr(stores.journal, "append", breaks)
        put_lookalike(service, **wanted)
        told = wait_for(service, "like")
    assert told.state == pb.LOOKALIKE_STATE_FAILED and told.error and "space" not in told.error
    assert not told.HasField("made")
    put_lookalike(service, **wanted)
    assert wait_for(service, "like").state == pb.LOOKALIKE_STATE_MADE
    stores.journal.close()  # type: ignore[union-attr]


def test_only_the_last_makings_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookalike_makings, "REMEMBERED", 2)
    makings = lookalike_makings.LookalikeMakings(lambda name, making: None)
    for name in ("a", "b", "a", "c"):
        makings.run(name, lambda tell: b"made", in_background=False)
    assert makings.told("b") is None and makings.told("a") is not None and makings.told("c") is not None
