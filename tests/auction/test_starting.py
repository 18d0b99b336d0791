"""A start that takes long says what it is busy with; a short one says nothing."""

from __future__ import annotations

import logging
import os
import threading

import numba
import numpy as np
import pytest

from auction.starting import told


def lines_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "auction.starting"]


@pytest.mark.skipif(os.environ.get("NUMBA_DISABLE_JIT") == "1", reason="nothing is compiled")
def test_compilation_is_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with told("opening", quiet_s=0.005, again_s=0.005):
        assert numba.njit(lambda rows: rows.sum() * rows.mean())(np.ones(3)) == 3.0
    assert any(line.startswith("opening, 0 s: compiling for this machine, ") for line in lines_of(caplog))


def test_another_wait_is_told_again_and_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with pytest.raises(ValueError, match="no use"), told("opening", quiet_s=0.005, again_s=0.005):
        while len(lines_of(caplog)) < 3:
            threading.Event().wait(0.005)
        raise ValueError("no use")
    assert set(lines_of(caplog)) == {"opening, 0 s"}


def test_a_short_step_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with told("opening", quiet_s=60.0):
        pass
    assert lines_of(caplog) == []
