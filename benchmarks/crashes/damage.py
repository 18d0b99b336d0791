"""`fanbid bench damage`: a ledger that a killed server left, damaged in every place, one place at a time.

The files of a small ledger are cut short at every byte, and have a bit of every byte flipped: the main file's tail,
the whole write-ahead log, and the anchor. Each damaged copy is opened by the shipped code. Right is a refusal in words
of the ledger's own, or a ledger that has every acknowledged row and verdict, answers the same about what was told
before, statements and accounts, and takes a further row. Anything else is silently wrong.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from benchmarks.crashes.damaging import Damage, Outcome, damages, opener
from benchmarks.crashes.killed import LEDGER_FILES, leave_killed
from benchmarks.output import ProgressBar, Scalar, add_output_arguments, print_table, progress, write_json
from benchmarks.workers import running

TAIL_BYTES, QUICK_EVERY = 131_072, 1_009
REPORTS = (8, 2)
EXIT_WRONG = 1
_CHUNK = 400
_SHOWN = 20


@dataclass
class Tally:
    """What some damages came to: counts by (file, cut or flipped, outcome), and those that were silently wrong."""

    counts: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Take in another tally."""
        self.counts += other.counts
        self.wrong += other.wrong

    def total(self, outcome: Outcome) -> int:
        """How many damages came to this."""
        return sum(count for (_, _, found), count in self.counts.items() if found == outcome)


def open_damaged(files: dict[str, bytes], chunk: list[Damage]) -> Tally:
    """Open a copy for each of these damages."""
    tally = Tally()
    with opener(files) as opens:
        for damage in chunk:
            outcome, why = opens.outcome(damage)
            tally.counts[damage.name, "cut" if damage.bit < 0 else "flipped", outcome] += 1
            if outcome is Outcome.SILENTLY_WRONG:
                tally.wrong.append(f"{damage}: {why}")
    return tally


def _tallies(files: dict[str, bytes], every: list[Damage], workers: int) -> Iterator[Tally]:
    chunks = [every[at : at + _CHUNK] for at in range(0, len(every), _CHUNK)]
    with running(partial(open_damaged, files), chunks, workers, start="spawn") as tallies:
        yield from tallies


def run(files: dict[str, bytes], every: list[Damage], workers: int, bar: ProgressBar) -> Tally:
    """Open a copy for every damage."""
    total = Tally()
    for tally in _tallies(files, every, workers):
        total.add(tally)
        bar.advance(tally.counts.total(), f"{len(total.wrong)} silently wrong")
    return total


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `bench damage`."""
    add_output_arguments(parser)
    parser.add_argument(
        "--bits", type=int, default=1, metavar="N", help="flipped of each byte, one at a time; default 1"
    )
    parser.add_argument("--every", type=int, metavar="N", help="only each Nth byte; default 1")
    parser.add_argument(
        "--tail-bytes", type=int, default=TAIL_BYTES, metavar="N", help=f"of ledger.sqlite; default {TAIL_BYTES}"
    )
    parser.add_argument("--workers", type=int, metavar="N", help="processes; default one per processor")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="draws the bits; default 1")


def _checked(args: argparse.Namespace) -> tuple[int, int]:
    """(every, workers)."""
    every = args.every if args.every is not None else QUICK_EVERY if args.quick else 1
    workers = args.workers if args.workers is not None else 1 if args.quick else os.cpu_count() or 1
    ranges = {"--bits": (args.bits, 0, 8), "--every": (every, 1, 10**6), "--workers": (workers, 1, 256)}
    ranges["--tail-bytes"] = (args.tail_bytes, 0, 2**31)
    for flag, (value, low, high) in ranges.items():
        if not low <= value <= high:
            raise ValueError(f"{flag} {value}: not in {low}..{high}")
    return every, workers


def main(args: argparse.Namespace) -> int:
    """Run it; 0 if every damage was refused or harmless, 1 otherwise.

    Raises:
        ValueError: a flag is out of range.
    """
    each, workers = _checked(args)
    with tempfile.TemporaryDirectory(prefix="fanbid-damage-") as name:
        with progress(1, "a server bills and is killed") as bar:
            leave_killed(Path(name) / "server", REPORTS, args.seed)
            bar.advance()
        files = {file: (Path(name) / "server" / file).read_bytes() for file in LEDGER_FILES}
    every = list(damages(files, args.tail_bytes, args.bits, each, args.seed))
    with progress(len(every), "damaging") as bar:
        tally = run(files, every, workers, bar)
    for text in tally.wrong[:_SHOWN]:
        print(text)
    with_size = {file: f"{file}, {len(raw):,} bytes" for file, raw in files.items()}
    with_size[LEDGER_FILES[0]] += f", last {min(args.tail_bytes, len(files[LEDGER_FILES[0]])):,} of them"
    rows = [
        [f"{with_size[file]}, {how}", *(tally.counts[file, how, outcome] for outcome in Outcome)]
        for file in LEDGER_FILES
        for how in ("cut", "flipped")
    ]
    print_table("a damaged ledger, opened", ("damage", *Outcome), rows)
    write_json(args.json, figures_of(tally, files, args.tail_bytes))
    return EXIT_WRONG if tally.wrong or not tally.total(Outcome.REFUSED) else 0


def figures_of(tally: Tally, files: dict[str, bytes], tail_bytes: int) -> dict[str, Scalar]:
    """The run as one flat object."""
    main_file, log, anchor = (len(files[name]) for name in LEDGER_FILES)
    return {
        "damages": tally.counts.total(),
        "refused": tally.total(Outcome.REFUSED),
        "harmless": tally.total(Outcome.HARMLESS),
        "silently_wrong": tally.total(Outcome.SILENTLY_WRONG),
        "tail_bytes": min(tail_bytes, main_file),
        "log_bytes": log,
        "anchor_bytes": anchor,
    }
