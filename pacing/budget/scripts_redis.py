"""The scripts of the shared budget store, `lua/*.lua`, as Redis runs them, and an account as they lay it out."""

from __future__ import annotations

from pathlib import Path

from pacing.budget.account import Account, Balance
from pacing.redis_link import Script


def _script(*names: str) -> Script:
    folder = Path(__file__).with_name("lua")
    return Script("".join((folder / f"{name}.lua").read_text(encoding="utf-8") for name in names))


SET_CAPS = _script("epoch", "set_caps")
ACQUIRE = _script("epoch", "days", "acquire")
NOTE_EPOCH = _script("epoch", "note_epoch")
SETTLED_AGAIN = _script("epoch", "settled_again")
RELEASE = _script("release")
SETTLE = _script("epoch", "days", "settle")
RESTATE = _script("days", "restate")
REOPEN = _script("epoch", "reopen")
RECLAIM = _script("reclaim")
FORGET_DAYS = _script("forget_days")

SCRIPTS = (SET_CAPS, ACQUIRE, NOTE_EPOCH, SETTLED_AGAIN, RELEASE, SETTLE, RESTATE, REOPEN, RECLAIM, FORGET_DAYS)
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
