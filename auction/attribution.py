"""Whose fan? The judge that says which billed impression explains what a viewer did.

A follow belongs to the last charged impression of that creator within seven days of a click on it or one day of
seeing it; else it is organic. A creator-viewer pair counts once in thirty days. The time of the outcome decides, not
of its arrival.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np

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

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class AttributionSettings:
    """How much is remembered at most; the oldest gives way.

    Attributes:
        impressions: charged impressions.
        pairs: creator-viewer pairs whose follow was counted.
        early_clicks: clicks that came before their impression was charged.
    """

    impressions: int = 400_000
    pairs: int = 1_000_000
    early_clicks: int = 50_000

    def __post_init__(self) -> None:
        for name in ("impressions", "pairs", "early_clicks"):
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

    @property
    def key(self) -> tuple[int, int]:
        """Which bid it was."""
        return self.target.lease_id, self.target.hold_seq

    @property
    def pair(self) -> tuple[int, int]:
        """Who saw whom."""
        return self.viewer_id, self.creator_id

    @property
    def expires_at_ms(self) -> int:
        """When nothing that arrives can refer to it any more."""
        return max(self.at_ms, self.click_at_ms) + CLICK_WINDOW_MS + LATENESS_MS

    def explains(self, at_ms: int) -> bool:
        """Whether an outcome of this instant is within a day of the view or seven of the click."""
        clicked = self.click_at_ms != _NEVER and 0 <= at_ms - self.click_at_ms <= CLICK_WINDOW_MS
        return 0 <= at_ms - self.at_ms <= VIEW_WINDOW_MS or (clicked and at_ms >= self.at_ms)


class _Follow:
    """The counted follow of a pair, and whether it was undone."""

    __slots__ = ("at_ms", "target", "undone")

    def __init__(self, at_ms: int, target: Target, undone: bool = False) -> None:
        self.at_ms = at_ms
        self.target = target
        self.undone = undone


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


class AttributionJudge:
    """Judges what viewers did. One thread at a time.

    The impressions of a batch are known before its viewers' outcomes are judged, and those are judged by their own
    time, so within a batch the order of arrival does not matter. Verdicts are final: a follow whose impression is
    reported in a later batch is organic (a click is kept, and counts once its impression is there).

    Memory is bounded by the settings. After a restart, either `restore` a state, or `replay` the last 38 days of
    judged rows.
    """

    def __init__(self, settings: AttributionSettings | None = None) -> None:
        self.settings = settings or AttributionSettings()
        self._impressions: dict[tuple[int, int], _Impression] = {}
        self._seen: dict[tuple[int, int], list[_Impression]] = {}  # by viewer and creator, earliest first
        self._follows: dict[tuple[int, int], _Follow] = {}
        self._early_clicks: dict[tuple[int, int], int] = {}
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
        self._add_charged(rows, judgements)
        for event in sorted(_events_of(rows)):
            word = judgements[event.position]
            key = (int(word["lease_id"]), int(word["hold_seq"]))
            if word["verdict"] == _ATTRIBUTED:
                target = Target(int(word["campaign_id"]), int(word["creative_id"]), *key, int(word["billed_sequence"]))
                self._record(event, target)
            elif word["verdict"] == _ORGANIC and event.kind == _CLICK and event.has_token:
                self._keep_early_click(event)
        self._forget()

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
            if (lease_id, hold_seq) in self._impressions:
                continue
            target = Target(campaign_id, creative_id, lease_id, hold_seq, sequence)
            impression = _Impression(at_ms, viewer_id, creator_id, target)
            self._admit(impression)
            click_at_ms = self._early_clicks.pop(impression.key, _NEVER)
            if click_at_ms != _NEVER:
                impression.click_at_ms = click_at_ms
        if len(rows):
            self._now_ms = max(self._now_ms, int(rows["recorded_at_ms"].max()))

    def _admit(self, impression: _Impression) -> None:
        self._impressions[impression.key] = impression
        insort(self._seen.setdefault(impression.pair, []), impression)

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
        if impression is None or not event.issued_at_ms <= event.at_ms <= impression.at_ms + CLICK_WINDOW_MS:
            return None
        return impression

    def _last_explaining(self, event: _Event) -> _Impression | None:
        for impression in reversed(self._seen.get((event.viewer_id, event.creator_id), ())):
            if impression.explains(event.at_ms):
                return impression
        return None

    def _keep_early_click(self, event: _Event) -> None:
        self._early_clicks.setdefault((event.lease_id, event.hold_seq), event.at_ms)

    def _record(self, event: _Event, target: Target) -> None:
        """Remember an attributed outcome."""
        pair = event.viewer_id, event.creator_id
        if event.kind == _UNFOLLOW:
            if pair in self._follows:
                self._follows[pair].undone = True
            return
        if event.kind == _FOLLOW:
            self._follows.pop(pair, None)
            self._follows[pair] = _Follow(event.at_ms, target)
        impression = self._impressions.get((target.lease_id, target.hold_seq))
        if impression is not None:
            impression.counted_kinds |= 1 << event.kind
            if event.kind == _CLICK:
                impression.click_at_ms = event.at_ms

    def _forget(self) -> None:
        """Drop what nothing can refer to any more, and the oldest beyond the bounds."""
        for impression in _leaving(self._impressions, self.settings.impressions, self._impression_expired):
            of_pair = self._seen[impression.pair]
            of_pair.remove(impression)
            if not of_pair:
                del self._seen[impression.pair]
        for _ in _leaving(self._follows, self.settings.pairs, self._follow_expired):
            pass
        for _ in _leaving(self._early_clicks, self.settings.early_clicks, self._click_expired):
            pass

    def _impression_expired(self, impression: _Impression) -> bool:
        return impression.expires_at_ms < self._now_ms

    def _follow_expired(self, follow: _Follow) -> bool:
        return follow.at_ms + PAIR_WINDOW_MS + CLICK_WINDOW_MS + LATENESS_MS < self._now_ms

    def _click_expired(self, click_at_ms: int) -> bool:
        return click_at_ms + LATENESS_MS < self._now_ms

    def state(self) -> dict[str, np.ndarray]:
        """Everything remembered, as arrays."""
        impressions = [
            (*i.target, i.at_ms, i.viewer_id, i.creator_id, i.click_at_ms, i.counted_kinds)
            for i in self._impressions.values()
        ]
        follows = [(*pair, *f.target, f.at_ms, int(f.undone)) for pair, f in self._follows.items()]
        clicks = [(*key, at_ms) for key, at_ms in self._early_clicks.items()]
        return {
            "impressions": _table(impressions, 10),
            "follows": _table(follows, 9),
            "early_clicks": _table(clicks, 3),
            "now_ms": np.array(self._now_ms),
        }

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Become what `state` was taken from.

        Raises:
            ValueError: shapes do not fit; nothing is changed then.
        """
        for name, width in (("impressions", 10), ("follows", 9), ("early_clicks", 3)):
            if state[name].ndim != 2 or state[name].shape[1] != width:
                raise ValueError(f"attribution: {name} has shape {state[name].shape}, not (n, {width})")
        self._impressions, self._seen, self._follows, self._early_clicks = {}, {}, {}, {}
        for row in _tuples(state["impressions"]):
            impression = _Impression(row[5], row[6], row[7], Target(*row[:5]))
            impression.click_at_ms, impression.counted_kinds = row[8], row[9]
            self._admit(impression)
        for row in _tuples(state["follows"]):
            self._follows[row[0], row[1]] = _Follow(row[7], Target(*row[2:7]), bool(row[8]))
        for lease_id, hold_seq, at_ms in _tuples(state["early_clicks"]):
            self._early_clicks[lease_id, hold_seq] = at_ms
        self._now_ms = int(state["now_ms"])


_NO_TARGET = Target(0, 0, 0, 0, 0)


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


def _leaving(held: dict[_Key, _Value], most: int, expired: Callable[[_Value], bool]) -> Iterator[_Value]:
    """Take entries from the front: those that expired, and those beyond the bound."""
    while held:
        key = next(iter(held))
        if len(held) <= most and not expired(held[key]):
            return
        yield held.pop(key)


def _table(rows: Sequence[tuple[int, ...]], width: int) -> np.ndarray:
    """Rows of 64-bit numbers, signed or not, as u8[n, width]."""
    return np.array([[value & 0xFFFFFFFFFFFFFFFF for value in row] for row in rows], np.uint64).reshape(-1, width)


def _tuples(table: np.ndarray) -> Iterator[tuple[int, ...]]:
    """Rows of `_table`; what was written as -1 comes back as such."""
    for row in table.tolist():
        yield tuple(_NEVER if value == 0xFFFFFFFFFFFFFFFF else value for value in row)
