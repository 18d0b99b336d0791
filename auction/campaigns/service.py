"""The `Campaigns` service: what creators and operators may ask, over gRPC or in process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from auction.campaigns.access import Access, Forbidden, Principal, Role
from auction.campaigns.changes import Changes, LocalChanges
from auction.campaigns.desk import CapsInForce, Desk
from auction.campaigns.model import (
    MAX_ID,
    Campaign,
    CampaignStatus,
    InvalidField,
    InvalidTargeting,
    check_int,
    check_text,
    edited,
    validate,
    with_status,
)
from auction.campaigns.report import MAX_HOURS, ReportBook
from auction.campaigns.store import CampaignStore, NoSuchCampaign
from auction.campaigns.wire import (
    campaign_to_message,
    changes_from_message,
    charges_to_message,
    draft_from_message,
    report_to_message,
)
from auction.status import Refused, parse, refusal_of
from pacing.clocks import MS_PER_DAY, Clock
from pacing.ledger.statement import MAX_PAGE
from protos import campaigns_pb2 as pb
from protos import fans_pb2
from targeting.expressions import Expression
from targeting.naming import check_named

MAX_KEY_CHARACTERS = 64
MAX_PAGE_SIZE = 200
DEFAULT_PAGE_SIZE = 50
DEFAULT_CHARGES = 100
MAX_SEQUENCE = 2**63 - 1
DEFAULT_HOURS = 48
HEALTH_DAYS = (7, 30)
MAX_WATCHED = 100
MIN_INTERVAL_MS = 250
MAX_INTERVAL_MS = 60_000
DEFAULT_INTERVAL_MS = 1_000
MAX_WATCHERS = 64
"""Streams of reports that are open at once, each holding a thread of a pool of their own."""
LIVE_POLL_S = 1.0
"""How long a quiet watch waits before it looks at what only the engine knows, and whether its caller is still there."""


class CampaignsService:
    """Answers the calls of `Campaigns`. Every method may be called from any thread."""

    def __init__(
        self,
        store: CampaignStore,
        access: Access,
        desk: Desk,
        book: ReportBook,
        clock: Clock,
        currency: str = "CNY",
        changes: Changes | None = None,
    ) -> None:
        """Serve the campaigns of `store`; `changes` decides about changes, by default this server alone."""
        self._store = store
        self._changes = LocalChanges(store, desk) if changes is None else changes
        self._access = access
        self._desk = desk
        self._book = book
        self._clock = clock
        self._currency = currency
        self._watch_lock = threading.Lock()
        self._open_watchers = 0
        self._calls: dict[str, tuple[Any, Callable[[Principal, Any], Any]]] = {
            "CreateCampaign": (pb.CreateCampaignRequest, self.create),
            "GetCampaign": (pb.GetCampaignRequest, self.get),
            "ListCampaigns": (pb.ListCampaignsRequest, self.list),
            "UpdateCampaign": (pb.UpdateCampaignRequest, self.update),
            "PauseCampaign": (pb.ChangeStatusRequest, self.pause),
            "ResumeCampaign": (pb.ChangeStatusRequest, self.resume),
            "EndCampaign": (pb.ChangeStatusRequest, self.end),
            "GetReport": (pb.GetReportRequest, self.report),
            "ListCharges": (pb.ListChargesRequest, self.charges),
            "GetHealth": (fans_pb2.HealthRequest, self.health),
        }

    @property
    def unary_calls(self) -> tuple[str, ...]:
        """Names of the calls that `handle` answers."""
        return tuple(self._calls)

    @property
    def open_watchers(self) -> int:
        """How many streams of reports are open."""
        return self._open_watchers

    def handle(self, call: str, raw: bytes, principal: Principal) -> bytes:
        """Answer one unary call, such as "GetCampaign".

        Raises:
            Refused: the only exception that leaves here.
        """
        try:
            self._access.permit(principal, f"Campaigns/{call}")
            if call not in self._calls:
                raise Refused(grpc.StatusCode.UNIMPLEMENTED, f"Campaigns/{call}: no such unary call")
            request_class, answer = self._calls[call]
            return bytes(answer(principal, parse(request_class, raw)).SerializeToString())
        except Exception as error:
            raise refusal_of(error) from error

    def create(self, principal: Principal, request: pb.CreateCampaignRequest) -> pb.Campaign:
        """Make a campaign, or answer with the one that this creator made with the same idempotency key."""
        key = check_text("idempotency_key", request.idempotency_key, 0, MAX_KEY_CHARACTERS)
        creator_id = principal.creator_id if principal.role is Role.CREATOR else request.campaign.creator_id
        draft = validate(draft_from_message(request.campaign, creator_id, self._clock.wall_ms()))
        self._check_audience(principal, draft.targeting)
        campaign = self._changes.create(draft, key)
        self._book.announce_change()
        return campaign_to_message(campaign, self._currency)

    def _check_audience(self, principal: Principal, audience: Expression) -> None:
        """See to it that who asks may aim a campaign so. A campaign that is stored already stays as it is.

        Raises:
            InvalidTargeting: a segment is not theirs to name, or a list may not be used so.
        """
        try:
            check_named(audience, principal.creator_id)
            if principal.role is Role.CREATOR:
                self._desk.check_lists(audience, principal.creator_id)
        except ValueError as error:
            raise InvalidTargeting(str(error)) from None

    def get(self, principal: Principal, request: pb.GetCampaignRequest) -> pb.Campaign:
        """One campaign."""
        return campaign_to_message(self._visible(principal, request.campaign_id), self._currency)

    def list(self, principal: Principal, request: pb.ListCampaignsRequest) -> pb.ListCampaignsResponse:
        """One page of campaigns, by ascending id: a creator's own, or an operator's choice."""
        size = check_int("page_size", request.page_size, 0, MAX_PAGE_SIZE) or DEFAULT_PAGE_SIZE
        creator_id = request.creator_id
        if principal.role is Role.CREATOR:
            if creator_id not in (0, principal.creator_id):
                raise InvalidField("creator_id", creator_id, "left out; only an operator may name another creator")
            creator_id = principal.creator_id
        found = self._store.page(_page_start(request.page_token), size + 1, creator_id)
        return pb.ListCampaignsResponse(
            campaigns=[campaign_to_message(campaign, self._currency) for campaign in found[:size]],
            next_page_token=str(found[size - 1].campaign_id) if len(found) > size else "",
            creator_id=principal.creator_id,
        )

    def update(self, principal: Principal, request: pb.UpdateCampaignRequest) -> pb.UpdateCampaignResponse:
        """Change the fields that the request names."""
        campaign_id, version = request.campaign.campaign_id, request.campaign.version
        changes = changes_from_message(request.campaign, request.update_fields)
        if "targeting" in changes:
            self._check_audience(principal, changes["targeting"])
        campaign, caps = self._change(
            principal, campaign_id, version, lambda before: edited(before, changes, self._clock.wall_ms())
        )
        return pb.UpdateCampaignResponse(
            campaign=campaign_to_message(campaign, self._currency),
            effective_daily_budget_micros=caps.daily_budget_micros,
            effective_total_budget_micros=caps.total_budget_micros,
        )

    def pause(self, principal: Principal, request: pb.ChangeStatusRequest) -> pb.Campaign:
        """Stop bidding until resumed."""
        return self._set_status(principal, request.campaign_id, CampaignStatus.PAUSED)

    def resume(self, principal: Principal, request: pb.ChangeStatusRequest) -> pb.Campaign:
        """Go on bidding."""
        return self._set_status(principal, request.campaign_id, CampaignStatus.ACTIVE)

    def end(self, principal: Principal, request: pb.ChangeStatusRequest) -> pb.Campaign:
        """Stop for good."""
        return self._set_status(principal, request.campaign_id, CampaignStatus.ENDED)

    def report(self, principal: Principal, request: pb.GetReportRequest) -> pb.CampaignReport:
        """A campaign's figures at one row of the ledger."""
        hours = check_int("hours", request.hours, 0, MAX_HOURS) or DEFAULT_HOURS
        return self._report(self._visible(principal, request.campaign_id), hours)

    def charges(self, principal: Principal, request: pb.ListChargesRequest) -> pb.ListChargesResponse:
        """One page of a campaign's charges, each with its why."""
        limit = check_int("limit", request.limit, 0, MAX_PAGE) or DEFAULT_CHARGES
        after = check_int("after", request.after, 0, MAX_SEQUENCE)
        at_sequence = check_int("ledger_sequence", request.ledger_sequence, 0, MAX_SEQUENCE)
        campaign_id = self._visible(principal, request.campaign_id).campaign_id
        try:
            page, charges = self._desk.statement(campaign_id, after, limit, at_sequence)
        except ValueError as error:
            field = "after" if str(error).startswith("after ") else "ledger_sequence"
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, str(error), field) from None
        return charges_to_message(page, charges)

    def health(self, principal: Principal, request: fans_pb2.HealthRequest) -> fans_pb2.CreatorHealth:
        """How a creator's fans did in a week or month that is over: a creator's own, or an operator's choice.

        Raises:
            Forbidden: another creator's.
        """
        creator_id = request.creator_id
        if principal.role is Role.CREATOR:
            if creator_id not in (0, principal.creator_id):
                raise Forbidden("creator_id: another creator's; a creator's token opens this creator's own report only")
            creator_id = principal.creator_id
        check_int("creator_id", creator_id, 1, MAX_ID)
        days = request.days or HEALTH_DAYS[0]
        if days not in HEALTH_DAYS:
            raise InvalidField("days", days, " or ".join(map(str, HEALTH_DAYS)))
        if request.end_day:
            check_int("end_day", request.end_day, 2 * days, self._clock.wall_ms() // MS_PER_DAY)
        return self._desk.health_source(
            fans_pb2.HealthRequest(creator_id=creator_id, days=days, end_day=request.end_day)
        )

    def watch(
        self, authorize: Callable[[], Principal], request: pb.WatchReportRequest, left: threading.Event
    ) -> Iterator[pb.CampaignReport]:
        """Reports at once, and again whenever one changed.

        Args:
            authorize: says who the caller is; asked again and again, so a revoked token ends the stream.
            left: set when the caller has gone; ends the stream within LIVE_POLL_S.

        Raises:
            Refused: RESOURCE_EXHAUSTED: MAX_WATCHERS streams are open.
        """
        ids = _watched_ids(request)
        interval_ms = check_int("interval_ms", request.interval_ms, 0, MAX_INTERVAL_MS) or DEFAULT_INTERVAL_MS
        check_int("interval_ms", interval_ms, MIN_INTERVAL_MS, MAX_INTERVAL_MS)
        hours = check_int("hours", request.hours, 0, MAX_HOURS) or DEFAULT_HOURS
        with self._counted_watch():
            sent: dict[int, pb.CampaignReport] = {}
            revision = 0
            while not left.is_set():
                principal = authorize()
                for campaign_id in ids:
                    report = self._report(self._visible(principal, campaign_id), hours)
                    content = _content(report)
                    if sent.get(campaign_id) != content:
                        sent[campaign_id] = content
                        yield report
                left.wait(interval_ms / 1000)
                revision = self._book.wait_for_change(revision, LIVE_POLL_S)

    def _report(self, campaign: Campaign, hours: int) -> pb.CampaignReport:
        now_ms = self._clock.wall_ms()
        booked = self._book.figures(campaign.campaign_id, now_ms, hours)
        return report_to_message(campaign, booked, self._desk.live(campaign.campaign_id), now_ms)

    def _visible(self, principal: Principal, campaign_id: int) -> Campaign:
        campaign = self._store.get(check_int("campaign_id", campaign_id, 1, MAX_ID))
        self._check_visible(principal, campaign)
        return campaign

    def _check_visible(self, principal: Principal, campaign: Campaign) -> None:
        if principal.role is Role.CREATOR and campaign.creator_id != principal.creator_id:
            raise NoSuchCampaign(campaign.campaign_id)

    def _set_status(self, principal: Principal, campaign_id: int, status: CampaignStatus) -> pb.Campaign:
        campaign, _ = self._change(
            principal, campaign_id, 0, lambda before: with_status(before, status, self._clock.wall_ms())
        )
        return campaign_to_message(campaign, self._currency)

    def _change(
        self, principal: Principal, campaign_id: int, version: int, make: Callable[[Campaign], Campaign]
    ) -> tuple[Campaign, CapsInForce]:
        def changed(before: Campaign) -> Campaign:
            self._check_visible(principal, before)
            if version not in (0, before.version):
                message = f"version {version}: the campaign is at version {before.version}; read it again"
                raise Refused(grpc.StatusCode.ABORTED, message, "version")
            after = make(before)
            if after is not before and before.status is CampaignStatus.ENDED:
                message = f"campaign_id {campaign_id}: the campaign has ended; nothing about it changes any more"
                raise Refused(grpc.StatusCode.FAILED_PRECONDITION, message)
            return after

        campaign, caps = self._changes.change(check_int("campaign_id", campaign_id, 1, MAX_ID), changed)
        self._book.announce_change()
        return campaign, self._desk.live(campaign_id).caps if caps is None else caps

    @contextmanager
    def _counted_watch(self) -> Iterator[None]:
        with self._watch_lock:
            if self._open_watchers >= MAX_WATCHERS:
                message = f"{MAX_WATCHERS} report streams are open, as many as may be"
                raise Refused(grpc.StatusCode.RESOURCE_EXHAUSTED, message)
            self._open_watchers += 1
        try:
            yield
        finally:
            with self._watch_lock:
                self._open_watchers -= 1


def _page_start(page_token: str) -> int:
    if not page_token:
        return 0
    if not (page_token.isascii() and page_token.isdigit() and len(page_token) <= 18):
        raise InvalidField("page_token", page_token, "a next_page_token of an earlier answer")
    return int(page_token)


def _watched_ids(request: pb.WatchReportRequest) -> list[int]:
    ids = list(request.campaign_ids)
    if not 1 <= len(ids) <= MAX_WATCHED or len(set(ids)) != len(ids):
        raise InvalidField("campaign_ids", f"{len(ids)} ids", f"1 to {MAX_WATCHED} ids, none twice")
    return ids


def _content(report: pb.CampaignReport) -> pb.CampaignReport:
    """What a report says, without when and where in the ledger it was read."""
    content = pb.CampaignReport()
    content.CopyFrom(report)
    content.ClearField("at_ms")
    content.ClearField("ledger_sequence")
    content.ClearField("true_at")
    return content
