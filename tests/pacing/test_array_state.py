"""Saved arrays: damaged bytes and other layouts are refused with one exception."""

from __future__ import annotations

import io
import random

import numpy as np
import pytest

from pacing.array_state import arrays_from, check_like, check_numbers

MODEL = {"ids": np.zeros(2, np.uint64), "sums": np.zeros((2, 3)), "zones": np.array(["UTC"]), "sequence": np.uint64(7)}


def saved(**arrays: object) -> bytes:
    body = io.BytesIO()
    np.savez(body, **arrays)  # type: ignore[arg-type]
    return body.getvalue()


def test_what_was_saved_is_read() -> None:
    arrays = arrays_from(saved(**MODEL))
    assert {name: values.tolist() for name, values in arrays.items()} == {
        name: np.asarray(values).tolist() for name, values in MODEL.items()
    }
    check_like(arrays, {name: np.asarray(values) for name, values in MODEL.items()})
    from_file = arrays_from(io.BytesIO(saved(**MODEL)))
    assert all(np.array_equal(from_file[name], values) for name, values in arrays.items())


@pytest.mark.parametrize("raw", [b"", b"x", b"PK\x03\x04", b"\x93NUMPY\x01\x00", saved(ids=np.zeros(3))[:-30]])
def test_bytes_that_are_no_npz_are_refused(raw: bytes) -> None:
    for given in (raw, io.BytesIO(raw)):
        with pytest.raises(ValueError, match="no npz"):
            arrays_from(given)


def test_no_flipped_byte_brings_anything_but_a_refusal() -> None:
    raw, rng = saved(**MODEL), random.Random(5)
    refused = 0
    for _ in range(600):
        damaged = bytearray(raw)
        for _ in range(rng.randint(1, 4)):
            damaged[rng.randrange(len(raw))] = rng.randrange(256)
        try:
            arrays_from(bytes(damaged))
        except ValueError:
            refused += 1
    assert refused > 100


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"ids": np.zeros(2, np.int32)}, "ids: int32"),
        ({"ids": np.zeros((2, 1), np.uint64)}, r"ids: uint64 \(2, 1\); must be uint64 \(2,\)"),
        ({"sums": np.zeros((2, 2))}, r"sums: float64 \(2, 2\)"),
        ({"zones": np.zeros(1)}, "zones: float64"),
        ({"sequence": np.zeros(1, np.uint64)}, r"sequence: uint64 \(1,\)"),
    ],
)
def test_arrays_of_another_layout_are_named(changes: dict[str, np.ndarray], text: str) -> None:
    model = {name: np.asarray(values) for name, values in MODEL.items()}
    with pytest.raises(ValueError, match=text):
        check_like({**model, **changes}, model)
    with pytest.raises(ValueError, match="has no sums"):
        check_like({"ids": model["ids"]}, model)
    check_like({**model, "ids": np.zeros(9, np.uint64), "zones": np.array(["Asia/Shanghai"])}, model)


def test_numbers_only() -> None:
    check_numbers({"a": np.zeros(1), "b": np.zeros(1, np.uint8)})
    with pytest.raises(ValueError, match="b: complex128; must be numbers"):
        check_numbers({"a": np.zeros(1), "b": np.zeros(1, "c16")})
