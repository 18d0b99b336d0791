"""What a campaign's day has brought: counted from judged rows, corrected by what arrived, known better by the hour."""

from __future__ import annotations

import numpy as np
import pytest

from auction.accounts import aimed_target_micros
from auction.progress import DayEstimate, Progress
from auction.trust import Trust
from pacing.clocks import MS_PER_DAY, MS_PER_HOUR, MS_PER_MINUTE
from pacing.facts import FLAG_CALLER_PREDICTION, JUDGEMENT, OUTCOME, Goal, OutcomeKind, Verdict

START_MS = 20_000 * MS_PER_DAY
CAMPAIGN = 7


def _progress() -> Progress:
    return Progress(
        lambda campaign_id, at_ms: (at_ms // MS_PER_DAY, at_ms // MS_PER_DAY * MS_PER_DAY),
        lambda campaign_id: Goal.FANS,
    )


def _at_once(goal: Goal, ages_ms: np.ndarray) -> np.ndarray:
    return np.ones(len(ages_ms))


def _follow(
    progress: Progress,
    at_ms: int,
    impressions: int,
    events: int,
    flags: int = 0,
    issued_at_ms: int | None = None,
    campaign_id: int = CAMPAIGN,
) -> None:
    """So many impressions of p = 0.1, and events of the campaign's goal."""
    rows, judgements = np.zeros(impressions + events, OUTCOME), np.zeros(impressions + events, JUDGEMENT)
    rows["kind"] = [OutcomeKind.BILLABLE] * impressions + [OutcomeKind.FOLLOW] * events
    rows["recorded_at_ms"] = rows["occurred_at_ms"] = at_ms
    rows["decision"]["probability"], rows["decision"]["flags"] = 0.1, flags
    rows["decision"]["issued_at_ms"] = at_ms if issued_at_ms is None else issued_at_ms
    judgements["campaign_id"] = campaign_id
    judgements["verdict"] = [Verdict.CHARGED] * impressions + [Verdict.ATTRIBUTED] * events
    progress.follow(rows, judgements)


def _estimate(progress: Progress, now_ms: int) -> DayEstimate:
    return progress.estimate(CAMPAIGN, now_ms // MS_PER_DAY, now_ms, _at_once)


def test_a_fan_counts_for_how_likely_it_is_kept() -> None:
    kept = Progress(
        lambda campaign_id, at_ms: (at_ms // MS_PER_DAY, at_ms // MS_PER_DAY * MS_PER_DAY),
        lambda campaign_id: Goal.KEPT_FANS,
        kept_worth_of=lambda rows, judgements: np.full(len(rows), 0.25),
    )
    fans = _progress()
    _follow(kept, START_MS + MS_PER_HOUR, 1_000, 200)
    _follow(fans, START_MS + MS_PER_HOUR, 1_000, 50)
    assert _estimate(kept, START_MS + 2 * MS_PER_HOUR) == _estimate(fans, START_MS + 2 * MS_PER_HOUR)


def test_predictions_are_corrected_by_what_arrived() -> None:
    progress = _progress()
    assert _estimate(progress, START_MS).events == 0.0
    _follow(progress, START_MS + MS_PER_HOUR, 1_000, 50)
    found = _estimate(progress, START_MS + 2 * MS_PER_HOUR)
    assert found.predicted_events == pytest.approx(100)
    assert 50 < found.events < 85
    assert found.ratio == pytest.approx(found.events / 100)


def test_callers_predictions_are_taken_as_they_are() -> None:
    progress = _progress()
    _follow(progress, START_MS + MS_PER_HOUR, 1_000, 50, FLAG_CALLER_PREDICTION)
    found = _estimate(progress, START_MS + 2 * MS_PER_HOUR)
    assert found.events == pytest.approx(found.predicted_events)
    assert found.ratio == pytest.approx(1.0)
    assert found.relative_sd == pytest.approx(0.0)


def test_the_day_is_known_better_the_more_of_it_there_will_be() -> None:
    spreads = []
    for impressions in (0, 100, 1_000, 10_000):
        progress = _progress()
        if impressions:
            _follow(progress, START_MS + MS_PER_HOUR, impressions, impressions // 10)
        spreads.append(_estimate(progress, START_MS + 2 * MS_PER_HOUR).relative_sd)
    assert spreads == sorted(spreads, reverse=True)
    aims = [aimed_target_micros(1_000_000, DayEstimate(1.0, 1.0, 1.0, spread)) for spread in spreads]
    assert 500_000 <= aims[0] < aims[1] < aims[2] < aims[3] < 1_000_000
    assert aims[3] > 990_000


def test_events_of_yesterdays_impressions_are_not_todays() -> None:
    progress = _progress()
    _follow(progress, START_MS + MS_PER_HOUR, 1_000, 0)
    tomorrow_ms = START_MS + MS_PER_DAY + 10 * MS_PER_MINUTE
    _follow(progress, tomorrow_ms, 100, 0)
    _follow(progress, tomorrow_ms, 0, 60, issued_at_ms=START_MS + MS_PER_HOUR)
    assert _estimate(progress, tomorrow_ms + MS_PER_HOUR).ratio < 1.05


def test_finished_days_teach_how_far_predictions_are_believed() -> None:
    progress, rng = _progress(), np.random.default_rng(1)
    before = progress.estimate(99, 0, START_MS, _at_once).relative_sd
    for day in range(12):
        at_ms = START_MS + day * MS_PER_DAY + MS_PER_HOUR
        _follow(progress, at_ms, 5_000, int(rng.poisson(500)))
        _estimate(progress, at_ms + MS_PER_HOUR)
    after = progress.estimate(99, 0, at_ms + MS_PER_HOUR, _at_once).relative_sd
    assert after < 0.75 * before
    again = _progress()
    again.restore(progress.state())
    assert again.estimate(99, 0, at_ms, _at_once).relative_sd == pytest.approx(after)
    assert _estimate(again, at_ms + MS_PER_HOUR) == _estimate(progress, at_ms + MS_PER_HOUR)


def test_state_of_another_shape_is_refused_and_changes_nothing() -> None:
    progress = _progress()
    _follow(progress, START_MS + MS_PER_HOUR, 1_000, 50)
    saved = progress.state()
    for wrong in (
        {"trust": Trust().state(), "days": {"7": {"day_key": 1}}},
        {"trust": [0.0], "days": saved["days"]},
        {"days": saved["days"]},
    ):
        with pytest.raises((ValueError, KeyError, TypeError)):
            progress.restore(wrong)
    assert progress.state() == saved


def test_many_are_estimated_like_one() -> None:
    progress = _progress()
    _follow(progress, START_MS + MS_PER_HOUR, 1_000, 50)
    at_ms = START_MS + 2 * MS_PER_HOUR
    ids, day = np.array([99, CAMPAIGN, CAMPAIGN], np.uint64), at_ms // MS_PER_DAY
    found = progress.estimates(ids, np.array([day, day, day - 1]), at_ms, _at_once)
    expected = [progress.estimate(*one, at_ms, _at_once) for one in ((99, day), (CAMPAIGN, day), (CAMPAIGN, day - 1))]
    assert [DayEstimate(*row) for row in found.tolist()] == expected
    assert found[1, 1] == pytest.approx(100)


def test_of_too_many_days_some_are_estimated_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("auction.progress.ESTIMATE_ALL", 3)
    monkeypatch.setattr("auction.progress.ESTIMATE_LIMIT", 2)
    progress, ids = _progress(), np.arange(CAMPAIGN, CAMPAIGN + 5).astype(np.uint64)
    at_ms = START_MS + 2 * MS_PER_HOUR
    keys = np.full(5, at_ms // MS_PER_DAY)
    for campaign_id in ids.tolist():
        _follow(progress, START_MS + MS_PER_HOUR, 1_000, 50, campaign_id=campaign_id)
    known = [int((progress.estimates(ids, keys, at_ms + k, _at_once)[:, 0] < 99).sum()) for k in range(4)]
    assert known == [2, 4, 5, 5]  # the others' predictions are taken for right until their turn comes
    before = progress.estimates(ids, keys, at_ms + 10, _at_once)
    for campaign_id in ids.tolist():
        _follow(progress, at_ms, 300, 15, campaign_id=campaign_id)
        _follow(progress, at_ms, 100, 0, FLAG_CALLER_PREDICTION, campaign_id=campaign_id)
    after = progress.estimates(ids, keys, at_ms + 11, _at_once)
    exact = progress.estimate(CAMPAIGN, int(keys[0]), at_ms + 11, _at_once)
    np.testing.assert_allclose(after[:, 1], before[:, 1] + 40)  # what was bought is told at once
    assert len(np.unique(after[:, 2])) == 2
    np.testing.assert_allclose(after[:, 0], exact.events, rtol=0.03)
    for k in range(12, 15):
        last = progress.estimates(ids, keys, at_ms + k, _at_once)
    np.testing.assert_allclose(last, np.tile(last[0], (5, 1)), rtol=1e-4)
    assert last[0, 0] == pytest.approx(exact.events)


def test_days_of_campaigns_that_buy_no_more_are_learned_from_and_forgotten() -> None:
    progress = _progress()
    for day in range(6):
        for campaign_id in (10 + day, CAMPAIGN):
            _follow(progress, START_MS + day * MS_PER_DAY, 1_000, 200, campaign_id=campaign_id)
        _estimate(progress, START_MS + day * MS_PER_DAY + MS_PER_HOUR)
        assert len(progress.state()["days"]) <= 3
    assert set(progress.state()["days"]) == {"7", "14", "15"}
    assert progress._finished == [] and _estimate(progress, START_MS + 5 * MS_PER_DAY).ratio > 1.2
