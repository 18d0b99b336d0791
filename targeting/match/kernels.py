"""The compiled match: which campaigns want a viewer.

Every clause is one bit. A viewer's attribute codes pick one bitset each, which are ANDed; in each plane (a clause's first, second
... group of memberships) the viewer's segments set the bits of the clauses that ask for them; then excluded ones are cleared.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

_DE_BRUIJN = np.uint64(0x03F79D71B4CB0A89)
_BIT_OF = np.zeros(64, np.int64)
for _k in range(64):
    _BIT_OF[((int(_DE_BRUIJN) << _k) & (2**64 - 1)) >> 58] = _k


class MatchIndex(NamedTuple):
    """All campaigns' clauses; K clauses in W words of 64 bits, P planes, S segments.

    Attributes:
        code_bits: u8[codes of all dimensions, W].
        first_code: i8[dimensions], where each dimension's codes start in `code_bits`.
        groupless: u8[P, W], clauses that ask for nothing in a plane.
        plane_ptr, plane_clauses: i8[P, S + 1], i4[...]: clauses of a plane that ask for a segment.
        exclude_ptr, exclude_clauses: i8[S + 1], i4[...]: clauses that a segment excludes.
        campaign_of: i4[K], ascending.
    """

    code_bits: np.ndarray
    first_code: np.ndarray
    groupless: np.ndarray
    plane_ptr: np.ndarray
    plane_clauses: np.ndarray
    exclude_ptr: np.ndarray
    exclude_clauses: np.ndarray
    campaign_of: np.ndarray


@njit(cache=True, nogil=True)
def lowest_bit(word: np.uint64) -> int:
    """Position of the lowest set bit of a word that is not 0."""
    low = word & (~word + np.uint64(1))
    return _BIT_OF[np.int64((low * _DE_BRUIJN) >> np.uint64(58))]


@njit(cache=True, nogil=True)
def _set_postings(bits: np.ndarray, ptr: np.ndarray, clauses: np.ndarray, segment: int) -> None:
    if segment + 1 < ptr.shape[0]:
        for k in range(ptr[segment], ptr[segment + 1]):
            clause = clauses[k]
            bits[clause >> 6] |= np.uint64(1) << np.uint64(clause & 63)


@njit(cache=True, nogil=True)
def _clear_postings(bits: np.ndarray, ptr: np.ndarray, clauses: np.ndarray, segment: int) -> None:
    if segment + 1 < ptr.shape[0]:
        for k in range(ptr[segment], ptr[segment + 1]):
            clause = clauses[k]
            bits[clause >> 6] &= ~(np.uint64(1) << np.uint64(clause & 63))


@njit(cache=True, nogil=True)
def _and_codes(index: MatchIndex, dims: np.ndarray, out_bits: np.ndarray) -> None:
    """Clauses that allow all eight codes."""
    f = index.first_code
    a = index.code_bits[f[0] + dims[0]]
    b = index.code_bits[f[1] + dims[1]]
    c = index.code_bits[f[2] + dims[2]]
    d = index.code_bits[f[3] + dims[3]]
    e = index.code_bits[f[4] + dims[4]]
    g = index.code_bits[f[5] + dims[5]]
    h = index.code_bits[f[6] + dims[6]]
    i = index.code_bits[f[7] + dims[7]]
    for w in range(out_bits.shape[0]):
        out_bits[w] = a[w] & b[w] & c[w] & d[w] & e[w] & g[w] & h[w] & i[w]


@njit(cache=True, nogil=True)
def _and_plane(
    index: MatchIndex, plane: int, interest_mask: np.uint64, segments: np.ndarray, plane_bits: np.ndarray, bits: np.ndarray
) -> None:
    groupless = index.groupless[plane]
    for w in range(plane_bits.shape[0]):
        plane_bits[w] = groupless[w]
    ptr = index.plane_ptr[plane]
    left = interest_mask
    while left != np.uint64(0):
        _set_postings(plane_bits, ptr, index.plane_clauses, lowest_bit(left))
        left &= left - np.uint64(1)
    for k in range(segments.shape[0]):
        _set_postings(plane_bits, ptr, index.plane_clauses, np.int64(segments[k]))
    for w in range(bits.shape[0]):
        bits[w] &= plane_bits[w]


@njit(cache=True, nogil=True)
def match_viewer(
    index: MatchIndex,
    dims: np.ndarray,
    interest_mask: np.uint64,
    segments: np.ndarray,
    scratch: np.ndarray,
    out_campaign_idx: np.ndarray,
) -> int:
    """Campaigns that want one viewer, ascending, once each; how many.

    Args:
        index: of C campaigns.
        dims: i4[8], attribute codes within their ranges.
        interest_mask: u8, bit k: interest k.
        segments: u4[s], the viewer's segments.
        scratch: u8[2, >= W].
        out_campaign_idx: i4[>= C].
    """
    words = index.code_bits.shape[1]
    bits = scratch[0, :words]
    plane_bits = scratch[1, :words]
    _and_codes(index, dims, bits)
    for plane in range(index.groupless.shape[0]):
        _and_plane(index, plane, interest_mask, segments, plane_bits, bits)
    left = interest_mask
    while left != np.uint64(0):
        _clear_postings(bits, index.exclude_ptr, index.exclude_clauses, lowest_bit(left))
        left &= left - np.uint64(1)
    for k in range(segments.shape[0]):
        _clear_postings(bits, index.exclude_ptr, index.exclude_clauses, np.int64(segments[k]))
    found = 0
    last = -1
    for w in range(words):
        word = bits[w]
        while word != np.uint64(0):
            campaign = index.campaign_of[(w << 6) + lowest_bit(word)]
            word &= word - np.uint64(1)
            if campaign != last:
                out_campaign_idx[found] = campaign
                found += 1
                last = campaign
    return found


@njit(cache=True, nogil=True)
def match_viewers(
    index: MatchIndex, dims: np.ndarray, interest_masks: np.ndarray, segment_ptr: np.ndarray, segments: np.ndarray
) -> int:
    """How many of n viewers (i4[n, 8], u8[n], i8[n + 1], u4[...]) at least one campaign wants."""
    scratch = np.empty((2, max(index.code_bits.shape[1], 1)), np.uint64)
    found = np.empty(index.campaign_of.shape[0] + 1, np.int32)
    wanted = 0
    for i in range(dims.shape[0]):
        mine = segments[segment_ptr[i] : segment_ptr[i + 1]]
        if match_viewer(index, dims[i], interest_masks[i], mine, scratch, found) > 0:
            wanted += 1
    return wanted
