"""Malformed bytes straight at everything that decodes: no sockets, so many a second."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from pyroaring import BitMap

from auction.audience.journal import Journal
from auction.bid.outcomes import parse_report
from auction.bid.request import parse_bid_request
from auction.bid.token import TokenKeys, sign_batch
from auction.campaigns.access import Role, Unauthenticated
from auction.config import ServeConfig
from auction.services import Services, build_services
from auction.status import refusal_of
from benchmarks.fuzz.findings import Findings
from benchmarks.fuzz.mutation import Mutator
from benchmarks.output import ProgressBar
from fanbridge.service.fans import FanRules
from fanbridge.service.service import FanServicer, add_to_server
from fanbridge.service.store import FanStore
from fanbridge.service.validation import InvalidRequest
from pacing.clocks import VirtualClock
from pacing.facts import DECISION, OUTCOME, OutcomeKind
from pacing.ledger.errors import LedgerDamaged
from pacing.ledger.log import Ledger
from protos import audience_pb2, bidding_pb2, campaigns_pb2, fans_pb2
from protos.rpc.refusals import Refused
from targeting.expressions import compile_clauses, from_json, validate
from targeting.segments.portable import bitmap_from_bytes

FIRST_PRICE, SECOND_PRICE = bidding_pb2.AUCTION_TYPE_FIRST_PRICE, bidding_pb2.AUCTION_TYPE_SECOND_PRICE
START_AT_MS = 1_772_596_800_000
CREATOR = 7
FILE_SHARE = 500
"""Of this many inputs one is a file's, since opening a file takes a thousand times longer than reading a message."""


@dataclass(frozen=True)
class Target:
    """Something that decodes.

    Attributes:
        draw: makes the next input.
        take: decodes it; raises one of `refusals` for what is malformed.
    """

    name: str
    draw: Callable[[], bytes]
    take: Callable[[bytes], object]
    refusals: tuple[type[Exception], ...] = (ValueError,)
    share: int = 1


def campaign(**changes: Any) -> campaigns_pb2.Campaign:
    """A campaign that bids for everybody."""
    fields: dict[str, Any] = {
        "name": "Spring dance", "creator_id": CREATOR, "goal": campaigns_pb2.GOAL_FANS,
        "bid_mode": campaigns_pb2.BID_MODE_AUTOMATIC, "daily_budget_micros": 16_000_000,
        "total_budget_micros": 160_000_000, "zone": "Asia/Shanghai", "frequency_cap_per_day": 100,
        "creatives": [campaigns_pb2.Creative(creative_id=7001, title="Dance", category=3)],
    }  # fmt: skip
    return campaigns_pb2.Campaign(**(fields | changes))


def bid_seeds() -> list[bytes]:
    """Good bid requests: plain, with every column, and with predictions."""
    everything = bidding_pb2.Viewers(
        ids=[1, 2, 3], bidfloors_micros=[5, 6, 7], regions=[1, 2, 3], age_bands=[1, 2, 3], genders=[0, 1, 2],
        os=[1, 1, 1], networks=[1, 1, 1], device_tiers=[0, 1, 2], interest_masks=[1, 2**63, 3],
    )  # fmt: skip
    predictions = bidding_pb2.Predictions(viewer_idx=[0, 2], campaign_ids=[1, 1], probabilities=[0.5, 0.25])
    requests = [
        bidding_pb2.BidRequest(id="r", at=SECOND_PRICE, viewers=bidding_pb2.Viewers(ids=[1, 2])),
        bidding_pb2.BidRequest(
            id="r",
            at=FIRST_PRICE,
            bidfloor_micros=100,
            viewers=everything,
            max_bids_per_viewer=3,
        ),
        bidding_pb2.BidRequest(
            id="r",
            at=SECOND_PRICE,
            viewers=everything,
            predictions=predictions,
            blocked_creator_ids=[9],
        ),
    ]
    return [request.SerializeToString() for request in requests]


def report_seeds(keys: TokenKeys) -> list[bytes]:
    """Good reports of two rows, by tokens of these keys and without any."""
    decisions = np.zeros(2, DECISION)
    decisions["campaign_id"], decisions["bid_micros"], decisions["lease_id"] = 1, 20_000, 1
    decisions["hold_seq"] = [1, 2]
    sign_batch(decisions, keys)
    reports = [
        bidding_pb2.ReportRequest(kinds=[1, 2], tokens=decisions.tobytes(), prices_micros=[5, 5]),
        bidding_pb2.ReportRequest(
            kinds=[5, 6], viewer_ids=[1, 2], creator_ids=[7, 7], occurred_at_ms=[START_AT_MS] * 2
        ),
        bidding_pb2.ReportRequest(closed_hold_first_seqs=[1], closed_hold_counts=[1]),
    ]
    return [report.SerializeToString() for report in reports]


def _message_target(mutator: Mutator, name: str, request: Any, take: Callable[[bytes], object]) -> Target:
    return Target(name, lambda: mutator.message_bytes(request.DESCRIPTOR), take, (Refused,))


class _Collected:
    """Stands in for a server: keeps the calls that a service adds."""

    def __init__(self) -> None:
        self.calls: dict[str, Callable[..., bytes]] = {}

    def add_unary(self, service: str, calls: Mapping[str, Callable[..., bytes]]) -> None:
        self.calls.update(calls)


def _through(handle: Callable[[bytes], object]) -> Callable[[bytes], object]:
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


def _call_targets(services: Services, mutator: Mutator) -> Iterator[Target]:
    """Every call of an engine in this process, whole: decoded, checked, carried out, answered."""
    now_ms = services.clock.wall_ms()
    tokens = {
        "Bidding": services.access.create_token(Role.FEED, 0, now_ms),
        "Campaigns": services.access.create_token(Role.CREATOR, CREATOR, now_ms),
        "Audience": services.access.create_token(Role.OPERATOR, 0, now_ms),
    }
    seeds = _call_seeds(services)

    def draw(name: str, descriptor: Any) -> bytes:
        if name in seeds and mutator.choose((True, False)):
            return mutator.input_from(seeds[name])
        return mutator.message_bytes(descriptor)

    for module in (bidding_pb2, campaigns_pb2, audience_pb2):
        for service in module.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                if service.name not in tokens or method.client_streaming or method.server_streaming:
                    continue
                name, token = f"{service.name}/{method.name}", tokens[service.name]
                take = _through(lambda raw, name=name, token=token: services.handle(name, raw, token))  # type: ignore[misc]
                yield Target(name, lambda name=name, d=method.input_type: draw(name, d), take, (Refused,))  # type: ignore[misc]


def _call_seeds(services: Services) -> dict[str, list[bytes]]:
    """Good requests by call, for those that random fields rarely make."""
    follows = audience_pb2.PutFollowsRequest(follower_ids=[1, 2], followed_ids=[3, 4])
    segment = audience_pb2.PutSegmentRequest(
        segment_id="vip", change=audience_pb2.SEGMENT_CHANGE_ADD, viewer_ids=[1, 2]
    )
    viewers = audience_pb2.PutViewersRequest(viewers=bidding_pb2.Viewers(ids=[1, 2], regions=[3, 4]))
    changed = campaigns_pb2.UpdateCampaignRequest(
        campaign=campaign(campaign_id=1, name="Autumn"), update_fields=["name", "daily_budget_micros"]
    )
    return {
        "Bidding/Bid": bid_seeds(),
        "Bidding/Report": report_seeds(services.keys.current),
        "Campaigns/CreateCampaign": [campaigns_pb2.CreateCampaignRequest(campaign=campaign()).SerializeToString()],
        "Campaigns/UpdateCampaign": [changed.SerializeToString()],
        "Audience/PutViewers": [viewers.SerializeToString()],
        "Audience/PutSegment": [segment.SerializeToString()],
        "Audience/PutFollows": [follows.SerializeToString()],
    }


def _fan_targets(folder: Path, mutator: Mutator) -> Iterator[Target]:
    store = FanStore(folder / "fans.sqlite", FanRules.with_day())
    collected = _Collected()
    add_to_server(FanServicer(store, VirtualClock(START_AT_MS)), collected)  # type: ignore[arg-type]
    for method in fans_pb2.DESCRIPTOR.services_by_name["FanService"].methods:
        call = collected.calls[method.name]
        yield Target(
            f"FanService/{method.name}",
            lambda d=method.input_type: mutator.message_bytes(d),  # type: ignore[misc]
            lambda raw, call=call: call(lambda: raw, None),  # type: ignore[misc]
            (Refused, InvalidRequest),
            share=20,
        )


def _file_targets(folder: Path, mutator: Mutator) -> Iterator[Target]:
    keys = TokenKeys.generate().rotated(START_AT_MS)
    keys.save(folder / "seed-keys.json")
    journal = Journal(folder / "seed.journal")
    for kind in (1, 2, 3):
        journal.append(kind, b"x" * 40)
    journal.close()
    ledger = Ledger(folder / "seed-ledger.sqlite")
    rows = np.zeros(3, OUTCOME)
    rows["kind"], rows["viewer_id"], rows["creator_id"] = OutcomeKind.FOLLOW, [1, 2, 3], CREATOR
    ledger.append(rows)
    ledger.close()

    def opened(name: str, open_file: Callable[[Path], Any]) -> Callable[[bytes], object]:
        def take(raw: bytes) -> object:
            with tempfile.TemporaryDirectory(dir=folder) as place:
                path = Path(place) / name
                path.write_bytes(raw)
                return open_file(path)

        return take

    def open_ledger(path: Path) -> None:
        for part in folder.glob("seed-ledger*"):
            (path.parent / part.name.replace("seed-", "")).write_bytes(part.read_bytes())
        anchor = next(part for part in path.parent.iterdir() if "anchor" in part.name)
        target = anchor if mutator.choose((True, False)) else path.parent / "ledger.sqlite"
        content = bytearray(target.read_bytes())
        for _ in range(8):
            content[mutator.choose(range(len(content)))] ^= 1 << mutator.choose(range(8))
        target.write_bytes(content)
        ledger = Ledger(path.parent / "ledger.sqlite")
        ledger.read(0, 10)
        ledger.close()

    seeds = {name: [(folder / name).read_bytes()] for name in ("seed-keys.json", "seed.journal")}
    yield Target(
        "key file", lambda: mutator.input_from(seeds["seed-keys.json"]), opened("keys.json", TokenKeys.load),
        share=FILE_SHARE // 10,
    )  # fmt: skip
    yield Target(
        "audience journal", lambda: mutator.input_from(seeds["seed.journal"]),
        opened("audience.journal", lambda path: Journal(path).close()), share=FILE_SHARE // 10,
    )  # fmt: skip
    yield Target("ledger", mutator.random_bytes, opened("draw", open_ledger), (LedgerDamaged,), share=FILE_SHARE)


@contextmanager
def all_targets(mutator: Mutator) -> Iterator[list[Target]]:
    """Every decoder, with an engine and a fan store that are closed in the end."""
    keys = TokenKeys.generate()
    bids, reports = bid_seeds(), report_seeds(keys)
    bitmaps = [BitMap(range(100)).serialize(), BitMap(range(0, 200_000, 3)).serialize(), BitMap([1, 2**31]).serialize()]
    with tempfile.TemporaryDirectory(prefix="fanbid-fuzz-") as name:
        folder = Path(name)
        config = ServeConfig(data=None, virtual_clock=START_AT_MS, policy="fixed", calls_per_s=0)
        services = build_services(config)
        operator = services.access.create_token(Role.OPERATOR, 0, START_AT_MS)
        created = campaigns_pb2.CreateCampaignRequest(campaign=campaign()).SerializeToString()
        services.handle("Campaigns/CreateCampaign", created, operator)
        services.steer()
        good = operator.encode()
        try:
            yield [
                Target("bid request", lambda: mutator.input_from(bids), lambda raw: parse_bid_request(raw, "CNY")),
                Target("report", lambda: mutator.input_from(reports), lambda raw: parse_report(raw, keys, START_AT_MS)),
                Target(
                    "bearer token", lambda: mutator.changed(good),
                    lambda raw: services.access.principal_of(raw.decode("latin-1")), (Unauthenticated,),
                ),
                Target("segment", lambda: mutator.input_from(bitmaps), bitmap_from_bytes),
                Target("expression", lambda: json.dumps(mutator.json_value()).encode(), _expression),
                *_call_targets(services, mutator),
                *_fan_targets(folder, mutator),
                *_file_targets(folder, mutator),
            ]  # fmt: skip
        finally:
            services.close()


def _expression(raw: bytes) -> object:
    return compile_clauses(validate(from_json(json.loads(raw))), CREATOR, False)


def fuzz_decoders(inputs: int, seed: int, bar: ProgressBar) -> list[Findings]:
    """Feed `inputs` inputs to the decoders, in turn; a finding of each."""
    found: list[Findings] = []
    logging.disable(logging.CRITICAL)
    try:
        with all_targets(Mutator(seed)) as targets:
            each = inputs / sum(1 / target.share for target in targets)
            for target in targets:
                found.append(_feed(target, max(1, int(each / target.share)), bar))
    finally:
        logging.disable(logging.NOTSET)
    return found


def _feed(target: Target, count: int, bar: ProgressBar) -> Findings:
    findings = Findings(target.name)
    for number in range(count):
        raw = target.draw()
        try:
            target.take(raw)
            findings.taken += 1
        except target.refusals:
            findings.refused += 1
        except Exception as error:
            findings.fail(raw, error)
        if number % 64 == 63:
            bar.advance(64, target.name)
    bar.advance(count % 64, target.name)
    findings.end()
    return findings
