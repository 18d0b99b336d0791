"""A creator's health report over HTTP, as JSON and as a file."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Annotated, Any

import grpc
from fastapi import APIRouter, Path, Query, Request, Response
from google.protobuf.json_format import MessageToDict
from starlette.responses import JSONResponse

from auction.rest.errors import RESPONSES, error_json
from auction.rest.health_shapes import OWN, CreatorHealthShape, CreatorId, HealthQuery
from auction.rest.routes import BEARER, Engine, EngineOf
from pacing.facts import OutcomeKind
from protos import fans_pb2 as pb
from protos.rpc.refusals import FIELD_METADATA

HEADER = ("section", "name", "figure", "value", "before")
_NO_ID = "0"

Creator = Annotated[CreatorId, Path()]
health_router = APIRouter(prefix="/api", dependencies=[BEARER], responses=RESPONSES, tags=["fans"])


class NotOverYet(Exception):
    """The period ends after yesterday."""


@health_router.get("/creators/{creator_id}/health", response_model=CreatorHealthShape)
async def get_health(
    request: Request, engine: EngineOf, creator_id: Creator, query: Annotated[HealthQuery, Query()]
) -> Any:
    """A creator's week or month with their fans, beside the period before: growth, engagement, mix, who left, peers.

    A creator's token opens this creator's own report; an operator's opens any. Needs a fan service (`--fan-service`)
    that gives such reports.
    """
    try:
        return await _report(request, engine, creator_id, query)
    except NotOverYet:
        return _not_over(query)


@health_router.get(
    "/creators/{creator_id}/health.csv",
    response_class=Response,
    responses={200: {"content": {"text/csv": {}}, "description": "A line for each figure, beside the period before."}},
)
async def download_health(
    request: Request, engine: EngineOf, creator_id: Creator, query: Annotated[HealthQuery, Query()]
) -> Response:
    """The same as a file."""
    try:
        report = await _report(request, engine, creator_id, query)
    except NotOverYet:
        return _not_over(query)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(HEADER)
    writer.writerows(lines_of(report))
    headers = {
        "Content-Disposition": f'attachment; filename="creator-{report["creator_id"]}-{query.period}.csv"',
        "Cache-Control": "no-store",
    }
    return Response(text.getvalue(), media_type="text/csv; charset=utf-8", headers=headers)


async def _report(request: Request, engine: Engine, creator_id: str, query: HealthQuery) -> dict[str, Any]:
    message = pb.HealthRequest(
        creator_id=0 if creator_id == OWN else int(creator_id), days=query.days, end_day=query.end_day
    )
    try:
        return health_json(await engine.call(request, "GetHealth", message, pb.CreatorHealth))
    except grpc.aio.AioRpcError as error:
        if (FIELD_METADATA, "end_day") in tuple(error.trailing_metadata() or ()):
            raise NotOverYet from None
        raise


def _not_over(query: HealthQuery) -> Response:
    message = f'end: "{query.end}"; must be a day that is over'
    return JSONResponse(error_json("invalid_argument", message, "end"), 422)


def health_json(health: pb.CreatorHealth) -> dict[str, Any]:
    """A report as `CreatorHealthShape`."""
    fields: dict[str, Any] = MessageToDict(
        health, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    for name in ("period", "before"):
        figures = fields.setdefault(name, {})
        figures |= _period_json(getattr(health, name), figures)
    for found in fields["associations"]:
        found["campaign_id"] = _id_or_none(found["campaign_id"])
        found["ratio"] = found["ratio"] or None
    fields.setdefault("peers", None)
    return fields


def _period_json(figures: pb.PeriodFigures, fields: dict[str, Any]) -> dict[str, Any]:
    return {
        "net": figures.gained - figures.lost,
        "sources": [one | {"campaign_id": _id_or_none(one["campaign_id"])} for one in fields["sources"]],
        "kinds": [one | {"kind": OutcomeKind(one["kind"]).name.lower()} for one in fields["kinds"]],
        "tiers": [_named(one, "tier", pb.Tier, "TIER_") for one in fields["tiers"]],
        "stages": [_named(one, "stage", pb.Stage, "STAGE_") for one in fields["stages"]],
    }


def _named(one: dict[str, Any], name: str, enum: Any, prefix: str) -> dict[str, Any]:
    return {name: enum.Name(one["code"]).removeprefix(prefix).lower(), "fans": one["fans"], "share": one["share"]}


def _id_or_none(campaign_id: str) -> str | None:
    return None if campaign_id == _NO_ID else campaign_id


def lines_of(report: dict[str, Any]) -> Iterator[tuple[object, ...]]:
    """The report as lines: section, name, figure, value, and the value of the period before where there is one."""
    period, before = report["period"], report["before"]
    for figure in ("fans_at_begin", "fans_at_end", "gained", "lost", "net"):
        yield "growth", "", figure, period[figure], before[figure]
    yield from _beside("growth", period["sources"], before["sources"], "campaign_id", ("gained", "lost"))
    for figure in ("fan_days", "active_fan_days", "active_share"):
        yield "engagement", "", figure, period[figure], before[figure]
    yield from _beside("engagement", period["kinds"], before["kinds"], "kind", ("events", "per_100_fan_days"))
    yield from _beside("mix", period["tiers"], before["tiers"], "tier", ("fans", "share"))
    yield from _beside("mix", period["stages"], before["stages"], "stage", ("fans", "share"))
    for found in report["associations"]:
        for figure in ("left", "fans", "others_left", "others", "ratio", "ratio_low", "ratio_high"):
            yield "association", found["campaign_id"] or "new fans", figure, found[figure], ""
    for one in (report["peers"] or {"figures": []})["figures"]:
        yield "peers", one["name"], "value", one["value"], ""
        yield "peers", one["name"], "percentile", one["percentile"], ""
    for kept in report["kept"]:
        yield "kept", f"{kept['days']} days", "judged", kept["judged"], ""
        yield "kept", f"{kept['days']} days", "kept", kept["kept"], ""


def _beside(
    section: str, now: list[dict[str, Any]], before: list[dict[str, Any]], key: str, figures: tuple[str, ...]
) -> Iterator[tuple[object, ...]]:
    earlier = {one[key]: one for one in before}
    for one in now:
        for figure in figures:
            yield section, one[key] or "no campaign", figure, one[figure], earlier.get(one[key], {}).get(figure, 0)
