"""What a study of bidding comes to: means over seeds with their intervals, as tables and as one flat object."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from benchmarks.bidding.scenarios import SCENARIOS
from benchmarks.bidding.study import METHODS, MODES, PRICES, SHIPPED, Result
from benchmarks.output import Scalar

INTERVAL = 0.95
Table = tuple[str, Sequence[str], list[tuple[object, ...]]]


@dataclass(frozen=True, slots=True)
class Goal:
    """What is wanted of a scenario: shares in both modes, and the most cost over target that goes with a cost cap."""

    auto: float
    cap: float
    cost_to_target: float


GOALS = {
    "stationary": Goal(0.998, 0.995, 1.01),
    "diurnal": Goal(0.998, 0.99, 1.01),
    "price_shock": Goal(0.99, 0.98, 1.02),
    "traffic_drop": Goal(0.955, 0.99, 1.01),
    "flash_crowd": Goal(0.99, 0.98, 1.02),
    "over_prediction": Goal(0.98, 0.95, 1.03),
    "delay_biased": Goal(0.99, 0.95, 1.05),
    "budget_doubled": Goal(0.965, 0.985, 1.00),
    "budget_halved": Goal(0.965, 0.985, 1.00),
    "regimes": Goal(0.99, 0.98, 1.02),
    "sparse": Goal(0.98, 0.95, 1.05),
}
KS_GOAL, RECOVERY_GOAL_MINUTES = 0.02, 30
_KS_SCENARIOS = ("stationary", "diurnal")


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean over seeds and the half-width of its interval (Student's t); one seed has none."""

    mean: float
    half_width: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Mean:
        """The mean of some values."""
        count = len(values)
        half = math.nan
        if count > 1:
            half = float(stats.t.ppf((1 + INTERVAL) / 2, count - 1) * np.std(values, ddof=1) / math.sqrt(count))
        return cls(float(np.mean(values)), half)


def _chosen(results: Sequence[Result], scenario: str, mode: str, pricing: str, method: str = SHIPPED) -> list[Result]:
    return [r for r in results if (r.scenario, r.mode, r.pricing, r.method) == (scenario, mode, pricing, method)]


def _scenarios(results: Sequence[Result]) -> list[str]:
    present = {r.scenario for r in results}
    return [name for name in SCENARIOS if name in present]


def figures(results: Sequence[Result], seeds: int, ticks: Mapping[str, float]) -> dict[str, Scalar]:
    """The study as one flat object: SCENARIO.MODE.PRICE.FIGURE, and SCENARIO.MODE.PRICE.METHOD.FIGURE of rivals."""
    shown: dict[str, Scalar] = {"seeds": seeds, **ticks}
    shown["overspend_micros_max"] = max(r.overspend_micros for r in results)
    keys = dict.fromkeys((r.scenario, r.mode, r.pricing, r.method) for r in results)
    for scenario, mode, pricing, method in sorted(keys):
        some = _chosen(results, scenario, mode, pricing, method)
        prefix = f"{scenario}.{mode}.{pricing}" + ("" if method == SHIPPED else f".{method}")
        share, cost = Mean.of([r.share for r in some]), Mean.of([r.cost_to_target for r in some])
        shown[f"{prefix}.share"], shown[f"{prefix}.cost_to_target"] = share.mean, cost.mean
        if method != SHIPPED:
            continue
        if len(some) > 1:
            shown[f"{prefix}.share_half_width"] = share.half_width
            shown[f"{prefix}.cost_to_target_half_width"] = cost.half_width
        shown[f"{prefix}.cost_to_target_max"] = max(r.cost_to_target for r in some)
        if scenario in _KS_SCENARIOS:
            shown[f"{prefix}.ks"] = Mean.of([r.ks for r in some]).mean
        timed = [r.recovery_minutes for r in some if r.recovery_minutes is not None]
        if timed:
            shown[f"{prefix}.recovery_minutes"] = float(np.mean(timed))
    return shown


def standing(results: Sequence[Result], mode: str) -> Table:
    """Shares, and under a cost cap costs, of the shipped controller beside what is wanted; a star: short of it."""
    figures_of = {"share": "share"} if mode == "auto" else {"share": "share", "cost_to_target": "cost/target"}
    columns = ["scenario", "wanted", *(f"{pricing} {short}" for pricing in PRICES for short in figures_of.values())]
    rows: list[tuple[object, ...]] = []
    for name in _scenarios(results):
        goal = GOALS.get(name)
        cells = []
        for pricing in PRICES:
            some = _chosen(results, name, mode, pricing)
            cells += [_cell([getattr(r, figure) for r in some], goal, mode, figure) for figure in figures_of]
        rows.append((name, _wanted(goal, mode), *cells))
    title = "automatic bidding" if mode == "auto" else "cost cap"
    return f"{title}: share of the optimum's events (*: short of what is wanted)", columns, rows


def _wanted(goal: Goal | None, mode: str) -> str:
    if goal is None:
        return "-"
    return f">= {goal.auto}" if mode == "auto" else f">= {goal.cap} @ <= {goal.cost_to_target}"


def _cell(values: Sequence[float], goal: Goal | None, mode: str, figure: str) -> str:
    if not values:
        return "-"
    mean, text = _with_interval(values)
    if goal is None:
        return text
    least = goal.auto if mode == "auto" else goal.cap
    short = round(mean, 4) > goal.cost_to_target if figure == "cost_to_target" else round(mean, 4) < least
    return text + (" *" if short else "  ")


def _with_interval(values: Sequence[float]) -> tuple[float, str]:
    mean = Mean.of(values)
    width = "" if math.isnan(mean.half_width) else f" ±{mean.half_width:.4f}"
    return mean.mean, f"{mean.mean:.4f}{width}"


def pace(results: Sequence[Result]) -> Table:
    """How close spend keeps to the optimum's curve, and how soon it is back after a shock."""
    wanted = f"KS <= {KS_GOAL}, back in <= {RECOVERY_GOAL_MINUTES} min"
    columns = ("scenario", "figure", *(f"{mode} {pricing}" for mode in MODES for pricing in PRICES))
    rows: list[tuple[object, ...]] = []
    cells = [(mode, pricing) for mode in MODES for pricing in PRICES]
    for name in _scenarios(results):
        if name in _KS_SCENARIOS:
            values = [[r.ks for r in _chosen(results, name, *cell)] for cell in cells]
            rows.append((name, "KS", *(_with_interval(v)[1] if v else "-" for v in values)))
        if SCENARIOS[name].shock_at:
            values = [[r.recovery_minutes or 0.0 for r in _chosen(results, name, *cell)] for cell in cells]
            rows.append((name, "minutes until back", *(f"{np.mean(v):.0f} (most {max(v):.0f})" for v in values if v)))
    return f"spend curve against the optimum's ({wanted})", columns, rows


def comparisons(results: Sequence[Result]) -> list[tuple[str, str]]:
    """Every mode and price of which there are results."""
    present = {(r.mode, r.pricing) for r in results}
    return [(mode, pricing) for mode in MODES for pricing in PRICES if (mode, pricing) in present]


def rivals(results: Sequence[Result], mode: str, pricing: str) -> Table:
    """Share and cost over target of every method."""
    rows: list[tuple[object, ...]] = []
    methods = [method for method in METHODS if any(r.method == method for r in results)]
    for name in _scenarios(results):
        cells = []
        for method in methods:
            some = _chosen(results, name, mode, pricing, method)
            share, cost = np.mean([r.share for r in some]), np.mean([r.cost_to_target for r in some])
            cells.append(f"{share:.3f} @ {cost:.3f}" if mode == "cap" else f"{share:.3f}")
        rows.append((name, *cells))
    shown = "share @ cost over target" if mode == "cap" else "share of the optimum"
    return f"reference methods, {mode}, {pricing} price: {shown}", ("scenario", *methods), rows
