"""Money: exact in text, rounded down from floats, divided only for display."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacing.money import (
    MAX_AMOUNT_MICROS,
    cpm_micros,
    micros_from_float,
    micros_from_floats,
    micros_from_text,
    text_from_micros,
)

amounts = st.integers(-MAX_AMOUNT_MICROS, MAX_AMOUNT_MICROS)


@given(amounts)
def test_text_keeps_every_micro(micros: int) -> None:
    assert micros_from_text(text_from_micros(micros)) == micros


@given(amounts)
def test_text_is_the_decimal_with_two_to_six_places(micros: int) -> None:
    text = text_from_micros(micros)
    assert Decimal(text) * 1_000_000 == micros
    assert 2 <= len(text.partition(".")[2]) <= 6


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not a decimal"),
        ("three", "not a decimal"),
        ("nan", "not a decimal"),
        ("inf", "not a decimal"),
        ("1,5", "not a decimal"),
        ("0.0000001", "six decimals"),
        ("100000000.000001", "outside"),
        ("-100000000.000001", "outside"),
        ("1e30", "outside"),
    ],
)
def test_refused_text_names_the_value_and_why(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as refused:
        micros_from_text(text)
    assert repr(text) in str(refused.value)


@given(st.floats(-MAX_AMOUNT_MICROS, MAX_AMOUNT_MICROS))
def test_floats_round_down_by_less_than_a_micro(value: float) -> None:
    micros = micros_from_float(value)
    assert 0 <= Fraction(value) - micros < 1
    assert micros_from_floats(np.array([value, 0.0])).tolist() == [micros, 0]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, MAX_AMOUNT_MICROS + 1.0, -MAX_AMOUNT_MICROS - 1.0])
def test_floats_that_are_no_amount_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="micros: not a number within"):
        micros_from_float(value)
    with pytest.raises(ValueError, match="micros: not a number within"):
        micros_from_floats(np.array([1.0, value]))


@given(st.integers(0, MAX_AMOUNT_MICROS), st.integers(1, 10**9))
def test_cost_per_thousand_is_rounded_half_up(spend_micros: int, impressions: int) -> None:
    exact = Fraction(1000 * spend_micros, impressions)
    assert cpm_micros(spend_micros, impressions) == math.floor(exact + Fraction(1, 2))


@pytest.mark.parametrize("impressions", [0, -1])
def test_cost_per_thousand_of_no_impressions_is_zero(impressions: int) -> None:
    assert cpm_micros(5_000, impressions) == 0
