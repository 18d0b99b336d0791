"""The file of campaigns and tokens: what is written is there for everybody, or not at all."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auction.campaigns.model import BidMode, CampaignStatus, Creative
from auction.campaigns.store import CampaignStore, NoSuchCampaign, StoreUnavailable
from pacing.facts import Goal
from targeting.attributes import Dimension
from targeting.expressions import (
    All,
    Any,
    Attribute,
    FansOf,
    FansOfSimilarCreators,
    FriendsOfFans,
    Interests,
    Not,
    Segment,
)
from tests.auction.campaigns.figures import NOON_MS, a_campaign

ROOT = Path(__file__).parents[3]
AUDIENCE = All(
    (
        Any((Interests((3, 12)), Segment("tier:iron"))),
        Not(Attribute(Dimension.REGION, (7, 8))),
        FansOf((2**64 - 1,)),
        Any((FriendsOfFans(), FansOfSimilarCreators())),
    )
)


@pytest.fixture
def store(tmp_path):
    store = CampaignStore(tmp_path / "campaigns.sqlite")
    yield store
    store.close()


def put(store, campaign, key=""):
    with store.change():
        return replace(campaign, campaign_id=store.insert(campaign, key))


def test_a_campaign_comes_back_as_it_went_in(store, tmp_path):
    full = a_campaign(
        creator_id=2**64 - 1,
        name="冬季 🎿",
        targeting=AUDIENCE,
        include_fans=True,
        frequency_cap_per_day=9,
        end_at_ms=NOON_MS + 9,
        creatives=(Creative(2**64 - 1, "é", 63), Creative(2)),
        total_budget_micros=10**14,
        status=CampaignStatus.PAUSED,
        version=4,
    )
    stored = put(store, full)
    assert stored.campaign_id == 1
    assert store.get(1) == stored
    store.close()
    again = CampaignStore(tmp_path / "campaigns.sqlite")
    assert again.all() == [stored]
    again.close()


def test_ids_grow_from_one_and_are_never_given_twice(store):
    assert [put(store, a_campaign()).campaign_id for _ in range(3)] == [1, 2, 3]
    with pytest.raises(RuntimeError, match="on purpose"), store.change():
        store.insert(a_campaign())
        raise RuntimeError("on purpose")
    assert [c.campaign_id for c in store.all()] == [1, 2, 3]
    assert put(store, a_campaign()).campaign_id == 4


@pytest.mark.parametrize("campaign_id", [0, 2, 2**63, 2**64 - 1])
def test_an_unknown_id_is_said_to_be_unknown(store, campaign_id):
    put(store, a_campaign())
    with pytest.raises(NoSuchCampaign, match=f"campaign_id {campaign_id}"):
        store.get(campaign_id)


def test_only_a_later_version_replaces_an_earlier_one(store):
    stored = put(store, a_campaign())
    later = replace(stored, name="Later", version=2)
    with store.change():
        store.update(later)
    assert store.get(1) == later
    with pytest.raises(NoSuchCampaign), store.change():
        store.update(replace(later, name="Same version"))
    assert store.get(1) == later


def test_a_key_belongs_to_its_creator(store):
    first = put(store, a_campaign(creator_id=7), "key")
    assert store.find_by_key(7, "key") == first
    assert store.find_by_key(8, "key") is None
    second = put(store, a_campaign(creator_id=8), "key")
    assert store.find_by_key(8, "key") == second
    with pytest.raises(StoreUnavailable):
        put(store, a_campaign(creator_id=7), "key")
    assert len(store.all()) == 2


@settings(max_examples=25, deadline=None)
@given(creators=st.lists(st.sampled_from([1, 2, 2**64 - 1]), max_size=25), size=st.integers(1, 7))
def test_pages_hold_every_campaign_once_in_order(tmp_path_factory, creators, size):
    store = CampaignStore(tmp_path_factory.mktemp("pages") / "c.sqlite")
    stored = [put(store, a_campaign(creator_id=creator)) for creator in creators]
    for wanted in (0, 1, 2**64 - 1):
        seen, after = [], 0
        while page := store.page(after, size, wanted):
            assert len(page) <= size
            seen += page
            after = page[-1].campaign_id
        assert seen == [c for c in stored if wanted in (0, c.creator_id)]
    store.close()


def test_another_process_adds_tokens_while_this_one_is_in_use(store):
    put(store, a_campaign())
    script = (
        "import sys; from auction.campaigns.store import CampaignStore; s = CampaignStore(sys.argv[1]);"
        "print(s.add_token(b'h' * 32, 'feed', 0, 5)); s.close()"
    )
    made = subprocess.run(
        [sys.executable, "-c", script, str(store.path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        cwd=ROOT,
    )
    assert made.stdout.strip() == "1"
    assert [(t.token_id, t.secret_hash, t.role, t.creator_id) for t in store.tokens()] == [(1, b"h" * 32, "feed", 0)]
    put(store, a_campaign())
    assert len(store.all()) == 2


def test_tokens_are_revoked_once(store):
    token_id = store.add_token(b"h" * 32, "creator", 2**64 - 1, 5)
    assert store.revoke_token(token_id, 9)
    assert not store.revoke_token(token_id, 10)
    assert not store.revoke_token(99, 10)
    (token,) = store.tokens()
    assert (token.creator_id, token.created_at_ms, token.revoked_at_ms) == (2**64 - 1, 5, 9)


def test_many_threads_write_without_losing_any(store):
    def work(creator):
        for _ in range(15):
            put(store, a_campaign(creator_id=creator))

    threads = [threading.Thread(target=work, args=(creator,)) for creator in (1, 2, 3, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(c.campaign_id for c in store.all()) == list(range(1, 61))


def test_a_file_that_is_none_is_refused_with_its_name(tmp_path):
    path = tmp_path / "campaigns.sqlite"
    path.write_bytes(b"this is no database, but it is long enough to look like a header of one" * 20)
    with pytest.raises(StoreUnavailable, match=r"campaigns\.sqlite"):
        CampaignStore(path)


def test_a_newer_schema_is_refused(store):
    store.close()
    connection = sqlite3.connect(store.path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StoreUnavailable, match="schema 99"):
        CampaignStore(store.path)


def test_every_goal_and_mode_is_stored(store):
    for goal in Goal:
        automatic = a_campaign(goal=goal, bid_mode=BidMode.AUTOMATIC, target_cost_micros=0)
        assert store.get(put(store, automatic).campaign_id).goal is goal
