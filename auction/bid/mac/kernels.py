"""Keyed BLAKE2b with a 16-byte digest over the signed part of a token, compiled (RFC 7693).

The key block is compressed once per key, when keys are loaded; a token then costs two compressions.
"""

from __future__ import annotations

import numpy as np
from numba import njit

TOKEN_WORDS = 24
"""A token as 64-bit little-endian words: 22 signed, then two of MAC."""
SIGNED_WORDS = 22
SIGNED_BYTES = 8 * SIGNED_WORDS
BLOCK_WORDS = 16
BLOCK_BYTES = 8 * BLOCK_WORDS
KEY_BYTES = 32
DIGEST_BYTES = 16

_IV = np.array(
    [
        0x6A09E667F3BCC908, 0xBB67AE8584CAA73B, 0x3C6EF372FE94F82B, 0xA54FF53A5F1D36F1,
        0x510E527FADE682D1, 0x9B05688C2B3E6C1F, 0x1F83D9ABFB41BD6B, 0x5BE0CD19137E2179,
    ],
    np.uint64,
)  # fmt: skip
_SIGMA = np.array(
    [
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
        [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
        [11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4],
        [7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8],
        [9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13],
        [2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9],
        [12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11],
        [13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10],
        [6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5],
        [10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0],
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
        [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
    ],
    np.int64,
)
_PARAMETERS = np.uint64(0x01010000 | KEY_BYTES << 8 | DIGEST_BYTES)  # depth 1, fanout 1, key and digest length
_ALL_ONES = np.uint64(0xFFFFFFFFFFFFFFFF)


@njit(cache=True, nogil=True)
def _rotate_right(word, bits):
    return (word >> np.uint64(bits)) | (word << np.uint64(64 - bits))


@njit(cache=True, nogil=True)
def _mix(a, b, c, d, x, y):
    """The function G of RFC 7693, section 3.1."""
    a = a + b + x
    d = _rotate_right(d ^ a, 32)
    c = c + d
    b = _rotate_right(b ^ c, 24)
    a = a + b + y
    d = _rotate_right(d ^ a, 16)
    c = c + d
    b = _rotate_right(b ^ c, 63)
    return a, b, c, d


@njit(cache=True, nogil=True)
def _compress(h, block, hashed_bytes, is_last):
    """The function F of RFC 7693, section 3.2: fold `block` u8[16] into the state h u8[8].

    The sixteen working words are variables, not an array, so that they stay in registers.
    """
    v0, v1, v2, v3, v4, v5, v6, v7 = h[0], h[1], h[2], h[3], h[4], h[5], h[6], h[7]
    v8, v9, v10, v11 = _IV[0], _IV[1], _IV[2], _IV[3]
    v12, v13, v14, v15 = _IV[4] ^ np.uint64(hashed_bytes), _IV[5], _IV[6], _IV[7]
    if is_last:
        v14 ^= _ALL_ONES
    for r in range(12):
        s = _SIGMA[r]
        v0, v4, v8, v12 = _mix(v0, v4, v8, v12, block[s[0]], block[s[1]])
        v1, v5, v9, v13 = _mix(v1, v5, v9, v13, block[s[2]], block[s[3]])
        v2, v6, v10, v14 = _mix(v2, v6, v10, v14, block[s[4]], block[s[5]])
        v3, v7, v11, v15 = _mix(v3, v7, v11, v15, block[s[6]], block[s[7]])
        v0, v5, v10, v15 = _mix(v0, v5, v10, v15, block[s[8]], block[s[9]])
        v1, v6, v11, v12 = _mix(v1, v6, v11, v12, block[s[10]], block[s[11]])
        v2, v7, v8, v13 = _mix(v2, v7, v8, v13, block[s[12]], block[s[13]])
        v3, v4, v9, v14 = _mix(v3, v4, v9, v14, block[s[14]], block[s[15]])
    h[0] ^= v0 ^ v8
    h[1] ^= v1 ^ v9
    h[2] ^= v2 ^ v10
    h[3] ^= v3 ^ v11
    h[4] ^= v4 ^ v12
    h[5] ^= v5 ^ v13
    h[6] ^= v6 ^ v14
    h[7] ^= v7 ^ v15


@njit(cache=True, nogil=True)
def absorb_key(key_words, out_state):
    """State of the hash after its key block.

    Args:
        key_words: u8[4], the 32-byte key as little-endian words.
        out_state: u8[8].
    """
    block = np.zeros(BLOCK_WORDS, np.uint64)
    for i in range(key_words.shape[0]):
        block[i] = key_words[i]
    for i in range(8):
        out_state[i] = _IV[i]
    out_state[0] ^= _PARAMETERS
    _compress(out_state, block, BLOCK_BYTES, False)


@njit(cache=True, nogil=True)
def _authenticate(words, state, h, block):
    """Leave the MAC of the signed words u8[>=22] in h[0] and h[1]."""
    for i in range(8):
        h[i] = state[i]
    for i in range(BLOCK_WORDS):
        block[i] = words[i]
    _compress(h, block, 2 * BLOCK_BYTES, False)
    for i in range(BLOCK_WORDS):
        block[i] = words[BLOCK_WORDS + i] if BLOCK_WORDS + i < SIGNED_WORDS else np.uint64(0)
    _compress(h, block, BLOCK_BYTES + SIGNED_BYTES, True)


@njit(cache=True, nogil=True)
def sign_tokens(tokens, state):
    """Write the MAC of each token into its last two words.

    Args:
        tokens: u8[n, 24], changed in place.
        state: u8[8], of the active key.
    """
    h = np.empty(8, np.uint64)
    block = np.empty(BLOCK_WORDS, np.uint64)
    for i in range(tokens.shape[0]):
        _authenticate(tokens[i], state, h, block)
        tokens[i, SIGNED_WORDS] = h[0]
        tokens[i, SIGNED_WORDS + 1] = h[1]


@njit(cache=True, nogil=True)
def verify_tokens(tokens, states, known, version, out_genuine):
    """Check the MAC of each token under the key that it names; both MAC words are always compared.

    Args:
        tokens: u8[n, 24].
        states: u8[256, 8], by key id.
        known: b1[256], whether there is a key of that id.
        version: the newest layout version that a token may state; from 1 on, all have one layout.
        out_genuine: b1[n].
    """
    h = np.empty(8, np.uint64)
    block = np.empty(BLOCK_WORDS, np.uint64)
    for i in range(tokens.shape[0]):
        head = tokens[i, 0]
        key_id = np.int64((head >> np.uint64(8)) & np.uint64(255))
        _authenticate(tokens[i], states[key_id], h, block)
        difference = (tokens[i, SIGNED_WORDS] ^ h[0]) | (tokens[i, SIGNED_WORDS + 1] ^ h[1])
        stated = np.int64(head & np.uint64(255))
        is_version = stated >= 1 and stated <= version
        out_genuine[i] = (difference == np.uint64(0)) and known[key_id] and is_version
