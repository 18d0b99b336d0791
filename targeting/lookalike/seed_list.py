"""Lists of viewers' ids as CSV: read as a stream, taken whole or not at all, what is wrong named by its line."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator

import numpy as np

MAX_IDS = 2_000_000
MAX_LINE_BYTES = 256
MAX_NAMED = 20
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_MAX_ID = 2**64 - 1


class RejectedList(ValueError):
    """A list that was not taken, with what is wrong in it.

    Attributes:
        rejects: (line from 1 on, what is wrong), the first MAX_NAMED of them.
        count: how many there are.
    """

    def __init__(self, rejects: list[tuple[int, str]], count: int) -> None:
        self.rejects, self.count = rejects, count
        named = "; ".join(f"line {line}: {reason}" for line, reason in rejects)
        more = f"; and {count - len(rejects)} more" if count > len(rejects) else ""
        super().__init__(f"{count} lines rejected, nothing taken: {named}{more}")


def read_seed_list(chunks: Iterable[bytes]) -> np.ndarray:
    """The ids in the first column of a CSV text, in order, each once.

    The first line may be a heading: one whose first field does not begin with a digit. Empty lines are passed over.
    Fields may stand in double quotes; columns after the first are ignored. No more than a line is held at once.

    Args:
        chunks: the text in pieces of any size, UTF-8 or ASCII.

    Returns:
        u8[n], n >= 1.

    Raises:
        RejectedList: a line holds no id in 1..2^64 - 1, names one again, or is too long; or there are too many ids.
        ValueError: there is no id at all.
    """
    ids, seen = array("Q"), dict[int, int]()
    rejects: list[tuple[int, str]] = []
    count = 0
    for number, line in _lines(chunks):
        field = line.split(b",", 1)[0].strip().strip(b'"').strip()
        if not line.strip() or (number == 1 and not field[:1].isdigit()):
            continue
        reason = _wrong(line, field, seen)
        if reason is None and len(ids) >= MAX_IDS:
            rejects.append((number, f"more than {MAX_IDS} ids"))
            count += 1
            break
        if reason is None:
            seen[int(field)] = number
            ids.append(int(field))
            continue
        count += 1
        if len(rejects) < MAX_NAMED:
            rejects.append((number, reason))
    if count:
        raise RejectedList(rejects, count)
    if not ids:
        raise ValueError("list of ids: empty; must hold at least one id")
    return np.array(ids, np.uint64)


def _wrong(line: bytes, field: bytes, seen: dict[int, int]) -> str | None:
    if len(line) > MAX_LINE_BYTES:
        return f"longer than {MAX_LINE_BYTES} bytes"
    shown = field[:24].decode("utf-8", "replace")
    if not field.isdigit() or not 1 <= int(field) <= _MAX_ID:
        return f"{shown!r} is no id in 1..{_MAX_ID}"
    if int(field) in seen:
        return f"{shown} stands in line {seen[int(field)]} already"
    return None


def _lines(chunks: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Lines with their numbers; of one that is too long, just its beginning."""
    number, rest = 1, b""
    is_first = True
    for chunk in chunks:
        pieces = (rest + chunk).split(b"\n")
        rest = pieces.pop()[: MAX_LINE_BYTES + 1]
        for piece in pieces:
            yield number, piece.removeprefix(_BYTE_ORDER_MARK) if is_first else piece
            is_first = False
            number += 1
    if rest:
        yield number, rest.removeprefix(_BYTE_ORDER_MARK) if is_first else rest
