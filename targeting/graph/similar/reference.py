"""Similar creators from a plain set of pairs. For tests and benches."""

from __future__ import annotations

from targeting.graph.reference import Follows, fans


def similar_creators(follows: Follows, creator_id: int, most: int, least_common: int) -> list[tuple[int, int]]:
    """(creator, fans in common) of the `most` others whose fans have the highest cosine with the creator's, best first.

    Of equals the lower id; only those with at least `least_common` fans in common.
    """
    own = fans(follows, creator_id)
    found = []
    for other in {followed for _, followed in follows} - {creator_id}:
        theirs = fans(follows, other)
        common = len(own & theirs)
        if common >= least_common:
            found.append((-common * common / len(theirs), other, common))  # cosine squared, times the creator's fans
    return [(other, common) for _, other, common in sorted(found)[:most]]
