"""What a counting k-index means: a conjunction holds where as many of its predicates do as it has."""

from __future__ import annotations

from collections.abc import Sequence, Set

from targeting.expressions import Clause


def counted_matches(clauses_of: Sequence[Sequence[Clause]], codes: Sequence[int], memberships: Set[str]) -> list[int]:
    """Campaigns with a conjunction all of whose predicates count, ascending.

    Args:
        clauses_of: each campaign's alternatives.
        codes: the viewer's code in each dimension.
        memberships: names of the viewer's segments and interests.
    """
    found = set()
    for campaign, clauses in enumerate(clauses_of):
        for clause in clauses:
            size = len(clause.allowed) + len(clause.groups)
            counted = sum(codes[dimension] in allowed for dimension, allowed in clause.allowed.items())
            counted += sum(not memberships.isdisjoint(group) for group in clause.groups)
            if counted == size and memberships.isdisjoint(clause.excluded):
                found.add(campaign)
    return sorted(found)
