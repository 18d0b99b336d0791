"""Tokens: decisions that carry their own proof, so that a notice about a bid may reach any server."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from auction.bid.mac.kernels import KEY_BYTES, TOKEN_WORDS, absorb_key, sign_tokens, verify_tokens
from pacing.durable import sync_folder
from pacing.facts import DECISION, TOKEN_VERSION

MAX_KEY_ID = 255


class TokenKeys:
    """The MAC keys by id, one of them active: it signs, the others still verify. Immutable; any thread may use it.

    Keys rotate by id and must outlive the attribution window, since conversions carry tokens that old.
    """

    def __init__(
        self,
        keys: Mapping[int, bytes],
        active_id: int,
        made_at_ms: Mapping[int, int] | None = None,
        replaced_at_ms: Mapping[int, int] | None = None,
    ) -> None:
        """Take keys of 32 bytes each.

        Args:
            made_at_ms, replaced_at_ms: when each key began and ceased to sign, as far as that is known.

        Raises:
            ValueError: an id is not in 0..255, a key has another length, or there is no key `active_id`.
        """
        self.keys = {int(key_id): bytes(key) for key_id, key in keys.items()}
        self.active_id = int(active_id)
        if self.active_id not in self.keys:
            raise ValueError(f"active key id {active_id}: not one of {sorted(self.keys)}")
        self.made_at_ms = _instants("made_at_ms", made_at_ms, self.keys)
        self.replaced_at_ms = _instants("replaced_at_ms", replaced_at_ms, self.keys)
        self.states = np.zeros((MAX_KEY_ID + 1, 8), np.uint64)
        self.known = np.zeros(MAX_KEY_ID + 1, np.bool_)
        for key_id, key in self.keys.items():
            if not 0 <= key_id <= MAX_KEY_ID:
                raise ValueError(f"key id {key_id}: not in 0..{MAX_KEY_ID}")
            if len(key) != KEY_BYTES:
                raise ValueError(f"key {key_id}: {len(key)} bytes; must be {KEY_BYTES}")
            absorb_key(np.frombuffer(key, np.uint64), self.states[key_id])
            self.known[key_id] = True

    @classmethod
    def generate(cls) -> TokenKeys:
        """One new random key, of id 1."""
        return cls({1: secrets.token_bytes(KEY_BYTES)}, 1)

    @classmethod
    def load(cls, path: Path) -> TokenKeys:
        """Read a key file.

        Raises:
            ValueError: the file is no key file; the text names it.
            OSError: it cannot be read.
        """
        try:
            return cls.from_text(path.read_text(encoding="ascii"))
        except ValueError as error:
            raise ValueError(f"key file {path}: {error}") from None

    @classmethod
    def from_text(cls, text: str | bytes) -> TokenKeys:
        """What `text` gave.

        Raises:
            ValueError: it is none.
        """
        try:
            content = json.loads(text)
            keys = {int(key_id): bytes.fromhex(key) for key_id, key in content["keys"].items()}
            return cls(keys, content["active"], content.get("made_at_ms"), content.get("replaced_at_ms"))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(str(error) or type(error).__name__) from None

    @property
    def text(self) -> str:
        """The keys as JSON, secrets and all; the same text for the same keys."""
        content = {
            "active": self.active_id,
            "keys": {str(key_id): key.hex() for key_id, key in self.keys.items()},
            "made_at_ms": self.made_at_ms,
            "replaced_at_ms": self.replaced_at_ms,
        }
        return json.dumps(content, sort_keys=True)

    @classmethod
    def load_or_generate(cls, path: Path) -> TokenKeys:
        """Read the key file, or make one with a new key if there is none.

        Raises:
            ValueError: there is a file, but it is no key file.
        """
        if path.exists():
            return cls.load(path)
        keys = cls.generate()
        keys.save(path)
        return keys

    def save(self, path: Path) -> None:
        """Write the key file, whole or not at all, readable by its owner alone."""
        write_secret(path, self.text)

    def rotated(self, now_ms: int) -> TokenKeys:
        """The same keys and a new active one, under the next free id.

        Raises:
            ValueError: all 256 ids are taken.
        """
        following = ((self.active_id + step) % (MAX_KEY_ID + 1) for step in range(1, MAX_KEY_ID + 1))
        free = next((key_id for key_id in following if key_id not in self.keys), None)
        if free is None:
            raise ValueError(f"key id: all of 0..{MAX_KEY_ID} are taken; retire old keys first")
        return TokenKeys(
            {**self.keys, free: secrets.token_bytes(KEY_BYTES)},
            free,
            {**self.made_at_ms, free: now_ms},
            {**self.replaced_at_ms, self.active_id: now_ms},
        )

    def without(self, key_id: int) -> TokenKeys:
        """The same keys but this one.

        Raises:
            ValueError: it is the active one.
        """
        kept = {other: key for other, key in self.keys.items() if other != key_id}
        made, replaced = (
            {other: at_ms for other, at_ms in instants.items() if other in kept}
            for instants in (self.made_at_ms, self.replaced_at_ms)
        )
        return TokenKeys(kept, self.active_id, made, replaced)


def write_secret(path: Path, text: str) -> None:
    """Write a file, whole or not at all, readable by its owner alone; durable on return."""
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    sync_folder(path.parent)


def _instants(name: str, instants: Mapping[int, int] | None, keys: Mapping[int, bytes]) -> dict[int, int]:
    known = {int(key_id): int(at_ms) for key_id, at_ms in (instants or {}).items()}
    if not known.keys() <= keys.keys():
        raise ValueError(f"{name}: names keys that are none of {sorted(keys)}")
    return known


def _words(decisions: np.ndarray) -> np.ndarray:
    if decisions.dtype != DECISION or decisions.ndim != 1 or not decisions.flags.c_contiguous:
        raise ValueError(f"decisions: {decisions.dtype} of shape {decisions.shape}; must be contiguous DECISION[n]")
    return decisions.view(np.uint64).reshape(len(decisions), TOKEN_WORDS)


def sign_batch(decisions: np.ndarray, keys: TokenKeys) -> None:
    """Set version, key_id and mac of each decision, in place.

    Args:
        decisions: DECISION[n], contiguous.

    Raises:
        ValueError: another layout.
    """
    words = _words(decisions)
    decisions["version"] = TOKEN_VERSION
    decisions["key_id"] = keys.active_id
    sign_tokens(words, keys.states[keys.active_id])


def verify_batch(decisions: np.ndarray, keys: TokenKeys) -> np.ndarray:
    """Which of DECISION[n] were signed by one of `keys` and not changed since, as b1[n].

    Raises:
        ValueError: another layout.
    """
    words = _words(decisions if decisions.flags.writeable else decisions.copy())  # one compiled form serves all
    genuine = np.zeros(len(decisions), np.bool_)
    verify_tokens(words, keys.states, keys.known, TOKEN_VERSION, genuine)
    return genuine


def warm_up() -> None:
    """Compile, or load from the cache, what signs and verifies."""
    decisions = np.zeros(1, DECISION)
    keys = TokenKeys({0: bytes(KEY_BYTES)}, 0)
    sign_batch(decisions, keys)
    verify_batch(decisions, keys)
