"""What counting an audience means: looking at each viewer. For tests and benches."""

from __future__ import annotations

from collections.abc import Sequence, Set

from targeting.expressions import Clause


def rows_held(clauses: Sequence[Clause], codes: Sequence[Sequence[int]], memberships: Sequence[Set[str]]) -> list[int]:
    """Rows of the viewers who satisfy at least one clause.

    Args:
        clauses: of what is stored of viewers only.
        codes: each viewer's code in each dimension.
        memberships: names of each viewer's segments and interests.
    """
    return [row for row in range(len(codes)) if any(_holds(c, codes[row], memberships[row]) for c in clauses)]


def _holds(clause: Clause, codes: Sequence[int], memberships: Set[str]) -> bool:
    allowed = all(codes[dimension] in wanted for dimension, wanted in clause.allowed.items())
    return allowed and all(group & memberships for group in clause.groups) and not clause.excluded & memberships
