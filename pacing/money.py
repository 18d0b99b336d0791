"""Money is a whole number of micros (millionths of the deployment's currency), held in int64.

A float never becomes money except through `micros_from_float` and its array form, and money is never divided except by
`cpm_micros`, at the edge, for display.
"""

from __future__ import annotations

import math
from decimal import Decimal, InvalidOperation

import numpy as np
import numpy.typing as npt

MICROS_PER_UNIT = 1_000_000

MAX_AMOUNT_MICROS = 10**14
"""The largest amount that any account, budget or request may carry: 100 million units.

It stays below 2**53, so that a Lua number and a JSON number hold it exactly, and 90,000 such amounts still fit an
int64.
"""

MAX_PRICE_MICROS = 10**10
"""The largest bid or clearing price of one impression: 10,000 units."""


def micros_from_float(value: float) -> int:
    """Round a float amount in micros down to whole micros; the one place where a float turns into money.

    Down, so that a bid never exceeds the worth that it was computed from.

    Raises:
        ValueError: `value` is not finite, or lies outside +-MAX_AMOUNT_MICROS.
    """
    if not math.isfinite(value) or abs(value) > MAX_AMOUNT_MICROS:
        raise ValueError(f"amount {value!r} micros: not a number within +-{MAX_AMOUNT_MICROS}")
    return math.floor(value)


def micros_from_floats(values: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """`micros_from_float` of f8[n] amounts, as i8[n].

    Raises:
        ValueError: one is not finite, or lies outside +-MAX_AMOUNT_MICROS.
    """
    wrong = ~(np.abs(values) <= MAX_AMOUNT_MICROS)
    if wrong.any():
        raise ValueError(f"amount {float(values[wrong][0])!r} micros: not a number within +-{MAX_AMOUNT_MICROS}")
    return np.floor(values).astype(np.int64)


def micros_from_text(text: str) -> int:
    """Parse a decimal amount of currency units ("3", "3.25") into micros, exactly.

    Raises:
        ValueError: `text` is not a decimal number, has more than six decimals, or is out of range.
    """
    try:
        micros = Decimal(text.strip()) * MICROS_PER_UNIT
        whole = int(micros)
    except (InvalidOperation, ValueError, OverflowError):
        raise ValueError(f"amount {text!r}: not a decimal number") from None
    if whole != micros:
        raise ValueError(f"amount {text!r}: more than six decimals")
    if abs(whole) > MAX_AMOUNT_MICROS:
        raise ValueError(f"amount {text!r}: outside +-{MAX_AMOUNT_MICROS // MICROS_PER_UNIT} units")
    return whole


def text_from_micros(micros: int) -> str:
    """Write micros as currency units with two to six decimals ("3.00", "0.000125"), exactly."""
    sign = "-" if micros < 0 else ""
    units, rest = divmod(abs(micros), MICROS_PER_UNIT)
    decimals = f"{rest:06d}".rstrip("0").ljust(2, "0")
    return f"{sign}{units}.{decimals}"


def cpm_micros(spend_micros: int, impressions: int) -> int:
    """Cost per thousand impressions for display, in micros, rounded half up; 0 without impressions."""
    if impressions <= 0:
        return 0
    return (2000 * spend_micros + impressions) // (2 * impressions)
