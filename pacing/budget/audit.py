"""Derives again, from the ledger's rows alone, what was charged, on what account, and whether it might have been.

A verdict depends on what was leased at the instant of judging, which no row states. So what is derived is what the
verdict promises: an impression is charged once, on its lease's campaign and day, CHARGED unless the campaign has no
such account, and never so that a day or a flight passes the largest cap that was in force. OVER_DELIVERY, the
platform's loss, is taken as recorded.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from pacing.budget.owner_redis import is_shared
from pacing.budget.recovery import replay
from pacing.days import day_of_key, local_day
from pacing.facts import JUDGEMENT, OutcomeKind, Verdict
from pacing.ledger.reading import LedgerFile
from pacing.ledger.rows import MoneyKind

_OF_BILLABLES = (Verdict.CHARGED, Verdict.OVER_DELIVERY)
_OWNER_ID = 1  # of the counters in a replay, which are not looked at
_HOLD = np.dtype([("lease_id", "<u8"), ("hold_seq", "<u8")])


class Difference(NamedTuple):
    """Where the record and what is derived from it part: at a row of the ledger, in one field."""

    sequence: int
    field: str
    recorded: object
    derived: object


@dataclass(slots=True)
class _Caps:
    """What the ledger says about one campaign's caps: lists by its CAPS rows, in order."""

    zone: str
    recorded_at_ms: list[int] = field(default_factory=list)
    daily: list[int] = field(default_factory=list)
    total: list[int] = field(default_factory=list)

    def of_day(self, day_key: int) -> int:
        """The largest daily cap that was in force at some time of a day."""
        day = day_of_key(day_key, self.zone)
        before = [cap for at_ms, cap in zip(self.recorded_at_ms, self.daily, strict=True) if at_ms < day.start_at_ms]
        during = [
            cap
            for at_ms, cap in zip(self.recorded_at_ms, self.daily, strict=True)
            if day.start_at_ms <= at_ms < day.end_at_ms
        ]
        return max([*before[-1:], *during], default=self.daily[0])


def first_where(rows: np.ndarray, wrong: np.ndarray, name: str, recorded: Any, derived: Any) -> Difference | None:
    """A difference at the first of the rows (with `sequence`) that are wrong (b1[n]), or None."""
    if not wrong.any():
        return None
    k = int(np.argmax(wrong))

    def plain(values: Any) -> object:
        one = values[k] if isinstance(values, np.ndarray) else values
        return one.item() if isinstance(one, np.generic) else one

    return Difference(int(rows["sequence"][k]), name, plain(recorded), plain(derived))


def earliest(*differences: Difference | None) -> Difference | None:
    """The one at the lowest row; of several there, the first given."""
    found = [difference for difference in differences if difference is not None]
    return min(found, key=lambda difference: difference.sequence, default=None)


class MoneyAudit:
    """Follows judged rows in order, adds up what they charge, and compares."""

    def __init__(self, ledger: LedgerFile) -> None:
        """Take in the caps and leases that the ledger's own rows tell."""
        self._ledger = ledger
        self._is_shared = ledger.path is not None and is_shared(ledger.path.parent)
        self._caps: dict[int, _Caps] = {}
        self._leases: dict[int, tuple[int, int]] = {}
        for row in ledger.read_money(0):
            campaign_id, kind = int(row["campaign_id"]), int(row["kind"])
            if kind == MoneyKind.CAPS:
                caps = self._caps.setdefault(campaign_id, _Caps(row["zone"].decode("ascii")))
                caps.recorded_at_ms.append(int(row["recorded_at_ms"]))
                caps.daily.append(int(row["daily_cap_micros"]))
                caps.total.append(int(row["total_cap_micros"]))
            elif kind == MoneyKind.GRANT:
                self._leases[int(row["lease_id"])] = campaign_id, int(row["day_key"])
        self._day_caps: dict[tuple[int, int], int] = {}
        self.charged: defaultdict[int, int] = defaultdict(int)
        self.over_delivered: defaultdict[int, int] = defaultdict(int)
        self.days: defaultdict[tuple[int, int], int] = defaultdict(int)
        self.billables = 0
        self.charges = 0
        self._holds: list[np.ndarray] = []
        self._sequences: list[np.ndarray] = []

    def follow(self, rows: np.ndarray, judgements: np.ndarray) -> Difference | None:
        """Check OUTCOME[n] with their JUDGEMENT[n]; the first difference, or None."""
        is_billable = rows["kind"] == OutcomeKind.BILLABLE
        others = judgements[~is_billable]
        strange = (others["verdict"] < Verdict.ATTRIBUTED) | (others["verdict"] > Verdict.REPEAT)
        found = [first_where(others, strange, "verdict", others["verdict"], "5 to 7, as of what viewers do")]
        rows, judgements = rows[is_billable], judgements[is_billable]
        self.billables += len(rows)
        self._remember_holds(rows)
        found += [self._check_judgements(rows, judgements)]
        for campaign_id in np.unique(rows["decision"]["campaign_id"]).tolist():
            mine = rows["decision"]["campaign_id"] == campaign_id
            found += self._check_campaign(int(campaign_id), rows[mine], judgements["verdict"][mine])
        return earliest(*found)

    def _remember_holds(self, rows: np.ndarray) -> None:
        holds = np.zeros(len(rows), _HOLD)
        for name in _HOLD.names or ():
            holds[name] = rows["decision"][name]
        self._holds.append(holds)
        self._sequences.append(rows["sequence"].copy())

    def _check_judgements(self, rows: np.ndarray, judgements: np.ndarray) -> Difference | None:
        """Verdicts that billable rows can have, and that each verdict is about its own row's decision."""
        decisions, verdicts = rows["decision"], judgements["verdict"]
        derived = np.full(len(rows), Verdict.CHARGED, np.uint8)
        derived[~self._has_account(decisions)] = Verdict.OVER_DELIVERY
        possible = (verdicts == derived) | (verdicts == Verdict.OVER_DELIVERY)
        if self._is_shared:  # another server may have been told of it first, and may know the campaign longer
            possible = (verdicts >= Verdict.CHARGED) & (verdicts <= Verdict.OVER_DELIVERY)
        found = [first_where(rows, ~possible, "verdict", verdicts, derived)]
        assert JUDGEMENT.names is not None
        for name in ("campaign_id", "creative_id", "lease_id", "hold_seq"):
            wrong = judgements[name] != decisions[name]
            found.append(first_where(rows, wrong, f"verdict's {name}", judgements[name], decisions[name]))
        wrong = judgements["billed_sequence"] != rows["sequence"]
        found.append(first_where(rows, wrong, "billed_sequence", judgements["billed_sequence"], rows["sequence"]))
        return earliest(*found)

    def _has_account(self, decisions: np.ndarray) -> np.ndarray:
        """Which of DECISION[n] name a campaign with accounts, and no lease of another one."""
        fine = np.zeros(len(decisions), np.bool_)
        pairs = zip(decisions["campaign_id"].tolist(), decisions["lease_id"].tolist(), strict=True)
        for i, (campaign_id, lease_id) in enumerate(pairs):
            lease = self._leases.get(lease_id)
            fine[i] = campaign_id in self._caps and (lease is None or lease[0] == campaign_id)
        return fine

    def _check_campaign(self, campaign_id: int, rows: np.ndarray, verdicts: np.ndarray) -> list[Difference | None]:
        """One campaign's billable rows: its statement, its flight and its days."""
        amounts = rows["price_micros"]
        is_charged = verdicts == Verdict.CHARGED
        charged = self.charged[campaign_id] + np.cumsum(np.where(is_charged, amounts, 0))
        is_over = verdicts == Verdict.OVER_DELIVERY
        over = self.over_delivered[campaign_id] + np.cumsum(np.where(is_over, amounts, 0))
        self.charged[campaign_id], self.over_delivered[campaign_id] = int(charged[-1]), int(over[-1])
        self.charges += int(is_charged.sum())
        found = self._check_statement(campaign_id, rows, verdicts, charged, over)
        caps = self._caps.get(campaign_id)
        if caps is None:
            return found
        cap = max(caps.total)
        found.append(first_where(rows, charged > cap, f"flight of campaign {campaign_id}", charged, f"at most {cap}"))
        keys = self._day_keys(caps, rows)
        for day_key in np.unique(keys[is_charged]).tolist():
            place = campaign_id, day_key
            spent = self.days[place] + np.cumsum(np.where(is_charged & (keys == day_key), amounts, 0))
            self.days[place] = int(spent[-1])
            cap = self._day_caps.setdefault(place, caps.of_day(day_key))
            name = f"day {day_key} of campaign {campaign_id}"
            found.append(first_where(rows, spent > cap, name, spent, f"at most {cap}"))
        return found

    def _check_statement(
        self, campaign_id: int, rows: np.ndarray, verdicts: np.ndarray, charged: np.ndarray, over: np.ndarray
    ) -> list[Difference | None]:
        """What the statement lists between these rows must be these rows, with the totals that they lead to."""
        listed = self._ledger.charges_of(campaign_id, int(rows["sequence"][0]) - 1, len(rows))
        count = min(len(listed), len(rows))
        sequences = np.zeros(len(rows), np.uint64)
        sequences[:count] = listed["sequence"][:count]
        missing = sequences != rows["sequence"]
        name = f"statement of campaign {campaign_id}"
        found = [first_where(rows, missing, f"{name}: row", sequences, rows["sequence"])]
        columns = {
            "verdict": verdicts,
            "amount_micros": rows["price_micros"],
            "charged_micros": charged,
            "over_delivered_micros": over,
        }
        same = ~missing[:count]
        for column, derived in columns.items():
            wrong = same & (listed[column][:count] != derived[:count])
            found.append(first_where(rows[:count], wrong, f"{name}: {column}", listed[column], derived))
        return found

    def _day_keys(self, caps: _Caps, rows: np.ndarray) -> np.ndarray:
        """The budget day of each row, i8[n]: its lease's or, when the ledger has no such lease, that of the bid."""
        decisions = rows["decision"]
        pairs = zip(decisions["lease_id"].tolist(), decisions["issued_at_ms"].tolist(), strict=True)
        return np.array(
            [
                self._leases[lease_id][1] if lease_id in self._leases else local_day(at_ms, caps.zone).day_key
                for lease_id, at_ms in pairs
            ],
            np.int64,
        )

    def charged_twice(self) -> Difference | None:
        """The first row that bills a hold which an earlier one billed, or None."""
        if not self._holds:
            return None
        holds, sequences = np.concatenate(self._holds), np.concatenate(self._sequences)
        order = np.argsort(holds, order=("lease_id", "hold_seq"), kind="stable")
        again = np.zeros(len(holds), np.bool_)
        again[order[1:]] = holds[order[1:]] == holds[order[:-1]]
        rows = np.zeros(len(holds), [("sequence", "<u8")])
        rows["sequence"] = sequences
        return first_where(rows, again, "hold_seq", holds["hold_seq"], "billed by an earlier row")

    def finish(self) -> Difference | None:
        """Compare the sums with the accounts that a restart would rebuild, and with the number of charges listed."""
        last = self._ledger.judged_sequence
        listed = self._ledger.count_charges()
        if listed != self.billables:
            return Difference(last, "charges in all statements", listed, self.billables)
        for campaign_id, account in replay(self._ledger, _OWNER_ID).store.accounts.items():
            settled = account.flight.settled_micros
            if settled != self.charged[campaign_id]:
                return Difference(last, f"account of campaign {campaign_id}", settled, self.charged[campaign_id])
            for day_key, balance in account.days.items():
                spent = self.days[campaign_id, day_key]
                if balance.settled_micros != spent:
                    name = f"account of campaign {campaign_id}, day {day_key}"
                    return Difference(last, name, balance.settled_micros, spent)
        return None
