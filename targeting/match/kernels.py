"""Compiled matching: bitsets over clauses, intersected dimension by dimension, all matches of one viewer at a time.

A clause is a conjunction; a campaign is served by one or more. Clause q is bit `q & 63` of word `q >> 6` of every
bitset. The first clause of campaign c is clause c; further ones follow after the last campaign's word, and their
matches are folded back onto their campaign, so matches come out by ascending campaign, each once, without sorting.

What a request brings (content category, placement) is intersected last: the rest is a viewer's static row, which may be
kept for as long as the index and the viewer stay the same.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from targeting.attributes import DIMENSION_COUNT, INTEREST_COUNT
from targeting.bits.kernels import (
    and_2_words,
    and_but_words,
    and_words,
    append_bits,
    clear_words,
    copy_words,
    lowest_bit,
    or_2_words,
    or_words,
)

_ONE = np.uint64(1)
_ZERO = np.uint64(0)
_TWO = np.uint64(2)
POSTINGS_AT_ONCE = 4
"""Postings are read so many at a time."""
_BLOCK_WORDS = 16
_CHUNK_WORDS = 256
DENSE_FLAG = np.uint32(2**31)
_POSTING_MASK = np.uint32(2**31 - 1)


class MatchIndex(NamedTuple):
    """Audiences of C campaigns as bitsets of W words; immutable.

    A scratch of 4 W + X words holds, in this order: the include plane (bit q: clause q needs no membership, or the
    viewer has one of its first group), the exclude plane (bit q: the viewer has a membership that clause q excludes),
    the result, campaigns by their further clauses, and X words for further groups.

    Attributes:
        rows: u8[R, W], bitsets: of `tables`, of interests, and of memberships that very many clauses name.
        tables: i4[T, 1 + DIMENSION_COUNT]: first row of each table, each dimension's stride in it; 0: not part of it.
        static_tables: how many of the tables, the first ones, are of the viewer's dimensions; two follow, of what the
            request brings.
        interest_row: row of interest 0; the other 63 follow, then the one of clauses without an interest group.
        interests_used: u8, mask of the interests whose rows are not empty.
        interests_posted: u8, mask of the interests that `postings` or `dense_rows` have something for.
        include: u8[W], what the include plane starts from.
        further: u8[X], what the further groups start from.
        further_words: i4[X], the word of the include plane that each word of the further groups constrains.
        posting_ptr: u4[S + 1], each membership's range in `postings` (0..63 interests, then segments); DENSE_FLAG is
            added to the beginning where the membership has dense rows.
        postings: u4[P, POSTINGS_AT_ONCE], bits of the scratch to set for a viewer who has the membership. The last row
            of each membership is filled up with bits of the result, which is overwritten later.
        dense_rows: i4[S, 2], rows to add to the include and to the exclude plane; -1: none.
        folded_campaigns: i4[...], campaign of each clause from word `campaign_words` on.
        campaign_words: words of the campaigns' first clauses.
    """

    rows: np.ndarray
    tables: np.ndarray
    static_tables: int
    interest_row: int
    interests_used: np.uint64
    interests_posted: np.uint64
    include: np.ndarray
    further: np.ndarray
    further_words: np.ndarray
    posting_ptr: np.ndarray
    postings: np.ndarray
    dense_rows: np.ndarray
    folded_campaigns: np.ndarray
    campaign_words: int

    @property
    def scratch_words(self) -> int:
        """How long a scratch `match_viewer` needs, in words (u8)."""
        return 4 * int(self.rows.shape[1]) + int(self.further.shape[0])


@njit(cache=True, nogil=True, inline="always")
def table_row(tables: np.ndarray, t: int, dims: np.ndarray) -> int:
    """The index's row that table t has for these codes (i4[DIMENSION_COUNT])."""
    row = np.int64(tables[t, 0])
    for d in range(DIMENSION_COUNT):
        row += np.int64(dims[d]) * tables[t, 1 + d]
    return row


@njit(cache=True, nogil=True, inline="always")
def _and_tables(
    rows: np.ndarray,
    tables: np.ndarray,
    first: int,
    last: int,
    dims: np.ndarray,
    begin: int,
    end: int,
    out: np.ndarray,
) -> None:
    """Keep in `out`, the words `begin` to `end`, what tables `first` to `last` allow; all ends exclusive."""
    t = first
    while t + 1 < last:
        one, other = table_row(tables, t, dims), table_row(tables, t + 1, dims)
        and_2_words(out, rows[one, begin:end], rows[other, begin:end])
        t += 2
    if t < last:
        and_words(out, rows[table_row(tables, t, dims), begin:end])


@njit(cache=True, nogil=True, inline="always")
def _or_interests(
    rows: np.ndarray,
    interest_row: int,
    interests_used: np.uint64,
    interest_mask: np.uint64,
    begin: int,
    end: int,
    out: np.ndarray,
) -> None:
    """Fill `out`, the words `begin` to `end`, with clauses that need no interest, or one that the viewer has."""
    copy_words(out, rows[interest_row + INTEREST_COUNT, begin:end])
    left = interest_mask & interests_used
    while left != _ZERO:
        one = interest_row + lowest_bit(left)
        left &= left - _ONE
        if left == _ZERO:
            or_words(out, rows[one, begin:end])
        else:
            or_2_words(out, rows[one, begin:end], rows[interest_row + lowest_bit(left), begin:end])
            left &= left - _ONE


@njit(cache=True, nogil=True, inline="always")
def _or_dense_rows(rows: np.ndarray, dense_rows: np.ndarray, scratch: np.ndarray) -> None:
    """Note a membership that has rows of its own in the include or the exclude plane."""
    words = rows.shape[1]
    if dense_rows[0] >= 0:
        or_words(scratch[:words], rows[dense_rows[0]])
    if dense_rows[1] >= 0:
        or_words(scratch[words : 2 * words], rows[dense_rows[1]])


@njit(cache=True, nogil=True, inline="always")
def _set_block(postings: np.ndarray, block: np.uint64, scratch: np.ndarray) -> None:
    """Set the bits of one row of postings."""
    for k in range(POSTINGS_AT_ONCE):
        bit = postings[block, k]
        scratch[bit >> np.uint32(6)] |= _ONE << np.uint64(bit & np.uint32(63))


@njit(cache=True, nogil=True, inline="always")
def _set_segments(
    posting_ptr: np.ndarray,
    postings: np.ndarray,
    dense_rows: np.ndarray,
    rows: np.ndarray,
    segments: np.ndarray,
    scratch: np.ndarray,
) -> None:
    """Note in the planes which segments the viewer is in. Unsigned throughout: no negative index to look out for.

    Most lists are short, and how short cannot be foretold: so their first rows are first noted, two at a time, in what
    will be the result, and then gone through in a loop that knows its end.
    """
    known = np.uint64(posting_ptr.shape[0] - 1)
    words = np.uint64(rows.shape[1])
    first = _TWO * words + np.uint64(POSTINGS_AT_ONCE)
    noted, full = first, np.uint64(3) * words - _TWO
    for j in range(segments.shape[0]):
        segment = np.uint64(segments[j])
        if segment >= known:  # ascending: all that follow are newer than the index, too
            break
        begin = posting_ptr[segment]
        block, end = np.uint64(begin & _POSTING_MASK), np.uint64(posting_ptr[segment + _ONE] & _POSTING_MASK)
        scratch[noted] = block
        scratch[noted + _ONE] = block + _ONE
        noted += min(end - block, _TWO)
        for later in range(block + _TWO, end):
            _set_block(postings, later, scratch)
        if begin > _POSTING_MASK:
            _or_dense_rows(rows, dense_rows[segment], scratch)
        if noted > full:
            for at in range(first, noted):
                _set_block(postings, scratch[at], scratch)
            noted = first
    for at in range(first, noted):
        _set_block(postings, scratch[at], scratch)


@njit(cache=True, nogil=True)
def _set_interests(
    posting_ptr: np.ndarray,
    postings: np.ndarray,
    dense_rows: np.ndarray,
    rows: np.ndarray,
    interests: np.uint64,
    scratch: np.ndarray,
) -> None:
    """The same for interests that are excluded, or wanted as an alternative to a segment."""
    left = interests
    while left != _ZERO:
        interest = lowest_bit(left)
        left &= left - _ONE
        begin = posting_ptr[interest]
        for block in range(np.uint64(begin & _POSTING_MASK), np.uint64(posting_ptr[interest + 1] & _POSTING_MASK)):
            _set_block(postings, block, scratch)
        if begin > _POSTING_MASK:
            _or_dense_rows(rows, dense_rows[interest], scratch)


@njit(cache=True, nogil=True)
def _fold(folded_campaigns: np.ndarray, further_clauses: np.ndarray, out_campaigns: np.ndarray) -> None:
    """Give the matches of further clauses, the words behind the campaigns', to their campaigns."""
    for w in range(further_clauses.shape[0]):
        x = further_clauses[w]
        while x != _ZERO:
            campaign = np.int64(folded_campaigns[(w << 6) + lowest_bit(x)])
            out_campaigns[campaign >> 6] |= _ONE << np.uint64(campaign & 63)
            x &= x - _ONE


@njit(cache=True, nogil=True, inline="always")
def _set_planes(index: MatchIndex, interest_mask: np.uint64, segments: np.ndarray, scratch: np.ndarray) -> None:
    """Note in the include and the exclude plane what the viewer's memberships do."""
    rows, further_words = index.rows, index.further_words
    posting_ptr, postings, dense_rows = index.posting_ptr, index.postings, index.dense_rows
    words = rows.shape[1]
    copy_words(scratch[:words], index.include)
    clear_words(scratch[words : 2 * words])
    copy_words(scratch[4 * words : 4 * words + further_words.shape[0]], index.further)
    posted = interest_mask & index.interests_posted
    if posted != _ZERO:
        _set_interests(posting_ptr, postings, dense_rows, rows, posted, scratch)
    _set_segments(posting_ptr, postings, dense_rows, rows, segments, scratch)
    for k in range(further_words.shape[0]):
        scratch[further_words[k]] &= scratch[4 * words + k]


@njit(cache=True, nogil=True, inline="always")
def _and_planes(
    index: MatchIndex,
    dims: np.ndarray,
    interest_mask: np.uint64,
    begin: int,
    end: int,
    last_table: int,
    scratch: np.ndarray,
    out: np.ndarray,
) -> None:
    """Fill `out`, the words `begin` to `end`, with what the planes, interests and the first tables agree on."""
    words = index.rows.shape[1]
    _or_interests(index.rows, index.interest_row, index.interests_used, interest_mask, begin, end, out)
    _and_tables(index.rows, index.tables, 0, last_table, dims, begin, end, out)
    and_but_words(out, scratch[begin:end], scratch[words + begin : words + end])


@njit(cache=True, nogil=True, inline="always")
def match_first(
    index: MatchIndex,
    dims: np.ndarray,
    interest_mask: np.uint64,
    segments: np.ndarray,
    wanted: int,
    scratch: np.ndarray,
    out_campaign_idx: np.ndarray,
) -> int:
    """The first campaigns, in order of their positions, whose audience holds one viewer.

    Where positions are ranks, those are the best ones. It stops at the chunk of words that has the last of them.

    Args:
        index: MatchIndex over C campaigns.
        dims: i4[DIMENSION_COUNT], attribute codes, each within its dimension's range.
        interest_mask: u8, bit k: interest k.
        segments: u4[s], the viewer's segments, ascending; those that the index does not know are passed over.
        wanted: how many, or some more; C for all.
        scratch: u8[>= index.scratch_words], overwritten.
        out_campaign_idx: i4[>= C], overwritten.

    Returns:
        How many there are; their positions are in `out_campaign_idx`, ascending, each once.
    """
    words, campaign_words, last_table = index.rows.shape[1], index.campaign_words, index.tables.shape[0]
    result, folded = scratch[2 * words : 3 * words], scratch[3 * words : 4 * words]
    _set_planes(index, interest_mask, segments, scratch)
    has_further = index.folded_campaigns.shape[0] > 0
    if has_further:
        clear_words(folded[:campaign_words])
        further = result[campaign_words:words]
        _and_planes(index, dims, interest_mask, campaign_words, words, last_table, scratch, further)
        _fold(index.folded_campaigns, further, folded)
    chunk = _CHUNK_WORDS if wanted < campaign_words << 6 else campaign_words
    count, begin = 0, 0
    while begin < campaign_words and count < wanted:
        end = min(begin + chunk, campaign_words)
        _and_planes(index, dims, interest_mask, begin, end, last_table, scratch, result[begin:end])
        if has_further:
            or_words(result[begin:end], folded[begin:end])
        count = append_bits(result, begin, end, out_campaign_idx, count)
        begin = end
    return count


@njit(cache=True, nogil=True, inline="always")
def match_viewer(
    index: MatchIndex,
    dims: np.ndarray,
    interest_mask: np.uint64,
    segments: np.ndarray,
    scratch: np.ndarray,
    out_campaign_idx: np.ndarray,
) -> int:
    """All campaigns whose audience holds one viewer; see `match_first`."""
    everything = index.campaign_words << 6
    return match_first(index, dims, interest_mask, segments, everything, scratch, out_campaign_idx)


@njit(cache=True, nogil=True)
def static_row(
    index: MatchIndex,
    dims: np.ndarray,
    interest_mask: np.uint64,
    segments: np.ndarray,
    scratch: np.ndarray,
    out_row: np.ndarray,
) -> None:
    """What `match_row` needs of a viewer: their clauses whatever the request brings.

    Args:
        index, interest_mask, segments, scratch: as for `match_first`.
        dims: i4[DIMENSION_COUNT]; what is the request's does not matter.
        out_row: u8[W], overwritten; may be the result's part of `scratch`.
    """
    _set_planes(index, interest_mask, segments, scratch)
    _and_planes(index, dims, interest_mask, 0, index.rows.shape[1], index.static_tables, scratch, out_row)


@njit(cache=True, nogil=True, inline="always")
def first_of_row(
    rows: np.ndarray,
    one: int,
    other: int,
    folded_campaigns: np.ndarray,
    campaign_words: int,
    static_rows: np.ndarray,
    at: int,
    wanted: int,
    scratch: np.ndarray,
    result: np.ndarray,
    out_campaign_idx: np.ndarray,
    count: int,
) -> int:
    """Append the first `wanted` campaigns of a static row, or some more, to the first `count` of `out_campaign_idx`.

    Args:
        rows, folded_campaigns, campaign_words: of the index.
        one, other: its rows of what the request brings.
        static_rows, at: u8[n, W], and which of them.
        scratch, result: u8[>= W] and u8[>= W], overwritten; `result` may be the static row.
        out_campaign_idx: i4[...], with room for C more.

    Returns:
        How many are in it now.
    """
    has_further = folded_campaigns.shape[0] > 0
    if has_further:
        words = rows.shape[1]
        clear_words(scratch[:campaign_words])
        for w in range(campaign_words, words):
            scratch[w] = static_rows[at, w] & rows[one, w] & rows[other, w]
        _fold(folded_campaigns, scratch[campaign_words:words], scratch)
    # Unsigned, so that no negative index is looked out for.
    place, first, second = np.uint64(at), np.uint64(one), np.uint64(other)
    begin, enough = 0, count + wanted
    while begin < campaign_words and count < enough:
        end = min(begin + _BLOCK_WORDS, campaign_words)
        for w in range(np.uint64(begin), np.uint64(end)):
            result[w] = static_rows[place, w] & rows[first, w] & rows[second, w]
        if has_further:
            for w in range(begin, end):
                result[w] |= scratch[w]
        count = append_bits(result, begin, end, out_campaign_idx, count)
        begin = end
    return count


@njit(cache=True, nogil=True, inline="always")
def match_row(
    index: MatchIndex,
    row: np.ndarray,
    dims: np.ndarray,
    wanted: int,
    scratch: np.ndarray,
    out_campaign_idx: np.ndarray,
) -> int:
    """The first campaigns, in order of their positions, whose audience holds a viewer with this static row.

    Where positions are ranks, those are the best ones. It stops at the block of words that has the last of them.

    Args:
        index: MatchIndex over C campaigns.
        row: u8[W], from `static_row` of the same index.
        dims: i4[DIMENSION_COUNT]; only what the request brings matters.
        wanted: how many, or some more; C for all.
        scratch: u8[>= index.scratch_words], overwritten; `row` may be its result part.
        out_campaign_idx: i4[>= C], overwritten.

    Returns:
        How many there are; their positions are in `out_campaign_idx`, ascending, each once.
    """
    words, first = index.rows.shape[1], index.static_tables
    one, other = table_row(index.tables, first, dims), table_row(index.tables, first + 1, dims)
    result = scratch[2 * words : 3 * words]
    return first_of_row(
        index.rows, one, other, index.folded_campaigns, index.campaign_words, row.reshape(1, -1), 0, wanted, scratch,
        result, out_campaign_idx, 0,
    )  # fmt: skip


@njit(cache=True, nogil=True)
def match_batch(
    index: MatchIndex,
    dims: np.ndarray,
    interest_masks: np.ndarray,
    rows: np.ndarray,
    membership_ptr: np.ndarray,
    membership_segments: np.ndarray,
    wanted: int,
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
        wanted: the first so many of each viewer, in order of position; negative: all.
        out_ptr: i8[n + 1], each viewer's range in the next.
        out_campaign_idx: i4[...].

    Returns:
        How many matches there are; -1 where `out_campaign_idx` has no room for the C, rounded up to a multiple of 64,
        that each viewer may add.
    """
    words = index.rows.shape[1]
    scratch = np.empty(4 * words + index.further.shape[0], np.uint64)
    campaigns = index.campaign_words << 6
    enough = campaigns if wanted < 0 else wanted
    out_ptr[0] = 0
    for i in range(rows.shape[0]):
        begin, end = np.int64(0), np.int64(0)
        if 0 <= rows[i] < membership_ptr.shape[0] - 1:
            begin, end = membership_ptr[rows[i]], membership_ptr[rows[i] + 1]
        first = out_ptr[i]
        if first + campaigns > out_campaign_idx.shape[0]:
            return -1
        mine, out = membership_segments[begin:end], out_campaign_idx[first:]
        found = match_first(index, dims[i], interest_masks[i], mine, enough, scratch, out)
        out_ptr[i + 1] = first + min(found, enough)
    return out_ptr[rows.shape[0]]


@njit(cache=True, nogil=True)
def count_matched(
    index: MatchIndex, dims: np.ndarray, interest_masks: np.ndarray, segment_ptr: np.ndarray, segments: np.ndarray
) -> int:
    """How many of n viewers (i4[n, DIMENSION_COUNT], u8[n], i8[n + 1], u4[...]) match any campaign at all."""
    scratch = np.empty(4 * index.rows.shape[1] + index.further.shape[0], np.uint64)
    matched = np.empty(index.campaign_words << 6, np.int32)
    count = 0
    for i in range(dims.shape[0]):
        mine = segments[segment_ptr[i] : segment_ptr[i + 1]]
        if match_viewer(index, dims[i], interest_masks[i], mine, scratch, matched) > 0:
            count += 1
    return count
