"""Similar creators from a plain set of pairs. For tests and benches."""

from __future__ import annotations

import math

from targeting.graph.reference import Follows, fans
from targeting.graph.similar.lists import SimilarCreator, Standards


def similar_creators(follows: Follows, creator_id: int, most: int, standards: Standards) -> list[SimilarCreator]:
    """The `most` others whose fans have the highest cosine with the creator's, best first; of equals the lower id.

    Only those that come up to the standards.
    """
    own = fans(follows, creator_id)
    others = {followed for _, followed in follows} - {creator_id}
    popular = sum(len(fans(follows, one)) >= standards.least_common for one in {followed for _, followed in follows})
    evidence = math.log(max(popular, 1) / standards.luck)
    of_others = sum(fan in own and followed != creator_id for fan, followed in follows)
    all_others = sum(followed != creator_id for _, followed in follows)
    found = []
    for other in others:
        theirs = fans(follows, other)
        common = len(own & theirs)
        if common < standards.least_common:
            continue
        cosine_squared = standards.least_cosine * standards.least_cosine
        if common * common < cosine_squared * (len(own) * len(theirs)):
            continue
        by_chance = len(theirs) * (of_others / all_others)
        doubtful = standards.least_lift * by_chance
        if common > doubtful and common * math.log(common / doubtful) - common + doubtful >= evidence:
            score = common * common / len(theirs)  # cosine squared, times the creator's fans
            found.append((-score, other, SimilarCreator(other, common, len(theirs), common / by_chance)))
    return [one for _, _, one in sorted(found, key=lambda one: one[:2])[:most]]
