"""How far an owner's ledger was judged, minute by minute, as Redis has it: what a new master lacks, lies after that."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pacing.budget.remote import MARKS_KEPT
from pacing.budget.scripts_redis import MARK
from pacing.redis_link import Command


def marks_key(owner_id: int) -> str:
    """Key of an owner's marks, newest first."""
    return f"fanbid:marks:{owner_id}"


def mark_call(owner_id: int, judged_sequence: int) -> Command:
    """The command that sets a mark."""
    return MARK.call([marks_key(owner_id)], [judged_sequence, MARKS_KEPT])


def oldest_mark(owner_id: int) -> Command:
    """The command that reads the oldest mark, where there are as many as are kept."""
    return ("LINDEX", marks_key(owner_id), MARKS_KEPT - 1)


def newest_marks(owner_ids: Iterable[int]) -> list[Command]:
    """The commands that read each owner's newest mark."""
    return [("LINDEX", marks_key(owner_id), 0) for owner_id in owner_ids]


def sequence_of(mark: bytes | None) -> int:
    """The sequence that was judged; 0: no mark."""
    return int(mark.split(b":")[1]) if mark else 0


def newest_at_ms(marks: Sequence[bytes | None]) -> int:
    """When the newest of some marks was set, on Redis's clock; 0: there is none."""
    return max((int(mark.split(b":")[0]) for mark in marks if mark), default=0)
