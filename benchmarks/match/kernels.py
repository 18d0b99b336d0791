"""A counting k-index, compiled: what the match index is compared with.

Whang, Garcia-Molina, Brower, Shanmugasundaram, Vassilvitskii, Vee, Yerneni, "Indexing Boolean Expressions", VLDB 2009,
section 4: conjunctions are numbered by K, how many dimensions they name, so that those of one K lie together; each
(dimension, value) has a posting list. Instead of merging the lists, each posting is counted at its conjunction (the
Counting method, section 2), in one byte: bits 0 to 4 for dimensions with one value, a bit each for memberships, which
are counted once however many of a viewer's match, and a bit for those that are excluded.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

INTERESTED = np.uint8(32)
INCLUDED = np.uint8(64)
EXCLUDED = np.uint8(128)


class KIndex(NamedTuple):
    """Conjunctions numbered by what they need.

    Attributes:
        value_base: i4[D], key of each dimension's code 0 in the next two; interests' are from interest_base on.
        value_ptr, value_postings: i4[keys + 1], i4[...]: conjunctions by key.
        interest_base: see above.
        include_ptr, include_postings: i4[S + 1], i4[...], by segment, of conjunctions that ask for it.
        exclude_ptr, exclude_postings: the same of those that are closed to it.
        part_end, part_need: i4[parts], u1[parts]: up to which conjunction the count must be what.
        campaigns: i4[conjunctions], whose they are.
    """

    value_base: np.ndarray
    value_ptr: np.ndarray
    value_postings: np.ndarray
    interest_base: int
    include_ptr: np.ndarray
    include_postings: np.ndarray
    exclude_ptr: np.ndarray
    exclude_postings: np.ndarray
    part_end: np.ndarray
    part_need: np.ndarray
    campaigns: np.ndarray


@njit(cache=True, nogil=True)
def _mark(ptr: np.ndarray, postings: np.ndarray, keys: np.ndarray, flag: np.uint8, counts: np.ndarray) -> None:
    for j in range(keys.shape[0]):
        for p in range(ptr[keys[j]], ptr[keys[j] + 1]):
            counts[postings[p]] |= flag


@njit(cache=True, nogil=True)
def _count(index: KIndex, dims: np.ndarray, interests: np.ndarray, segments: np.ndarray, counts: np.ndarray) -> None:
    counts[:] = 0
    ptr, postings = index.value_ptr, index.value_postings
    for d in range(index.value_base.shape[0]):
        key = index.value_base[d] + dims[d]
        for p in range(ptr[key], ptr[key + 1]):
            counts[postings[p]] += 1
    _mark(ptr, postings, interests, INTERESTED, counts)
    _mark(index.include_ptr, index.include_postings, segments, INCLUDED, counts)
    _mark(index.exclude_ptr, index.exclude_postings, segments, EXCLUDED, counts)


@njit(cache=True, nogil=True)
def kindex_batch(
    index: KIndex,
    dims: np.ndarray,
    interest_ptr: np.ndarray,
    interest_keys: np.ndarray,
    segment_ptr: np.ndarray,
    segments: np.ndarray,
    counts: np.ndarray,
    out_ptr: np.ndarray,
    out_campaign_idx: np.ndarray,
) -> int:
    """Conjunctions that hold each of n viewers, by ascending number, as campaigns.

    Args:
        index: KIndex over Q conjunctions.
        dims: i4[n, D].
        interest_ptr, interest_keys: i8[n + 1], i4[...]: keys of each viewer's interests.
        segment_ptr, segments: i8[n + 1], i4[...].
        counts: u1[Q], scratch.
        out_ptr: i8[n + 1], each viewer's range in the next.
        out_campaign_idx: i4[...], with room for all, and for Q more.

    Returns:
        How many there are.
    """
    found = 0
    out_ptr[0] = 0
    for i in range(dims.shape[0]):
        interests = interest_keys[interest_ptr[i] : interest_ptr[i + 1]]
        _count(index, dims[i], interests, segments[segment_ptr[i] : segment_ptr[i + 1]], counts)
        begin = 0
        for part in range(index.part_end.shape[0]):
            need = index.part_need[part]
            for q in range(begin, index.part_end[part]):
                if counts[q] == need:
                    out_campaign_idx[found] = index.campaigns[q]
                    found += 1
            begin = index.part_end[part]
        out_ptr[i + 1] = found
    return found
