"""Lookalikes of segments, from the follow graph that the server has."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from targeting.graph.follows import FollowGraph
from targeting.lookalike.audience import Lookalike, check_wanted, expand
from targeting.lookalike.links import WINDOWS, Links, links_from_times
from targeting.lookalike.picture import Picture
from targeting.lookalike.ranker import Ranker, train_ranker
from targeting.viewers import ViewerTable

LEARN_AGAIN_SHARE = 0.05
"""What was learned serves until the follows have grown or shrunk by this share."""

_LEARNING_SHARE = 0.9
"""About what learning takes of making a lookalike, for who waits."""
_FEWEST_WINDOWS = 4
_WINDOW_FOLLOWS = 500
"""A window of fewer follows says little about who gains whom."""


class LookalikeMaker:
    """Makes lookalikes; what it learned is kept for the next. Callers take turns.

    Time is the order in which follows came: their windows hold equally many.
    """

    def __init__(self, viewers: ViewerTable, follows: FollowGraph) -> None:
        self._viewers = viewers
        self._follows = follows
        self._learned: dict[bool, tuple[int, Ranker | None]] = {}  # by whether reciprocal links are read

    def check(self, seed_count: int, size: int, creator_id: int) -> None:
        """See to it that a lookalike can be made; any thread may call.

        Raises:
            ValueError: too few seeds or too many, a size out of range, or no such creator.
        """
        self._row_of(creator_id)
        check_wanted(seed_count, size)

    def make(
        self,
        seeds: np.ndarray,
        size: int,
        creator_id: int,
        draw: int,
        tell: Callable[[float], None] = lambda share: None,
    ) -> Lookalike:
        """The viewers most like the seeds.

        Args:
            seeds: integers [s], rows.
            size: how many are wanted.
            creator_id: whose followers the seeds are; 0: nobody's.
            draw: draws the seeds that are held out to measure the choice.
            tell: called as it goes with the share that is done, of 1.

        Raises:
            ValueError: too few seeds or too many, a size out of range, or no such creator.
        """
        creator = self._row_of(creator_id)
        check_wanted(len(seeds), size)
        followers, followed = self._follows.in_order()
        accounts = self._viewers.size  # after the follows: whoever is in one has a row
        links = links_from_times(accounts, followers, followed, _order_windows(len(followers)))
        ranker = self._ranker(links, creator is not None, lambda share: tell(_LEARNING_SHARE * share))
        tell(_LEARNING_SHARE)
        picture = Picture(links, max(links.end, 1))
        tell((1.0 + _LEARNING_SHARE) / 2)
        return expand(picture, ranker, seeds, size, creator, draw)

    def _row_of(self, creator_id: int) -> int | None:
        if not creator_id:
            return None
        row = int(self._viewers.rows_of(np.array([creator_id], np.uint64))[0])
        if row < 0:
            raise ValueError(f"creator_id {creator_id}: nobody follows, or is followed by, such an account")
        return row

    def _ranker(self, links: Links, reciprocal: bool, tell: Callable[[float], None]) -> Ranker | None:
        count = len(links.followers)
        learned_from, ranker = self._learned.get(reciprocal, (-1, None))
        if learned_from < 0 or abs(count - learned_from) > LEARN_AGAIN_SHARE * learned_from:
            try:
                ranker = train_ranker(links, reciprocal, tell=tell)
            except ValueError:
                ranker = None
            self._learned[reciprocal] = count, ranker
        return ranker


def _order_windows(follows: int) -> np.ndarray:
    """The window (i8[n]) of each follow by its place in the order; all windows hold about as many."""
    windows = min(max(follows // _WINDOW_FOLLOWS, _FEWEST_WINDOWS), WINDOWS)
    return np.arange(follows) * windows // max(follows, 1)
