"""Passes over all leases beside plain numpy."""

from __future__ import annotations

import numpy as np
import pytest

from pacing.budget.kernels import LEASE, LEASE_DRAINING, LEASE_NONE, LEASE_OPEN, WAYS
from pacing.budget.lease_kernels import sum_idle

pytestmark = pytest.mark.kernels


@pytest.mark.parametrize("n", [0, 1, 7, 300])
def test_idle_money_is_what_live_leases_have_and_nobody_billed(n: int) -> None:
    rng = np.random.default_rng(n)
    leases = np.zeros((max(1, n), WAYS), LEASE)
    for name in ("free_micros", "held_micros", "doubtful_micros", "billed_micros"):
        leases[name] = rng.integers(0, 2**40, leases.shape)
    leases["state"] = rng.choice([LEASE_NONE, LEASE_OPEN, LEASE_DRAINING], leases.shape)
    leases["day_end_at_ms"] = rng.integers(1, 4, leases.shape)
    slots, day_ends_at_ms = rng.integers(0, len(leases), n), rng.integers(1, 4, n)
    out = np.full((n, 3), -1, np.int64)
    sum_idle(leases, slots, day_ends_at_ms, out)
    chosen = leases[slots]
    live = chosen["state"] != LEASE_NONE
    idle = (chosen["free_micros"] + chosen["held_micros"] + chosen["doubtful_micros"]) * live
    of_day = idle * (chosen["day_end_at_ms"] == day_ends_at_ms[:, None])
    expected = [of_day.sum(axis=1), idle.sum(axis=1), (chosen["held_micros"] * live).sum(axis=1)]
    np.testing.assert_array_equal(out, np.stack(expected, axis=1))
