"""How far bids are shaded in first price, as pacing sees it: a line in how dear a bid is beside the market.

Who bids high beside the going price is shaded deeper, so a bid grows less than its multiplier does, and the same
multiplier is shaded less where prices are high. Pacing knows nothing of landscapes; it fits the log of bid over worth,
by least squares weighed with probability, on the log of worth over price.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

_SLOPE_PRIOR_VARIANCE = 0.01  # of dearness: what varies much less tells no slope
_STEEPEST = -0.9  # a bid never falls when its worth rises
_DEEPEST = -3.0


def shade_lines(sums: FloatArray) -> FloatArray:
    """f8[m, 3]: intercept and slope of the mean log shade by log(alpha * level / price), and the variance of log
    probabilities; 0 where none was seen.

    Args:
        sums: f8[m, SHADE_COLUMNS] of sum_shades.
    """
    weight, shade, dearness, square, product, quotient, quotient_square = sums.T
    seen = weight > 0
    weight = np.where(seen, weight, 1.0)
    shade, dearness = shade / weight, dearness / weight
    variance = np.maximum(square / weight - dearness * dearness, 0.0)
    slope = (product / weight - dearness * shade) / (variance + _SLOPE_PRIOR_VARIANCE)
    slope = np.clip(slope, _STEEPEST, 0.0)
    # A bid of the mean quotient of probability and level stands for all.
    quotient = quotient / weight
    intercept = shade + slope * (quotient - dearness)
    varies = np.maximum(quotient_square / weight - quotient * quotient, 0.0)
    return np.where(seen[:, None], np.stack([intercept, slope, varies], axis=1), 0.0)


def shades_at(lines: FloatArray, log_worth: FloatArray) -> FloatArray:
    """Log of bid over worth, f8[m], where log(alpha * level / price) is `log_worth`, f8[m]."""
    return np.clip(lines[:, 0] + lines[:, 1] * log_worth, _DEEPEST, 0.0)
