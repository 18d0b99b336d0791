"""A match index that follows its campaigns: what changed is written into a copy of the last one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from targeting.attributes import DIMENSION_COUNT, INTEREST_COUNT
from targeting.bits.kernels import set_row_bits
from targeting.expressions import INTEREST_PREFIX, Clause
from targeting.match.edits.kernels import FIRST_CODES, allow_codes, clear_bits, drop_postings
from targeting.match.index import WORD_BITS, build_spacious, interests_posted, postings_of
from targeting.match.kernels import DENSE_FLAG, MatchIndex

SPARE_SHARE = 8
"""A new index has room for one more campaign for each so many that it has."""
LEAST_SPARE_WORDS = 4
_INCLUDE, _EXCLUDE = 0, 1


class EditableIndex:
    """The index of campaigns that come, go and change. One thread at a time.

    A `MatchIndex` that it has given out never changes: `edit` copies the bitsets, and lays out the postings anew, both
    compiled and without the interpreter's lock; work in Python is by the clauses that changed. Where no room is left,
    or more than half has changed, all is built anew, with room.
    """

    def __init__(self, clauses_of: Sequence[Sequence[Clause]], segment_idx: Callable[[str], int]) -> None:
        """See `build_index`."""
        self._segment_idx = segment_idx
        self._build(clauses_of)

    def _build(self, clauses_of: Sequence[Sequence[Clause]]) -> None:
        spare = max(LEAST_SPARE_WORDS, -(-len(clauses_of) // (WORD_BITS * SPARE_SHARE)))
        built = build_spacious(clauses_of, self._segment_idx, spare)
        self.present, self._further_bits = built.index, built.further_bits
        self._memberships, self._bits = built.memberships, built.bits
        first, last = self.present.campaign_words * WORD_BITS, self.present.rows.shape[1] * WORD_BITS
        used = {bit for bits in self._further_bits.values() for bit in bits}
        self._free = [bit for bit in range(last - 1, first - 1, -1) if bit not in used]
        self._changed = 0
        self._places: dict[int, list[int]] = {}  # by word: those of its further groups, by layer
        for place, word in enumerate(self.present.further_words.tolist()):
            self._places.setdefault(word, []).append(place)

    def edit(
        self, changes: Mapping[int, Sequence[Clause]], everything: Callable[[], Sequence[Sequence[Clause]]]
    ) -> MatchIndex:
        """The index after some campaigns changed, which is `present` from then on.

        Args:
            changes: the alternatives that campaigns have now, by campaign_idx; without any, one matches nobody.
            everything: the alternatives of all, changes included; asked for where the index is built anew.
        """
        self._changed += len(changes)
        if not self._has_room(changes) or self._changed > self.present.campaign_words * WORD_BITS // 2:
            self._build(everything())
            return self.present
        gone = [bit for campaign in changes for bit in (campaign, *self._further_bits.pop(campaign, ()))]
        first_further = self.present.campaign_words * WORD_BITS
        self._free += [bit for bit in gone if bit >= first_further]
        taken = {campaign: [self._free.pop() for _ in clauses[1:]] for campaign, clauses in changes.items()}
        self._further_bits |= {campaign: bits for campaign, bits in taken.items() if bits}
        draft = _Draft(self.present, self._memberships, self._bits, self._places, self._segment_idx)
        # Bits that were free until now are set wherever nothing is asked for: they are taken out, too.
        draft.take_out(np.array([*gone, *(bit for bits in taken.values() for bit in bits)], np.int64))
        folded = self._folded_campaigns()
        for campaign, clauses in changes.items():
            folded[np.array(taken[campaign], np.int64) - first_further] = campaign
            for bit, clause in zip((campaign, *taken[campaign]), clauses, strict=False):
                draft.put_in(bit, clause)
        self._memberships, self._bits, self.present = draft.finished(folded if self._further_bits else folded[:0])
        return self.present

    def _has_room(self, changes: Mapping[int, Sequence[Clause]]) -> bool:
        freed = sum(len(self._further_bits.get(campaign, ())) for campaign in changes)
        wanted = sum(max(len(clauses) - 1, 0) for clauses in changes.values())
        most = self.present.campaign_words * WORD_BITS
        return wanted <= len(self._free) + freed and max(changes, default=0) < most

    def _folded_campaigns(self) -> np.ndarray:
        """A copy, as long as there are bits."""
        room = (self.present.rows.shape[1] - self.present.campaign_words) * WORD_BITS
        folded = np.zeros(room, np.int32)
        folded[: len(self.present.folded_campaigns)] = self.present.folded_campaigns
        return folded


class _Draft:
    """A copy of an index in which clauses are changed."""

    def __init__(
        self,
        index: MatchIndex,
        memberships: np.ndarray,
        bits: np.ndarray,
        places: dict[int, list[int]],
        segment_idx: Callable[[str], int],
    ) -> None:
        self._index = index
        self._rows, self._include, self._further = index.rows.copy(), index.include.copy(), index.further.copy()
        self._further_words = index.further_words.tolist()
        self._added_further: list[int] = []
        self._memberships, self._bits = memberships.copy(), bits.copy()
        self._posted: list[tuple[int, int]] = []
        self._set: list[tuple[int, int]] = []  # rows and bits
        self._codes: list[tuple[int, np.ndarray]] = []  # bits and what they allow
        self._interests_used = int(index.interests_used)
        self._places = places
        self._segment_idx = segment_idx
        self._words = index.rows.shape[1]

    def take_out(self, bits: np.ndarray) -> None:
        """Clauses that are no more."""
        index, gone = self._index, np.zeros((1, self._words), np.uint64)
        set_row_bits(gone, np.zeros(len(bits), np.int64), bits)
        clear_bits(self._rows, bits)
        self._include &= ~gone[0]
        self._further |= gone[0][index.further_words]
        kept = drop_postings(self._memberships, self._bits, gone[0], self._words, index.further_words)
        self._memberships, self._bits = self._memberships[:kept], self._bits[:kept]

    def put_in(self, bit: int, clause: Clause) -> None:
        """A clause with a bit that is free."""
        allowed = np.ones(FIRST_CODES[DIMENSION_COUNT], np.uint8)
        for dimension, codes in clause.allowed.items():
            allowed[FIRST_CODES[dimension] : FIRST_CODES[dimension + 1]] = 0
            allowed[FIRST_CODES[dimension] + np.fromiter(codes, np.int64, len(codes))] = 1
        self._codes.append((bit, allowed))
        interests, include, layer = False, False, 0
        for group in clause.groups:
            if not interests and all(name.startswith(INTEREST_PREFIX) for name in group):
                interests = True
                codes_wanted = [self._segment_idx(name) for name in group]
                self._set += [(self._index.interest_row + code, bit) for code in codes_wanted]
                self._interests_used |= sum(1 << code for code in codes_wanted)
            elif not include:
                include = True
                self._post(group, bit, _INCLUDE)
            else:
                self._post_further(group, bit, layer)
                layer += 1
        if not interests:
            self._set.append((self._index.interest_row + INTEREST_COUNT, bit))
        if not include:
            self._include[bit // WORD_BITS] |= np.uint64(1 << bit % WORD_BITS)
        self._post(clause.excluded, bit, _EXCLUDE)

    def _post(self, names: frozenset[str], bit: int, plane: int) -> None:
        dense_rows = self._index.dense_rows
        for name in names:
            number = self._segment_idx(name)
            row = int(dense_rows[number, plane]) if number < len(dense_rows) else -1
            if row >= 0:
                self._set.append((row, bit))
            else:
                self._posted.append((number, plane * self._words * WORD_BITS + bit))

    def _post_further(self, names: frozenset[str], bit: int, layer: int) -> None:
        """A group beyond the first: it goes to a layer of its word, as in a new index."""
        word, place_bit = bit // WORD_BITS, bit % WORD_BITS
        places = self._places.setdefault(word, [])
        if layer == len(places):
            places.append(len(self._further_words))
            self._further_words.append(word)
            self._added_further.append(2**WORD_BITS - 1)
        place, known = places[layer], len(self._further)
        if place < known:
            self._further[place] &= np.uint64(~(1 << place_bit) & 2**WORD_BITS - 1)
        else:
            self._added_further[place - known] &= ~(1 << place_bit)
        scratch_bit = (4 * self._words + place) * WORD_BITS + place_bit
        self._posted += [(self._segment_idx(name), scratch_bit) for name in names]

    def finished(self, folded_campaigns: np.ndarray) -> tuple[np.ndarray, np.ndarray, MatchIndex]:
        """(memberships, bits, index) as they are now."""
        index = self._index
        if self._codes:
            bits = np.array([bit for bit, _ in self._codes], np.int64)
            allow_codes(index.tables, bits, np.stack([allowed for _, allowed in self._codes]), self._rows)
        into = np.array(self._set, np.int64).reshape(-1, 2)
        set_row_bits(self._rows, into[:, 0].copy(), into[:, 1].copy())
        posted = np.array(self._posted, np.int64).reshape(-1, 2)
        memberships = np.concatenate([self._memberships, posted[:, 0]])
        bits = np.concatenate([self._bits, posted[:, 1]])
        count = max(len(index.dense_rows), int(posted[:, 0].max(initial=-1)) + 1)
        posting_ptr, postings = postings_of(memberships, bits, count, self._words)
        dense_rows = np.full((count, 2), -1, np.int32)
        dense_rows[: len(index.dense_rows)] = index.dense_rows
        posting_ptr[:-1][(dense_rows >= 0).any(axis=1)] |= DENSE_FLAG
        changed = index._replace(
            rows=self._rows,
            interests_used=np.uint64(self._interests_used),
            interests_posted=interests_posted(posting_ptr),
            include=self._include,
            further=np.concatenate([self._further, np.array(self._added_further, np.uint64)]),
            further_words=np.array(self._further_words, np.int32),
            posting_ptr=posting_ptr,
            postings=postings,
            dense_rows=dense_rows,
            folded_campaigns=folded_campaigns,
        )
        return memberships, bits, changed
