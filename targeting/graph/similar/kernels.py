"""Compiled search for the creators whose fans overlap most with those of given creators.

Accounts are dense rows 0 to n - 1. Follows come by either end in compressed rows: pointers [n + 1], ends i4[E].
"""

from __future__ import annotations

import numpy as np
from numba import njit

NOBODY = -1


@njit(cache=True, nogil=True)
def fill_similar(
    creators: np.ndarray, follower_ptr: np.ndarray, follower_ends: np.ndarray, following_ptr: np.ndarray,
    following_ends: np.ndarray, ids: np.ndarray, least_common: int, counts: np.ndarray, met: np.ndarray,
    scores: np.ndarray, out_rows: np.ndarray, out_common: np.ndarray,
) -> None:  # fmt: skip
    """Write the most similar accounts of each of m creators (i8[m], rows), best first; of equals the lower id.

    Similar is the cosine of two creators' fans as sets, c / sqrt(|A| |B|) with c fans in common (Salton & McGill 1983;
    between items, Sarwar et al., WWW 2001, eq. 1). |A| is the same for all that are compared, so c² / |B| ranks them,
    which is exact to the last bit, equals included, below 94 million common fans.

    Args:
        creators: rows.
        follower_ptr, follower_ends: who follows a row.
        following_ptr, following_ends: whom a row follows.
        ids: u8[n], of the accounts.
        least_common: fans that an account must share to be similar at all; at least 1.
        counts: i4[n], scratch: zeros, and zeros again in the end.
        met: i4[n], scratch.
        scores: f8[k], scratch.
        out_rows: i4[m, k]; NOBODY where there are fewer.
        out_common: i4[m, k], fans in common; 0 there.
    """
    most = out_rows.shape[1]
    for i in range(creators.shape[0]):
        creator = creators[i]
        met_count = 0
        for e in range(follower_ptr[creator], follower_ptr[creator + 1]):
            fan = follower_ends[e]
            for f in range(following_ptr[fan], following_ptr[fan + 1]):
                other = following_ends[f]
                if counts[other] == 0:
                    met[met_count] = other
                    met_count += 1
                counts[other] += 1
        found = 0
        for j in range(met_count):
            other = met[j]
            common = np.int64(counts[other])
            counts[other] = 0
            if other == creator or common < least_common:
                continue
            score = common * common / (follower_ptr[other + 1] - follower_ptr[other])
            place = found
            while place > 0 and (
                score > scores[place - 1] or (score == scores[place - 1] and ids[other] < ids[out_rows[i, place - 1]])
            ):
                place -= 1
            if place == most:
                continue
            found = min(found + 1, most)
            for k in range(found - 1, place, -1):
                scores[k] = scores[k - 1]
                out_rows[i, k] = out_rows[i, k - 1]
                out_common[i, k] = out_common[i, k - 1]
            scores[place] = score
            out_rows[i, place] = other
            out_common[i, place] = common
        out_rows[i, found:] = NOBODY
        out_common[i, found:] = 0
