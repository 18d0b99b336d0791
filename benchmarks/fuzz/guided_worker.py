"""One worker of `bench fuzz --guided`: `python -m benchmarks.fuzz.guided_worker FOLDER SECONDS SEED PART PARTS`.

An input is a byte that names a target, and what the target is fed.
"""

from __future__ import annotations

import json
import random
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import atheris

_ROOT = Path(__file__).resolve().parents[2]
_PACKAGES = ["auction", "fanbridge", "pacing", "protos", "targeting"]
_SEEDS_A_TARGET = 24
_TOLD_EVERY_S = 2.0
_SLOW_SHARE = 5
_HANG_S = 120
_MAX_INPUT_BYTES = 65_536


class Watched:
    """Feeds inputs to targets, and writes down what came of it: libFuzzer ends the process without asking."""

    def __init__(self, folder: Path, targets: list[Any], mutator: Any) -> None:
        from benchmarks.fuzz.findings import Findings
        from benchmarks.fuzz.sets import LastInput

        self._targets, self._mutator = targets, mutator
        self._findings = [Findings(target.name) for target in targets]
        self._told = folder / "told.json"
        self._told_at_s = time.monotonic()
        self._last = LastInput(folder / "last")

    def corpus(self, folder: Path) -> Path:
        """Files of inputs to begin with, each fed once: what compiles at its first call must not pass for a hang."""
        folder.mkdir()
        for number, target in enumerate(self._targets):
            for which in range(_SEEDS_A_TARGET):
                first = bytes((number,)) + target.draw()
                (folder / f"{number}-{which}").write_bytes(first)
                self.take(first)
        return folder

    def take(self, sent: bytes) -> None:
        """Feed one input."""
        from benchmarks.fuzz.targets import take_one

        if not sent:
            return
        number = sent[0] % len(self._targets)
        target, findings = self._targets[number], self._findings[number]
        raw = sent[1:]
        self._last.note(target.name, raw)
        began_s = time.monotonic()
        take_one(target, raw, findings)
        ended_s = time.monotonic()
        findings.seconds += ended_s - began_s
        if ended_s - self._told_at_s > _TOLD_EVERY_S:
            self._told_at_s = ended_s
            self.tell()

    def tell(self) -> None:
        """Write down what was found so far."""
        parts = [asdict(findings) for findings in self._findings]
        for part in parts:
            del part["_began_s"]
        part_file = self._told.with_suffix(".part")
        part_file.write_text(json.dumps(parts), encoding="utf-8")
        part_file.replace(self._told)

    def mutate(self, kept: bytes, max_size: int, seed: int) -> bytes:
        """The next input: another target's, the same target's anew, or this one changed."""
        rng = random.Random(seed)
        draw = rng.random()
        if draw < 0.1 or not kept:
            number = rng.randrange(len(self._targets))
            changed = self._targets[number].draw()
        else:
            number = kept[0] % len(self._targets)
            if draw < 0.25:
                changed = self._targets[number].draw()
            elif draw < 0.5:
                changed = self._mutator.changed(kept[1:])
            else:
                changed = bytes(atheris.Mutate(kept[1:], max_size - 1))
        return bytes((number,)) + changed[: max_size - 1]


def main(arguments: list[str]) -> None:
    """Look until the time is over; never returns."""
    folder = Path(arguments[0])
    seconds, seed, part, parts = (int(text) for text in arguments[1:5])
    kernels = [
        ".".join(path.relative_to(_ROOT).with_suffix("").parts)
        for package in _PACKAGES
        for path in (_ROOT / package).rglob("kernels.py")  # numba reads their bytecode, so nothing may be added to it
    ]
    with atheris.instrument_imports(include=_PACKAGES, exclude=kernels):
        from benchmarks.fuzz.decoders import all_targets
    from benchmarks.fuzz.mutation import Mutator

    mutator = Mutator(seed)
    with all_targets(mutator) as targets:
        # Files take so long that the others would wait for them: with several workers, the last has the files alone.
        if parts > 1:
            targets = [target for target in targets if (target.share >= _SLOW_SHARE) == (part == parts - 1)]
        watched = Watched(folder, targets, mutator)
        flags = [
            f"-max_total_time={seconds}", f"-seed={seed or 1}", f"-max_len={_MAX_INPUT_BYTES}", f"-timeout={_HANG_S}",
            "-rss_limit_mb=0", f"-artifact_prefix={folder}/", "-print_final_stats=1", "-len_control=0",
        ]  # fmt: skip
        corpus = watched.corpus(folder / "corpus")
        atheris.Setup([sys.argv[0], *flags, str(corpus)], watched.take, custom_mutator=watched.mutate)
        atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
