"""A slice of `bench several`: two servers, one of them killed once."""

from __future__ import annotations

import pytest

from benchmarks import several, several_edits


def test_nothing_is_lost_or_overcharged_when_a_server_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(several, "SERVERS", 2)
    monkeypatch.setattr(several, "_KILL_S", (1.0, 1.5))
    spent = several.play(1, 120, 3, to_the_end=False)
    assert spent.restarts == 1 and spent.bids > 0
    assert (spent.lost_micros, spent.charged_over_micros, spent.strange) == (0, 0, ())
    assert len(spent.edits_seen_ms) == 5 and max(spent.edits_seen_ms) < several_edits.NEVER_MS
    assert 0 < spent.settled_micros <= spent.budget_micros
