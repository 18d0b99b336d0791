"""Health reports for the engine: the fan service's, with what the bridge was told of kept fans."""

from __future__ import annotations

from fanbridge.bridge import Bridge
from fanbridge.client import FanServiceClient
from protos.fans_pb2 import CreatorHealth, HealthRequest, KeptShare


class HealthClient:
    """Asks a fan service, when somebody asks it. Any thread may call."""

    def __init__(self, client: FanServiceClient, bridge: Bridge) -> None:
        self._client = client
        self._bridge = bridge

    def report(self, request: HealthRequest) -> CreatorHealth:
        """A creator's week or month; raises as `FanServiceClient.get_health`."""
        health = self._client.get_health(request)
        counts = self._bridge.kept_counts(request.creator_id)
        del health.kept[:]
        health.kept.extend(KeptShare(days=days, judged=judged, kept=kept) for days, (judged, kept) in counts.items())
        return health
