"""How much a creator may ask about why audiences hold viewers."""

from __future__ import annotations

from hashlib import blake2b
from typing import Protocol

from auction.audience.daily_questions import DailyQuestions
from auction.campaigns.access import Principal, Role
from pacing.clocks import Clock
from targeting.expressions import Expression, compile_clauses
from targeting.own_lists import check_lists
from targeting.reach.noise import canonical
from targeting.segments.store import SegmentStore

AUDIENCES_A_VIEWER = 10
"""Different audiences that a creator may ask about one viewer in a day."""
QUESTIONS_A_DAY = 10_000


class WhyStores(Protocol):
    """Where segments live."""

    segments: SegmentStore
    clock: Clock


class Whys:
    """Bounds the questions of creators; operators may ask anything. Any thread may call.

    *Why:* the answer is for the audiences that a creator bought. Without a bound, asking for one after another would
    tell whom a viewer follows, and all else that an audience can ask.
    """

    def __init__(self, stores: WhyStores) -> None:
        self._stores = stores
        self._all = DailyQuestions(stores.clock, QUESTIONS_A_DAY, "questions why viewers matched")
        self._of_viewer = DailyQuestions(stores.clock, AUDIENCES_A_VIEWER, "audiences about this viewer")

    def count(self, principal: Principal, viewer_id: int, expression: Expression, include_fans: bool) -> None:
        """Note a question.

        Raises:
            ValueError: the audience is too complex, or a creator's list in it is too small.
            RateLimited: it is one more than may be asked today.
        """
        if principal.role is not Role.CREATOR:
            return
        check_lists(expression, lambda name: len(self._stores.segments.members(name)))
        clauses = compile_clauses(expression, principal.creator_id, include_fans)
        question = blake2b(canonical(clauses, str), digest_size=16).digest()
        self._all.count(principal.creator_id, viewer_id.to_bytes(8, "big") + question)
        self._of_viewer.count((principal.creator_id, viewer_id), question)
