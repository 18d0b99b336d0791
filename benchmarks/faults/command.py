"""`fanbid bench faults`: the shipped money code in a simulated world of crashes, lost answers and wrong clocks.

Each seed is one world, played in virtual time by one thread, with an auditor beside it. A seed that fails is named, and
`--seed` plays it alone.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from functools import partial
from multiprocessing import get_context
from multiprocessing.synchronize import Event

from benchmarks.faults.drawing import MAX_SERVERS, draw_world
from benchmarks.faults.parts import PARTS, without
from benchmarks.faults.shared_world import SharedWorld
from benchmarks.faults.world import Outcome, World
from benchmarks.output import Scalar, add_output_arguments, print_table, progress, write_json
from benchmarks.workers import forked
from pacing.budget.holds import warm_up

SEEDS, QUICK_SEEDS = 400, 12
REQUESTS = 120
_CHUNK_SEEDS = 5
_SHOWN_FAILURES = 5
_SIGNAL_S = 0.2
EXIT_INTERRUPTED = 130


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `fanbid bench faults`."""
    parser.add_argument("--seeds", type=int, metavar="N", help=f"how many worlds; default {SEEDS}")
    parser.add_argument("--first-seed", type=int, default=0, metavar="S", help="the first one's seed; default 0")
    parser.add_argument("--seed", type=int, metavar="N", help="play this one world alone, and show what failed")
    listed = "; ".join(f"{name}: {part.meaning}" for name, part in PARTS.items())
    parser.add_argument(
        "--without",
        action="append",
        default=[],
        metavar="PART",
        help=f"switch a protective part off, to see what it is for; may be given again. {listed}",
    )
    parser.add_argument(
        "--servers",
        type=int,
        metavar="N",
        help=f"servers in every world, 1..{MAX_SERVERS}; several share one store; default: each seed draws how many",
    )
    parser.add_argument("--workers", type=int, metavar="W", help="processes; default: one for each core")
    add_output_arguments(parser)


def play_seed(seed: int, requests: int = REQUESTS, servers: int | None = None) -> Outcome:
    """Play one world; `servers` None: as many as the seed draws. What the code under test raises is its failure."""
    scenario = draw_world(seed, requests, servers)
    world = World(scenario) if scenario.shared is None else SharedWorld(scenario)
    try:
        return world.run()
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return world.outcome(f"{type(error).__name__}: {error} ({os.path.basename(where.filename)}:{where.lineno})")


class _Playing:
    """Worlds under way in processes of their own, some in each call; in this process if there is one worker."""

    def __init__(self, seeds: range, parts: Sequence[str], servers: int | None, workers: int) -> None:
        """Begin; every worker is forked here, before a progress bar starts a thread."""
        self._seeds, self._parts, self._servers = seeds, parts, servers
        self._pool: ProcessPoolExecutor | None = None
        self._futures: list[Future[list[Outcome]]] = []
        if workers > 1:
            chunks = [seeds[at : at + _CHUNK_SEEDS] for at in range(0, len(seeds), _CHUNK_SEEDS)]
            calls = [partial(_play_chunk, chunk, parts, servers) for chunk in chunks]
            self._stopping = get_context("fork").Event()
            self._pool, self._futures = forked(workers, calls, _begin_worker, self._stopping)

    def outcomes(self) -> Iterator[list[Outcome]]:
        """Of all worlds, some at a time, in any order."""
        if self._pool is None:
            for seed in self._seeds:
                with without(self._parts):
                    yield [play_seed(seed, servers=self._servers)]
        try:
            for future in as_completed(self._futures):
                yield future.result()
        except BrokenProcessPool:
            time.sleep(_SIGNAL_S)  # a signal to all of us may have ended the workers: then this process has it too
            raise

    def give_up(self) -> list[Outcome]:
        """Begin no other world; the outcomes of all that were played."""
        if self._pool is None:
            return []
        self._stopping.set()
        self._pool.shutdown(cancel_futures=True)
        ended = [future for future in self._futures if not future.cancelled() and future.exception() is None]
        return [outcome for future in ended for outcome in future.result()]

    def close(self) -> None:
        """Give up what is under way."""
        self.give_up()


_stopping: Event | None = None
"""In a worker: set when no other world is to be begun."""


def _begin_worker(stopping: Event) -> None:
    """Ctrl-C reaches all processes of a terminal; the one that shows the outcomes tells its workers to end."""
    global _stopping
    _stopping = stopping
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _play_chunk(seeds: Sequence[int], parts: Sequence[str], servers: int | None) -> list[Outcome]:
    outcomes = []
    with without(parts):
        for seed in seeds:
            if _stopping is not None and _stopping.is_set():
                break
            outcomes.append(play_seed(seed, servers=servers))
    return outcomes


def main(args: argparse.Namespace) -> int:
    """Run the simulation; 1 when a world failed, 130 when interrupted.

    Raises:
        ValueError: a flag is out of range.
    """
    seeds = _seeds_of(args)
    workers = os.cpu_count() or 1 if args.workers is None else args.workers
    if args.servers is not None and not 1 <= args.servers <= MAX_SERVERS:
        raise ValueError(f"--servers {args.servers}: not in 1..{MAX_SERVERS}")
    if not 1 <= workers <= 256:
        raise ValueError(f"--workers {workers}: not in 1..256")
    with without(args.without):
        warm_up()
    logging.disable(logging.ERROR)  # what servers say about faults would drown what is found
    try:
        return _play(args, seeds, workers)
    finally:
        logging.disable(logging.NOTSET)


@contextmanager
def _noticed_interrupts() -> Iterator[threading.Event]:
    """Set on SIGINT and SIGTERM, besides KeyboardInterrupt: what is raised in a callback of compiled code gets lost."""
    noticed = threading.Event()

    def notice(number: int, frame: object) -> None:
        noticed.set()
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():  # signals are not handled here
        yield noticed
        return
    before = [(number, signal.signal(number, notice)) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        yield noticed
    finally:
        for number, handler in before:
            signal.signal(number, handler)


def _play(args: argparse.Namespace, seeds: range, workers: int) -> int:
    """Play the worlds and show what they came to, also when interrupted; the exit code."""
    outcomes: dict[int, Outcome] = {}
    is_interrupted = False
    began_s = time.perf_counter()
    with (
        _noticed_interrupts() as noticed,
        closing(_Playing(seeds, args.without, args.servers, min(workers, len(seeds)))) as playing,
        progress(len(seeds), "worlds") as bar,
    ):
        try:
            for some in playing.outcomes():
                outcomes |= {outcome.seed: outcome for outcome in some}
                bar.advance(len(some), _note(list(outcomes.values())))
                if noticed.is_set():
                    raise KeyboardInterrupt
        except KeyboardInterrupt:  # what was played until now counts
            is_interrupted = True
            bar.advance(0, "interrupted: worlds that are under way come to their end")
            outcomes |= {outcome.seed: outcome for outcome in playing.give_up()}
    if is_interrupted:
        print(f"interrupted after {len(outcomes)} of {len(seeds)} worlds")
    if not outcomes:
        return EXIT_INTERRUPTED
    code = _conclude(args, [outcomes[seed] for seed in sorted(outcomes)], time.perf_counter() - began_s)
    return EXIT_INTERRUPTED if is_interrupted else code


def _seeds_of(args: argparse.Namespace) -> range:
    if args.seed is not None:
        if args.seeds is not None:
            raise ValueError(f"--seed {args.seed}: plays one world, so --seeds {args.seeds} has no place beside it")
        first, count = args.seed, 1
    else:
        first, count = args.first_seed, args.seeds
        count = (QUICK_SEEDS if args.quick else SEEDS) if count is None else count
    for flag, value, low in (("--seed" if args.seed is not None else "--first-seed", first, 0), ("--seeds", count, 1)):
        if not low <= value < 2**31:
            raise ValueError(f"{flag} {value}: not in {low}..{2**31 - 1}")
    return range(first, first + count)


def _note(outcomes: Sequence[Outcome]) -> str:
    failed = [str(outcome.seed) for outcome in outcomes if outcome.failure]
    return f"{len(failed)} failed: {' '.join(failed[:_SHOWN_FAILURES])}" if failed else ""


def figures_of(outcomes: Sequence[Outcome], elapsed_s: float) -> dict[str, Scalar]:
    """The flat figures of a run."""
    events = sum(outcome.events for outcome in outcomes)
    return {
        "seeds": len(outcomes),
        "failed_seeds": sum(bool(outcome.failure) for outcome in outcomes),
        "lost_micros": sum(outcome.lost_micros for outcome in outcomes),
        "charged_over_micros": sum(outcome.charged_over_micros for outcome in outcomes),
        "over_delivered_micros": sum(outcome.over_delivered_micros - outcome.excused_micros for outcome in outcomes),
        "over_delivered_outside_micros": sum(outcome.excused_micros for outcome in outcomes),
        "billed_micros": sum(outcome.billed_micros for outcome in outcomes),
        "events": events,
        "events_per_s": round(events / elapsed_s),
    }


def _conclude(args: argparse.Namespace, outcomes: list[Outcome], elapsed_s: float) -> int:
    figures = figures_of(outcomes, elapsed_s)
    failed = [outcome for outcome in outcomes if outcome.failure]
    switches = "".join(f" --without {name}" for name in args.without)
    switches += "" if args.servers is None else f" --servers {args.servers}"
    for outcome in failed[:_SHOWN_FAILURES]:
        print(f"seed {outcome.seed}, step {outcome.step}: {outcome.failure}")
        if args.seed is not None:
            print("\n".join(f"    {line}" for line in outcome.trail))
        else:
            print(f"    replay: fanbid bench faults --seed {outcome.seed}{switches}")
    if len(failed) > _SHOWN_FAILURES:
        print(f"... and {len(failed) - _SHOWN_FAILURES} more")
    faults: Counter[str] = sum((outcome.faults for outcome in outcomes), Counter())
    rows: list[tuple[str, object]] = [(name, value) for name, value in figures.items()]
    rows += [(name, count) for name, count in sorted(faults.items())]
    title = "faults" if not args.without else f"faults, without {' and '.join(args.without)}"
    print_table(title, ("figure", "value"), rows)
    write_json(args.json, figures)
    return 1 if failed else 0
