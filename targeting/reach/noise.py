"""Noise on a count, so that it does not tell of any one viewer.

After Dwork, McSherry, Nissim and Smith, "Calibrating noise to sensitivity in private data analysis" (2006).

Theorem 1 there: an answer that one viewer moves by at most 1, plus Laplace noise of scale b, is (1/b)-differentially
private. Here b is SCALE, so each answer costs EPSILON. Rounding what is already noisy costs nothing more.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b

import numpy as np

from targeting.expressions import Clause, tidied
from targeting.reach.absorption import absorbed
from targeting.reach.counter import Reach

SCALE = 20.0
"""Of the noise, in viewers."""
EPSILON = 1.0 / SCALE
"""How much more likely, as a factor's logarithm, one viewer can make any answer."""
_SPREAD = math.ceil(SCALE * math.log(20.0))
"""19 in 20 draws are no further from 0 than this."""
DRAW_BYTES = 8
_DRAW_BITS = 52
"""Of a draw, that count: with them a draw is in the middle of its step of a float's 53, and never 0 or 1."""


def keyed(key: bytes, purpose: bytes, text: bytes, size: int) -> bytes:
    """`size` bytes for a text that nobody without the key can tell from random ones; others for another purpose."""
    return blake2b(text, key=key, person=purpose, digest_size=size).digest()


def digest_of_ids(viewer_ids: np.ndarray) -> bytes:
    """16 bytes that stand for who is in a list (u8[n] ids), in whatever order."""
    return blake2b(np.sort(viewer_ids).tobytes(), digest_size=16).digest()


def laplace(draw: bytes) -> float:
    """The Laplace variable of mean 0 and scale SCALE that belongs to 8 random bytes, by inversion."""
    step = int.from_bytes(draw[:DRAW_BYTES], "big") >> (8 * DRAW_BYTES - _DRAW_BITS)
    from_half = (step + 0.5) / 2**_DRAW_BITS - 0.5
    return SCALE * math.copysign(math.log1p(-2.0 * abs(from_half)), from_half)


def noisy(count: int, draw: bytes) -> Reach:
    """The count with the noise of these 8 random bytes on it, off by no more than `error` 19 times in 20.

    Rounded to whole viewers at once, as the low bits of a float would tell what it was computed from.
    """
    return Reach(max(round(count + laplace(draw)), 0), _SPREAD)


def canonical(clauses: Sequence[Clause], stand_in: Callable[[str], str]) -> bytes:
    """A text of the alternatives that does not depend on the order in which anything was written.

    Alternatives that add nobody are left out (`targeting.reach.absorption`). Two texts may still mean the same.

    Args:
        stand_in: what stands for a segment, by its name; so a list can be told by who is in it.
    """

    def stood_in(names: Iterable[str]) -> frozenset[str]:
        return frozenset(map(stand_in, names))

    named = [
        Clause(clause.allowed, tuple(map(stood_in, clause.groups)), stood_in(clause.excluded)) for clause in clauses
    ]
    texts = {
        json.dumps(
            [
                sorted([int(dimension), sorted(codes)] for dimension, codes in clause.allowed.items()),
                sorted(map(sorted, clause.groups)),
                sorted(clause.excluded),
            ]
        )
        for clause in absorbed(list(filter(None, map(tidied, named))))
    }
    return "\n".join(sorted(texts)).encode()
