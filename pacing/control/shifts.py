"""Traffic, levels and prices that left what past days span: what they are now tells more than what they were."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pacing.control.kernels import SUM_TOLD
from pacing.control.state import PRICE, CampaignState

FloatArray = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

# So far from what is expected of the running bucket, traffic, a level or a price has shifted. Crowds come and go within
# an hour or two on many days, and the forecast knows how they fade; only what no such day explains is a shift.
_SHIFT_SD = np.array([6.0, 4.0, 4.0])
_SHIFT_LEAST = 0.15
_LOG_PRICE_VARIANCE = 0.6  # of single prices around their mean


def notice_shifts(
    state: CampaignState,
    rows: Rows,
    own: FloatArray,
    bucket: int,
    fresh: npt.NDArray[np.bool_],
    raw: FloatArray,
    raw_variance: FloatArray,
) -> None:
    """Mark traffic, levels and prices of the running bucket that lie outside of what was expected of it.

    What is seen of a shifted price is believed at once.

    Args:
        rows: i8[m] of the state.
        own: f8[3], how much past days vary in the running bucket.
        bucket: absolute number of the running bucket.
        fresh: bool[m], their forecasts are of this bucket; others have seen too little of it to tell.
        raw: f8[m, 3], how far the running bucket lies from its mean, in logs.
        raw_variance: f8[m, 3] of that; narrowed here for shifted prices.
    """
    surprise = np.abs(raw - state.foretold[rows])
    drawn = np.where(np.isfinite(raw_variance), raw_variance, 0.0)
    drawn[:, PRICE] = _LOG_PRICE_VARIANCE / np.maximum(state.sums[rows, SUM_TOLD], 1.0)
    outside = np.isfinite(raw_variance) & (surprise > _SHIFT_SD * np.sqrt(own + drawn))
    outside &= (surprise > _SHIFT_LEAST) & ~state.scaled[rows] & fresh[:, None]
    state.shifted[rows] |= outside
    state.shift_bucket[rows[outside.any(axis=1)]] = bucket
    priced = state.shifted[rows, PRICE] & np.isfinite(raw_variance[:, PRICE])
    raw_variance[priced, PRICE] = drawn[priced, PRICE]
