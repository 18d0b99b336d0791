"""Compiled search for the creators whose fans overlap most with those of given creators, and beyond chance.

Accounts are dense rows 0 to n - 1. Follows come by either end in compressed rows: pointers [n + 1], ends i4[E].
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

NOBODY = -1


class FollowRows(NamedTuple):
    """The follows of n accounts.

    Attributes:
        follower_ptr, follower_ends: who follows a row.
        following_ptr, following_ends: whom a row follows.
        ids: u8[n], of the accounts.
    """

    follower_ptr: np.ndarray
    follower_ends: np.ndarray
    following_ptr: np.ndarray
    following_ends: np.ndarray
    ids: np.ndarray


class Least(NamedTuple):
    """What an overlap must come to, for two creators to be similar at all.

    Attributes:
        common: fans in common; at least 1.
        cosine: of the creators' fans as sets, 0..1.
        lift: times as many fans in common as chance gives that must be beyond doubt; above 0.
        evidence: against no more than that: the log of one in how many times so many would be in common.
    """

    common: int
    cosine: float
    lift: float
    evidence: float


@njit(cache=True, nogil=True)
def fill_similar(
    creators: np.ndarray, follows: FollowRows, least: Least, counts: np.ndarray, met: np.ndarray, scores: np.ndarray,
    out_rows: np.ndarray, out_common: np.ndarray, out_lifts: np.ndarray,
) -> None:  # fmt: skip
    """Write the most similar accounts of each of m creators (i8[m], rows), best first; of equals the lower id.

    Similar is the cosine of two creators' fans as sets, c / sqrt(|A| |B|) with c fans in common (Salton & McGill 1983;
    between items, Sarwar et al., WWW 2001, eq. 1). |A| is the same for all that are compared, so c² / |B| ranks them,
    which is exact to the last bit, equals included, below 94 million common fans.

    Chance is what remains when it is only known how many each account follows and how many follow it (the
    configuration model; Chung & Lu 2002): fan i of A, who follows d_i others, follows B with probability d_i |B| / E,
    of E follows of others than A. So active fans and famous creators have fans in common that say nothing (Saracco et
    al., New J. Phys. 19, 2017; the plain hypergeometric of Tumminello et al., PLoS ONE 6, 2011, knows the second only).
    The mean is lambda = |B| sum(d_i) / E. That c or more come of independent draws with a mean of mu = lift lambda < c
    has a probability of at most exp(-(c ln(c / mu) - c + mu)) (Chernoff 1952), half the log-likelihood ratio of Poisson
    counts in the exponent (Dunning 1993): it must come to `least.evidence`.

    Args:
        creators: rows.
        follows: of everybody.
        least: what is needed.
        counts: i4[n], scratch: zeros, and zeros again in the end.
        met: i4[n], scratch.
        scores: f8[k], scratch.
        out_rows: i4[m, k]; NOBODY where there are fewer.
        out_common: i4[m, k], fans in common; 0 there.
        out_lifts: f8[m, k], how many times what chance gives these are: c / lambda; 0 there.
    """
    follower_ptr, following_ptr = follows.follower_ptr, follows.following_ptr
    most = out_rows.shape[1]
    for i in range(creators.shape[0]):
        creator = creators[i]
        met_count, of_others = 0, np.int64(0)
        own = np.int64(follower_ptr[creator + 1] - follower_ptr[creator])
        for e in range(follower_ptr[creator], follower_ptr[creator + 1]):
            fan = follows.follower_ends[e]
            of_others += following_ptr[fan + 1] - following_ptr[fan] - 1
            for f in range(following_ptr[fan], following_ptr[fan + 1]):
                other = follows.following_ends[f]
                if counts[other] == 0:
                    met[met_count] = other
                    met_count += 1
                counts[other] += 1
        all_others = len(follows.following_ends) - own
        activity = of_others / all_others if all_others > 0 else 0.0
        found = 0
        for j in range(met_count):
            other = met[j]
            common = np.int64(counts[other])
            counts[other] = 0
            if other == creator or common < least.common:
                continue
            theirs = np.int64(follower_ptr[other + 1] - follower_ptr[other])
            if common * common < least.cosine * least.cosine * (own * theirs):
                continue
            by_chance = theirs * activity
            mean = least.lift * by_chance
            if common <= mean or common * math.log(common / mean) - common + mean < least.evidence:
                continue
            score = common * common / theirs
            place = found
            while place > 0 and (
                score > scores[place - 1]
                or (score == scores[place - 1] and follows.ids[other] < follows.ids[out_rows[i, place - 1]])
            ):
                place -= 1
            if place == most:
                continue
            found = min(found + 1, most)
            for k in range(found - 1, place, -1):
                scores[k] = scores[k - 1]
                out_rows[i, k] = out_rows[i, k - 1]
                out_common[i, k] = out_common[i, k - 1]
                out_lifts[i, k] = out_lifts[i, k - 1]
            scores[place] = score
            out_rows[i, place] = other
            out_common[i, place] = common
            out_lifts[i, place] = common / by_chance
        out_rows[i, found:] = NOBODY
        out_common[i, found:] = 0
        out_lifts[i, found:] = 0.0
