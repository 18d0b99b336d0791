"""The REST routes: each one call of `fanbid.v1.Campaigns`, with the caller's own bearer token."""

from __future__ import annotations

from typing import Annotated, Any

import grpc
from fastapi import APIRouter, Body, Depends, Header, Path, Query, Request, Response
from fastapi.security import HTTPBearer
from grpc_health.v1 import health_pb2
from starlette.responses import JSONResponse, StreamingResponse

from auction.rest.convert import campaign_json, charges_json, create_request, report_json, update_request
from auction.rest.errors import RESPONSES, error_json
from auction.rest.live import live_response
from auction.rest.shapes import (
    CampaignChange,
    CampaignPage,
    CampaignShape,
    ChangedCampaign,
    ChargePage,
    ChargesQuery,
    HealthShape,
    Id,
    LiveQuery,
    NewCampaign,
    NoFields,
    PageQuery,
    ReportQuery,
    ReportShape,
)
from auction.rest.statement import CSV_PAGE, statement_response
from protos import campaigns_pb2 as pb
from protos.rpc.health_service import NO_GRANTS_METADATA, NO_GRANTS_UNTIL_METADATA
from protos.rpc.tls import ClientTls

CALL_TIMEOUT_S = 5.0
HEALTH_TIMEOUT_S = 1.0
_PACKAGE = "/fanbid.v1"
_SERVICE = f"{_PACKAGE}.Campaigns"

CampaignId = Annotated[Id, Path()]
NoBody = Annotated[NoFields | None, Body()]
IdempotencyKey = Annotated[
    str, Header(alias="Idempotency-Key", max_length=64, description="the same key answers with the first campaign")
]
BEARER = Depends(HTTPBearer(auto_error=False, description="made by `fanbid token create`"))
router = APIRouter(prefix="/api", dependencies=[BEARER], responses=RESPONSES)
public_router = APIRouter()


class Engine:
    """The shim's connection to the engine. Used from the event loop only."""

    def __init__(self, address: str, tls: ClientTls | None = None) -> None:
        options = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 1_000)]
        if tls is None:
            self._channel = grpc.aio.insecure_channel(address, options=options)
        else:
            self._channel = grpc.aio.secure_channel(address, tls.credentials(), options=options)

    async def close(self) -> None:
        """Hang up."""
        await self._channel.close()

    async def call(
        self,
        request: Request,
        name: str,
        message: Any,
        response_class: Any,
        service: str = "Campaigns",
        timeout_s: float = CALL_TIMEOUT_S,
    ) -> Any:
        """One unary call on behalf of `request`.

        Raises:
            grpc.aio.AioRpcError: as the engine answered.
        """
        method = self._channel.unary_unary(
            f"{_PACKAGE}.{service}/{name}", type(message).SerializeToString, response_class.FromString
        )
        return await method(message, timeout=timeout_s, metadata=_token_of(request))

    def watch(self, request: Request, message: pb.WatchReportRequest) -> Any:
        """An open stream of reports on behalf of `request`."""
        method = self._channel.unary_stream(
            f"{_SERVICE}/WatchReport", pb.WatchReportRequest.SerializeToString, pb.CampaignReport.FromString
        )
        return method(message, metadata=_token_of(request))

    async def standing(self) -> dict[str, Any] | None:
        """What the engine says of itself, within HEALTH_TIMEOUT_S; None: it does not serve."""
        method = self._channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            health_pb2.HealthCheckRequest.SerializeToString,
            health_pb2.HealthCheckResponse.FromString,
        )
        call = method(health_pb2.HealthCheckRequest(), timeout=HEALTH_TIMEOUT_S)
        try:
            answer, notes = await call, {key: str(note) for key, note in await call.trailing_metadata() or ()}
        except grpc.aio.AioRpcError:
            return None
        if answer.status != health_pb2.HealthCheckResponse.SERVING:
            return None
        standing: dict[str, Any] = {"status": "serving"}
        if NO_GRANTS_METADATA in notes:
            until_ms = int(notes.get(NO_GRANTS_UNTIL_METADATA, "0"))
            standing["no_grants"] = {"reason": notes[NO_GRANTS_METADATA], "until_ms": until_ms}
        return standing


def _token_of(request: Request) -> tuple[tuple[str, str], ...]:
    value = request.headers.get("authorization", "")
    return (("authorization", value),) if value.isascii() and value.isprintable() and value else ()


def _engine_of(request: Request) -> Engine:
    engine: Engine = request.app.state.engine
    return engine


EngineOf = Annotated[Engine, Depends(_engine_of)]


@public_router.get("/healthz", response_model=HealthShape, responses={503: RESPONSES[503]}, tags=["operation"])
async def healthz(engine: EngineOf) -> Response:
    """Whether the engine behind this shim serves. `no_grants`, if there, says why a shared Redis gives it no new money
    now, and until when (0: not known); it bids with what it has."""
    standing = await engine.standing()
    if standing is not None:
        return JSONResponse(standing)
    return JSONResponse(error_json("unavailable", "the engine does not serve now"), 503)


@router.get("/campaigns", response_model=CampaignPage, response_model_exclude_unset=True, tags=["campaigns"])
async def list_campaigns(request: Request, engine: EngineOf, query: Annotated[PageQuery, Query()]) -> Any:
    """Campaigns by ascending id, one page at a time."""
    message = pb.ListCampaignsRequest(
        page_size=query.page_size, page_token=query.page_token, creator_id=int(query.creator_id or 0)
    )
    answer = await engine.call(request, "ListCampaigns", message, pb.ListCampaignsResponse)
    return {
        "campaigns": [campaign_json(campaign) for campaign in answer.campaigns],
        "next_page_token": answer.next_page_token,
        "creator_id": str(answer.creator_id) if answer.creator_id else None,
    }


@router.post(
    "/campaigns",
    response_model=CampaignShape,
    status_code=201,
    response_model_exclude_unset=True,
    tags=["campaigns"],
)
async def create_campaign(
    request: Request,
    engine: EngineOf,
    response: Response,
    body: Annotated[NewCampaign, Body()],
    idempotency_key: IdempotencyKey = "",
) -> Any:
    """Start a campaign."""
    campaign = await engine.call(request, "CreateCampaign", create_request(body, idempotency_key), pb.Campaign)
    response.headers["Location"] = f"/api/campaigns/{campaign.campaign_id}"
    return campaign_json(campaign)


@router.get(
    "/campaigns/{campaign_id}", response_model=CampaignShape, response_model_exclude_unset=True, tags=["campaigns"]
)
async def get_campaign(request: Request, engine: EngineOf, campaign_id: CampaignId) -> Any:
    """One campaign."""
    message = pb.GetCampaignRequest(campaign_id=int(campaign_id))
    return campaign_json(await engine.call(request, "GetCampaign", message, pb.Campaign))


@router.patch(
    "/campaigns/{campaign_id}", response_model=ChangedCampaign, response_model_exclude_unset=True, tags=["campaigns"]
)
async def change_campaign(
    request: Request, engine: EngineOf, campaign_id: CampaignId, body: Annotated[CampaignChange, Body()]
) -> Any:
    """Change some fields; the answer says which budgets are in force now."""
    message = update_request(campaign_id, body)
    answer = await engine.call(request, "UpdateCampaign", message, pb.UpdateCampaignResponse)
    return {
        "campaign": campaign_json(answer.campaign),
        "effective_daily_budget_micros": answer.effective_daily_budget_micros,
        "effective_total_budget_micros": answer.effective_total_budget_micros,
    }


async def _change_status(request: Request, engine: Engine, call: str, campaign_id: str) -> Any:
    message = pb.ChangeStatusRequest(campaign_id=int(campaign_id))
    return campaign_json(await engine.call(request, call, message, pb.Campaign))


@router.post(
    "/campaigns/{campaign_id}/pause",
    response_model=CampaignShape,
    response_model_exclude_unset=True,
    tags=["campaigns"],
)
async def pause_campaign(request: Request, engine: EngineOf, campaign_id: CampaignId, body: NoBody = None) -> Any:
    """Stop bidding until resumed."""
    return await _change_status(request, engine, "PauseCampaign", campaign_id)


@router.post(
    "/campaigns/{campaign_id}/resume",
    response_model=CampaignShape,
    response_model_exclude_unset=True,
    tags=["campaigns"],
)
async def resume_campaign(request: Request, engine: EngineOf, campaign_id: CampaignId, body: NoBody = None) -> Any:
    """Go on bidding."""
    return await _change_status(request, engine, "ResumeCampaign", campaign_id)


@router.post(
    "/campaigns/{campaign_id}/end", response_model=CampaignShape, response_model_exclude_unset=True, tags=["campaigns"]
)
async def end_campaign(request: Request, engine: EngineOf, campaign_id: CampaignId, body: NoBody = None) -> Any:
    """Stop for good."""
    return await _change_status(request, engine, "EndCampaign", campaign_id)


@router.get("/campaigns/{campaign_id}/report", response_model=ReportShape, tags=["reports"])
async def get_report(
    request: Request, engine: EngineOf, campaign_id: CampaignId, query: Annotated[ReportQuery, Query()]
) -> Any:
    """What a campaign got for its money: in total, today and hour by hour."""
    message = pb.GetReportRequest(campaign_id=int(campaign_id), hours=query.hours)
    return report_json(await engine.call(request, "GetReport", message, pb.CampaignReport))


@router.get("/campaigns/{campaign_id}/charges", response_model=ChargePage, tags=["reports"])
async def list_charges(
    request: Request, engine: EngineOf, campaign_id: CampaignId, query: Annotated[ChargesQuery, Query()]
) -> Any:
    """Every impression that was judged, with its price and the why of its bid, one page at a time.

    In the order in which the server that is asked came to know them, so pages do not move when more come. With --redis
    that is about, and not exactly, by time, and each server has an order of its own.
    """
    message = pb.ListChargesRequest(
        campaign_id=int(campaign_id),
        after=int(query.after),
        limit=query.limit,
        ledger_sequence=int(query.ledger_sequence),
    )
    return charges_json(await engine.call(request, "ListCharges", message, pb.ListChargesResponse))


@router.get(
    "/campaigns/{campaign_id}/charges.csv",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/csv": {}}, "description": "A line for each charge, with exact amounts."}},
    tags=["reports"],
)
async def download_charges(request: Request, engine: EngineOf, campaign_id: CampaignId) -> Response:
    """All charges as one file, every line of it true at one row of the ledger."""

    async def page_of(after: int, ledger_sequence: int) -> pb.ListChargesResponse:
        message = pb.ListChargesRequest(
            campaign_id=int(campaign_id), after=after, limit=CSV_PAGE, ledger_sequence=ledger_sequence
        )
        answer: pb.ListChargesResponse = await engine.call(request, "ListCharges", message, pb.ListChargesResponse)
        return answer

    return await statement_response(campaign_id, page_of)


@router.get(
    "/live",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}, "description": "Events named 'report', each a report."}},
    tags=["reports"],
)
async def live(request: Request, engine: EngineOf, query: Annotated[LiveQuery, Query()]) -> Response:
    """Reports of several campaigns as server-sent events: all at once, then each one that changed."""
    message = pb.WatchReportRequest(
        campaign_ids=[int(i) for i in query.campaign_id], interval_ms=query.interval_ms, hours=query.hours
    )
    return await live_response(engine.watch(request, message))
