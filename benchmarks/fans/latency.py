"""How long a new tier takes to become a segment: from the event's acknowledgement until its segment holds them."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from benchmarks.output import ProgressBar
from benchmarks.serving import start_child
from fanbridge.bridge import Bridge
from fanbridge.client import FanServiceClient
from fanbridge.delivery import DELIVERY_FILE, Delivery
from fanbridge.events import FAN_EVENT, Rows, Tier, tier_segment
from pacing.clocks import SystemClock
from pacing.facts import OutcomeKind
from pacing.ledger.log import Ledger
from targeting.graph.follows import FollowGraph
from targeting.segments.store import SegmentStore
from targeting.viewers import ViewerTable

CREATOR_ID = 17
GIVE_UP_S = 120.0
_POLL_S = 0.01
_FANS_AT_ONCE = 100


def tier_to_segment_s(folder: Path, rounds: int, bar: ProgressBar) -> list[float]:
    """Seconds of each round: a hundred viewers follow and give, as the platform tells the fan service over gRPC; the
    shipped bridge runs from its own thread at its own pace; the clock stops when all are in the segment.

    Raises:
        RuntimeError: a round took longer than GIVE_UP_S.
    """
    with ExitStack() as ending:
        flags = ["--data", str(folder / "service"), "--listen", "127.0.0.1:0"]
        service = start_child("fan-service", ["fan-service", *flags], folder / "service")
        ending.callback(service.stop)
        platform, client = (FanServiceClient(str(service.ready["grpc"]), deadline_ms=60_000) for _ in range(2))
        ending.callback(platform.close)
        ending.callback(client.close)
        ledger, delivery = Ledger(folder / "ledger.sqlite"), Delivery(folder / DELIVERY_FILE)
        ending.callback(ledger.close)
        ending.callback(delivery.close)
        viewers, segments = ViewerTable(), SegmentStore()
        bridge = Bridge(
            client,
            delivery,
            viewers=viewers,
            segments=segments,
            append=ledger.append,
            read_judged=ledger.read_judged,
            follows=FollowGraph(viewers, segments),
        )
        ending.callback(bridge.close)
        bridge.start(SystemClock())
        platform.push_events(_new_fans(0))
        _seconds_until(segments, _FANS_AT_ONCE)
        while bridge.status().events_appended < 2 * _FANS_AT_ONCE:  # what takes follows is compiled now
            time.sleep(_POLL_S)
        rng = np.random.default_rng(1)
        taken_s = []
        for number in range(1, rounds + 1):
            time.sleep(rng.uniform(0, 1))  # so that rounds do not fall into step with the bridge
            platform.push_events(_new_fans(number))
            taken_s.append(_seconds_until(segments, (number + 1) * _FANS_AT_ONCE))
            bar.advance(1, f"{taken_s[-1]:.2f} s")
    return taken_s


def _new_fans(number: int) -> Rows:
    """A hundred viewers whom nobody knows follow, and give something."""
    events = np.zeros(2 * _FANS_AT_ONCE, FAN_EVENT)
    events["event_id"] = 1 + number * len(events) + np.arange(len(events))
    events["viewer_id"] = 1 + number * _FANS_AT_ONCE + np.arange(len(events)) // 2
    events["creator_id"] = CREATOR_ID
    events["kind"] = np.tile([OutcomeKind.FOLLOW, OutcomeKind.GIFT], _FANS_AT_ONCE)
    events["occurred_at_ms"] = SystemClock().wall_ms()
    return events


def _seconds_until(segments: SegmentStore, members: int) -> float:
    name, began_s = tier_segment(Tier.HIGH_VALUE, CREATOR_ID), time.perf_counter()
    while name not in segments.names or len(segments.members(name)) < members:
        if time.perf_counter() - began_s > GIVE_UP_S:
            raise RuntimeError(f"the tier of {members} viewers did not become a segment in {GIVE_UP_S:.0f} s")
        time.sleep(_POLL_S)
    return time.perf_counter() - began_s
