"""The keys that sign bids, the same at every server, so that a notice may reach any of them.

A key that one server makes is written to Redis first, where the others see it within moments and verify with it from
then on; nobody signs with it before SIGN_DELAY_MS have passed. By then Redis has also replicated it, or whoever made it
has put it there again.
"""

from __future__ import annotations

import logging

from auction.bid.keyring import KeyRing, one_at_a_time
from auction.bid.token import TokenKeys, write_secret
from auction.shared.key_document import KeyDocument
from pacing.clocks import Clock
from pacing.redis_link import RedisLink, RedisUnavailable, Script

SIGN_DELAY_MS = 2_000
"""For how long all servers only verify with a new key: several times as long as they need to see it."""
AGREED_FILE = "keys.agreed.json"
_DOCUMENT = "fanbid:{keys}:document"
_ATTEMPTS = 8

_log = logging.getLogger(__name__)

READ_KEYS = Script.beside(__file__, "read_keys")
PUT_KEYS = Script.beside(__file__, "put_keys")

SCRIPTS = (READ_KEYS, PUT_KEYS)
"""All of them, for who loads them ahead."""


def check_usable(link: RedisLink) -> None:
    """Ask something that changes nothing, as a server will.

    Raises:
        RedisUnavailable: nobody answers, or the scripts of this version are not loaded.
    """
    link.run([READ_KEYS.call([_DOCUMENT], [""])])


class SharedKeys:
    """Keeps one key ring as all servers agree. One thread calls `poll`.

    What all agreed on last lies beside the key file, so that what a command changed in the key file shows.
    """

    def __init__(self, ring: KeyRing, link: RedisLink, clock: Clock) -> None:
        """Agree with the others; a ring that never did so before takes theirs.

        Raises:
            ValueError: a file, or what is in Redis, is of no use.
            RedisUnavailable: nobody answers.
        """
        self._ring = ring
        self._link = link
        self._clock = clock
        self._agreed_path = ring.path.with_name(AGREED_FILE)
        self._agreed: KeyDocument | None = None
        if self._agreed_path.is_file():
            self._agreed = KeyDocument.from_text(self._agreed_path.read_bytes())
        self._next: TokenKeys | None = None
        self._next_at_ms = 0
        self._agree()

    def poll(self) -> None:
        """Take over what others changed, and tell them what a command changed here.

        Raises:
            ValueError, OSError: a file, or what is in Redis, is of no use; the keys in force stay.
            RedisUnavailable: nobody answers; the keys in force stay.
        """
        if self._next is not None and self._clock.monotonic_ms() >= self._next_at_ms:
            self._ring.take_over(self._next)
            self._next = None
        assert self._agreed is not None
        revision, _, _ = self._read(self._agreed.revision)
        if revision != self._agreed.revision or self._ring.is_stale:
            self._agree()

    def _agree(self) -> None:
        with one_at_a_time(self._ring.path):
            for _ in range(_ATTEMPTS):
                if self._try_to_agree(TokenKeys.load(self._ring.path)):
                    return
        raise RedisUnavailable("keys: others keep changing them")

    def _try_to_agree(self, file_keys: TokenKeys) -> bool:
        revision, text, adopted_ms = self._read("")
        there = KeyDocument.from_text(text) if revision else None
        if self._agreed is None:
            wanted = KeyDocument.first(file_keys) if there is None else there
        else:
            wanted = self._agreed if there is None else self._agreed.joined(there)
            wanted = wanted.after_commands(self._agreed.keys, file_keys, self._clock.wall_ms())
        if wanted.revision != revision:
            arguments = (revision, wanted.revision, wanted.text, wanted.active_digest)
            ((done, adopted_ms),) = self._link.run([PUT_KEYS.call([_DOCUMENT], arguments)])
            if not done:
                return False
        self._take_over(wanted, file_keys, adopted_ms)
        return True

    def _read(self, known_revision: str) -> tuple[str, bytes, int]:
        ((revision, text, adopted_ms),) = self._link.run([READ_KEYS.call([_DOCUMENT], [known_revision])])
        return revision.decode(), text, adopted_ms

    def _take_over(self, document: KeyDocument, file_keys: TokenKeys, adopted_ms: int) -> None:
        # In this order: after a crash in between, a key that the file lacks must not look as if it was retired here.
        if document.keys.text != file_keys.text:
            document.keys.save(self._ring.path)
        write_secret(self._agreed_path, document.text)
        self._ring.note_file()
        self._agreed = document
        before = document.before_active
        if before is None or adopted_ms >= SIGN_DELAY_MS:
            self._ring.take_over(document.keys)
            self._next = None
        else:
            self._ring.take_over(before)
            self._next, self._next_at_ms = document.keys, self._clock.monotonic_ms() + SIGN_DELAY_MS - adopted_ms
