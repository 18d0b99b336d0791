"""`fanbid token`: make, list and revoke access tokens, also while a server runs on the same data."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

from auction.campaigns.access import Access, Role
from auction.campaigns.store import CampaignStore, StoreUnavailable
from pacing.clocks import SystemClock

STORE_FILE = "campaigns.sqlite"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's flags."""
    parser.description = "Make, list and revoke the tokens that callers send as 'authorization: Bearer TOKEN'."
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    create = actions.add_parser("create", help="make a token and print it, once")
    create.add_argument(
        "--role",
        required=True,
        choices=[role.value for role in Role],
        help="feed: asks for bids, reports outcomes; creator: own campaigns; operator: audiences, all campaigns",
    )
    create.add_argument("--creator", type=int, default=0, metavar="ID", help="the creator that the token stands for")
    listing = actions.add_parser("list", help="show every token's id, role and state; secrets are not kept")
    revoke = actions.add_parser("revoke", help="make a token invalid; a running server notices within a second")
    revoke.add_argument("--id", type=int, required=True, metavar="N", dest="token_id", help="the token's id, as listed")
    for action in (create, listing, revoke):
        action.add_argument("--data", type=Path, required=True, metavar="DIR", help="the server's data directory")


def main(args: argparse.Namespace) -> int:
    """Run the command; 0 if it did what was asked, 1 with a sentence on stderr if not."""
    try:
        args.data.mkdir(parents=True, exist_ok=True)
        store = CampaignStore(args.data / STORE_FILE)
        try:
            return _run(args, store)
        finally:
            store.close()
    except (ValueError, OSError, StoreUnavailable) as error:
        print(f"fanbid token: {error}", file=sys.stderr)
        return 1


def _run(args: argparse.Namespace, store: CampaignStore) -> int:
    now_ms = SystemClock().wall_ms()
    if args.action == "create":
        print(Access(store).create_token(args.role, args.creator, now_ms))
    elif args.action == "revoke":
        if not Access(store).revoke(args.token_id, now_ms):
            raise ValueError(f"id {args.token_id}: no valid token of this id")
        print(f"token {args.token_id} revoked")
    else:
        _print_tokens(store)
    return 0


def _print_tokens(store: CampaignStore) -> None:
    print(f"{'id':>6}  {'role':<8}  {'creator':>20}  {'created (UTC)':<19}  state")
    for token in store.tokens():
        created = datetime.fromtimestamp(token.created_at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
        creator = str(token.creator_id) if token.creator_id else "-"
        state = "revoked" if token.revoked_at_ms else "valid"
        print(f"{token.token_id:>6}  {token.role:<8}  {creator:>20}  {created:<19}  {state}")
