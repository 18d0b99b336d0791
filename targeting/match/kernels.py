"""Compiled matching: bitsets over clauses, intersected dimension by dimension, all matches of one viewer at a time.

A clause is a conjunction; a campaign is served by one or more. Clause q is bit `q & 63` of word `q >> 6` of every
bitset. The first clause of campaign c is clause c; further ones follow after the last campaign's word, and their
matches are folded back onto their campaign, so matches come out by ascending campaign, each once, without sorting.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from targeting.attributes import DIMENSION_COUNT, INTEREST_COUNT

_ONE = np.uint64(1)
_ZERO = np.uint64(0)
DENSE_FLAG = np.uint32(2**31)
_POSTING_MASK = np.uint32(2**31 - 1)


class MatchIndex(NamedTuple):
    """Audiences of C campaigns as bitsets of W words; immutable.

    A scratch of 3 W + X words holds, in this order: the include plane (bit q: clause q needs no membership, or the
    viewer has one of its first group), X words for further groups, the exclude plane (bit q: the viewer has a
    membership that clause q excludes), and the result.

    Attributes:
        rows: u8[R, W], bitsets: of `tables`, of interests, and of memberships that very many clauses name.
        tables: i4[T, 1 + DIMENSION_COUNT]: first row of each table, each dimension's stride in it; 0: not part of it.
        interest_row: row of interest 0; the other 63 follow, then the one of clauses without an interest group.
        interests_used: u8, mask of the interests whose rows are not empty.
        interests_posted: u8, mask of the interests that `postings` or `dense_rows` have something for.
        include: u8[W + X], what the include plane and the further groups start from.
        further_words: i4[X], the word of the result that each word of the further groups constrains.
        posting_ptr: u4[S + 1], each membership's range in `postings` (0..63 interests, then segments); DENSE_FLAG is
            added to the beginning where the membership has dense rows.
        postings: u4[...], bits of the scratch to set for a viewer who has the membership.
        dense_rows: i4[S, 2], rows to add to the include and to the exclude plane; -1: none.
        folded_campaigns: i4[...], campaign of each clause from word `campaign_words` on.
        campaign_words: words of the campaigns' first clauses.
    """

    rows: np.ndarray
    tables: np.ndarray
    interest_row: int
    interests_used: np.uint64
    interests_posted: np.uint64
    include: np.ndarray
    further_words: np.ndarray
    posting_ptr: np.ndarray
    postings: np.ndarray
    dense_rows: np.ndarray
    folded_campaigns: np.ndarray
    campaign_words: int

    @property
    def scratch_words(self) -> int:
        """How long a scratch `match_viewer` needs, in words (u8)."""
        return 2 * int(self.rows.shape[1]) + int(self.include.shape[0])


@njit(cache=True, nogil=True)
def bit_count(x: np.uint64) -> int:
    """How many bits of a word are set; compiles to one instruction."""
    x = x - ((x >> np.uint64(1)) & np.uint64(0x5555555555555555))
    x = (x & np.uint64(0x3333333333333333)) + ((x >> np.uint64(2)) & np.uint64(0x3333333333333333))
    x = (x + (x >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((x * np.uint64(0x0101010101010101)) >> np.uint64(56))


@njit(cache=True, nogil=True)
def lowest_bit(x: np.uint64) -> int:
    """Position of the lowest set bit of a word; 64 without one. Compiles to one instruction."""
    return bit_count(~x & (x - _ONE))


@njit(cache=True, nogil=True)
def copy_words(out: np.ndarray, a: np.ndarray) -> None:
    """`out = a`, n words."""
    for i in range(out.shape[0]):
        out[i] = a[i]


@njit(cache=True, nogil=True)
def clear_words(out: np.ndarray) -> None:
    """`out = 0`, n words."""
    for i in range(out.shape[0]):
        out[i] = _ZERO


@njit(cache=True, nogil=True)
def or_words(out: np.ndarray, a: np.ndarray) -> None:
    """`out |= a`, n words."""
    for i in range(out.shape[0]):
        out[i] |= a[i]


@njit(cache=True, nogil=True)
def or_2_words(out: np.ndarray, a: np.ndarray, b: np.ndarray) -> None:
    """`out |= a | b`, n words."""
    for i in range(out.shape[0]):
        out[i] |= a[i] | b[i]


@njit(cache=True, nogil=True)
def and_words(out: np.ndarray, a: np.ndarray) -> None:
    """`out &= a`, n words."""
    for i in range(out.shape[0]):
        out[i] &= a[i]


@njit(cache=True, nogil=True)
def and_2_words(out: np.ndarray, a: np.ndarray, b: np.ndarray) -> None:
    """`out &= a & b`, n words."""
    for i in range(out.shape[0]):
        out[i] &= a[i] & b[i]


@njit(cache=True, nogil=True)
def and_but_words(out: np.ndarray, a: np.ndarray, b: np.ndarray) -> None:
    """`out &= a & ~b`, n words."""
    for i in range(out.shape[0]):
        out[i] &= a[i] & ~b[i]


@njit(cache=True, nogil=True)
def _table_row(index: MatchIndex, t: int, dims: np.ndarray) -> int:
    row = np.int64(index.tables[t, 0])
    for d in range(DIMENSION_COUNT):
        row += np.int64(dims[d]) * index.tables[t, 1 + d]
    return row


@njit(cache=True, nogil=True)
def _and_tables(index: MatchIndex, dims: np.ndarray, out: np.ndarray) -> None:
    """Keep in `out` what every dimension allows."""
    count = index.tables.shape[0]
    t = 0
    while t + 1 < count:
        first = index.rows[_table_row(index, t, dims)]
        second = index.rows[_table_row(index, t + 1, dims)]
        and_2_words(out, first, second)
        t += 2
    if t < count:
        and_words(out, index.rows[_table_row(index, t, dims)])


@njit(cache=True, nogil=True)
def _or_interests(index: MatchIndex, interest_mask: np.uint64, out: np.ndarray) -> None:
    """Fill `out` with clauses that need no interest, or one that the viewer has."""
    first = index.interest_row
    copy_words(out, index.rows[first + INTEREST_COUNT])
    left = interest_mask & index.interests_used
    while left != _ZERO:
        one = first + lowest_bit(left)
        left &= left - _ONE
        if left == _ZERO:
            or_words(out, index.rows[one])
        else:
            or_2_words(out, index.rows[one], index.rows[first + lowest_bit(left)])
            left &= left - _ONE


@njit(cache=True, nogil=True)
def _or_dense_rows(rows: np.ndarray, dense_rows: np.ndarray, scratch: np.ndarray, exclude: int) -> None:
    """Note a membership that has rows of its own in the include or the exclude plane, which starts at `exclude`."""
    words = rows.shape[1]
    if dense_rows[0] >= 0:
        or_words(scratch[:words], rows[dense_rows[0]])
    if dense_rows[1] >= 0:
        or_words(scratch[exclude : exclude + words], rows[dense_rows[1]])


@njit(cache=True, nogil=True)
def _set_segments(
    posting_ptr: np.ndarray,
    postings: np.ndarray,
    dense_rows: np.ndarray,
    rows: np.ndarray,
    segments: np.ndarray,
    scratch: np.ndarray,
    exclude: int,
) -> None:
    """Note in the planes which segments the viewer is in. Unsigned throughout: no negative index to look out for."""
    known = np.uint64(posting_ptr.shape[0] - 1)
    for j in range(segments.shape[0]):
        segment = np.uint64(segments[j])
        if segment >= known:  # ascending: all that follow are newer than the index, too
            break
        begin = posting_ptr[segment]
        for p in range(begin & _POSTING_MASK, posting_ptr[segment + _ONE] & _POSTING_MASK):
            bit = postings[p]
            scratch[bit >> np.uint32(6)] |= _ONE << np.uint64(bit & np.uint32(63))
        if begin > _POSTING_MASK:
            _or_dense_rows(rows, dense_rows[segment], scratch, exclude)


@njit(cache=True, nogil=True)
def _set_interests(index: MatchIndex, interest_mask: np.uint64, scratch: np.ndarray, exclude: int) -> None:
    """The same for interests that are excluded, or wanted as an alternative to a segment."""
    left = interest_mask & index.interests_posted
    while left != _ZERO:
        interest = lowest_bit(left)
        left &= left - _ONE
        begin = index.posting_ptr[interest]
        for p in range(begin & _POSTING_MASK, index.posting_ptr[interest + 1] & _POSTING_MASK):
            bit = index.postings[p]
            scratch[bit >> np.uint32(6)] |= _ONE << np.uint64(bit & np.uint32(63))
        if begin > _POSTING_MASK:
            _or_dense_rows(index.rows, index.dense_rows[interest], scratch, exclude)


@njit(cache=True, nogil=True)
def _fold(index: MatchIndex, result: np.ndarray) -> None:
    """Give the matches of further clauses to their campaigns' first."""
    campaign_words = index.campaign_words
    for w in range(campaign_words, result.shape[0]):
        x = result[w]
        while x != _ZERO:
            campaign = np.int64(index.folded_campaigns[((w - campaign_words) << 6) + lowest_bit(x)])
            result[campaign >> 6] |= _ONE << np.uint64(campaign & 63)
            x &= x - _ONE


@njit(cache=True, nogil=True)
def _write_4_bits(x: np.uint64, base: np.int32, out: np.ndarray, n: np.uint64) -> np.uint64:
    """Write the positions of the four lowest bits of a word, those of missing bits included; the word without them."""
    for k in range(4):
        out[n + np.uint64(k)] = base + np.int32(lowest_bit(x))
        x &= x - _ONE if x != _ZERO else _ZERO
    return x


@njit(cache=True, nogil=True)
def extract_bits(words: np.ndarray, out: np.ndarray) -> int:
    """Positions of the set bits of u8[n], ascending, into `out` (i4[...]); how many.

    Four at a time are written before it is known how many there are: a wrongly predicted branch costs more than a
    store.
    """
    n = np.uint64(0)
    for w in range(words.shape[0]):
        x = words[w]
        base = np.int32(w << 6)
        end = n + np.uint64(bit_count(x))
        if np.int64(n) + 8 <= out.shape[0]:
            x = _write_4_bits(x, base, out, n)
            if end > n + np.uint64(4):
                x = _write_4_bits(x, base, out, n + np.uint64(4))
                n += np.uint64(4)
            n = min(n + np.uint64(4), end)
        while n < end:
            out[n] = base + np.int32(lowest_bit(x))
            x &= x - _ONE
            n += _ONE
    return np.int64(n)


@njit(cache=True, nogil=True)
def match_viewer(
    index: MatchIndex,
    dims: np.ndarray,
    interest_mask: np.uint64,
    segments: np.ndarray,
    scratch: np.ndarray,
    out_campaign_idx: np.ndarray,
) -> int:
    """All campaigns whose audience holds one viewer.

    Args:
        index: MatchIndex over C campaigns.
        dims: i4[DIMENSION_COUNT], attribute codes, each within its dimension's range.
        interest_mask: u8, bit k: interest k.
        segments: u4[s], the viewer's segments, ascending; those that the index does not know are passed over.
        scratch: u8[>= index.scratch_words], overwritten.
        out_campaign_idx: i4[>= C], overwritten.

    Returns:
        How many match; their positions are in `out_campaign_idx`, ascending, each once.
    """
    words = index.rows.shape[1]
    exclude_word = index.include.shape[0]
    copy_words(scratch[:exclude_word], index.include)
    clear_words(scratch[exclude_word : exclude_word + words])
    _set_interests(index, interest_mask, scratch, exclude_word)
    _set_segments(index.posting_ptr, index.postings, index.dense_rows, index.rows, segments, scratch, exclude_word)
    result = scratch[exclude_word + words : exclude_word + 2 * words]
    _or_interests(index, interest_mask, result)
    _and_tables(index, dims, result)
    and_but_words(result, scratch[:words], scratch[exclude_word : exclude_word + words])
    for k in range(index.further_words.shape[0]):
        result[index.further_words[k]] &= scratch[words + k]
    _fold(index, result)
    return extract_bits(result[: index.campaign_words], out_campaign_idx)


@njit(cache=True, nogil=True)
def match_batch(
    index: MatchIndex,
    dims: np.ndarray,
    interest_masks: np.ndarray,
    rows: np.ndarray,
    membership_ptr: np.ndarray,
    membership_segments: np.ndarray,
    out_ptr: np.ndarray,
    out_campaign_idx: np.ndarray,
) -> int:
    """Matches of n viewers, one after the other.

    Args:
        index: MatchIndex over C campaigns.
        dims: i4[n, DIMENSION_COUNT].
        interest_masks: u8[n].
        rows: i8[n], viewer rows; -1, and rows beyond `membership_ptr`: in no segment.
        membership_ptr: i8[viewers + 1], each row's range in the next.
        membership_segments: u4[...], ascending for each row.
        out_ptr: i8[n + 1], each viewer's range in the next.
        out_campaign_idx: i4[...].

    Returns:
        How many matches there are; where `out_campaign_idx` has no room for the C that a viewer may add, -1.
    """
    words = index.rows.shape[1]
    scratch = np.empty(2 * words + index.include.shape[0], np.uint64)
    campaigns = index.campaign_words << 6
    matched = np.empty(campaigns, np.int32)
    out_ptr[0] = 0
    for i in range(rows.shape[0]):
        begin, end = np.int64(0), np.int64(0)
        if 0 <= rows[i] < membership_ptr.shape[0] - 1:
            begin, end = membership_ptr[rows[i]], membership_ptr[rows[i] + 1]
        found = match_viewer(index, dims[i], interest_masks[i], membership_segments[begin:end], scratch, matched)
        first = out_ptr[i]
        if first + found > out_campaign_idx.shape[0]:
            return -1
        for k in range(found):
            out_campaign_idx[first + k] = matched[k]
        out_ptr[i + 1] = first + found
    return out_ptr[rows.shape[0]]


@njit(cache=True, nogil=True)
def count_matched(
    index: MatchIndex, dims: np.ndarray, interest_masks: np.ndarray, segment_ptr: np.ndarray, segments: np.ndarray
) -> int:
    """How many of n viewers (i4[n, DIMENSION_COUNT], u8[n], i8[n + 1], u4[...]) match any campaign at all."""
    scratch = np.empty(2 * index.rows.shape[1] + index.include.shape[0], np.uint64)
    matched = np.empty(index.campaign_words << 6, np.int32)
    count = 0
    for i in range(dims.shape[0]):
        mine = segments[segment_ptr[i] : segment_ptr[i + 1]]
        if match_viewer(index, dims[i], interest_masks[i], mine, scratch, matched) > 0:
            count += 1
    return count


@njit(cache=True, nogil=True)
def set_row_bits(out_rows: np.ndarray, rows: np.ndarray, bits: np.ndarray) -> None:
    """Set bit `bits[i]` (i8[n]) of row `rows[i]` (i8[n]) of u8[R, W]."""
    for i in range(rows.shape[0]):
        out_rows[rows[i], bits[i] >> 6] |= _ONE << np.uint64(bits[i] & 63)


@njit(cache=True, nogil=True)
def clear_row_bits(out_rows: np.ndarray, rows: np.ndarray, bits: np.ndarray) -> None:
    """Clear bit `bits[i]` (i8[n]) of row `rows[i]` (i8[n]) of u8[R, W]."""
    for i in range(rows.shape[0]):
        out_rows[rows[i], bits[i] >> 6] &= ~(_ONE << np.uint64(bits[i] & 63))
