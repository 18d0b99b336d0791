"""Jobs in worker processes, for every command that plays many independent ones."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from typing import Any, Literal, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


def forked(
    workers: int, calls: Sequence[Callable[[], Result]], begin: Callable[..., None] | None = None, *arguments: Any
) -> tuple[ProcessPoolExecutor, list[Future[Result]]]:
    """Fork so many workers, put them to these calls, and answer at once; every worker is forked when this returns.

    So call it before anything starts a thread, such as a progress bar, and after what is compiled. What is garbage in
    this process stays out of the workers' garbage collection: a gRPC channel that is collected there waits for threads
    that a fork does not copy.

    Args:
        begin: called first in each worker, with `arguments`.

    Returns:
        The pool, to be shut down by the caller, and a future for each call.
    """
    gc.collect()
    gc.freeze()
    try:
        pool = ProcessPoolExecutor(workers, get_context("fork"), begin, arguments)
        return pool, [pool.submit(call) for call in calls]  # the first call forks all workers
    finally:
        gc.unfreeze()


def _spawned(workers: int, calls: Sequence[Callable[[], Result]]) -> tuple[ProcessPoolExecutor, list[Future[Result]]]:
    pool = ProcessPoolExecutor(workers, get_context("spawn"))
    return pool, [pool.submit(call) for call in calls]


@contextmanager
def running(
    run: Callable[[Job], Result], jobs: Sequence[Job], workers: int, start: Literal["fork", "spawn"] = "fork"
) -> Iterator[Iterator[Result]]:
    """The results of `run` for all jobs, in any order as they come; one worker is this process itself.

    Leaving it early begins no further job.

    Args:
        start: forked workers have what is compiled already (see `forked`); spawned ones share nothing with this
            process, its threads included.
    """
    workers = min(workers, len(jobs))
    if workers <= 1:
        yield map(run, jobs)
        return
    calls = [partial(run, job) for job in jobs]
    pool, futures = forked(workers, calls) if start == "fork" else _spawned(workers, calls)
    try:
        yield (future.result() for future in as_completed(futures))
    finally:
        pool.shutdown(cancel_futures=True)
