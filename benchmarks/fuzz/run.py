"""`fanbid bench fuzz`: malformed input at every decoder and every door; nothing may crash or say what is inside.

Right is what is answered, or refused with a status that says what is wrong. Wrong is a crash, UNKNOWN, INTERNAL,
UNAVAILABLE or a status of 500 and more, a text that shows an exception, two decoders of the same bytes that disagree,
a server that stops answering, or memory that goes on growing. The same seed draws the same inputs.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.fuzz.doors import WARM_INPUTS, fuzz_served
from benchmarks.fuzz.findings import Findings
from benchmarks.fuzz.memory import Memory
from benchmarks.fuzz.sets import Fed, feed_sets, sets_of
from benchmarks.output import Scalar, add_output_arguments, print_table, progress, write_json

INPUTS, QUICK_INPUTS = 1_000_000, 4_000
SERVED_SHARE = 20
"""One of this many inputs goes through sockets, which take that much longer."""
MAX_LATE_GROWTH_BYTES = 32 * 1024 * 1024
EXIT_FOUND = 1
_NO_MEMORY = Memory(0, 0, 0)
_MIB = 1024 * 1024


@dataclass(frozen=True)
class FuzzResult:
    """What a run found."""

    decoders: Fed
    served: list[Findings]
    served_memory: Memory = _NO_MEMORY

    @property
    def all_findings(self) -> list[Findings]:
        """Of decoders, then of doors."""
        return [*self.decoders.findings, *self.served]

    @property
    def failures(self) -> list[str]:
        """Inputs that found something, with what they did."""
        return [text for findings in self.all_findings for text in findings.failures]

    @property
    def is_clean(self) -> bool:
        """Whether nothing was found and memory stayed within bounds."""
        late = max(self.decoders.memory.late_growth, self.served_memory.late_growth)
        return not self.failures and late <= MAX_LATE_GROWTH_BYTES


def fuzz(inputs: int, served: int, seed: int, workers: int) -> FuzzResult:
    """Feed so many inputs to the decoders, and so many to a served engine."""
    doors, memory = list[Findings](), _NO_MEMORY
    with progress(inputs + (served + WARM_INPUTS if served else 0), "fuzzing") as bar:
        fed = feed_sets(sets_of(inputs, seed), workers, bar) if inputs else Fed()
        if served:
            doors, memory = fuzz_served(served, seed, bar)
    return FuzzResult(fed, doors, memory)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `bench fuzz`."""
    add_output_arguments(parser)
    parser.add_argument("--inputs", type=int, metavar="N", help=f"inputs at the decoders; default {INPUTS}")
    parser.add_argument(
        "--served", type=int, metavar="N", help=f"inputs through sockets; default: one for {SERVED_SHARE} of the others"
    )
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="draws the inputs; default 1")
    parser.add_argument(
        "--workers", type=int, metavar="N", help="processes that feed decoders; default: one a core this may use"
    )
    parser.add_argument(
        "--replay", metavar="TARGET=HEX", help="feed one input again, as a finding shows it; @FILE: read that from FILE"
    )
    parser.add_argument(
        "--guided",
        type=float,
        metavar="SECONDS",
        help="let coverage guide the inputs; needs the extra 'fuzz' (atheris)",
    )


def main(args: argparse.Namespace) -> int:
    """Run it; 0 if nothing was found, 1 otherwise.

    Raises:
        ValueError: a flag cannot be used.
    """
    workers = len(os.sched_getaffinity(0)) if args.workers is None else args.workers
    if workers < 1:
        raise ValueError(f"--workers {workers}: must be 1 or more")
    if args.replay is not None:
        return _report(FuzzResult(Fed([_replayed(args.replay)]), []), None)
    if args.guided is not None:
        return _guided(args.guided, args.seed, workers, args.json)
    inputs = args.inputs if args.inputs is not None else QUICK_INPUTS if args.quick else INPUTS
    served = args.served if args.served is not None else max(inputs // SERVED_SHARE, 400)
    for flag, count in (("--inputs", inputs), ("--served", served)):
        if count < 0 or inputs + served < 1:
            raise ValueError(f"{flag} {count}: must be 0 or more, and one of --inputs and --served 1 or more")
    print(f"seed {args.seed}: {inputs:,} inputs at decoders, {served:,} through sockets, {workers} workers", flush=True)
    return _report(fuzz(inputs, served, args.seed, workers), args.json)


def _replayed(text: str) -> Findings:
    from benchmarks.fuzz.decoders import feed_one

    if text.startswith("@"):
        text = Path(text[1:]).read_text(encoding="utf-8").partition("\n")[0]
    target, _, digits = text.rpartition("=")
    try:
        raw = bytes.fromhex(digits)
    except ValueError:
        raise ValueError(f"--replay: {digits[:40]!r} is not hexadecimal") from None
    return feed_one(target, raw)


def _guided(seconds: float, seed: int, workers: int, json_path: Path | None) -> int:
    if not seconds > 0:
        raise ValueError(f"--guided {seconds}: must be above 0")
    if importlib.util.find_spec("atheris") is None:
        raise ValueError("--guided: needs atheris, which is not installed; pip install 'fanbid[fuzz]'")
    from benchmarks.fuzz.guided import fuzz_guided

    print(f"seed {seed}: inputs guided by coverage for {seconds:g} s, {workers} workers", flush=True)
    return _report(FuzzResult(fuzz_guided(seconds, seed, workers), []), json_path)


def _report(result: FuzzResult, json_path: Path | None) -> int:
    for text in result.failures:
        print(text)
    rows = [
        [each.target, each.inputs, each.inputs / max(each.seconds, 1e-9), each.taken, each.refused, each.failed]
        for each in result.all_findings
    ]
    print_table("malformed input", ("target", "inputs", "a second", "answered", "refused", "found"), rows)
    memories = (
        ("decoders: the worker that grew most", result.decoders.memory),
        ("engine and shim", result.served_memory),
    )
    measured = [_memory_row(name, memory) for name, memory in memories if memory.before]
    if measured:
        columns = ("", "MiB before", "after half", "after all", "growth in the second half")
        print_table("resident memory", columns, measured)
    write_json(json_path, figures_of(result))
    return 0 if result.is_clean else EXIT_FOUND


def _memory_row(name: str, memory: Memory) -> Sequence[object]:
    return [name, *(size / _MIB for size in (memory.before, memory.half, memory.after, memory.late_growth))]


def figures_of(result: FuzzResult) -> dict[str, Scalar]:
    """The run as one flat object."""
    fed = result.decoders.findings
    inputs, seconds = sum(each.inputs for each in fed), sum(each.seconds for each in fed)
    return {
        "decoder_inputs": inputs,
        "decoder_targets": len(fed),
        "decoder_inputs_per_worker_s": inputs / max(seconds, 1e-9),
        "served_inputs": sum(each.inputs for each in result.served),
        "found": sum(each.failed for each in result.all_findings),
        "decoder_memory_before_bytes": result.decoders.memory.before,
        "decoder_memory_late_growth_bytes": result.decoders.memory.late_growth,
        "memory_before_bytes": result.served_memory.before,
        "memory_growth_bytes": result.served_memory.growth,
        "memory_late_growth_bytes": result.served_memory.late_growth,
    }
