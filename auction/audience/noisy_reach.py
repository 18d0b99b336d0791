"""What a creator is told of the reach of own lists: with noise, so that no list is made to find out about a viewer."""

from __future__ import annotations

import threading
from hashlib import blake2b
from typing import Protocol

import numpy as np
from pyroaring import BitMap

from auction.audience.daily_questions import DailyQuestions
from auction.bid.keyring import KeyRing
from pacing.clocks import MS_PER_DAY, Clock
from targeting.expressions import Expression, compile_clauses
from targeting.own_lists import check_lists, owner_of
from targeting.reach.counter import ReachCounter
from targeting.reach.noise import DRAW_BYTES, canonical, noisy
from targeting.segments.store import SegmentStore
from targeting.viewers import ViewerTable

QUESTIONS_A_DAY = 200
"""Different audiences with own lists whose reach a creator may ask for in a day."""


class NoisyStores(Protocol):
    """Where viewers and segments live, and the server's secret."""

    viewers: ViewerTable
    segments: SegmentStore
    clock: Clock
    keys: KeyRing


class NoisyReach:
    """Answers creators about audiences with own lists in them. Any thread may call; answers take turns.

    Each answer is (1/20)-differentially private (see `targeting.reach.noise`) as to one viewer's part in it: whether
    the viewer is in a list, follows, or is whatever else the audience asks. The noise is drawn by a hash of the
    audience, who is in its lists, and the day, under a key of the server's: the same question has the same noise, so
    asking again, in other words or under another name of a list, averages nothing out; and within a day it has the same
    answer, so a viewer who comes or goes meanwhile does not show under noise that stays. Different questions are
    independent draws. Of these there are QUESTIONS_A_DAY, so the answers of a day together are 10-differentially
    private, and but for one case in a million 4.3 (advanced composition: Dwork, Rothblum and Vadhan 2010, Theorem
    III.3). Other lists need uploads, which have a quota of their own.
    """

    def __init__(self, stores: NoisyStores, reach: ReachCounter) -> None:
        self._stores = stores
        self._reach = reach
        self._lock = threading.Lock()
        self._questions = DailyQuestions(stores.clock, QUESTIONS_A_DAY, "audiences with lists of yours")
        self._digests: dict[str, tuple[BitMap, str]] = {}
        self._day = -1
        self._answers: dict[bytes, tuple[int, int]] = {}

    def range_of(self, expression: Expression, creator_id: int, include_fans: bool) -> tuple[int, int]:
        """A range (low, high) that holds the number of viewers of an audience, 19 times in 20.

        Raises:
            ValueError: the audience is too complex, or a list is too small.
            RateLimited: the creator asked too many questions today.
        """
        check_lists(expression, lambda name: len(self._stores.segments.members(name)))
        with self._lock:
            day = self._stores.clock.wall_ms() // MS_PER_DAY
            if day != self._day:
                self._day, self._answers, self._digests = day, {}, {}
            question = self._digest(
                day, canonical(compile_clauses(expression, creator_id, include_fans), self._stand_in)
            )
            self._questions.count(creator_id, question)
            if question not in self._answers:
                count = self._reach.count_one_by_one(expression, creator_id, include_fans)
                told = noisy(count, question[:DRAW_BYTES])
                self._answers[question] = told.as_range(self._stores.viewers.size)
            return self._answers[question]

    def _digest(self, day: int, text: bytes) -> bytes:
        """16 bytes that nobody without the key can tell from random ones."""
        keys = self._stores.keys.current
        of = blake2b(key=keys.keys[keys.active_id], person=b"reach noise", digest_size=16)
        of.update(day.to_bytes(8, "big", signed=True))
        of.update(text)
        return of.digest()

    def _stand_in(self, name: str) -> str:
        """What stands for a segment in a question: of a list, who is in it."""
        return self._digest_of_list(name) if owner_of(name) else name

    def _digest_of_list(self, name: str) -> str:
        members = self._stores.segments.members(name)
        known = self._digests.get(name)
        if known is None or known[0] is not members:
            rows = self._stores.segments.rows(name)
            ids = np.sort(self._stores.viewers.ids[rows])
            known = self._digests[name] = (members, f"own {blake2b(ids.tobytes(), digest_size=16).hexdigest()}")
        return known[1]
