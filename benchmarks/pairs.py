"""Two ways of doing the same, timed in turn, so that whatever else the machine does meets both."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

_SAMPLE_NS = 40_000
_FEWEST_SAMPLES = 5
_MOST_CALLS = 1_000


class Pair(NamedTuple):
    """CPU nanoseconds of one call of ours and of theirs, medians; and the median of theirs over ours."""

    ours_ns: float
    theirs_ns: float
    ratio: float


def time_pair(ours: Callable[[], object], theirs: Callable[[], object], seconds: float) -> Pair:
    """Call both in turn for `seconds`, each long enough at a time for the clock."""
    our_calls, their_calls = _calls(ours), _calls(theirs)
    samples: list[tuple[float, float]] = []
    until_s = time.perf_counter() + seconds
    while len(samples) < _FEWEST_SAMPLES or time.perf_counter() < until_s:
        if len(samples) % 2:  # who comes second finds the cache as the other left it
            mine_ns, other_ns = _sample_ns(ours, our_calls), _sample_ns(theirs, their_calls)
        else:
            other_ns, mine_ns = _sample_ns(theirs, their_calls), _sample_ns(ours, our_calls)
        samples.append((mine_ns, other_ns))
    return Pair(
        ours_ns=statistics.median(mine for mine, _ in samples),
        theirs_ns=statistics.median(other for _, other in samples),
        ratio=statistics.median(other / max(mine, 1e-3) for mine, other in samples),
    )


def _calls(call: Callable[[], object]) -> int:
    """How many calls make a sample."""
    call()
    return max(1, min(_MOST_CALLS, int(_SAMPLE_NS / max(_sample_ns(call, 1), 1.0))))


def _sample_ns(call: Callable[[], object], calls: int) -> float:
    started_ns = time.thread_time_ns()
    for _ in range(calls):
        call()
    return (time.thread_time_ns() - started_ns) / calls
