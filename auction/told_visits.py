"""What the ledger says of who met which creator: plays, live visits, and ads that were seen."""

from __future__ import annotations

import numpy as np

from pacing.clocks import Clock
from pacing.facts import OutcomeKind, Verdict
from targeting.visits import Visit, Visits

_SHOWN = (Verdict.CHARGED, Verdict.OVER_DELIVERY)
_VISIT_OF = {OutcomeKind.PLAY: Visit.PLAYED, OutcomeKind.LIVE_VISIT: Visit.LIVE, OutcomeKind.BILLABLE: Visit.REACHED}


class ToldVisits:
    """Passes judged outcomes on as visits, whoever told them: the feed, the fan service, another server."""

    def __init__(self, visits: Visits, clock: Clock) -> None:
        self._visits = visits
        self._clock = clock

    def follow(self, rows: np.ndarray, judgements: np.ndarray) -> None:
        """Take in judged OUTCOME[n]; an impression counts if it was shown, charged or not."""
        for kind, visit in _VISIT_OF.items():
            chosen = rows["kind"] == kind
            if kind == OutcomeKind.BILLABLE:
                chosen = chosen & np.isin(judgements["verdict"], _SHOWN)
            if chosen.any():
                told = rows[chosen]
                self._visits.put(
                    visit, told["viewer_id"], told["creator_id"], told["occurred_at_ms"], self._clock.wall_ms()
                )

    def state(self) -> dict[str, np.ndarray]:
        """See `Visits.state`."""
        return self._visits.state()

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """See `Visits.restore`."""
        self._visits.restore(state)
