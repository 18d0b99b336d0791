"""The match index: clauses of all campaigns as bitsets by attribute code and postings by segment."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from targeting.attributes import CARDINALITIES
from targeting.expressions import Clause
from targeting.match.kernels import MatchIndex

_WORD_BITS = 64


def build_index(clauses_of: Sequence[Sequence[Clause]], segment_idx: Callable[[str], int]) -> MatchIndex:
    """Build the index of C campaigns.

    Args:
        clauses_of: each campaign's alternatives; position: campaign_idx.
        segment_idx: number of a segment or interest by name.
    """
    clauses = [clause for of_campaign in clauses_of for clause in of_campaign]
    campaign_of = np.repeat(
        np.arange(len(clauses_of), dtype=np.int32), np.array([len(c) for c in clauses_of], np.int64)
    ).astype(np.int32)
    planes = max((len(clause.groups) for clause in clauses), default=0)
    words = (len(clauses) + _WORD_BITS - 1) // _WORD_BITS
    wanted = [_members(clauses, plane, segment_idx) for plane in range(planes)]
    refused_segments, refused_clauses = _pairs((clause.excluded for clause in clauses), segment_idx)
    top = max((int(s.max()) + 1 for s, _ in [*wanted, (refused_segments, refused_clauses)] if len(s)), default=0)
    plane_ptr = np.zeros((planes, top + 1), np.int64)
    plane_clauses: list[np.ndarray] = []
    for plane, (segments, members) in enumerate(wanted):
        ptr, ordered = _postings(segments, members, top)
        plane_ptr[plane] = ptr + sum(len(part) for part in plane_clauses)
        plane_clauses.append(ordered)
    exclude_ptr, exclude_clauses = _postings(refused_segments, refused_clauses, top)
    return MatchIndex(
        code_bits=_code_bits(clauses, words),
        first_code=np.concatenate([[0], np.cumsum(CARDINALITIES)])[:-1].astype(np.int64),
        groupless=np.stack([_groupless(clauses, plane, words) for plane in range(planes)])
        if planes
        else np.zeros((0, words), np.uint64),
        plane_ptr=plane_ptr,
        plane_clauses=np.concatenate(plane_clauses) if plane_clauses else np.zeros(0, np.int32),
        exclude_ptr=exclude_ptr,
        exclude_clauses=exclude_clauses,
        campaign_of=campaign_of,
    )


def _packed(bits: np.ndarray, words: int) -> np.ndarray:
    """Booleans [..., clauses] as u8[..., words], clause c at bit c % 64 of word c // 64."""
    padded = np.zeros((*bits.shape[:-1], words * _WORD_BITS), np.bool_)
    padded[..., : bits.shape[-1]] = bits
    return np.ascontiguousarray(np.packbits(padded, axis=-1, bitorder="little")).view(np.uint64)


def _code_bits(clauses: Sequence[Clause], words: int) -> np.ndarray:
    parts = []
    for dimension, codes in enumerate(CARDINALITIES):
        bits = np.ones((codes, len(clauses)), np.bool_)
        for k, clause in enumerate(clauses):
            allowed = clause.allowed.get(dimension)  # type: ignore[call-overload]
            if allowed is not None:
                bits[:, k] = False
                bits[list(allowed), k] = True
        parts.append(_packed(bits, words))
    return np.concatenate(parts)


def _groupless(clauses: Sequence[Clause], plane: int, words: int) -> np.ndarray:
    """Clauses that ask for nothing in this plane."""
    return _packed(np.array([len(clause.groups) <= plane for clause in clauses], np.bool_), words)


def _members(
    clauses: Sequence[Clause], plane: int, segment_idx: Callable[[str], int]
) -> tuple[np.ndarray, np.ndarray]:
    """(segment, clause) pairs of each clause's group of this plane."""
    return _pairs((c.groups[plane] if len(c.groups) > plane else frozenset() for c in clauses), segment_idx)


def _pairs(names_of, segment_idx: Callable[[str], int]) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[no-untyped-def]
    """(segment, clause) pairs of sets of names, one set a clause, as (i8[m], i4[m])."""
    pairs = [(segment_idx(name), k) for k, names in enumerate(names_of) for name in sorted(names)]
    table = np.array(pairs, np.int64).reshape(-1, 2)
    return table[:, 0], table[:, 1].astype(np.int32)


def _postings(segments: np.ndarray, clauses: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs as (i8[top + 1] offsets by segment, i4[m] clauses)."""
    order = np.argsort(segments, kind="stable")
    ptr = np.zeros(top + 1, np.int64)
    np.cumsum(np.bincount(segments, minlength=top), out=ptr[1:])
    return ptr, clauses[order]
