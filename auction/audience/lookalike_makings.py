"""Which lookalike is being made, how far it is, and what became of those before."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

from auction.status import refusal_of

REMEMBERED = 1_000
"""Segments whose last making is remembered; the one that was asked for longest ago is forgotten first."""

Tell = Callable[[float], None]
"""Takes the share, of 1, that is done."""
Make = Callable[[Tell], bytes]
"""Makes a lookalike and keeps it; answers with what is to be told of it, in its wire form."""


class LookalikeBusy(Exception):
    """Another lookalike is being made.

    Attributes:
        segment_id: what it becomes.
    """

    def __init__(self, segment_id: str) -> None:
        super().__init__(segment_id)
        self.segment_id = segment_id


@dataclass(slots=True)
class Making:
    """How far the making of a lookalike is.

    Attributes:
        share: of 1, that is done; only grows.
        made: what `Make` answered for the lookalike that is in force: this one, once it is made, or the one before.
        error: why it failed; empty: it did not.
        is_made: whether it is made.
    """

    share: float = 0.0
    made: bytes | None = None
    error: str = ""
    is_made: bool = False

    def tell(self, share: float) -> None:
        """Note how far it is."""
        self.share = max(self.share, min(share, 1.0))


Keep = Callable[[str, Making], None]
"""Takes what is to outlive the process: a segment, and a making of it that begins or failed."""


class LookalikeMakings:
    """Has one lookalike made at a time. Any thread may call."""

    def __init__(self, keep: Keep) -> None:
        """Give `keep` each making when it begins and when it fails."""
        self._keep = keep
        self._lock = threading.Lock()
        self._under_way = ""  # what becomes of the one that is being made; empty: none is
        self._of: dict[str, Making] = {}  # by segment, in the order in which they were asked for

    def run(self, segment_id: str, make: Make, in_background: bool) -> bytes:
        """Have it made, here; or on a thread of its own, and answer at once, with nothing.

        Raises:
            LookalikeBusy: another one is being made.
            Exception: what `make` raises, here.
        """
        with self._lock:
            if self._under_way:
                raise LookalikeBusy(self._under_way)
            self._under_way = segment_id
            before = self._of.get(segment_id)
            making = Making(made=None if before is None else before.made)
            self._put(segment_id, making)
        if not in_background:
            return self._make(segment_id, making, make)
        apart = threading.Thread(
            target=self._make_apart, args=(segment_id, making, make), name="lookalike", daemon=True
        )
        try:
            apart.start()
        except RuntimeError as error:  # the system has no thread to give
            self._end(making, error=refusal_of(error).message)
            raise
        return b""

    def told(self, segment_id: str) -> Making | None:
        """How far it is, or what became of it, now; None: it was not asked for, or that is forgotten."""
        with self._lock:
            making = self._of.get(segment_id)
            return None if making is None else replace(making)

    def is_under_way(self, segment_id: str) -> bool:
        """Whether the one that is being made becomes this segment."""
        with self._lock:
            return segment_id == self._under_way

    def remember(self, segment_id: str, making: Making) -> None:
        """Know again what `keep` was given."""
        with self._lock:
            self._put(segment_id, making)

    def forget(self, segment_id: str) -> None:
        """The segment is another one now; one that is being made stays known."""
        with self._lock:
            if segment_id != self._under_way:
                self._of.pop(segment_id, None)

    def _put(self, segment_id: str, making: Making) -> None:
        self._of.pop(segment_id, None)
        self._of[segment_id] = making
        if len(self._of) > REMEMBERED:
            del self._of[next(iter(self._of))]

    def _make(self, segment_id: str, making: Making, make: Make) -> bytes:
        try:
            self._keep(segment_id, making)
            made = make(making.tell)
        except Exception as error:
            told = refusal_of(error).message
            with suppress(Exception):  # what cannot be kept is told by this process at least
                self._keep(segment_id, replace(making, error=told))
            self._end(making, error=told)
            raise
        self._end(making, made=made)
        return made

    def _end(self, making: Making, made: bytes | None = None, error: str = "") -> None:
        with self._lock:
            making.error, making.is_made, self._under_way = error, made is not None, ""
            making.made = made or making.made

    def _make_apart(self, segment_id: str, making: Making, make: Make) -> None:
        try:
            self._make(segment_id, making, make)
        except Exception:
            return  # who asks is told, and the log has what was no caller's fault
