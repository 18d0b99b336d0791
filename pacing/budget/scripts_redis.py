"""The scripts of the shared budget store, `lua/*.lua`, as Redis runs them, and an account as they lay it out."""

from __future__ import annotations

from typing import NamedTuple

from pacing.budget.account import Account, Balance
from pacing.redis_link import Script

SET_CAPS = Script.beside(__file__, "epoch", "set_caps")
ACQUIRE = Script.beside(__file__, "epoch", "days", "acquire")
NOTE_EPOCH = Script.beside(__file__, "epoch", "note_epoch")
SETTLED_AGAIN = Script.beside(__file__, "epoch", "settled_again")
RELEASE = Script.beside(__file__, "release")
SETTLE = Script.beside(__file__, "epoch", "days", "settle")
RESTATE = Script.beside(__file__, "days", "restate")
REOPEN = Script.beside(__file__, "epoch", "reopen")
RECLAIM = Script.beside(__file__, "epoch", "reclaim")
FORGET_DAYS = Script.beside(__file__, "forget_days")
MARK = Script.beside(__file__, "mark")

SCRIPTS = (SET_CAPS, ACQUIRE, NOTE_EPOCH, SETTLED_AGAIN, RELEASE, SETTLE, RESTATE, REOPEN, RECLAIM, FORGET_DAYS, MARK)
"""All of them, for who loads them ahead."""


def account_from(campaign_id: int, stored: dict[bytes, bytes]) -> Account | None:
    """An account from the fields that set_caps.lua writes; None: no fields."""
    if not stored:
        return None
    fields = {name.decode(): text.decode() for name, text in stored.items()}
    daily, total, settled, leased, over = (int(fields[n]) for n in ("daily", "total", "settled", "leased", "over"))
    account = Account(campaign_id, int(fields["creator_id"]), fields["zone"], daily, Balance(total, settled, leased))
    account.over_delivered_micros = over
    account.revision, account.hunger, account.hungry_owner, account.opened_at_ms = (
        int(fields.get(name, 0)) for name in ("revision", "hunger", "hungry_owner", "opened")
    )
    for name, cap in fields.items():
        if name.startswith("cap:"):
            day = name[4:]
            amounts = (int(fields.get(f"{noun}:{day}", 0)) for noun in ("settled", "leased"))
            account.days[int(day)] = Balance(int(cap), *amounts)
    return account


class NotedEpoch(NamedTuple):
    """What epoch.lua wrote: until when nothing is granted, on Redis's clock (0: no such time), and who is behind."""

    refuse_until_ms: int
    owners_behind: tuple[int, ...]


def epoch_from(stored: dict[bytes, bytes]) -> NotedEpoch:
    """An epoch from the fields that epoch.lua writes; there may be none."""
    fields = {name.decode(): text.decode() for name, text in stored.items()}
    number = int(fields.get("number", 0))
    told = {int(name[6:]): int(text) for name, text in fields.items() if name.startswith("owner:")}
    behind = tuple(sorted(owner_id for owner_id, last in told.items() if last < number))
    return NotedEpoch(int(fields.get("refuse_until_ms", 0)), behind)
