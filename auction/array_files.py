"""Files of arrays (npz) that a flag names: read, or refused in words that name flag, file and what it must be."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from auction.config import BadSetting

T = TypeVar("T")


def load_arrays(flag: str, path: Path, kind: str, load: Callable[[Path], T]) -> T:
    """What `load` makes of the file.

    numpy takes whatever is no archive for a pickle and tells how to load it unsafely; such files never get there.

    Args:
        flag: the flag or argument that named the file.
        kind: what the file must be, such as "a history file of fanbid".

    Raises:
        BadSetting: the file cannot be read, or is nothing of the kind.
    """
    try:
        if not path.is_file():
            raise BadSetting(f"{flag} {path}: no such file")
        if not zipfile.is_zipfile(path):
            raise BadSetting(f"{flag} {path}: not {kind} (npz)")
        return load(path)
    except BadSetting:
        raise
    except KeyError as missing:
        raise BadSetting(f"{flag} {path}: not {kind}; has no {missing.args[0]}") from None
    except (ValueError, OSError) as refused:
        raise BadSetting(f"{flag} {path}: not {kind}; {refused}") from None
    except Exception as damaged:  # zipfile, zlib and numpy have a dozen ways to say that bytes are damaged
        raise BadSetting(f"{flag} {path}: not {kind}; {type(damaged).__name__}: {damaged}") from None
