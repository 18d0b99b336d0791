"""Worker processes: every job once, failures come out, and nothing of this process is collected in a forked one."""

from __future__ import annotations

import gc
import os
from functools import partial
from pathlib import Path
from typing import Literal

import pytest

from benchmarks.workers import forked, running

_held: list[_Cycle] = []


class _Cycle:
    """Only the garbage collector can end it, and where it does is told by a file named after the process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.itself = self

    def __del__(self) -> None:
        (self.folder / str(os.getpid())).touch()


def _square(number: int) -> tuple[int, int]:
    if number < 0:
        raise ValueError(f"{number}: negative")
    return number * number, os.getpid()


def _let_go(_: int) -> int:
    _held.clear()
    gc.collect()
    return os.getpid()


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_every_job_is_run_once_elsewhere(start: Literal["fork", "spawn"]) -> None:
    with running(_square, range(20), 2, start) as results:
        found = list(results)
    assert sorted(square for square, _ in found) == [number * number for number in range(20)]
    assert os.getpid() not in {worker for _, worker in found}


@pytest.mark.parametrize(("jobs", "workers"), [(3, 1), (1, 4), (0, 4)])
def test_what_one_worker_can_do_is_done_here(jobs: int, workers: int) -> None:
    with running(_square, range(jobs), workers) as results:
        assert list(results) == [(number * number, os.getpid()) for number in range(jobs)]


def test_a_failure_comes_out() -> None:
    with pytest.raises(ValueError, match="-1: negative"), running(_square, [-1, -1], 2) as results:
        list(results)


def test_a_forked_worker_collects_nothing_of_this_process(tmp_path: Path) -> None:
    _held.append(_Cycle(tmp_path))
    try:
        pool, futures = forked(1, [partial(_let_go, 0)])
        with pool:
            worker = futures[0].result()
        assert worker != os.getpid() and not list(tmp_path.iterdir())
    finally:
        _let_go(0)
    assert [path.name for path in tmp_path.iterdir()] == [str(os.getpid())], "this process collects it as ever"
