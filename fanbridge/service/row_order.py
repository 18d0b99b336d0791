"""The order in which rows move fans: that of time, whatever places they came in."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fanbridge.events import Rows
from pacing.facts import OutcomeKind


def in_order(rows: Rows) -> npt.NDArray[np.intp]:
    """Places of rows by time, a follow before an unfollow of the same instant; the same for the rows in any order."""
    others = [rows[name] for name in rows.dtype.names or () if name not in ("kind", "occurred_at_ms")]
    kinds = rows["kind"]
    return np.lexsort((*others, kinds, kinds == OutcomeKind.UNFOLLOW, rows["occurred_at_ms"]))
