"""The scoring kernel against its reference: ranking, bids, reasons, frequency caps, supply and features."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as limits

from auction.bid.columns import RANKED_CANDIDATES
from auction.bid.kernels import chosen_features, is_member, tie_rank
from auction.bid.nobid import (
    NBR_BELOW_FLOOR,
    NBR_BID,
    NBR_BLOCKED_CREATOR,
    NBR_FREQUENCY_CAP,
    NBR_NO_CAMPAIGN,
    NBR_NOT_TARGETED,
    NBR_PACED_OUT,
)
from auction.bid.reference import (
    ReferenceCampaign,
    ReferenceRequest,
    ReferenceViewer,
    pair_hash,
    probability_of,
    rising_probability,
    wants,
)
from auction.landscape.reference import best_bid
from auction.predictor.features import FEATURE_COUNT
from auction.predictor.reference import Impression, features_of
from pacing.facts import MOST_EARLIER, AuctionType
from pacing.money import MAX_PRICE_MICROS
from targeting.expressions import EVERYBODY, Interests, ViewerFacts, fans_segment, laotie_segment
from tests.auction.bid.worlds import (
    EARLIER_DISCOUNTS,
    EDGES,
    NOW_MS,
    TIE_SEED,
    Scored,
    World,
    caps_of,
    plain_models,
    score_compiled,
    score_plainly,
    worlds,
)
from tests.targeting.audiences import mask_of

CDF_ERROR = 1e-6  # of the kernel's interpolated normal distribution, relative

pytestmark = pytest.mark.kernels

REQUEST = ReferenceRequest(
    at=AuctionType.SECOND_PRICE,
    hour=20,
    day=20260303,
    now_ms=NOW_MS,
    placement=1,
    content_category=0,
    blocked_creator_ids=frozenset(),
    edges=EDGES,
    win_probs=(0.1, 0.2, 0.4, 0.8, 1.0),
    tie_seed=TIE_SEED,
)


def campaign(campaign_id: int, **changes: object) -> ReferenceCampaign:
    """A campaign that bids 20,000 for everybody, unless told otherwise."""
    fields: dict[str, object] = {
        "campaign_id": campaign_id,
        "creator_id": 100 + campaign_id,
        "creative_id": 1_000 + campaign_id,
        "category": 1,
        "goal_row": 1,
        "alpha_micros": 0.0,
        "base_micros": 20_000.0,
        "frequency_cap": 1,
        "calibration": 1.0,
        "loss_calibration": 0.0,
        "rise_calibration": 0.0,
        "earlier_discounts": EARLIER_DISCOUNTS[1],
        "targeting": EVERYBODY,
        "include_fans": False,
    }
    return ReferenceCampaign(**(fields | changes))  # type: ignore[arg-type]


def viewer(
    viewer_id: int = 5, floor_micros: int = 0, segments: frozenset[str] = frozenset(), **told: float
) -> ReferenceViewer:
    facts = ViewerFacts(codes=(1, 2, 1, 1, 1, 1, 0, 1), interests=frozenset({3}), segments=segments)
    return ReferenceViewer(viewer_id, facts, floor_micros, {int(key[1:]): p for key, p in told.items()})


def world(
    campaigns: list[ReferenceCampaign],
    *viewers: ReferenceViewer,
    seen: tuple[tuple[int, int, str], ...] = (),
    **changes: object,
) -> World:
    return World(tuple(campaigns), viewers or (viewer(),), replace(REQUEST, **changes), seen, 7)  # type: ignore[arg-type]


def ranked_ids(scored: Scored, i: int = 0) -> list[int]:
    return [int(scored.campaigns.campaign_ids[c]) for c in scored.out.out_campaign_idx[i] if c >= 0]


def check_prices(scored: Scored, world_: World, i: int, count: int) -> None:
    """Bids follow from the kernel's own values: floored in second price, best of the landscape in first."""
    floor = world_.viewers[i].floor_micros
    for r in range(count):
        value = min(float(scored.out.out_values_micros[i, r]), float(MAX_PRICE_MICROS))
        bid = int(scored.out.out_bids_micros[i, r])
        assert max(floor, 1) <= bid <= value
        if world_.request.at == AuctionType.SECOND_PRICE:
            assert bid == math.floor(value)
        else:
            best, surplus = best_bid(world_.request.edges, world_.request.win_probs, value, floor)
            reached = [p for e, p in zip(world_.request.edges, world_.request.win_probs, strict=True) if e <= bid]
            mine = (value - bid) * (reached[-1] if reached else 0.0)
            assert bid == best or mine == pytest.approx(surplus, rel=1e-9)


@limits(max_examples=80, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(worlds())
@example(world([]))
@example(World((campaign(1),), (), REQUEST, (), 1))
@example(world([campaign(k) for k in range(1, 12)], seen=((5, 103, "shown"),)))
def test_kernel_is_the_reference(world_: World) -> None:
    scored, plain = score_compiled(world_), score_plainly(world_)
    for i, (candidates, reason) in enumerate(plain):
        ids = ranked_ids(scored, i)
        assert ids == [candidate.campaign_id for candidate in candidates]
        assert scored.out.out_nbr[i] == reason
        count = len(ids)
        for name, column in (
            ("probability", "out_probabilities"), ("alpha_micros", "out_alphas_micros"),
            ("value_micros", "out_values_micros"),
        ):  # fmt: skip
            expected = [getattr(candidate, name) for candidate in candidates]
            assert getattr(scored.out, column)[i, :count].tolist() == pytest.approx(expected, rel=CDF_ERROR, abs=1e-12)
        told = world_.viewers[i].predictions
        assert scored.out.out_caller[i, :count].tolist() == [int(campaign_id in told) for campaign_id in ids]
        seen = [int(scored.out.out_earlier[i, r]) for r in range(count)]
        assert seen == [candidate.earlier for candidate in candidates]
        bids = scored.out.out_bids_micros[i]
        for bid, candidate in zip(bids[:count].tolist(), candidates, strict=True):
            if world_.request.at == AuctionType.SECOND_PRICE:
                assert abs(bid - candidate.bid_micros) <= 1 + CDF_ERROR * candidate.bid_micros
        assert bids[count:].tolist() == [0] * (RANKED_CANDIDATES - count)
        check_prices(scored, world_, i, count)


@limits(max_examples=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(worlds(max_campaigns=6, max_viewers=4))
def test_supply_counts_whom_each_campaign_could_bid_for(world_: World) -> None:
    scored, models = score_compiled(world_), plain_models(world_)
    for c, one in enumerate(world_.campaigns):
        wanted = [
            v for v in world_.viewers if wants(one, v) and one.creator_id not in world_.request.blocked_creator_ids
        ]
        assert scored.out.out_eligible[c] == len(wanted)
        expected = math.fsum(probability_of(one, v, world_.request, models) for v in wanted)
        assert scored.out.out_expected[c] == pytest.approx(expected, rel=CDF_ERROR, abs=1e-12)
        if len(scored.out.out_rises):
            chances = (
                (probability_of(*of), rising_probability(*of))
                for of in ((one, v, world_.request, models) for v in wanted)
            )
            rises = math.fsum(p * h for p, h in chances)
            assert scored.out.out_rises[c] == pytest.approx(rises, rel=2 * CDF_ERROR + 1e-6, abs=1e-12)


@limits(max_examples=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(worlds(max_campaigns=5, max_viewers=3))
def test_features_of_the_chosen_are_those_of_their_probability(world_: World) -> None:
    scored = score_compiled(world_)
    viewer_idx, rank = np.nonzero(scored.out.out_campaign_idx >= 0)
    campaign_idx = scored.out.out_campaign_idx[viewer_idx, rank]
    features = np.zeros((len(viewer_idx), FEATURE_COUNT), np.uint32)
    chosen_features(scored.campaigns, scored.model, scored.batch, viewer_idx, campaign_idx, features)
    for row, (i, c) in enumerate(zip(viewer_idx.tolist(), campaign_idx.tolist(), strict=True)):
        seen, one = world_.viewers[i], world_.campaigns[c]
        impression = Impression(
            region=seen.facts.codes[0],
            age_band=seen.facts.codes[1],
            gender=seen.facts.codes[2],
            hour=world_.request.hour,
            placement=world_.request.placement,
            content_category=world_.request.content_category,
            interest_mask=mask_of(seen.facts),
            campaign_id=one.campaign_id,
            creator_id=one.creator_id,
            creative_id=one.creative_id,
            category=one.category,
            laotie=laotie_segment(one.creator_id) in seen.facts.segments,
        )
        assert features[row].tolist() == features_of(impression)


def test_no_campaign_and_no_viewer() -> None:
    assert score_compiled(world([])).out.out_nbr.tolist() == [NBR_NO_CAMPAIGN]
    assert len(score_compiled(World((campaign(1),), (), REQUEST, (), 1)).out.out_nbr) == 0


@pytest.mark.parametrize("at", list(AuctionType))
def test_floors_are_inclusive(at: AuctionType) -> None:
    scored = score_compiled(world([campaign(1)], viewer(1, 20_000), viewer(2, 20_001), at=at))
    assert ranked_ids(scored, 0) == [1] and ranked_ids(scored, 1) == []
    assert scored.out.out_bids_micros[0, 0] == 20_000
    assert scored.out.out_nbr.tolist() == [NBR_BID, NBR_BELOW_FLOOR]


def test_one_candidate_per_creator_its_best() -> None:
    same = [campaign(k, creator_id=9, base_micros=1_000.0 * k) for k in (1, 2, 3)]
    scored = score_compiled(world([*same, campaign(4, base_micros=1_500.0)]))
    assert ranked_ids(scored) == [3, 4]


def test_more_candidates_than_ranks_keeps_the_best() -> None:
    worths = [5, 1, 9, 3, 7, 2, 8, 6, 4, 10]
    scored = score_compiled(world([campaign(k, base_micros=1_000.0 * w) for k, w in enumerate(worths, 1)]))
    kept = sorted(range(1, 11), key=lambda k: -worths[k - 1])[:RANKED_CANDIDATES]
    assert ranked_ids(scored) == kept


def test_ties_fall_by_a_seeded_hash_and_not_by_position() -> None:
    tied = [campaign(k) for k in (1, 2, 3)]
    viewers = [viewer(k) for k in range(1, 400)]
    firsts = [ranked_ids(score, i)[0] for score in [score_compiled(world(tied, *viewers))] for i in range(399)]
    shares = [firsts.count(k) / len(firsts) for k in (1, 2, 3)]
    assert all(0.25 < share < 0.42 for share in shares)
    other_seed = score_compiled(world(tied, *viewers, tie_seed=1))
    assert firsts != [ranked_ids(other_seed, i)[0] for i in range(399)]
    again = score_compiled(world(tied, *viewers))
    assert firsts == [ranked_ids(again, i)[0] for i in range(399)]


def test_tie_rank_is_the_references_hash() -> None:
    assert int(tie_rank(np.uint64(5), np.uint64(9), np.uint64(TIE_SEED))) == pair_hash(5 ^ TIE_SEED, 9)


def test_reasons_name_what_stopped_the_candidate_that_came_furthest() -> None:
    blocked, paced = campaign(1, creator_id=1), campaign(2, base_micros=0.0)
    below, capped = campaign(3, base_micros=500.0), campaign(4, base_micros=30_000.0)
    strange = campaign(5, targeting=Interests((60,)))
    changes = {"blocked_creator_ids": frozenset({1}), "seen": ((5, 104, "shown"),)}
    floor = viewer(5, 1_000)
    reasons = [
        int(score_compiled(world(chosen, floor, **changes)).out.out_nbr[0])
        for chosen in ([strange], [strange, blocked], [blocked, paced], [paced, below], [blocked, paced, below, capped])
    ]
    assert reasons == [NBR_NOT_TARGETED, NBR_BLOCKED_CREATOR, NBR_PACED_OUT, NBR_BELOW_FLOOR, NBR_FREQUENCY_CAP]


def test_values_that_no_price_suits_came_further_than_a_frequency_cap() -> None:
    # Seven values under the lowest price ever seen, one of them capped, in first price: no bid for any.
    campaigns = [campaign(k, base_micros=400.0) for k in range(1, 7)] + [campaign(7, base_micros=300.0)]
    scored = score_compiled(world(campaigns, seen=((5, 107, "shown"),), at=AuctionType.FIRST_PRICE))
    assert scored.out.out_nbr.tolist() == [NBR_BELOW_FLOOR]
    assert score_plainly(world(campaigns, seen=((5, 107, "shown"),), at=AuctionType.FIRST_PRICE)) == [
        ([], NBR_BELOW_FLOOR)
    ]


def test_fans_are_left_out_unless_wanted() -> None:
    fan = viewer(5, segments=frozenset({fans_segment(101)}))
    assert ranked_ids(score_compiled(world([campaign(1)], fan))) == []
    assert ranked_ids(score_compiled(world([campaign(1, include_fans=True)], fan))) == [1]


def test_the_callers_prediction_replaces_the_models_and_may_be_zero() -> None:
    campaigns = [campaign(k, alpha_micros=1_000_000.0, base_micros=0.0) for k in (1, 2)]
    scored = score_compiled(world(campaigns, viewer(5, c1=0.5, c2=0.0)))
    assert ranked_ids(scored) == [1]
    assert scored.out.out_bids_micros[0, 0] == 500_000 and scored.out.out_caller[0, 0] == 1


def certain(campaign_id: int, alpha_micros: float) -> ReferenceCampaign:
    """A campaign whose event is certain, but for the discount."""
    return campaign(campaign_id, alpha_micros=alpha_micros, base_micros=0.0, calibration=1e9, frequency_cap=9)


def test_who_saw_the_creator_today_is_worth_less_and_may_fall_behind() -> None:
    campaigns = [certain(1, 1e6), certain(2, 0.9e6)]
    fresh = score_compiled(world(campaigns))
    again = score_compiled(world(campaigns, seen=((5, 101, "shown"),)))
    assert ranked_ids(fresh) == [1, 2] and ranked_ids(again) == [2, 1]
    assert again.out.out_earlier[0, :2].tolist() == [0, 1]
    assert again.out.out_probabilities[0, :2].tolist() == pytest.approx(EARLIER_DISCOUNTS[1][:2], rel=1e-7)
    often = score_compiled(world(campaigns[:1], seen=((5, 101, "shown"),) * 8))
    assert often.out.out_earlier[0, 0] == MOST_EARLIER


def test_what_a_discount_brings_under_the_floor_is_no_bid() -> None:
    one = certain(1, 1e6)
    floor = round(1e6 * (EARLIER_DISCOUNTS[1][0] + EARLIER_DISCOUNTS[1][1]) / 2)
    assert ranked_ids(score_compiled(world([one], viewer(5, floor)))) == [1]
    seen = score_compiled(world([one], viewer(5, floor), seen=((5, 101, "shown"),)))
    assert seen.out.out_nbr.tolist() == [NBR_BELOW_FLOOR]
    told = score_compiled(world([one], viewer(5, floor, c1=1.0), seen=((5, 101, "shown"),)))
    assert ranked_ids(told) == [1] and told.out.out_probabilities[0, 0] == 1.0


def test_a_bid_never_passes_the_highest_amount() -> None:
    scored = score_compiled(world([campaign(1, base_micros=1e18)], viewer(5, MAX_PRICE_MICROS)))
    assert scored.out.out_bids_micros[0, 0] == MAX_PRICE_MICROS


def test_undecided_bids_count_towards_the_cap_until_they_lapse() -> None:
    offered = ((5, 101, "offered"),)
    capped = score_compiled(world([campaign(1)], seen=offered))
    assert capped.out.out_nbr.tolist() == [NBR_FREQUENCY_CAP]
    lapsed = score_compiled(world([campaign(1)], seen=offered, now_ms=NOW_MS + 2_000))
    assert ranked_ids(lapsed) == [1]
    decided = score_compiled(world([campaign(1)], seen=(*offered, (5, 101, "lost"))))
    assert ranked_ids(decided) == [1]


def test_membership_is_found_among_ascending_segments() -> None:
    segments = np.array([64, 70, 2**32 - 1], np.uint32)
    assert [is_member(segments, s) for s in (64, 70, 2**32 - 1)] == [1, 1, 1]
    assert [is_member(segments, s) for s in (-1, 0, 65, 71)] == [0, 0, 0, 0]
    assert is_member(np.zeros(0, np.uint32), 64) == 0


def test_caps_of_both_kinds_agree_on_the_past() -> None:
    past = ((5, 101, "offered"), (5, 101, "shown"), (5, 101, "offered"), (6, 101, "lost"))
    compiled, plain = caps_of(world([campaign(1, frequency_cap=3)], seen=past))
    assert plain.times_seen(5, 101, 20260303, NOW_MS) == 2
    assert int(compiled.table.shown.sum()) == 1 and int(compiled.table.offered.sum()) == 1


def keeping(campaign_id: int, **changes: object) -> ReferenceCampaign:
    """A campaign that wants kept fans."""
    wanted = {"alpha_micros": 3e6, "base_micros": 0.0, "calibration": 1.1, "loss_calibration": 0.9, "frequency_cap": 9}
    return campaign(campaign_id, **(wanted | changes))


@limits(max_examples=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(worlds(max_campaigns=6, max_viewers=4))
def test_who_values_no_tier_bids_to_the_micro_as_if_nobody_did(world_: World) -> None:
    plain = tuple(replace(one, rise_calibration=0.0, uplift=(1.0, 0.0)) for one in world_.campaigns)
    others = tuple(one for one in plain if one.campaign_id != 1)
    silent = keeping(1, creator_id=9, alpha_micros=0.0)
    # The columns of one campaign that asks send the kernel the other way.
    asking = replace(silent, rise_calibration=1.0, uplift=(0.5, 2.0))
    without, beside = (score_compiled(replace(world_, campaigns=(*others, one))) for one in (silent, asking))
    for name in ("out_bids_micros", "out_campaign_idx", "out_nbr"):
        np.testing.assert_array_equal(getattr(beside.out, name), getattr(without.out, name), err_msg=name)
    chosen = without.out.out_campaign_idx >= 0
    for name in ("out_alphas_micros", "out_values_micros", "out_probabilities"):
        np.testing.assert_array_equal(
            getattr(beside.out, name)[chosen], getattr(without.out, name)[chosen], err_msg=name
        )
    alphas = without.campaigns.alpha_micros[without.out.out_campaign_idx[chosen]]
    np.testing.assert_array_equal(without.out.out_alphas_micros[chosen], alphas)


def test_a_worth_is_what_the_decision_records_to_the_bit() -> None:
    asking = [keeping(k, rise_calibration=0.7 * k, uplift=(0.6, 1.1)) for k in (1, 2, 3)]
    viewers = [viewer(k, c2=0.01 * k) for k in range(1, 9)]
    scored = score_compiled(world(asking, *viewers, seen=((5, 101, "shown"),)))
    chosen = scored.out.out_campaign_idx >= 0
    alphas, p = scored.out.out_alphas_micros[chosen], scored.out.out_probabilities[chosen]
    assert chosen.sum() == 24 and len(np.unique(alphas)) == 3
    recorded = alphas * p.astype(np.float32).astype(np.float64)
    np.testing.assert_array_equal(recorded, scored.out.out_values_micros[chosen])
