"""Tokens: equal to the standard library's keyed BLAKE2b; every byte counts; keys rotate."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auction.bid.mac import reference
from auction.bid.token import TokenKeys, sign_batch, verify_batch, warm_up
from pacing.facts import DECISION, MAC_BYTES, TOKEN_BYTES, TOKEN_VERSION

pytestmark = [pytest.mark.kernels, pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")]

with np.errstate(over="ignore"):
    KEYS = TokenKeys({0: bytes(range(32)), 3: b"\xff" * 32, 255: b"k" * 32}, 3)


def decisions_from(seed: int, n: int) -> np.ndarray:
    return np.frombuffer(np.random.default_rng(seed).bytes(TOKEN_BYTES * n), DECISION).copy()


@pytest.mark.parametrize("n", [0, 1, 2, 33])
@pytest.mark.parametrize("active", [0, 3, 255])
def test_equal_to_the_reference(n: int, active: int) -> None:
    keys = TokenKeys(KEYS.keys, active)
    decisions = decisions_from(n, n)
    before = decisions.copy()
    sign_batch(decisions, keys)
    for decision, unsigned in zip(decisions, before, strict=True):
        raw = decision.tobytes()
        assert raw[:2] == bytes([TOKEN_VERSION, active])
        assert raw[2:-MAC_BYTES] == unsigned.tobytes()[2:-MAC_BYTES]
        assert raw[-MAC_BYTES:] == reference.mac_of(raw, KEYS.keys[active])
    assert verify_batch(decisions, KEYS).tolist() == [True] * n


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), place=st.integers(0, TOKEN_BYTES - 1), bits=st.integers(1, 255))
def test_any_change_is_noticed(seed: int, place: int, bits: int) -> None:
    decisions = decisions_from(seed, 3)
    sign_batch(decisions, KEYS)
    decisions.view(np.uint8).reshape(3, TOKEN_BYTES)[1, place] ^= bits
    verified = verify_batch(decisions, KEYS).tolist()
    assert verified == [True, False, True]
    assert verified == [reference.is_genuine(d.tobytes(), KEYS.keys) for d in decisions]


def test_every_byte_of_one_token() -> None:
    decisions = decisions_from(1, 1)
    sign_batch(decisions, KEYS)
    changed = np.repeat(decisions, TOKEN_BYTES)
    places = np.arange(TOKEN_BYTES)
    changed.view(np.uint8).reshape(-1, TOKEN_BYTES)[places, places] ^= (1 << (places % 8)).astype(np.uint8)
    assert not verify_batch(changed, KEYS).any()


def test_random_bytes_are_no_tokens() -> None:
    assert not verify_batch(decisions_from(5, 100), KEYS).any()
    assert not verify_batch(np.zeros(1, DECISION), KEYS).any()


def test_read_only_bytes_can_be_verified() -> None:
    decisions = decisions_from(2, 4)
    sign_batch(decisions, KEYS)
    assert verify_batch(np.frombuffer(decisions.tobytes(), DECISION), KEYS).all()


def test_another_layout_is_refused() -> None:
    with pytest.raises(ValueError, match="must be contiguous DECISION"):
        verify_batch(np.zeros(4, np.uint64), KEYS)
    with pytest.raises(ValueError, match="must be contiguous DECISION"):
        sign_batch(decisions_from(1, 4)[::2], KEYS)


def test_rotation_keeps_old_tokens_good() -> None:
    old = TokenKeys.generate()
    decisions = decisions_from(1, 2)
    sign_batch(decisions[:1], old)
    new = old.rotated(1)
    assert new.active_id != old.active_id
    sign_batch(decisions[1:], new)
    assert verify_batch(decisions, new).tolist() == [True, True]
    assert verify_batch(decisions, old).tolist() == [True, False]
    retired = new.without(old.active_id)
    assert verify_batch(decisions, retired).tolist() == [False, True]


def test_a_full_set_of_keys_cannot_rotate() -> None:
    with pytest.raises(ValueError, match=r"all of 0\.\.255 are taken"):
        TokenKeys({key_id: bytes(32) for key_id in range(256)}, 0).rotated(1)


def test_key_file_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    keys = TokenKeys.load_or_generate(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["keys.json"]
    again = TokenKeys.load_or_generate(path)
    assert (again.keys, again.active_id) == (keys.keys, keys.active_id)
    assert TokenKeys.generate().keys != keys.keys


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "Expecting value"),
        ("[]", "keys.json"),
        ('{"active": 1}', "keys"),
        (json.dumps({"active": 2, "keys": {"1": "00" * 32}}), "active key id 2: not one of"),
        (json.dumps({"active": 1, "keys": {"1": "00" * 31}}), "key 1: 31 bytes; must be 32"),
        (json.dumps({"active": 256, "keys": {"256": "00" * 32}}), r"key id 256: not in 0\.\.255"),
        (json.dumps({"active": 1, "keys": {"1": "zz"}}), "hexadecimal"),
    ],
)
def test_bad_key_files_are_named(tmp_path: Path, content: str, why: str) -> None:
    path = tmp_path / "keys.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=why) as refused:
        TokenKeys.load_or_generate(path)
    assert str(path) in str(refused.value)
    assert path.read_text() == content, "nothing is overwritten"


def test_warm_up_leaves_no_trace() -> None:
    warm_up()
    assert not verify_batch(np.zeros(1, DECISION), KEYS).any()
