"""The `Audience` service: viewers, segments and follows in; segments and reach out."""

from __future__ import annotations

import threading
from collections.abc import Callable
from enum import IntEnum
from typing import Protocol

import grpc
import numpy as np

from auction.audience.changes import RESERVED_PREFIXES, check_change, check_date, check_ids
from auction.audience.insights_service import Insights, no_campaign
from auction.audience.journal import Journal
from auction.audience.lookalike_figures_wire import LookalikeFigures, two_digits
from auction.audience.lookalike_makings import LookalikeBusy, LookalikeMakings, Making, Tell
from auction.audience.lookalikes import LookalikeMaker
from auction.audience.made_lookalikes_wire import made_record, read_made
from auction.audience.own_lists_service import LOOKALIKE_IDS, OwnLists
from auction.audience.segment_files_service import SegmentFiles
from auction.bid.keyring import KeyRing
from auction.bid.request import check_viewer_attributes, check_viewer_ids
from auction.bid.wire import Columns
from auction.campaigns.access import Forbidden, Principal, Role
from auction.campaigns.model import Campaign
from auction.rpc_service import UnaryCall
from auction.status import Refused, parse
from pacing.clocks import Clock
from protos import audience_pb2
from targeting.attributes import STORED_DIMENSION_COUNT
from targeting.content import LEVELS, check_tag, tag_segment
from targeting.expressions import Expression, check_segment_name
from targeting.graph.follows import FollowGraph
from targeting.own_lists import (
    check_found,
    check_large_enough,
    check_lists,
    check_lookalike_size,
    is_too_small,
    owner_of,
)
from targeting.segments.affinities import check_affinities, put_affinities
from targeting.segments.generations import NEVER_MS
from targeting.segments.store import Change, SegmentStore
from targeting.viewers import ViewerTable
from targeting.visits import Visits

MAX_VIEWERS = 8_000
MAX_SEGMENT_IDS = 100_000
MAX_FOLLOWS = 50_000
MAX_TAGS = 1_000
MAX_AFFINITIES = 50_000
MAX_LISTED = 1_000
DEFAULT_LISTED = 200
_VIEWER_COLUMNS = {
    "ids": np.uint64, "bidfloors_micros": np.int64, "regions": np.uint32, "age_bands": np.uint32, "genders": np.uint32,
    "os": np.uint32, "networks": np.uint32, "device_tiers": np.uint32, "interest_masks": np.uint64,
}  # fmt: skip


class AudienceStores(Protocol):
    """Where audiences live. Without a journal nothing outlives the process."""

    viewers: ViewerTable
    segments: SegmentStore
    follows: FollowGraph
    visits: Visits
    journal: Journal | None
    clock: Clock
    keys: KeyRing


class Record(IntEnum):
    """Kinds of journal records; each body is the request as it came, or that of a file in one part."""

    VIEWERS = 1
    SEGMENT = 2
    FOLLOWS = 3
    SEGMENT_FILE = 4
    AFFINITIES = 6
    LOOKALIKE = 5  # not written any more: a PutSegmentRequest with the members that were chosen
    LOOKALIKE_TOLD = 7  # the body is a GetLookalikeResponse: one was begun, or failed
    LOOKALIKE_MADE = 8  # both, see `auction.audience.made_lookalikes_wire`


_REPLAYER = Principal(Role.OPERATOR, 0, 0)


def _check_count(field: str, count: int, limit: int) -> None:
    if count > limit:
        raise ValueError(f"{field} count {count}: at most {limit}")


def _check_sent(principal: Principal, field: str, ids: np.ndarray) -> None:
    if principal is not _REPLAYER:  # what was accepted holds
        check_ids(field, ids)


class AudienceService:
    """`Audience`, as calls from bytes to bytes. Any thread may call; changes take turns, in the journal's order."""

    def __init__(
        self,
        stores: AudienceStores,
        is_creator: Callable[[int], bool] = lambda _: False,
        campaign_of: Callable[[int], Campaign] = no_campaign,
    ) -> None:
        """Serve `stores`; `is_creator` and `campaign_of` as in `Insights`."""
        self._stores = stores
        self._changing = threading.Lock()
        self._insights = Insights(stores, is_creator, campaign_of)
        self._own = OwnLists(
            stores, lookalikes=self._insights.lookalikes, is_being_made=lambda name: self._makings.is_under_way(name)
        )
        self._files = SegmentFiles(
            stores, self._own, self._changing, lambda raw: self._keep(Record.SEGMENT_FILE, raw), self._note_change
        )
        self._lookalikes = LookalikeMaker(stores.viewers, stores.follows)
        self._figures = LookalikeFigures(stores)
        self._makings = LookalikeMakings(self._keep_making)
        self._told_members: dict[str, int] = {}  # of creators' lookalikes
        self.calls: dict[str, UnaryCall] = {
            "PutViewers": self.put_viewers,
            "PutSegment": self.put_segment,
            "PutFollows": self.put_follows,
            "ListSegments": self.list_segments,
            "PutLookalike": self.put_lookalike,
            "GetLookalike": self.get_lookalike,
            "PutAffinities": self.put_affinities,
            "ImportSegment": self._files.import_segment,
            "ExportSegment": self._files.export_segment,
            **self._insights.calls,
        }

    def replay(self) -> None:
        """Take in what the journal holds, as it was accepted."""
        journal, self._stores.journal = self._stores.journal, None
        if journal is None:
            return
        again: dict[Record, Callable[[bytes, Principal], object]] = {
            Record.VIEWERS: self.put_viewers,
            Record.SEGMENT: self.put_segment,
            Record.FOLLOWS: self.put_follows,
            Record.AFFINITIES: self.put_affinities,
            Record.SEGMENT_FILE: lambda raw, _: self._files.again(raw),
            Record.LOOKALIKE: lambda raw, _: self._put_found(parse(audience_pb2.PutSegmentRequest, raw)),
            Record.LOOKALIKE_MADE: lambda raw, _: self._put_made(*read_made(raw)),
            Record.LOOKALIKE_TOLD: lambda raw, _: self._remember_making(parse(audience_pb2.GetLookalikeResponse, raw)),
        }
        for kind, raw in journal.records():
            again[Record(kind)](raw, _REPLAYER)
        self._stores.journal = journal

    def check_lists(self, audience: Expression, creator_id: int) -> None:
        """See to it that a creator's campaign may have this audience: its lists may be used.

        Raises:
            ValueError: see `targeting.own_lists.check_lists`.
        """
        check_lists(audience, lambda name: len(self._stores.segments.members(name)), creator_id)

    def expire(self, now_ms: int) -> None:
        """Let go of the members whose date has come; a creator's list that too few are left of is emptied before."""
        with self._changing:
            small = [name for name, left in self._stores.segments.due(now_ms) if owner_of(name) and is_too_small(left)]
            for name in small:
                emptied = audience_pb2.PutSegmentRequest(segment_id=name, change=audience_pb2.SEGMENT_CHANGE_REPLACE)
                self._put_members(emptied)
                self._keep(Record.SEGMENT, emptied.SerializeToString())
            self._stores.segments.expire(now_ms)

    def _keep(self, record: Record, raw: bytes) -> None:
        if self._stores.journal is not None:
            self._stores.journal.append(record, raw)

    def put_viewers(self, raw: bytes, principal: Principal) -> bytes:
        """Add viewers, or replace what is known of them; a column that is not sent means unknown."""
        sent = parse(audience_pb2.PutViewersRequest, raw).viewers
        columns = {name: np.array(getattr(sent, name), dtype) for name, dtype in _VIEWER_COLUMNS.items()}
        if len(columns["bidfloors_micros"]):
            raise ValueError("viewers.bidfloors_micros: must be empty here")
        ids = check_viewer_ids(columns["ids"], MAX_VIEWERS)
        _check_sent(principal, "viewers.ids", ids)
        dims, masks = check_viewer_attributes(Columns(sent, columns), len(ids))
        attributes = np.maximum(dims[:, :STORED_DIMENSION_COUNT], 0).astype(np.uint16)
        with self._changing:
            self._keep(Record.VIEWERS, raw)
            self._stores.viewers.put(ids, attributes, np.zeros(len(ids), np.uint64) if masks is None else masks)
        return audience_pb2.PutViewersResponse(known_viewers=self._stores.viewers.size).SerializeToString()

    def put_segment(self, raw: bytes, principal: Principal) -> bytes:
        """Replace, extend or reduce one segment. Viewers that are not known yet become known by id alone."""
        request = parse(audience_pb2.PutSegmentRequest, raw)
        change, expires_at_ms, sent = request.change, request.expires_at_ms, len(request.viewer_ids)
        is_new = principal is not _REPLAYER  # what was accepted holds, though its date may have come
        if is_new:
            request.segment_id = self._own.segment_for(principal, request.segment_id)
        name = request.segment_id
        check_change(name, change, expires_at_ms)
        _check_count("viewer_ids", sent, MAX_SEGMENT_IDS)
        _check_sent(principal, "viewer_ids", np.array(request.viewer_ids, np.uint64))
        with self._changing:
            if is_new:
                check_date(name, change, expires_at_ms, self._stores.segments, self._stores.clock.wall_ms())
                request = self._admitted(principal, request)
            self._stores.segments.segment_idx(name)  # refused here when there are too many
            self._keep(Record.SEGMENT, request.SerializeToString())
            self._put_members(request)
        members = len(self._stores.segments.members(name))
        left_out = sent - len(request.viewer_ids)
        return audience_pb2.PutSegmentResponse(members=members, segment_id=name, left_out=left_out).SerializeToString()

    def _admitted(
        self, principal: Principal, request: audience_pb2.PutSegmentRequest
    ) -> audience_pb2.PutSegmentRequest:
        """The change as it is taken: of a creator's, without ids of nobody who is known."""
        sent = np.array(request.viewer_ids, np.uint64)
        ids = self._own.admit(principal, request.segment_id, sent, request.change)
        if len(ids) == len(sent):
            return request
        return audience_pb2.PutSegmentRequest(
            segment_id=request.segment_id,
            change=request.change,
            viewer_ids=ids,
            expires_at_ms=request.expires_at_ms,
        )

    def _note_change(self, name: str, change: int) -> None:
        self._own.note(name)
        if change == Change.REPLACE:
            self._insights.lookalikes.discard(name)
            self._told_members.pop(name, None)
            self._makings.forget(name)

    def _put_members(self, request: audience_pb2.PutSegmentRequest) -> None:
        rows = self._stores.viewers.ensure(np.array(request.viewer_ids, np.uint64))
        self._stores.segments.put(request.segment_id, rows, Change(request.change), request.expires_at_ms)
        self._note_change(request.segment_id, request.change)

    def _put_found(self, found: audience_pb2.PutSegmentRequest) -> None:
        self._put_members(found)
        self._insights.lookalikes.add(found.segment_id)

    def _put_made(self, found: audience_pb2.PutSegmentRequest, told: audience_pb2.GetLookalikeResponse) -> None:
        self._put_found(found)
        self._told_members[found.segment_id] = told.made.members
        self._remember_making(told)

    def list_segments(self, raw: bytes, principal: Principal) -> bytes:
        """A page of the segments that callers made and that have members, by name; of a creator's, the own lists."""
        request = parse(audience_pb2.ListSegmentsRequest, raw)
        _check_count("page_size", request.page_size, MAX_LISTED)
        size = request.page_size or DEFAULT_LISTED
        answer = audience_pb2.ListSegmentsResponse(creator_id=principal.creator_id)
        is_creator = principal.role is Role.CREATOR
        names = self._own.names_of(principal.creator_id) if is_creator else self._stores.segments.names
        for name in sorted(name for name in names if name > request.after):
            members = len(self._stores.segments.members(name))
            if not members or name.startswith(RESERVED_PREFIXES):
                continue
            if is_creator and name in self._insights.lookalikes:
                members = self._told_members.get(name, two_digits(members))
            if len(answer.segments) == size:
                answer.has_more = True
                break
            is_lookalike = name in self._insights.lookalikes
            answer.segments.add(segment_id=name, members=members, is_lookalike=is_lookalike)
        return answer.SerializeToString()

    def put_lookalike(self, raw: bytes, principal: Principal) -> bytes:
        """Replace a segment by the viewers most like the members of another; says how good such a choice is.

        Raises:
            Forbidden: a creator's token, and a segment or creator that is another's.
            Refused: RESOURCE_EXHAUSTED: one is being made, or the creator has as many lists as one may have.
            RateLimited: the creator has put as many ids as one may put in a day.
        """
        request = parse(audience_pb2.PutLookalikeRequest, raw)
        request.segment_id = self._own.segment_for(principal, request.segment_id)
        request.seed_segment_id = self._own.seeds_for(principal, request.seed_segment_id)
        if principal.role is Role.CREATOR and request.creator_id not in (0, principal.creator_id):
            raise Forbidden(f"creator_id {request.creator_id}: a creator's token may name this creator only")
        check_change(request.segment_id, Change.REPLACE, NEVER_MS)
        seeds = self._stores.segments.rows(check_segment_name(request.seed_segment_id))
        self._lookalikes.check(len(seeds), request.size, request.creator_id)
        if principal.role is Role.CREATOR:
            check_large_enough("seed_segment_id", request.seed_segment_id, len(seeds))
            check_lookalike_size(request.size)
        self._own.check_room(principal, request.segment_id)
        self._own.spend(principal, LOOKALIKE_IDS)

        def make(tell: Tell) -> bytes:
            try:
                return self._make_lookalike(principal, request, seeds, tell)
            except Exception:
                self._own.spend(principal, -LOOKALIKE_IDS)
                raise

        try:
            return self._makings.run(request.segment_id, make, request.in_background)
        except LookalikeBusy as busy:
            self._own.spend(principal, -LOOKALIKE_IDS)
            is_own = principal.role is Role.CREATOR and owner_of(busy.segment_id) == principal.creator_id
            which = f"your lookalike {busy.segment_id!r}" if is_own else "another lookalike"
            message = f"{which} is being made, and one is made at a time; try again"
            raise Refused(grpc.StatusCode.RESOURCE_EXHAUSTED, message) from None

    def get_lookalike(self, raw: bytes, principal: Principal) -> bytes:
        """How far the making of a lookalike is, or what became of it."""
        name = self._own.segment_for(principal, parse(audience_pb2.GetLookalikeRequest, raw).segment_id)
        told = self._makings.told(name)
        if told is None:
            raise Refused(
                grpc.StatusCode.NOT_FOUND,
                f"segment_id {name!r}: no such lookalike was asked for, or the list was replaced since",
                "segment_id",
            )
        return _told_of(name, told).SerializeToString()

    def _keep_making(self, name: str, making: Making) -> None:
        with self._changing:
            self._keep(Record.LOOKALIKE_TOLD, _told_of(name, making).SerializeToString())

    def _remember_making(self, kept: audience_pb2.GetLookalikeResponse) -> None:
        """Know again what became of a lookalike; one that was being made when the server ended is not made."""
        error = kept.error
        if kept.state == audience_pb2.LOOKALIKE_STATE_MAKING:
            error = f"segment_id {kept.segment_id!r}: the server stopped while it was being made; ask for it again"
        made = kept.made.SerializeToString() if kept.HasField("made") else None
        is_made = kept.state == audience_pb2.LOOKALIKE_STATE_MADE
        self._makings.remember(kept.segment_id, Making(kept.done_percent / 100, made, error, is_made))

    def _make_lookalike(
        self, principal: Principal, request: audience_pb2.PutLookalikeRequest, seeds: np.ndarray, tell: Tell
    ) -> bytes:
        """Make it and put it into its segment; answers with a PutLookalikeResponse."""
        draw = self._figures.held_out_draw(seeds)
        made = self._lookalikes.make(seeds.astype(np.int64), request.size, request.creator_id, draw, tell)
        if principal.role is Role.CREATOR:
            check_found(request.segment_id, len(made.rows))
        found = audience_pb2.PutSegmentRequest(
            segment_id=request.segment_id,
            change=audience_pb2.SEGMENT_CHANGE_REPLACE,
            viewer_ids=self._stores.viewers.ids[made.rows],
        )
        self._stores.segments.segment_idx(request.segment_id)  # refused here when there are too many
        figures = audience_pb2.PutLookalikeResponse(
            members=len(made.rows), seeds=len(seeds), held_out=made.quality.held_out, recall=made.quality.recall,
            activity_recall=made.quality.activity_recall, learned=made.learned,
        )  # fmt: skip
        if owner_of(request.segment_id):
            figures = self._figures.told(figures, seeds, request.size, request.creator_id)
        with self._changing:
            self._own.check_room(principal, request.segment_id)  # others may have come meanwhile
            told = _told_of(request.segment_id, Making(1.0, figures.SerializeToString(), is_made=True))
            self._keep(Record.LOOKALIKE_MADE, made_record(found, told))
            self._put_found(found)
            self._told_members[request.segment_id] = figures.members
        return figures.SerializeToString()

    def put_affinities(self, raw: bytes, principal: Principal) -> bytes:
        """Put how much viewers like tags of content, in place of what was known of each viewer and tag."""
        request = parse(audience_pb2.PutAffinitiesRequest, raw)
        _check_count("tags", len(request.tags), MAX_TAGS)
        _check_count("viewer_ids", len(request.viewer_ids), MAX_AFFINITIES)
        viewer_ids = np.array(request.viewer_ids, np.uint64)
        _check_sent(principal, "viewer_ids", viewer_ids)
        tags = [check_tag(tag) for tag in request.tags]
        levels = check_affinities(
            len(tags), len(viewer_ids), np.array(request.tag_idx, np.uint32), np.array(request.weights, np.float32)
        )
        tag_idx = np.array(request.tag_idx, np.int64)
        with self._changing:
            for tag in tags:
                for level in range(1, LEVELS + 1):
                    self._stores.segments.segment_idx(tag_segment(tag, level))  # refused here when there are too many
            self._keep(Record.AFFINITIES, raw)
            put_affinities(self._stores.segments, tags, self._stores.viewers.ensure(viewer_ids), tag_idx, levels)
        return audience_pb2.PutAffinitiesResponse(affinities=len(viewer_ids)).SerializeToString()

    def put_follows(self, raw: bytes, principal: Principal) -> bytes:
        """Add follow edges."""
        request = parse(audience_pb2.PutFollowsRequest, raw)
        if len(request.follower_ids) != len(request.followed_ids):
            raise ValueError(
                f"followed_ids: {len(request.followed_ids)} for {len(request.follower_ids)} follower_ids; "
                "must be equally many"
            )
        _check_count("follower_ids", len(request.follower_ids), MAX_FOLLOWS)
        followers, followed = np.array(request.follower_ids, np.uint64), np.array(request.followed_ids, np.uint64)
        _check_sent(principal, "follower_ids", followers)
        _check_sent(principal, "followed_ids", followed)
        with self._changing:
            self._keep(Record.FOLLOWS, raw)
            self._stores.follows.put(followers, followed)
        return audience_pb2.PutFollowsResponse(follows=self._stores.follows.size).SerializeToString()


def _told_of(name: str, making: Making) -> audience_pb2.GetLookalikeResponse:
    """How far the making of a lookalike is, or what became of it, as it is told and kept."""
    answer = audience_pb2.GetLookalikeResponse(
        state=audience_pb2.LOOKALIKE_STATE_MAKING,
        done_percent=int(100 * making.share),
        error=making.error,
        segment_id=name,
    )
    if making.made is not None:
        answer.made.ParseFromString(making.made)
    if making.is_made:
        answer.state, answer.done_percent = audience_pb2.LOOKALIKE_STATE_MADE, 100
    elif making.error:
        answer.state = audience_pb2.LOOKALIKE_STATE_FAILED
    return answer
