"""The attribution judge against a brute-force reading of its rule."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from auction.attribution import AttributionJudge, AttributionSettings
from pacing.clocks import MS_PER_DAY, MS_PER_HOUR
from pacing.facts import JUDGEMENT, OUTCOME, OutcomeKind, Verdict

START_MS = 1_800_000_000_000
CAMPAIGN_OF_LEASE = 10


@dataclass(frozen=True)
class Step:
    """One reported row: an impression (by its hold), or what a viewer did, with or without that hold's token."""

    kind: OutcomeKind
    hold: int
    at_ms: int
    token: bool = True
    verdict: Verdict = Verdict.CHARGED
    viewer: int = 1
    creator: int = 1


def rows_of(steps: list[Step], first_sequence: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rows, settled = np.zeros(len(steps), OUTCOME), np.zeros(len(steps), JUDGEMENT)
    for i, step in enumerate(steps):
        row = rows[i]
        row["sequence"] = settled[i]["sequence"] = first_sequence + i
        row["kind"], row["occurred_at_ms"] = step.kind, START_MS + step.at_ms
        row["recorded_at_ms"] = START_MS + 60 * MS_PER_DAY
        row["viewer_id"], row["creator_id"] = step.viewer, step.creator
        if step.token:
            row["has_token"] = 1
            decision = row["decision"]
            decision["viewer_id"], decision["creator_id"] = step.viewer, step.creator
            decision["lease_id"], decision["hold_seq"] = 5, step.hold
            decision["campaign_id"], decision["creative_id"] = CAMPAIGN_OF_LEASE + step.hold, 7
            decision["issued_at_ms"] = START_MS
        if step.kind is OutcomeKind.BILLABLE:
            settled[i]["verdict"] = step.verdict
    rows["recorded_at_ms"] = START_MS  # nothing expires unless a test says so
    return rows, settled


def judge(steps: list[Step], judge: AttributionJudge | None = None) -> list[tuple[Verdict, int]]:
    rows, settled = rows_of(steps)
    judged = (judge or AttributionJudge()).judge(rows, settled)
    assert judged["sequence"].tolist() == rows["sequence"].tolist()
    return [
        (Verdict(v), int(c)) for v, c in zip(judged["verdict"].tolist(), judged["campaign_id"].tolist(), strict=True)
    ]


def billed(hold: int, at_ms: int, **more: int) -> Step:
    return Step(OutcomeKind.BILLABLE, hold, at_ms, **more)  # type: ignore[arg-type]


def follow(at_ms: int, **more: int) -> Step:
    return Step(OutcomeKind.FOLLOW, 0, at_ms, token=False, **more)  # type: ignore[arg-type]


def unfollow(at_ms: int) -> Step:
    return Step(OutcomeKind.UNFOLLOW, 0, at_ms, token=False)


ATTRIBUTED, ORGANIC, REPEAT = Verdict.ATTRIBUTED, Verdict.ORGANIC, Verdict.REPEAT


def test_a_follow_belongs_to_the_last_impression_within_a_day() -> None:
    steps = [billed(1, 0), billed(2, 1_000), billed(3, 3_000), follow(2_000)]
    assert judge(steps)[3] == (ATTRIBUTED, CAMPAIGN_OF_LEASE + 2)
    assert judge([billed(1, 0), follow(MS_PER_DAY)])[1] == (ATTRIBUTED, CAMPAIGN_OF_LEASE + 1)
    assert judge([billed(1, 0), follow(MS_PER_DAY + 1)])[1] == (ORGANIC, 0)
    assert judge([billed(1, 5), follow(4)])[1] == (ORGANIC, 0)


def test_a_click_lengthens_the_window_to_seven_days_after_it() -> None:
    click = Step(OutcomeKind.CLICK, 1, 2 * MS_PER_HOUR)
    last = 2 * MS_PER_HOUR + 7 * MS_PER_DAY
    assert judge([billed(1, 0), click, follow(last)])[2] == (ATTRIBUTED, CAMPAIGN_OF_LEASE + 1)
    assert judge([billed(1, 0), click, follow(last + 1)])[2] == (ORGANIC, 0)
    # The later impression was seen too long ago and not clicked: the earlier, clicked one explains the follow.
    steps = [billed(1, 0), click, billed(2, MS_PER_DAY), follow(3 * MS_PER_DAY)]
    assert judge(steps)[3] == (ATTRIBUTED, CAMPAIGN_OF_LEASE + 1)


def test_only_charged_impressions_of_that_viewer_and_creator_count() -> None:
    for verdict in (Verdict.OVER_DELIVERY, Verdict.DUPLICATE, Verdict.CONFLICT):
        assert judge([Step(OutcomeKind.BILLABLE, 1, 0, verdict=verdict), follow(1)])[1] == (ORGANIC, 0)
    assert judge([billed(1, 0), follow(1, viewer=2)])[1] == (ORGANIC, 0)
    assert judge([billed(1, 0), follow(1, creator=2)])[1] == (ORGANIC, 0)


def test_a_pair_counts_once_in_thirty_days() -> None:
    month = 30 * MS_PER_DAY
    steps = [billed(1, 0), follow(1), billed(2, month - 5), follow(month), billed(3, month), follow(month + 1)]
    assert [verdict for verdict, _ in judge(steps)][1::2] == [ATTRIBUTED, REPEAT, ATTRIBUTED]


def test_an_organic_follow_does_not_use_up_the_pair() -> None:
    assert [v for v, _ in judge([follow(1), billed(1, 2), follow(3)])] == [ORGANIC, Verdict.CHARGED, ATTRIBUTED]


def test_an_unfollow_belongs_to_the_campaign_of_the_follow() -> None:
    steps = [billed(1, 0), follow(10), billed(2, 20), unfollow(30), unfollow(40)]
    assert judge(steps)[3:] == [(ATTRIBUTED, CAMPAIGN_OF_LEASE + 1), (REPEAT, 0)]
    assert judge([billed(1, 0), unfollow(30)])[1] == (ORGANIC, 0)


def test_outcomes_with_a_token_belong_to_their_own_impression() -> None:
    play = Step(OutcomeKind.PLAY, 1, 50)
    assert judge([billed(1, 0), billed(2, 40), play, play])[2:] == [(ATTRIBUTED, CAMPAIGN_OF_LEASE + 1), (REPEAT, 0)]
    assert judge([play])[0] == (ORGANIC, 0)
    late = Step(OutcomeKind.ORDER, 1, 7 * MS_PER_DAY + 1)
    assert judge([billed(1, 0), late])[1] == (ORGANIC, 0)
    # Without one, the last impression that explains it.
    visit = Step(OutcomeKind.LIVE_VISIT, 0, 50, token=False)
    assert judge([billed(1, 0), billed(2, 40), visit])[2] == (ATTRIBUTED, CAMPAIGN_OF_LEASE + 2)


def test_within_a_batch_the_order_of_arrival_does_not_matter() -> None:
    steps = [follow(2 * MS_PER_DAY), Step(OutcomeKind.CLICK, 1, 5), billed(1, 0)]
    assert judge(steps)[0] == (ATTRIBUTED, CAMPAIGN_OF_LEASE + 1)


def test_a_click_that_came_first_counts_once_its_impression_is_there() -> None:
    attribution = AttributionJudge()
    assert judge([Step(OutcomeKind.CLICK, 1, 5)], attribution) == [(ORGANIC, 0)]
    rows, settled = rows_of([billed(1, 0), follow(2 * MS_PER_DAY)], 2)
    assert attribution.judge(rows, settled)["verdict"][1] == ATTRIBUTED


holds = st.integers(1, 5)
instants = st.integers(0, 40).map(lambda step: step * 6 * MS_PER_HOUR)
steps_lists = st.lists(
    st.one_of(
        st.builds(billed, hold=holds, at_ms=instants),
        st.builds(Step, kind=st.sampled_from([OutcomeKind.CLICK, OutcomeKind.PLAY]), hold=holds, at_ms=instants),
        st.builds(follow, at_ms=instants, viewer=st.integers(1, 2)),
        st.builds(unfollow, at_ms=instants),
        st.builds(Step, kind=st.just(OutcomeKind.GIFT), hold=holds, at_ms=instants, token=st.just(False)),
    ),
    max_size=22,
)


def oracle(steps: list[Step]) -> list[tuple[Verdict, int]]:
    """The rule, read out over all that is known at the end, for a single batch."""
    impressions: dict[int, int] = {}
    for step in steps:
        if step.kind is OutcomeKind.BILLABLE:
            impressions.setdefault(step.hold, step.at_ms)
    order = {hold: i for i, hold in enumerate(impressions)}
    verdicts: dict[int, tuple[Verdict, int]] = {}
    counted: dict[tuple[int, int], tuple[int, int, bool]] = {}
    clicks: dict[int, int] = {}
    told: set[tuple[int, OutcomeKind]] = set()

    def last_explaining(step: Step) -> int | None:
        able = [
            hold
            for hold, at_ms in impressions.items()
            if step.viewer == 1
            and at_ms <= step.at_ms
            and (step.at_ms <= at_ms + MS_PER_DAY or 0 <= step.at_ms - clicks.get(hold, 10**15) <= 7 * MS_PER_DAY)
        ]
        return max(able, key=lambda hold: (impressions[hold], order[hold]), default=None)

    for i in sorted(range(len(steps)), key=lambda i: (steps[i].at_ms, i)):
        step, pair = steps[i], (steps[i].viewer, steps[i].creator)
        if step.kind is OutcomeKind.BILLABLE:
            verdicts[i] = (Verdict.CHARGED, 0)
        elif step.kind is OutcomeKind.FOLLOW:
            if pair in counted and step.at_ms - counted[pair][0] < 30 * MS_PER_DAY:
                verdicts[i] = (REPEAT, 0)
            elif (hold := last_explaining(step)) is None:
                verdicts[i] = (ORGANIC, 0)
            else:
                verdicts[i] = (ATTRIBUTED, CAMPAIGN_OF_LEASE + hold)
                counted[pair] = (step.at_ms, hold, False)
        elif step.kind is OutcomeKind.UNFOLLOW:
            if pair not in counted:
                verdicts[i] = (ORGANIC, 0)
            elif counted[pair][2]:
                verdicts[i] = (REPEAT, 0)
            else:
                verdicts[i] = (ATTRIBUTED, CAMPAIGN_OF_LEASE + counted[pair][1])
                counted[pair] = (*counted[pair][:2], True)
        else:
            own = step.hold if step.hold in impressions else None
            if own is not None and step.at_ms > impressions[own] + 7 * MS_PER_DAY:
                own = None
            hold = own if step.token else last_explaining(step)
            if hold is None:
                verdicts[i] = (ORGANIC, 0)
            elif (hold, step.kind) in told:
                verdicts[i] = (REPEAT, 0)
            else:
                verdicts[i] = (ATTRIBUTED, CAMPAIGN_OF_LEASE + hold)
                told.add((hold, step.kind))
                if step.kind is OutcomeKind.CLICK:
                    clicks[hold] = step.at_ms
    return [verdicts[i] for i in range(len(steps))]


@limits(max_examples=300)
@given(steps_lists)
def test_one_batch_is_judged_as_the_rule_reads(steps: list[Step]) -> None:
    assert judge(steps) == oracle(steps)


@limits(max_examples=120)
@given(steps_lists, st.data())
def test_batches_in_order_of_time_are_judged_as_one(steps: list[Step], data: st.DataObject) -> None:
    steps = sorted(steps, key=lambda step: (step.at_ms, step.kind is not OutcomeKind.BILLABLE))
    # A click a moment before its impression needs the batch; all else may be cut anywhere.
    cut = data.draw(st.integers(0, len(steps)))
    awake = AttributionSettings(awake=data.draw(st.sampled_from([1, 65_536])))
    attribution, rest = AttributionJudge(awake), rows_of(steps)
    rows, settled = rest
    parts = [attribution.judge(rows[:cut], settled[:cut])]
    if data.draw(st.booleans()):
        restored = AttributionJudge()
        restored.restore(attribution.state())
        attribution = restored
    elif data.draw(st.booleans()):
        replayed = AttributionJudge()
        replayed.replay(rows[:cut], parts[0])
        attribution = replayed
    parts.append(attribution.judge(rows[cut:], settled[cut:]))
    judged = np.concatenate(parts)
    known_early = {step.hold for step in steps[:cut] if step.kind is OutcomeKind.BILLABLE}
    late = {step.hold for step in steps[cut:] if step.kind is OutcomeKind.BILLABLE} - known_early
    if not any(step.token and step.hold in late for step in steps[:cut]):
        expected = [verdict for verdict, _ in oracle(steps)]
        assert judged["verdict"].tolist() == expected


def ordered(state: dict[str, np.ndarray]) -> dict[str, list[tuple[int, ...]]]:
    """A state, without the order that what came in one batch was remembered in."""
    return {name: sorted(map(tuple, np.atleast_2d(values).tolist())) for name, values in state.items()}


@limits(max_examples=150)
@given(steps_lists, st.lists(st.integers(0, 22), max_size=3), st.lists(st.integers(0, 22), max_size=2))
def test_a_restored_state_is_what_a_replay_leads_to(steps: list[Step], cuts: list[int], saves: list[int]) -> None:
    clicks = {OutcomeKind.CLICK, OutcomeKind.PLAY}  # a bid is told of each kind once: the ledger sees to that
    told, once = set(), []
    for step in steps:
        if step.kind not in clicks | {OutcomeKind.BILLABLE} or (step.kind, step.hold) not in told:
            told.add((step.kind, step.hold))
            once.append(step)
    rows, settled = rows_of(once)
    attribution = AttributionJudge(AttributionSettings(awake=1))
    judged, edges = [], [0, *sorted(min(cut, len(once)) for cut in cuts), len(once)]
    for start, end in pairwise(edges):
        judged.append(attribution.judge(rows[start:end], settled[start:end]))
        if start in saves:
            restored = AttributionJudge()
            restored.restore(attribution.state())
            attribution = restored
    replayed = AttributionJudge()
    replayed.replay(rows, np.concatenate(judged))
    assert ordered(replayed.state()) == ordered(attribution.state())


def test_a_replay_gives_an_early_click_to_its_impression() -> None:
    attribution, replayed = AttributionJudge(), AttributionJudge()
    rows, settled = rows_of([Step(OutcomeKind.CLICK, 1, 5), billed(1, 0)])
    judged = [attribution.judge(rows[k : k + 1], settled[k : k + 1]) for k in range(2)]
    replayed.replay(rows, np.concatenate(judged))
    late, unsettled = rows_of([follow(2 * MS_PER_DAY)], 3)
    assert replayed.judge(late, unsettled)["verdict"].tolist() == [ATTRIBUTED]
    assert attribution.judge(late, unsettled)["verdict"].tolist() == [ATTRIBUTED]


@pytest.mark.parametrize("awake", [1, 7, 100])
def test_memory_is_bounded_and_the_oldest_gives_way(awake: int) -> None:
    attribution = AttributionJudge(AttributionSettings(impressions=10, pairs=3, early_clicks=4, awake=awake))
    for hold in range(1, 60):
        rows, settled = rows_of(
            [
                billed(hold, hold, viewer=hold),
                follow(hold + 1, viewer=hold),
                Step(OutcomeKind.CLICK, 1_000 + hold, hold, viewer=hold),
            ],
            3 * hold,
        )
        assert attribution.judge(rows, settled)["verdict"][1] == ATTRIBUTED
    state = attribution.state()
    assert [len(state[name]) for name in ("impressions", "follows", "early_clicks")] == [10, 3, 4]
    rows, settled = rows_of([follow(70, viewer=2), follow(70, viewer=58), follow(70, viewer=59)], 999)
    assert attribution.judge(rows, settled)["verdict"].tolist() == [ORGANIC, REPEAT, REPEAT]


def test_what_nothing_can_refer_to_any_more_is_dropped() -> None:
    attribution = AttributionJudge()
    judge([billed(1, 0), follow(1)], attribution)
    rows, settled = rows_of([billed(2, 40 * MS_PER_DAY)], 3)
    rows["recorded_at_ms"] += 40 * MS_PER_DAY
    attribution.judge(rows, settled)
    assert len(attribution.state()["impressions"]) == 1
    assert len(attribution.state()["follows"]) == 0


def test_states_and_batches_that_do_not_fit_are_refused() -> None:
    attribution = AttributionJudge()
    rows, settled = rows_of([billed(1, 0)])
    with pytest.raises(ValueError, match="rows 1, settled 0"):
        attribution.judge(rows, settled[:0])
    state = attribution.state()
    state["follows"] = np.zeros((1, 2), np.uint64)
    with pytest.raises(ValueError, match="follows"):
        attribution.restore(state)
    with pytest.raises(ValueError, match="pairs 0"):
        AttributionSettings(pairs=0)
