"""Files whose parts are coming in: so many a caller, so many bytes in all, and none for longer than it may take."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from auction.campaigns.access import Principal, Role
from auction.campaigns.limits import RateLimited
from pacing.clocks import MS_PER_MINUTE, Clock

MAX_FILE_BYTES = 48 * 1024 * 1024
"""A list of 2,000,000 ids goes in, however far apart they lie: 22 bytes an id."""
MAX_PART_BYTES = 512 * 1024
MAX_A_CALLER = 2
"""Files that one caller may have under way; this caller's own that was begun longest ago gives way to another."""
MAX_BYTES = 6 * MAX_FILE_BYTES
"""Announced bytes of all files under way, of creators; and the same again of operators, whom creators never hold up."""
IDLE_MS = MS_PER_MINUTE
"""A file of which no part came for so long is given up."""
LONGEST_MS = 10 * MS_PER_MINUTE
"""A file that is not whole so long after its first part is given up, so that no trickle holds room for good."""
_TRY_AGAIN_S = 5.0

Caller = tuple[Role, int]
"""A creator, with all tokens of that creator's; or one token of an operator's."""


@dataclass
class _Import:
    size: int
    begun_at_ms: int
    part_at_ms: int
    content: bytearray = field(default_factory=bytearray)


class ImportsUnderWay:
    """Joins parts to files. No caller can push out another's file, or take the room of all. Any thread may call."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._files: dict[Caller, dict[int, _Import]] = {}

    def add(
        self, principal: Principal, import_id: int, size: int, offset: int, part: bytes
    ) -> tuple[int, bytes | None]:
        """(bytes that there are of the file, all of them once it is whole).

        Args:
            size: bytes of the whole file, as the caller announces them.
            offset: of this part; 0 begins again.

        Raises:
            ValueError: a part that is none, or not the next one.
            RateLimited: the files under way leave no room to begin this one.
        """
        if not 1 <= size <= MAX_FILE_BYTES:
            raise ValueError(f"size {size}: not in 1..{MAX_FILE_BYTES}")
        if not 1 <= len(part) <= MAX_PART_BYTES:
            raise ValueError(f"part: {len(part)} bytes; not in 1..{MAX_PART_BYTES}")
        with self._lock:
            now_ms = self._clock.monotonic_ms()
            self._give_up_old(now_ms)
            own = self._files.setdefault(_caller(principal), {})
            begun = own.pop(import_id, None)
            if offset == 0:
                begun = _Import(size, now_ms, now_ms)
            if begun is None or offset != len(begun.content) or size != begun.size:
                raise ValueError(
                    f"offset {offset}, size {size}: not the next part of import_id {import_id}; "
                    "begin again with offset 0"
                )
            if offset + len(part) > size:
                raise ValueError(f"part: goes on to byte {offset + len(part)} of {size}")
            begun.content += part
            begun.part_at_ms = now_ms
            if len(begun.content) == size:
                return size, bytes(begun.content)
            if offset == 0:
                self._make_room(principal.role, own, size)
            own[import_id] = begun
            return len(begun.content), None

    def _give_up_old(self, now_ms: int) -> None:
        for caller, own in list(self._files.items()):
            for import_id, one in list(own.items()):
                if now_ms - one.part_at_ms >= IDLE_MS or now_ms - one.begun_at_ms >= LONGEST_MS:
                    del own[import_id]
            if not own:
                del self._files[caller]

    def _make_room(self, role: Role, own: dict[int, _Import], size: int) -> None:
        """Let the caller's oldest file give way where there are too many; nobody else's ever does."""
        while len(own) >= MAX_A_CALLER:
            del own[min(own, key=lambda import_id: own[import_id].begun_at_ms)]
        files = (one for (side, _), owned in self._files.items() if side is role for one in owned.values())
        under_way = sum(one.size for one in files)
        if under_way + size > MAX_BYTES:
            raise RateLimited(
                f"size {size}: files under way hold {under_way} of {MAX_BYTES} bytes; try again", _TRY_AGAIN_S
            )


def _caller(principal: Principal) -> Caller:
    return principal.role, principal.creator_id if principal.role is Role.CREATOR else principal.token_id
