"""Churn alarms: more fans turn silent or leave than a creator's own past lets expect, with a stated rate of false ones.

Two streams of daily counts a creator: who turned silent, of those whose last chance for a sign of life it was (so a
burst of new fans who were never seen again is no alarm 14 days later), and who unfollowed, of the live fans.

Each day of a stream is held against the days before in two ways, and the larger p counts, so that one of the two
assumptions is enough:

- The counts x are Poisson at one unknown rate per fan at risk, n (which is taken as given). By their sum S over the
  days so far, with N fans at risk, today's count is binomial(S, n / N), whatever the rate: p is its upper tail
  (Quesenberry, "SPC Q charts for a Poisson parameter: short or long runs", Journal of Quality Technology 23(4), 1991).
- The daily rates x / n could have come in any order, however much they vary: p is the share of days so far with as high
  a rate (Vovk, "Testing randomness online", Statistical Science 36(4), 2021).

Either p is uniform or larger, and independent from day to day. It becomes an e-value, kappa * p^(kappa - 1) (Vovk and
Wang, "E-values: calibration, combination and applications", Annals of Statistics 49(3), 2021, equation 1), and those
feed Shiryaev-Roberts detectors, M = (M + 1) * e, whose mean over streams and kappas is an e-detector (Shin, Ramdas and
Rinaldo, "E-detectors: a nonparametric framework for sequential change detection", 2022, section 3): M less the days
passed is a supermartingale, so M first reaches c, on average, no sooner than after c days. No rate has to be known or
believed, and the first days count already.

Symbols: x = counts, n = at_risk, M = detectors, c = `days_between_false_alarms`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fanbridge.events import Stage

KAPPAS = np.array([0.1, 0.3, 0.6])
"""Small ones bet on sharp rises, large ones on slight ones."""
STREAMS = ("turned silent", "unfollowed")
_TINY_P = 1e-300


@dataclass(frozen=True)
class ChurnRules:
    """When an alarm rings.

    Attributes:
        days_between_false_alarms: of one creator to whom nothing happens, on average, at least.
        least_rise: a rise by less than this factor is not looked for. 1: any is.
    """

    days_between_false_alarms: int = 365
    least_rise: float = 1.0

    def __post_init__(self) -> None:
        if not 2 <= self.days_between_false_alarms <= 10**6:
            raise ValueError(f"days_between_false_alarms {self.days_between_false_alarms}: not in 2..{10**6}")
        if not 1 <= self.least_rise <= 10:
            raise ValueError(f"least_rise {self.least_rise}: not in 1..10")

    @property
    def statement(self) -> str:
        """The stated rate, as a sentence."""
        days = self.days_between_false_alarms
        return f"Of a creator to whom nothing happens, at most one false alarm in {days} days, on average."


@dataclass
class DayCounts:
    """Of each complete day, by stream: who churned, and who could have.

    Attributes:
        first_day: the number of the first.
        counts, at_risk: f8[2, days].
    """

    first_day: int
    counts: npt.NDArray[np.float64]
    at_risk: npt.NDArray[np.float64]
    _live_change: npt.NDArray[np.float64]

    @classmethod
    def empty(cls, first_day: int, end_day: int) -> DayCounts:
        """No fans on any of the days first_day .. end_day - 1."""
        days = max(0, end_day - first_day)
        return cls(first_day, np.zeros((2, days)), np.zeros((2, days)), np.zeros(days))

    def add_moves(self, day: int, was_live: bool, is_live: bool, to_stage: Stage, fans: int) -> None:
        """Count steps of a day between stages: live fans who turn silent or leave, and who is at risk from then on."""
        at = day - self.first_day
        if not 0 <= at < len(self._live_change) or was_live == is_live:
            return
        if was_live:
            self.counts[0 if to_stage is Stage.SILENT else 1, at] += fans
        change = fans if is_live else -fans
        self._live_change[at] += change
        self.at_risk[1, at + 1 :] += change

    def add_stirred(self, last_chance_day: int, fans: int) -> None:
        """Count followers who turn silent on that day unless they gave another sign of life before."""
        at = last_chance_day - self.first_day
        if 0 <= at < len(self._live_change):
            self.at_risk[0, at] += fans


@dataclass(frozen=True)
class Alarm:
    """A rise that chance does not explain.

    Attributes:
        day: when it rang: the number of the day that told.
        since_day: where the rise seems to have begun.
        what: the stream that rose most.
        fans: how many churned in it from `since_day` to `day`.
        expected: how many the creator's past let expect.
    """

    day: int
    since_day: int
    what: str
    fans: int
    expected: float

    @property
    def excess(self) -> int:
        """Fans beyond what was to be expected."""
        return max(1, round(self.fans - self.expected))

    @property
    def sentence(self) -> str:
        """The alarm in words."""
        days = self.day - self.since_day + 1
        expected = f"{self.expected:.1f} were to be expected from the days before"
        return f"{self.fans} fans {self.what} in {days} days; {expected}."


def alarms_of(counted: DayCounts, rules: ChurnRules) -> list[Alarm]:
    """Every alarm of one creator, oldest first. After one, all begins anew: the new rate is the usual one."""
    alarms: list[Alarm] = []
    days, begin = counted.counts.shape[1], 0
    at_risk = np.maximum(counted.at_risk, counted.counts)  # late events leave some fans at risk uncounted
    while begin < days:
        p = tail_probabilities(counted.counts[:, begin:], at_risk[:, begin:], rules.least_rise)
        rings, starts, loudest = _first_ring(e_values(p), rules.days_between_false_alarms)
        if rings < 0:
            break
        since, until = begin + starts, begin + rings + 1
        fans = counted.counts[loudest, since:until].sum()
        exposed_before = at_risk[loudest, begin:since].sum()
        rate = counted.counts[loudest, begin:since].sum() / exposed_before if exposed_before else 0.0
        expected = rate * at_risk[loudest, since:until].sum()
        first = counted.first_day
        alarms.append(Alarm(first + until - 1, first + since, STREAMS[loudest], int(fans), float(expected)))
        begin = until
    return alarms


def tail_probabilities(
    counts: npt.NDArray[np.float64], at_risk: npt.NDArray[np.float64], least_rise: float
) -> npt.NDArray[np.float64]:
    """How likely so high a day is after the days before, at a rate risen by `least_rise`: f8 of the counts' shape,
    (streams, days); 1 on the first day and where nobody was at risk."""
    larger = np.maximum(_poisson_tails(counts, at_risk, least_rise), _rank_tails(counts, at_risk, least_rise))
    return np.clip(larger, _TINY_P, 1.0)


def _poisson_tails(
    counts: npt.NDArray[np.float64], at_risk: npt.NDArray[np.float64], least_rise: float
) -> npt.NDArray[np.float64]:
    """P(a day has so many or more | the sum so far)."""
    from scipy.special import betainc  # who starts a service need not wait for it

    sums = np.cumsum(counts, axis=-1)
    before = np.cumsum(at_risk, axis=-1) - at_risk
    weighed = least_rise * at_risk
    share = np.divide(weighed, weighed + before, out=np.ones_like(before), where=weighed + before > 0)
    # The binomial's upper tail as an incomplete beta function: P(X >= x) = I_share(x, sum - x + 1), and 1 at x = 0.
    tails = betainc(np.maximum(counts, 1), np.maximum(sums - counts, 0) + 1, share)
    return np.where(counts > 0, tails, 1.0)


def _rank_tails(
    counts: npt.NDArray[np.float64], at_risk: npt.NDArray[np.float64], least_rise: float
) -> npt.NDArray[np.float64]:
    """The share of the days so far, itself included, whose rate is as high."""
    rates = np.divide(counts, at_risk, out=np.zeros_like(counts), where=at_risk > 0)
    tails = np.ones_like(rates)
    for day in range(rates.shape[-1]):
        before = least_rise * rates[..., :day] >= rates[..., day : day + 1]
        tails[..., day] = (1 + before.sum(axis=-1)) / (day + 1)
    return tails


def e_values(p: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """kappa * p^(kappa - 1) of each p, f8[streams, kappas, days]."""
    kappas = KAPPAS[:, None]
    return kappas * p[:, None, :] ** (kappas - 1)


def _first_ring(e: npt.NDArray[np.float64], level: float) -> tuple[int, int, int]:
    """When the mean detector first reaches `level` (-1: never), where its loudest part last began, and its stream."""
    detectors, cusum = np.zeros(e.shape[:2]), np.zeros(e.shape[:2])
    starts = np.zeros(e.shape[:2], np.int64)
    for day in range(e.shape[2]):
        detectors = (detectors + 1.0) * e[:, :, day]
        starts = np.where(cusum > 1.0, starts, day)
        cusum = np.maximum(cusum, 1.0) * e[:, :, day]
        if detectors.mean() >= level:
            loudest, kappa = np.unravel_index(np.argmax(detectors), detectors.shape)
            return day, int(starts[loudest, kappa]), int(loudest)
    return -1, 0, 0
