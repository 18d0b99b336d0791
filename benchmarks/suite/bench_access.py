"""What it costs to know who is calling, and to count the call."""

from __future__ import annotations

from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from auction.campaigns.access import Access, Role
from auction.campaigns.limits import RateLimits
from auction.campaigns.store import CampaignStore

CALL = "Bidding/Bid"
ROUNDS = {"iterations": 1_000, "rounds": 30, "warmup_rounds": 1}


@pytest.mark.parametrize("per_s", [0, 10**6], ids=["not counted", "counted"])
def test_admit(benchmark: BenchmarkFixture, tmp_path: Path, per_s: int) -> None:
    """Admit a feed server's call; the difference of the two is what the rate limit costs."""
    store = CampaignStore(tmp_path / "campaigns.sqlite")
    access = Access(store, RateLimits(per_s, 10**7))
    token = access.create_token(Role.FEED, 0, 1)
    metadata = (("user-agent", "bench"), ("authorization", f"Bearer {token}"))
    principal = benchmark.pedantic(access.admit, (metadata, CALL), **ROUNDS)
    assert principal.role is Role.FEED
    store.close()
