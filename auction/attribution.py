"""Whose fan? The judge that says which billed impression explains what a viewer did.

A follow belongs to the last charged impression of that creator within seven days of a click on it or one day of
seeing it; else it is organic. A creator-viewer pair counts once in thirty days. The time of the outcome decides, not
of its arrival.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from auction.remembered import Key, Remembered, Row, key_columns, signed
from pacing.clocks import MS_PER_DAY
from pacing.facts import OutcomeKind, Verdict

VIEW_WINDOW_MS = MS_PER_DAY
CLICK_WINDOW_MS = 7 * MS_PER_DAY
PAIR_WINDOW_MS = 30 * MS_PER_DAY
LATENESS_MS = MS_PER_DAY
"""How long after its window an outcome may still arrive and find what explains it."""

_CLICK, _FOLLOW, _UNFOLLOW = int(OutcomeKind.CLICK), int(OutcomeKind.FOLLOW), int(OutcomeKind.UNFOLLOW)
_ATTRIBUTED, _ORGANIC, _REPEAT = int(Verdict.ATTRIBUTED), int(Verdict.ORGANIC), int(Verdict.REPEAT)
_NEVER = -1
_BY_KEY, _BY_PAIR = 0, 1


@dataclass(frozen=True, slots=True)
class AttributionSettings:
    """How much is remembered at most; the oldest gives way.

    Attributes:
        impressions: charged impressions.
        pairs: creator-viewer pairs whose follow was counted.
        early_clicks: clicks that came before their impression was charged.
        awake: of each of these, how many are objects; beyond, all are laid to rest in rows of numbers.
    """

    impressions: int = 400_000
    pairs: int = 1_000_000
    early_clicks: int = 50_000
    awake: int = 65_536

    def __post_init__(self) -> None:
        for name in ("impressions", "pairs", "early_clicks", "awake"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)}: not positive")


class Target(NamedTuple):
    """The impression that explains an outcome, as a judgement names it."""

    campaign_id: int
    creative_id: int
    lease_id: int
    hold_seq: int
    billed_sequence: int


class _Impression:
    """One charged impression; ordered by when it was seen."""

    __slots__ = ("at_ms", "click_at_ms", "counted_kinds", "creator_id", "target", "viewer_id")

    def __init__(self, at_ms: int, viewer_id: int, creator_id: int, target: Target) -> None:
        self.at_ms = at_ms
        self.viewer_id = viewer_id
        self.creator_id = creator_id
        self.target = target
        self.click_at_ms = _NEVER
        self.counted_kinds = 0  # bit kind: counted for this impression

    def __lt__(self, other: _Impression) -> bool:
        return (self.at_ms, self.target.billed_sequence) < (other.at_ms, other.target.billed_sequence)

    @classmethod
    def from_row(cls, row: Row) -> _Impression:
        """The impression that `row` was made of."""
        impression = cls(signed(row[5]), row[6], row[7], Target(*row[:5]))
        impression.click_at_ms, impression.counted_kinds = signed(row[8]), row[9]
        return impression

    def row(self) -> Row:
        """Its numbers."""
        seen = (self.at_ms, self.viewer_id, self.creator_id)
        return (*self.target, *seen, self.click_at_ms, self.counted_kinds)

    @property
    def key(self) -> Key:
        """Which bid it was."""
        return self.target.lease_id, self.target.hold_seq

    @property
    def pair(self) -> Key:
        """Who saw whom."""
        return self.viewer_id, self.creator_id

    @property
    def expires_at_ms(self) -> int:
        """When nothing that arrives can refer to it any more."""
        return max(self.at_ms, self.click_at_ms) + CLICK_WINDOW_MS + LATENESS_MS

    def may_be_clicked(self, at_ms: int) -> bool:
        """Whether something done at this instant still belongs to it."""
        return at_ms <= self.at_ms + CLICK_WINDOW_MS

    def explains(self, at_ms: int) -> bool:
        """Whether an outcome of this instant is within a day of the view or seven of the click."""
        clicked = self.click_at_ms != _NEVER and 0 <= at_ms - self.click_at_ms <= CLICK_WINDOW_MS
        return 0 <= at_ms - self.at_ms <= VIEW_WINDOW_MS or (clicked and at_ms >= self.at_ms)


class _Follow:
    """The counted follow of a pair, and whether it was undone."""

    __slots__ = ("at_ms", "pair", "target", "undone")

    def __init__(self, pair: Key, at_ms: int, target: Target, undone: bool = False) -> None:
        self.pair = pair
        self.at_ms = at_ms
        self.target = target
        self.undone = undone

    @classmethod
    def from_row(cls, row: Row) -> _Follow:
        """The follow that `row` was made of."""
        return cls((row[0], row[1]), signed(row[7]), Target(*row[2:7]), bool(row[8]))

    def row(self) -> Row:
        """Its numbers."""
        return (*self.pair, *self.target, self.at_ms, int(self.undone))


class _EarlyClick(NamedTuple):
    """A click on an impression that is not charged yet."""

    lease_id: int
    hold_seq: int
    at_ms: int


class _Event(NamedTuple):
    """What a viewer did; ordered by when, then as the ledger has it."""

    at_ms: int
    sequence: int
    position: int
    kind: int
    has_token: int
    viewer_id: int
    creator_id: int
    lease_id: int
    hold_seq: int
    issued_at_ms: int

    @property
    def is_after_bid(self) -> bool:
        """Whether it was done after its token's bid was made."""
        return self.issued_at_ms <= self.at_ms


class AttributionJudge:
    """Judges what viewers did. One thread at a time.

    The impressions of a batch are known before its viewers' outcomes are judged, and those are judged by their own
    time, so within a batch the order of arrival does not matter. Verdicts are final: a follow whose impression is
    reported in a later batch is organic (a click is kept, and counts once its impression is there).

    Memory is bounded by the settings. After a restart, either `restore` a state, or `replay` the last 38 days of
    judged rows: both lead to the same, but for the order of what came in one batch.
    """

    def __init__(self, settings: AttributionSettings | None = None) -> None:
        self.settings = settings or AttributionSettings()
        self._impressions = Remembered(10, _Impression.row, _Impression.from_row, lookups=((2, 3), (6, 7)))
        self._seen: dict[Key, list[_Impression]] = {}  # those awake, by viewer and creator, earliest first
        self._follows = Remembered(9, _Follow.row, _Follow.from_row)
        self._early_clicks = Remembered(3, _row_of_click, _click_of_row)
        self._now_ms = 0

    def judge(self, rows: np.ndarray, settled: np.ndarray) -> np.ndarray:
        """Judge OUTCOME[n]; `settled` (JUDGEMENT[n]) has the verdicts on its billable rows.

        Outcomes with a token, but for follows and unfollows, belong to their own impression if it was charged and is
        at most seven days old; all others to the last charged impression of that creator that the viewer saw and
        that explains them. An unfollow belongs to the campaign that the pair's counted follow belongs to. Any kind
        counts once per impression.

        Returns:
            JUDGEMENT[n]: `settled`, with the outcomes of viewers filled in.

        Raises:
            ValueError: the two differ in length.
        """
        if len(rows) != len(settled):
            raise ValueError(f"rows {len(rows)}, settled {len(settled)}: not as many")
        judged = settled.copy()
        judged["sequence"] = rows["sequence"]
        self._wake(rows, settled)
        self._add_charged(rows, settled)
        events = sorted(_events_of(rows))
        verdicts = [self._judge_event(event) for event in events]
        for event, (verdict, target) in zip(events, verdicts, strict=True):
            judged[event.position] = (event.sequence, verdict, 0, *(target or _NO_TARGET))
        self._forget()
        return judged

    def replay(self, rows: np.ndarray, judgements: np.ndarray) -> None:
        """Take in OUTCOME[n] that were judged before, with those judgements (JUDGEMENT[n]) as they stand.

        Raises:
            ValueError: the two differ in length.
        """
        if len(rows) != len(judgements):
            raise ValueError(f"rows {len(rows)}, judgements {len(judgements)}: not as many")
        self._wake(rows, judgements)
        self._add_charged(rows, judgements)
        for event in sorted(_events_of(rows)):
            word = judgements[event.position]
            key = (int(word["lease_id"]), int(word["hold_seq"]))
            if word["verdict"] == _ATTRIBUTED:
                target = Target(int(word["campaign_id"]), int(word["creative_id"]), *key, int(word["billed_sequence"]))
                self._record(event, target)
            elif word["verdict"] == _ORGANIC and event.kind == _CLICK and event.has_token:
                self._replay_early_click(event)
        self._forget()

    def _replay_early_click(self, event: _Event) -> None:
        """Give a click to the impression that came behind it, in a later batch than this one was when it was judged."""
        impression = self._impressions.get((event.lease_id, event.hold_seq))
        came_later = impression is not None and impression.target.billed_sequence > event.sequence
        if impression is not None and came_later and event.is_after_bid and impression.may_be_clicked(event.at_ms):
            impression.click_at_ms = event.at_ms
        else:
            self._keep_early_click(event)

    def _wake(self, rows: np.ndarray, judgements: np.ndarray) -> None:
        """Wake everything that OUTCOME[n] and JUDGEMENT[n] may refer to."""
        decisions, has_token = rows["decision"], rows["has_token"] != 0
        bids = key_columns(decisions["lease_id"], decisions["hold_seq"])
        explained = key_columns(judgements["lease_id"], judgements["hold_seq"])
        pairs = key_columns(
            np.where(has_token, decisions["viewer_id"], rows["viewer_id"]),
            np.where(has_token, decisions["creator_id"], rows["creator_id"]),
        )[rows["kind"] >= _CLICK]
        for impression in (
            *self._impressions.wake(np.concatenate([bids, explained]), _BY_KEY),
            *self._impressions.wake(pairs, _BY_PAIR),
        ):
            insort(self._seen.setdefault(impression.pair, []), impression)
        self._follows.wake(pairs)
        self._early_clicks.wake(bids)

    def _add_charged(self, rows: np.ndarray, settled: np.ndarray) -> None:
        charged = rows[(rows["kind"] == OutcomeKind.BILLABLE) & (settled["verdict"] == Verdict.CHARGED)]
        decisions = charged["decision"]
        for sequence, at_ms, viewer_id, creator_id, campaign_id, creative_id, lease_id, hold_seq in zip(
            charged["sequence"].tolist(),
            charged["occurred_at_ms"].tolist(),
            *(decisions[name].tolist() for name in ("viewer_id", "creator_id", "campaign_id", "creative_id")),
            *(decisions[name].tolist() for name in ("lease_id", "hold_seq")),
            strict=True,
        ):
            if self._impressions.get((lease_id, hold_seq)) is not None:
                continue
            target = Target(campaign_id, creative_id, lease_id, hold_seq, sequence)
            impression = _Impression(at_ms, viewer_id, creator_id, target)
            self._impressions.add(impression.key, impression)
            insort(self._seen.setdefault(impression.pair, []), impression)
            click = self._early_clicks.get(impression.key)
            if click is not None and impression.may_be_clicked(click.at_ms):
                self._early_clicks.pop(impression.key)
                impression.click_at_ms = click.at_ms
        if len(rows):
            self._now_ms = max(self._now_ms, int(rows["recorded_at_ms"].max()))

    def _judge_event(self, event: _Event) -> tuple[int, Target | None]:
        if event.kind == _UNFOLLOW:
            verdict, target = self._judge_unfollow(event)
        elif event.kind == _FOLLOW:
            verdict, target = self._judge_follow(event)
        else:
            verdict, target = self._judge_other(event)
        if target is not None:
            self._record(event, target)
        return verdict, target

    def _judge_follow(self, event: _Event) -> tuple[int, Target | None]:
        counted = self._follows.get((event.viewer_id, event.creator_id))
        if counted is not None and abs(event.at_ms - counted.at_ms) < PAIR_WINDOW_MS:
            return _REPEAT, None
        impression = self._last_explaining(event)
        return (_ATTRIBUTED, impression.target) if impression is not None else (_ORGANIC, None)

    def _judge_unfollow(self, event: _Event) -> tuple[int, Target | None]:
        counted = self._follows.get((event.viewer_id, event.creator_id))
        if counted is None or not 0 <= event.at_ms - counted.at_ms <= PAIR_WINDOW_MS:
            return _ORGANIC, None
        return (_REPEAT, None) if counted.undone else (_ATTRIBUTED, counted.target)

    def _judge_other(self, event: _Event) -> tuple[int, Target | None]:
        impression = self._of_token(event) if event.has_token else self._last_explaining(event)
        if impression is None:
            if event.kind == _CLICK and event.has_token:
                self._keep_early_click(event)
            return _ORGANIC, None
        if impression.counted_kinds >> event.kind & 1:
            return _REPEAT, None
        return _ATTRIBUTED, impression.target

    def _of_token(self, event: _Event) -> _Impression | None:
        impression = self._impressions.get((event.lease_id, event.hold_seq))
        if impression is None or not event.is_after_bid or not impression.may_be_clicked(event.at_ms):
            return None
        return impression

    def _last_explaining(self, event: _Event) -> _Impression | None:
        for impression in reversed(self._seen.get((event.viewer_id, event.creator_id), ())):
            if impression.explains(event.at_ms):
                return impression
        return None

    def _keep_early_click(self, event: _Event) -> None:
        key = event.lease_id, event.hold_seq
        if event.is_after_bid and self._early_clicks.get(key) is None:
            self._early_clicks.add(key, _EarlyClick(*key, event.at_ms))

    def _record(self, event: _Event, target: Target) -> None:
        """Remember an attributed outcome."""
        pair = event.viewer_id, event.creator_id
        if event.kind == _UNFOLLOW:
            counted = self._follows.get(pair)
            if counted is not None:
                counted.undone = True
            return
        if event.kind == _FOLLOW:
            self._follows.pop(pair)
            self._follows.add(pair, _Follow(pair, event.at_ms, target))
        impression = self._impressions.get((target.lease_id, target.hold_seq))
        if impression is not None:
            impression.counted_kinds |= 1 << event.kind
            if event.kind == _CLICK:
                impression.click_at_ms = event.at_ms

    def _forget(self) -> None:
        """Drop what nothing can refer to any more, and the oldest beyond the bounds."""
        for impression in self._impressions.forget(self.settings.impressions, self._impression_expired):
            of_pair = self._seen[impression.pair]
            of_pair.remove(impression)
            if not of_pair:
                del self._seen[impression.pair]
        for _ in self._follows.forget(self.settings.pairs, self._follow_expired):
            pass
        for _ in self._early_clicks.forget(self.settings.early_clicks, self._click_expired):
            pass
        self._rest(self.settings.awake)

    def _rest(self, most_awake: int) -> None:
        if self._impressions.awake > most_awake:
            self._impressions.rest()
            self._seen.clear()
        for remembered in (self._follows, self._early_clicks):
            if remembered.awake > most_awake:
                remembered.rest()

    def _impression_expired(self, impression: _Impression) -> bool:
        return impression.expires_at_ms < self._now_ms

    def _follow_expired(self, follow: _Follow) -> bool:
        return follow.at_ms + PAIR_WINDOW_MS + CLICK_WINDOW_MS + LATENESS_MS < self._now_ms

    def _click_expired(self, click: _EarlyClick) -> bool:
        return click.at_ms + LATENESS_MS < self._now_ms

    def state(self) -> dict[str, np.ndarray]:
        """Everything remembered, as arrays; it is laid to rest."""
        self._rest(0)
        return {
            "impressions": self._impressions.rows(),
            "follows": self._follows.rows(),
            "early_clicks": self._early_clicks.rows(),
            "now_ms": np.array(self._now_ms),
        }

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Become what `state` was taken from.

        Raises:
            ValueError: shapes do not fit; nothing is changed then.
        """
        for name, width in (("impressions", 10), ("follows", 9), ("early_clicks", 3)):
            rows = state[name]
            if rows.dtype != np.uint64 or rows.ndim != 2 or rows.shape[1] != width:
                raise ValueError(f"attribution: {name} {rows.dtype} {rows.shape}, not uint64 (n, {width})")
        self._impressions.restore(state["impressions"])
        self._follows.restore(state["follows"])
        self._early_clicks.restore(state["early_clicks"])
        self._seen.clear()
        self._now_ms = int(state["now_ms"])


_NO_TARGET = Target(0, 0, 0, 0, 0)


def _row_of_click(click: _EarlyClick) -> Row:
    return click


def _click_of_row(row: Row) -> _EarlyClick:
    return _EarlyClick(row[0], row[1], signed(row[2]))


def _events_of(rows: np.ndarray) -> Iterator[_Event]:
    """What viewers did in OUTCOME[n]; the token says who, where there is one."""
    positions = np.flatnonzero(rows["kind"] >= _CLICK)
    chosen = rows[positions]
    decisions, has_token = chosen["decision"], chosen["has_token"] != 0
    yield from map(
        _Event,
        chosen["occurred_at_ms"].tolist(),
        chosen["sequence"].tolist(),
        positions.tolist(),
        chosen["kind"].tolist(),
        has_token.tolist(),
        np.where(has_token, decisions["viewer_id"], chosen["viewer_id"]).tolist(),
        np.where(has_token, decisions["creator_id"], chosen["creator_id"]).tolist(),
        decisions["lease_id"].tolist(),
        decisions["hold_seq"].tolist(),
        decisions["issued_at_ms"].tolist(),
    )
