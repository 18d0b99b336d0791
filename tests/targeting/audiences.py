"""Random audiences and viewers for the targeting tests."""

from __future__ import annotations

from hypothesis import strategies as st

from targeting.attributes import CARDINALITIES, INTEREST_COUNT, Dimension
from targeting.content import tag_segment
from targeting.expressions import (
    All,
    Any,
    Attribute,
    Content,
    Expression,
    FansOf,
    FansOfSimilarCreators,
    FriendsOfFans,
    Interests,
    LiveVisitorsOf,
    Not,
    Segment,
    ViewerFacts,
    ViewersOf,
    fans_segment,
    laotie_segment,
    live_segment,
    members_segment,
    similar_segment,
    viewers_segment,
)

CREATORS = (1, 2, 2**64 - 1)
SEGMENTS = ("vip", "tier:active:1", "a", "b", "c")
_OF_CREATORS = (fans_segment, members_segment, laotie_segment, similar_segment, viewers_segment, live_segment)
TAGS = ("keyword:dance", "bgm:夜曲", "visual:sunset")
NAMES = (
    *SEGMENTS,
    *(tag_segment(tag, level) for tag in TAGS for level in (1, 5, 10)),
    *(named(c) for c in CREATORS for named in _OF_CREATORS),
)
LIKELY_CODES = 4  # codes are drawn low, so that audiences and viewers meet


def codes_of(dimension: Dimension) -> st.SearchStrategy[int]:
    top = CARDINALITIES[dimension] - 1
    return st.one_of(st.integers(0, min(top, LIKELY_CODES - 1)), st.integers(0, top))


def attributes() -> st.SearchStrategy[Expression]:
    return st.sampled_from(Dimension).flatmap(
        lambda dimension: st.builds(
            Attribute,
            st.just(dimension),
            st.lists(codes_of(dimension), min_size=1, max_size=6).map(tuple),
        )
    )


def interest_codes() -> st.SearchStrategy[int]:
    return st.one_of(st.integers(0, 3), st.integers(0, INTEREST_COUNT - 1))


def leaves() -> st.SearchStrategy[Expression]:
    return st.one_of(
        attributes(),
        st.builds(Interests, st.lists(interest_codes(), min_size=1, max_size=4).map(tuple)),
        st.builds(Segment, st.sampled_from(SEGMENTS)),
        st.sampled_from((FansOf, ViewersOf, LiveVisitorsOf)).flatmap(
            lambda node: st.builds(node, st.lists(st.sampled_from(CREATORS), min_size=1, max_size=3).map(tuple))
        ),
        st.builds(
            Content, st.lists(st.sampled_from(TAGS), min_size=1, max_size=3, unique=True).map(tuple), st.integers(1, 10)
        ),
        st.builds(FriendsOfFans),
        st.builds(FansOfSimilarCreators),
    )


def _branches(parts: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    return st.one_of(
        st.builds(All, st.lists(parts, max_size=3).map(tuple)),
        st.builds(Any, st.lists(parts, min_size=1, max_size=3).map(tuple)),
        st.builds(Not, parts),
    )


def expressions(max_leaves: int = 6) -> st.SearchStrategy[Expression]:
    return st.recursive(leaves(), _branches, max_leaves=max_leaves)


def viewers() -> st.SearchStrategy[ViewerFacts]:
    return st.builds(
        ViewerFacts,
        st.tuples(*(codes_of(dimension) for dimension in Dimension)),
        st.frozensets(interest_codes(), max_size=6),
        st.frozensets(st.sampled_from(NAMES), max_size=6),
    )


def mask_of(facts: ViewerFacts) -> int:
    return sum(1 << code for code in facts.interests)
