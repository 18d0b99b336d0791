"""The REST routes about audiences: each one call of `fanbid.v1.Audience`, with the caller's own bearer token."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Depends, Path, Query, Request
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer
from pydantic import BaseModel, ConfigDict, Field

from auction.rest.convert import targeting_message
from auction.rest.errors import RESPONSES
from auction.rest.routes import Engine, EngineOf
from auction.rest.shapes import SEGMENT_PATTERN, Id, Strict, TargetingShape
from protos import audience_pb2 as pb

router = APIRouter(
    prefix="/api/audiences",
    dependencies=[Depends(HTTPBearer(auto_error=False, description="made by `fanbid token create`"))],
    responses=RESPONSES,
    tags=["audiences"],
)

AskingCreator = Annotated[Id | None, Field(description="operators only: for whose campaign")]
LOOKALIKE_TIMEOUT_S = 3_600.0
_CHANGES = {
    "replace": pb.SEGMENT_CHANGE_REPLACE,
    "add": pb.SEGMENT_CHANGE_ADD,
    "remove": pb.SEGMENT_CHANGE_REMOVE,
}
_STATES = {
    pb.LOOKALIKE_STATE_MAKING: "making",
    pb.LOOKALIKE_STATE_MADE: "made",
    pb.LOOKALIKE_STATE_FAILED: "failed",
}
_AUDIENCES = {
    "fans_of": pb.CREATOR_AUDIENCE_FANS,
    "viewers_of": pb.CREATOR_AUDIENCE_VIEWERS,
    "live_visitors_of": pb.CREATOR_AUDIENCE_LIVE_VISITORS,
}


class ReachQuestion(Strict):
    """An audience, as a campaign would have it."""

    targeting: TargetingShape = TargetingShape()
    include_fans: bool = False
    creator_id: AskingCreator = None


class CrowdShape(BaseModel):
    """How many viewers, low <= number < high: by hundreds, later to two digits; of lists of your own, 19 times in 20.
    Nobody is 0 to 100, too."""

    low: int
    high: int


class CreatorsQuestion(Strict):
    """Which audiences of which creators to compare."""

    audience: Literal["fans_of", "viewers_of", "live_visitors_of"]
    creator_ids: Annotated[list[Id], Field(min_length=1, max_length=16, description="none twice")]
    creator_id: AskingCreator = None


class TogetherShape(BaseModel):
    """An audience, and how much of it is reached or won already."""

    viewers: CrowdShape
    reached: Annotated[CrowdShape, Field(description="of them, who saw an ad of the asking creator in 30 days")]
    own_fans: Annotated[CrowdShape, Field(description="of them, who follow the asking creator already")]


class ComparedShape(TogetherShape):
    """The audience of one creator."""

    creator_id: str
    only_here: Annotated[CrowdShape, Field(description="in no other audience of the question")]


class SharedShape(BaseModel):
    """What the audiences of two creators share."""

    creator_ids: Annotated[list[str], Field(min_length=2, max_length=2)]
    viewers: CrowdShape


class ComparisonShape(BaseModel):
    """Audiences of several creators side by side, and all of them as one."""

    creators: list[ComparedShape]
    shared: list[SharedShape]
    together: TogetherShape


class ViewerQuestion(Strict):
    """A viewer and a campaign, or with an operator's token any audience; where the viewer was when the ad came."""

    viewer_id: Id
    campaign_id: Annotated[Id | None, Field(description="whose audience is explained; a creator's: an own one")] = None
    targeting: Annotated[TargetingShape | None, Field(description="operators only, without campaign_id")] = None
    include_fans: Annotated[bool, Field(description="operators only, beside targeting")] = False
    creator_id: AskingCreator = None
    placement: Annotated[int, Field(ge=0, le=15, description="0: unknown")] = 0
    content_category: Annotated[int, Field(ge=0, le=63, description="of what was watched; 0: unknown")] = 0
    content_tags: Annotated[tuple[Annotated[str, Field(max_length=80)], ...], Field(max_length=32, strict=False)] = ()


class WhyShape(BaseModel):
    """The reason, in two languages; empty where the audience does not hold the viewer."""

    matched: bool
    english: str
    chinese: str


SegmentText = Annotated[str, Field(pattern=SEGMENT_PATTERN)]
SegmentId = Annotated[SegmentText, Path()]


class SegmentChange(Strict):
    """What becomes of a segment's members."""

    change: Literal["replace", "add", "remove"] = "replace"
    viewer_ids: Annotated[list[Id], Field(max_length=10_000)]
    expires_at_ms: Annotated[int, Field(ge=0, le=2**53, description="until when they are members; 0: for good")] = 0


class MembersShape(BaseModel):
    """How many members the segment has."""

    segment_id: Annotated[str, Field(description="whole: a creator's list NAME is own:CREATOR_ID:NAME")]
    members: int
    left_out: Annotated[int, Field(description="of a creator's ids: those of nobody who is known")]


class ListedShape(BaseModel):
    """A segment, and whether it was made as a lookalike."""

    segment_id: str
    members: int
    is_lookalike: bool


class SegmentPage(BaseModel):
    """One page of segments; `next_after` is empty on the last."""

    segments: list[ListedShape]
    next_after: str
    creator_id: Annotated[str | None, Field(description="whom the token stands for; null: an operator")]


class SegmentsQuery(BaseModel):
    """Which page of the segments."""

    model_config = ConfigDict(extra="forbid")
    page_size: Annotated[int, Field(ge=1, le=1_000)] = 200
    after: Annotated[str, Field(max_length=64, description="next_after of the page before")] = ""


class NewLookalike(Strict):
    """Which viewers to find."""

    segment_id: Annotated[SegmentText, Field(description="what it becomes; replaced")]
    seed_segment_id: Annotated[SegmentText, Field(description="whose 10 to 2,000,000 members are the seeds")]
    size: Annotated[int, Field(ge=1, le=1_000_000, description="how many are wanted")]
    creator_id: Annotated[Id | None, Field(description="where the seeds are this creator's followers")] = None
    wait: Annotated[bool, Field(description="false: answer at once with 202; ask for the rest by the segment's id")] = (
        True
    )


class LookalikeShape(BaseModel):
    """A lookalike, and how good such a choice is, measured on seeds that were hidden from it."""

    members: Annotated[int, Field(description="with a creator's token with noise, to two digits")]
    seeds: int
    held_out: Annotated[int, Field(description="seeds that were hidden; 0: too few to tell")]
    recall: Annotated[float, Field(description="share of them that the choice finds; a creator is told it with noise")]
    activity_recall: Annotated[float, Field(description="the same, had the most active viewers been chosen")]
    learned: Annotated[bool, Field(description="false: too few follows to learn from")]


class LookalikeProgress(BaseModel):
    """How far the making of a lookalike is, and what became of it."""

    segment_id: str
    state: Literal["making", "made", "failed"]
    done_percent: Annotated[int, Field(description="by about how long each part takes")]
    made: Annotated[
        LookalikeShape | None,
        Field(description="of the one that is in force: this one once it is made, or the one before"),
    ] = None
    error: Annotated[str, Field(description="why it failed")] = ""


@router.post("/reach", response_model=CrowdShape)
async def estimate_reach(request: Request, engine: EngineOf, body: Annotated[ReachQuestion, Body()]) -> Any:
    """How many known viewers an audience holds, before a campaign starts. Who bought "no ads" is not counted."""
    message = pb.EstimateReachRequest(
        targeting=targeting_message(body.targeting),
        include_fans=body.include_fans,
        creator_id=int(body.creator_id or 0),
    )
    answer = await engine.call(request, "EstimateReach", message, pb.EstimateReachResponse, "Audience")
    return {"low": answer.low, "high": answer.high}


@router.post("/creators", response_model=ComparisonShape)
async def compare_creators(request: Request, engine: EngineOf, body: Annotated[CreatorsQuestion, Body()]) -> Any:
    """Overlap and saturation: how much the audiences of creators share, and how much of them is reached already."""
    message = pb.CompareCreatorsRequest(
        creator_ids=[int(i) for i in body.creator_ids],
        audience=_AUDIENCES[body.audience],
        creator_id=int(body.creator_id or 0),
    )
    answer = await engine.call(request, "CompareCreators", message, pb.CompareCreatorsResponse, "Audience")
    return {
        "creators": [
            {"creator_id": str(of.creator_id), "only_here": _crowd(of.only_here), **_together(of)}
            for of in answer.creators
        ],
        "shared": [
            {"creator_ids": [str(of.creator_id), str(of.other_creator_id)], "viewers": _crowd(of.viewers)}
            for of in answer.shared
        ],
        "together": _together(answer.together),
    }


@router.post("/why", response_model=WhyShape)
async def explain_viewer(request: Request, engine: EngineOf, body: Annotated[ViewerQuestion, Body()]) -> Any:
    """Why an audience holds a viewer, in plain sentences.

    A creator may ask about viewers who saw an ad of theirs in the last 30 days, by campaigns of their own.
    """
    message = pb.ExplainViewerRequest(
        viewer_id=int(body.viewer_id),
        campaign_id=int(body.campaign_id or 0),
        targeting=None if body.targeting is None else targeting_message(body.targeting),
        include_fans=body.include_fans,
        creator_id=int(body.creator_id or 0),
        placement=body.placement,
        content_category=body.content_category,
        content_tags=body.content_tags,
    )
    answer = await engine.call(request, "ExplainViewer", message, pb.ExplainViewerResponse, "Audience")
    return {"matched": answer.matched, "english": answer.english, "chinese": answer.chinese}


@router.get("/segments", response_model=SegmentPage)
async def list_segments(request: Request, engine: EngineOf, query: Annotated[SegmentsQuery, Query()]) -> Any:
    """Segments that were put, uploaded or made as lookalikes and have members, by name; of a creator, the own lists."""
    message = pb.ListSegmentsRequest(page_size=query.page_size, after=query.after)
    answer = await engine.call(request, "ListSegments", message, pb.ListSegmentsResponse, "Audience")
    return {
        "segments": [{name: getattr(one, name) for name in ListedShape.model_fields} for one in answer.segments],
        "next_after": answer.segments[-1].segment_id if answer.has_more else "",
        "creator_id": str(answer.creator_id) if answer.creator_id else None,
    }


@router.put("/segments/{segment_id}", response_model=MembersShape)
async def put_segment(
    request: Request, engine: EngineOf, segment_id: SegmentId, body: Annotated[SegmentChange, Body()]
) -> Any:
    """Change a segment, or what is to be the list of a lookalike. A call counts whole or not at all.

    With a creator's token it is a list of this creator's own; `replace` by nobody takes it off the list of segments. A
    long list is put to `/lists/{segment_id}`, or comes in several calls: one with `replace`, others with `add`.
    """
    message = pb.PutSegmentRequest(
        segment_id=segment_id,
        change=_CHANGES[body.change],
        viewer_ids=[int(i) for i in body.viewer_ids],
        expires_at_ms=body.expires_at_ms,
    )
    answer = await engine.call(request, "PutSegment", message, pb.PutSegmentResponse, "Audience")
    return {name: getattr(answer, name) for name in MembersShape.model_fields}


@router.post(
    "/lookalikes",
    response_model=LookalikeShape,
    responses={202: {"model": LookalikeProgress, "description": "It is being made."}},
)
async def put_lookalike(request: Request, engine: EngineOf, body: Annotated[NewLookalike, Body()]) -> Any:
    """Make a segment of the viewers most like the members of another, without them; a creator's of own lists.

    It takes seconds or more. The answer says how many seeds that were held out such a choice finds. While it is being
    made, `GET /lookalikes/{segment_id}` says how far it is; with `wait` false that is also where the answer will be.
    """
    message = pb.PutLookalikeRequest(
        segment_id=body.segment_id,
        seed_segment_id=body.seed_segment_id,
        size=body.size,
        creator_id=int(body.creator_id or 0),
        in_background=not body.wait,
    )
    answer = await engine.call(
        request, "PutLookalike", message, pb.PutLookalikeResponse, "Audience", LOOKALIKE_TIMEOUT_S
    )
    if not body.wait:
        return JSONResponse(await _progress(request, engine, body.segment_id), 202)
    return _lookalike(answer)


@router.get("/lookalikes/{segment_id}", response_model=LookalikeProgress)
async def get_lookalike(request: Request, engine: EngineOf, segment_id: SegmentId) -> Any:
    """How far the making of a lookalike is, and its figures once it is made; a creator's own.

    It is the last one of this name that was asked for, also before the server was started again, until the list is
    replaced.
    """
    return await _progress(request, engine, segment_id)


async def _progress(request: Request, engine: Engine, segment_id: str) -> dict[str, Any]:
    message = pb.GetLookalikeRequest(segment_id=segment_id)
    told = await engine.call(request, "GetLookalike", message, pb.GetLookalikeResponse, "Audience")
    return {
        "segment_id": told.segment_id,
        "state": _STATES[told.state],
        "done_percent": told.done_percent,
        "made": _lookalike(told.made) if told.HasField("made") else None,
        "error": told.error,
    }


def _lookalike(made: pb.PutLookalikeResponse) -> dict[str, Any]:
    return {name: getattr(made, name) for name in LookalikeShape.model_fields}


def _together(of: pb.ComparedCreator) -> dict[str, Any]:
    return {"viewers": _crowd(of.viewers), "reached": _crowd(of.reached), "own_fans": _crowd(of.own_fans)}


def _crowd(crowd: pb.Crowd) -> dict[str, int]:
    return {"low": crowd.low, "high": crowd.high}
