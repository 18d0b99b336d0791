"""Passes over all leases beside their plain meaning."""

from __future__ import annotations

import numpy as np
import pytest

from pacing.budget.kernels import LEASE, LEASE_DRAINING, LEASE_NONE, LEASE_OPEN, SLOT, WAYS
from pacing.budget.leases.kernels import sum_idle, survey
from pacing.budget.leases.reference import idle_micros, needs_attention, peak_after

pytestmark = pytest.mark.kernels


def draw_leases(rng: np.random.Generator, slots: int) -> np.ndarray:
    leases = np.zeros((slots, WAYS), LEASE)
    for name in ("free_micros", "held_micros", "doubtful_micros", "billed_micros"):
        leases[name] = rng.integers(0, 2**40, leases.shape)
    leases["state"] = rng.choice([LEASE_NONE, LEASE_OPEN, LEASE_DRAINING], leases.shape)
    leases["day_end_at_ms"] = rng.integers(1, 4, leases.shape)
    leases["end_ms"] = rng.integers(0, 40, leases.shape)
    return leases


@pytest.mark.parametrize("n", [0, 1, 7, 300])
def test_idle_money_is_what_live_leases_have_and_nobody_billed(n: int) -> None:
    rng = np.random.default_rng(n)
    leases = draw_leases(rng, max(1, n))
    slots, day_ends_at_ms = rng.integers(0, len(leases), n), rng.integers(1, 4, n)
    out = np.full((n, 3), -1, np.int64)
    sum_idle(leases, slots, day_ends_at_ms, out)
    expected = [idle_micros(leases[slot], end) for slot, end in zip(slots, day_ends_at_ms, strict=True)]
    np.testing.assert_array_equal(out, np.array(expected, np.int64).reshape(n, 3))


@pytest.mark.parametrize("n", [0, 1, 7, 300])
def test_a_survey_lists_who_needs_attention_and_lets_peaks_fade(n: int) -> None:
    rng = np.random.default_rng(100 + n)
    leases, slots = draw_leases(rng, n), np.zeros(n, SLOT)
    leases["state"][rng.random(leases.shape) < 0.9] = LEASE_NONE
    leases["free_micros"] = rng.integers(0, 3, leases.shape) * 50
    leases["live_holds"] = rng.integers(0, 2, leases.shape)
    slots["way"] = rng.integers(-1, WAYS, n)
    slots["peak_micros"], slots["asked_micros"] = rng.integers(0, 60, n), rng.integers(0, 60, n)
    slots["refused_micros"] = rng.random(n) < 0.1
    peaks = [peak_after(slot) for slot in slots]
    needy = [s for s in range(n) if needs_attention(leases[s], slots[s], 10, 5, peaks[s])]
    out = np.full(n, -1, np.int32)
    found = survey(leases, slots, 10, 5, out)
    assert out[:found].tolist() == needy and (n < 300 or 0 < found < n)
    assert slots["peak_micros"].tolist() == peaks and not slots["asked_micros"].any()
