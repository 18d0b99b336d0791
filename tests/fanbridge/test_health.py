"""Health reports: what they count is what happened, associations and peers say no more than they may."""

from __future__ import annotations

import math
import random
import sqlite3

import grpc
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanbridge.events import FAN_OUTCOME
from fanbridge.service.fans import FanRules
from fanbridge.service.health.associations import SMALLEST_GROUP, associations_of
from fanbridge.service.health.peers import LEAST_FANS, SMALLEST_COHORT, Everybody, band_of, standing_of
from fanbridge.service.health.reader import HealthReader
from fanbridge.service.health.report import HealthReports
from fanbridge.service.store import FanStore
from fanbridge.service.validation import InvalidRequest
from pacing.facts import OutcomeKind
from protos import fans_pb2 as pb
from protos.rpc.refusals import Refused
from tests.fanbridge.fan_history import CREATOR, END_AT_MS, FIRM, LEAKY, event_rows, tell_history
from tests.fanbridge.services import connected, running_service

DAY_MS = 1_000
END_DAY = 100
DAYS = 7
KINDS = (OutcomeKind.FOLLOW, OutcomeKind.UNFOLLOW, OutcomeKind.LIKE, OutcomeKind.GIFT)
FACTS = st.lists(
    st.tuples(
        st.integers(1, 5),
        st.sampled_from((3, 2**64 - 1)),
        st.sampled_from(KINDS),
        st.integers(80 * DAY_MS, END_DAY * DAY_MS + 500),
    ),
    max_size=60,
    unique=True,
)


def follows_at(facts, viewer, creator, at_ms):
    """Whether the viewer followed just before the instant, fact by fact."""
    state = False
    for _, kind in sorted(
        (at, kind) for v, c, kind, at in facts if (v, c) == (viewer, creator) and at < at_ms and kind in KINDS[:2]
    ):
        state = kind == OutcomeKind.FOLLOW
    return state


def changes(facts, creator, begin_ms, end_ms):
    """Gains and losses within the period, with the instant of each gain."""
    gains, losses = [], []
    for viewer in range(1, 6):
        state = False
        for at, kind in sorted((at, kind) for v, c, kind, at in facts if (v, c) == (viewer, creator)):
            if kind == OutcomeKind.FOLLOW and not state:
                state = True
                if begin_ms <= at < end_ms:
                    gains.append((viewer, at))
            elif kind == OutcomeKind.UNFOLLOW and state:
                state = False
                if begin_ms <= at < end_ms:
                    losses.append((viewer, at))
    return gains, losses


@settings(max_examples=25, deadline=None)
@given(FACTS, st.randoms(use_true_random=False))
def test_growth_is_what_happened_in_whatever_order_it_is_told(tmp_path_factory, facts, order):
    path = tmp_path_factory.mktemp("health") / "fans.sqlite"
    store = FanStore(path, FanRules.with_day(DAY_MS))
    reports = HealthReports(HealthReader(path), DAY_MS, lambda: END_DAY * DAY_MS + 600)
    told = facts[:]
    order.shuffle(told)
    half = len(told) // 2
    store.push_events(event_rows(told[:half]), END_DAY * DAY_MS)
    store.push_events(event_rows(told[half:], first_id=1_000), END_DAY * DAY_MS)
    bought = [fact for fact in facts if fact[2] == OutcomeKind.FOLLOW][::2]
    outcomes = np.zeros(len(bought), FAN_OUTCOME)
    for i, (viewer, creator, kind, at_ms) in enumerate(bought):
        outcomes[i] = (1, i, kind, viewer, creator, 2**64 - 5, 1, 0, at_ms, i)
    store.push_outcomes(outcomes, END_DAY * DAY_MS)
    try:
        for creator in (3, 2**64 - 1):
            report = reports.report(pb.HealthRequest(creator_id=creator))
            begin_ms, end_ms = (END_DAY - DAYS) * DAY_MS, END_DAY * DAY_MS
            figures = report.period
            gains, losses = changes(facts, creator, begin_ms, end_ms)
            fans = [sum(follows_at(facts, v, creator, at) for v in range(1, 6)) for at in (begin_ms, end_ms)]
            assert (figures.fans_at_begin, figures.fans_at_end) == tuple(fans)
            assert (figures.gained, figures.lost) == (len(gains), len(losses))
            assert figures.fans_at_end - figures.fans_at_begin == figures.gained - figures.lost
            assert report.before.fans_at_end == figures.fans_at_begin
            through = {(v, at) for v, c, _, at in bought if c == creator}
            by_source = {one.campaign_id: one.gained for one in figures.sources}
            assert by_source.get(2**64 - 5, 0) == sum(gain in through for gain in gains)
            assert sum(by_source.values()) == figures.gained
            assert sum(one.lost for one in figures.sources) == figures.lost
            assert sum(day.gained_by_campaigns for day in report.by_day) == by_source.get(2**64 - 5, 0)
            assert sum(day.lost for day in report.by_day) == figures.lost
            assert figures.active_fan_days <= figures.fan_days
            in_period = [kind for _, c, kind, at in facts if c == creator and begin_ms <= at < end_ms]
            counted = {one.kind: one.events for one in figures.kinds}
            assert counted == {kind: in_period.count(kind) for kind in KINDS[2:] if kind in in_period}
    finally:
        reports.close()
        store.close()


@settings(max_examples=15, deadline=None)
@given(FACTS)
def test_the_mix_adds_up_to_the_fans_and_an_old_file_is_counted_when_it_is_opened(tmp_path_factory, facts):
    path = tmp_path_factory.mktemp("mix") / "fans.sqlite"
    now_ms = END_DAY * DAY_MS + 600
    store = FanStore(path, FanRules.with_day(DAY_MS))
    store.push_events(event_rows(sorted(facts, key=lambda fact: fact[3])), now_ms)
    store.review(now_ms)

    def rows(query):
        with sqlite3.connect(path) as db:
            return db.execute(query).fetchall()

    kinds = rows("SELECT * FROM kind_days")
    tiers = {(c, t): n for c, t, n in rows("SELECT creator_id, tier, count(*) FROM fans WHERE tier > 0 GROUP BY 1, 2")}
    reader = HealthReader(path)
    for _ in range(2):
        for creator in (3, 2**64 - 1):
            signed = creator - 2**64 if creator >= 2**63 else creator
            counted = {t: n for t, n in reader.tiers(creator, END_DAY + 1).items() if t and n}
            assert counted == {t: n for (c, t), n in tiers.items() if c == signed}
        store.close()
        with sqlite3.connect(path) as db:
            db.execute("DELETE FROM kind_days")
            db.execute("DELETE FROM tier_steps")
        store = FanStore(path, FanRules.with_day(DAY_MS))
        assert rows("SELECT * FROM kind_days") == kinds
    reader.close()
    store.close()


def test_an_association_is_told_with_its_counts_and_an_interval():
    left = np.zeros(440, np.bool_)
    left[:12], left[80:110] = True, True
    group = np.arange(440) < 80
    (found,) = associations_of(left, {5: group})
    assert (found.left, found.fans, found.others_left, found.others) == (12, 80, 30, 360)
    assert found.ratio == pytest.approx(1.8)
    assert found.ratio_low < 1 < found.ratio_high and not found.is_clear
    assert "12 of 80 against 30 of 360" in found.sentence("They") and "about as often" in found.sentence("They")
    left[12:40] = True
    (found,) = associations_of(left, {5: group})
    assert found.is_clear and found.ratio == pytest.approx((40 / 80) / (30 / 360))
    assert found.sentence("They").endswith("an association, not a cause.")


def test_small_groups_and_few_who_left_are_not_compared():
    left = np.arange(200) < 20
    assert associations_of(left, {5: np.arange(200) < SMALLEST_GROUP - 1}) == []
    assert associations_of(left, {5: np.arange(200) >= SMALLEST_GROUP - 1}) == []
    assert len(associations_of(left, {5: np.arange(200) < SMALLEST_GROUP})) == 1
    assert associations_of(np.arange(200) < 4, {5: np.arange(200) < 100}) == []
    assert associations_of(np.zeros(0, np.bool_), {5: np.zeros(0, np.bool_)}) == []


def test_where_nothing_is_associated_hardly_a_report_says_so():
    draws = np.random.default_rng(3)
    wrong = 0
    for _ in range(400):
        left = draws.random(400) < 0.08
        groups = {i: np.arange(400) % 5 == i for i in range(5)}
        wrong += any(one.is_clear for one in associations_of(left, groups))
    assert wrong <= 400 * 0.05 + 3 * math.sqrt(400 * 0.05 * 0.95)


def test_more_groups_make_wider_intervals_and_nobody_else_leaving_is_no_number():
    left, group = np.arange(200) < 12, np.arange(200) < 60
    (alone,) = associations_of(left, {5: group})
    among = associations_of(left, {5: group, 6: np.arange(200) % 2 == 0, 7: np.arange(200) % 3 == 0})
    wider = next(one for one in among if one.group == 5)
    assert wider.ratio_low < alone.ratio_low and wider.ratio_high > alone.ratio_high
    assert alone.ratio == 0 and alone.is_clear
    assert "none of the others did (12 of 60 against 0 of 140)" in alone.sentence("They")


def everybody(fans):
    count = len(fans)
    return Everybody(
        np.arange(count), np.array(fans), 10 + np.arange(count), np.full(count, 4), np.array(fans) * 2, days=7
    )


def test_nothing_is_said_of_too_few_peers_or_too_few_fans():
    assert standing_of(everybody([100] * SMALLEST_COHORT), 0) is None
    standing = standing_of(everybody([100] * (SMALLEST_COHORT + 1)), 0)
    assert standing is not None and standing.creators == SMALLEST_COHORT
    assert (standing.least_fans, standing.most_fans) == (50, 200)
    assert standing.percentiles[:2] == (0, 50)  # gained least; all lost as many
    assert standing_of(everybody([9] * 30), 0) is None
    assert standing_of(everybody([100] * 20), 77) is None
    assert standing_of(everybody([100] + [201] * 20), 0) is None, "larger ones are no peers"


@given(st.integers(LEAST_FANS, 10**12))
def test_a_creator_lies_within_the_own_band(fans):
    least, most = band_of(fans)
    assert LEAST_FANS <= least <= fans <= most


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    with running_service(tmp_path_factory.mktemp("told")) as service, connected(service.address) as client:
        tell_history(client)
        yield client


@pytest.mark.parametrize("days", [7, 30])
def test_a_service_reports_a_history(told, days):
    report = told.get_health(pb.HealthRequest(creator_id=CREATOR, days=days))
    assert report.end_at_ms == END_AT_MS and report.end_at_ms - report.begin_at_ms == days * 86_400_000
    figures = report.period
    assert {one.campaign_id for one in figures.sources} == {LEAKY, FIRM, 0}
    assert figures.gained > 10 * days / 7 and figures.lost > 5
    assert sum(one.fans for one in figures.stages) >= figures.fans_at_end
    assert sum(one.share for one in figures.tiers) == pytest.approx(1)
    assert len(report.by_day) == days and report.by_day[-1].fans_at_end == figures.fans_at_end
    assert report.peers.creators == 12
    assert all(0 <= one.percentile <= 100 for one in report.peers.figures)
    leaky = next(one for one in report.associations if one.campaign_id == LEAKY)
    assert leaky.ratio > 1.5 and "an association, not a cause" in leaky.sentence
    assert leaky.is_clear


def test_a_creator_of_whom_nothing_is_known_has_a_report_of_zeros(told):
    report = told.get_health(pb.HealthRequest(creator_id=4711))
    assert (report.period.gained, report.period.fan_days, report.period.active_share) == (0, 0, 0.0)
    assert not report.HasField("peers") and not report.associations


@pytest.mark.parametrize(
    ("wrong", "told_so"),
    [
        ({"creator_id": 0}, "creator_id 0"),
        ({"creator_id": 1, "days": 8}, "days 8: must be 7 or 30"),
        ({"creator_id": 1, "end_day": 10}, "end_day 10: must be 14"),
        ({"creator_id": 1, "end_day": 2**31}, "the period must be over"),
    ],
)
def test_a_wrong_request_is_refused_by_field_value_and_range(told, wrong, told_so):
    with pytest.raises(Refused, match=told_so) as refused:
        told.get_health(pb.HealthRequest(**wrong))
    assert refused.value.code is grpc.StatusCode.INVALID_ARGUMENT


def test_a_service_that_is_away_or_gives_no_reports_is_said_so():
    with connected("127.0.0.1:9") as client, pytest.raises(Refused, match="does not answer now") as refused:
        client.get_health(pb.HealthRequest(creator_id=1))
    assert refused.value.code is grpc.StatusCode.UNAVAILABLE


def test_everybodys_figures_are_read_once_a_minute_for_one_period(tmp_path, monkeypatch):
    path = tmp_path / "fans.sqlite"
    store = FanStore(path, FanRules.with_day(DAY_MS))
    now = [END_DAY * DAY_MS]
    reader = HealthReader(path)
    reads = []
    monkeypatch.setattr(reader, "everybody", lambda *days: reads.append(days) or HealthReader.everybody(reader, *days))
    reports = HealthReports(reader, DAY_MS, lambda: now[0])
    for creator in random.Random(1).sample(range(1, 50), 5):
        reports.report(pb.HealthRequest(creator_id=creator))
    reports.report(pb.HealthRequest(creator_id=1, end_day=90))
    now[0] += 60_000
    reports.report(pb.HealthRequest(creator_id=1, end_day=90))
    assert reads == [(93, 100), (83, 90), (83, 90)]
    with pytest.raises(InvalidRequest):
        reports.report(pb.HealthRequest(creator_id=1, end_day=10**6))
    reports.close()
    store.close()
