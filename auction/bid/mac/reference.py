"""What the compiled MAC means, by the standard library."""

from __future__ import annotations

import hashlib
import hmac

from pacing.facts import MAC_BYTES, TOKEN_BYTES, TOKEN_VERSION


def mac_of(token: bytes, key: bytes) -> bytes:
    """The MAC of a token of 192 bytes, whose last 16 are not read."""
    return hashlib.blake2b(token[: TOKEN_BYTES - MAC_BYTES], key=key, digest_size=MAC_BYTES).digest()


def is_genuine(token: bytes, keys: dict[int, bytes]) -> bool:
    """Whether the token states this version and a known key, and carries that key's MAC."""
    version, key_id = token[0], token[1]
    if not 1 <= version <= TOKEN_VERSION or key_id not in keys:
        return False
    return hmac.compare_digest(mac_of(token, keys[key_id]), token[-MAC_BYTES:])
