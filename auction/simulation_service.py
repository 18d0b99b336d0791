"""The `Simulation` service: moves the clock of a server that runs on virtual time."""

from __future__ import annotations

from auction.campaigns.access import Principal
from auction.rpc_service import UnaryCall
from auction.scheduler import Scheduler
from auction.status import parse
from pacing.clocks import MS_PER_DAY, Clock
from protos import bidding_pb2

MAX_STEP_MS = 7 * MS_PER_DAY


class SimulationService:
    """Answers `Advance`. One caller at a time: what falls due on the way runs in the calling thread."""

    def __init__(self, scheduler: Scheduler, clock: Clock) -> None:
        self._scheduler = scheduler
        self._clock = clock
        self.calls: dict[str, UnaryCall] = {"Advance": self.advance}

    def advance(self, raw: bytes, _: Principal) -> bytes:
        """Move the clock, running every periodic task that falls due."""
        to_ms = parse(bidding_pb2.AdvanceRequest, raw).to_ms
        now_ms = self._clock.wall_ms()
        if not now_ms <= to_ms <= now_ms + MAX_STEP_MS:
            raise ValueError(f"to_ms {to_ms}: not in {now_ms}..{now_ms + MAX_STEP_MS}")
        self._scheduler.advance_to(to_ms)
        return bidding_pb2.AdvanceResponse(now_ms=self._clock.wall_ms()).SerializeToString()
