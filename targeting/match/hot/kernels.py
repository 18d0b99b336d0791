"""Compiled matching of viewers who come again and again: their static rows are kept.

Each viewer has one place, which who comes later takes. A row counts only for exactly what it was made from: the
viewer's own attributes, interests and segments are kept beside it and compared, so a follow or a change of tier is seen
at the next request. A cache belongs to one index; with a new one begins a new cache.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from targeting.attributes import STORED_DIMENSION_COUNT, Dimension
from targeting.match.kernels import MatchIndex, first_of_row, static_row

MOST_SEGMENTS = 256
"""Rows of viewers in more segments are not kept."""
KEY_VIEWER, KEY_DIMS, KEY_INTERESTS, KEY_SEGMENTS, KEY_VERSION = range(5)
KEY_WORDS = 8  # a line of the processor's cache
EMPTY = np.uint64(2**64 - 1)
_MIX = np.uint64(0x9E3779B97F4A7C15)
_CODE_BITS = np.uint64(10)
_CONTENT, _PLACEMENT = int(Dimension.CONTENT_CATEGORY), int(Dimension.PLACEMENT)


class RowCache(NamedTuple):
    """Static rows of up to N viewers, N a power of two. One thread at a time.

    Attributes:
        keys: u8[N, KEY_WORDS]: the viewer's id, packed attribute codes, interest mask, how many segments (EMPTY: the
            place is free), and the version of the memberships that those were last seen in.
        segments: u4[N, MOST_SEGMENTS].
        rows: u8[N, W].
    """

    keys: np.ndarray
    segments: np.ndarray
    rows: np.ndarray


@njit(cache=True, nogil=True)
def place_of(viewer_id: np.uint64, places: int) -> int:
    """The place of a viewer among so many, a power of two."""
    mixed = (viewer_id ^ (viewer_id >> np.uint64(31))) * _MIX
    return np.int64(mixed >> np.uint64(32)) & (places - 1)


@njit(cache=True, nogil=True, inline="always")
def _packed(dims: np.ndarray, i: int) -> np.uint64:
    """The codes that are viewer i's own, in one word."""
    packed = np.uint64(0)
    for d in range(STORED_DIMENSION_COUNT):
        packed = (packed << _CODE_BITS) | np.uint64(dims[i, d])
    return packed


@njit(cache=True, nogil=True, inline="always")
def _are_same_segments(kept_segments: np.ndarray, at: int, segments: np.ndarray, begin: int, count: int) -> bool:
    """Whether the `count` of `segments` from `begin` on are kept at a place.

    Indices are unsigned, so that the loop need not look out for negative ones, and is vectorised.
    """
    place, first, unlike = np.uint64(at), np.uint64(begin), np.uint32(0)
    for k in range(np.uint64(count)):
        unlike |= kept_segments[place, k] ^ segments[first + k]
    return unlike == np.uint32(0)


@njit(cache=True, nogil=True)
def match_hot(
    index: MatchIndex,
    cache: RowCache,
    viewer_ids: np.ndarray,
    dims: np.ndarray,
    interest_masks: np.ndarray,
    version: np.uint64,
    segment_ptr: np.ndarray,
    segments: np.ndarray,
    wanted: int,
    out_ptr: np.ndarray,
    out_campaign_idx: np.ndarray,
) -> int:
    """The first campaigns of n viewers, in order of position, from the rows that are kept; those that are not are made.

    Args:
        index: MatchIndex over C campaigns.
        cache: RowCache that has served no other index.
        viewer_ids: u8[n].
        dims: i4[n, DIMENSION_COUNT].
        interest_masks: u8[n].
        version: u8, one that no other memberships have: with the same one a viewer is in the same segments.
        segment_ptr, segments: i8[n + 1], u4[...], each viewer's segments, ascending.
        wanted: how many of each; C for all.
        out_ptr: i8[n + 1], each viewer's range in the next.
        out_campaign_idx: i4[...].

    Returns:
        How many matches there are; -1 where `out_campaign_idx` has no room for the C, rounded up to a multiple of 64,
        that each viewer may add.
    """
    rows, first_content = index.rows, np.int64(index.tables[index.static_tables, 0])
    first_placement = np.int64(index.tables[index.static_tables + 1, 0])
    folded_campaigns, campaign_words = index.folded_campaigns, index.campaign_words
    words, kept, keys, kept_segments = rows.shape[1], cache.rows, cache.keys, cache.segments
    scratch = np.empty(4 * words + index.further.shape[0], np.uint64)
    result, unkept = scratch[2 * words : 3 * words], np.empty((1, words), np.uint64)
    room = out_campaign_idx.shape[0] - (campaign_words << 6)
    out_ptr[0] = 0
    for i in range(viewer_ids.shape[0]):
        begin, count, found = segment_ptr[i], segment_ptr[i + 1] - segment_ptr[i], out_ptr[i]
        if found > room:
            return -1
        one, other = first_content + np.int64(dims[i, _CONTENT]), first_placement + np.int64(dims[i, _PLACEMENT])
        at, packed = place_of(viewer_ids[i], keys.shape[0]), _packed(dims, i)
        is_kept = keys[at, KEY_VIEWER] == viewer_ids[i] and keys[at, KEY_DIMS] == packed
        is_kept = (
            is_kept and keys[at, KEY_INTERESTS] == interest_masks[i] and keys[at, KEY_SEGMENTS] == np.uint64(count)
        )
        if is_kept and keys[at, KEY_VERSION] != version:
            is_kept = _are_same_segments(kept_segments, at, segments, begin, count)
            keys[at, KEY_VERSION] = version if is_kept else keys[at, KEY_VERSION]
        if count > MOST_SEGMENTS:
            mine = segments[begin : begin + count]
            static_row(index, dims[i], interest_masks[i], mine, scratch, unkept[0])
            found = first_of_row(
                rows, one, other, folded_campaigns, campaign_words, unkept, 0, wanted, scratch, result,
                out_campaign_idx, found,
            )  # fmt: skip
        else:
            if not is_kept:
                mine = segments[begin : begin + count]
                static_row(index, dims[i], interest_masks[i], mine, scratch, kept[at])
                keys[at, KEY_VIEWER], keys[at, KEY_DIMS], keys[at, KEY_INTERESTS] = (
                    viewer_ids[i],
                    packed,
                    interest_masks[i],
                )
                keys[at, KEY_SEGMENTS], keys[at, KEY_VERSION] = np.uint64(count), version
                for k in range(count):
                    kept_segments[at, k] = mine[k]
            found = first_of_row(
                rows, one, other, folded_campaigns, campaign_words, kept, at, wanted, scratch, result,
                out_campaign_idx, found,
            )  # fmt: skip
        out_ptr[i + 1] = min(found, out_ptr[i] + wanted)
    return out_ptr[viewer_ids.shape[0]]
