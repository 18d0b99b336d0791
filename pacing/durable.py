"""What makes a change whole, and survive a power cut: of a folder itself, of a file, and of a SQLite file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO


def sync_folder(folder: Path) -> None:
    """Make durable which files a folder has and what they are called.

    Raises:
        OSError: the folder cannot be opened or synced.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which takes the place of `path` on leaving, whole and durable; when the block raises, or in a
    crash, the old one stays.

    Raises:
        OSError: it cannot be written; the old one stays.
    """
    part = path.with_name(f"{path.name}.part")
    with part.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


@contextmanager
def transaction(db: Any) -> Iterator[None]:
    """One change of a SQLite file, over a connection that is in autocommit: made on leaving, undone when the block
    raises."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # after some errors SQLite has undone it already
            db.execute("ROLLBACK")
        raise
