"""Targets that are messages: requests, their columns both ways, audiences, tokens, every call of both services."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from pyroaring import BitMap

from auction.bid import wire
from auction.bid.outcomes import parse_report
from auction.bid.request import parse_bid_request
from auction.bid.token import TokenKeys
from auction.campaigns.access import Role, Unauthenticated
from auction.campaigns.wire import targeting_from_message
from auction.services import Services
from benchmarks.fuzz.mutation import Mutator
from benchmarks.fuzz.seeds import CREATOR, START_AT_MS, bid_seeds, call_seeds, report_seeds
from benchmarks.fuzz.targets import Target, as_client_sees, seeded
from fanbridge.columns import CHANGE_COLUMNS, EVENT_COLUMNS, RETENTION_COLUMNS, from_columns
from fanbridge.event_feed import EventFeed
from fanbridge.events import FAN_CHANGE, FAN_EVENT, RETENTION, Page
from fanbridge.feed import latest_changes
from fanbridge.service.fans import FanRules
from fanbridge.service.health.reader import HealthReader
from fanbridge.service.health.report import HealthReports
from fanbridge.service.service import FanServicer, add_to_server
from fanbridge.service.store import FanStore
from fanbridge.service.validation import InvalidRequest
from pacing.clocks import MS_PER_DAY, VirtualClock
from protos import audience_pb2, bidding_pb2, campaigns_pb2, fans_pb2
from protos.rpc.refusals import Refused
from targeting.expression_json import from_json, to_json
from targeting.expressions import compile_clauses
from targeting.segments.portable import bitmap_from_bytes
from targeting.validation import validate

_COLUMNED = (
    ("BidRequest", (("viewers", "Viewers"), ("predictions", "Predictions"))),
    ("ReportRequest", ()),
    ("BidResponse", ()),
)
_EXPRESSIONS: tuple[dict[str, Any], ...] = (
    {
        "all": [
            {"attribute": {"dimension": "age_band", "codes": [2, 3]}},
            {"any": [{"interests": [3]}, {"segment": "vip"}]},
        ]
    },
    {"none": {"fans_of": [7, 9]}},
    {"any": [{"friends_of_fans": True}, {"none": {"attribute": {"dimension": "region", "codes": [1]}}}]},
)


class Disagreement(AssertionError):
    """Two ways of reading the same bytes do not say the same."""


def message_targets(services: Services, folder: Path, mutator: Mutator) -> Iterator[Target]:
    """All of them."""
    yield from _column_targets(mutator)
    yield from _audience_targets(mutator)
    good = services.access.create_token(Role.OPERATOR, 0, START_AT_MS).encode()
    yield Target(
        "bearer token", lambda: mutator.changed(good),
        lambda raw: services.access.principal_of(raw.decode("latin-1")), (Unauthenticated,),
    )  # fmt: skip
    yield from _call_targets(services, mutator)
    yield from _fan_targets(folder, mutator)
    yield from _page_targets(folder, services, mutator)


def _column_targets(mutator: Mutator) -> Iterator[Target]:
    keys = TokenKeys.generate()
    bids, reports = bid_seeds(), report_seeds(keys)
    yield seeded(mutator, "bid request", bids, lambda raw: parse_bid_request(raw, "CNY"))
    yield seeded(mutator, "report", reports, lambda raw: parse_report(raw, keys, START_AT_MS))
    seeds = {"BidRequest": bids, "ReportRequest": reports, "BidResponse": [_answer_seed()]}
    for name, parts in _COLUMNED:
        take = _both_ways(name, parts)
        yield Target(f"columns of {name}", _unusual(mutator, name, seeds[name]), take)


def _answer_seed() -> bytes:
    return bidding_pb2.BidResponse(id="r", viewer_idx=[0, 1], campaign_ids=[1, 2], nbr=[0, 3]).SerializeToString()


def _unusual(mutator: Mutator, name: str, seeds: list[bytes]) -> Callable[[], bytes]:
    """Messages as clients rarely pack them: columns in several pieces, or unpacked; some of them changed."""
    descriptor = bidding_pb2.DESCRIPTOR.message_types_by_name[name]

    def draw() -> bytes:
        choice = mutator.choose(("pieces", "unpacked", "changed", "drawn"))
        if choice == "pieces":
            first, second = mutator.choose(seeds), mutator.choose(seeds)
            return bytes(first + second)
        if choice == "unpacked":
            return mutator.unpacked(mutator.message(descriptor))
        return mutator.input_from(seeds) if choice == "changed" else mutator.message_bytes(descriptor)

    return draw


def _both_ways(name: str, parts: tuple[tuple[str, str], ...]) -> Callable[[bytes], None]:
    """Decode by the twin where that is possible, and by the public classes; both must say the same."""
    public = getattr(bidding_pb2, name)

    def take(raw: bytes) -> None:
        try:
            expected = public.FromString(raw)
        except DecodeError:
            expected = None
        decoded, inner = wire.decode(name, raw, parts)
        if expected is None:
            raise Disagreement(f"{name}: read, although it is no message")
        for field, columns in ((None, decoded), *inner.items()):
            message = expected if field is None else getattr(expected, field)
            for column, values in columns.columns.items():
                wanted = np.array(getattr(message, column), values.dtype)
                if wanted.tobytes() != values.tobytes():
                    raise Disagreement(f"{name}.{column}: {values} is not {wanted}")
            for plain in message.DESCRIPTOR.fields:
                if plain.message_type is None and plain.name not in columns.columns:
                    told, wanted = getattr(columns.plain, plain.name), getattr(message, plain.name)
                    if str(told) != str(wanted):
                        raise Disagreement(f"{name}.{plain.name}: {told!r} is not {wanted!r}")

    return take


def _audience_targets(mutator: Mutator) -> Iterator[Target]:
    bitmaps = [BitMap(range(100)).serialize(), BitMap(range(0, 200_000, 3)).serialize(), BitMap([1, 2**31]).serialize()]
    yield seeded(mutator, "segment", bitmaps, bitmap_from_bytes)
    yield Target("expression", lambda: mutator.json_like(_EXPRESSIONS), _expression)
    yield Target(
        "audience",
        lambda: mutator.message_bytes(campaigns_pb2.Targeting.DESCRIPTOR),
        _targeting,
        (ValueError, DecodeError),
    )


def _expression(raw: bytes) -> None:
    expression = validate(from_json(json.loads(raw)))
    compile_clauses(expression, CREATOR, False)
    if from_json(json.loads(json.dumps(to_json(expression)))) != expression:
        raise Disagreement(f"{expression}: not the same after it was stored")


def _targeting(raw: bytes) -> None:
    compile_clauses(validate(targeting_from_message(campaigns_pb2.Targeting.FromString(raw))), CREATOR, True)


def _call_targets(services: Services, mutator: Mutator) -> Iterator[Target]:
    """Every call of an engine in this process, whole: decoded, checked, carried out, answered."""
    now_ms = services.clock.wall_ms()
    tokens = {
        "Bidding": services.access.create_token(Role.FEED, 0, now_ms),
        "Campaigns": services.access.create_token(Role.CREATOR, CREATOR, now_ms),
        "Audience": services.access.create_token(Role.OPERATOR, 0, now_ms),
    }
    seeds = call_seeds(services.keys.current)

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
                take = as_client_sees(lambda raw, name=name, token=token: services.handle(name, raw, token))  # type: ignore[misc]
                yield Target(
                    name,
                    lambda name=name, d=method.input_type: draw(name, d),  # type: ignore[misc]
                    take,
                    (Refused,),
                    share=4 if name == "Audience/EstimateReach" else 1,
                )


class _Collected:
    """Stands in for a server: keeps the calls that a service adds."""

    def __init__(self) -> None:
        self.calls: dict[str, Callable[..., bytes]] = {}

    def add_unary(self, service: str, calls: Mapping[str, Callable[..., bytes]]) -> None:
        self.calls.update(calls)


def _fan_targets(folder: Path, mutator: Mutator) -> Iterator[Target]:
    store = FanStore(folder / "fans.sqlite", FanRules.with_day())
    collected = _Collected()
    clock = VirtualClock(START_AT_MS)
    reports = HealthReports(HealthReader(folder / "fans.sqlite"), MS_PER_DAY, clock.wall_ms)
    add_to_server(FanServicer(store, clock, reports), collected)  # type: ignore[arg-type]
    for method in fans_pb2.DESCRIPTOR.services_by_name["FanService"].methods:
        call = collected.calls[method.name]
        yield Target(
            f"FanService/{method.name}",
            lambda d=method.input_type: mutator.message_bytes(d),  # type: ignore[misc]
            lambda raw, call=call: call(lambda: raw, None),  # type: ignore[misc]
            (Refused, InvalidRequest),
            share=20 if method.name.startswith("Push") else 2,
        )


class _Service:
    """A fan service that answers one page."""

    def __init__(self) -> None:
        self.page: Page | None = None

    def pull_events(self, cursor: str, limit: int) -> Page:
        assert self.page is not None
        return self.page


class _Cursors:
    """Keeps no cursor."""

    def cursor(self, name: str) -> str:
        return ""

    def save_cursor(self, name: str, cursor: str) -> None:
        pass


def _page_targets(folder: Path, services: Services, mutator: Mutator) -> Iterator[Target]:
    """What an outside fan service answers: pages of events, tiers and retention."""
    service = _Service()
    feed = EventFeed(service, _Cursors(), services.ledger.append, services.follows)  # type: ignore[arg-type]

    def events(raw: bytes) -> None:
        service.page = Page(from_columns(fans_pb2.PullEventsResponse.FromString(raw), FAN_EVENT, EVENT_COLUMNS), "c")
        feed.tick(START_AT_MS, max_pages=1)

    def changes(raw: bytes) -> None:
        latest_changes(from_columns(fans_pb2.PullTiersResponse.FromString(raw), FAN_CHANGE, CHANGE_COLUMNS))

    def retention(raw: bytes) -> None:
        from_columns(fans_pb2.PullRetentionResponse.FromString(raw), RETENTION, RETENTION_COLUMNS)

    pages = (("PullEvents", events, 4), ("PullTiers", changes, 1), ("PullRetention", retention, 1))
    for name, take, share in pages:
        descriptor = getattr(fans_pb2, f"{name}Response").DESCRIPTOR
        yield Target(
            f"answer of {name}",
            lambda d=descriptor: mutator.message_bytes(d),  # type: ignore[misc]
            take,
            (ValueError, DecodeError),
            share,
        )
