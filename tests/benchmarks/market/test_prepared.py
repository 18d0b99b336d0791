from __future__ import annotations

from pathlib import Path

import numpy as np

from auction.predictor.predictor import Predictor
from benchmarks.market.history import GOALS, PastDays, train_predictor
from benchmarks.market.prepared import kept_folder, prepare_market
from benchmarks.market.run import Market, MarketSettings
from benchmarks.market.world import WorldSettings
from pacing.control.history import MarketHistory
from pacing.facts import Goal

SMALL = MarketSettings(slots_per_day=15_000, viewers_per_request=60, world=WorldSettings(viewers=5_000))


def test_what_is_kept_is_what_would_be_made(tmp_path: Path) -> None:
    notes: list[str] = []
    made, priors = prepare_market(3, SMALL, lambda amount, note: notes.append(note), tmp_path / "kept")
    again, same = prepare_market(3, SMALL, lambda amount, note: notes.append(note), tmp_path / "kept")
    assert notes[-1] == "the market as it was kept"
    assert len(notes) == 3
    assert again.campaigns == made.campaigns == Market(3, SMALL).campaigns
    assert same == priors
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    history = MarketHistory.load(priors.history_path)
    assert history.days == 3
    assert history.impressions.sum() > 2 * SMALL.slots_per_day
    assert set(np.unique(history.group)) <= {campaign.category for campaign in made.campaigns}
    Predictor().load(priors.model_path)


def test_every_market_is_kept_apart() -> None:
    places = {kept_folder(seed, settings) for seed in (1, 2) for settings in (SMALL, MarketSettings())}
    assert len(places) == 4
    assert kept_folder(1, SMALL) in places


def test_the_past_teaches_the_truth_and_not_the_day_itself() -> None:
    market = Market(3, SMALL)
    log, sample = PastDays(market).collect()
    fans = GOALS.index(Goal.FANS)
    expected = log.probabilities[:, fans].sum()
    assert abs(log.labels[:, fans].sum() - expected) < 4.5 * np.sqrt(expected)
    predictor = train_predictor(log)
    predicted, _ = predictor.predict(int(Goal.PLAYS), log.features)
    plays = GOALS.index(Goal.PLAYS)
    assert np.corrcoef(predicted, log.probabilities[:, plays])[0, 1] > 0.4
    assert 0.9 < predicted.mean() / log.labels[:, plays].mean() < 1.1
    assert set(np.unique(sample.day)) == {0, 1, 2}
    assert (sample.least_bid_micros > 0).all()
    assert len(sample.features) == len(sample.campaign) == len(sample.bucket)
