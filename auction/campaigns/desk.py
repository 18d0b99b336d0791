"""The questions that the campaign service puts to the running engine, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from auction.campaigns.health_service import HealthSource
from auction.campaigns.model import Campaign
from auction.kept_fans import NO_FANS, KeptFigures
from pacing.ledger.statement import StatementPage
from targeting.expressions import Expression


@dataclass(frozen=True, slots=True)
class CapsInForce:
    """The budgets that the engine keeps to now; above what was asked for while more is already spent and promised."""

    daily_budget_micros: int
    total_budget_micros: int


@dataclass(frozen=True, slots=True)
class LiveFigures:
    """What only the running engine knows about one campaign.

    Attributes:
        bids: bids made since this server started.
        multiplier_micros: pacing's present worth of one expected goal event, in micros.
        caps: the budgets in force.
        kept_fans: what became of the fans that it gained.
    """

    bids: int
    multiplier_micros: float
    caps: CapsInForce
    kept_fans: KeptFigures = NO_FANS


class Desk(Protocol):
    """The engine, as far as campaigns need it. Called from any thread."""

    def campaign_changed(self, campaign: Campaign, opening: bool = False) -> CapsInForce:
        """Take over a campaign that was created or changed, whatever its status; idempotent.

        Args:
            opening: its accounts are opened now, with nothing spent: only ever in the call that creates it.

        Raises:
            ValueError: the engine cannot serve it as it is, and goes on with what it had.
        """

    def check_lists(self, audience: Expression, creator_id: int) -> None:
        """See to it that the lists of viewers that a creator's audience names may be used.

        Raises:
            ValueError: one is too small, or called by half its name; the text begins with the path of the node.
        """

    def live(self, campaign_id: int) -> LiveFigures:
        """The present figures; zeros and the stored budgets for a campaign that does not bid."""

    def statement(self, campaign_id: int, after: int, limit: int, at_sequence: int) -> tuple[StatementPage, np.ndarray]:
        """A page of a campaign's charges (see `pacing.ledger.statement.statement_page`), and the same as EXPLAINED[n].

        Raises:
            ValueError: `at_sequence` lies behind what is judged, or it or `after` is of another server's list.
        """

    @property
    def health_source(self) -> HealthSource:
        """Tells how a creator's fans did."""
