"""What two arms of a market are held against each other by: kept fans per yuan, or what fans are worth per yuan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.loop.run import Arm, Play
from benchmarks.output import Scalar
from benchmarks.shading.command import interval

Pair = tuple[Arm, Arm]
"""One seed with something on, and with it off."""


@dataclass(frozen=True, slots=True)
class Study:
    """Two arms, and what is counted.

    Attributes:
        title: what is on and off.
        outcome, label: what is counted, in the names of figures and in words.
        on, off: the arms.
        high_tier_worth: as how many others a kept fan of a high tier counts, in both arms.
        with_tiers: whether there are any tiers.
    """

    title: str
    outcome: str
    label: str
    on: Play
    off: Play
    high_tier_worth: float = 1.0
    with_tiers: bool = False

    def bought(self, arm: Arm, drawn: bool = False) -> np.ndarray:
        """What was bought on each day, by true probabilities or as drawn: f8[days]."""
        kept, high = (arm.kept, arm.high) if drawn else (arm.expected_kept, arm.expected_high)
        return np.asarray(kept + (self.high_tier_worth - 1.0) * high, np.float64)

    def gain(self, pair: Pair, drawn: bool = False) -> float:
        """How much more a yuan buys with it on: by true probabilities, or as drawn."""
        on, off = (float(self.bought(arm, drawn).sum() / arm.spend_micros.sum()) for arm in pair)
        return on / off - 1

    def day_gains(self, pair: Pair) -> np.ndarray:
        """`gain` of each day alone, f8[days]."""
        on, off = (self.bought(arm) / arm.spend_micros for arm in pair)
        return np.asarray(on / off - 1)

    @property
    def gain_names(self) -> tuple[str, str]:
        """What the figures of `gain` are called, by true probabilities and as drawn."""
        return f"{self.outcome}_per_yuan_gain", f"{self.outcome}_drawn_per_yuan_gain"

    def figures(self, pairs: Sequence[Pair]) -> dict[str, Scalar]:
        """All markets as one flat object. Intervals are of 95 %, over the markets, each held against itself."""
        found: dict[str, Scalar] = {"seeds": len(pairs), "days": len(pairs[0][0].fans)}
        for name, drawn in zip(self.gain_names, (False, True), strict=True):
            mean, half_width = interval([self.gain(pair, drawn) for pair in pairs])
            found |= {name: mean, f"{name}_low": mean - half_width, f"{name}_high": mean + half_width}
        by_day = np.mean([self.day_gains(pair) for pair in pairs], axis=0)
        on, off = ([pair[arm] for pair in pairs] for arm in (0, 1))
        found |= {
            "first_day_gain": float(by_day[0]),
            "last_day_gain": float(by_day[-1]),
            "fans_per_yuan_gain": _mean_gain(pairs, "fans"),
            "kept_share_on": _sum(on, "expected_kept") / _sum(on, "fans"),
            "kept_share_off": _sum(off, "expected_kept") / _sum(off, "fans"),
            "spend_on_to_off": _sum(on, "spend_micros") / _sum(off, "spend_micros"),
            "losses_told_on": sum(arm.lost_told for arm in on),
            "losses_told_off": sum(arm.lost_told for arm in off),
            "overspend_micros_max": max(arm.overspend_micros for pair in pairs for arm in pair),
        }
        if self.with_tiers:
            found |= {
                "high_tier_worth": self.high_tier_worth,
                "kept_fans_per_yuan_gain": _mean_gain(pairs, "expected_kept"),
                "high_fans_per_yuan_gain": _mean_gain(pairs, "expected_high"),
                "high_share_on": _sum(on, "expected_high") / _sum(on, "expected_kept"),
                "high_share_off": _sum(off, "expected_high") / _sum(off, "expected_kept"),
                "rises_told_on": sum(arm.risen_told for arm in on),
                "rises_told_off": sum(arm.risen_told for arm in off),
            }
        return found

    def columns(self) -> tuple[str, ...]:
        """Of the table of all markets, behind the seed."""
        high = ("high, on", "off") if self.with_tiers else ()
        return ("yuan, on", "off", "fans, on", "off", "kept, on", "off", *high, "gain per yuan, %", "last day, %")

    def row(self, pair: Pair) -> list[float]:
        """One market, in those columns."""
        names = [("spend_micros", 1e6), ("fans", 1.0), ("expected_kept", 1.0)]
        names += [("expected_high", 1.0)] if self.with_tiers else []
        cells = [float(getattr(arm, name).sum()) / unit for name, unit in names for arm in pair]
        return [*cells, 100 * self.gain(pair), 100 * float(self.day_gains(pair)[-1])]


LOSSES = Study("word of who left, on against off", "kept_fans", "kept fans", on=Play(), off=Play(tells_unfollows=False))
HIGH_TIER_WORTH = 5.0
TIERS = Study(
    "a worth of fans of a high tier, set against not set", "fans_worth", "worth of fans",
    on=Play(high_tier_worth=HIGH_TIER_WORTH), off=Play(), high_tier_worth=HIGH_TIER_WORTH, with_tiers=True,
)  # fmt: skip


def _mean_gain(pairs: Sequence[Pair], name: str) -> float:
    """How many more of these a yuan buys with it on: mean over the markets."""
    per_yuan = [[float(getattr(arm, name).sum() / arm.spend_micros.sum()) for arm in pair] for pair in pairs]
    return float(np.mean([on / off - 1 for on, off in per_yuan]))


def _sum(arms: Sequence[Arm], name: str) -> float:
    return float(sum(getattr(arm, name).sum() for arm in arms))
