"""Files of what a server remembers between two starts: arrays under a digest, whole or not there at all.

Everything in them can be had from the ledger again, only slower; so a file that is missing, cut short or altered is
passed over.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pacing.durable import whole_file

_MAGIC = b"fanbid\x00S"
_DIGEST_BYTES = 32
_HEAD_BYTES = len(_MAGIC) + _DIGEST_BYTES + 8


def write_state(path: Path, kind: str, state: Mapping[str, np.ndarray]) -> None:
    """Write arrays of plain numbers to `path`; a crash leaves the old file or the new one.

    Args:
        kind: what is in them, and its version; `read_state` must name the same.
    """
    columns = {name: [values.dtype.str, list(values.shape)] for name, values in state.items()}
    head = json.dumps({"kind": kind, "arrays": columns}).encode()
    pieces = [len(head).to_bytes(8, "little"), head, *(values.tobytes() for values in state.values())]
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for piece in pieces:
        digest.update(piece)
    with whole_file(path) as file:
        file.write(_MAGIC + digest.digest())
        file.writelines(pieces)


def read_state(path: Path, kind: str) -> dict[str, np.ndarray] | None:
    """The arrays that `write_state` wrote, read only; None: there are none, or not those that were written."""
    try:
        raw = memoryview(path.read_bytes())
    except OSError:
        return None
    body = raw[len(_MAGIC) + _DIGEST_BYTES :]
    if len(raw) < _HEAD_BYTES or raw[: len(_MAGIC)] != _MAGIC:
        return None
    if hashlib.blake2b(body, digest_size=_DIGEST_BYTES).digest() != raw[len(_MAGIC) : len(_MAGIC) + _DIGEST_BYTES]:
        return None
    end = 8 + int.from_bytes(body[:8], "little")
    head = json.loads(bytes(body[8:end]))
    if head["kind"] != kind:
        return None
    state = {}
    for name, (dtype, shape) in head["arrays"].items():
        count = int(np.prod(shape, dtype=np.int64))
        state[name] = np.frombuffer(body, dtype, count, end).reshape(shape)
        end += state[name].nbytes
    return state
