"""What a creator is told of the reach of own lists: with noise, so that no list is made to find out about a viewer."""

from __future__ import annotations

import threading
from secrets import token_bytes
from typing import Protocol

from pyroaring import BitMap

from auction.audience.daily_questions import DailyQuestions
from pacing.clocks import MS_PER_DAY, Clock
from targeting.expressions import Expression, compile_clauses
from targeting.own_lists import owner_of
from targeting.reach.counter import ReachCounter
from targeting.reach.noise import DRAW_BYTES, canonical, digest_of_ids, keyed, noisy
from targeting.segments.store import SegmentStore
from targeting.viewers import ViewerTable

QUESTIONS_A_DAY = 200
"""Different audiences with own lists whose reach a creator may ask for in a day."""


class NoisyStores(Protocol):
    """Where viewers and segments live."""

    viewers: ViewerTable
    segments: SegmentStore
    clock: Clock


class NoisyReach:
    """Answers creators about audiences with own lists in them. Any thread may call; answers take turns.

    Each answer is (1/20)-differentially private (see `targeting.reach.noise`) as to one viewer's part in it: whether
    the viewer is in a list, follows, or is whatever else the audience asks. The noise is drawn by a hash of the
    audience's alternatives, who is in its lists, and the day, under a key that is drawn when the process starts. So the
    same question has the same answer within a day, while the process runs: asking again, in another order or under
    another name of a list, averages nothing out, and a viewer who comes or goes meanwhile does not show under noise
    that stays. After a start the noise is another one; starts are the operator's. Alternatives that add nobody count
    for nothing, but that two audiences mean the same is not seen in general: then they are two draws, as two different
    questions are. What bounds what many draws tell is their number, QUESTIONS_A_DAY: the answers of a day together are
    10-differentially private, and but for one case in a million 4.3 (advanced composition: Dwork, Rothblum and Vadhan
    2010, Theorem III.3). Other lists need uploads, which have a quota of their own.
    """

    def __init__(self, stores: NoisyStores, reach: ReachCounter) -> None:
        self._stores = stores
        self._reach = reach
        self._key = token_bytes(32)  # kept nowhere: noise that outlives the answers would show who came meanwhile
        self._lock = threading.Lock()
        self._questions = DailyQuestions(stores.clock, QUESTIONS_A_DAY, "audiences with lists of yours")
        self._digests: dict[str, tuple[BitMap, str]] = {}
        self._day = -1
        self._answers: dict[bytes, tuple[int, int]] = {}

    def range_of(self, expression: Expression, creator_id: int, include_fans: bool) -> tuple[int, int]:
        """A range (low, high) that holds the number of viewers of an audience whose lists may be used, 19 times in 20.

        Raises:
            ValueError: the audience is too complex.
            RateLimited: the creator asked too many questions today.
        """
        with self._lock:
            day = self._stores.clock.wall_ms() // MS_PER_DAY
            if day != self._day:
                self._day, self._answers, self._digests = day, {}, {}
            asked = canonical(compile_clauses(expression, creator_id, include_fans), self._stand_in)
            question = keyed(self._key, b"reach noise", f"{day} ".encode() + asked, 2 * DRAW_BYTES)
            self._questions.count(creator_id, question)
            if question not in self._answers:
                count = self._reach.count_one_by_one(expression, creator_id, include_fans)
                told = noisy(count, question[:DRAW_BYTES])
                self._answers[question] = told.as_range(self._stores.viewers.size)
            return self._answers[question]

    def _stand_in(self, name: str) -> str:
        """What stands for a segment in a question: of a list, who is in it."""
        return self._digest_of_list(name) if owner_of(name) else name

    def _digest_of_list(self, name: str) -> str:
        members = self._stores.segments.members(name)
        known = self._digests.get(name)
        if known is None or known[0] is not members:
            rows = self._stores.segments.rows(name)
            known = self._digests[name] = (members, f"own {digest_of_ids(self._stores.viewers.ids[rows]).hex()}")
        return known[1]
