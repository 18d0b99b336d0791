from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from targeting.attributes import CARDINALITIES, DIMENSION_COUNT, INTEREST_COUNT, Dimension
from targeting.expression_json import from_json, to_json
from targeting.expressions import (
    EVERYBODY,
    MAX_CLAUSES,
    MAX_CODES,
    MAX_CREATOR_ID,
    MAX_CREATORS,
    MAX_DEPTH,
    MAX_NODES,
    All,
    Any,
    Attribute,
    Expression,
    FansOf,
    FriendsOfFans,
    Interests,
    Not,
    Segment,
    ViewerFacts,
    check_segment_name,
    compile_clauses,
    matches,
    own_segments,
)
from targeting.match.reference import matching_campaigns
from targeting.validation import validate
from tests.targeting.audiences import CREATORS, expressions, mask_of, viewers

REGION = Dimension.REGION
NOBODY_KNOWN = ViewerFacts((0,) * DIMENSION_COUNT, frozenset(), frozenset())


def nested(depth: int) -> Expression:
    node: Expression = Segment("x")
    for _ in range(depth - 1):
        node = Not(node)
    return node


@settings(max_examples=150)
@given(expressions(max_leaves=10), viewers(), st.sampled_from(CREATORS), st.booleans())
def test_clauses_mean_what_the_expression_means(
    expression: Expression, viewer: ViewerFacts, creator_id: int, include_fans: bool
) -> None:
    clauses = compile_clauses(expression, creator_id, include_fans)
    assert len(clauses) <= MAX_CLAUSES
    wanted = include_fans or not own_segments(creator_id) & viewer.segments
    found = matching_campaigns([clauses], viewer.codes, mask_of(viewer), viewer.segments)
    assert (found == [0]) is (wanted and matches(expression, viewer, creator_id))


@settings(max_examples=150)
@given(expressions(max_leaves=10))
def test_json_and_back(expression: Expression) -> None:
    assert from_json(json.loads(json.dumps(to_json(expression)))) == expression
    assert validate(expression) is expression


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        "all",
        3,
        {"any": 3},
        {"all": [{"any": None}]},
        {"not": {}},
        {"attribute": "moon", "codes": [1]},
        {"attribute": "region"},
        {"attribute": "region", "codes": ["x"]},
        {"attribute": 3, "codes": [1]},
        {"interests": [None]},
        {"fans_of": {"a": 1}},
        {"friends_of_fans": False},
        {"fans_of_similar_creators": False},
    ],
)
def test_other_json_is_refused(value: object) -> None:
    with pytest.raises(ValueError):
        from_json(value)


def test_deep_json_is_refused() -> None:
    value: dict[str, object] = {"segment": "x"}
    for _ in range(100_000):
        value = {"not": value}
    with pytest.raises(ValueError):
        from_json(value)
    while isinstance(inner := value.get("not"), dict):  # taken apart here: freed whole, it would be a deep recursion
        value = inner


def test_meaning_of_what_is_not_known() -> None:
    assert matches(EVERYBODY, NOBODY_KNOWN, 1)
    assert not matches(Any(()), NOBODY_KNOWN, 1)
    assert matches(Attribute(REGION, (0, 4)), NOBODY_KNOWN, 1)
    assert matches(Not(Attribute(REGION, (4,))), NOBODY_KNOWN, 1)
    assert not matches(Not(Attribute(REGION, (0,))), NOBODY_KNOWN, 1)
    assert matches(Not(Any((Interests((1,)), Segment("x"), FansOf((2,)), FriendsOfFans()))), NOBODY_KNOWN, 1)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        (Any(()), "targeting.any: empty"),
        (All((EVERYBODY, Any(()))), r"targeting\.all\[1\]\.any: empty"),
        (Attribute(REGION, ()), r"targeting\.attribute\.codes: 0 given; must be 1 to 256"),
        (Attribute(REGION, (512,)), r"targeting\.attribute\.codes\[0\] 512: not in 0\.\.511"),
        (Attribute(REGION, (1, -1)), r"targeting\.attribute\.codes\[1\] -1: not in 0\.\.511"),
        (Attribute(REGION, (True,)), "True: not in"),
        (Attribute(REGION, (1.5,)), "1.5: not in"),  # type: ignore[arg-type]
        (Attribute(REGION, tuple(range(MAX_CODES + 1))), "257 given"),
        (Attribute(9, (1,)), "targeting.attribute.dimension 9: not in 1..8"),  # type: ignore[arg-type]
        (Interests(()), r"targeting\.interests: 0 given"),
        (Interests((INTEREST_COUNT,)), r"targeting\.interests\[0\] 64: not in 0\.\.63"),
        (Not(Segment("no such name!")), r"targeting\.none\.segment\S* .*'no such name!'"),
        (Segment(""), "must be 1 to 64 of"),
        (Segment("x" * 65), "must be 1 to 64 of"),
        (Segment("x\n"), "must be 1 to 64 of"),
        (FansOf((0,)), r"targeting.fans_of\[0\] 0: not in 1\.\."),
        (FansOf((MAX_CREATOR_ID + 1,)), "not in 1"),
        (FansOf(tuple(range(1, MAX_CREATORS + 2))), "17 given; must be 1 to 16"),
        (nested(MAX_DEPTH + 1), f"at depth {MAX_DEPTH + 1}; at most {MAX_DEPTH}"),
        (nested(5000), f"at depth {MAX_DEPTH + 1}"),
        (All((Segment("x"),) * MAX_NODES), f"more than {MAX_NODES} nodes"),
    ],
)
def test_what_is_not_allowed_is_named(expression: Expression, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        validate(expression)


@pytest.mark.parametrize(
    "expression",
    [
        EVERYBODY,
        nested(MAX_DEPTH),
        All((Segment("x"),) * (MAX_NODES - 1)),
        Attribute(REGION, tuple(range(MAX_CODES))),
        Interests(tuple(range(INTEREST_COUNT))),
        FansOf(tuple(range(1, MAX_CREATORS + 1))),
        FansOf((MAX_CREATOR_ID,)),
        Segment("a-z_0.9:" * 8),
        *(Attribute(dimension, (CARDINALITIES[dimension] - 1,)) for dimension in Dimension),
    ],
)
def test_limits_themselves_are_allowed(expression: Expression) -> None:
    assert validate(expression) == expression


@pytest.mark.parametrize("name", [3, None, b"x", "A", "ü"])
def test_names_that_are_none(name: object) -> None:
    with pytest.raises(ValueError, match="segment_id"):
        check_segment_name(name)  # type: ignore[arg-type]


def pairs_of_segments(count: int) -> Expression:
    return All(tuple(Any((Segment(f"a{k}"), Attribute(REGION, (k + 1, 100)))) for k in range(count)))


def test_alternatives_are_limited() -> None:
    assert len(compile_clauses(pairs_of_segments(6), 1, True)) == MAX_CLAUSES
    with pytest.raises(ValueError, match="128 alternatives once multiplied out; at most 64"):
        compile_clauses(pairs_of_segments(7), 1, True)
    with pytest.raises(ValueError, match="65 alternatives"):
        compile_clauses(Any((pairs_of_segments(6), Segment("x"))), 1, True)


def test_alternatives_that_one_clause_can_say_are_one() -> None:
    (clause,) = compile_clauses(Any(tuple(Segment(f"s{k}") for k in range(60))), 1, True)
    assert clause.groups == (frozenset(f"s{k}" for k in range(60)),)
    (clause,) = compile_clauses(Any((Attribute(REGION, (1, 2)), Attribute(REGION, (2, 3)))), 1, True)
    assert clause.allowed == {REGION: {1, 2, 3}}
    assert compile_clauses(Any((Segment("x"), EVERYBODY)), 1, True) == compile_clauses(EVERYBODY, 1, True)
    genders = tuple(Attribute(Dimension.GENDER, (code,)) for code in range(4))
    assert compile_clauses(Any((Segment("x"), *genders)), 1, True) == compile_clauses(EVERYBODY, 1, True)


def test_interests_are_no_segments() -> None:
    with pytest.raises(ValueError, match="interest:3"):
        validate(Segment("interest:3"))


def test_negated_alternatives_are_a_conjunction() -> None:
    many = Not(Any(tuple(Segment(f"s{k}") for k in range(60))))
    (clause,) = compile_clauses(many, 1, True)
    assert clause.excluded == {f"s{k}" for k in range(60)}


@pytest.mark.parametrize(
    "expression",
    [
        Any(()),
        Not(EVERYBODY),
        All((Attribute(REGION, (1,)), Attribute(REGION, (2,)))),
        All((Segment("x"), Not(Segment("x")))),
        Not(Attribute(Dimension.GENDER, (0, 1, 2, 3))),
        All((Interests((1, 2)), Not(Interests((1, 2, 3))))),
    ],
)
def test_what_holds_nobody_has_no_clause(expression: Expression) -> None:
    assert compile_clauses(expression, 1, True) == ()


def test_fans_of_their_own_creator_are_left_out_even_if_named() -> None:
    assert compile_clauses(FansOf((1,)), 1, False) == ()
    (clause,) = compile_clauses(FansOf((1, 2)), 1, False)
    assert clause.groups == (frozenset({"fans:2"}),)
    assert clause.excluded == {"fans:1", "members:1"}
