"""`bench fans`, tiny: everything in its way, and an auditor who notices what is not applied exactly once."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.fans.command import figures_of, wrong
from benchmarks.fans.play import Run, Trouble, raw_inserts_per_s
from benchmarks.fans.relay import Relay
from benchmarks.fans.truth import START_AT_MS, Audit, Traffic, audit
from benchmarks.output import progress
from fanbridge.service.fans import FanRules
from fanbridge.service.store import FanStore
from pacing.facts import RowStatus
from tests.fanbridge.services import connected, running_service

TINY = Traffic(1_000, 40_000)


@pytest.fixture
def applied(tmp_path: Path) -> Iterator[Path]:
    """The file of a service to which every outcome was told once."""
    path = tmp_path / "fans.sqlite"
    store = FanStore(path, FanRules.with_day())
    store.push_outcomes(TINY.expected(0, TINY.rows)[TINY.told(0, TINY.rows)], START_AT_MS + TINY.span_ms)
    store.close()
    yield path


def test_each_outcome_is_applied_exactly_once(tmp_path: Path) -> None:
    trouble = Trouble(service_deaths=1, follower_deaths=1, outage_ticks=10, seed=3)
    with progress(TINY.rows, "tiny") as bar:
        played = Run(tmp_path, TINY, trouble, push_rows=50).play(bar)
    figures = figures_of(TINY, played)
    assert (played.audit.applied, played.audit.lost, played.taken_twice) == (1_000, 0, 0)
    assert not wrong(figures), figures
    assert figures["deaths"] == figures["follower_deaths"] == 1
    assert min(int(figures[key] or 0) for key in ("lost_requests", "lost_answers", "unavailable")) > 0
    assert played.backlog > TINY.rows // 8  # what came during the outage waited


def test_the_traffic_is_as_large_as_it_says() -> None:
    for outcomes in (1, 75, 76, 77, 1_000):
        traffic = Traffic(outcomes, 1_000)
        assert traffic.told(0, traffic.rows).sum() == outcomes
        rows = traffic.expected(0, traffic.rows)
        assert len(set(rows[["lease_id", "hold_seq", "kind"]].tolist())) == len(rows)
        assert len(set(rows["occurred_at_ms"].tolist())) == len(rows)


def test_what_was_told_once_passes(applied: Path) -> None:
    found = audit(applied, TINY)
    assert found == Audit(1_000, 0, 0, 0, found.fans, 0)
    assert found.fans > 100


@pytest.mark.parametrize(
    ("damage", "field"),
    [
        ("DELETE FROM outcomes WHERE ledger_sequence = 7", "lost"),
        ("UPDATE outcomes SET price_micros = price_micros + 1 WHERE ledger_sequence = 1", "altered"),
        ("UPDATE outcomes SET ledger_sequence = 5000 WHERE ledger_sequence = 7", "invented"),
        ("UPDATE outcomes SET ledger_sequence = 77 WHERE ledger_sequence = 7", "invented"),
        ("UPDATE fans SET points = points + 1 WHERE rowid_of = 1", "fans_wrong"),
        ("UPDATE fans SET support = 2 * support WHERE rowid_of = 1", "fans_wrong"),
        ("DELETE FROM fans WHERE rowid_of = 1", "fans_wrong"),
    ],
)
def test_what_was_not_is_noticed(applied: Path, damage: str, field: str) -> None:
    one = "(viewer_id, creator_id) = (SELECT viewer_id, creator_id FROM fans WHERE support > 0 LIMIT 1)"
    with sqlite3.connect(applied) as db:
        assert db.execute(damage.replace("rowid_of = 1", one)).rowcount == 1
    db.close()
    assert getattr(audit(applied, TINY), field) == 1


def test_a_service_that_takes_an_outcome_as_new_twice_is_noticed(tmp_path: Path) -> None:
    rows = TINY.expected(0, 40)
    relay = Relay(TINY.rows, 0.0, 1, lambda: None)
    try:
        with (
            running_service(tmp_path / "one") as one,
            running_service(tmp_path / "other") as other,
            connected(relay.address) as client,
        ):
            for service in (one, other):  # the second knows nothing of what the first took
                relay.connect(service.address)
                assert set(client.push_outcomes(rows).tolist()) == {RowStatus.ACCEPTED}
    finally:
        relay.close()
    assert (relay.taken > 1).sum() == 40


def test_the_yardstick_writes_every_outcome(tmp_path: Path) -> None:
    assert raw_inserts_per_s(tmp_path / "raw.sqlite", TINY, 100, lambda _: None) > 0
    with sqlite3.connect(tmp_path / "raw.sqlite") as db:
        assert db.execute("SELECT count(*) FROM outcomes").fetchone() == (1_000,)
    db.close()
