"""What matching of viewers who come again means: nothing is kept, the first campaigns are found anew. For tests."""

from __future__ import annotations

from collections.abc import Sequence, Set

from targeting.expressions import Clause
from targeting.match.reference import matching_campaigns


def first_campaigns(
    clauses_of: Sequence[Sequence[Clause]], codes: Sequence[int], interest_mask: int, segments: Set[str], wanted: int
) -> list[int]:
    """The first campaigns, by position, whose audience holds the viewer; see `matching_campaigns`."""
    return matching_campaigns(clauses_of, codes, interest_mask, segments)[:wanted]
