"""What every change of a segment must be like, however it comes."""

from __future__ import annotations

import numpy as np

from targeting.expressions import check_segment_name
from targeting.naming import FILLED_FOR
from targeting.segments.generations import MAX_GENERATIONS, NEVER_MS
from targeting.segments.store import Change, SegmentStore

RESERVED_PREFIXES = tuple(f"{kind}:" for kind in (*FILLED_FOR, "tier", "stage"))
"""What names of segments begin with that the engine, or the bridge to a fan service, fills itself."""
MAX_EXPIRY_MS = 2**53


def check_change(segment_id: str, change: int, expires_at_ms: int) -> None:
    """See whether a change can be made at any time.

    Raises:
        ValueError: it cannot.
    """
    check_segment_name(segment_id)
    if segment_id.startswith(RESERVED_PREFIXES):
        raise ValueError(f"segment_id {segment_id!r}: prefixes {', '.join(RESERVED_PREFIXES)} are reserved")
    if change not in tuple(Change):
        raise ValueError(f"change {change}: must be 1 (replace), 2 (add) or 3 (remove)")
    if not 0 <= expires_at_ms <= MAX_EXPIRY_MS:
        raise ValueError(f"expires_at_ms {expires_at_ms}: not in 0..{MAX_EXPIRY_MS}")
    if expires_at_ms != NEVER_MS and change == Change.REMOVE:
        raise ValueError(f"expires_at_ms {expires_at_ms}: must be 0 with change 3 (remove)")


def check_ids(field: str, ids: np.ndarray) -> None:
    """See to it that ids (u8[n]) are some.

    Raises:
        ValueError: one is 0, which is nobody's.
    """
    zeros = np.flatnonzero(ids == 0)
    if len(zeros):
        raise ValueError(f"{field}[{zeros[0]}] 0: not in 1..{2**64 - 1}")


def check_date(segment_id: str, change: int, expires_at_ms: int, segments: SegmentStore, now_ms: int) -> None:
    """See whether a change's expiry date is one to accept now.

    Raises:
        ValueError: it has come already, or the segment would have too many dates.
    """
    if expires_at_ms == NEVER_MS:
        return
    if expires_at_ms <= now_ms:
        raise ValueError(f"expires_at_ms {expires_at_ms}: must be later than now, {now_ms}")
    dates = segments.expiry_dates(segment_id)
    if change == Change.ADD and expires_at_ms not in dates and len(dates) >= MAX_GENERATIONS:
        raise ValueError(
            f"expires_at_ms {expires_at_ms}: segment {segment_id!r} has {len(dates)} expiry dates already; "
            f"at most {MAX_GENERATIONS} at a time"
        )
