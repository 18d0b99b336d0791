"""`fanbid outbox`: list outcomes that the fan service has not taken, and try those again that it refused for good."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime

from fanbridge.delivery import DELIVERY_FILE, Delivery, Waiting
from pacing.clocks import SystemClock
from pacing.data_folder import add_data_argument, data_folder
from pacing.facts import OutcomeKind

MAX_LISTED = 1_000
_FOR_EVER_MS = 2**62


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's flags."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="show what waits (parked) and what was refused for good (dead)")
    listing.add_argument("--limit", type=int, default=50, metavar="N", help="at most so many of each; default 50")
    retry = actions.add_parser("retry", help="try dead outcomes again; a running server does it at its next tick")
    retry.add_argument(
        "--key",
        action="append",
        type=_key,
        metavar="LEASE:HOLD:KIND",
        dest="keys",
        help="this one, as listed; may be given several times; without it, all that are dead",
    )
    for action in (listing, retry):
        add_data_argument(action)


def main(args: argparse.Namespace) -> int:
    """Run the command; 0 when done.

    Raises:
        ValueError: a flag is out of range, or names an outcome that is not dead.
        FileNotFoundError: the server of this folder never had a fan service.
    """
    path = data_folder(args) / DELIVERY_FILE
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; the server of this folder has not spoken to a fan service")
    if args.action == "list" and not 1 <= args.limit <= MAX_LISTED:
        raise ValueError(f"--limit {args.limit}: not in 1..{MAX_LISTED}")
    delivery = Delivery(path)
    try:
        if args.action == "list":
            _print_waiting(delivery, args.limit)
        else:
            _retry(delivery, args.keys)
    finally:
        delivery.close()
    return 0


def _retry(delivery: Delivery, keys: list[tuple[int, int, int]] | None) -> None:
    revived = delivery.revive(keys, SystemClock().wall_ms())
    if keys is not None and revived < len(set(keys)):
        raise ValueError(f"--key: {revived} of {len(set(keys))} named a dead outcome; those are tried again")
    print(f"{revived} outcomes are tried again")


def _print_waiting(delivery: Delivery, limit: int) -> None:
    parked, dead = delivery.waiting_counts()
    print(f"{parked} parked, {dead} dead; delivered up to row {delivery.position()} of the ledger")
    listed = [("dead", one) for one in delivery.dead_letters(limit)]
    listed += [("parked", one) for one in delivery.parked_due(_FOR_EVER_MS, limit)]
    if listed:
        print(f"{'state':<6}  {'key':<32}  {'what':<13}  {'campaign':>8}  {'tries':>5}  {'since (UTC)':<19}  reason")
    for state, one in listed:
        print(_line(state, one))


def _line(state: str, one: Waiting) -> str:
    lease_id, hold_seq, kind = one.key
    what = OutcomeKind(kind).name.lower() if kind in tuple(OutcomeKind) else str(kind)
    since = datetime.fromtimestamp(one.since_at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    campaign_id = int(one.outcome[0]["campaign_id"])
    key = f"{lease_id}:{hold_seq}:{kind}"
    return f"{state:<6}  {key:<32}  {what:<13}  {campaign_id:>8}  {one.attempts:>5}  {since}  {one.reason}"


def _key(text: str) -> tuple[int, int, int]:
    parts = text.split(":")
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() and len(part) <= 20 for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r}: not LEASE:HOLD:KIND in whole numbers")
    lease_id, hold_seq, kind = map(int, parts)
    if max(lease_id, hold_seq) >= 2**64 or kind > 255:
        raise argparse.ArgumentTypeError(f"{text!r}: numbers out of range")
    return lease_id, hold_seq, kind
