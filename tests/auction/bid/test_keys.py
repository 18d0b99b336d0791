"""Keys that rotate beside a running engine: old tokens stay good for long enough, forgotten keys' tokens are forged."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import fanbid
from auction.attribution import CLICK_WINDOW_MS, LATENESS_MS, PAIR_WINDOW_MS
from auction.bid.keyring import KEPT_MS, KEY_FILE, KeyRing, change_keys, retired
from auction.bid.outcomes import MAX_AGE_MS
from auction.bid.token import TokenKeys
from auction.shared.keys_redis import SIGN_DELAY_MS
from pacing.budget.owner_redis import OWNER_FILE
from pacing.facts import OutcomeKind, RowStatus
from tests.auction.bid.engines import Engine, decisions_of, tokens_of

NOW_MS = 1_772_596_800_000


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    running = Engine(tmp_path)
    running.create()
    yield running
    running.close()


def signed_bid(engine: Engine, viewer_id: int) -> tuple[bytes, int]:
    """A new token, and the id of the key that signed it."""
    answer = engine.bid([viewer_id])
    return tokens_of(answer)[0], int(decisions_of(answer)["key_id"][0])


def test_a_key_outlives_every_outcome_of_its_tokens() -> None:
    assert min(MAX_AGE_MS, PAIR_WINDOW_MS, CLICK_WINDOW_MS + LATENESS_MS) > 0
    assert max(MAX_AGE_MS, PAIR_WINDOW_MS, CLICK_WINDOW_MS + LATENESS_MS) < KEPT_MS


def test_rotation_beside_a_running_engine(engine: Engine, tmp_path: Path) -> None:
    old_token, old_id = signed_bid(engine, 1)
    change_keys(tmp_path, lambda keys: keys.rotated(NOW_MS))
    assert signed_bid(engine, 2)[1] == old_id, "not taken over before the next look"
    engine.services.keys.refresh()
    new_token, new_id = signed_bid(engine, 3)
    assert new_id == old_id + 1
    for token in (old_token, new_token):
        assert engine.status(OutcomeKind.BILLABLE, token, 100) == RowStatus.ACCEPTED

    change_keys(tmp_path, lambda keys: retired(keys, old_id, NOW_MS + KEPT_MS))
    engine.services.keys.refresh()
    assert engine.status(OutcomeKind.CLICK, old_token) == RowStatus.FORGED
    assert engine.status(OutcomeKind.CLICK, new_token) == RowStatus.ACCEPTED


def test_the_scheduler_takes_new_keys_over(engine: Engine, tmp_path: Path) -> None:
    _, old_id = signed_bid(engine, 1)
    change_keys(tmp_path, lambda keys: keys.rotated(NOW_MS))
    engine.advance(120_000)
    assert signed_bid(engine, 2)[1] == old_id + 1


def test_a_restart_takes_new_keys_over(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    engine.create()
    old_token, old_id = signed_bid(engine, 1)
    change_keys(tmp_path, lambda keys: keys.rotated(NOW_MS))
    engine.close()
    again = Engine(tmp_path)
    again.go_round()
    assert again.services.keys.current.active_id == old_id + 1
    assert again.status(OutcomeKind.CLICK, old_token) == RowStatus.ACCEPTED
    again.close()


def test_what_may_not_be_retired() -> None:
    first = TokenKeys({1: bytes(32)}, 1)
    both = first.rotated(NOW_MS)
    with pytest.raises(ValueError, match="id 2: this key signs; rotate first"):
        retired(both, 2, NOW_MS + KEPT_MS)
    with pytest.raises(ValueError, match="id 9: no such key; there are 1, 2"):
        retired(both, 9, NOW_MS)
    with pytest.raises(ValueError, match="id 1: outcomes of its tokens may still come for 1 days"):
        retired(both, 1, NOW_MS + KEPT_MS - 1)
    for kept in (retired(both, 1, NOW_MS + KEPT_MS), retired(both, 1, NOW_MS, early=True)):
        assert (set(kept.keys), kept.active_id, kept.made_at_ms, kept.replaced_at_ms) == ({2}, 2, {2: NOW_MS}, {})


def test_ids_are_taken_in_turn_so_that_a_forgotten_one_comes_back_last() -> None:
    keys = TokenKeys({255: bytes(32)}, 255).rotated(1)
    assert keys.active_id == 0
    assert keys.without(255).rotated(2).active_id == 1


def test_a_file_that_breaks_while_serving_changes_nothing(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path)
    before = ring.current
    (tmp_path / KEY_FILE).write_text("{")
    ring.refresh()
    (tmp_path / KEY_FILE).unlink()
    ring.refresh()
    assert ring.current is before
    before.rotated(NOW_MS).save(tmp_path / KEY_FILE)
    ring.refresh()
    assert ring.current.active_id == before.active_id + 1


def test_instants_survive_the_file(tmp_path: Path) -> None:
    keys = TokenKeys.generate().rotated(NOW_MS)
    keys.save(tmp_path / KEY_FILE)
    again = TokenKeys.load(tmp_path / KEY_FILE)
    assert (again.made_at_ms, again.replaced_at_ms) == (keys.made_at_ms, keys.replaced_at_ms) == (
        {2: NOW_MS}, {1: NOW_MS},
    )  # fmt: skip


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    at = ["--data", str(tmp_path)]
    assert fanbid.main(["keys", "rotate", *at]) == fanbid.EXIT_BAD_INPUT
    assert "no such file; a server makes it" in capsys.readouterr().err
    secret = KeyRing(tmp_path).current.keys[1].hex()
    assert fanbid.main(["keys", "rotate", *at]) == 0
    assert capsys.readouterr().out.startswith("key 2 signs")
    assert fanbid.main(["keys", "list", *at]) == 0
    listed = capsys.readouterr().out
    assert [line.split()[0] for line in listed.splitlines()] == ["id", "1", "2"]
    assert listed.splitlines()[1].endswith("verifies") and listed.splitlines()[2].endswith("signs")
    assert secret not in listed
    assert fanbid.main(["keys", "retire", "--id", "1", *at]) == fanbid.EXIT_BAD_INPUT
    assert "may still come for 40 days; --early refuses them" in capsys.readouterr().err
    assert fanbid.main(["keys", "retire", "--id", "1", "--early", *at]) == 0
    assert set(TokenKeys.load(tmp_path / KEY_FILE).keys) == {2}


def test_the_command_promises_no_more_of_a_shared_folder_than_is_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    KeyRing(tmp_path)
    (tmp_path / OWNER_FILE).write_text("{}")
    assert fanbid.main(["keys", "rotate", "--data", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert f"{SIGN_DELAY_MS // 1000} seconds after Redis has it" in told and "or when both are back" in told
    assert fanbid.main(["keys", "retire", "--id", "1", "--early", "--data", str(tmp_path)]) == 0
    assert "a second after Redis knows" in capsys.readouterr().out
