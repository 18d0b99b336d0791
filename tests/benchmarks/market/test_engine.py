from __future__ import annotations

import pytest

from benchmarks.market.history import Priors, write_priors
from benchmarks.market.run import Market, MarketSettings
from benchmarks.market.tuning import Baselines
from benchmarks.market.world import WorldSettings
from benchmarks.study import POLICIES, run_policy

NIGHT = MarketSettings(
    hours=3, slots_per_day=50_000, viewers_per_request=100, drain_hours=1, world=WorldSettings(viewers=5_000)
)
BASELINES = Baselines(fixed_bid_micros=20_000, unpaced_multiplier_micros=800_000)


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> tuple[Market, Priors]:
    market = Market(4, NIGHT)
    return market, write_priors(market, tmp_path_factory.mktemp("priors"))


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_buys_and_every_micro_is_accounted_for(night: tuple[Market, Priors], policy: str) -> None:
    market, priors = night
    result = run_policy(market, policy, BASELINES, priors)
    assert result.refused_rows == {}
    assert sum(c.impressions for c in result.campaigns) > 50
    assert sum(c.charged_micros for c in result.campaigns) > 0
    for campaign in result.campaigns:
        assert campaign.overspend_micros == 0
        assert campaign.unexplained_micros == 0
        assert campaign.over_delivered_micros == 0
        assert campaign.events <= campaign.true_events + 5
        assert (campaign.impressions > 0) == (campaign.charged_micros > 0) == (campaign.predicted_events > 0)


def test_the_same_seed_gives_the_same_result(night: tuple[Market, Priors]) -> None:
    market, priors = night
    assert len({run_policy(market, "engine", BASELINES, priors).digest() for _ in range(2)}) == 1
