from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from pyroaring import BitMap

from targeting.reach.overlap import Crowd, compare

rows = st.frozensets(st.integers(0, 12))


@given(st.lists(rows, min_size=1, max_size=4), rows, rows)
def test_overlap_as_of_plain_sets(
    audiences: list[frozenset[int]], reached: frozenset[int], fans: frozenset[int]
) -> None:
    found = compare([BitMap(of) for of in audiences], BitMap(reached), BitMap(fans))
    for place, of in enumerate(audiences):
        others = frozenset().union(*(other for k, other in enumerate(audiences) if k != place))
        assert found.each[place] == Crowd(len(of), len(of - others), len(of & reached), len(of & fans))
    places = range(len(audiences))
    assert found.shared == {(a, b): len(audiences[a] & audiences[b]) for a in places for b in places if a < b}
    union = frozenset().union(*audiences)
    assert found.together == Crowd(len(union), len(union), len(union & reached), len(union & fans))
