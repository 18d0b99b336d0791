"""Arrays that were saved: read back whole, of the kinds that they were written in, or refused with one exception."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import BinaryIO

import numpy as np


def arrays_from(saved: bytes | BinaryIO) -> dict[str, np.ndarray]:
    """All arrays of an npz, given as its bytes or as a file, which is read array by array.

    Raises:
        ValueError: it is no npz, or a damaged one.
    """
    try:
        with np.load(io.BytesIO(saved) if isinstance(saved, bytes) else saved, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except Exception as error:  # zipfile, zlib and numpy have a dozen ways to say that bytes are damaged
        raise ValueError(f"no npz: {type(error).__name__}: {error}") from None


def check_like(arrays: Mapping[str, np.ndarray], model: Mapping[str, np.ndarray]) -> None:
    """Refuse arrays that are not there, or of another dtype or shape than the model's; only the length may differ.

    Raises:
        ValueError: names the first array that differs.
    """
    for name, wanted in model.items():
        found = arrays.get(name)
        if found is None:
            raise ValueError(f"has no {name}")
        same_kind = found.dtype == wanted.dtype or found.dtype.kind == wanted.dtype.kind in "US"
        if not same_kind or found.ndim != wanted.ndim or found.shape[1:] != wanted.shape[1:]:
            raise ValueError(
                f"{name}: {found.dtype} {found.shape}; must be {wanted.dtype} {wanted.shape} but for the length"
            )


def check_numbers(arrays: Mapping[str, np.ndarray]) -> None:
    """Refuse arrays of anything else than whole numbers and fractions.

    Raises:
        ValueError: names the first such array.
    """
    for name, values in arrays.items():
        if values.dtype.kind not in "iuf":
            raise ValueError(f"{name}: {values.dtype}; must be numbers")
