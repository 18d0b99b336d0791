"""What edits of an index mean: a list of audiences in which some are others now. For tests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from targeting.expressions import Clause


def edited(clauses_of: Sequence[Sequence[Clause]], changes: Mapping[int, Sequence[Clause]]) -> list[Sequence[Clause]]:
    """The alternatives of all campaigns after some changed; positions in between that nobody had match nobody."""
    after = list(clauses_of)
    after += [()] * (max(changes, default=-1) + 1 - len(after))
    for campaign, clauses in changes.items():
        after[campaign] = clauses
    return after


def postings_left(
    postings: Iterable[tuple[int, int]], gone: set[int], clause_of: Mapping[int, int]
) -> list[tuple[int, int]]:
    """The (membership, bit) pairs whose bit is of no clause that is gone."""
    return [(membership, bit) for membership, bit in postings if clause_of[bit] not in gone]
