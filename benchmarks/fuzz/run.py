"""`fanbid bench fuzz`: malformed input at every decoder and every door; nothing may crash or say what is inside.

Right is what is answered, or refused with a status that says what is wrong. Wrong is a crash, UNKNOWN, INTERNAL,
UNAVAILABLE or a status of 500 and more, a text that shows an exception, a server that stops answering, or memory that
grows. The same seed draws the same inputs.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from benchmarks.fuzz.decoders import fuzz_decoders
from benchmarks.fuzz.doors import WARM_INPUTS, Memory, fuzz_served
from benchmarks.fuzz.findings import Findings
from benchmarks.output import Scalar, add_output_arguments, print_table, progress, write_json

INPUTS, QUICK_INPUTS = 1_000_000, 4_000
SERVED_SHARE = 20
"""One of this many inputs goes through sockets, which take that much longer."""
MAX_GROWTH_BYTES = 96 * 1024 * 1024
EXIT_FOUND = 1


@dataclass(frozen=True)
class FuzzResult:
    """What a run found."""

    decoders: list[Findings]
    served: list[Findings]
    memory: Memory

    @property
    def failures(self) -> list[str]:
        """Inputs that found something, with what they did."""
        return [text for findings in (*self.decoders, *self.served) for text in findings.failures]

    @property
    def is_clean(self) -> bool:
        """Whether nothing was found and memory stayed within bounds."""
        return not self.failures and self.memory.growth <= MAX_GROWTH_BYTES


def fuzz(inputs: int, seed: int) -> FuzzResult:
    """Feed this many inputs to the decoders, and a share of as many to a served engine."""
    served = max(inputs // SERVED_SHARE, 400)
    with progress(inputs + served + WARM_INPUTS, "fuzzing") as bar:
        decoders = fuzz_decoders(inputs, seed, bar)
        doors, memory = fuzz_served(served, seed + 1, bar)
    return FuzzResult(decoders, doors, memory)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `bench fuzz`."""
    add_output_arguments(parser)
    parser.add_argument("--inputs", type=int, metavar="N", help=f"inputs at the decoders; default {INPUTS}")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="draws the inputs; default 1")


def main(args: argparse.Namespace) -> int:
    """Run it; 0 if nothing was found, 1 otherwise.

    Raises:
        ValueError: --inputs is not at least 1.
    """
    inputs = args.inputs if args.inputs is not None else QUICK_INPUTS if args.quick else INPUTS
    if inputs < 1:
        raise ValueError(f"--inputs {inputs}: must be 1 or more")
    result = fuzz(inputs, args.seed)
    for text in result.failures:
        print(text)
    rows = [
        [each.target, each.inputs, each.inputs / max(each.seconds, 1e-9), each.taken, each.refused, each.failed]
        for each in (*result.decoders, *result.served)
    ]
    print_table("malformed input", ("target", "inputs", "a second", "answered", "refused", "found"), rows)
    mib = 1024 * 1024
    memory = [["engine and shim", result.memory.before / mib, result.memory.after / mib, result.memory.growth / mib]]
    print_table("memory of the served engine", ("", "MiB before", "MiB after", "growth"), memory)
    write_json(args.json, figures_of(result))
    return 0 if result.is_clean else EXIT_FOUND


def figures_of(result: FuzzResult) -> dict[str, Scalar]:
    """The run as one flat object."""
    return {
        "decoder_inputs": sum(each.inputs for each in result.decoders),
        "decoder_inputs_per_s": sum(each.inputs for each in result.decoders)
        / max(sum(each.seconds for each in result.decoders), 1e-9),
        "served_inputs": sum(each.inputs for each in result.served),
        "found": sum(each.failed for each in (*result.decoders, *result.served)),
        "memory_before_bytes": result.memory.before,
        "memory_growth_bytes": result.memory.growth,
    }
