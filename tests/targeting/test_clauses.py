from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from targeting.attributes import CARDINALITIES, Dimension
from targeting.expressions import (
    EVERYBODY,
    MAX_CLAUSES,
    All,
    Any,
    Attribute,
    Clause,
    Expression,
    FansOf,
    FriendsOfFans,
    Interests,
    Not,
    Segment,
    ViewerFacts,
    compile_clauses,
    matches,
    own_segments,
)
from targeting.match.reference import matching_campaigns
from tests.targeting.audiences import CREATORS, expressions, mask_of, viewers

AGE = Dimension.AGE_BAND


@settings(max_examples=200)
@given(expressions(max_leaves=10), viewers(), st.sampled_from(CREATORS), st.booleans())
def test_clauses_mean_what_the_expression_means(
    expression: Expression, facts: ViewerFacts, creator_id: int, include_fans: bool
) -> None:
    meant = matches(expression, facts, creator_id) and (include_fans or not own_segments(creator_id) & facts.segments)
    try:
        clauses = compile_clauses(expression, creator_id, include_fans)
    except ValueError as refused:
        assert str(MAX_CLAUSES) in str(refused)
        return
    assert len(clauses) <= MAX_CLAUSES
    found = matching_campaigns([clauses], facts.codes, mask_of(facts), facts.segments)
    assert found == ([0] if meant else [])


def test_not_an_attribute_holds_those_of_whom_nothing_is_known() -> None:
    (clause,) = compile_clauses(Not(Attribute(AGE, (1,))), 1, True)
    assert clause.allowed == {AGE: frozenset(range(CARDINALITIES[AGE])) - {1}}


def test_alternatives_that_one_clause_can_say_are_one_clause() -> None:
    either = Any((Segment("a"), Interests((1, 2)), FansOf((7,)), FriendsOfFans()))
    assert compile_clauses(either, 9, True) == (
        Clause({}, (frozenset({"a", "interest:1", "interest:2", "fans:7", "laotie:9"}),), frozenset()),
    )
    ages = Any((Attribute(AGE, (1,)), Attribute(AGE, (2, 3)), Attribute(AGE, (1,))))
    assert compile_clauses(ages, 9, True) == (Clause({AGE: frozenset({1, 2, 3})}, (), frozenset()),)
    assert len(compile_clauses(Any(tuple(Segment(f"s{k}") for k in range(60))), 9, True)) == 1
    assert len(compile_clauses(Any((Attribute(AGE, (1,)), Segment("a"))), 9, True)) == 2


@pytest.mark.parametrize(
    "expression",
    [
        EVERYBODY,
        Any((Segment("a"), EVERYBODY)),
        Any((Attribute(AGE, (1,)), Not(Attribute(AGE, (1,))))),
        Attribute(AGE, tuple(range(8))),
        Not(Not(EVERYBODY)),
    ],
)
def test_everybody_is_one_empty_clause(expression: Expression) -> None:
    assert compile_clauses(expression, 9, True) == (Clause({}, (), frozenset()),)


def test_groups_that_another_one_implies_are_left_out() -> None:
    expression = All((Segment("a"), Any((Segment("a"), Segment("b"))), Segment("a")))
    assert compile_clauses(expression, 9, True) == (Clause({}, (frozenset({"a"}),), frozenset()),)


def test_what_is_excluded_is_not_asked_for() -> None:
    assert compile_clauses(FansOf((8, 9)), 9, False) == (Clause({}, (frozenset({"fans:8"}),), own_segments(9)),)


def test_as_many_alternatives_as_allowed() -> None:
    either = [Any((Attribute(dimension, (1,)), Segment(f"s{dimension}"))) for dimension in list(Dimension)[:7]]
    assert len(compile_clauses(All(tuple(either[:6])), 9, True)) == MAX_CLAUSES
    with pytest.raises(ValueError, match="128 alternatives once multiplied out; at most 64"):
        compile_clauses(All(tuple(either)), 9, True)
