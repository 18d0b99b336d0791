"""Audiences of several creators side by side: what they share, and what is reached or won already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from pyroaring import BitMap


@dataclass(frozen=True, slots=True)
class Crowd:
    """How many viewers an audience has.

    Attributes:
        viewers: in all.
        only_here: in none of the others.
        reached: who saw an ad of the asking creator lately.
        own_fans: who follow the asking creator already.
    """

    viewers: int
    only_here: int
    reached: int
    own_fans: int


@dataclass(frozen=True, slots=True)
class Overlap:
    """Several audiences compared.

    Attributes:
        each: by position.
        shared: viewers in both of two, by their positions, the lower first.
        together: all as one; `only_here` is everybody.
    """

    each: tuple[Crowd, ...]
    shared: dict[tuple[int, int], int]
    together: Crowd


def compare(audiences: Sequence[BitMap], reached: BitMap, own_fans: BitMap) -> Overlap:
    """Compare audiences (rows), of at least one creator, for a campaign of a creator who reached and won these rows."""
    each = []
    for place, rows in enumerate(audiences):
        others = BitMap.union(BitMap(), *(other for k, other in enumerate(audiences) if k != place))
        each.append(_crowd(rows, len(rows - others), reached, own_fans))
    together = BitMap.union(BitMap(), *audiences)
    pairs = combinations(range(len(audiences)), 2)
    shared = {(a, b): audiences[a].intersection_cardinality(audiences[b]) for a, b in pairs}
    return Overlap(tuple(each), shared, _crowd(together, len(together), reached, own_fans))


def _crowd(rows: BitMap, only_here: int, reached: BitMap, own_fans: BitMap) -> Crowd:
    return Crowd(len(rows), only_here, rows.intersection_cardinality(reached), rows.intersection_cardinality(own_fans))
