"""How far predictions are believed: what a campaign's ratio of true to predicted events is thought to be.

Predictions are mostly right, and sometimes badly wrong. Both at once is no bell curve, so a ratio is either near 1, as
near as past campaigns' days were, or it has broken away from some instant of the day on. That is decided by likelihood;
a campaign whose predictions are right is not slowed, and one whose predictions broke is corrected by what has come
since, and by that alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln

FIRST_BIAS_SD = 0.15
"""Standard deviation of the ratio of campaigns before any campaign's day is known."""
_FIRST_LOG_SD = 1.5  # of the guess: a platform's predictions may be ten times better than that, or worse
_STEPS = np.linspace(-3.5, 3.5, 57)
# However right predictions were, one percent over target goes unnoticed: less than that no platform's days can show.
_LEAST_BIAS_SD, _MOST_BIAS_SD = 0.01, 0.5
_BROKEN_PSEUDO_EVENTS = 10.0  # what is believed of a ratio that broke away, around 1
_BROKEN_LOG_LIKELIHOOD = 6.0  # more likely by this much: broken. In a day without, about one campaign in a hundred is
_BROKEN_LOG_SD = 0.4  # of the log of a ratio that broke
_AS_LIKELY = 3.0
_LEAST_EVENTS = 5.0  # in a day that teaches
_LEAST_SINCE = (
    30.0  # events that should have come of impressions since a break: what fewer say may be the delay curve's own error
)
_LEAST_RATIO, _MOST_RATIO = 0.2, 3.0


@dataclass(frozen=True, slots=True)
class Arrivals:
    """What came of a day's impressions, by parts of the day, f8[n] each; the last part is running.

    Attributes:
        predicted: sum of predictions of the impressions of each part.
        expected: events that should have come within each part, were predictions right.
        observed: events that did.
        arrived: events of each part's impressions that should have come by now.
    """

    predicted: np.ndarray
    expected: np.ndarray
    observed: np.ndarray
    arrived: np.ndarray


@dataclass(frozen=True, slots=True)
class Ratio:
    """True over predicted events.

    Attributes:
        events: true events of all of the day's impressions so far.
        present: the ratio of impressions that are bought now.
        known_events: as many arrived events would tell as much about the present ratio as is known.
    """

    events: float
    present: float
    known_events: float


class Trust:
    """The spread of ratios between campaigns, learned from finished days, and what it says about one day."""

    def __init__(self, bias_sd: float = FIRST_BIAS_SD) -> None:
        self._spreads = bias_sd * np.exp(_FIRST_LOG_SD * _STEPS)
        self._first = -0.5 * _STEPS**2  # log-normal around the first guess
        self._likelihood = np.zeros(len(_STEPS))

    @property
    def bias_sd(self) -> float:
        """Standard deviation of a campaign's ratio before anything was observed of it: the posterior's median.

        Of a spread that may as well be much smaller than counting can show, the mean would only tell the tail.
        """
        weight = self._first + self._likelihood
        below = np.cumsum(np.exp(weight - weight.max()))
        middles = below - 0.5 * np.diff(below, prepend=0.0)
        median = math.exp(float(np.interp(0.5 * below[-1], middles, np.log(self._spreads))))
        return min(max(median, _LEAST_BIAS_SD), _MOST_BIAS_SD)

    @property
    def pseudo_events(self) -> float:
        """As many arrived events say as much about a ratio as is known beforehand."""
        return 1.0 / self.bias_sd**2

    def learn(self, expected: float, observed: float) -> None:
        """A campaign's day is over: so many events should have come, and did.

        If ratios are spread like a gamma distribution of mean 1, counts are negative binomial (Greenwood & Yule 1920).
        """
        if expected < _LEAST_EVENTS:
            return
        shape = 1.0 / self._spreads**2
        likelihood = gammaln(observed + shape) - gammaln(shape) - shape * np.log1p(expected / shape)
        likelihood += observed * (math.log(expected) - np.log(shape + expected))
        self._likelihood += likelihood - likelihood.max()

    def broke_at(self, arrivals: Arrivals) -> int:
        """The part of the day since which impressions bring otherwise than predicted; -1: nowhere.

        For every part, what came since is held to what should have come, and to what explains it best: late events of
        the impressions before, as predicted, and those of the impressions since at some other ratio (Poisson
        likelihoods). Of places that are as likely, the earliest: of late events it is hard to tell whose they are. The
        running part is left out.
        """
        expected = np.cumsum(arrivals.expected[:-1][::-1])[::-1]  # from each part on
        observed = np.cumsum(arrivals.observed[:-1][::-1])[::-1]
        since = np.minimum(np.cumsum(arrivals.arrived[:-1][::-1])[::-1], expected)
        if not len(expected):
            return -1
        late = expected - since
        ratio = np.clip((observed - late) / np.maximum(since, 1e-12), _LEAST_RATIO, _MOST_RATIO)
        explained = np.maximum(late + ratio * since, 1e-12)
        gain = observed * np.log(explained / np.maximum(expected, 1e-12)) - (explained - expected)
        gain -= 0.5 * (np.log(ratio) / _BROKEN_LOG_SD) ** 2
        gain[since < _LEAST_SINCE] = 0.0
        if gain.max() <= _BROKEN_LOG_LIKELIHOOD:
            return -1
        return int(np.flatnonzero(gain > gain.max() - _AS_LIKELY)[0])

    def ratio(self, arrivals: Arrivals, broke_at: int) -> Ratio:
        """What the day says, given where predictions broke (-1: nowhere)."""
        prior = self.pseudo_events
        if broke_at < 0:
            known = prior + float(arrivals.arrived.sum())
            present = (prior + float(arrivals.observed.sum())) / known
            return Ratio(float(arrivals.predicted.sum()) * present, present, known)
        old, new = slice(0, broke_at), slice(broke_at, None)
        expected_before = float(arrivals.expected[old].sum())
        before = (prior + float(arrivals.observed[old].sum())) / (prior + expected_before)
        late = before * max(float(arrivals.arrived[old].sum()) - expected_before, 0.0)
        known = _BROKEN_PSEUDO_EVENTS + float(arrivals.arrived[new].sum())
        came = max(float(arrivals.observed[new].sum()) - late, 0.0)
        present = min(max((_BROKEN_PSEUDO_EVENTS + came) / known, _LEAST_RATIO), _MOST_RATIO)
        events = before * float(arrivals.predicted[old].sum()) + present * float(arrivals.predicted[new].sum())
        return Ratio(events, present, known)

    def state(self) -> list[float]:
        """What was learned: log-likelihoods of the spreads that are thought possible."""
        return [float(value) for value in self._likelihood]

    def restore(self, state: list[float]) -> None:
        """Take up what `state` gave.

        Raises:
            ValueError, TypeError: it is no such state; nothing changed.
        """
        likelihood = np.array([float(value) for value in state])
        if likelihood.shape != self._likelihood.shape or not bool((np.isfinite(likelihood) & (likelihood <= 0)).all()):
            raise ValueError(f"trust: must be {len(_STEPS)} log-likelihoods")
        self._likelihood = likelihood
