"""What every test shares: the kernel cache, and a Hypothesis profile that answers the same on every machine."""

from __future__ import annotations

from fanbid import prepare_kernel_cache

prepare_kernel_cache()  # before any test module imports numba

from hypothesis import HealthCheck, settings  # noqa: E402

settings.register_profile("fanbid", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("fanbid")
