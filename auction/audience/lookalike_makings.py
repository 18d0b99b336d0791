"""Which lookalike is being made, how far it is, and what became of those before."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from auction.status import Refused, refusal_of
from protos import audience_pb2 as pb

REMEMBERED = 1_000
"""Segments whose last making is remembered; the one that was asked for longest ago is forgotten first."""

Tell = Callable[[float], None]
"""Takes the share, of 1, that is done."""
Make = Callable[[Tell], pb.PutLookalikeResponse]


class LookalikeBusy(Exception):
    """Another lookalike is being made."""


@dataclass(slots=True)
class _Making:
    share: float = 0.0
    made: pb.PutLookalikeResponse | None = None
    refused: Refused | None = None

    def tell(self, share: float) -> None:
        self.share = max(self.share, min(share, 1.0))


class LookalikeMakings:
    """Has one lookalike made at a time. Any thread may call; nothing outlives the process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_busy = False
        self._of: dict[str, _Making] = {}  # by segment, in the order in which they were asked for

    def run(self, segment_id: str, make: Make, in_background: bool) -> pb.PutLookalikeResponse:
        """Have it made, here; or on a thread of its own, and answer at once with nothing in it.

        Raises:
            LookalikeBusy: another one is being made.
            Exception: what `make` raises, here.
        """
        with self._lock:
            if self._is_busy:
                raise LookalikeBusy
            self._is_busy = True
            self._of.pop(segment_id, None)
            making = self._of[segment_id] = _Making()
            if len(self._of) > REMEMBERED:
                del self._of[next(iter(self._of))]
        if not in_background:
            return self._make(making, make)
        apart = threading.Thread(target=self._make_apart, args=(making, make), name="lookalike", daemon=True)
        try:
            apart.start()
        except RuntimeError as error:  # the system has no thread to give
            self._failed(making, error)
            raise
        return pb.PutLookalikeResponse()

    def told(self, segment_id: str) -> pb.GetLookalikeResponse | None:
        """How far it is, or what became of it; None: it was not asked for, or that is forgotten."""
        with self._lock:
            making = self._of.get(segment_id)
            if making is None:
                return None
            answer = pb.GetLookalikeResponse(
                state=pb.LOOKALIKE_STATE_MAKING, done_percent=int(100 * making.share), made=making.made
            )
            if making.made is not None:
                answer.state, answer.done_percent = pb.LOOKALIKE_STATE_MADE, 100
            elif making.refused is not None:
                answer.state, answer.error = pb.LOOKALIKE_STATE_FAILED, making.refused.message
            return answer

    def _make(self, making: _Making, make: Make) -> pb.PutLookalikeResponse:
        try:
            made = make(making.tell)
        except Exception as error:
            self._failed(making, error)
            raise
        with self._lock:
            making.made, self._is_busy = made, False
        return made

    def _failed(self, making: _Making, error: Exception) -> None:
        with self._lock:
            making.refused, self._is_busy = refusal_of(error), False

    def _make_apart(self, making: _Making, make: Make) -> None:
        try:
            self._make(making, make)
        except Exception:
            return  # who asks is told, and the log has what was no caller's fault
