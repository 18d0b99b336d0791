"""What a creator may ask about audiences before a campaign starts: how many it reaches, and what audiences share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

import grpc
import numpy as np
from pyroaring import BitMap

from auction.audience.noisy_reach import NoisyReach
from auction.audience.whys import Whys
from auction.campaigns.access import Principal, Role
from auction.campaigns.model import MAX_ID, Campaign, InvalidField, InvalidTargeting, check_int
from auction.campaigns.store import NoSuchCampaign
from auction.campaigns.wire import targeting_from_message
from auction.rpc_service import UnaryCall
from auction.status import Refused, parse
from pacing.clocks import Clock
from protos import audience_pb2 as pb
from protos import campaigns_pb2
from targeting.attributes import CARDINALITIES, INTEREST_COUNT, STORED_DIMENSION_COUNT, Dimension
from targeting.content import LEVELS, check_tag, tag_segment
from targeting.expressions import MAX_CREATORS, Expression, ViewerFacts, named_creators, wants_similar
from targeting.graph.follows import FollowGraph
from targeting.naming import check_named
from targeting.own_lists import check_lists, names_own_list
from targeting.reach.counter import Reach, ReachCounter
from targeting.reach.overlap import Crowd, compare
from targeting.reasons import Connections, Labels, Language, why_matched
from targeting.segments.store import SegmentStore
from targeting.validation import validate
from targeting.viewers import ViewerTable
from targeting.visits import Visit, Visits


class InsightStores(Protocol):
    """What is known of viewers."""

    viewers: ViewerTable
    segments: SegmentStore
    follows: FollowGraph
    visits: Visits
    clock: Clock


def no_campaign(campaign_id: int) -> Campaign:
    """Where there are no campaigns."""
    raise NoSuchCampaign(campaign_id)


class Insights:
    """Answers questions about audiences, as calls from bytes to bytes. Any thread may call.

    Attributes:
        lookalikes: names of the segments that are lookalikes, kept by who makes them.
    """

    def __init__(
        self,
        stores: InsightStores,
        is_creator: Callable[[int], bool] = lambda _: False,
        campaign_of: Callable[[int], Campaign] = no_campaign,
    ) -> None:
        """Answer from `stores`.

        Args:
            stores: what is known of viewers.
            is_creator: whether an account is known as a creator, so that it may be told of by its id.
            campaign_of: a campaign as it is now; raises NoSuchCampaign.
        """
        self._stores = stores
        self._is_creator = is_creator
        self._campaign_of = campaign_of
        self.lookalikes: set[str] = set()
        self._reach = ReachCounter(stores.viewers, stores.segments)
        self._noisy_reach = NoisyReach(stores, self._reach)
        self._whys = Whys(stores)
        self.calls: dict[str, UnaryCall] = {
            "EstimateReach": self.estimate_reach,
            "CompareCreators": self.compare_creators,
            "ExplainViewer": self.explain_viewer,
        }

    def estimate_reach(self, raw: bytes, principal: Principal) -> bytes:
        """How many known viewers an expression holds, as a rounded range."""
        request = parse(pb.EstimateReachRequest, raw)
        creator_id = asking_creator(principal, request.creator_id)
        expression = self._asked_audience(request.targeting, principal)
        self._ask_for(expression, creator_id)
        reach: NoisyReach | ReachCounter = self._reach
        if principal.role is Role.CREATOR and names_own_list(expression):
            reach = self._noisy_reach
        try:
            low, high = reach.range_of(expression, creator_id, request.include_fans)
        except ValueError as error:
            raise InvalidTargeting(str(error)) from None
        return pb.EstimateReachResponse(low=low, high=high).SerializeToString()

    def compare_creators(self, raw: bytes, principal: Principal) -> bytes:
        """Overlap and saturation of the audiences of named creators, as rounded ranges."""
        request = parse(pb.CompareCreatorsRequest, raw)
        creator_ids = list(request.creator_ids)
        if not 1 <= len(creator_ids) <= MAX_CREATORS:
            raise ValueError(f"creator_ids: {len(creator_ids)} given; must be 1 to {MAX_CREATORS}")
        if len(set(creator_ids)) < len(creator_ids) or 0 in creator_ids:
            raise ValueError(f"creator_ids {creator_ids}: each must be given once, and not be 0")
        asking = asking_creator(principal, request.creator_id)
        members = self._members_of(request.audience)
        reached = self._stores.visits.members(asking, Visit.REACHED, self._stores.clock.wall_ms())
        found = compare([members(i) for i in creator_ids], reached, self._stores.follows.fans_of(asking))
        answer = pb.CompareCreatorsResponse(together=self._compared(0, found.together))
        answer.together.ClearField("only_here")
        answer.creators.extend(map(self._compared, creator_ids, found.each))
        for (a, b), viewers in found.shared.items():
            answer.shared.add(
                creator_id=creator_ids[a], other_creator_id=creator_ids[b], viewers=self._rounded(viewers)
            )
        return answer.SerializeToString()

    def explain_viewer(self, raw: bytes, principal: Principal) -> bytes:
        """Why an audience holds a viewer, in English and Chinese; creators ask by their campaigns."""
        request = parse(pb.ExplainViewerRequest, raw)
        campaign = self._asked_campaign(request, principal)
        if campaign is None:
            asking, include_fans = request.creator_id, request.include_fans
            expression = self._asked_audience(request.targeting, principal)
        else:
            asking, include_fans = campaign.creator_id, campaign.include_fans
            expression = campaign.targeting  # goes on also where a list in it was deleted since
            self._check_named(expression, principal)
        row = int(self._stores.viewers.rows_of(np.array([request.viewer_id], np.uint64))[0])
        if principal.role == Role.CREATOR and not self._was_reached(row, asking):
            # Else a creator could find out about anybody by asking for one audience after another.
            raise Refused(
                grpc.StatusCode.NOT_FOUND, f"viewer_id {request.viewer_id}: saw no ad of yours in 30 days", "viewer_id"
            )
        self._check_slot(request)
        tags = tuple(sorted(set(request.content_tags)))
        slot = (request.placement, request.content_category, tags)
        self._whys.count(principal, request.viewer_id, slot, campaign)
        self._ask_for(expression, asking)
        self._stores.segments.show_hidden()  # what was asked for just now may be too large to be seen at once
        facts = self._facts_of(row, request)
        connections = self._connections_of(request.viewer_id, asking)
        labels = Labels(lookalikes=frozenset(self.lookalikes), is_creator=self._is_creator)
        is_all_told = principal.role is not Role.CREATOR
        english, chinese = (
            why_matched(expression, facts, asking, include_fans, language, labels, connections, is_all_told)
            for language in (Language.ENGLISH, Language.CHINESE)
        )
        answer = pb.ExplainViewerResponse(matched=english is not None, english=english or "", chinese=chinese or "")
        return answer.SerializeToString()

    def _asked_campaign(self, request: pb.ExplainViewerRequest, principal: Principal) -> Campaign | None:
        """The campaign whose audience a question is about; None: an operator's, about an audience that it brings.

        Raises:
            InvalidField: a creator's question names none, or it brings an audience beside one.
            NoSuchCampaign: there is none, or it is another creator's.
        """
        is_creator = principal.role is Role.CREATOR
        if not request.campaign_id:
            if is_creator:
                raise InvalidField("campaign_id", 0, "a campaign of yours; its audience is explained")
            return None
        campaign = self._campaign_of(check_int("campaign_id", request.campaign_id, 1, MAX_ID))
        if is_creator and campaign.creator_id != principal.creator_id:
            raise NoSuchCampaign(campaign.campaign_id)
        if request.HasField("targeting") or request.include_fans:
            field = "targeting" if request.HasField("targeting") else "include_fans"
            raise InvalidField(field, "given", "left out beside campaign_id, whose audience is explained")
        return campaign

    def _asked_audience(self, targeting: campaigns_pb2.Targeting, principal: Principal) -> Expression:
        """The audience of a question.

        Raises:
            InvalidField: no campaign of who asks can have it.
        """
        expression = targeting_from_message(targeting)
        try:
            validate(expression)
        except ValueError as error:
            raise InvalidTargeting(str(error)) from None
        self._check_named(expression, principal)
        if principal.role is Role.CREATOR:
            segments = self._stores.segments
            try:
                check_lists(expression, lambda name: len(segments.members(name)), principal.creator_id)
            except ValueError as error:
                raise InvalidTargeting(str(error)) from None
        return expression

    def _check_named(self, expression: Expression, principal: Principal) -> None:
        """See to it that all segments of an audience are who asks's to name.

        Raises:
            InvalidTargeting: one is not.
        """
        try:
            check_named(expression, principal.creator_id)
        except ValueError as error:
            raise InvalidTargeting(str(error)) from None

    def _connections_of(self, viewer_id: int, creator_id: int) -> Connections:
        """Through whom the viewer is laotie, by name where that is a creator with campaigns."""
        friends = self._stores.follows.friends_among_fans(creator_id, viewer_id).tolist()
        similar = self._stores.follows.similar.followed_by(creator_id, viewer_id)
        creators = [friend for friend in friends if self._is_creator(friend)]
        known = [one for one in similar if self._is_creator(one.creator_id)]
        return Connections(creators, len(creators) < len(friends), known, len(known) < len(similar))

    def _was_reached(self, row: int, creator_id: int) -> bool:
        reached = self._stores.visits.members(creator_id, Visit.REACHED, self._stores.clock.wall_ms())
        return row >= 0 and row in reached

    def _check_slot(self, request: pb.ExplainViewerRequest) -> None:
        for field, dimension in (("placement", Dimension.PLACEMENT), ("content_category", Dimension.CONTENT_CATEGORY)):
            if not 0 <= getattr(request, field) < CARDINALITIES[dimension]:
                raise ValueError(f"{field} {getattr(request, field)}: not in 0..{CARDINALITIES[dimension] - 1}")
        for tag in request.content_tags:
            check_tag(tag)

    def _facts_of(self, row: int, request: pb.ExplainViewerRequest) -> ViewerFacts:
        """What is known of the viewer, and what the request says of the slot."""
        codes, mask = [0] * STORED_DIMENSION_COUNT, 0
        if row >= 0:
            codes = self._stores.viewers.attributes[row].tolist()
            mask = int(self._stores.viewers.interest_masks[row])
        _, numbers = self._stores.segments.current.of_rows(np.array([row], np.int64))
        names = self._stores.segments.names
        watched = (tag_segment(check_tag(tag), LEVELS) for tag in request.content_tags)
        return ViewerFacts(
            codes=(*codes, request.content_category, request.placement),
            interests=frozenset(code for code in range(INTEREST_COUNT) if mask >> code & 1),
            segments=frozenset({*(names[number - INTEREST_COUNT] for number in numbers.tolist()), *watched}),
        )

    def _ask_for(self, expression: Expression, creator_id: int) -> None:
        """Have all segments that a campaign of the creator with this audience would have."""
        self._follow({creator_id} | named_creators(expression))
        if wants_similar(expression):
            self._find_similar(creator_id)

    def _follow(self, creator_ids: Iterable[int]) -> None:
        """Have the segments of creators of whom anything is known, as a campaign that names them would."""
        ids = np.array(sorted(creator_ids), np.uint64)
        known = self._stores.viewers.rows_of(ids) >= 0
        for creator_id in ids[known].tolist():
            self._stores.follows.ask(creator_id)
        for creator_id in filter(self._stores.visits.knows, ids.tolist()):
            self._stores.visits.watch(creator_id)
        self._stores.follows.refresh()

    def _find_similar(self, creator_id: int) -> None:
        """Have the segment of who follows similar creators, of a creator of whom anything is known."""
        if self._stores.viewers.rows_of(np.array([creator_id], np.uint64))[0] >= 0:
            self._stores.follows.similar.want(creator_id)
            self._stores.follows.similar.renew_due(self._stores.clock.monotonic_ms())

    def _members_of(self, audience: int) -> Callable[[int], BitMap]:
        """The rows of a creator's audience of a kind."""
        visits, now_ms = self._stores.visits, self._stores.clock.wall_ms()
        if audience == pb.CREATOR_AUDIENCE_FANS:
            return self._stores.follows.fans_of
        if audience == pb.CREATOR_AUDIENCE_VIEWERS:
            return lambda creator_id: visits.members(creator_id, Visit.PLAYED, now_ms)
        if audience == pb.CREATOR_AUDIENCE_LIVE_VISITORS:
            return lambda creator_id: visits.members(creator_id, Visit.LIVE, now_ms)
        raise ValueError(f"audience {audience}: must be 1 (fans), 2 (viewers) or 3 (live visitors)")

    def _compared(self, creator_id: int, crowd: Crowd) -> pb.ComparedCreator:
        return pb.ComparedCreator(
            creator_id=creator_id,
            viewers=self._rounded(crowd.viewers),
            only_here=self._rounded(crowd.only_here),
            reached=self._rounded(crowd.reached),
            own_fans=self._rounded(crowd.own_fans),
        )

    def _rounded(self, viewers: int) -> pb.Crowd:
        low, high = Reach(viewers, 0).as_range(self._stores.viewers.size)
        return pb.Crowd(low=low, high=high)


def asking_creator(principal: Principal, named: int) -> int:
    """Whose campaign is meant: a creator's own, whatever is named; an operator may name any."""
    return named if principal.role == Role.OPERATOR else principal.creator_id
