"""What the passes over leases mean, in plain Python."""

from __future__ import annotations

import numpy as np

from pacing.budget.kernels import LEASE_DRAINING, LEASE_NONE


def needs_attention(leases: np.ndarray, slot: np.void, now_ms: int, renew_ms: int, peak_micros: int) -> bool:
    """Whether `survey` lists a slot (SLOT) with these leases (LEASE[WAYS]), when its peak is `peak_micros`."""
    draining = leases[leases["state"] == LEASE_DRAINING]
    if slot["refused_micros"] > 0 or ((draining["free_micros"] > 0) | (draining["live_holds"] == 0)).any():
        return True
    if slot["way"] < 0:
        return False
    lease = leases[slot["way"]]
    return bool(lease["free_micros"] < 2 * peak_micros or lease["end_ms"] - now_ms <= renew_ms)


def peak_after(slot: np.void) -> int:
    """The peak of a slot after a survey: an eighth less, rounded up, or what was asked since the last one."""
    peak = int(slot["peak_micros"])
    return max(int(slot["asked_micros"]), peak - peak // 8 - (peak > 0))


def idle_micros(leases: np.ndarray, day_end_at_ms: int) -> tuple[int, int, int]:
    """What `sum_idle` answers of one slot's LEASE[WAYS]."""
    live = leases[leases["state"] != LEASE_NONE]
    idle = live["free_micros"] + live["held_micros"] + live["doubtful_micros"]
    return int(idle[live["day_end_at_ms"] == day_end_at_ms].sum()), int(idle.sum()), int(live["held_micros"].sum())
