"""What the match means: every clause of every campaign against sets of names. For tests and benches."""

from __future__ import annotations

from collections.abc import Sequence, Set

from targeting.attributes import INTEREST_COUNT
from targeting.expressions import Clause, interest_segment


def memberships_of(interest_mask: int, segments: Set[str]) -> frozenset[str]:
    """Names of all that a viewer is a member of: segments, and interests by the names that clauses have for them."""
    interests = (interest_segment(code) for code in range(INTEREST_COUNT) if interest_mask >> code & 1)
    return frozenset(segments) | frozenset(interests)


def clause_matches(clause: Clause, codes: Sequence[int], memberships: Set[str]) -> bool:
    """Whether a viewer with these attribute codes and memberships satisfies every part of a clause."""
    if not all(codes[dimension] in allowed for dimension, allowed in clause.allowed.items()):
        return False
    if not all(any(name in memberships for name in group) for group in clause.groups):
        return False
    return not any(name in memberships for name in clause.excluded)


def matching_campaigns(
    clauses_of: Sequence[Sequence[Clause]], codes: Sequence[int], interest_mask: int, segments: Set[str]
) -> list[int]:
    """Campaigns (positions in `clauses_of`) with a clause that the viewer satisfies, ascending.

    Args:
        clauses_of: each campaign's alternatives.
        codes: the viewer's code in each dimension.
        interest_mask: bit k: interest k.
        segments: names of the viewer's segments.
    """
    memberships = memberships_of(interest_mask, segments)
    return [
        campaign_idx
        for campaign_idx, clauses in enumerate(clauses_of)
        if any(clause_matches(clause, codes, memberships) for clause in clauses)
    ]
