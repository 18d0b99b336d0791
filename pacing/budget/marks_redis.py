"""How far an owner's ledger was judged, and when, by the clock of Redis: a server's own may have been set."""

from __future__ import annotations

from pacing.budget.scripts_redis import MARK
from pacing.budget.store import JudgedMark
from pacing.redis_link import Command

MARKS_KEPT_MS = 3 * 3_600_000


def _marks_key(owner_id: int) -> str:
    return f"fanbid:marks:{owner_id}"


def mark_call(owner_id: int, judged_sequence: int | None) -> Command:
    """The command that tells an owner's marks and, unless `judged_sequence` is None, sets one more."""
    sequence = "" if judged_sequence is None else judged_sequence
    return MARK.call([_marks_key(owner_id)], [sequence, MARKS_KEPT_MS])


def marks_from(answer: list[int]) -> list[JudgedMark]:
    """What mark.lua answers."""
    return [JudgedMark(*pair) for pair in zip(answer[::2], answer[1::2], strict=True)]
