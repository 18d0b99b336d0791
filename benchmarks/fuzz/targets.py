"""What a target is, and how inputs are fed to it: nothing but its refusals may come out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import grpc

from auction.status import refusal_of
from benchmarks.fuzz.findings import Findings
from benchmarks.fuzz.mutation import Mutator
from benchmarks.output import ProgressBar

_BATCH = 256
Note = Callable[[str, bytes], None]


@dataclass(frozen=True)
class Target:
    """Something that decodes.

    Attributes:
        draw: makes the next input.
        take: decodes it; raises one of `refusals` for what is malformed.
        share: of this many inputs of the others it gets one, since it takes that much longer.
    """

    name: str
    draw: Callable[[], bytes]
    take: Callable[[bytes], object]
    refusals: tuple[type[Exception], ...] = (ValueError,)
    share: int = 1


def seeded(
    mutator: Mutator,
    name: str,
    seeds: Sequence[bytes],
    take: Callable[[bytes], object],
    refusals: tuple[type[Exception], ...] = (ValueError,),
    share: int = 1,
) -> Target:
    """A target whose inputs are changed seeds."""
    return Target(name, lambda: mutator.input_from(seeds), take, refusals, share)


def as_client_sees(handle: Callable[[bytes], object]) -> Callable[[bytes], object]:
    """The same, with errors as a client of the engine would see them: unforeseen ones go through as they are."""

    def take(raw: bytes) -> object:
        try:
            return handle(raw)
        except Exception as error:
            refused = refusal_of(error)
            if refused.code is grpc.StatusCode.UNAVAILABLE:
                raise
            raise refused from None

    return take


def take_one(target: Target, raw: bytes, findings: Findings) -> None:
    """Feed one input."""
    try:
        target.take(raw)
        findings.taken += 1
    except target.refusals:
        findings.refused += 1
    except Exception as error:
        findings.fail(raw, error)


def feed(target: Target, count: int, bar: ProgressBar, note: Note | None = None) -> Findings:
    """Draw and feed `count` inputs.

    Args:
        note: is told each input before it is fed, so that it is known even if the process ends at it.
    """
    findings = Findings(target.name)
    for number in range(count):
        raw = target.draw()
        if note is not None:
            note(target.name, raw)
        take_one(target, raw, findings)
        if number % _BATCH == _BATCH - 1:
            bar.advance(_BATCH, target.name)
    bar.advance(count % _BATCH, target.name)
    findings.end()
    return findings
