"""A lookalike of a segment over the service: a segment like any other, also after a restart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from auction.audience.journal import Journal
from auction.audience.service import AudienceService, Record
from auction.campaigns.access import Principal, Role
from benchmarks.lookalike.graphs import made_up_graph
from pacing.clocks import SystemClock
from protos import audience_pb2 as pb
from targeting.graph.follows import FollowGraph
from targeting.segments.store import SegmentStore
from targeting.viewers import ViewerTable
from targeting.visits import Visits

OPERATOR = Principal(Role.OPERATOR, 0, 0)


class Stores:
    def __init__(self, journal: Journal) -> None:
        self.viewers, self.segments = ViewerTable(), SegmentStore()
        self.follows = FollowGraph(self.viewers, self.segments)
        self.visits = Visits(self.viewers, self.segments)
        self.journal: Journal | None = journal
        self.clock = SystemClock()


@pytest.fixture
def stores(tmp_path: Path) -> Stores:
    return Stores(Journal(tmp_path / "audience.journal"))


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
    assert pb.EstimateReachResponse.FromString(service.calls["EstimateReach"](asked, OPERATOR)).low == 60
    question = pb.ExplainViewerRequest(viewer_id=min(members), targeting=audience, include_fans=True)
    why = service.calls["ExplainViewer"](question.SerializeToString(), OPERATOR)
    assert pb.ExplainViewerResponse.FromString(why).english == "among the viewers most like the list of lookalike like"
    assert stores.journal is not None
    assert [kind for kind, _ in stores.journal.records()][-1] == Record.LOOKALIKE
    stores.journal.close()
    again = Stores(Journal(tmp_path / "audience.journal"))
    AudienceService(again).replay()
    assert set(again.viewers.ids[again.segments.rows("like")].tolist()) == members
    again.journal.close()


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
