"""The first lookalike of a server that is warm compiles nothing."""

from __future__ import annotations

import numpy as np

from auction import warmup
from auction.audience.lookalikes import LookalikeMaker
from targeting.graph.follows import FollowGraph
from targeting.lookalike import kernels
from targeting.lookalike.trees import kernels as tree_kernels
from targeting.segments.store import SegmentStore
from targeting.viewers import ViewerTable

KERNELS = (
    kernels.fill_compressed,
    kernels.fill_norms,
    kernels.fill_similarities,
    tree_kernels.fill_bins,
    tree_kernels.grow_tree,
    tree_kernels.add_trees,
)


def signatures() -> list[int]:
    return [len(kernel.signatures) for kernel in KERNELS if hasattr(kernel, "signatures")]


def test_lookalikes_are_warm() -> None:
    warmup._warm_lookalikes()
    before = signatures()
    assert all(before)
    viewers = ViewerTable()
    follows = FollowGraph(viewers, SegmentStore())
    random = np.random.default_rng(9)
    followers, followed = (900 * random.random((2, 9_000)) ** 2).astype(np.uint64) + np.uint64(1)
    follows.put(followers, followed)
    maker = LookalikeMaker(viewers, follows)
    for creator_id in (0, 7):
        made = maker.make(viewers.rows_of(np.arange(1, 31, dtype=np.uint64)), 20, creator_id, draw=1)
        assert made.learned and len(made.rows) == 20
    assert signatures() == before
