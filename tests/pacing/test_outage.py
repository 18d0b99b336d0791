"""Outages: each reason is news once, and the end is told once."""

from __future__ import annotations

from pacing.clocks import MS_PER_MINUTE
from pacing.outage import Outage


def test_each_reason_once_until_any_answer_ends_it() -> None:
    outage = Outage()
    assert not outage.answered()
    assert [outage.failed(reason) for reason in ("timeout", "timeout", "refused", "timeout")] == [1, 0, 1, 0]
    assert outage.stops("anything")
    assert outage.answered() and not outage.answered() and not outage.stops("anything")
    assert outage.failed("timeout"), "another outage"


def test_a_refused_call_is_over_when_that_call_is_answered() -> None:
    outage = Outage()
    assert outage.failed("no script", "acquire") and not outage.failed("no script", "settle")
    assert not outage.answered("accounts") and outage.stops("acquire") and not outage.stops("accounts")
    assert not outage.failed("no script", "acquire"), "answers to other calls end nothing"
    assert outage.failed("out of memory", "acquire"), "another reason is told"
    assert outage.failed("timeout") and outage.stops("accounts")
    assert not outage.answered("acquire") and not outage.stops("accounts")
    assert outage.answered("settle")


def test_a_refused_call_that_nobody_repeats_counts_no_longer() -> None:
    outage = Outage()
    outage.failed("no script", "set_caps", 0)
    assert not outage.answered("accounts", 2 * MS_PER_MINUTE)
    assert outage.answered("accounts", 2 * MS_PER_MINUTE + 1)
