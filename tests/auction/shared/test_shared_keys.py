"""Keys of several servers: one makes them, all have them, and nobody signs with one that another may not know yet."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auction.bid.keyring import KEY_FILE, KeyRing, change_keys, retired
from auction.bid.token import TokenKeys
from auction.shared.key_document import KeyDocument
from auction.shared.keys_redis import AGREED_FILE, SIGN_DELAY_MS, SharedKeys
from benchmarks.redis_servers import RedisServer
from pacing.clocks import VirtualClock
from pacing.redis_link import RedisLink
from tests.auction.campaigns.figures import NOON_MS

LONG_AGO = "HINCRBY", "fanbid:{keys}:document", "since_ms", -SIGN_DELAY_MS


class Keys:
    """One server's keys, on time that is its own."""

    def __init__(self, folder: Path, link: RedisLink) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.link = folder, link
        self.clock = VirtualClock(NOON_MS)
        self.ring = KeyRing(folder)
        self.shared = SharedKeys(self.ring, link, self.clock)

    def poll(self, after_ms: int = 250) -> TokenKeys:
        self.clock.advance_to(self.clock.wall_ms() + after_ms)
        self.shared.poll()
        return self.ring.current

    def rotate(self) -> int:
        return change_keys(self.folder, lambda keys: keys.rotated(NOON_MS)).active_id

    def retire(self, key_id: int) -> None:
        change_keys(self.folder, lambda keys: retired(keys, key_id, NOON_MS, early=True))

    @property
    def signs(self) -> int:
        return self.ring.current.active_id


Start = Callable[[str], Keys]


@pytest.fixture
def start(tmp_path: Path, one_link: RedisLink) -> Start:
    return lambda name: Keys(tmp_path / name, one_link)


def test_the_first_server_makes_the_key_and_the_others_take_it(tmp_path: Path, link: RedisLink) -> None:
    a, b = Keys(tmp_path / "a", link), Keys(tmp_path / "b", link)
    assert a.ring.current.keys == b.ring.current.keys and a.signs == b.signs == 1
    assert TokenKeys.load(b.folder / KEY_FILE).keys == a.ring.current.keys
    assert (b.folder / AGREED_FILE).stat().st_mode & 0o777 == 0o600


def test_a_rotation_is_known_to_all_before_anybody_signs_with_it(start: Start) -> None:
    a, b = start("a"), start("b")
    assert a.rotate() == 2
    a.poll()
    b.poll()
    assert set(a.ring.current.keys) == set(b.ring.current.keys) == {1, 2}
    assert a.signs == b.signs == 1, "all verify with it, nobody signs"
    late = start("late")
    assert set(late.ring.current.keys) == {1, 2} and late.signs == 1
    for keys in (a, b, late):
        assert keys.poll(SIGN_DELAY_MS).active_id == 2
    assert a.ring.current.keys == b.ring.current.keys == late.ring.current.keys


def test_a_start_signs_at_once_with_what_was_adopted_long_ago(start: Start, one_link: RedisLink) -> None:
    a = start("a")
    a.rotate()
    a.poll()
    again = start("a")
    assert again.signs == 1
    one_link.run([LONG_AGO])
    assert start("a").signs == start("b").signs == 2


def test_two_rotations_at_once_are_two_keys(start: Start) -> None:
    a, b = start("a"), start("b")
    assert a.rotate() == b.rotate() == 2
    for keys in (a, b, a):
        keys.poll()
    assert a.ring.current.keys == b.ring.current.keys and set(a.ring.current.keys) == {1, 2, 3}
    for keys in (a, b):
        assert keys.poll(SIGN_DELAY_MS).active_id == 3
        assert TokenKeys.load(keys.folder / KEY_FILE).active_id == 3


def test_a_retired_key_is_forgotten_everywhere_for_good(start: Start) -> None:
    a, b = start("a"), start("b")
    a.rotate()
    a.poll()
    b.poll()
    b.retire(1)
    b.poll()
    assert set(a.poll().keys) == set(b.ring.current.keys) == {2}
    assert a.signs == b.signs == 2, "nothing older is left to sign with"


def test_a_key_that_signs_at_another_server_is_not_retired(start: Start) -> None:
    a, b = start("a"), start("b")
    a.rotate()
    a.poll()
    change_keys(b.folder, lambda keys: TokenKeys({7: bytes(32)}, 7))  # as no command does
    b.poll()
    assert 1 not in b.ring.current.keys and {2, 7} <= set(b.ring.current.keys)
    assert set(a.poll().keys) == set(b.ring.current.keys)


def test_what_redis_lost_it_gets_again(start: Start, one_link: RedisLink) -> None:
    a, b = start("a"), start("b")
    (before,) = one_link.run([("DUMP", "fanbid:{keys}:document")])
    a.rotate()
    a.poll()
    a.retire(1)
    a.poll()
    one_link.run([("RESTORE", "fanbid:{keys}:document", 0, before, "REPLACE")])
    b.rotate()  # from what was lost
    b.poll()
    for keys in (a, b, a):
        keys.poll()
    assert a.ring.current.keys == b.ring.current.keys and 1 not in a.ring.current.keys
    one_link.run([("DEL", "fanbid:{keys}:document")])
    b.poll()
    assert set(start("c").ring.current.keys) == set(b.ring.current.keys)


def test_keys_of_a_folder_that_was_changed_while_its_server_was_down(start: Start) -> None:
    a, b = start("a"), start("b")
    a.rotate()
    b.rotate()
    b.poll()
    again = start("a")
    b.poll()
    assert again.ring.current.keys == b.ring.current.keys and set(b.ring.current.keys) == {1, 2, 3}


@pytest.mark.parametrize("step", ["key file", "agreed file"])
@pytest.mark.parametrize("command", ["rotate", "retire"])
def test_a_crash_between_redis_and_files_loses_nothing(
    start: Start, monkeypatch: pytest.MonkeyPatch, step: str, command: str
) -> None:
    a, b = start("a"), start("b")
    b.rotate()
    for keys in (b, a):
        keys.poll()
    expected = {1, 2, 3} if command == "rotate" else {2}
    b.rotate() if command == "rotate" else b.retire(1)
    b.poll()
    with monkeypatch.context() as patch:
        gone = RuntimeError("crash")

        def crash(*_: object) -> None:
            raise gone

        if step == "key file":
            patch.setattr(TokenKeys, "save", crash)
        else:
            patch.setattr("auction.shared.keys_redis.write_secret", crash)
        with pytest.raises(RuntimeError, match="crash"):
            a.poll()
    again = start("a")
    assert set(again.ring.current.keys) == expected
    assert again.ring.current.keys == b.poll().keys


def test_a_document_that_is_none_changes_nothing(start: Start, one_link: RedisLink) -> None:
    a = start("a")
    one_link.run([("HSET", "fanbid:{keys}:document", "revision", "9.x", "text", "{}")])
    with pytest.raises(ValueError, match="not a document of keys"):
        a.poll()
    assert set(a.ring.current.keys) == {1}
    with pytest.raises(ValueError, match="not a document of keys"):
        start("b")


def test_a_command_while_redis_is_away_waits_for_it(tmp_path: Path, redis: RedisServer) -> None:
    link = RedisLink(redis.url, timeout_ms=200)
    a = Keys(tmp_path / "a", link)
    a.rotate()
    with redis.suspended(), pytest.raises(Exception, match="Timeout"):
        a.poll()
    assert set(a.ring.current.keys) == {1}, "nobody else would know it"
    assert set(a.poll().keys) == {1, 2}
    link.close()


COMMANDS = st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["rotate", "retire"])), max_size=6)


@settings(max_examples=60, deadline=None)
@given(commands=COMMANDS)
def test_documents_join_to_the_same_in_either_order(commands: list[tuple[int, str]]) -> None:
    first = KeyDocument.first(TokenKeys.generate())
    documents = [first, first, first]
    for i, command in commands:
        keys = documents[i].keys
        if command == "rotate":
            changed = keys.rotated(NOON_MS + len(keys.keys))
        else:
            others = sorted(set(keys.keys) - {keys.active_id})
            if not others:
                continue
            changed = keys.without(others[0])
        documents[i] = documents[i].after_commands(keys, changed, NOON_MS)
        assert documents[i].keys.keys == changed.keys
    for one, other in permutations(documents, 2):
        joined = one.joined(other)
        assert joined.text == other.joined(one).text == KeyDocument.from_text(joined.text).text
        assert joined.joined(one) == joined.joined(other) == joined.joined(joined) == joined
        assert joined.keys.active_id in joined.keys.keys
        digests = {hashlib.sha256(key).hexdigest() for key in joined.keys.keys.values()}
        assert not digests & joined.forgotten
        if joined.forgotten != max(one, other, key=lambda d: (d.number, d.nonce)).forgotten:
            assert joined.forgotten == one.forgotten | other.forgotten
