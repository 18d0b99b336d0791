"""The key file of a data folder: read again when it changed, so that keys rotate beside a running server."""

from __future__ import annotations

import fcntl
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from auction.bid.token import TokenKeys
from pacing.clocks import MS_PER_DAY

KEY_FILE = "keys.json"
KEPT_MS = 40 * MS_PER_DAY
"""How long a key goes on verifying after it was replaced: longer than the 31 days in which an outcome is accepted."""

_log = logging.getLogger(__name__)


class KeyRing:
    """The keys in force. Any thread may read `current`; one thread calls `refresh`."""

    def __init__(self, folder: Path) -> None:
        """Read the folder's key file, or make one with a new key.

        Raises:
            ValueError: there is a file, but it is no key file.
        """
        self.path = folder / KEY_FILE
        self.current = TokenKeys.load_or_generate(self.path)
        self._seen = _identity(self.path)

    def refresh(self) -> None:
        """Take over the file if it changed; a file that cannot be read changes nothing, and is logged."""
        try:
            seen = _identity(self.path)
            if seen == self._seen:
                return
            current = TokenKeys.load(self.path)
        except (OSError, ValueError) as error:
            _log.error("the keys in force stay: %s", error)
            return
        self._seen = seen
        self.take_over(current)

    @property
    def is_stale(self) -> bool:
        """Whether the file changed since it was read or noted.

        Raises:
            OSError: it cannot be read.
        """
        return _identity(self.path) != self._seen

    def note_file(self) -> None:
        """The file, as it now is, is known."""
        self._seen = _identity(self.path)

    def take_over(self, keys: TokenKeys) -> None:
        """Sign and verify with these keys."""
        self.current = keys
        _log.info("key %d signs; %d keys verify", keys.active_id, len(keys.keys))


def change_keys(folder: Path, change: Callable[[TokenKeys], TokenKeys]) -> TokenKeys:
    """Replace the folder's keys by what `change` makes of them; one program at a time.

    Raises:
        ValueError: the file is no key file, or `change` refuses.
        FileNotFoundError: there is no key file: no server ever ran on this folder.
    """
    path = folder / KEY_FILE
    with one_at_a_time(path):
        changed = change(TokenKeys.load(path))
        changed.save(path)
    return changed


def retired(keys: TokenKeys, key_id: int, now_ms: int, early: bool = False) -> TokenKeys:
    """The keys without this one; its tokens are forged from now on.

    Args:
        early: although outcomes of its tokens may still come, since the key has leaked, say.

    Raises:
        ValueError: there is no such key, it is the active one, or it was replaced less than KEPT_MS ago.
    """
    if key_id not in keys.keys:
        raise ValueError(f"id {key_id}: no such key; there are {', '.join(map(str, sorted(keys.keys)))}")
    if key_id == keys.active_id:
        raise ValueError(f"id {key_id}: this key signs; rotate first")
    free_at_ms = keys.replaced_at_ms.get(key_id, 0) + KEPT_MS
    if now_ms < free_at_ms and not early:
        days = -((now_ms - free_at_ms) // MS_PER_DAY)
        raise ValueError(f"id {key_id}: outcomes of its tokens may still come for {days} days; --early refuses them")
    return keys.without(key_id)


def _identity(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_ino, found.st_mtime_ns, found.st_size


@contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """While the block runs, no other program replaces this key file.

    Raises:
        FileNotFoundError: there is no such file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; a server makes it at its first start")
    with path.with_name(f"{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
