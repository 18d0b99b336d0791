"""Many seeds of the market, each under the engine's policy and both baselines, through the same engine in process."""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Empty
from typing import Any

import numpy as np

from auction.config import ServeConfig
from benchmarks.market.history import Priors, write_priors
from benchmarks.market.results import CampaignResult, MarketResult
from benchmarks.market.run import Market, MarketRun, MarketSettings
from benchmarks.market.tuning import Baselines
from benchmarks.output import Scalar
from benchmarks.transport import Clients, EngineTransport

POLICIES = ("engine", "fixed", "unpaced")
WORKERS = 2
_TICKS_PER_RUN = 20
_POLL_S = 0.2

Ticker = Callable[[float, str], None]
"""Told how many runs' worth of work is newly done, and what is going on."""


@dataclass(frozen=True, slots=True)
class SeedResult:
    """One seed: a result for each policy, all on the same slots with the same budgets."""

    seed: int
    by_policy: dict[str, MarketResult]


def run_policy(
    market: Market,
    policy: str,
    baselines: Baselines,
    priors: Priors,
    optima: tuple[Any, Any] | None = None,
    tick: Ticker | None = None,
) -> MarketResult:
    """One market under one policy, in this process, with everything in memory."""
    from auction.services import build_services

    config = ServeConfig(
        virtual_clock=market.spec.start_at_ms,
        no_rest=True,
        no_bridge=True,
        policy=policy,
        fixed_bid_micros=baselines.fixed_bid_micros,
        unpaced_multiplier_micros=baselines.unpaced_multiplier_micros,
        history=priors.history_path,
        model=priors.model_path,
        seed=market.seed,
    )
    services = build_services(config)
    try:
        tokens = [services.access.create_token(role, 0, market.spec.start_at_ms) for role in ("feed", "operator")]
        clients = Clients(*(EngineTransport(services, token) for token in tokens))
        run = MarketRun(market, clients, policy)
        run.install()
        run.run(_ticking(market, tick) if tick is not None else None)
        return run.result(optima)
    finally:
        services.close()


def _ticking(market: Market, tick: Ticker) -> Callable[[MarketRun, int], None]:
    """An observer that passes on every twentieth of the day."""
    span = max(1, market.spec.end_at_ms - market.spec.start_at_ms)
    told = 0

    def observe(run: MarketRun, at_ms: int) -> None:
        nonlocal told
        reached = (at_ms - market.spec.start_at_ms) * _TICKS_PER_RUN // span
        if reached > told:
            tick((reached - told) / _TICKS_PER_RUN, f"seed {market.seed} {run.policy}")
            told = reached

    return observe


def run_seed(
    seed: int,
    settings: MarketSettings,
    baselines: Baselines,
    policies: Sequence[str] = POLICIES,
    tick: Ticker | None = None,
) -> SeedResult:
    """One seed under every policy."""
    market = Market(seed, settings)
    optima = market.optima()
    with tempfile.TemporaryDirectory(prefix="fanbid-study-") as folder:
        priors = write_priors(market, Path(folder))
        return SeedResult(
            seed, {policy: run_policy(market, policy, baselines, priors, optima, tick) for policy in policies}
        )


def _work(job: tuple[int, MarketSettings, Baselines, Sequence[str]], ticks: Any) -> SeedResult:
    return run_seed(*job, tick=lambda amount, note: ticks.put((amount, note)))


def run_study(
    seeds: Sequence[int],
    settings: MarketSettings,
    baselines: Baselines,
    policies: Sequence[str] = POLICIES,
    tick: Ticker = lambda amount, note: None,
    workers: int = WORKERS,
) -> list[SeedResult]:
    """All seeds, in worker processes where there are several; results in the order of `seeds`.

    Raises:
        Exception: what went wrong in a worker.
    """
    if len(seeds) == 1 or workers == 1:
        return [run_seed(seed, settings, baselines, policies, tick) for seed in seeds]
    context = multiprocessing.get_context("spawn")
    with context.Manager() as shared, ProcessPoolExecutor(min(workers, len(seeds)), mp_context=context) as pool:
        ticks = shared.Queue()
        futures = [pool.submit(_work, (seed, settings, baselines, tuple(policies)), ticks) for seed in seeds]
        try:
            _follow(futures, ticks, tick)
            return [future.result() for future in futures]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _follow(futures: list[Future[SeedResult]], ticks: Any, tick: Ticker) -> None:
    """Pass progress on until all are done, or one failed."""
    pending = set(futures)
    while pending:
        done, pending = wait(pending, timeout=_POLL_S, return_when=FIRST_COMPLETED)
        for future in done:
            future.result()
        while True:
            try:
                amount, note = ticks.get_nowait()
            except Empty:
                break
            tick(amount, note)


def _campaigns(results: Sequence[SeedResult], policy: str) -> list[CampaignResult]:
    return [campaign for result in results for campaign in result.by_policy[policy].campaigns]


def figures(results: Sequence[SeedResult], baselines: Baselines) -> dict[str, Scalar]:
    """The study as one flat object.

    `fans_to_fixed` and `fans_to_unpaced` compare truly expected fans over all seeds at equal budgets;
    `spend_to_optimum` is all money spent over what the budget-only optimum of every campaign spends;
    `expected_cost_to_target_max` is the worst campaign of the worst seed, charges over truly expected events.
    """
    engine = _campaigns(results, "engine")
    everything = [c for policy in results[0].by_policy for c in _campaigns(results, policy)]
    ratios = [ratio for c in engine if (ratio := c.expected_cost_to_target) is not None]
    fans = {policy: [r.by_policy[policy].fans() for r in results] for policy in results[0].by_policy}
    spend, optimum = sum(c.charged_micros for c in engine), sum(c.optimum_micros for c in engine)
    money_bound = [c for c in engine if not c.is_tight]
    shown: dict[str, Scalar] = {
        "seeds": len(results),
        "overspend_micros_max": max(c.overspend_micros for c in everything),
        "unexplained_micros_max": max(abs(c.unexplained_micros) for c in everything),
        "over_delivered_micros": sum(c.over_delivered_micros for c in everything),
        "expected_cost_to_target_max": max(ratios, default=0.0),
        "expected_cost_to_target_median": float(np.median(ratios)) if ratios else 0.0,
        "spend_to_optimum": spend / optimum if optimum else 0.0,
        "spend_to_optimum_without_tight_targets": _ratio(
            sum(c.charged_micros for c in money_bound), sum(c.optimum_micros for c in money_bound)
        ),
        "spend_to_constrained_optimum": _ratio(spend, sum(c.constrained_micros for c in engine)),
        "fans_to_constrained_optimum": _ratio(
            sum(fans["engine"]), sum(c.constrained_events for c in engine if c.goal.name == "FANS")
        ),
        "fans": sum(fans["engine"]),
        "fans_drawn": sum(r.by_policy["engine"].fans(expected=False) for r in results),
        "fixed_bid_micros": baselines.fixed_bid_micros,
        "unpaced_multiplier_micros": baselines.unpaced_multiplier_micros,
        "refused_rows": sum(sum(r.by_policy["engine"].refused_rows.values()) for r in results),
    }
    for policy in ("fixed", "unpaced"):
        if policy in fans:
            shown[f"fans_to_{policy}"] = _ratio(sum(fans["engine"]), sum(fans[policy]))
            pairs = zip(fans["engine"], fans[policy], strict=True)
            shown[f"fans_to_{policy}_min"] = min(_ratio(mine, theirs) for mine, theirs in pairs)
    return shown


def _ratio(a: float, b: float) -> float:
    return a / b if b else 0.0


def seed_rows(results: Sequence[SeedResult]) -> list[list[object]]:
    """One row a seed: spend, fans under each policy, worst cost over target."""
    rows: list[list[object]] = []
    for result in results:
        engine = result.by_policy["engine"]
        ratios = [ratio for c in engine.campaigns if (ratio := c.expected_cost_to_target) is not None]
        spend = sum(c.charged_micros for c in engine.campaigns)
        row: list[object] = [
            str(result.seed),
            spend / 1e6,
            _ratio(spend, sum(c.optimum_micros for c in engine.campaigns)),
            max((c.overspend_micros for c in engine.campaigns), default=0),
            max(ratios, default=0.0),
        ]
        row += [result.by_policy[policy].fans() if policy in result.by_policy else None for policy in POLICIES]
        rows.append([*row, engine.elapsed_s])
    return rows


SEED_COLUMNS = (
    "seed", "spend", "of optimum", "overspend micros", "worst cost/target", "fans", "fixed", "unpaced", "engine run s",
)  # fmt: skip


def without_drain(settings: MarketSettings) -> MarketSettings:
    """The same market without the wait for late follows."""
    return replace(settings, drain_hours=0.0)
