"""What the server that paces a shard publishes of its campaigns, packed."""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt

from pacing.control.settings import cost_weights

PUBLISHED = np.dtype(
    [
        ("campaign_id", "<u8"),
        ("alpha_micros", "<f8"),  # as in PACING_PLAN
        ("planned_day_spend_micros", "<i8"),
        ("cost_weight", "<f8"),  # of pacing.control.settings
        ("day_end_at_ms", "<i8"),  # of the budget day that the planned spend is of; 0: it is of none
    ]
)
"""One campaign's plan as other servers use it."""

_FORMAT_VERSION = 2
_HEAD = struct.Struct("<II")  # version, rows


def published(plans: npt.NDArray[np.void], accounts: npt.NDArray[np.void], now_ms: int) -> npt.NDArray[np.void]:
    """PUBLISHED[n] of PACING_PLAN[n] and the PACING_ACCOUNT[n] that they were made from."""
    rows = np.zeros(len(plans), PUBLISHED)
    for name in ("campaign_id", "alpha_micros", "planned_day_spend_micros"):
        rows[name] = plans[name]
    rows["cost_weight"] = cost_weights(plans, accounts["target_cost_micros"])
    present = (accounts["day_start_at_ms"] <= now_ms) & (now_ms < accounts["day_end_at_ms"])
    rows["day_end_at_ms"] = np.where(present, accounts["day_end_at_ms"], 0)
    return rows


def pack(rows: npt.NDArray[np.void]) -> bytes:
    """The bytes that `unpack` reads."""
    return _HEAD.pack(_FORMAT_VERSION, len(rows)) + rows.tobytes()


def unpack(packed: bytes) -> npt.NDArray[np.void]:
    """PUBLISHED[n] as it was packed.

    Raises:
        ValueError: it is nothing of the kind, or of another version.
    """
    if len(packed) < _HEAD.size:
        raise ValueError(f"{len(packed)} bytes: cut short")
    version, count = _HEAD.unpack_from(packed)
    if version != _FORMAT_VERSION:
        raise ValueError(f"format version {version}: of another server's version")
    if len(packed) != _HEAD.size + count * PUBLISHED.itemsize:
        raise ValueError(f"{len(packed)} bytes: not as long as {count} campaigns are")
    rows = np.frombuffer(packed, PUBLISHED, count, _HEAD.size)
    for name in ("alpha_micros", "cost_weight"):
        if not bool((np.isfinite(rows[name]) & (rows[name] >= 0)).all()):
            raise ValueError(f"{name}: has a value below 0 or that is no number")
    return rows
