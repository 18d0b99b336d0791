"""How much a creator may ask about why audiences hold viewers."""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import Protocol

from auction.audience.daily_questions import DailyQuestions
from auction.campaigns.access import Principal, Role
from auction.campaigns.model import Campaign
from pacing.clocks import Clock
from targeting.expression_json import to_json

QUESTIONS_A_VIEWER = 10
"""Different questions that a creator may ask about one viewer in a day: audiences, and where the viewer was."""
QUESTIONS_A_DAY = 10_000
Slot = tuple[int, int, tuple[str, ...]]
"""Placement, content category and content tags."""


class WhyStores(Protocol):
    """The clock that days are counted by."""

    clock: Clock


class Whys:
    """Bounds the questions of creators; operators may ask anything. Any thread may call.

    *Why:* the answer is for the audiences that a creator bought. Without a bound, asking for one after another would
    tell whom a viewer follows, and all else that an audience can ask. A campaign that is edited asks anew, and so does
    another slot: an audience may ask one thing of each placement.
    """

    def __init__(self, stores: WhyStores) -> None:
        self._all = DailyQuestions(stores.clock, QUESTIONS_A_DAY, "questions why viewers matched")
        self._of_viewer = DailyQuestions(stores.clock, QUESTIONS_A_VIEWER, "questions about this viewer")

    def count(self, principal: Principal, viewer_id: int, slot: Slot, campaign: Campaign | None) -> None:
        """Note a question, by what is asked of the viewer as it is written: other words may have another answer.

        Args:
            principal: who asks.
            viewer_id: about whom.
            slot: where the viewer was, as far as the question says.
            campaign: whose audience is meant; None: an operator's question without one.

        Raises:
            RateLimited: it is one more than may be asked today.
        """
        if principal.role is not Role.CREATOR or campaign is None:
            return
        text = json.dumps([to_json(campaign.targeting), campaign.include_fans, slot])
        question = blake2b(text.encode(), digest_size=16).digest()
        self._of_viewer.count((principal.creator_id, viewer_id), question)
        self._all.count(principal.creator_id, viewer_id.to_bytes(8, "big") + question)
