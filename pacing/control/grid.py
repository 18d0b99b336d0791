"""The two grids of the controller: bins of a market's curves, and multipliers around a campaign's present one.

Both are logarithmic with the same step, so that moving a curve to a campaign's scale is one shift for all bins.
"""

Z_LOW = -4.5
"""Log threshold of bin 0, on the scale on which mean price over level is 1."""

Z_STEP = 0.04
CURVE_BINS = 192
"""Bins of a market curve; the last lies at exp(3.1) times the mean price."""

ALPHA_BINS = 96
"""Multipliers at which a campaign's forecast is kept: exp(-1.92) to exp(1.88) times its centre."""

ALPHA_CENTRE = ALPHA_BINS // 2
