"""Compiles every step of the bid path before the server calls itself healthy."""

from __future__ import annotations

import gc

import numpy as np

from auction.audience.lookalikes import LookalikeMaker
from auction.bid import token
from auction.bid.request import BidBatch
from auction.services import Services
from pacing.budget import holds
from pacing.facts import AuctionType
from targeting.attributes import DIMENSION_COUNT, INTEREST_COUNT, STORED_DIMENSION_COUNT
from targeting.expressions import Clause
from targeting.graph.follows import FollowGraph
from targeting.lookalike.audience import MIN_LIST
from targeting.match.edits.editable import EditableIndex
from targeting.segments.store import SegmentStore
from targeting.viewers import ViewerTable

_WARM_ACCOUNTS, _WARM_FOLLOWS = 200, 2_000


def _batch(at: AuctionType) -> BidBatch:
    dims = np.full((1, DIMENSION_COUNT), -1, np.int32)
    dims[:, STORED_DIMENSION_COUNT:] = 0
    return BidBatch(
        request_id="warm-up",
        at=int(at),
        placement=0,
        max_bids_per_viewer=1,
        viewer_ids=np.zeros(1, np.uint64),
        dims=dims,
        interest_masks=None,
        floors_micros=np.full(1, 10**12, np.int64),
        blocked_creator_ids=np.zeros(0, np.uint64),
        prediction_ptr=np.zeros(2, np.int32),
        prediction_campaign_ids=np.zeros(0, np.uint64),
        probabilities=np.zeros(0, np.float32),
    )


def _warm_follows() -> None:
    """Follows and their end, before and after segments were written, on a graph of its own."""
    viewers = ViewerTable()
    follows = FollowGraph(viewers, SegmentStore())
    fan, creator = np.array([1], np.uint64), np.array([2], np.uint64)
    follows.watch(2)
    follows.similar.want(2)
    for _ in range(2):
        follows.put(fan, creator)
        follows.refresh()
        follows.similar.renew(0)
        follows.remove(fan, creator)
        follows.refresh()


def _warm_edits() -> None:
    """A campaign that changes, in an index of its own."""
    index = EditableIndex([()], {"a": INTEREST_COUNT, "b": INTEREST_COUNT + 1}.__getitem__)
    index.edit({0: [Clause({}, (frozenset({"a"}),), frozenset({"b"}))]}, list)


def _warm_lookalikes() -> None:
    """A lookalike of a list, and of a creator's followers, in a made-up graph of its own that says enough to learn."""
    viewers = ViewerTable()
    follows = FollowGraph(viewers, SegmentStore())
    random = np.random.default_rng(1)
    edges = (_WARM_ACCOUNTS * random.random((2, _WARM_FOLLOWS)) ** 2).astype(np.uint64) + np.uint64(1)
    follows.put(*edges[:, edges[0] != edges[1]])
    maker = LookalikeMaker(viewers, follows)
    seeds = viewers.rows_of(np.arange(2, MIN_LIST + 2, dtype=np.uint64))
    for creator_id in (0, 1):
        maker.make(seeds, MIN_LIST, creator_id, draw=1)


def warm_up(services: Services) -> None:
    """Run both auction types once with a floor that nobody reaches: everything is compiled, nothing is held.

    What a start made stays. It is taken out of what garbage collection looks through: with 100,000 campaigns a
    collection would hold up bids for seconds.
    """
    token.warm_up()
    holds.warm_up()
    _warm_follows()
    _warm_edits()
    _warm_lookalikes()
    nobody = np.zeros(0, np.uint64)
    services.caps.won(nobody, nobody, 0)
    services.caps.decided(nobody, nobody, np.zeros(0, np.bool_), 0)
    for at in AuctionType:
        services.engine.bid(_batch(at))
    gc.freeze()
