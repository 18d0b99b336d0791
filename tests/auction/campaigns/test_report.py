"""The report book against a plain recount of the same rows."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auction.campaigns.hours import HourTable
from auction.campaigns.report import COUNT_FIELDS, MAX_HOURS, Figures, ReportBook
from auction.campaigns.store import NoSuchCampaign
from pacing.clocks import MS_PER_DAY, MS_PER_HOUR
from pacing.facts import JUDGEMENT, OUTCOME, Goal, OutcomeKind, Verdict
from protos import campaigns_pb2 as pb
from tests.auction.campaigns.figures import NOON_MS, JudgedRows, a_campaign

ZONES = {1: "Asia/Shanghai", 2: "Asia/Kolkata", 3: "America/New_York"}
GOALS = {1: Goal.FANS, 2: Goal.PLAYS, 3: Goal.ORDERS}
FIELD_OF_KIND = {
    OutcomeKind.CLICK: "clicks",
    OutcomeKind.PLAY: "plays",
    OutcomeKind.FOLLOW: "fans",
    OutcomeKind.PROFILE_VISIT: "profile_visits",
    OutcomeKind.PRODUCT_CLICK: "product_clicks",
    OutcomeKind.UNFOLLOW: "unfollows",
    OutcomeKind.ORDER: "orders",
    OutcomeKind.LIVE_VISIT: "live_visits",
}
GOAL_KINDS = {Goal.FANS: OutcomeKind.FOLLOW, Goal.PLAYS: OutcomeKind.PLAY, Goal.ORDERS: OutcomeKind.ORDER}


def campaign_of(campaign_id):
    if campaign_id not in ZONES:
        raise NoSuchCampaign(campaign_id)
    return a_campaign(zone=ZONES[campaign_id], goal=GOALS[campaign_id])


rows_strategy = st.lists(
    st.tuples(
        st.sampled_from([1, 2, 3, 99]),
        st.sampled_from(OutcomeKind),
        st.sampled_from(Verdict),
        st.integers(NOON_MS - 30 * MS_PER_HOUR, NOON_MS),
        st.integers(1, 10**6),
        st.sampled_from([0.0, 0.25, 0.5]),
        st.integers(0, 90_000),
    ),
    max_size=60,
)


def recount(rows, campaign_id, keep):
    """The same figures, one row at a time."""
    counts = Counter()
    for row_campaign, kind, verdict, at_ms, price_micros, probability, delay_ms in rows:
        bid_at_ms = at_ms - delay_ms
        when = bid_at_ms if kind is OutcomeKind.BILLABLE else at_ms
        if row_campaign != campaign_id or not keep(when):
            continue
        if kind is OutcomeKind.BILLABLE and verdict is Verdict.CHARGED:
            counts.update({"impressions": 1, "spend_micros": price_micros, "expected_goal_events": probability})
        if verdict is Verdict.ATTRIBUTED and kind in FIELD_OF_KIND:
            counts[FIELD_OF_KIND[kind]] += 1
            counts["goal_events"] += kind is GOAL_KINDS[GOALS[campaign_id]]
    return Figures(**{field: counts[field] for field in Figures._fields})


def fill(book, rows, batches):
    judged = JudgedRows(book.ledger_sequence)
    for i, (campaign_id, kind, verdict, at_ms, price_micros, probability, delay_ms) in enumerate(rows):
        judged.add(campaign_id, kind, verdict, at_ms, price_micros, probability, issued_at_ms=at_ms - delay_ms)
        if i % batches == 0:
            book.follow(*judged.take())
    book.follow(*judged.take())


@settings(max_examples=35)
@given(rows=rows_strategy, batches=st.integers(1, 20), restart=st.booleans())
def test_figures_equal_a_plain_recount(rows, batches, restart):
    book = ReportBook(campaign_of)
    half = len(rows) // 2
    fill(book, rows[:half], batches)
    if restart:
        again = ReportBook(campaign_of)
        again.restore(book.snapshot())
        book = again
    fill(book, rows[half:], batches)
    assert book.ledger_sequence == len(rows)
    for campaign_id, zone in ZONES.items():
        booked = book.figures(campaign_id, NOON_MS, MAX_HOURS)
        assert booked.ledger_sequence == len(rows)
        assert booked.total == recount(rows, campaign_id, lambda _: True)
        today = datetime.fromtimestamp(NOON_MS / 1000, ZoneInfo(zone)).date()
        assert booked.today == recount(
            rows,
            campaign_id,
            lambda at: datetime.fromtimestamp(at / 1000, ZoneInfo(zone)).date() == today,  # noqa: B023
        )
        hours = dict(booked.hours)
        assert list(hours) == sorted(hours)
        for start in range(NOON_MS // MS_PER_HOUR * MS_PER_HOUR - 33 * MS_PER_HOUR, NOON_MS + 1, MS_PER_HOUR):
            expected = recount(rows, campaign_id, lambda at: start <= at < start + MS_PER_HOUR)  # noqa: B023
            assert hours.get(start, Figures()) == expected
        lost = sum(
            r[4] for r in rows if r[0] == campaign_id and r[1:3] == (OutcomeKind.BILLABLE, Verdict.OVER_DELIVERY)
        )
        assert booked.over_delivered_micros == lost


def test_figures_are_those_of_the_protocol():
    protocol = {field.name for field in pb.Figures.DESCRIPTOR.fields}
    assert set(Figures._fields) | {"bids"} == protocol
    assert len(COUNT_FIELDS) == len(Figures._fields) - 1


def test_rows_that_were_followed_are_passed_over():
    book, rows = ReportBook(campaign_of), JudgedRows()
    rows.add(1, OutcomeKind.BILLABLE, Verdict.CHARGED, NOON_MS, 500)
    first = rows.take()
    book.follow(*first)
    book.follow(*first)
    rows.add(1, OutcomeKind.BILLABLE, Verdict.CHARGED, NOON_MS, 70)
    second = rows.take()
    book.follow(*(np.concatenate(pair) for pair in zip(first, second, strict=True)))
    assert book.figures(1, NOON_MS, 1).total.spend_micros == 570
    assert book.ledger_sequence == 2


def test_rows_and_judgements_must_belong_together():
    book, rows = ReportBook(campaign_of), JudgedRows()
    rows.add(1, OutcomeKind.CLICK, Verdict.ATTRIBUTED, NOON_MS)
    outcomes, judgements = rows.take()
    with pytest.raises(ValueError, match="judgements"):
        book.follow(outcomes, judgements[:0])
    judgements["sequence"] = 9
    with pytest.raises(ValueError, match="judgements"):
        book.follow(outcomes, judgements)
    book.follow(np.zeros(0, OUTCOME), np.zeros(0, JUDGEMENT))
    assert book.figures(1, NOON_MS, 1).total == Figures()


def test_money_counts_in_the_day_it_was_bid_and_never_after_it_was_recorded():
    book, rows = ReportBook(campaign_of), JudgedRows()
    midnight = NOON_MS - 12 * MS_PER_HOUR
    rows.add(1, OutcomeKind.BILLABLE, Verdict.CHARGED, midnight + 5_000, 300, issued_at_ms=midnight - 1)
    rows.add(1, OutcomeKind.FOLLOW, Verdict.ATTRIBUTED, NOON_MS + 900 * MS_PER_DAY, recorded_at_ms=NOON_MS - 1)
    book.follow(*rows.take())
    booked = book.figures(1, NOON_MS, 48)
    assert (booked.total.spend_micros, booked.today.spend_micros) == (300, 0)
    assert (booked.today.fans, booked.today.goal_events) == (1, 1)
    assert [start for start, _ in booked.hours] == [midnight - MS_PER_HOUR, NOON_MS - MS_PER_HOUR]


def test_the_plan_is_booked_hour_by_hour_and_starts_anew_each_day():
    book, ids = ReportBook(campaign_of), np.array([1], np.uint64)
    evening = NOON_MS + 11 * MS_PER_HOUR
    for at_ms, planned in [
        (evening, 900),
        (evening + 1, 900),
        (evening + 30 * 60_000, 950),
        (evening + MS_PER_HOUR, 10),
    ]:
        book.note_plan(ids, np.array([planned]), at_ms)
    booked = book.figures(1, evening + MS_PER_HOUR, 5)
    assert [f.planned_spend_micros for _, f in booked.hours] == [950, 10]
    assert booked.today.planned_spend_micros == 10
    assert booked.total.planned_spend_micros == 960
    again = ReportBook(campaign_of)
    again.restore(book.snapshot())
    again.note_plan(ids, np.array([25]), evening + MS_PER_HOUR + 1)
    assert again.figures(1, evening + MS_PER_HOUR + 1, 5).today.planned_spend_micros == 25
    assert [again.planned_micros(1, day_key) for day_key in (20260304, 20260305)] == [0, 25]
    again.note_plan(ids, np.array([7]), evening + MS_PER_HOUR + 2)
    assert again.figures(1, evening + MS_PER_HOUR + 2, 5).today.planned_spend_micros == 25, "never less within a day"
    again.note_plan(ids, np.array([26]), evening + MS_PER_HOUR + 3)
    assert again.figures(1, evening + MS_PER_HOUR + 3, 5).today.planned_spend_micros == 26
    assert again.planned_micros(99, 20260305) == 0
    book.note_plan(np.array([99], np.uint64), np.array([5]), evening)  # unknown: nothing to book it to


def test_memory_stays_bounded_and_the_total_complete():
    book, rows = ReportBook(campaign_of), JudgedRows()
    for hour in range(MAX_HOURS + 60):
        rows.add(1, OutcomeKind.BILLABLE, Verdict.CHARGED, NOON_MS + hour * MS_PER_HOUR, 1)
    book.follow(*rows.take())
    last = NOON_MS + (MAX_HOURS + 59) * MS_PER_HOUR
    booked = book.figures(1, last, 10 * MAX_HOURS)
    assert len(booked.hours) == MAX_HOURS
    assert booked.total.spend_micros == MAX_HOURS + 60
    assert booked.hours[-1][0] == last


def test_a_snapshot_is_written_whole_and_a_bad_one_changes_nothing(tmp_path):
    book, rows = ReportBook(campaign_of), JudgedRows()
    rows.add(2, OutcomeKind.PLAY, Verdict.ATTRIBUTED, NOON_MS)
    book.follow(*rows.take())
    path = tmp_path / "report.npz"
    book.save(path)
    other = ReportBook(campaign_of)
    assert not other.load(tmp_path / "missing.npz")
    assert other.load(path)
    assert other.figures(2, NOON_MS, 2) == book.figures(2, NOON_MS, 2)
    path.write_bytes(path.read_bytes()[:-200])
    assert not other.load(path)
    with pytest.raises(ValueError, match="report snapshot"):
        other.restore(b"PK\x03\x04 nothing")
    assert other.ledger_sequence == 1
    assert ReportBook(campaign_of).snapshot()


def test_an_empty_book_restores_to_an_empty_book():
    book = ReportBook(campaign_of)
    book.restore(ReportBook(campaign_of).snapshot())
    assert book.ledger_sequence == 0
    assert book.figures(3, NOON_MS, 24).hours == []
    with pytest.raises(NoSuchCampaign):
        book.figures(99, NOON_MS, 24)


def test_waiting_ends_with_a_change_or_with_the_time():
    book, rows = ReportBook(campaign_of), JudgedRows()
    now = book.wait_for_change(-1, 0.0)
    assert book.wait_for_change(now, 0.01) == now
    rows.add(1, OutcomeKind.CLICK, Verdict.ORGANIC, NOON_MS)
    book.follow(*rows.take())
    later = book.wait_for_change(now, 5.0)
    assert later > now
    book.announce_change()
    assert book.wait_for_change(later, 5.0) > later


@settings(max_examples=80)
@given(
    batches=st.lists(st.lists(st.integers(0, 30), max_size=8), max_size=12),
    capacity=st.integers(1, 9),
)
def test_a_table_keeps_the_greatest_keys(batches, capacity):
    table, kept = HourTable(capacity, 2), {}
    for keys in batches:
        array = np.array(keys, np.int64)
        table.add(array, np.stack([np.ones(len(keys)), array], axis=1).astype(np.int64), np.full(len(keys), 0.5))
        for key in sorted(keys):
            if key in kept or len(kept) < capacity or key > min(kept):
                if key not in kept and len(kept) == capacity:
                    del kept[min(kept)]
                kept[key] = kept.get(key, 0) + 1
    assert table.keys_from(0) == sorted(kept)
    assert table.keys_from(7) == sorted(key for key in kept if key >= 7)
    for key in range(31):
        counts, expected = table.get(key)
        n = kept.get(key, 0)
        assert (counts.tolist(), expected) == ([n, n * key], n / 2)
    (again,) = HourTable.unpack(HourTable.pack([table], 2, "x_"), capacity, 2, "x_", 1)
    assert [again.get(key)[0].tolist() for key in range(31)] == [table.get(key)[0].tolist() for key in range(31)]
