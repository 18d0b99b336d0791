"""What the controller learned, kept in the data folder, so that a restart goes on where it stood."""

from __future__ import annotations

import logging
from pathlib import Path

from pacing.control.pacer import Pacer
from pacing.control.saved import PacerMemory

PACING_FILE = "pacing.bin"

logger = logging.getLogger(__name__)


def keep_pacing(pacer: Pacer, folder: Path, now_ms: int) -> None:
    """Write down what the pacer remembers.

    Raises:
        OSError: it cannot be written.
    """
    pacer.memory(now_ms).save(folder / PACING_FILE)


def take_up_pacing(pacer: Pacer, folder: Path, now_ms: int) -> None:
    """Go on with what was written down; a file that cannot be used is told in the log, and pacing begins anew."""
    path = folder / PACING_FILE
    if not path.exists():
        return
    try:
        pacer.restore(PacerMemory.from_bytes(path.read_bytes(), pacer.memory_layout), now_ms)
    except (OSError, ValueError) as error:
        logger.warning("%s: %s; pacing begins anew", path, error)
