"""Alternatives that add nobody: those that another one holds anyway."""

from __future__ import annotations

from collections.abc import Sequence

from targeting.expressions import Clause


def absorbed(clauses: Sequence[Clause]) -> list[Clause]:
    """The clauses without those that imply another one, each once: `a or (a and b)` is `a`.

    What clauses mean only together is not seen: `(a and b) or (a and not b)` stays as it is.
    """
    kept: list[Clause] = []
    for clause in clauses:
        if not any(_implies(clause, other) for other in kept):
            kept = [other for other in kept if not _implies(other, clause)] + [clause]
    return kept


def _implies(clause: Clause, other: Clause) -> bool:
    """Whether all that `other` asks, `clause` asks too, so that whom it holds the other holds."""
    return (
        all(d in clause.allowed and clause.allowed[d] <= codes for d, codes in other.allowed.items())
        and all(any(group <= wanted for group in clause.groups) for wanted in other.groups)
        and other.excluded <= clause.excluded
    )
