"""Every protective part is needed, and its absence is noticed within a bounded number of worlds."""

from __future__ import annotations

import pytest

from benchmarks.faults.command import play_seed
from benchmarks.faults.parts import PARTS, without
from pacing.budget import bank, memory, recovery
from pacing.ledger import index

MOST_SEEDS = 40
FIRST_SEEDS = {
    "quarantine": 6,
    "quarantine-verdicts": 4,
    "grace": 18,
    "own-holds": 8,
    "days": 132,
    "waiting-leases": 221_403,
}
"""Where to begin for parts whose absence shows in few worlds."""


SHARED_SEEDS = {
    "store-claims": 4,
    "failover-quarantine": 19,
    "settling-again": 7,
    "shared-tombstones": 4,
    "reclaim-grace": 1,
    "waiting-claims": 19,
    "release-numbers": 24,
    "doubt": 6,
    "rebuilding": 62,
    "lease-starts": 12,
    "caps-again": 19,
    "told-rows": 45,
    "unwritten-charges": 210_842,
    "reclaim-wait": 500_628,
}
"""Worlds of several servers that fail without a part of the shared store."""


@pytest.mark.parametrize("name", [name for name, part in PARTS.items() if part.servers == 1])
def test_a_world_without_the_part_fails(name: str) -> None:
    first = FIRST_SEEDS.get(name, 0)
    seeds = range(first, first + MOST_SEEDS)
    with without([name]):
        failed = next((seed for seed in seeds if play_seed(seed, servers=1).failure), None)
    assert failed is not None
    assert play_seed(failed, servers=1).failure == "", "with the part, the same world passes"


@pytest.mark.parametrize("name", SHARED_SEEDS)
def test_a_world_of_several_servers_without_the_part_fails(name: str) -> None:
    seed, servers = SHARED_SEEDS[name], PARTS[name].servers
    with without([name]):
        assert play_seed(seed, servers=servers).failure
    assert play_seed(seed, servers=servers).failure == "", "with the part, the same world passes"


def test_a_part_that_only_a_shared_store_needs_is_not_missed_on_one_server() -> None:
    with without(["store-claims"]):
        assert [play_seed(seed, servers=1).failure for seed in range(3)] == [""] * 3


def test_parts_are_back_afterwards() -> None:
    shipped = (bank.Bank, bank.LeaseKeeper, bank.HoldBook, bank.replay, recovery.Replayed, index.add_claims)
    remembered = memory.REMEMBERED_CLAIMS
    with without(list(PARTS)):
        pass
    assert (bank.Bank, bank.LeaseKeeper, bank.HoldBook, bank.replay, recovery.Replayed, index.add_claims) == shipped
    assert remembered == memory.REMEMBERED_CLAIMS


def test_an_unknown_part_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="--without luck: must be one of quarantine"), without(["luck"]):
        pass
