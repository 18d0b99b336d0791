"""Many sets of inputs, fed by several processes: what they found, what they took of memory, how to draw one again."""

from __future__ import annotations

import gc
import multiprocessing
import os
import queue
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from benchmarks.fuzz.findings import Findings, together
from benchmarks.fuzz.memory import Memory, resident_bytes
from benchmarks.output import ProgressBar

SET_INPUTS = 250_000
_POLL_S = 0.5
_REPORT_EVERY = 4_096


@dataclass(frozen=True)
class InputSet:
    """A number of inputs that one seed draws, alone and always the same."""

    inputs: int
    seed: int

    @property
    def command(self) -> str:
        """How to feed it again."""
        return f"fanbid bench fuzz --inputs {self.inputs} --seed {self.seed} --served 0"


@dataclass
class Fed:
    """What became of sets.

    Attributes:
        findings: by target, of all sets.
        memory: of the process that grew most.
    """

    findings: list[Findings] = field(default_factory=list)
    memory: Memory = field(default_factory=lambda: Memory(0, 0, 0))


def sets_of(inputs: int, seed: int) -> list[InputSet]:
    """`inputs` inputs as sets of equal size and successive seeds."""
    count = max(1, -(-inputs // SET_INPUTS))
    sizes = [inputs * (n + 1) // count - inputs * n // count for n in range(count)]
    return [InputSet(size, seed + number) for number, size in enumerate(sizes)]


def feed_sets(sets: Sequence[InputSet], workers: int, bar: ProgressBar) -> Fed:
    """Feed all sets, in this process if there is one set or one worker."""
    workers = min(workers, len(sets))
    if workers == 1:
        marks, found = _feed_here(sets, bar, None)
        return Fed(together(found), _growth(marks))
    return _feed_apart(sets, workers, bar)


def _feed_here(sets: Sequence[InputSet], bar: ProgressBar, last: LastInput | None) -> tuple[list[int], list[Findings]]:
    from benchmarks.fuzz.decoders import fuzz_set

    marks, found = [], []
    for each in sets:
        if last is not None:
            last.begin(each)
        findings = fuzz_set(each.inputs, each.seed, bar, None if last is None else last.note)
        for target in findings:
            target.failures = [f"{text}\nagain with all before it: {each.command}" for text in target.failures]
        found += findings
        gc.collect()
        marks.append(resident_bytes(os.getpid(), with_children=False))
    return marks, found


def _growth(marks: Sequence[int]) -> Memory:
    """Resident memory after the first set, after half of them, and after the last."""
    return Memory(marks[0], marks[len(marks) // 2], marks[-1]) if marks else Memory(0, 0, 0)


class LastInput:
    """A file that says what a process was fed last, readable when the process is no more."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        self._set = b""

    def begin(self, inputs: InputSet) -> None:
        """Say which set is fed from now on."""
        self._set = inputs.command.encode()

    def note(self, target: str, raw: bytes) -> None:
        """Say what is fed next."""
        head = b"%d %d %d\n" % (len(self._set), len(target), len(raw))
        os.pwrite(self._file, head + self._set + target.encode() + raw, 0)

    def text(self) -> tuple[str, str, bytes] | None:
        """(command of the set, target, input); None: nothing was fed."""
        head, _, rest = self._path.read_bytes().partition(b"\n")
        if not head:
            return None
        set_size, target_size, size = (int(part) for part in head.split())
        body = rest[set_size + target_size :]
        return rest[:set_size].decode(), rest[set_size : set_size + target_size].decode(), body[:size]

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


class _Reports:
    """A progress bar that tells another process."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self._done = 0.0

    def advance(self, n: float = 1, note: str = "") -> None:
        self._done += n
        if self._done >= _REPORT_EVERY:
            self._channel.put((self._done, note))
            self._done = 0.0

    def flush(self) -> None:
        self._channel.put((self._done, ""))


def _work(sets: Sequence[InputSet], path: Path, channel: Any) -> None:
    """What a worker does: its sets, then one last report. Where kernels are cached, it knows from the environment."""
    reports, last = _Reports(channel), LastInput(path)
    fed = _feed_here(sets, reports, last)
    reports.flush()
    channel.put(fed)
    last.close()


@contextmanager
def _ended(children: Sequence[SpawnProcess]) -> Iterator[None]:
    try:
        yield
    finally:
        for child in children:
            if child.is_alive():
                child.terminate()
            child.join()


def _feed_apart(sets: Sequence[InputSet], workers: int, bar: ProgressBar) -> Fed:
    context = multiprocessing.get_context("spawn")
    found: list[Findings] = []
    memories: list[Memory] = []
    with tempfile.TemporaryDirectory(prefix="fanbid-fuzz-") as folder:
        paths = [Path(folder) / str(number) for number in range(workers)]
        channels = [context.Queue() for _ in paths]
        children = [
            context.Process(target=_work, args=(sets[number::workers], path, channel), daemon=True)
            for number, (path, channel) in enumerate(zip(paths, channels, strict=True))
        ]
        for child in children:
            child.start()
        with _ended(children):
            open_ones = dict(enumerate(children))
            while open_ones:
                for number, child in list(open_ones.items()):
                    was_alive = child.is_alive()
                    last_word = _drain(channels[number], bar, _POLL_S / len(open_ones))
                    if last_word is not None:
                        marks, findings = last_word
                        memories.append(_growth(marks))
                        found += findings
                        del open_ones[number]
                    elif not was_alive:
                        found.append(_death(child, paths[number]))
                        del open_ones[number]
    return Fed(together(found), max(memories, key=lambda memory: memory.late_growth, default=Memory(0, 0, 0)))


def _drain(channel: Any, bar: ProgressBar, wait_s: float) -> Any:
    """Take in what a worker reported; its last word, if that was among it."""
    try:
        while True:
            report = channel.get(timeout=wait_s)
            if isinstance(report[0], list):
                return report
            bar.advance(*report)
            wait_s = 0.0001
    except queue.Empty:
        return None


def _death(child: SpawnProcess, path: Path) -> Findings:
    """A worker that ended at an input, which no decoder may bring about."""
    told = LastInput(path).text() if path.exists() else None
    command, target, raw = told or ("", "worker", b"")
    findings = Findings(target)
    findings.fail(raw, f"the process ended with code {child.exitcode}\nagain with all before it: {command}")
    return findings
