"""Access tokens of all servers: each publishes what its file has, hashes only, and takes over the others'.

A token is made and revoked in one server's file, by the command `token` or by the server. A revocation wins over
everything and is never undone; which of two came first makes no difference to who may call.
"""

from __future__ import annotations

import json
import logging
import secrets
import time
from collections.abc import Callable, Collection
from typing import Any

from auction.campaigns.access import Role
from auction.campaigns.store import ID_SHIFT, CampaignStore, StoredToken
from pacing.redis_link import RedisLink, Script

COMPARE_PERIOD_S = 30.0
"""How often everything is compared, in case something was lost in silence."""
_CHUNK = 500
_RECORDS = "fanbid:{tokens}:records"
_REVOKED = "fanbid:{tokens}:revoked"
_REVISION = "fanbid:{tokens}:revision"

_log = logging.getLogger(__name__)

PUT_TOKENS = Script.beside(__file__, "put_tokens")

SCRIPTS = (PUT_TOKENS,)
"""All of them, for who loads them ahead."""


class SharedTokens:
    """Exchanges the tokens of one file with those of the others. One thread calls `poll`."""

    def __init__(self, store: CampaignStore, link: RedisLink, changed: Callable[[], object]) -> None:
        """Share the tokens of `store`; `changed` is called after the file changed."""
        self._store = store
        self._link = link
        self._changed = changed
        self._revision: bytes | None = None
        self._file_version = -1
        self._compare_at_s = 0.0
        if local := [token.token_id for token in store.tokens() if token.token_id < 1 << ID_SHIFT]:
            _log.warning("tokens %s: made before this folder was shared, so they are good for this server alone", local)

    def poll(self) -> None:
        """Take over what others made and revoked, and publish what was made and revoked here.

        Raises:
            RedisUnavailable: nobody answers.
            StoreUnavailable: this server's file cannot be read or written.
        """
        (revision,) = self._link.run([("GET", _REVISION)])
        file_version = self._store.file_version()
        known = (revision or b"", file_version) == (self._revision, self._file_version)
        if known and time.monotonic() < self._compare_at_s:
            return
        there, here = self._read(), _shareable(self._store.tokens())
        fresh = [token for token in there.values() if _tells_more(token, here.get(token.token_id))]
        if fresh:
            self._store.put_tokens(fresh)
        if fresh or file_version != self._file_version:
            self._changed()
        self._put([token for token in here.values() if _tells_more(token, there.get(token.token_id))])
        # What was read may be newer than its revision, never older; so the worst is to read once more.
        self._revision, self._file_version = revision or b"", file_version
        self._compare_at_s = time.monotonic() + COMPARE_PERIOD_S

    def _read(self) -> dict[int, StoredToken]:
        records, revoked = self._link.run([("HGETALL", _RECORDS), ("HGETALL", _REVOKED)])
        revoked_at_ms = {int(token_id): int(at_ms) for token_id, at_ms in _pairs(revoked)}
        found = {}
        for token_id, text in _pairs(records):
            token = _token_of(int(token_id), text, revoked_at_ms.get(int(token_id), 0))
            if token is not None:
                found[token.token_id] = token
        return found

    def _put(self, tokens: Collection[StoredToken]) -> None:
        wanted = list(tokens)
        for first in range(0, len(wanted), _CHUNK):
            arguments: list[Any] = [secrets.token_hex(8)]
            for token in wanted[first : first + _CHUNK]:
                arguments += [token.token_id, _text_of(token), token.revoked_at_ms]
            self._link.run([PUT_TOKENS.call([_RECORDS, _REVOKED, _REVISION], arguments)])


def _pairs(answer: Any) -> list[tuple[bytes, bytes]]:
    """The pairs of a hash, in whichever form the client gives it."""
    return list(answer.items()) if isinstance(answer, dict) else list(zip(answer[::2], answer[1::2], strict=True))


def _shareable(tokens: Collection[StoredToken]) -> dict[int, StoredToken]:
    return {token.token_id: token for token in tokens if token.token_id >= 1 << ID_SHIFT}


def _tells_more(token: StoredToken, known: StoredToken | None) -> bool:
    """Whether a token, or its revocation, is news to whoever knows `known`."""
    if known is None:
        return True
    return token.revoked_at_ms > 0 and (known.revoked_at_ms == 0 or token.revoked_at_ms < known.revoked_at_ms)


def _text_of(token: StoredToken) -> str:
    fields = {"hash": token.secret_hash.hex(), "role": token.role, "created_at_ms": token.created_at_ms}
    return json.dumps(fields | {"creator_id": str(token.creator_id)}, sort_keys=True)


def _token_of(token_id: int, text: bytes, revoked_at_ms: int) -> StoredToken | None:
    """The token of a record; None, and a line in the log, if it is none that this server understands."""
    try:
        fields = json.loads(text)
        secret_hash, role = bytes.fromhex(fields["hash"]), Role(fields["role"])
        creator_id, created_at_ms = int(fields["creator_id"]), int(fields["created_at_ms"])
        if not 1 << ID_SHIFT <= token_id < 2**63 or len(secret_hash) != 32:
            raise ValueError("its id or its hash is none")
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        _log.error("token %d: what Redis has of it is passed over: %r", token_id, error)
        return None
    return StoredToken(token_id, secret_hash, role.value, creator_id, created_at_ms, revoked_at_ms)
