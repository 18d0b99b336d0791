"""What every test shares: a Hypothesis profile that answers the same on every machine."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("fanbid", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("fanbid")
