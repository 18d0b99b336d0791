"""Builds the match index from the clauses of all campaigns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import numpy as np

from targeting.attributes import CARDINALITIES, DIMENSION_COUNT, INTEREST_COUNT, STORED_DIMENSION_COUNT
from targeting.bits.kernels import clear_row_bits, set_row_bits
from targeting.expressions import INTEREST_PREFIX, Clause
from targeting.match.edits.kernels import fill_postings
from targeting.match.kernels import DENSE_FLAG, POSTINGS_AT_ONCE, MatchIndex

__all__ = ["MatchIndex", "build_index"]

MAX_TABLE_ROWS = 256
"""Dimensions share a table of bitsets while the product of their codes stays within this: fewer rows to intersect, yet
few enough that they stay in the cache."""

DENSE_WORDS = 2
"""A membership with more than one bit in this many words of a plane has a bitset there instead of postings."""

WORD_BITS = 64
_PADDING_WORDS = 16  # loops over whole rows are unrolled over this many words
_ALL_ONES = np.uint64(2**64 - 1)


class _Layout(NamedTuple):
    """Which bit each clause has.

    Attributes:
        clauses: all of them.
        bits: i8[clauses].
        folded_campaigns: i4[...], campaign of each bit from word `campaign_words` on.
        campaign_words, words: words of the campaigns' first clauses; of all.
    """

    clauses: list[Clause]
    bits: np.ndarray
    folded_campaigns: np.ndarray
    campaign_words: int
    words: int


class _Pairs(NamedTuple):
    """Parallel arrays, i8[n] each: a membership, and a bit that it sets."""

    memberships: np.ndarray
    bits: np.ndarray


class _Groups(NamedTuple):
    """Clauses' groups of memberships by the plane that holds them; names, one set for each bit."""

    interests: tuple[list[int], list[frozenset[str]]]
    include: tuple[list[int], list[frozenset[str]]]
    further: tuple[list[int], list[frozenset[str]]]


def build_index(clauses_of: Sequence[Sequence[Clause]], segment_idx: Callable[[str], int]) -> MatchIndex:
    """Build the index of C campaigns.

    Args:
        clauses_of: each campaign's alternatives; position: campaign_idx. Without any, a campaign matches nobody.
        segment_idx: number of a membership by name: 0..63 for interests, from 64 on for segments. Asked once per name.
    """
    return build_spacious(clauses_of, segment_idx, 0).index


@dataclass(frozen=True, slots=True)
class Spacious:
    """An index with room for more clauses, and what it takes to change it.

    Attributes:
        index: the index.
        memberships, bits: i8[n], i8[n]: its postings, a membership and the bit of the scratch that it sets.
        further_bits: bits of each campaign's clauses beyond the first.
    """

    index: MatchIndex
    memberships: np.ndarray
    bits: np.ndarray
    further_bits: dict[int, list[int]]


def build_spacious(
    clauses_of: Sequence[Sequence[Clause]], segment_idx: Callable[[str], int], spare_words: int
) -> Spacious:
    """`build_index`, with so many words to spare for campaigns, and as many for clauses beyond the first."""
    layout = _laid_out(clauses_of, spare_words)
    words = layout.words
    numbered = _Numbers(segment_idx)
    tables, attribute_rows = _attribute_tables(layout)
    groups = _grouped(layout)
    interest_rows, interests_used = _interest_rows(layout, groups, numbered)
    further, further_words, further_start = _further_groups(groups, numbered, words)
    dense = _DenseRows(len(attribute_rows) + len(interest_rows), words)
    include = dense.taken_from(_pairs(*groups.include, numbered))
    has_exclusion = [k for k, clause in enumerate(layout.clauses) if clause.excluded]
    exclude = dense.taken_from(
        _pairs(layout.bits[has_exclusion].tolist(), [layout.clauses[k].excluded for k in has_exclusion], numbered)
    )
    exclude = exclude._replace(bits=exclude.bits + words * WORD_BITS)
    memberships = max(numbered.count, INTEREST_COUNT)
    named = np.concatenate([part.memberships for part in (include, further, exclude)])
    bits = np.concatenate([part.bits for part in (include, further, exclude)])
    posting_ptr, postings = postings_of(named, bits, memberships, words)
    dense_rows = dense.rows_of(memberships)
    posting_ptr[:-1][(dense_rows >= 0).any(axis=1)] |= DENSE_FLAG
    index = MatchIndex(
        rows=np.concatenate([attribute_rows, interest_rows, *dense.rows]),
        tables=tables,
        static_tables=len(tables) - (DIMENSION_COUNT - STORED_DIMENSION_COUNT),
        interest_row=len(attribute_rows),
        interests_used=interests_used,
        interests_posted=interests_posted(posting_ptr),
        include=_plane_start(layout, groups.include[0]),
        further=further_start,
        further_words=further_words,
        posting_ptr=posting_ptr,
        postings=postings,
        dense_rows=dense_rows,
        folded_campaigns=layout.folded_campaigns,
        campaign_words=layout.campaign_words,
    )
    further_bits: dict[int, list[int]] = {}
    for place, campaign in enumerate(layout.folded_campaigns.tolist()):
        further_bits.setdefault(campaign, []).append(layout.campaign_words * WORD_BITS + place)
    return Spacious(index, named, bits, further_bits)


class _Numbers(dict[str, int]):
    """Numbers of memberships by name, asked for once each."""

    def __init__(self, segment_idx: Callable[[str], int]) -> None:
        super().__init__()
        self._segment_idx = segment_idx
        self.count = 0

    def __missing__(self, name: str) -> int:
        self[name] = number = int(self._segment_idx(name))
        self.count = max(self.count, number + 1)
        return number


def _laid_out(clauses_of: Sequence[Sequence[Clause]], spare_words: int) -> _Layout:
    campaigns = len(clauses_of)
    campaign_words = -(-campaigns // WORD_BITS) + spare_words
    first = [c for c, clauses in enumerate(clauses_of) if clauses]
    folded = [c for c, clauses in enumerate(clauses_of) for _ in clauses[1:]]
    clauses = [clauses_of[c][0] for c in first]
    clauses += [clause for alternatives in clauses_of for clause in alternatives[1:]]
    beyond = np.arange(len(folded), dtype=np.int64) + campaign_words * WORD_BITS
    words = campaign_words - (-len(folded) // WORD_BITS) + spare_words
    return _Layout(
        clauses=clauses,
        bits=np.concatenate([np.array(first, np.int64), beyond]),
        folded_campaigns=np.array(folded, np.int32),
        campaign_words=campaign_words,
        words=-(-max(words, 1) // _PADDING_WORDS) * _PADDING_WORDS,
    )


def _attribute_tables(layout: _Layout) -> tuple[np.ndarray, np.ndarray]:
    """(i4[T, 1 + DIMENSION_COUNT] tables, u8[R, W] their rows)."""
    entries: list[tuple[list[int], list[frozenset[int]]]] = [([], []) for _ in range(DIMENSION_COUNT)]
    for bit, clause in zip(layout.bits.tolist(), layout.clauses, strict=True):
        for dimension, codes in clause.allowed.items():
            bits, sets = entries[dimension]
            bits.append(bit)
            sets.append(codes)
    tables: list[list[int]] = []
    parts: list[np.ndarray] = [np.zeros((0, layout.words), np.uint64)]
    for dimensions in _table_dimensions():
        table = [0] * (1 + DIMENSION_COUNT)
        table[0] = sum(map(len, parts))
        rows = np.full((1, layout.words), _ALL_ONES)
        stride = 1
        for d in reversed(dimensions):
            table[1 + d] = stride
            stride *= CARDINALITIES[d]
            rows = (_code_rows(d, *entries[d], layout.words)[:, None, :] & rows[None, :, :]).reshape(stride, -1)
        tables.append(table)
        parts.append(rows)
    return np.array(tables, np.int32).reshape(-1, 1 + DIMENSION_COUNT), np.concatenate(parts)


def _table_dimensions() -> list[list[int]]:
    """Which dimensions share a table: of the viewer's the smallest together; those of the request have one each."""
    shared: list[list[int]] = []
    size = MAX_TABLE_ROWS + 1
    for d in sorted(range(STORED_DIMENSION_COUNT), key=lambda d: CARDINALITIES[d]):
        if size * CARDINALITIES[d] <= MAX_TABLE_ROWS:
            shared[-1].append(d)
            size *= CARDINALITIES[d]
        else:
            shared.append([d])
            size = CARDINALITIES[d]
    return shared + [[d] for d in range(STORED_DIMENSION_COUNT, DIMENSION_COUNT)]


def _code_rows(dimension: int, bits: list[int], sets: list[frozenset[int]], words: int) -> np.ndarray:
    """u8[codes, W]: per code, the clauses that allow it."""
    codes = CARDINALITIES[dimension]
    every = frozenset(range(codes))
    narrow = [k for k, allowed in enumerate(sets) if 2 * len(allowed) <= codes]
    wide = [k for k, allowed in enumerate(sets) if 2 * len(allowed) > codes]
    rows = np.full((codes, words), _ALL_ONES)
    narrow_bits = np.array([bits[k] for k in narrow], np.int64)
    clear_row_bits(rows[:1], np.zeros(len(narrow_bits), np.int64), narrow_bits)
    rows[1:] = rows[0]
    set_row_bits(rows, *_spread(narrow_bits, [sets[k] for k in narrow]))
    clear_row_bits(rows, *_spread(np.array([bits[k] for k in wide], np.int64), [every - sets[k] for k in wide]))
    return rows


def _spread(bits: np.ndarray, sets: Sequence[frozenset[int]]) -> tuple[np.ndarray, np.ndarray]:
    """(i8[m] members of all sets, i8[m] the bit of the set that each came from)."""
    sizes = np.fromiter(map(len, sets), np.int64, len(sets))
    return np.fromiter(chain.from_iterable(sets), np.int64, int(sizes.sum())), np.repeat(bits, sizes)


def _grouped(layout: _Layout) -> _Groups:
    """Each clause's first group of interests alone, the first of its other groups, and what is left."""
    groups = _Groups(([], []), ([], []), ([], []))
    for bit, clause in zip(layout.bits.tolist(), layout.clauses, strict=True):
        has_interests, has_include = False, False
        for group in clause.groups:
            if not has_interests and all(name.startswith(INTEREST_PREFIX) for name in group):
                has_interests, plane = True, groups.interests
            elif not has_include:
                has_include, plane = True, groups.include
            else:
                plane = groups.further
            plane[0].append(bit)
            plane[1].append(group)
    return groups


def _pairs(bits: Sequence[int], sets: Iterable[frozenset[str]], numbered: _Numbers) -> _Pairs:
    """Every set's members by number, each with the bit of its set."""
    numbers = [frozenset([numbered[name] for name in names]) for names in sets]
    return _Pairs(*_spread(np.array(bits, np.int64), numbers))


def _plane_start(layout: _Layout, constrained: list[int]) -> np.ndarray:
    """u8[W]: the clauses that a plane does not constrain."""
    start = np.zeros((1, layout.words), np.uint64)
    set_row_bits(start, np.zeros(len(layout.bits), np.int64), layout.bits)
    clear_row_bits(start, np.zeros(len(constrained), np.int64), np.array(constrained, np.int64))
    return start[0]


def _interest_rows(layout: _Layout, groups: _Groups, numbered: _Numbers) -> tuple[np.ndarray, np.uint64]:
    """(u8[INTEREST_COUNT + 1, W] rows, mask of the interests that clauses ask for); the last row: asks for none."""
    rows = np.zeros((INTEREST_COUNT + 1, layout.words), np.uint64)
    rows[INTEREST_COUNT] = _plane_start(layout, groups.interests[0])
    pairs = _pairs(*groups.interests, numbered)
    set_row_bits(rows, pairs.memberships, pairs.bits)
    return rows, _mask(np.unique(pairs.memberships))


def _mask(interests: np.ndarray) -> np.uint64:
    return np.uint64(sum(1 << int(code) for code in interests))


def _further_groups(groups: _Groups, numbered: _Numbers, words: int) -> tuple[_Pairs, np.ndarray, np.ndarray]:
    """Groups beyond a clause's first: (pairs, i4[X] constrained word, u8[X] start of that word).

    The k-th such group of a clause goes to the k-th layer of its word, so a word has as many layers as its clauses
    need.
    """
    layer_of: dict[int, int] = {}
    place_of: dict[tuple[int, int], int] = {}
    start: list[int] = []
    bits = []
    for bit in groups.further[0]:
        layer = layer_of[bit] = layer_of.get(bit, -1) + 1
        place = place_of.setdefault((bit // WORD_BITS, layer), len(place_of))
        if place == len(start):
            start.append(2**WORD_BITS - 1)
        start[place] &= ~(1 << bit % WORD_BITS)
        bits.append((4 * words + place) * WORD_BITS + bit % WORD_BITS)
    constrained = np.array([word for word, _ in place_of], np.int32)
    return _pairs(bits, groups.further[1], numbered), constrained, np.array(start, np.uint64)


class _DenseRows:
    """Bitsets of the memberships that set very many bits of a plane."""

    def __init__(self, first_row: int, words: int) -> None:
        self.rows: list[np.ndarray] = []
        self.row_of: list[dict[int, int]] = []  # by plane: row of a membership
        self._next_row = first_row
        self._words = words

    def taken_from(self, pairs: _Pairs) -> _Pairs:
        """Give the next plane's crowded memberships a row each; answers with the pairs that are left."""
        counts = np.bincount(pairs.memberships, minlength=1)
        crowded = np.flatnonzero(counts * DENSE_WORDS > self._words)
        row_of = np.full(len(counts), -1, np.int64)
        row_of[crowded] = np.arange(len(crowded))
        of_pair = row_of[pairs.memberships]
        rows = np.zeros((len(crowded), self._words), np.uint64)
        set_row_bits(rows, of_pair[of_pair >= 0], pairs.bits[of_pair >= 0])
        self.rows.append(rows)
        self.row_of.append({int(membership): self._next_row + k for k, membership in enumerate(crowded)})
        self._next_row += len(crowded)
        return _Pairs(pairs.memberships[of_pair < 0], pairs.bits[of_pair < 0])

    def rows_of(self, memberships: int) -> np.ndarray:
        """i4[S, planes], row of each membership in each plane; -1: none."""
        rows = np.full((memberships, len(self.row_of)), -1, np.int32)
        for plane, row_of in enumerate(self.row_of):
            rows[list(row_of), plane] = list(row_of.values())
        return rows


def postings_of(memberships: np.ndarray, bits: np.ndarray, count: int, words: int) -> tuple[np.ndarray, np.ndarray]:
    """(u4[S + 1] offsets, u4[P, POSTINGS_AT_ONCE] bits) of S memberships, from pairs (i8[n], i8[n])."""
    counts = np.bincount(memberships, minlength=count)
    ptr = np.zeros(count + 1, np.uint32)
    np.cumsum(-(-counts // POSTINGS_AT_ONCE), out=ptr[1:])
    # What a row is filled up with differs by place: to set one bit over and over again is slow.
    filler = (2 * words + np.arange(POSTINGS_AT_ONCE)) * WORD_BITS
    postings = np.tile(filler.astype(np.uint32), (int(ptr[-1]), 1))
    fill_postings(memberships, bits, POSTINGS_AT_ONCE * ptr[:-1].astype(np.int64), postings)
    return ptr, postings


def interests_posted(posting_ptr: np.ndarray) -> np.uint64:
    """Mask of the interests that have postings, or a row in place of them."""
    of = posting_ptr[: INTEREST_COUNT + 1]
    return _mask(np.flatnonzero(((of[1:] & ~DENSE_FLAG) > (of[:-1] & ~DENSE_FLAG)) | (of[:-1] >= DENSE_FLAG)))
