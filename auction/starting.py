"""Says what a start is busy with, where that takes longer than a moment."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from numba.core import event

logger = logging.getLogger(__name__)

QUIET_S = 2.0
"""A shorter step says nothing."""
AGAIN_S = 5.0


class _Compilations(event.Listener):
    """Counts functions that numba compiles; those that it finds in its cache are not told here."""

    def __init__(self) -> None:
        self.done = 0
        self._under_way = 0

    def on_start(self, event: event.Event) -> None:
        """One begins; those that it calls come within."""
        self._under_way += 1

    def on_end(self, event: event.Event) -> None:
        """One is done."""
        self._under_way -= 1
        self.done += 1

    @property
    def is_busy(self) -> bool:
        """Whether one is compiled at this moment."""
        return self._under_way > 0


@contextmanager
def told(step: str, quiet_s: float = QUIET_S, again_s: float = AGAIN_S) -> Iterator[None]:
    """Log, once `quiet_s` have passed and then every `again_s`, that this step of a start is not done yet, and whether
    it waits for compilation."""
    compilations, is_done = _Compilations(), threading.Event()
    began_s = time.monotonic()

    def tell() -> None:
        wait_s = quiet_s
        while not is_done.wait(wait_s):
            elapsed_s = time.monotonic() - began_s
            if compilations.is_busy:
                note = "compiling for this machine, %d functions so far; what is compiled is kept for later starts"
                logger.info(f"%s, %.0f s: {note}", step, elapsed_s, compilations.done)
            else:
                logger.info("%s, %.0f s", step, elapsed_s)
            wait_s = again_s

    teller = threading.Thread(target=tell, name="start", daemon=True)
    with event.install_listener("numba:compile", compilations):
        teller.start()
        try:
            yield
        finally:
            is_done.set()
            teller.join()
