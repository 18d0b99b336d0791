"""The file by which a program says that it serves, and where: `--ready-file`."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

_LOG = logging.getLogger(__name__)


def new_file(text: str) -> Path:
    """The path of a file that is written only later, told now if that cannot be.

    Raises:
        ValueError: it is a folder or a device, or its folder is not there or not writable.
    """
    if not text:
        raise ValueError("empty; must name a path")
    path = Path(text)
    if path.is_dir():
        raise ValueError("a folder; must name a file")
    if path.exists() and not path.is_file():
        raise ValueError("no plain file; must name one, there or to be made")
    if not path.parent.is_dir():
        raise ValueError(f"its folder {path.parent} does not exist")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise ValueError(f"its folder {path.parent} is not one in which this account may write")
    return path


def clear_ready_file(text: str) -> None:
    """Remove what an earlier program left, be it killed or running: nobody serves under this file until it is written.

    Raises:
        ValueError: the file cannot be removed, or not be written later.
    """
    path = new_file(text)
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise ValueError(f"cannot be removed: {error.strerror}") from None


def write_ready_file(path: Path, **addresses: str | None) -> None:
    """Tell whoever waits for `path` that this program serves, and where; the file appears whole or not at all."""
    part = path.with_name(f"{path.name}.part")
    part.write_text(json.dumps({**addresses, "pid": os.getpid()}), encoding="utf-8")
    part.replace(path)


def remove_ready_file(path: Path) -> None:
    """Take back what `write_ready_file` wrote; what somebody else wrote since stays, and nothing is raised."""
    try:
        if json.loads(path.read_text(encoding="utf-8"))["pid"] == os.getpid():
            path.unlink()
    except (OSError, ValueError, LookupError, TypeError) as error:
        _LOG.info("ready file %s: left as it is: %r", path, error)
