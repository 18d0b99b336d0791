"""Compiled similarity of every account to a list of seeds, in one walk over the follows around them.

Accounts are dense rows 0 to n - 1. `following` and `followers` are the same follows by either end, in compressed rows:
pointers i8[n + 1], ends i4[E] and weights f4[E]; a weight says how lately the follow was made, 1 in the last window.
"""

from __future__ import annotations

import numpy as np
from numba import njit

COSINE, RECENT_COSINE, FOLLOWERS_COSINE = 0, 1, 2
TO_SEEDS, FROM_SEEDS, LATELY_TO_SEEDS, LATELY_FROM_SEEDS, RARE_TO_SEEDS, RARE_FROM_SEEDS = 3, 4, 5, 6, 7, 8
SIMILARITIES = 9


@njit(cache=True, nogil=True)
def fill_compressed(
    keys: np.ndarray, ends: np.ndarray, weights: np.ndarray, out_ptr: np.ndarray, out_ends: np.ndarray,
    out_weights: np.ndarray,
) -> None:  # fmt: skip
    """Sort follows by key (i4[E] each), keeping their order; `out_ptr` is i8[n + 1] of zeros."""
    for i in range(keys.shape[0]):
        out_ptr[keys[i] + 1] += 1
    for node in range(out_ptr.shape[0] - 1):
        out_ptr[node + 1] += out_ptr[node]
    at = out_ptr[:-1].copy()
    for i in range(keys.shape[0]):
        out_ends[at[keys[i]]] = ends[i]
        out_weights[at[keys[i]]] = weights[i]
        at[keys[i]] += 1


@njit(cache=True, nogil=True)
def fill_norms(
    ptr: np.ndarray, ends: np.ndarray, weights: np.ndarray, rarity: np.ndarray, out_norms: np.ndarray
) -> None:
    """Length of each account's vector of ends, an end weighing its rarity (f8[n]); second column: times its weight."""
    for node in range(ptr.shape[0] - 1):
        plain, recent = 0.0, 0.0
        for e in range(ptr[node], ptr[node + 1]):
            squared = rarity[ends[e]] * rarity[ends[e]]
            plain += squared
            recent += squared * weights[e] * weights[e]
        out_norms[node, 0] = np.sqrt(plain)
        out_norms[node, 1] = np.sqrt(recent)


@njit(cache=True, nogil=True)
def _add_cosines(
    seeds: np.ndarray, seed_weights: np.ndarray, ptr: np.ndarray, ends: np.ndarray, weights: np.ndarray,
    back_ptr: np.ndarray, back_ends: np.ndarray, back_weights: np.ndarray, rarity: np.ndarray, norms: np.ndarray,
    skipped: np.ndarray, out: np.ndarray, plain_column: int, recent_column: int,
) -> None:  # fmt: skip
    """Sum over the seeds of the cosine between each account's vector and the seed's; skipped ends count for nothing."""
    n = ptr.shape[0] - 1
    plain, recent = np.zeros(n), np.zeros(n)
    for s in range(seeds.shape[0]):
        seed = seeds[s]
        if norms[seed, 0] <= 0.0:
            continue
        for e in range(ptr[seed], ptr[seed + 1]):
            end = ends[e]
            if not skipped[end]:
                plain[end] += seed_weights[s] * rarity[end] / norms[seed, 0]
                if recent_column >= 0:
                    recent[end] += seed_weights[s] * rarity[end] * weights[e] / norms[seed, 1]
    for end in range(n):
        if plain[end] <= 0.0:
            continue
        for e in range(back_ptr[end], back_ptr[end + 1]):
            node = back_ends[e]
            out[node, plain_column] += plain[end] * rarity[end] / norms[node, 0]
            if recent_column >= 0:
                out[node, recent_column] += recent[end] * rarity[end] * back_weights[e] / norms[node, 1]


@njit(cache=True, nogil=True)
def fill_similarities(
    seeds: np.ndarray, seed_weights: np.ndarray,
    ptr: np.ndarray, ends: np.ndarray, weights: np.ndarray,
    back_ptr: np.ndarray, back_ends: np.ndarray, back_weights: np.ndarray,
    followed_rarity: np.ndarray, follower_rarity: np.ndarray, norms: np.ndarray, back_norms: np.ndarray,
    skipped: np.ndarray, out: np.ndarray,
) -> None:  # fmt: skip
    """How similar each account is to the seeds, and how it is linked to them.

    Args:
        seeds, seed_weights: i8[s], f8[s], what each seed counts for in the cosines.
        ptr, ends, weights: whom each account follows.
        back_ptr, back_ends, back_weights: who follows each account.
        followed_rarity, follower_rarity: f8[n], what an account counts for as one that is followed, and as a follower.
        norms, back_norms: f8[n, 2] of either side, from `fill_norms`.
        skipped: b1[n], accounts of which it counts for nothing who follows them.
        out: f8[n, SIMILARITIES] of zeros: cosine by whom one follows, the same by what is recent, cosine by who
            follows one; seeds that one follows, seeds that follow one, the two by what is recent, and the two with
            rare links counting for more.
    """
    _add_cosines(
        seeds, seed_weights, ptr, ends, weights, back_ptr, back_ends, back_weights, followed_rarity, norms, skipped,
        out, COSINE, RECENT_COSINE,
    )  # fmt: skip
    nobody = np.zeros(skipped.shape[0], np.bool_)
    _add_cosines(
        seeds, seed_weights, back_ptr, back_ends, back_weights, ptr, ends, weights, follower_rarity, back_norms,
        nobody, out, FOLLOWERS_COSINE, -1,
    )  # fmt: skip
    for s in range(seeds.shape[0]):
        seed = seeds[s]
        for e in range(back_ptr[seed], back_ptr[seed + 1]):
            out[back_ends[e], TO_SEEDS] += 1.0
            out[back_ends[e], LATELY_TO_SEEDS] += back_weights[e]
            out[back_ends[e], RARE_TO_SEEDS] += 1.0 / np.log(2.0 + (back_ptr[seed + 1] - back_ptr[seed]))
        for e in range(ptr[seed], ptr[seed + 1]):
            if not skipped[ends[e]]:
                out[ends[e], FROM_SEEDS] += 1.0
                out[ends[e], LATELY_FROM_SEEDS] += weights[e]
                out[ends[e], RARE_FROM_SEEDS] += 1.0 / np.log(2.0 + (ptr[seed + 1] - ptr[seed]))
