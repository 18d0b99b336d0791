"""The keys that all servers agree on: one document, which each change replaces as a whole.

Documents that came to differ are joined: keys add up, and one that was retired anywhere is retired everywhere.
"""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
from dataclasses import dataclass

from auction.bid.token import TokenKeys

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class KeyDocument:
    """Keys, and what is to be known to join them with others.

    Attributes:
        forgotten: digests of keys that were retired.
        number: grows with every change.
        nonce: tells documents of one number apart.
    """

    keys: TokenKeys
    forgotten: frozenset[str] = frozenset()
    number: int = 1
    nonce: str = ""

    @classmethod
    def first(cls, keys: TokenKeys) -> KeyDocument:
        """The document of these keys alone."""
        return cls(keys, nonce=secrets.token_hex(8))

    @classmethod
    def from_text(cls, text: str | bytes) -> KeyDocument:
        """What `text` gave.

        Raises:
            ValueError: it is none.
        """
        try:
            content = json.loads(text)
            forgotten = frozenset(str(digest) for digest in content["forgotten"])
            number, nonce = int(content["number"]), str(content["nonce"])
            keys = TokenKeys.from_text(content["keys"])
        except (ValueError, LookupError, TypeError) as error:
            raise ValueError(f"not a document of keys: {error!r}") from None
        return cls(keys, forgotten, number, nonce)

    @property
    def text(self) -> str:
        """The document as JSON, secrets and all."""
        content = {"keys": self.keys.text, "forgotten": sorted(self.forgotten)}
        return json.dumps(content | {"number": self.number, "nonce": self.nonce}, sort_keys=True)

    @property
    def revision(self) -> str:
        """Tells this document from every other one."""
        return f"{self.number}.{self.nonce}"

    @property
    def active_digest(self) -> str:
        """Tells the active key from every other one, without telling it."""
        return _digest(self.keys.keys[self.keys.active_id])

    @property
    def before_active(self) -> TokenKeys | None:
        """The same keys, of which the one that signed before the active one signs; None: there is none any more."""
        replaced_at_ms = self.keys.replaced_at_ms
        if not replaced_at_ms:
            return None
        previous_id = max(replaced_at_ms, key=lambda key_id: (replaced_at_ms[key_id], key_id))
        return TokenKeys(self.keys.keys, previous_id, self.keys.made_at_ms, replaced_at_ms)

    def joined(self, other: KeyDocument) -> KeyDocument:
        """What two documents are together, in either order: the newer one, where that has all of the other."""
        older, newer = sorted((self, other), key=lambda document: (document.number, document.nonce))
        forgotten = older.forgotten | newer.forgotten
        olders, kept = (
            {key_id: key for key_id, key in document.keys.keys.items() if _digest(key) not in forgotten}
            for document in (older, newer)
        )
        kept = olders | kept
        if clashing := [key_id for key_id, key in olders.items() if kept[key_id] != key]:
            _log.error("keys %s: two servers made one each; tokens of the older ones are forged from now on", clashing)
        signing = [document.keys.active_id for document in (newer, older) if document.keys.active_id in kept]
        if not signing:  # each retired what the other signs with
            kept, signing = dict(newer.keys.keys), [newer.keys.active_id]
            forgotten = newer.forgotten
        active_id = signing[0]
        made_at_ms = {**older.keys.made_at_ms, **newer.keys.made_at_ms}
        replaced_at_ms = {older.keys.active_id: made_at_ms.get(active_id, 0), **older.keys.replaced_at_ms}
        replaced_at_ms |= newer.keys.replaced_at_ms
        keys = TokenKeys(
            kept,
            active_id,
            {key_id: at_ms for key_id, at_ms in made_at_ms.items() if key_id in kept},
            {key_id: at_ms for key_id, at_ms in replaced_at_ms.items() if key_id in kept and key_id != active_id},
        )
        if keys.keys == newer.keys.keys and active_id == newer.keys.active_id and forgotten == newer.forgotten:
            return newer
        nonce = hashlib.sha256(f"{older.revision} {newer.revision}".encode()).hexdigest()[:16]
        return KeyDocument(keys, forgotten, newer.number + 1, nonce)

    def after_commands(self, agreed: TokenKeys, file_keys: TokenKeys, now_ms: int) -> KeyDocument:
        """The document after what a command did to a server's key file since that held the keys `agreed`.

        A rotation is done again here, under another id where others took its own.
        """
        keys, forgotten = self.keys, self.forgotten
        in_file = {_digest(key) for key in file_keys.keys.values()}
        for key in agreed.keys.values():
            key_id = next((found for found, known in keys.keys.items() if known == key), None)
            if key_id is None or _digest(key) in in_file:
                continue
            if key_id == keys.active_id:
                _log.error("key %d is not retired: at another server it signs", key_id)
                continue
            keys, forgotten = keys.without(key_id), forgotten | {_digest(key)}
        known = {_digest(key) for key in (*keys.keys.values(), *agreed.keys.values())} | forgotten
        for key_id in sorted(file_keys.keys, key=lambda i: (i == file_keys.active_id, i)):
            key = file_keys.keys[key_id]
            if _digest(key) in known:
                continue
            if key_id in keys.keys:
                keys = keys.rotated(now_ms)
                _log.info("key %d is another server's; the rotation here was done again as %d", key_id, keys.active_id)
            else:
                made_at_ms = {**keys.made_at_ms, key_id: now_ms}
                replaced_at_ms = {**keys.replaced_at_ms, keys.active_id: now_ms}
                keys = TokenKeys({**keys.keys, key_id: key}, key_id, made_at_ms, replaced_at_ms)
        if keys is self.keys and forgotten == self.forgotten:
            return self
        return KeyDocument(keys, forgotten, self.number + 1, secrets.token_hex(8))


def _digest(key: bytes) -> str:
    return hashlib.sha256(key).hexdigest()
