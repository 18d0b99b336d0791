"""Follow graphs from files: an edge list with times, as text or as a MATLAB matrix; and one that is made up."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from targeting.lookalike.links import Links, links_from_times

FORMATS = "a text file with 'follower followed ... time' on each line, or a MATLAB file with a matrix of three columns"
_COMMENT = ("#", "%")
_SEPARATORS = re.compile(r"[\s,;]+")


def read_graph(path: Path) -> Links:
    """The follows of a file.

    Text: one follow a line, columns parted by spaces, tabs, commas or semicolons; the first two are ids (any text), the
    last is the time (a number, or a date YYYY-MM-DD or YYYY/MM/DD). Those between are ignored, unless there is just one
    and it is a negative number: a line of distrust, which is left out. Lines that begin with # or % are comments; a
    heading without a time is passed over. MATLAB: the first matrix with three columns: follower, followed, time.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no such list; names the line.
    """
    if path.suffix == ".mat":
        ends, times = _from_matlab(path)
    else:
        ends, times = _from_text(path)
    if not len(times):
        raise ValueError(f"{path}: no follow in it; must be {FORMATS}")
    names, rows = np.unique(ends, return_inverse=True)
    rows = rows.reshape(-1, 2)
    return links_from_times(len(names), rows[:, 0], rows[:, 1], times)


def _from_matlab(path: Path) -> tuple[np.ndarray, np.ndarray]:
    from scipy.io import loadmat

    for matrix in loadmat(path).values():
        if isinstance(matrix, np.ndarray) and matrix.ndim == 2 and matrix.shape[1] == 3 and matrix.dtype.kind in "iuf":
            numbers = matrix.astype(np.int64)
            return numbers[:, :2], numbers[:, 2]
    raise ValueError(f"{path}: no matrix with three columns in it; must be {FORMATS}")


def _from_text(path: Path) -> tuple[np.ndarray, np.ndarray]:
    ends: list[tuple[str, str]] = []
    times: list[float] = []
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            text = line.strip()
            if not text or text.startswith(_COMMENT):
                continue
            columns = _SEPARATORS.split(text)
            time = _time(columns[-1]) if len(columns) >= 3 else None
            if time is None and not ends:
                continue
            if time is None:
                raise ValueError(f"{path}: line {number}: {text[:60]!r}; must be 'follower followed ... time'")
            if len(columns) == 4 and columns[2].startswith("-"):
                continue
            ends.append((columns[0], columns[1]))
            times.append(time)
    return np.array(ends, np.str_).reshape(-1, 2), np.array(times)


def _time(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return float(np.datetime64(text.replace("/", "-"), "s").astype(np.int64))
    except ValueError:
        return None


def made_up_graph(accounts: int, windows: int, seed: int) -> Links:
    """Follows of a made-up platform: accounts join, have tastes, follow whom such people follow, and tire of it.

    For tests, and for a look at the command without a file; its figures say nothing of real graphs.
    """
    random = np.random.default_rng(seed)
    circles = max(accounts // 100, 4)
    taste = random.integers(circles, size=accounts)
    appeal = random.pareto(1.2, accounts) + 0.1
    joined = random.integers(-windows, windows, size=accounts)
    pace = random.lognormal(0.3, 1.0, accounts)
    followers, followed, times = [], [], []
    for window in range(windows):
        age = window - joined
        counts = random.poisson(np.where(age >= 0, pace * 0.75 ** np.maximum(age, 0) * 3.0, 0.0))
        who = np.repeat(np.arange(accounts), counts)
        near = random.random(len(who)) < 0.7
        everywhere = random.choice(accounts, len(who), p=appeal / appeal.sum())
        at_home = everywhere.copy()
        for circle in range(circles):
            members = np.flatnonzero(taste == circle)
            wanted = near & (taste[who] == circle)
            if len(members) and wanted.any():
                share = appeal[members] / appeal[members].sum()
                at_home[wanted] = random.choice(members, int(wanted.sum()), p=share)
        followers.append(who)
        followed.append(at_home)
        times.append(np.full(len(who), window))
    return links_from_times(accounts, *(np.concatenate(column) for column in (followers, followed, times)))
