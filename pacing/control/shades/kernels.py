"""Shades of first-price bids, compiled: sums behind the line that is fitted to them, and what bids along it bring."""

from __future__ import annotations

import math

from numba import njit

from pacing.control.curves.kernels import interpolate
from pacing.control.grid import ALPHA_BINS, Z_LOW, Z_STEP

SHADE_COLUMNS = 7
_LEAST_NARROWED = 0.25  # of the variance of thresholds
_STEEPEST_CURVE = 5.0


@njit(cache=True, nogil=True)
def sum_shades(row, first_price, probability, alpha, bid, log_level, log_price, out_sums):
    """Add n decided auctions to the sums behind their campaigns' lines; second price is left out.

    Args:
        row: i8[n] campaign, or -1 to skip. first_price: u1[n]. probability, alpha, bid: f8[n], micros.
        log_level, log_price: f8[N] the scales in force.
        out_sums: f8[N, SHADE_COLUMNS] sums of weight, shade, dearness, its square, its product with the shade, log
            probability over level, and its square; added to.
    """
    for i in range(len(row)):
        c = row[i]
        if c < 0 or not first_price[i] or bid[i] <= 0.0 or alpha[i] <= 0.0 or probability[i] <= 0.0:
            continue
        log_worth = math.log(alpha[i] * probability[i])
        shade = min(0.0, math.log(bid[i]) - log_worth)
        dearness = log_worth - log_price[c]
        out_sums[c, 0] += probability[i]
        out_sums[c, 1] += probability[i] * shade
        out_sums[c, 2] += probability[i] * dearness
        out_sums[c, 3] += probability[i] * dearness * dearness
        out_sums[c, 4] += probability[i] * dearness * shade
        quotient = math.log(probability[i]) - log_level[c]
        out_sums[c, 5] += probability[i] * quotient
        out_sums[c, 6] += probability[i] * quotient * quotient


@njit(cache=True, nogil=True)
def narrowed(curve, line):
    """How much narrower thresholds lie when likely impressions are shaded deeper: (middle of the curve, in bins, and
    the factor by which it is stretched there). Price and probability are taken to be independent.

    Args:
        curve: f8[K] value of an impression by threshold. line: f8[3] of `lines.shade_lines`.
    """
    mean, square, before = 0.0, 0.0, 0.0
    for k in range(len(curve)):
        step = curve[k] - before
        before = curve[k]
        mean += step * k
        square += step * k * k
    if before <= 0.0 or line[1] == 0.0:
        return 0.0, 1.0
    mean /= before
    variance = square / before - mean * mean
    less = line[2] * (1.0 - (1.0 + line[1]) ** 2) / Z_STEP**2
    if variance <= 0.0:
        return mean, 1.0
    return mean, math.sqrt(variance / max(variance - less, _LEAST_NARROWED * variance))


@njit(cache=True, nogil=True)
def log_paid(curve, at, line, stretch):
    """Log of what winners pay for an event over what all would bid for it: likely impressions win more often, and are
    shaded deeper. By the regression of probability on threshold.

    Args:
        curve, line: as in `narrowed`. at: fractional bin, stretched. stretch: of `narrowed`.
    """
    value = interpolate(curve, at)
    if value <= 0.0:
        return 0.0
    steepness = min((value - interpolate(curve, at - 1.0)) / (value * Z_STEP), _STEEPEST_CURVE)
    return line[1] * (1.0 + line[1]) * line[2] * stretch * steepness


@njit(cache=True, nogil=True)
def add_first_price(curve, start, line, scale, log_alpha, out_value, out_cost):
    """Add what first-price impressions bring and cost at each of J multipliers: a winner pays its shaded bid.

    Args:
        curve: f8[K] value of an impression by threshold. start: fractional bin of the first multiplier's worth.
        line: f8[3] of `lines.shade_lines`. scale: value of the impressions, in units of the curve.
        log_alpha: of the first multiplier.
        out_value, out_cost: f4[J], added to.
    """
    shade = line[0] + line[1] * (Z_LOW + start * Z_STEP)
    bid = math.exp(log_alpha + shade)
    growth, unshaded_growth = math.exp((1.0 + line[1]) * Z_STEP), math.exp(Z_STEP)
    worth = math.exp(log_alpha)
    middle, stretch = narrowed(curve, line)
    for j in range(ALPHA_BINS):
        at = start + j + min(shade, 0.0) / Z_STEP
        at = middle + (at - middle) * stretch
        value = scale * interpolate(curve, at)
        out_value[j] += value
        out_cost[j] += value * min(bid, worth) * math.exp(log_paid(curve, at, line, stretch))
        shade += line[1] * Z_STEP
        bid *= growth
        worth *= unshaded_growth
