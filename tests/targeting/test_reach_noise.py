"""The noise on counts: of the law that it is said to be of, and of a text that the order of writing does not change."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from targeting.attributes import Dimension
from targeting.expressions import (
    All,
    Any,
    Attribute,
    Clause,
    Expression,
    Not,
    Segment,
    ViewerFacts,
    compile_clauses,
    interest_segment,
    matches,
)
from targeting.reach.absorption import absorbed
from targeting.reach.noise import EPSILON, SCALE, canonical, laplace, noisy
from tests.targeting.audiences import CREATORS, expressions, viewers


def share_below(x: float) -> float:
    """Laplace's law."""
    return 0.5 * math.exp(x / SCALE) if x < 0 else 1.0 - 0.5 * math.exp(-x / SCALE)


def draws(count: int, seed: int) -> list[bytes]:
    drawn = np.random.default_rng(seed).bytes(8 * count)
    return [drawn[i : i + 8] for i in range(0, len(drawn), 8)]


def test_draws_follow_laplaces_law() -> None:
    found = np.sort([laplace(draw) for draw in draws(20_000, 1)])
    for x in (-60.0, -20.0, -5.0, 0.0, 10.0, 40.0):
        assert abs(np.searchsorted(found, x) / len(found) - share_below(x)) < 0.02


@given(st.binary(min_size=8, max_size=16))
def test_any_bytes_give_a_finite_draw(draw: bytes) -> None:
    assert abs(laplace(draw)) < SCALE * 70


@pytest.mark.parametrize("count", [0, 500])
def test_one_viewer_changes_no_answers_odds_by_more_than_epsilon(count: int) -> None:
    def odds(told: int, of: int) -> float:
        """Of telling this whole number."""
        below = share_below(told + 0.5 - of)
        return below if told == 0 else below - share_below(told - 0.5 - of)

    for told in range(max(count - 200, 0), count + 200):
        assert abs(math.log(odds(told, count) / odds(told, count + 1))) <= EPSILON * (1 + 1e-6)


def test_a_range_holds_the_number_most_often_and_is_rounded() -> None:
    ranges = [noisy(1_234, draw).as_range(10_000) for draw in draws(4_000, 2)]
    assert np.mean([low <= 1_234 <= high for low, high in ranges]) > 0.94
    assert all(low % 10 == high % 10 == 0 for low, high in ranges)
    assert noisy(0, bytes(8)).as_range(10_000)[0] == 0


def test_the_order_of_writing_does_not_change_the_text() -> None:
    young, a, b = Attribute(Dimension.AGE_BAND, (2, 3)), Segment("a"), Segment("b")
    one = All((young, Any((a, b)), Not(Segment("c"))))
    other = All((Not(Any((Segment("c"), Segment("c")))), Any((b, a, b)), Attribute(Dimension.AGE_BAND, (3, 2))))

    def text(expression: Expression, **names: str) -> bytes:
        return canonical(compile_clauses(expression, 7, False), lambda name: names.get(name, name))

    assert text(one) == text(other)
    assert text(one) != text(All((young, Any((a, b)))))
    assert text(one, a="same", b="same") != text(one)
    assert text(All((young, a)), a="same") == text(All((young, b)), b="same")


def test_alternatives_that_add_nobody_do_not_change_the_text() -> None:
    young, a, b, c = Attribute(Dimension.AGE_BAND, (2, 3)), Segment("a"), Segment("b"), Segment("c")

    def text(expression: Expression, **names: str) -> bytes:
        return canonical(compile_clauses(expression, 7, False), lambda name: names.get(name, name))

    base = All((young, Any((a, b)), Not(c)))
    for more in (young, Segment("d"), Not(Segment("d")), Attribute(Dimension.AGE_BAND, (3,)), a):
        assert text(Any((base, All((base, more))))) == text(Any((All((more, base)), base))) == text(base)
    assert text(Any((base, All((a, Segment("d")))))) != text(base)
    assert text(Any((a, All((b, young)))), b="a") == text(a)
    assert text(Any((a, All((b, Not(c))))), b="c") == text(a), "who is in b is in c: nobody"


@settings(max_examples=60)
@given(expressions(), st.lists(viewers(), min_size=1, max_size=8), st.sampled_from(CREATORS))
def test_what_is_absorbed_leaves_the_same_viewers(
    expression: Expression, several: list[ViewerFacts], creator_id: int
) -> None:
    clauses = compile_clauses(expression, creator_id, True)
    kept = absorbed(clauses)
    assert len(kept) <= len(clauses)
    for viewer in several:
        assert any(holds(clause, viewer) for clause in kept) is matches(expression, viewer, creator_id)


def holds(clause: Clause, viewer: ViewerFacts) -> bool:
    member_of = viewer.segments | {interest_segment(code) for code in viewer.interests}
    return (
        all(viewer.codes[dimension] in codes for dimension, codes in clause.allowed.items())
        and all(group & member_of for group in clause.groups)
        and not clause.excluded & member_of
    )
