"""What the match index is compared with: a loop over Python sets, and a counting k-index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.match.kernels import EXCLUDED, INCLUDED, INTERESTED, KIndex, kindex_batch
from benchmarks.match.workload import TIERS, Viewers, tier_name
from targeting.attributes import CARDINALITIES, DIMENSION_COUNT, INTEREST_COUNT
from targeting.expressions import INTEREST_PREFIX, Clause, interest_segment

_TIER_NAMES = {tier_name(tier): tier for tier in range(TIERS)}


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A clause as sets, in the order in which a loop looks at them."""

    campaign_idx: int
    allowed: tuple[tuple[int, frozenset[int]], ...]
    groups: tuple[frozenset[str], ...]
    excluded: frozenset[str]


class SetLoop:
    """Every campaign's conditions, one after the other, on sets that were made beforehand."""

    def __init__(self, clauses_of: Sequence[Sequence[Clause]]) -> None:
        self._wanted = [
            _Wanted(c, tuple((int(d), codes) for d, codes in clause.allowed.items()), clause.groups, clause.excluded)
            for c, clauses in enumerate(clauses_of)
            for clause in clauses
        ]

    def match(self, codes: tuple[int, ...], memberships: frozenset[str]) -> list[int]:
        """Campaigns that hold a viewer, ascending, by codes and names of segments and interests."""
        found: list[int] = []
        for wanted in self._wanted:
            for dimension, allowed in wanted.allowed:
                if codes[dimension] not in allowed:
                    break
            else:
                if not memberships.isdisjoint(wanted.excluded):
                    continue
                for group in wanted.groups:
                    if memberships.isdisjoint(group):
                        break
                else:
                    if not found or found[-1] != wanted.campaign_idx:
                        found.append(wanted.campaign_idx)
        return found


def facts_of(viewers: Viewers, i: int) -> tuple[tuple[int, ...], frozenset[str]]:
    """Viewer i as `SetLoop` takes it."""
    mask = int(viewers.interest_masks[i])
    interests = (interest_segment(code) for code in range(INTEREST_COUNT) if mask >> code & 1)
    return tuple(viewers.dims[i].tolist()), viewers.names_of(i) | frozenset(interests)


class CountingKIndex:
    """`KIndex` of campaigns whose audiences are those of `benchmarks.match.workload`: one conjunction each."""

    def __init__(self, clauses_of: Sequence[Sequence[Clause]], names: Sequence[str]) -> None:
        """Build it.

        Args:
            clauses_of: each campaign's alternatives, at most a group each of interests, of tiers and of segments.
            names: the segments' names, by number.
        """
        numbers = {name: number for number, name in enumerate(names)}
        dimension_codes = (*CARDINALITIES, TIERS)
        self._base = np.concatenate([[0], np.cumsum(dimension_codes)]).astype(np.int32)
        flat = [(c, *_parts(clause)) for c, clauses in enumerate(clauses_of) for clause in clauses]
        flat.sort(key=lambda entry: (entry[1], entry[0]))
        values: list[tuple[int, int]] = []
        included: list[tuple[int, int]] = []
        excluded: list[tuple[int, int]] = []
        for q, (_, _, clause, tiers, interests, segments) in enumerate(flat):
            values += [(int(self._base[d]) + code, q) for d, codes in clause.allowed.items() for code in codes]
            values += [(int(self._base[DIMENSION_COUNT]) + tier, q) for tier in tiers]
            values += [(int(self._base[-1]) + code, q) for code in interests]
            included += [(numbers[name], q) for name in segments if name in numbers]
            excluded += [(numbers[name], q) for name in clause.excluded if name in numbers]
        needs = np.array([need for _, need, *_ in flat], np.uint8)
        ends = np.flatnonzero(np.diff(needs, append=255)) + 1
        self._index = KIndex(
            self._base[: DIMENSION_COUNT + 1].copy(),
            *_lists(values, int(self._base[-1]) + INTEREST_COUNT),
            int(self._base[-1]),
            *_lists(included, len(names)),
            *_lists(excluded, len(names)),
            ends.astype(np.int32),
            needs[ends - 1],
            np.array([c for c, *_ in flat], np.int32),
        )
        self._counts = np.empty(len(flat), np.uint8)

    def keys_of(self, viewers: Viewers) -> tuple[np.ndarray, ...]:
        """The viewers as `match` takes them: codes with the tier, interests and segments."""
        count = len(viewers.dims)
        tiers = np.zeros(count, np.int32)
        tier_of = np.array([_TIER_NAMES.get(name, -1) for name in viewers.names], np.int32)
        of_segment = tier_of[viewers.segments.astype(np.int64) - INTEREST_COUNT]
        owner = np.repeat(np.arange(count), np.diff(viewers.segment_ptr))
        tiers[owner[of_segment >= 0]] = of_segment[of_segment >= 0]
        has = (viewers.interest_masks[:, None] >> np.arange(INTEREST_COUNT, dtype=np.uint64)) & np.uint64(1)
        row, code = np.nonzero(has)
        ptr = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=count))]).astype(np.int64)
        dims = np.concatenate([viewers.dims, tiers[:, None]], axis=1).astype(np.int32)
        segments = viewers.segments.astype(np.int32) - INTEREST_COUNT
        return dims, ptr, (code + self._base[-1]).astype(np.int32), viewers.segment_ptr, segments

    def match(self, keys: tuple[np.ndarray, ...], out_ptr: np.ndarray, out_campaign_idx: np.ndarray) -> int:
        """Matches of viewers from `keys_of`; see `kindex_batch`."""
        return int(kindex_batch(self._index, *keys, self._counts, out_ptr, out_campaign_idx))


def _parts(clause: Clause) -> tuple[int, Clause, list[int], list[int], list[str]]:
    """(what must be counted, the clause, tiers, interests, segments that it asks for)."""
    tiers: list[int] = []
    interests: list[int] = []
    segments: list[str] = []
    for group in clause.groups:
        if group <= _TIER_NAMES.keys():
            tiers += [_TIER_NAMES[name] for name in group]
        elif all(name.startswith(INTEREST_PREFIX) for name in group):
            interests += [int(name.removeprefix(INTEREST_PREFIX)) for name in group]
        else:
            segments += group
    need = len(clause.allowed) + bool(tiers)
    need |= (int(INTERESTED) if interests else 0) | (int(INCLUDED) if segments else 0)
    assert len(clause.groups) == bool(tiers) + bool(interests) + bool(segments) and need < int(EXCLUDED)
    return need, clause, tiers, interests, segments


def _lists(pairs: list[tuple[int, int]], keys: int) -> tuple[np.ndarray, np.ndarray]:
    """(i4[keys + 1] offsets, i4[...] conjunctions), each list ascending."""
    table = np.array(pairs, np.int64).reshape(-1, 2)
    table = table[np.lexsort((table[:, 1], table[:, 0]))]
    ptr = np.concatenate([[0], np.cumsum(np.bincount(table[:, 0], minlength=keys))])
    return ptr.astype(np.int32), table[:, 1].astype(np.int32)
