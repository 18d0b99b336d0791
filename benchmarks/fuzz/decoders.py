"""Malformed bytes straight at everything that decodes: no sockets, so many a second.

Inputs come in sets. Each set has a seed and an engine of its own, so it can be drawn again alone, and sets may be
fed by several processes. Since an engine goes away with its set, what memory grows by from set to set is a leak.
"""

from __future__ import annotations

import logging
import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from auction.campaigns.access import Role
from auction.config import ServeConfig
from auction.services import build_services
from benchmarks.fuzz.files import file_targets
from benchmarks.fuzz.findings import Findings
from benchmarks.fuzz.messages import message_targets
from benchmarks.fuzz.mutation import Mutator
from benchmarks.fuzz.seeds import START_AT_MS, campaign
from benchmarks.fuzz.shapes import shape_targets
from benchmarks.fuzz.targets import Note, Target, feed, take_one
from benchmarks.output import ProgressBar
from protos import campaigns_pb2


@contextmanager
def all_targets(mutator: Mutator) -> Iterator[list[Target]]:
    """Every decoder, with an engine and a fan store that are closed in the end; nothing is logged meanwhile."""
    config = ServeConfig(data=None, virtual_clock=START_AT_MS, policy="fixed", calls_per_s=0)
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with tempfile.TemporaryDirectory(prefix="fanbid-fuzz-") as name:
            services = build_services(config)
            try:
                operator = services.access.create_token(Role.OPERATOR, 0, START_AT_MS)
                created = campaigns_pb2.CreateCampaignRequest(campaign=campaign()).SerializeToString()
                services.handle("Campaigns/CreateCampaign", created, operator)
                services.steer()
                folder = Path(name)
                yield [
                    *message_targets(services, folder, mutator),
                    *shape_targets(services, mutator),
                    *file_targets(folder, mutator),
                ]
            finally:
                services.close()
    finally:
        logging.disable(before)


def fuzz_set(inputs: int, seed: int, bar: ProgressBar, note: Note | None = None) -> list[Findings]:
    """Feed one set of at least `inputs` inputs to the decoders, in turn; what became of them, by target."""
    mutator = Mutator(seed)
    with all_targets(mutator) as targets:
        each = inputs / sum(1 / target.share for target in targets)
        return [feed(target, math.ceil(each / target.share), bar, note) for target in targets]


def feed_one(name: str, raw: bytes) -> Findings:
    """Feed one input to the target of this name, on an engine of its own.

    Raises:
        ValueError: there is no such target.
    """
    with all_targets(Mutator(0)) as targets:
        found = {target.name: target for target in targets}
        if name not in found:
            raise ValueError(f"target {name!r}: must be one of {', '.join(found)}")
        findings = Findings(name)
        take_one(found[name], raw, findings)
        findings.end()
    return findings
