"""Tokens and roles."""

from __future__ import annotations

import argparse

import pytest

import fanbid
from auction.campaigns import access as access_module
from auction.campaigns import token_command
from auction.campaigns.access import Access, Forbidden, Principal, Role, Unauthenticated, roles_for
from auction.campaigns.store import CampaignStore
from auction.config import BadSetting
from pacing.budget.owner_redis import OWNER_FILE
from protos import audience_pb2, bidding_pb2, campaigns_pb2
from tests.auction.campaigns.figures import NOON_MS


@pytest.fixture
def store(tmp_path):
    store = CampaignStore(tmp_path / "campaigns.sqlite")
    yield store
    store.close()


def bearer(token):
    return (("user-agent", "test"), ("authorization", f"Bearer {token}"))


def test_a_token_says_who_its_bearer_is(store):
    access = Access(store)
    feed = access.create_token(Role.FEED, 0, NOON_MS)
    creator = access.create_token("creator", 2**64 - 1, NOON_MS)
    assert access.authenticate(bearer(feed)) == Principal(Role.FEED, 0, 1)
    assert access.authenticate(bearer(creator)) == Principal(Role.CREATOR, 2**64 - 1, 2)
    assert access.authenticate([("authorization", f"bearer  {creator} ")]).creator_id == 2**64 - 1
    assert Access(store).principal_of(feed).role is Role.FEED


def test_the_secret_is_not_kept(store):
    token = Access(store).create_token(Role.OPERATOR, 0, NOON_MS)
    secret = token.split(".")[2]
    (row,) = store.tokens()
    assert secret.encode() not in row.secret_hash
    assert len(row.secret_hash) == 32
    assert secret.encode() not in store.path.read_bytes()


@pytest.mark.parametrize(
    "metadata",
    [
        (),
        (("authorization", ""),),
        (("authorization", "Basic abc"),),
        (("authorization", "Bearer"),),
        (("authorization", "Bearer "),),
        (("authorization", b"Bearer x"),),
        (("authorization", "Bearer fanbid.1.wrong"),),
        (("authorization", "Bearer fanbid.2.wrong"),),
        (("authorization", "Bearer fanbid.-1.x"),),
        (("authorization", "Bearer fanbid.١.x"),),
        (("authorization", "Bearer fanbid.1."),),
        (("authorization", "Bearer fanbid.1.x.y"),),
        (("authorization", "Bearer " + "9" * 10_000),),
        (("authorization", "Bearer fanbid." + "9" * 100 + ".x"),),
        (("authorization", "Bearer fanbid.1.\udcff"),),
    ],
)
def test_anything_else_is_nobody(store, metadata):
    access = Access(store)
    access.create_token(Role.FEED, 0, NOON_MS)
    with pytest.raises(Unauthenticated):
        access.authenticate(metadata)


def test_a_token_with_one_character_changed_is_not_valid(store):
    access = Access(store)
    token = access.create_token(Role.FEED, 0, NOON_MS)
    changed = token[:-1] + ("A" if token[-1] != "A" else "B")
    with pytest.raises(Unauthenticated):
        access.principal_of(changed)
    assert access.principal_of(token).role is Role.FEED


def test_a_token_made_elsewhere_works_and_a_revoked_one_stops(store, monkeypatch):
    here, elsewhere = Access(store), Access(store)
    token = elsewhere.create_token(Role.FEED, 0, NOON_MS)
    assert here.principal_of(token).token_id == 1  # at its first use, however short ago the table was read
    with pytest.raises(Unauthenticated):
        here.principal_of(token[:-1])
    here.refresh()
    assert elsewhere.revoke(1, NOON_MS)
    assert here.principal_of(token).token_id == 1  # until the next refresh
    monkeypatch.setattr(access_module, "REFRESH_S", 0.0)
    with pytest.raises(Unauthenticated):
        here.principal_of(token)
    with pytest.raises(Unauthenticated):
        here.principal_of(token)  # looked up alone, it is not valid either
    assert not elsewhere.revoke(1, NOON_MS)


@pytest.mark.parametrize(
    ("role", "creator_id"), [("creator", 0), ("creator", 2**64), ("creator", -1), ("feed", 3), ("admin", 0), ("", 0)]
)
def test_no_token_for_a_role_that_does_not_fit(store, role, creator_id):
    with pytest.raises(ValueError, match=r"role|creator"):
        Access(store).create_token(role, creator_id, NOON_MS)
    assert store.tokens() == []


def test_each_call_is_for_some_role_and_only_for_those_it_should_be():
    calls = [
        f"{service.name}/{method.name}"
        for file in (bidding_pb2, campaigns_pb2, audience_pb2)
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    ]
    assert len(calls) >= 18
    assert all(roles_for(call) for call in calls)
    assert roles_for("Bidding/Bid") == roles_for("Bidding/Report") == {Role.FEED}
    assert roles_for("Audience/PutSegment") == {Role.CREATOR, Role.OPERATOR}
    assert roles_for("Audience/PutViewers") == roles_for("Audience/ExportSegment") == {Role.OPERATOR}
    assert roles_for("Audience/EstimateReach") == roles_for("Campaigns/GetReport") == {Role.CREATOR, Role.OPERATOR}
    assert roles_for("Nothing/AtAll") == frozenset()


def test_a_role_that_may_not_is_told_who_may(store):
    access = Access(store)
    token = access.create_token(Role.CREATOR, 7, NOON_MS)
    assert access.authorize(bearer(token), "Campaigns/GetReport").creator_id == 7
    with pytest.raises(Forbidden, match="role creator: Bidding/Bid is for feed"):
        access.authorize(bearer(token), "Bidding/Bid")


def run(*words):
    parser = argparse.ArgumentParser()
    token_command.configure(parser)
    return token_command.main(parser.parse_args(list(words)))


def test_the_command_makes_lists_and_revokes(tmp_path, capsys):
    flags = ["--data", str(tmp_path / "new")]
    assert run("create", "--role", "creator", "--creator", "7", *flags) == 0
    token = capsys.readouterr().out.strip()
    store = CampaignStore(tmp_path / "new" / token_command.STORE_FILE)
    assert Access(store).principal_of(token) == Principal(Role.CREATOR, 7, 1)
    assert run("list", *flags) == 0
    listed = capsys.readouterr().out
    assert "creator" in listed and "valid" in listed and token.split(".")[2] not in listed
    assert run("revoke", "--id", "1", *flags) == 0
    with pytest.raises(Unauthenticated):
        Access(store).principal_of(token)
    with pytest.raises(BadSetting, match="--id 1: no valid token of this id"):
        run("revoke", "--id", "1", *flags)
    store.close()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--role", "creator"], "^--creator is required with --role creator$"),
        (["--role", "creator", "--creator", "0"], r"^--creator 0: not in 1\.\.18446744073709551615$"),
        (["--role", "feed", "--creator", "7"], "^--creator 7: only with --role creator$"),
        (["--role", "operator", "--creator", "0"], "^--creator 0: only with --role creator$"),
    ],
)
def test_a_token_that_cannot_be_made_makes_no_folder(words, why, tmp_path):
    with pytest.raises(BadSetting, match=why):
        run("create", *words, "--data", str(tmp_path / "new"))
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("words", [["list"], ["revoke", "--id", "1"]])
def test_a_folder_without_a_store_is_told_and_left_as_it_is(words, tmp_path):
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(FileNotFoundError, match=f"--data {folder}: no campaigns.sqlite there"):
            run(*words, "--data", str(folder))
    assert list(tmp_path.iterdir()) == []


def test_a_new_folder_is_told_once_and_is_the_accounts_own(tmp_path, capsys):
    folder = tmp_path / "new"
    run("create", "--role", "feed", "--data", str(folder))
    assert f"{folder}: had no campaigns.sqlite, so a new one is made" in capsys.readouterr().err
    assert folder.stat().st_mode & 0o777 == 0o700
    run("create", "--role", "feed", "--data", str(folder))
    assert capsys.readouterr().err == ""


def test_the_folder_may_come_from_the_environment(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("FANBID_DATA", raising=False)
    with pytest.raises(ValueError, match=r"--data: required, .* FANBID_DATA"):
        run("list")
    monkeypatch.setenv("FANBID_DATA", str(tmp_path / "of_the_environment"))
    run("create", "--role", "feed")
    run("create", "--role", "feed", "--data", str(tmp_path / "of_the_flag"))
    assert {path.name for path in tmp_path.iterdir()} == {"of_the_environment", "of_the_flag"}


@pytest.mark.parametrize("name", ["", "campaigns.sqlite"])
def test_a_store_or_folder_that_is_none_is_one_line_and_exit_2(name, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(fanbid, "_stop_on_sigterm", lambda: None)
    (tmp_path / "campaigns.sqlite").write_bytes(b"no database " * 1_000)
    folder = tmp_path / name
    for words in (["list"], ["create", "--role", "feed"]):
        assert fanbid.main(["token", *words, "--data", str(folder)]) == 2
        told = capsys.readouterr().err.splitlines()
        assert told[-1].startswith(f"fanbid token: --data {folder}: ") and "campaigns.sqlite" in told[-1]


def test_of_a_shared_folder_it_is_told_that_other_servers_hear_of_tokens_through_redis(tmp_path, capsys):
    (tmp_path / OWNER_FILE).write_text("{}")
    run("create", "--role", "feed", "--data", str(tmp_path))
    shown = capsys.readouterr()
    assert len(shown.out.splitlines()) == 1 and "once" not in shown.out
    assert "at the others a second after that server has told Redis" in shown.err
    run("revoke", "--id", "1", "--data", str(tmp_path))
    assert "at the others a second after that server has told Redis" in capsys.readouterr().out
